"""The frozen CLIP: what its features depend on, and what it refuses."""

import dataclasses
import json
import logging

import ml_dtypes
import numpy as np
import pytest

from clip_tf.clip_model import ClipModel, openclip_variables
from clip_tf.converted_folder import CONFIG, load_clip, save_clip
from clip_tf.image_preprocessing import Preprocessing
from clip_tf.model_config import ClipConfig
from sarnn_tf.frozen_clip import FrozenClip, open_frozen_clip, random_frozen_clip, resize_for_tower

FIELDS = {
    "embed_dim": 6,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 8, "layers": 2, "head_width": 4},
    "text_cfg": {"width": 8, "heads": 2, "layers": 1, "context_length": 12},
}
CONFIGURATION = ClipConfig.from_json(FIELDS)


@pytest.fixture(scope="module")
def clip() -> FrozenClip:
    return random_frozen_clip(FIELDS, seed=3)


def frames(n: int, height: int = 20, width: int = 14) -> np.ndarray:
    return np.random.default_rng(0).random((n, height, width, 3), np.float32)


def test_sizes(clip):
    assert (clip.features, clip.grid) == (6, 4)
    patches = clip.patches(frames(3))
    assert patches.shape == (3, 4, 4, 6) and patches.dtype == np.float32
    assert clip.patches(frames(0)).shape == (0, 4, 4, 6)


@pytest.mark.parametrize("n", [1, 32, 33])
def test_an_image_has_the_same_patches_in_any_company(clip, n):
    images = frames(33)
    alone = clip.patches(images[n - 1 : n])[0]
    np.testing.assert_allclose(clip.patches(images)[n - 1], alone, atol=2e-6)


def test_rows_and_columns_are_those_of_the_image():
    """A tower whose positions and attention are off sees each patch by itself."""
    model = ClipModel(CONFIGURATION, seed=1)
    for name, variable in openclip_variables(model).items():
        if name == "visual.positional_embedding" or "out_proj" in name:
            variable.assign(np.zeros(variable.shape))
    images = np.full((1, 16, 16, 3), 0.5, np.float32)
    images[0, 4:8, 12:16] = 1.0
    patches = FrozenClip(model).patches(images)[0]
    differ = np.abs(patches - patches[0, 0]).max(axis=-1) > 1e-6
    assert np.argwhere(differ).tolist() == [[1, 3]]


def test_large_images_are_sampled_not_averaged():
    """As torch's bilinear interpolation: of four pixels, the two in the middle count, and no other."""
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1)
    middle = np.array([(1, 2), (5, 6)])
    expected = [[image[0][np.ix_(rows, columns)].mean() for columns in middle] for rows in middle]
    spike = image.copy()
    spike[0, 0, 0] = spike[0, 3, 4] = 1e6
    for x in (image, spike):
        np.testing.assert_allclose(resize_for_tower(x, 2)[0, ..., 0], expected)


