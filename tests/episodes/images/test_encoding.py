"""Stored frames: nothing is lost in PNG, colours keep their order, the same frame gives the same bytes."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from episodes.images.encoding import encode_image, encoding_of

COLOUR = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
DEPTH = np.random.default_rng(0).integers(0, 2**16, (7, 5), np.uint16)


def test_png_of_colour_loses_nothing_as_tensorflow_reads_it():
    np.testing.assert_array_equal(tf.io.decode_png(encode_image(COLOUR, "png")), COLOUR)


def test_png_of_depth_loses_nothing_as_tensorflow_reads_it():
    decoded = tf.io.decode_png(encode_image(DEPTH, "png"), dtype=tf.uint16)
    np.testing.assert_array_equal(decoded[..., 0], DEPTH)


def test_jpeg_keeps_red_red_and_obeys_the_quality():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    np.testing.assert_allclose(tf.io.decode_jpeg(encode_image(red, "jpeg")), red, atol=3)
    noise = cv2.resize(COLOUR, (64, 64))
    errors = [
        np.abs(tf.io.decode_jpeg(encode_image(noise, "jpeg", q)).numpy().astype(int) - noise).mean()
        for q in (95, 20)
    ]
    assert errors[0] < errors[1] / 3


def test_a_view_with_turned_channels_is_encoded_as_it_looks():
    turned = COLOUR[..., ::-1]
    assert encode_image(turned, "png") == encode_image(np.ascontiguousarray(turned), "png")


def test_depth_is_png_whatever_colour_is():
    assert encoding_of("observation/depth", "jpeg") == "png"
    assert encoding_of("observation/gelsight_left", "jpeg") == "jpeg"


@pytest.mark.parametrize(
    ("image", "encoding"),
    [
        (DEPTH, "jpeg"),
        (COLOUR.astype(np.float32), "jpeg"),
        (COLOUR[..., :2], "png"),
        (COLOUR[:0], "png"),
        (COLOUR, "webp"),
        (np.zeros((1, 70_000, 3), np.uint8), "jpeg"),
    ],
)
def test_what_cannot_be_stored_is_refused(image, encoding):
    with pytest.raises(ValueError, match="Received|OpenCV"):
        encode_image(image, encoding)
