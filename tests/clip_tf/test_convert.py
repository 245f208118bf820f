"""Converting and the converted folder: what is stored with the weights, and every mismatch refused."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from clip_tf.clip_model import ClipModel, openclip_variables
from clip_tf.convert import convert, main
from clip_tf.converted_folder import (
    CONFIG,
    WEIGHTS,
    load_clip,
    load_preprocessing,
    read_description,
    save_clip,
)
from clip_tf.image_preprocessing import SQUASH, Preprocessing
from clip_tf.model_config import ClipConfig
from clip_tf.position_embedding import resize_image_positions, resize_text_positions
from clip_tf.weights.find_config import from_hugging_face
from clip_tf.weights.layout import openclip_shapes, to_openclip
from tests.clip_tf.clip_goldens import filled, standin
from tests.clip_tf.test_weight_files import hugging_face
from tests.golden_files import manifest

CONFIG_FILE = manifest("ckpt_tiny_config.json")
TINY = ClipConfig.from_json(CONFIG_FILE)
BARE = manifest("ckpt_tiny_bare.bin")


def weights() -> dict[str, np.ndarray]:
    return {key: standin(key, shape) for key, shape in openclip_shapes(TINY).items()}


def write(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    safetensors.numpy.save_file({k: np.array(v, order="C") for k, v in tensors.items()}, path)
    return path


def assert_same(model: ClipModel, want: dict[str, np.ndarray], tolerance: float = 0.0) -> None:
    for key, variable in openclip_variables(model).items():
        got = to_openclip(key, variable.numpy()).astype(np.float32)
        np.testing.assert_allclose(got, want[key], rtol=tolerance, atol=0, err_msg=key)


@pytest.mark.parametrize("policy", ["float32", "bfloat16", "mixed_float16"])
def test_a_saved_model_comes_back(policy, tmp_path):
    model = filled(TINY, policy)
    how = Preprocessing(16, (0.1, 0.2, 0.3), resize_mode=SQUASH)
    save_clip(tmp_path / "clip", model, how)
    again = load_clip(tmp_path / "clip", policy)
    assert again.config == TINY and load_preprocessing(tmp_path / "clip") == how
    theirs = openclip_variables(again)
    for key, variable in openclip_variables(model).items():
        assert theirs[key].dtype == variable.dtype
        np.testing.assert_array_equal(theirs[key].numpy(), variable.numpy(), key)


def test_the_file_is_openclips(tmp_path):
    """Its keys and layout: what reads OpenCLIP's files reads ours."""
    save_clip(tmp_path / "clip", filled(TINY))
    stored = safetensors.numpy.load_file(tmp_path / "clip" / WEIGHTS)
    assert sorted(stored) == sorted(openclip_shapes(TINY))
    for key, value in weights().items():
        np.testing.assert_array_equal(stored[key], value, key)
    convert(tmp_path / "clip", tmp_path / "again")
    assert read_description(tmp_path / "again") == read_description(tmp_path / "clip")


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [
        ("model_cfg", "quick_gelu", False),
        ("model_cfg", "layer_norm_epsilon", 1e-6),
        ("preprocess_cfg", "mean", [0.5, 0.5, 0.5]),
        ("preprocess_cfg", "resize_mode", "squash"),
    ],
)
def test_an_edited_configuration_is_refused(where, field, value, tmp_path):
    save_clip(tmp_path / "clip", filled(TINY))
    described = json.loads((tmp_path / "clip" / CONFIG).read_text())
    described[where][field] = value
    (tmp_path / "clip" / CONFIG).write_text(json.dumps(described))
    with pytest.raises(ValueError, match=f"{where}.{field}"):
        load_clip(tmp_path / "clip")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    save_clip(tmp_path / "clip", filled(TINY))
    path = tmp_path / "clip" / WEIGHTS
    described = {"clip": json.dumps(json.loads((tmp_path / "clip" / CONFIG).read_text()))}
    changed = weights()
    changed["visual.proj"] = changed["visual.proj"].T
    del changed["ln_final.bias"]
    changed["extra"] = np.zeros(3, np.float32)
    safetensors.numpy.save_file({k: np.array(v, order="C") for k, v in changed.items()}, path, described)
    with pytest.raises(ValueError, match="1 missing, 1 unexpected, 1 mismatched"):
        load_clip(tmp_path / "clip")


def test_incomplete_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_clip(tmp_path)
    save_clip(tmp_path / "clip", filled(TINY))
    write(tmp_path / "clip" / WEIGHTS, weights())
    with pytest.raises(ValueError, match="not written by clip_tf"):
        load_clip(tmp_path / "clip")
    (tmp_path / "clip" / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=WEIGHTS):
        load_clip(tmp_path / "clip")


