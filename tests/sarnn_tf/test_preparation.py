"""Recorded images to network inputs and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sarnn_tf.image_modality import ImageModality
from sarnn_tf.preparation import from_unit, prepare_images, to_unit

COLOUR = ImageModality("image", size=(8, 12))
DEPTH = ImageModality("depth", 1, size=(8, 12), full_scale=2000.0, interpolation="nearest")


def test_images_are_brought_to_the_modality_size():
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (3, 16, 24, 3), np.uint8)
    prepared = prepare_images(colour, COLOUR)
    assert prepared.shape == (3, 8, 12, 3) and prepared.dtype == np.uint8
    # Half the size, so that each pixel is the rounded mean of four.
    means = colour.reshape(3, 8, 2, 12, 2, 3).mean(axis=(2, 4))
    assert np.abs(prepared - means).max() <= 0.5
    assert prepare_images(prepared, COLOUR) is prepared


@pytest.mark.parametrize("axis", [(), (1,)])
def test_depth_keeps_its_type_and_invents_no_distance(axis):
    rng = np.random.default_rng(1)
    depth = rng.choice(np.array([0, 700, 40000], np.uint16), (2, 17, 25, *axis))
    prepared = prepare_images(depth, DEPTH)
    assert prepared.shape == (2, 8, 12, 1) and prepared.dtype == np.uint16
    assert set(np.unique(prepared)) <= {0, 700, 40000}
    assert prepare_images(depth[0], DEPTH).shape == (8, 12, 1)


@pytest.mark.parametrize(
    ("images", "modality", "words"),
    [
        (np.zeros((2, 8, 12, 3), np.float32), COLOUR, "uint8 or uint16"),
        (np.zeros((2, 8, 12), np.uint8), COLOUR, "image must be"),
        (np.zeros((2, 8, 12, 4), np.uint8), COLOUR, "image must be"),
        (np.zeros((0, 8, 12, 3), np.uint8), COLOUR, "image must be"),
        (np.zeros((12,), np.uint16), DEPTH, "depth must be"),
        (np.zeros((2, 8, 12, 3), np.uint8), DEPTH, "depth must be"),
    ],
)
def test_what_is_no_image_of_the_modality_is_refused(images, modality, words):
    with pytest.raises(ValueError, match=words):
        prepare_images(images, modality)


@given(st.integers(0, 65535), st.floats(1, 65535))
@settings(deadline=None, max_examples=60)
def test_unit_values_are_in_range_and_go_back(value, full_scale):
    modality = ImageModality("depth", 1, full_scale=full_scale)
    unit = to_unit(np.array([[[value]]], np.uint16), modality)
    assert unit.dtype == np.float32 and 0 <= unit.item() <= 1
    back = from_unit(unit, modality).item()
    assert abs(back - min(value, full_scale)) <= 0.51


def test_predictions_beyond_the_range_are_clipped():
    assert from_unit(np.array([-0.2, 1.3], np.float32), COLOUR).tolist() == [0, 255]
