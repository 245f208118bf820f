"""Configurations of CLIP: names, OpenCLIP's JSON, and what is refused."""

import copy
import dataclasses

import pytest

from clip_tf.model_config import ClipConfig, TextConfig, VisionConfig, known_names

B32 = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}


@pytest.mark.parametrize("name", known_names())
@pytest.mark.parametrize("suffix", ["", "-quickgelu"])
def test_every_name_survives_json(name, suffix, tmp_path):
    config = ClipConfig.from_name(name + suffix)
    assert config.quick_gelu == bool(suffix)
    assert ClipConfig.from_json(config.to_json()) == config


def test_published_layout_and_defaults():
    assert ClipConfig.from_json(B32) == ClipConfig.from_name("ViT-B-32")
    assert ClipConfig.from_json({"model_cfg": {**B32, "quick_gelu": True}}) == ClipConfig.from_name(
        "ViT-B-32-quickgelu"
    )
    neutral = copy.deepcopy(B32)
    neutral["vision_cfg"] |= {"patch_dropout": 0.0, "ls_init_value": None}
    assert ClipConfig.from_json(neutral) == ClipConfig.from_name("ViT-B-32")


def test_the_width_of_an_mlp_is_truncated():
    # OpenCLIP's ViT-g-14: 1408 x 4.3637 = 6144.09.
    assert ClipConfig.from_name("ViT-g-14").vision.mlp_width == 6144
    assert ClipConfig.from_name("ViT-H-14-378").vision.heads == 16


@pytest.mark.parametrize(
    ("where", "field", "value", "message"),
    [
        (None, "custom_text", True, "plain ViT"),
        ("vision_cfg", "pool_type", "avg", "plain ViT"),
        ("vision_cfg", "patch_dropout", 0.5, "plain ViT"),
        ("vision_cfg", "ls_init_value", 1e-4, "plain ViT"),
        ("vision_cfg", "layers", [3, 4, 6, 3], "must be int"),
        ("vision_cfg", "layers", True, "must be int"),
        ("vision_cfg", "width", "768", "must be int"),
        ("vision_cfg", "width", 0, "positive"),
        ("vision_cfg", "layers", 1 << 20, "layers must be positive and at most 512"),
        ("vision_cfg", "width", 1 << 40, "positive"),
        ("vision_cfg", "width", 100, "multiple of head_width"),
        ("vision_cfg", "image_size", 8, "at least patch_size"),
        ("vision_cfg", "mlp_ratio", float("nan"), "positive"),
        ("text_cfg", "heads", 7, "multiple of heads"),
        ("text_cfg", "hf_model_name", "roberta", "plain ViT"),
        (None, "quick_gelu", 1, "must be bool"),
        (None, "layer_norm_epsilon", 0.0, "out of range"),
        (None, "text_cfg", None, "must be a JSON object"),
    ],
)
def test_variants_and_mistakes_are_refused(where, field, value, message):
    fields = copy.deepcopy(B32)
    (fields if where is None else fields[where])[field] = value
    with pytest.raises(ValueError, match=message):
        ClipConfig.from_json(fields)


def test_missing_fields_are_named():
    fields = copy.deepcopy(B32)
    del fields["text_cfg"]["width"]
    with pytest.raises(ValueError, match="width"):
        ClipConfig.from_json(fields)
    with pytest.raises(ValueError, match="embed_dim"):
        ClipConfig.from_json({k: v for k, v in B32.items() if k != "embed_dim"})


@pytest.mark.parametrize("name", ["ViT-B-32-SigLIP", "RN50", "", "ViT-B-32-quickgelu-quickgelu"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="ViT-B-32"):
        ClipConfig.from_name(name)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        VisionConfig(224, 32, 64, 1).width = 3  # type: ignore[misc]
    assert TextConfig(64, 2, 1).vocab_size == 49408
