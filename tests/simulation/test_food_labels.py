"""The rule from pose and action to the label."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import food
from simulation import foods
from simulation.food_labels import food_label
from simulation.plate import Item, PlateSettings, sample_plate, turned, turned_label


def _plate(action: str, item: Item):
    plate = sample_plate(np.random.default_rng(0), PlateSettings(max_items=1))
    dish = dataclasses.replace(plate.dish, x=0.5, y=0.5)
    return dataclasses.replace(plate, action=action, items=(item,), target=0, dish=dish)


# Right of the dish's centre, its major axis leaning 30 degrees: inwards is to the left.
_ITEM = Item("banana", 0.7, 0.5, math.radians(30), 0.12, 0)
_U = np.array([math.cos(math.radians(30)), math.sin(math.radians(30))])
_V = np.array([-_U[1], _U[0]])
_C = np.array([0.7, 0.5])
_B = 0.12 * foods.LOOKS["banana"].aspect


@pytest.mark.parametrize(
    ("action", "start", "end"),
    [
        ("skewering", _C - _B * _V, _C + _B * _V),
        ("scooping", _C + 1.2 * 0.12 * _U, _C - 0.8 * 0.12 * _U),
        ("twirling", _C + 0.5 * _B * _U, _C - 0.5 * _B * _U),
    ],
)
def test_rule_by_hand(action, start, end):
    label = food_label(_plate(action, _ITEM))
    assert label.dtype == np.float32
    np.testing.assert_allclose(label, [*start, *end], atol=1e-6)


@pytest.mark.parametrize("action", food.ACTIONS)
def test_an_axis_has_no_head(action):
    other = dataclasses.replace(_ITEM, angle=_ITEM.angle + math.pi)
    np.testing.assert_allclose(
        food_label(_plate(action, _ITEM)), food_label(_plate(action, other)), atol=1e-6
    )


@pytest.mark.parametrize("change", [{"x": 0.65}, {"y": 0.6}, {"angle": 1.0}, {"size": 0.10}])
@pytest.mark.parametrize("action", food.ACTIONS)
def test_label_depends_on_the_pose(action, change):
    moved = dataclasses.replace(_ITEM, **change)
    assert np.abs(food_label(_plate(action, moved)) - food_label(_plate(action, _ITEM))).max() > 0.004


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_items=st.integers(1, 5),
    action=st.sampled_from(food.ACTIONS),
    quarter_turns=st.integers(0, 3),
    sizes=st.tuples(st.floats(0.04, 0.15), st.floats(0.04, 0.15)),
)
def test_sampled_labels(seed, num_items, action, quarter_turns, sizes):
    plate_settings = PlateSettings(
        min_items=num_items, max_items=num_items, min_size=min(sizes), max_size=max(sizes)
    )
    plate = sample_plate(np.random.default_rng(seed), plate_settings, action)
    label = food_label(plate)
    assert label.shape == (4,) and (label >= 0).all() and (label <= 1).all()
    # Strokes run inwards, clearly.
    item, stroke = plate.items[plate.target], label[2:] - label[:2]
    inwards = np.array([plate.dish.x - item.x, plate.dish.y - item.y])
    cosine = stroke @ inwards / np.linalg.norm(stroke) / np.linalg.norm(inwards)
    assert cosine > math.sin(plate_settings.tie_margin) - 1e-3
    # The label turns with the scene.
    np.testing.assert_allclose(
        food_label(turned(plate, quarter_turns)), turned_label(label, quarter_turns), atol=1e-5
    )


def test_turned_label_follows_the_picture():
    # A marked pixel at the label's start, turned with the picture.
    image = np.zeros((40, 40))
    image[3, 30] = 1
    label = np.array([30.5 / 40, 3.5 / 40, 0.5, 0.25], np.float32)
    for quarter_turns in range(-1, 5):
        row, column = np.argwhere(np.rot90(image, quarter_turns))[0]
        np.testing.assert_allclose(
            turned_label(label, quarter_turns)[:2], [(column + 0.5) / 40, (row + 0.5) / 40], atol=1e-6
        )


def test_a_stroke_outside_the_image_is_refused():
    with pytest.raises(ValueError, match="must lie inside the image"):
        food_label(_plate("scooping", dataclasses.replace(_ITEM, x=0.97)))
