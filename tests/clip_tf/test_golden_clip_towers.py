"""CLIP's tokenizer, preprocessing, towers and checkpoints against recordings of the original code."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from clip_tf.clip_model import ClipModel, normalize, openclip_variables
from clip_tf.convert import convert
from clip_tf.converted_folder import load_clip
from clip_tf.image_preprocessing import (
    MEAN,
    SQUASH,
    STD,
    Preprocessing,
    preprocess,
    resize_and_crop,
    resized_sides,
)
from clip_tf.image_preprocessing_graph import preprocess_graph
from clip_tf.model_config import ClipConfig
from clip_tf.position_embedding import resize_image_positions, resize_text_positions
from clip_tf.rt.action_table import finetuning_table
from clip_tf.tokenizer import CONTEXT_LENGTH, END, PADDING, START, tokenize
from clip_tf.weights.layout import openclip_shapes, to_openclip
from clip_tf.weights.name_maps import to_openclip as to_openclip_names
from clip_tf.weights.stored_tensor import StoredTensor
from tests.clip_tf import clip_goldens as recipe
from tests.golden.golden_weights import fill
from tests.golden_files import manifest, recordings
from tests.shared_data import shared


@pytest.mark.parametrize("path", recordings("tokenizer_*.json"))
def test_golden_clip_tokenizer(path):
    recorded = json.loads(path.read_text(encoding="utf-8"))
    meta = [recorded["meta"][name] for name in ("context_length", "sot", "eot", "pad")]
    assert meta == [CONTEXT_LENGTH, START, END, PADDING]
    items = recorded["items"]
    ids = tokenize([item["text"] for item in items])
    assert ids.dtype == np.int32 and ids.shape == (len(items), 77)
    for row, item in zip(ids, items, strict=True):
        assert item["n"] == len(item["ids"]) == np.argmax(row) + 1, item["text"]
        np.testing.assert_array_equal(row, item["ids"] + [0] * (77 - len(item["ids"])), item["text"])


@pytest.mark.parametrize("path", recordings("preprocess_*.npz"))
def test_golden_clip_preprocess(path):
    """Both ways of preprocessing, on the synthetic images; the next test has the real one."""
    recorded = {n: v for n, v in recipe.load(path).items() if not n.startswith("example/")}
    cases = {tuple(name.split("/")[:2]) for name in recorded if name.count("/") == 2}
    assert cases
    got = {"mean": np.array(MEAN), "std": np.array(STD)}
    for name, size_text in cases:
        image, size = recipe.synth(*recipe.IMAGES[name]), int(size_text)
        squash = Preprocessing(size, resize_mode=SQUASH)
        normalised = preprocess(image, size)
        np.testing.assert_array_equal(preprocess_graph(image[None], size)[0], normalised)
        np.testing.assert_array_equal(preprocess_graph(image[None], squash)[0], preprocess(image, squash))
        height, width = image.shape[:2]
        got[f"{name}/crc_input"] = np.array(recipe.crc(image))
        got[f"{name}/{size}/resized_wh"] = np.array(resized_sides(width, height, size))
        got |= _named(f"{name}/{size}/u8", resize_and_crop(image, size), np.s_[::13, ::13])
        got |= _named(f"{name}/{size}/squash_u8", resize_and_crop(image, size, SQUASH), np.s_[::13, ::13])
        got |= _named(f"{name}/{size}/f32", normalised.transpose(2, 0, 1), np.s_[:, ::13, ::13])
    _check_equal(got, recorded)
    recipe.assert_each_is_compared(recorded, lambda damaged: _check_equal(got, damaged))


@pytest.mark.parametrize("path", recordings("preprocess_*.npz"))
def test_golden_clip_preprocess_example(path):
    recorded = {n: v for n, v in recipe.load(path).items() if n.startswith("example/")}
    example = Image.open(shared("data/clip_rt/example.png"))
    got: dict[str, np.ndarray] = {}
    for size in {int(name.split("/")[1]) for name in recorded}:
        image = preprocess(example, size).transpose(2, 0, 1)
        got |= _named(f"example/{size}/f32", image, np.s_[:, ::13, ::13])
    _check_equal(got, recorded)
    recipe.assert_each_is_compared(recorded, lambda damaged: _check_equal(got, damaged))


def _named(prefix, value, part):
    return {
        f"{prefix}_crc": np.array(recipe.crc(value)),
        f"{prefix}_sub": value[part],
        f"{prefix}_full": value,
    }


def _check_equal(got, recorded):
    for name, want in recorded.items():
        np.testing.assert_array_equal(got[name], want, err_msg=name)


# Towers of full size take 20 s; the tiny ones have every kind of layer.
_TINY = recordings("model_tiny*.npz")
_FULL = recordings("model_*.npz", exclude=["model_tiny*"])


@pytest.mark.parametrize(
    "path", [*_TINY, *(pytest.param(*p.values, id=p.id, marks=pytest.mark.heavy) for p in _FULL)]
)
def test_golden_clip_model(path):
    recorded = recipe.load(path)
    prefixes = sorted({name.partition("/")[0] for name in recorded} & {"gelu", "quick"})
    if prefixes:
        images = recipe.rnd("tiny.image", (4, 3, 32, 32)).transpose(0, 2, 3, 1)
        got = {p: _outputs(recipe.filled(recipe.tiny_config(p == "quick")), images) for p in prefixes}
        tolerances = {"features": 2e-5, "hidden": 2e-5}
    else:
        config = recipe.config_of(path.stem)
        size = config.vision.image_size
        images = [recipe.rnd(f"image{i}", (3, size, size)).transpose(1, 2, 0) for i in (0, 1)]
        images.append(preprocess(recipe.synth(*recipe.IMAGES["b"]), size))
        got = {"": _outputs(recipe.filled(config), np.stack(images[: len(recorded["image_features"])]))}
        is_base = config.vision.width <= 768
        tolerances = {"features": 1e-4, "hidden": 3e-4} if is_base else {"features": 3e-4, "hidden": 1e-3}
    assert len(recorded) >= 16

    def check(compared):
        for name, want in compared.items():
            prefix, rest = name.split("/") if prefixes and "/" in name else ("", name)
            if name == "text_ids":
                np.testing.assert_array_equal(recipe.text_ids(), want)
            else:
                _check_output(got[prefix], rest, want, **tolerances)

    check(recorded)
    recipe.assert_each_is_compared(recorded, check)


def _check_output(got, name, want, *, features, hidden):
    if name == "pred":
        np.testing.assert_array_equal(got["action_probs"].argmax(1), want)
        return
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
    recipe.assert_close(value, want, tolerance, name)


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
    recorded = recipe.load(path)

    def check(compared):
        for name, want in compared.items():
            kind, before, _, after = name.split("_")
            old, new = int(before), int(after)
            if kind == "vis":
                values = fill(f"visual.positional_embedding.{old}", (old * old + 1, 8))
                got = resize_image_positions(values, new)
            else:
                got = resize_text_positions(fill(f"positional_embedding.{old}", (old, 8)), new)
            assert got.dtype == np.float32
            recipe.assert_close(got, want, 2e-6, name)

    check(recorded)
    recipe.assert_each_is_compared(recorded, check)


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


@pytest.mark.parametrize("path", recordings("*state_dict_manifest.json"))
def test_golden_clip_keys_and_shapes(path):
    recorded = json.loads(path.read_text())
    assert recorded
    for name, expected in recorded.items():
        config = ClipConfig.from_name(name)
        assert ClipConfig.from_json(expected["config"]) == config
        shapes = openclip_shapes(config)
        numbers = {key: int(np.prod(shape)) for key, shape in shapes.items()}
        got = {
            "config": expected["config"],
            "num_params": sum(numbers.values()),
            "n_keys": len(shapes),
            "visual_params": sum(n for key, n in numbers.items() if key.startswith("visual.")),
            "state_dict": {key: list(shape) for key, shape in shapes.items()},
        }
        assert got == expected, name


@pytest.mark.parametrize("path", recordings("hf_name_map.json"))
def test_golden_clip_hugging_face_names(path):
    """The recorded names become all of OpenCLIP's keys, thirds joined and projections transposed."""
    names = json.loads(path.read_text())["map_tiny"]
    layers = {key.split("resblocks.")[1].split(".")[0] for key in names if "resblocks." in key}
    config = recipe.tiny_config(True)
    vision, text = (dataclasses.replace(tower, layers=len(layers)) for tower in (config.vision, config.text))
    shapes = openclip_shapes(dataclasses.replace(config, vision=vision, text=text))
    assert set(names) == set(shapes)
    theirs, values = {}, {key: recipe.standin(key, shape) for key, shape in shapes.items()}
    for key, value in values.items():
        value = value.T if key in ("visual.proj", "text_projection") else value
        parts = np.split(value, len(names[key])) if len(names[key]) > 1 else [value]
        for name, part in zip(names[key], parts, strict=True):
            theirs[name] = StoredTensor(part.shape, part.dtype, lambda part=part: part)
    tensors, unknown = to_openclip_names(theirs)
    assert not unknown and set(tensors) == set(shapes)
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.read(), values[key], err_msg=key)


def test_golden_clip_variables_are_the_keys():
    config = ClipConfig.from_name("ViT-S-32-alt")
    model = ClipModel(config, seed=None)
    got = {k: to_openclip(k, np.empty(v.shape)).shape for k, v in openclip_variables(model).items()}
    assert got == openclip_shapes(config)
    assert sum(int(np.prod(v.shape)) for v in model.variables) == sum(int(np.prod(s)) for s in got.values())
