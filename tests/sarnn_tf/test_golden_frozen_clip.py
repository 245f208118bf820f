"""The frozen CLIP of CLIP-SARNN against its recordings: a small full tower, and the head of the real one."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from clip_tf.clip_model import ClipModel, normalize, openclip_variables
from clip_tf.model_config import ClipConfig, TextConfig, VisionConfig
from sarnn_tf.frozen_clip import FrozenClip, resize_for_tower
from tests.clip_tf import clip_goldens
from tests.golden.golden_weights import fill
from tests.sarnn_tf.sarnn_goldens import images, last_channels, load, recordings_with

TINY = ClipConfig(
    32,
    VisionConfig(image_size=224, patch_size=32, width=128, layers=2),
    TextConfig(width=32, heads=2, layers=1, context_length=16, vocab_size=100),
    quick_gelu=True,
)
"""As the recording's index describes it."""
PIXEL, FEATURE, UNIT = 4e-7, 2e-5, 1e-6

tiny = pytest.mark.parametrize("path", recordings_with("clip_sarnn_golden*.npz", "tiny"))
corrected = pytest.mark.parametrize("path", recordings_with("clip_sarnn_golden*.npz", "corr"))


@tiny
def test_golden_resizing(path: Path) -> None:
    recorded = load(path).part("tiny")
    resized = resize_for_tower(images(recorded["images_u8"]), TINY.vision.image_size)
    expected = last_channels(recorded["resized_sub8"])
    np.testing.assert_allclose(resized[:, ::8, ::8], expected, atol=PIXEL, rtol=0)


@tiny
def test_golden_patches(path: Path) -> None:
    recorded = load(path).part("tiny")
    frozen = FrozenClip(clip_goldens.filled(TINY))
    patches = frozen.patches(images(recorded["images_u8"]).numpy())
    np.testing.assert_allclose(patches, recorded["feature_map"], atol=FEATURE, rtol=0)


@tiny
def test_golden_tokens_and_clips_own_feature(path: Path) -> None:
    recorded = load(path).part("tiny")
    model = clip_goldens.filled(TINY)
    how = FrozenClip(model).preprocessing
    resized = resize_for_tower(images(recorded["images_u8"]), TINY.vision.image_size)
    features, aux = model.encode_image((resized - tf.constant(how.mean)) / tf.constant(how.std))
    tokens = aux[f"block{TINY.vision.layers - 1}"]
    np.testing.assert_allclose(tokens, recorded["tokens_after_transformer"], atol=FEATURE, rtol=0)
    np.testing.assert_allclose(features, recorded["cls"], atol=FEATURE, rtol=0)
    np.testing.assert_allclose(features, recorded["encode_image"], atol=FEATURE, rtol=0)


@tiny
def test_golden_text(path: Path) -> None:
    recorded = load(path).part("tiny")
    features, _ = clip_goldens.filled(TINY).encode_text(recorded["text_tokens"])
    np.testing.assert_allclose(features, recorded["text_features"], atol=FEATURE, rtol=0)
    np.testing.assert_allclose(normalize(features), recorded["text_normalised"], atol=UNIT, rtol=0)


@corrected
def test_golden_projection_of_tokens(path: Path) -> None:
    """The tokens of a ViT-B/32 through the last layer norm and the projection."""
    recorded = load(path).part("corr")
    tokens, expected = recorded["tokens"], recorded["projected_map"]
    features, width = expected.shape[-1], tokens.shape[-1]
    # Without initial weights its one block adds nothing to the tokens.
    model = ClipModel(ClipConfig(features, VisionConfig(224, 32, width, 1), TextConfig(1, 1, 1)), seed=None)
    variables = openclip_variables(model)
    for key in ("visual.ln_post.weight", "visual.ln_post.bias", "visual.proj"):
        variables[key].assign(fill(key, variables[key].shape))
    model.visual.ln_pre = lambda _: tf.constant(tokens)
    found = FrozenClip(model).encode_images(tf.zeros([len(tokens), 8, 8, 3]))
    np.testing.assert_allclose(found, expected, atol=FEATURE, rtol=0)