def test_nothing_is_overwritten(tmp_path):
    convert(BARE, tmp_path / "out", config=TINY)
    with pytest.raises(FileExistsError):
        convert(BARE, tmp_path / "out", config=TINY)
    with pytest.raises(ValueError, match="16 pixels"):
        save_clip(tmp_path / "other", filled(TINY), Preprocessing(224))
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_half_types_keep_vectors(tmp_path):
    convert(BARE, tmp_path / "out", config=TINY, dtype="bfloat16")
    stored = safetensors.numpy.load_file(tmp_path / "out" / WEIGHTS)
    for key, value in weights().items():
        assert stored[key].dtype == (ml_dtypes.bfloat16 if value.ndim > 1 else np.float32), key
    assert_same(load_clip(tmp_path / "out"), weights(), 2**-8)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    broken = weights()
    broken["ln_final.weight"] = broken["ln_final.weight"].copy()
    broken["visual.proj"] = broken["visual.proj"].copy()
    broken["visual.proj"][0, 0] = value
    path = write(tmp_path / "x.safetensors", broken)
    with pytest.raises(ValueError, match=r"finite.*visual\.proj"):
        convert(path, tmp_path / "out", config=TINY, dtype="float16")
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_another_image_size_and_context_resize_positions(tmp_path):
    convert(BARE, tmp_path / "out", config=TINY, image_size=32, context_length=5)
    model = load_clip(tmp_path / "out")
    assert (model.config.vision.image_size, model.config.text.context_length) == (32, 5)
    assert load_preprocessing(tmp_path / "out").size == 32
    want = weights()
    want["visual.positional_embedding"] = resize_image_positions(want["visual.positional_embedding"], 4)
    want["positional_embedding"] = resize_text_positions(want["positional_embedding"], 5)
    assert_same(model, want)


def hugging_face_config() -> dict:
    common = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {
        "model_type": "clip",
        "projection_dim": 16,
        "vision_config": {**common, "image_size": 16, "patch_size": 8},
        "text_config": {**common, "max_position_embeddings": 8, "vocab_size": 64},
    }


def test_a_folder_of_hugging_face_needs_no_flag(tmp_path):
    write(tmp_path / "model.safetensors", hugging_face())
    (tmp_path / "config.json").write_text(json.dumps(hugging_face_config()))
    fields = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2], "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    convert(tmp_path, tmp_path / "out")
    model = load_clip(tmp_path / "out")
    assert model.config == TINY
    assert load_preprocessing(tmp_path / "out") == Preprocessing(16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    assert_same(model, weights())


def test_hugging_face_defaults_are_the_b32():
    assert from_hugging_face({}) == ClipConfig.from_name("ViT-B-32-quickgelu")


@pytest.mark.parametrize(
    ("tower", "field", "value"),
    [
        ("vision_config", "hidden_act", "gelu"),
        ("vision_config", "layer_norm_eps", 1e-6),
        ("vision_config", "num_attention_heads", 5),
        ("text_config", "hidden_size", "big"),
    ],
)
def test_a_hugging_face_config_that_fits_no_clip_of_ours(tower, field, value):
    fields = hugging_face_config()
    fields[tower][field] = value
    with pytest.raises(ValueError, match="Received"):
        from_hugging_face(fields)


def named_weights(name: str) -> dict[str, np.ndarray]:
    return {k: np.zeros(s, np.float16) for k, s in openclip_shapes(ClipConfig.from_name(name)).items()}


def test_what_the_shapes_do_not_tell_is_asked_for(tmp_path):
    tensors = named_weights("ViT-S-32-alt")
    path = write(tmp_path / "x.safetensors", tensors)
    with pytest.raises(ValueError, match="activation.*ViT-S-32-alt-quickgelu"):
        convert(path, tmp_path / "out")
    openai = write(tmp_path / "o.safetensors", {**tensors, "input_resolution": np.asarray(224)})
    convert(openai, tmp_path / "out")
    assert read_description(tmp_path / "out")[0] == ClipConfig.from_name("ViT-S-32-alt-quickgelu")
    with pytest.raises(ValueError, match="say --config"):
        convert(BARE, tmp_path / "other")


def test_command_line(tmp_path, capsys):
    arguments = [str(BARE), "--out", str(tmp_path / "out"), "--config", str(CONFIG_FILE)]
    assert main([*arguments, "--dtype", "float16", "--resize_mode", "squash"]) == 0
    assert "38 loaded, 0 missing" in capsys.readouterr().out
    assert load_preprocessing(tmp_path / "out").resize_mode == SQUASH
    assert main(arguments) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["missing.pt", "--out", str(tmp_path / "other")]) == 1
    assert main([str(BARE), "--out", str(tmp_path / "other"), "--config", "ViT-B-32"]) == 1
    assert "does not fit" in capsys.readouterr().err
    with pytest.raises(SystemExit) as usage:
        main([])
    assert usage.value.code == 2
    assert not (tmp_path / "other").exists()