def test_images_are_normalised_by_the_preprocessing():
    model = ClipModel(CONFIGURATION, seed=1)
    how = Preprocessing(16, mean=(0.25, 0.5, 0.75), std=(0.5, 0.25, 2.0))
    images = frames(2)
    plain = FrozenClip(model, Preprocessing(16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    by_hand = (images - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
    np.testing.assert_allclose(FrozenClip(model, how).patches(images), plain.patches(by_hand), atol=2e-5)


def test_text_is_of_unit_length_and_told_apart(clip):
    text = clip.text(["pull the cable", "push the cable", "Pull  the cable"])
    assert text.shape == (3, 6) and text.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(text, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(text[0], text[2], atol=1e-6)
    assert np.abs(text[0] - text[1]).max() > 1e-3
    np.testing.assert_allclose(clip.text(["push the cable"])[0], text[1], atol=1e-6)
    assert clip.text([]).shape == (0, 6)


def test_random_towers_repeat_by_seed_and_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        same, other = random_frozen_clip(FIELDS, seed=3), random_frozen_clip(FIELDS, seed=4)
    assert "random weights" in caplog.text
    again = random_frozen_clip(FIELDS, seed=3)
    assert same.fingerprint == again.fingerprint != other.fingerprint
    np.testing.assert_array_equal(same.patches(frames(2)), again.patches(frames(2)))


def test_a_named_configuration_is_taken():
    with pytest.raises(ValueError, match="ViT-B-33"):
        random_frozen_clip("ViT-B-33")


def test_fingerprint_depends_on_weights_configuration_and_preprocessing(clip):
    model = ClipModel(CONFIGURATION, seed=3)
    assert FrozenClip(model).fingerprint == clip.fingerprint
    other = dataclasses.replace(CONFIGURATION, quick_gelu=False)
    how = Preprocessing(16, mean=(0.5, 0.5, 0.5))
    changed = ClipModel(CONFIGURATION, seed=3)
    weight = openclip_variables(changed)["ln_final.bias"]
    weight.assign(np.eye(1, 8)[0] * 1e-7)
    found = {FrozenClip(ClipModel(other, seed=3)).fingerprint, FrozenClip(model, how).fingerprint}
    found |= {FrozenClip(changed).fingerprint, clip.fingerprint}
    assert len(found) == 4


def test_a_folder_gives_the_same_features(clip, tmp_path):
    clip.save(tmp_path / "clip")
    opened = open_frozen_clip(tmp_path / "clip")
    assert opened.fingerprint == clip.fingerprint
    np.testing.assert_array_equal(opened.patches(frames(2)), clip.patches(frames(2)))
    np.testing.assert_array_equal(opened.text(["grasp"]), clip.text(["grasp"]))
    with pytest.raises(FileExistsError):
        clip.save(tmp_path / "clip")


def test_a_folder_of_half_precision_is_computed_in_float32(clip, tmp_path):
    clip.save(tmp_path / "single")
    save_clip(tmp_path / "half", load_clip(tmp_path / "single", "bfloat16"))
    half = open_frozen_clip(tmp_path / "half")
    assert half.fingerprint != clip.fingerprint
    rounded = ClipModel(CONFIGURATION, seed=3)
    variables = openclip_variables(load_clip(tmp_path / "half"))
    for name, variable in openclip_variables(rounded).items():
        assert variables[name].dtype == "float32"
        if len(variable.shape) > 1:
            variable.assign(variable.numpy().astype(ml_dtypes.bfloat16).astype(np.float32))
    np.testing.assert_allclose(half.patches(frames(1)), FrozenClip(rounded).patches(frames(1)), atol=0.02)


def test_a_missing_or_edited_folder_is_refused(clip, tmp_path):
    with pytest.raises(FileNotFoundError):
        open_frozen_clip(tmp_path / "none")
    clip.save(tmp_path / "clip")
    described = json.loads((tmp_path / "clip" / CONFIG).read_text())
    described["model_cfg"]["quick_gelu"] = False
    (tmp_path / "clip" / CONFIG).write_text(json.dumps(described))
    with pytest.raises(ValueError, match="quick_gelu"):
        open_frozen_clip(tmp_path / "clip")


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 3), np.float64),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((1, 8, 8, 4), np.float32),
        np.zeros((1, 0, 8, 3), np.float32),
        "image.png",
    ],
)
def test_wrong_images_are_refused(clip, images):
    with pytest.raises(ValueError, match="images must be float32"):
        clip.patches(images)


def test_wrong_texts_are_refused(clip):
    with pytest.raises(ValueError, match="sequence of texts"):
        clip.text("pull the cable")
    small = random_frozen_clip({**FIELDS, "text_cfg": {**FIELDS["text_cfg"], "vocab_size": 100}})
    with pytest.raises(ValueError, match="49408 tokens"):
        small.text(["pull"])
