"""CLIP's towers: initial weights, padding that changes nothing, half precision, wrong inputs."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from clip_tf.clip_model import ClipModel, openclip_variables
from clip_tf.model_config import ClipConfig, TextConfig, VisionConfig
from tests.clip_tf.clip_goldens import filled

TINY = ClipConfig(8, VisionConfig(16, 4, 32, 2, 16), TextConfig(32, 2, 2, 12, 100), quick_gelu=True)
IDS = np.array([[98, 5, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0], [98, 7, 8, 9, 99, 0, 0, 0, 0, 0, 0, 0]], np.int32)


def images(seed: int = 0, n: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 16, 16, 3)).astype(np.float32)


def test_initial_weights_repeat_and_have_the_published_deviation():
    first, second, other = ClipModel(TINY, seed=1), ClipModel(TINY, seed=1), ClipModel(TINY, seed=2)
    ours, same, different = (openclip_variables(m) for m in (first, second, other))
    for key, variable in ours.items():
        np.testing.assert_array_equal(variable, same[key], key)
        if not key.endswith("bias") and "ln_" not in key and key != "logit_scale":
            assert not np.array_equal(variable, different[key]), key
    np.testing.assert_allclose(np.std(ours["token_embedding.weight"]), 0.02, rtol=0.1)
    np.testing.assert_allclose(np.std(ours["transformer.resblocks.1.mlp.c_fc.weight"]), 64**-0.5, rtol=0.1)
    np.testing.assert_allclose(np.std(ours["transformer.resblocks.1.mlp.c_proj.weight"]), 128**-0.5, rtol=0.1)
    np.testing.assert_allclose(float(first.logit_scale), np.log(1 / 0.07), rtol=1e-6)


def test_intermediates_have_their_names_and_shapes():
    model = filled(TINY)
    features, vision = model.encode_image(images())
    assert features.shape == (2, 8)
    assert {k: tuple(v.shape) for k, v in vision.items()} == {
        **dict.fromkeys(["ln_pre", "block0", "block1", "ln_post"], (2, 17, 32)),
        "patch_map": (2, 4, 4, 8),
    }
    _, text = model.encode_text(IDS, whole_context=True)
    assert {k: tuple(v.shape) for k, v in text.items()} == dict.fromkeys(
        ["block0", "block1", "ln_final"], (2, 12, 32)
    )


def test_a_patch_moves_only_its_own_embedding():
    """The patch map is row-major: the pixels of patch (1, 2) reach the embedding there."""
    model = filled(dataclasses.replace(TINY, vision=VisionConfig(16, 4, 32, 1, 16)))
    changed = images()
    changed[:, 4:8, 8:12] += 1.0
    before, after = (model.visual.conv1(x).numpy() for x in (images(), changed))
    moved = np.argwhere(np.abs(before - after).max(axis=(0, 3)) > 1e-6)
    np.testing.assert_array_equal(moved, [[1, 2]])


def test_features_are_those_of_the_whole_last_block():
    """The last block computes the token of the features apart."""
    model = filled(TINY)
    features, vision = model.encode_image(images())
    np.testing.assert_allclose(features, vision["ln_post"][:, 0] @ model.visual.proj, atol=1e-5)
    features, text = model.encode_text(IDS)
    ends = tf.gather(text["ln_final"], [2, 4], batch_dims=1)
    np.testing.assert_allclose(features, ends @ model.text.text_projection, atol=1e-5)


def test_padding_changes_neither_features_nor_gradients():
    model = filled(TINY)
    found = []
    for whole in (True, False):
        with tf.GradientTape() as tape:
            features, _ = model.encode_text(IDS, whole_context=whole)
            loss = tf.reduce_sum(features**2)
        gradients = tape.gradient(loss, model.text.trainable_variables)
        found.append([features, *map(tf.convert_to_tensor, gradients)])
    for whole, short in zip(*found, strict=True):
        np.testing.assert_allclose(short, whole, atol=2e-5 * float(tf.reduce_max(tf.abs(whole))) + 1e-7)


def test_features_are_read_at_the_first_largest_id():
    model = filled(TINY)
    twice = IDS.copy()
    twice[0, 6] = 99
    np.testing.assert_allclose(model.encode_text(twice)[0], model.encode_text(IDS)[0], atol=1e-5)


def test_text_is_causal():
    model = filled(TINY)
    other = IDS.copy()
    other[1, 3] = 11
    ours, theirs = (model.encode_text(ids)[1]["block1"].numpy() for ids in (IDS, other))
    np.testing.assert_allclose(ours[1, :3], theirs[1, :3], atol=1e-5)
    assert np.abs(ours[1, 3] - theirs[1, 3]).max() > 1e-3


@pytest.mark.parametrize(
    ("policy", "stored", "tolerance"),
    [("bfloat16", "bfloat16", 0.1), ("mixed_bfloat16", "float32", 0.1), ("float16", "float16", 0.01)],
)
def test_half_precision_is_near_float32(policy, stored, tolerance):
    exact, half = filled(TINY), filled(TINY, policy)
    assert half.visual.proj.dtype.name == stored and half.logit_scale.dtype == tf.float32
    for name, argument in (("encode_image", images()), ("encode_text", IDS)):
        want, got = getattr(exact, name)(argument)[0], getattr(half, name)(argument)[0]
        assert got.dtype.name == half.compute_dtype
        difference = np.linalg.norm(want - tf.cast(got, tf.float32), axis=1)
        assert (difference < tolerance * np.linalg.norm(want, axis=1)).all()


def test_call_gives_unit_features_of_any_batch():
    model = filled(TINY)
    run = tf.function(
        model.call, input_signature=[(tf.TensorSpec([None, 16, 16, 3]), tf.TensorSpec([None, 12], tf.int32))]
    )
    for n in (1, 2):
        for features in run((tf.constant(images(n=2)[:n]), tf.constant(IDS[:n]))):
            np.testing.assert_allclose(np.linalg.norm(features, axis=1), np.ones(n), rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 15, 16, 3), (1, 16, 16, 4), (1, 3, 16, 16), (16, 16, 3)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError):
        filled(TINY).encode_image(np.zeros(shape, np.float32))


def test_ids_of_another_length_are_refused():
    with pytest.raises(ValueError, match="Received"):
        filled(TINY).encode_text(IDS[:, :11])
