"""Sampled scenes keep to their settings."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.plate import PlateSettings, sample_plate, turned


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_items=st.integers(1, 5),
    size=st.floats(0.04, 0.15),
    margin=st.floats(0.01, 0.78),
)
def test_items_lie_apart_on_the_dish(seed, num_items, size, margin):
    plate_settings = PlateSettings(
        min_items=num_items, max_items=num_items, min_size=size, max_size=size, tie_margin=margin
    )
    plate = sample_plate(np.random.default_rng(seed), plate_settings)
    assert len({item.food for item in plate.items}) == num_items
    for index, item in enumerate(plate.items):
        away = math.hypot(item.x - plate.dish.x, item.y - plate.dish.y)
        assert away + item.size < plate.dish.radius and away >= 0.09 - 1e-9
        assert item.size <= size
        lean = (item.angle - math.atan2(plate.dish.y - item.y, plate.dish.x - item.x)) % (math.pi / 2)
        assert margin - 1e-6 <= lean <= math.pi / 2 - margin + 1e-6
        for other in plate.items[:index]:
            assert math.hypot(item.x - other.x, item.y - other.y) > item.size + other.size


def test_number_of_items():
    plates = [
        sample_plate(np.random.default_rng(s), PlateSettings(min_items=2, max_items=4)) for s in range(60)
    ]
    assert {len(plate.items) for plate in plates} == {2, 3, 4}


def test_instruction_is_what_was_asked_for():
    plate = sample_plate(np.random.default_rng(0), PlateSettings(), "scoop", "cherry tomatoes")
    assert plate.combination == "scooping_cherry_tomato"
    targets = {
        sample_plate(np.random.default_rng(seed), PlateSettings(min_items=3), "scoop", "rice").target
        for seed in range(30)
    }
    assert targets == {0, 1, 2}  # The target is not always the same layer of paint.


def test_a_full_turn_is_no_turn():
    plate = sample_plate(np.random.default_rng(1), PlateSettings())
    assert turned(plate, 0) == plate and turned(plate, 4) == plate
    back = turned(turned(plate, 1), -1)
    assert back.items[0].x == pytest.approx(plate.items[0].x)
    assert turned(plate, 1).items[0].x == pytest.approx(plate.items[0].y)


def test_no_clutter_and_even_light():
    plates = [
        sample_plate(np.random.default_rng(seed), PlateSettings(clutter=0, lighting=0)) for seed in range(20)
    ]
    assert all(not plate.clutter and plate.table.pattern == "plain" for plate in plates)
    assert len({plate.light for plate in plates}) == 1
    cluttered = [sample_plate(np.random.default_rng(seed), PlateSettings()) for seed in range(20)]
    assert {thing.kind for plate in cluttered for thing in plate.clutter} >= {"napkin", "fork", "crumbs"}
    assert len({plate.light for plate in cluttered}) == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_items": 0}, "items"),
        ({"max_items": 6}, "items"),
        ({"min_items": 3, "max_items": 2}, "items"),
        ({"min_size": 0.2}, "sizes"),
        ({"min_size": 0.13, "max_size": 0.12}, "sizes"),
        ({"clutter": 1.5}, "clutter"),
        ({"lighting": -0.1}, "lighting"),
        ({"tie_margin": 0.8}, "tie_margin"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        PlateSettings(**change)


def test_unknown_food_is_refused():
    with pytest.raises(ValueError, match="food_type"):
        sample_plate(np.random.default_rng(0), PlateSettings(), "scoop", "gravel")
