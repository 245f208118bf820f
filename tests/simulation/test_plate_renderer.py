"""The renderer: geometry is exact under quarter turns, foods can be told apart."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import food
from simulation import foods, renderer
from simulation.plate import Item, PlateSettings, sample_plate, turned

_DEFAULT = PlateSettings()
_EVEN = PlateSettings(max_items=1, clutter=0.0, lighting=0.0)


def _plate(seed: int, plate_settings: PlateSettings = _DEFAULT):
    return sample_plate(np.random.default_rng(seed), plate_settings)


def _portrait(name: str, variation: int = 0, size: float = 0.14) -> np.ndarray:
    """One portion in the middle of an even plate, cut out: uint8 [h, w, 3]."""
    plate = _plate(0, _EVEN)
    item = Item(name, 0.5, 0.5, 0.0, size, variation)
    image = renderer.render(dataclasses.replace(plate, items=(item,), target=0), 128)
    reach = int(1.1 * size * 128)
    return image[64 - reach : 64 + reach, 64 - reach : 64 + reach]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    quarter_turns=st.integers(1, 3),
    image_size=st.sampled_from((33, 48, 64)),
    num_items=st.integers(1, 5),
)
def test_turned_scene_gives_turned_picture(seed, quarter_turns, image_size, num_items):
    plate = _plate(seed, PlateSettings(min_items=num_items, max_items=num_items))
    image = renderer.render(plate, image_size).astype(int)
    again = renderer.render(turned(plate, quarter_turns), image_size).astype(int)
    difference = np.abs(np.rot90(image, quarter_turns) - again)
    # Rounding of float32 coordinates moves outlines by less than a thousandth of a pixel.
    assert difference.max() <= 3
    assert difference.mean() < 0.02


def test_pictures_do_differ_when_turned():
    image = renderer.render(_plate(3), 64).astype(int)
    assert np.abs(np.rot90(image) - image).mean() > 5


@pytest.mark.parametrize("image_size", [16, 50, 64, 236])
def test_any_size(image_size):
    image = renderer.render(_plate(1), image_size)
    assert image.dtype == np.uint8 and image.shape == (image_size, image_size, 3)
    assert image.flags.c_contiguous and image.std() > 10


def test_sizes_show_the_same_scene():
    plate = _plate(4)
    large = renderer.render(plate, 192).reshape(64, 3, 64, 3, 3).mean(axis=(1, 3))
    assert np.abs(large - renderer.render(plate, 64)).mean() < 3


def test_items_are_where_the_scene_says():
    plate = _plate(5, PlateSettings(min_items=3, lighting=0.0))
    for index, item in enumerate(plate.items):
        without = dataclasses.replace(plate, items=plate.items[:index] + plate.items[index + 1 :], target=0)
        change = np.abs(renderer.render(plate, 100).astype(int) - renderer.render(without, 100)).sum(axis=-1)
        rows, columns = np.nonzero(change > 60)
        assert np.hypot(columns.mean() / 100 - item.x, rows.mean() / 100 - item.y) < 0.35 * item.size
        spread = np.hypot((columns + 0.5) / 100 - item.x, (rows + 0.5) / 100 - item.y)
        assert spread.max() < 1.7 * item.size  # With its shadow.


def test_major_axis_is_the_longer_one():
    for name in food.FOODS:
        plate = _plate(0, _EVEN)
        item = Item(name, 0.5, 0.5, 0.0, 0.3, 1)
        bare = dataclasses.replace(plate, items=(), target=0)
        light = dataclasses.replace(plate.light, shadow=0.0)
        with_item = dataclasses.replace(plate, items=(item,), target=0, light=light)
        bare = dataclasses.replace(bare, light=light)
        change = np.abs(renderer.render(with_item, 100).astype(int) - renderer.render(bare, 100)).sum(axis=-1)
        rows, columns = np.nonzero(change > 45)
        width, height = np.ptp(columns) / 60, np.ptp(rows) / 60
        assert 0.8 < width < 1.15, (name, width)
        assert abs(height - foods.LOOKS[name].aspect) < 0.1, (name, height)
        assert height < 0.9 * width, (name, width, height)


def test_every_food_can_be_told_apart():
    # Colour statistics and roughness of a portion: classes must be further apart than their variations.
    def features(image: np.ndarray) -> np.ndarray:
        pixels = image.astype(float)
        roughness = np.abs(np.diff(pixels, axis=1)).mean()
        quantiles = np.quantile(pixels.reshape(-1, 3), (0.1, 0.35), axis=0).ravel()
        return np.concatenate([pixels.mean(axis=(0, 1)), quantiles, pixels.std(axis=(0, 1)), [3 * roughness]])

    portraits = np.array([[features(_portrait(name, v)) for v in range(6)] for name in food.FOODS])
    centres = portraits[:, :3].mean(axis=1)
    for index, name in enumerate(food.FOODS):
        for other in portraits[index, 3:]:
            nearest = int(np.argmin(np.linalg.norm(centres - other, axis=1)))
            assert nearest == index, (name, food.FOODS[nearest])


def test_variation_light_and_clutter_change_the_picture():
    plate = _plate(7)
    base = renderer.render(plate, 64).astype(int)
    item = dataclasses.replace(plate.items[0], variation=plate.items[0].variation + 1)
    for other in (
        dataclasses.replace(plate, items=(item, *plate.items[1:])),
        dataclasses.replace(plate, light=dataclasses.replace(plate.light, azimuth=plate.light.azimuth + 2.0)),
        dataclasses.replace(plate, clutter=()),
    ):
        assert np.abs(renderer.render(other, 64) - base).max() > 10


def test_warm_light_is_redder_than_cold():
    plate = _plate(7)
    cold, warm = (
        renderer.render(dataclasses.replace(plate, light=dataclasses.replace(plate.light, warmth=warmth)), 48)
        for warmth in (-1.0, 1.0)
    )
    assert cold[..., 0].mean() + 5 < warm[..., 0].mean()
    assert warm[..., 2].mean() + 5 < cold[..., 2].mean()


@pytest.mark.parametrize("arguments", [(15, 2), (64, 0)])
def test_wrong_sizes_are_refused(arguments):
    with pytest.raises(ValueError, match="image_size must be at least 16"):
        renderer.render(_plate(0), *arguments)


def test_unknown_table_is_refused():
    plate = _plate(0)
    with pytest.raises(ValueError, match="pattern must be"):
        table = dataclasses.replace(plate.table, pattern="sand")
        renderer.render(dataclasses.replace(plate, table=table), 32)
