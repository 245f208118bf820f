"""Finds out which model a file of weights is of.

Shapes do not tell everything: the activation, and the number of heads where it is unusual, leave no trace.
What is not known for sure is asked for, not guessed.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clip_tf.image_preprocessing import Preprocessing
from clip_tf.model_config import QUICK_GELU_SUFFIX, ClipConfig, TextConfig, VisionConfig, known_names
from clip_tf.weights.layout import openclip_shapes
from clip_tf.weights.name_maps import OPENAI
from clip_tf.weights.stored_tensor import Tensors
from core.files import read_json

OPENCLIP_FILE, HF_FILE, HF_PREPROCESSOR = "open_clip_config.json", "config.json", "preprocessor_config.json"


def find_config(path: Path, tensors: Tensors, layout: str) -> ClipConfig:
    """The configuration beside a file, or the only known one that its shapes and layout allow.

    Args:
      path: of the weights.
      tensors: what is in it, by OpenCLIP's keys.
      layout: whose names it has (``name_maps.detect``).

    Raises:
      ValueError: a configuration beside it cannot be read, or none is certain.
    """
    if (path.parent / OPENCLIP_FILE).is_file():
        return ClipConfig.from_json(path.parent / OPENCLIP_FILE)
    if (path.parent / HF_FILE).is_file():
        fields = read_json(path.parent / HF_FILE)
        if isinstance(fields, Mapping) and fields.get("model_type") == "clip":
            return from_hugging_face(fields)
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    names = [n for n in known_names() if openclip_shapes(ClipConfig.from_name(n)) == shapes]
    if names and layout == OPENAI:
        return ClipConfig.from_name(names[0] + QUICK_GELU_SUFFIX)
    if names:
        options = [name + suffix for name in names for suffix in ("", QUICK_GELU_SUFFIX)]
        raise ValueError(f"The weights do not tell the activation; say --config. Received: one of {options}")
    raise ValueError(
        "No known configuration fits; say --config with a name or a JSON file. "
        f"Received: {len(shapes)} tensors of {path}"
    )


def find_preprocessing(path: Path, size: int) -> Preprocessing:
    """The preprocessing beside a file of weights, or OpenAI's.

    Raises:
      ValueError: what is beside it asks for what is not done here.
    """
    ours, theirs = path.parent / OPENCLIP_FILE, path.parent / HF_PREPROCESSOR
    fields: Any = {}
    if ours.is_file():
        fields = read_json(ours)
        fields = fields.get("preprocess_cfg", {}) if isinstance(fields, Mapping) else None
    elif theirs.is_file():
        fields = read_json(theirs)
        if isinstance(fields, Mapping):
            if fields.get("resample", 3) != 3:
                raise ValueError(f"{theirs}: resample must be 3, bicubic. Received: {fields['resample']!r}")
            fields = {k: fields[f"image_{k}"] for k in ("mean", "std") if f"image_{k}" in fields}
    if not isinstance(fields, Mapping):
        raise ValueError(f"The preprocessing beside {path} must be a JSON object. Received: {fields!r}")
    return Preprocessing.from_json(fields, size)


def from_hugging_face(fields: Mapping[str, Any]) -> ClipConfig:
    """A configuration from Hugging Face's ``config.json`` of a CLIPModel.

    Raises:
      ValueError: its towers differ in activation or epsilon, or a field is of a wrong type.
    """
    towers = []
    for name, defaults in (("vision_config", _VISION_DEFAULTS), ("text_config", _TEXT_DEFAULTS)):
        given = fields.get(name) or {}
        if not isinstance(given, Mapping):
            raise ValueError(f"{name} must be a JSON object. Received: {given!r}")
        towers.append({k: given.get(k, v) for k, v in defaults.items()})
    vision, text = towers
    for key in ("hidden_act", "layer_norm_eps"):
        if vision[key] != text[key]:
            raise ValueError(f"Both towers must have one {key}. Received: {vision[key]!r} and {text[key]!r}")
    if vision["hidden_act"] not in ("gelu", "quick_gelu"):
        raise ValueError(f"hidden_act must be gelu or quick_gelu. Received: {vision['hidden_act']!r}")
    sizes = {k: v for t in towers for k, v in t.items() if k not in ("hidden_act", "layer_norm_eps")}
    embed_dim = fields.get("projection_dim", 512)
    wrong = [k for k, v in {**sizes, "projection_dim": embed_dim}.items() if type(v) is not int or v < 1]
    if wrong:
        raise ValueError(f"These must be positive whole numbers. Received: {wrong}")
    width, heads = vision["hidden_size"], vision["num_attention_heads"]
    if width % heads:
        raise ValueError(
            f"vision hidden_size must be a multiple of num_attention_heads. Received: {width}, {heads}"
        )
    return ClipConfig(
        embed_dim,
        VisionConfig(
            vision["image_size"],
            vision["patch_size"],
            width,
            vision["num_hidden_layers"],
            width // heads,
            _ratio(vision["intermediate_size"], width),
        ),
        TextConfig(
            text["hidden_size"],
            text["num_attention_heads"],
            text["num_hidden_layers"],
            text["max_position_embeddings"],
            text["vocab_size"],
            _ratio(text["intermediate_size"], text["hidden_size"]),
        ),
        quick_gelu=vision["hidden_act"] == "quick_gelu",
        layer_norm_epsilon=float(vision["layer_norm_eps"]),
    )


def _ratio(hidden: int, width: int) -> float:
    """The quotient, such that it gives back ``hidden`` although the product is truncated."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


# A config.json leaves out what is as in the ViT-B/32.
_COMMON = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_hidden_layers": 12}
_VISION_DEFAULTS: dict[str, Any] = {
    **_COMMON,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
}
_TEXT_DEFAULTS: dict[str, Any] = {
    **_COMMON,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
}
