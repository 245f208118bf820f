"""Images: the graph repeats Pillow's bits, pictures of every mode, crops of training, refusals."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from clip_tf import image_preprocessing_graph as graph
from clip_tf.image_preprocessing import MEAN, SQUASH, STD, Preprocessing, preprocess, resize_and_crop
from tests.clip_tf.clip_goldens import synth


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60), st.sampled_from(["shortest", "squash"]))
@example(165, 72, 32, "shortest")  # Pillow sums along the height first.
@example(100, 1, 3, "shortest")
def test_the_graph_gives_the_same_bits(height, width, size, mode):
    image = np.random.default_rng(height * 91 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    how = Preprocessing(size, resize_mode=mode)
    np.testing.assert_array_equal(graph.preprocess_graph(image[None], how)[0], preprocess(image, how))


def test_the_graph_takes_batches_of_unknown_size():
    run = tf.function(
        lambda x: graph.preprocess_graph(x, 32),
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)],
    )
    for height, width in ((50, 70), (64, 33)):
        batch = np.stack([synth(height, width, seed) for seed in range(3)])
        np.testing.assert_array_equal(run(batch), np.stack([preprocess(image, 32) for image in batch]))


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr"])
def test_pictures_of_other_modes_become_rgb(mode):
    """As OpenCLIP: resize and crop in the picture's own mode, then convert."""
    picture = Image.fromarray(synth(40, 60, 1)).convert(mode)
    got = resize_and_crop(picture, 20)
    want = picture.resize((30, 20), Image.Resampling.BICUBIC).crop((5, 0, 25, 20)).convert("RGB")
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.asarray(want))
    if mode == "RGBA":
        np.testing.assert_array_equal(got, resize_and_crop(synth(40, 60, 1), 20))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.zeros((1, 101, 3), np.uint8),
        Image.new("I;16", (8, 8)),
        Image.new("F", (8, 8)),
        Image.new("I", (8, 8)),
        Image.new("RGB", (0, 4)),
        Image.new("RGB", (401, 4)),
        "picture.png",
        None,
    ],
)
def test_other_images_are_refused(image):
    with pytest.raises(ValueError, match="Received"):
        preprocess(image, 8)


def test_a_crop_of_training_repeats_and_varies():
    image = tf.constant(synth(48, 64, 3))
    crop = tf.function(graph.training_crop)
    first, again, other = (crop(image, 32, tf.constant(seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    assert first.shape == (32, 32, 3) and first.dtype == tf.float32
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 1000))
def test_the_part_of_training_lies_inside(height, width, seed):
    top, left, tall, wide = (int(n) for n in graph._draw_box(height, width, tf.constant([7, seed])))
    assert tall >= 1 and wide >= 1 and 0 <= top <= height - tall and 0 <= left <= width - wide
    if height >= 30 and width >= 30:
        # Sides are rounded, ten draws may fail for narrow images; then the ratio alone is kept.
        assert 3 / 4 * 0.9 <= wide / tall <= 4 / 3 * 1.1
        if 0.9 < width / height < 1.1:
            assert tall * wide >= 0.85 * height * width


def test_parts_reach_the_edges():
    boxes = np.array([graph._draw_box(20, 20, tf.constant([0, seed])) for seed in range(60)])
    spare = 20 - boxes[:, 2:]
    assert (boxes[:, :2] == 0).any() and ((boxes[:, :2] == spare) & (spare > 0)).any()


def test_json_keeps_what_is_done():
    how = Preprocessing(224, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), SQUASH)
    assert Preprocessing.from_json(how.to_json(), 224) == how
    assert Preprocessing.from_json({}, 378) == Preprocessing(378, MEAN, STD)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 336},
        {"interpolation": "bilinear"},
        {"mode": "L"},
        {"resize_mode": "longest"},
        {"mean": 0.5},
        {"mean": [0.1, 0.2]},
        {"std": [0.1, 0.2, 0.0]},
        {"std": ["a", "b", "c"]},
    ],
)
def test_other_preprocessing_is_refused(fields):
    with pytest.raises(ValueError, match="Received"):
        Preprocessing.from_json(fields, 224)
