"""EIPL's augmentation: torchvision's arithmetic, one draw for a whole sequence."""

import colorsys

import numpy as np
import pytest

from sarnn_tf.data.augmentation import Augmentation, augment, draw_augmentation

IMAGES = np.random.default_rng(0).uniform(size=(3, 6, 7, 3)).astype(np.float32)
GREY = IMAGES @ np.array([0.2989, 0.587, 0.114], np.float32)


def turned(images, turns):
    def one(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((h + turns) % 1.0, s, v)

    return np.apply_along_axis(one, -1, images)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        (Augmentation(), IMAGES),
        (Augmentation(brightness=1.3), np.minimum(IMAGES * 1.3, 1)),
        (
            Augmentation(contrast=0.6),  # Towards the mean grey of each frame by itself.
            0.6 * IMAGES + 0.4 * GREY.mean(axis=(1, 2))[:, None, None, None],
        ),
        (Augmentation(saturation=1.4), np.clip(1.4 * IMAGES - 0.4 * GREY[..., None], 0, 1)),
        (Augmentation(hue=0.04), turned(IMAGES, 0.04)),
        (
            Augmentation(erased=(1, 2, 3, 4)),
            IMAGES * (1 - np.pad(np.ones((3, 4)), [(1, 2), (2, 1)]))[..., None],
        ),
    ],
)
def test_each_effect(how, wanted):
    before = IMAGES.copy()
    found = augment(IMAGES, how)
    assert found.dtype == np.float32 and found.shape == IMAGES.shape
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    np.testing.assert_array_equal(IMAGES, before)


def test_draws_are_in_range_and_seeded():
    drawn = [draw_augmentation(np.random.default_rng(i), 64, 48) for i in range(400)]
    assert drawn[7] == draw_augmentation(np.random.default_rng(7), 64, 48)
    erased = [d.erased for d in drawn if d.erased]
    assert 160 < len(erased) < 240
    for top, left, height, width in erased:
        assert top >= 0 and left >= 0 and height > 0 and top + height <= 64 and left + width <= 48
        assert 0.017 < height * width / (64 * 48) < 0.35 and 0.25 < height / width < 3.8
    for name, low, high in (
        ("brightness", 0.6, 1.4),
        ("contrast", 0.6, 1.4),
        ("saturation", 0.6, 1.4),
        ("hue", 0, 0.04),
    ):
        values = np.array([getattr(d, name) for d in drawn])
        assert (
            low <= values.min() < low + 0.1 * (high - low) < high - 0.1 * (high - low) < values.max() <= high
        )


def test_whatever_is_drawn_stays_an_image():
    for i in range(30):
        found = augment(IMAGES, draw_augmentation(np.random.default_rng(i), 6, 7))
        assert found.min() >= 0 and found.max() <= 1
