"""CLIP's tokenizer, preprocessing, towers and checkpoints against recordings of the original code."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from clip_tf.clip_model import ClipModel, normalize, num_parameters, openclip_variables
from clip_tf.convert import convert
from clip_tf.converted_folder import load_clip
from clip_tf.image_preprocessing import SQUASH, Preprocessing, preprocess, resize_and_crop
from clip_tf.image_preprocessing_graph import preprocess_graph
from clip_tf.model_config import ClipConfig
from clip_tf.position_embedding import resize_image_positions, resize_text_positions
from clip_tf.rt.action_table import finetuning_table
from clip_tf.tokenizer import tokenize
from clip_tf.weights.layout import openclip_shapes, to_openclip
from tests.clip_tf import clip_goldens as recipe
from tests.golden.golden_weights import fill
from tests.golden_files import manifest, recordings
from tests.shared_data import shared


@pytest.mark.parametrize("path", recordings("tokenizer_*.json"))
def test_golden_clip_tokenizer(path):
    items = json.loads(path.read_text(encoding="utf-8"))["items"]
    ids = tokenize([item["text"] for item in items])
    assert ids.dtype == np.int32 and ids.shape == (len(items), 77)
    for row, item in zip(ids, items, strict=True):
        np.testing.assert_array_equal(row, item["ids"] + [0] * (77 - len(item["ids"])), item["text"])


@pytest.mark.parametrize("path", recordings("preprocess_*.npz"))
def test_golden_clip_preprocess(path):
    recorded = np.load(path)
    cases = sorted({tuple(name.split("/")[:2]) for name in recorded.files if name.count("/") == 2})
    assert cases
    for name, size in cases:
        if name == "example":
            continue
        image = recipe.synth(*recipe.IMAGES[name])
        assert recipe.crc(image) == recorded[f"{name}/crc_input"]
        pixels = resize_and_crop(image, int(size))
        np.testing.assert_array_equal(pixels[::13, ::13], recorded[f"{name}/{size}/u8_sub"])
        assert recipe.crc(pixels) == recorded[f"{name}/{size}/u8_crc"]
        _check_normalised(recorded, f"{name}/{size}", preprocess(image, int(size)))
        _check_normalised(recorded, f"{name}/{size}", preprocess_graph(image[None], int(size))[0].numpy())
        if f"{name}/{size}/squash_u8_crc" in recorded:
            assert (
                recipe.crc(resize_and_crop(image, int(size), SQUASH))
                == recorded[f"{name}/{size}/squash_u8_crc"]
            )
            how = Preprocessing(int(size), resize_mode=SQUASH)
            np.testing.assert_array_equal(preprocess_graph(image[None], how)[0], preprocess(image, how))


@pytest.mark.parametrize("path", recordings("preprocess_*.npz"))
def test_golden_clip_preprocess_example(path):
    recorded = np.load(path)
    example = Image.open(shared("data/clip_rt/example.png"))
    for size in (224, 378):
        _check_normalised(recorded, f"example/{size}", preprocess(example, size))


def _check_normalised(recorded, name, got):
    channels_first = got.transpose(2, 0, 1)
    np.testing.assert_array_equal(channels_first[:, ::13, ::13], recorded[f"{name}/f32_sub"])
    assert recipe.crc(channels_first) == recorded[f"{name}/f32_crc"]
    if f"{name}/f32_full" in recorded:
        np.testing.assert_array_equal(channels_first, recorded[f"{name}/f32_full"])


@pytest.mark.parametrize("path", recordings("model_*.npz"))
def test_golden_clip_model(path):
    recorded = np.load(path)
    np.testing.assert_array_equal(recipe.text_ids(), recorded["text_ids"])
    prefixes = sorted({name.partition("/")[0] for name in recorded.files} & {"gelu", "quick"})
    if prefixes:
        images = recipe.rnd("tiny.image", (4, 3, 32, 32)).transpose(0, 2, 3, 1)
        for prefix in prefixes:
            got = _outputs(recipe.filled(recipe.tiny_config(prefix == "quick")), images)
            _check_model(got, recorded, f"{prefix}/", features=2e-5, hidden=2e-5)
    else:
        config = recipe.config_of(path.stem)
        size = config.vision.image_size
        images = [recipe.rnd(f"image{i}", (3, size, size)).transpose(1, 2, 0) for i in (0, 1)]
        images.append(preprocess(recipe.synth(*recipe.IMAGES["b"]), size))
        images = np.stack(images[: len(recorded["image_features"])])
        is_base = config.vision.width <= 768
        tolerances = {"features": 1e-4, "hidden": 3e-4} if is_base else {"features": 3e-4, "hidden": 1e-3}
        _check_model(_outputs(recipe.filled(config), images), recorded, "", **tolerances)


def _check_model(got, recorded, prefix, *, features, hidden):
    """Compares all that is recorded below a prefix."""
    names = [n.removeprefix(prefix) for n in recorded.files if n.startswith(prefix)]
    assert len(names) >= 16
    for name in names:
        if name in ("text_ids", "pred"):
            continue
        want = recorded[prefix + name]
        value, inside = got[name.removeprefix("sub/")], not name.endswith(("features", "norm", "proj"))
        if name.startswith("sub/"):
            value = value[:, :: 5 if "tblock" in name else 7, ::37]
        elif name == "action_features":
            value = value[:: -(-len(value) // len(want))]
        elif name == "ln_final" and want.ndim == 2:
            value = value[0]
        elif name == "logit_scale":
            value = value.reshape(want.shape)
        elif len(value) != len(want):
            value = value[[0, 2]] if name == "ln_post" else value[: len(want)]
        tolerance = 1e-5 if name == "action_probs" else hidden if inside and value.ndim > 2 else features
        recipe.assert_close(value, want, tolerance, prefix + name)
    if prefix + "pred" in recorded:
        np.testing.assert_array_equal(got["action_probs"].argmax(1), recorded[prefix + "pred"])


def _outputs(model: ClipModel, images: np.ndarray) -> dict[str, np.ndarray]:
    """What a recording has, by its names, whole."""
    encode_text = tf.function(model.encode_text)
    image, vision = tf.function(model.encode_image)(images)
    text, hidden = encode_text(tf.constant(recipe.text_ids()), whole_context=True)
    phrases = [row.phrase for row in finetuning_table()]
    action = normalize(encode_text(tf.constant(tokenize(phrases)))[0])
    context = normalize(image + text[:1])
    scale = tf.exp(model.logit_scale)
    found = {
        "image_features": image,
        "image_features_norm": normalize(image),
        "text_features": text,
        "text_features_norm": normalize(text),
        "patch_proj": vision.pop("patch_map"),
        **vision,
        **{("t" if name.startswith("block") else "") + name: value for name, value in hidden.items()},
        "context_features": context,
        "action_features": action,
        "action_probs": tf.sigmoid(tf.matmul(context, action, transpose_b=True)),
        "train_logits": scale * tf.matmul(normalize(image) + normalize(text[:1]), action, transpose_b=True),
        "logits_per_image": scale * tf.matmul(normalize(image), normalize(text), transpose_b=True),
        "logit_scale": model.logit_scale,
    }
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("path", recordings("pos_embed_resize_*.npz"))
def test_golden_clip_pos_embed_resize(path):
    recorded = np.load(path)
    for name in recorded.files:
        kind, before, _, after = name.split("_")
        old, new = int(before), int(after)
        if kind == "vis":
            got = resize_image_positions(fill(f"visual.positional_embedding.{old}", (old * old + 1, 8)), new)
        else:
            got = resize_text_positions(fill(f"positional_embedding.{old}", (old, 8)), new)
        assert got.dtype == np.float32
        recipe.assert_close(got, recorded[name], 2e-6, name)


def _checkpoints(pattern: str) -> list:
    return recordings(pattern, exclude=["*.json"])


@pytest.mark.parametrize("path", _checkpoints("ckpt_tiny_*"))
def test_golden_clip_checkpoint(path: Path, tmp_path):
    beside = path.with_name("ckpt_tiny_config.json")
    config = ClipConfig.from_json(beside if beside.exists() else manifest(beside.name))
    report = convert(path, tmp_path / "out", config=config)
    shapes = openclip_shapes(config)
    assert report.ok and not report.allowed and set(report.loaded) == set(shapes)
    model = load_clip(tmp_path / "out")
    for key, variable in openclip_variables(model).items():
        want = recipe.standin(key, shapes[key])
        got = to_openclip(key, variable.numpy())
        if "openai" in path.stem and not np.array_equal(got, want):
            want = want.astype(np.float16)  # OpenAI's type, but for norms and embeddings.
        np.testing.assert_array_equal(got, want, err_msg=key)


@pytest.mark.parametrize("name", json.loads(manifest("clip_state_dict_manifest.json").read_text()))
def test_golden_clip_keys_and_shapes(name):
    recorded = json.loads(manifest("clip_state_dict_manifest.json").read_text())[name]
    config = ClipConfig.from_name(name)
    assert ClipConfig.from_json(recorded["config"]) == config
    assert {k: list(s) for k, s in openclip_shapes(config).items()} == recorded["state_dict"]
    assert sum(int(np.prod(s)) for s in openclip_shapes(config).values()) == recorded["num_params"]


def test_golden_clip_variables_are_the_keys():
    config = ClipConfig.from_name("ViT-S-32-alt")
    model = ClipModel(config, seed=None)
    got = {k: to_openclip(k, np.empty(v.shape)).shape for k, v in openclip_variables(model).items()}
    assert got == openclip_shapes(config)
    assert num_parameters(model) == sum(int(np.prod(s)) for s in got.values())
