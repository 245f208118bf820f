"""The shape of a CLIP model with two transformers, in OpenCLIP's terms."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.files import read_json

QUICK_GELU_SUFFIX = "-quickgelu"
# A misread file may name any size; nothing real comes near.
_MAX_SIZE, _MAX_LAYERS = 1 << 20, 512


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """The image tower.

    Attributes:
      image_size: side of the square input in pixels.
      patch_size: side of a patch in pixels.
      width: size of a token.
      layers: transformer blocks.
      head_width: size of an attention head; ``width`` is a multiple of it.
      mlp_ratio: hidden size of a block's MLP over ``width``.
    """

    image_size: int
    patch_size: int
    width: int
    layers: int
    head_width: int = 64
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        _check_sizes(self)
        if self.image_size < self.patch_size:
            raise ValueError(f"vision: image_size must be at least patch_size. Received: {self}")
        if self.width % self.head_width:
            raise ValueError(f"vision: width must be a multiple of head_width. Received: {self}")

    @property
    def heads(self) -> int:
        return self.width // self.head_width

    @property
    def grid(self) -> int:
        """Patches along a side; pixels beyond the last whole patch are not seen."""
        return self.image_size // self.patch_size

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """The text tower.

    Attributes:
      context_length: ids of a text, with start, end and padding.
      vocab_size: rows of the embedding table.
      width: size of a token.
      heads: attention heads; ``width`` is a multiple of it.
      layers: transformer blocks.
      mlp_ratio: hidden size of a block's MLP over ``width``.
    """

    width: int
    heads: int
    layers: int
    context_length: int = 77
    vocab_size: int = 49408
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        _check_sizes(self)
        if self.width % self.heads:
            raise ValueError(f"text: width must be a multiple of heads. Received: {self}")

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """Both towers and what they share.

    Attributes:
      embed_dim: size of the features.
      vision, text: the towers.
      quick_gelu: x·sigmoid(1.702 x), as OpenAI's weights need; else the exact GELU.
      layer_norm_epsilon: of every layer normalisation.
    """

    embed_dim: int
    vision: VisionConfig
    text: TextConfig
    quick_gelu: bool = False
    layer_norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.embed_dim <= _MAX_SIZE or not 0 < self.layer_norm_epsilon < 1:
            raise ValueError(f"embed_dim or layer_norm_epsilon is out of range. Received: {self}")
        if not isinstance(self.quick_gelu, bool):
            raise ValueError(f"quick_gelu must be true or false. Received: {self.quick_gelu!r}")

    @classmethod
    def from_name(cls, name: str) -> "ClipConfig":
        """A configuration of OpenCLIP by its name; the suffix ``-quickgelu`` chooses QuickGELU.

        Raises:
          ValueError: there is no such configuration of two plain transformers.
        """
        base = name.removesuffix(QUICK_GELU_SUFFIX)
        if base not in _NAMED:
            raise ValueError(
                f"model name must be one of {known_names()} (or with -quickgelu). Received: {name!r}"
            )
        embed_dim, vision, text = _NAMED[base]
        return cls(embed_dim, vision, text, quick_gelu=name != base)

    @classmethod
    def from_json(cls, source: str | Path | Mapping[str, Any]) -> "ClipConfig":
        """Reads OpenCLIP's layout: ``embed_dim``, ``vision_cfg``, ``text_cfg`` and perhaps ``quick_gelu``.

        Args:
          source: a file, or what is in it. The layout of ``open_clip_config.json``, which holds it under
            ``model_cfg``, is read too.

        Raises:
          ValueError: a field is missing, of a wrong type, or of a variant that is not a plain ViT with a
            text transformer.
        """
        fields = read_json(source) if isinstance(source, str | Path) else source
        if isinstance(fields, Mapping) and "model_cfg" in fields:
            fields = fields["model_cfg"]
        if not isinstance(fields, Mapping):
            raise ValueError(f"A CLIP configuration must be a JSON object. Received: {type(fields).__name__}")
        _check_fields(
            "configuration", fields, _numbers(cls) | {"quick_gelu": bool}, {"vision_cfg", "text_cfg"}
        )
        towers = {}
        for key, tower in (("vision_cfg", VisionConfig), ("text_cfg", TextConfig)):
            values = fields.get(key)
            if not isinstance(values, Mapping):
                raise ValueError(f"{key} must be a JSON object. Received: {values!r}")
            values = {k: v for k, v in values.items() if _NEUTRAL.get(k, _NOTHING) != v}
            _check_fields(key, values, _numbers(tower), set())
            towers[key] = _construct(key, tower, values)
        rest = {k: v for k, v in fields.items() if k not in towers}
        rest |= {"vision": towers["vision_cfg"], "text": towers["text_cfg"]}
        config: ClipConfig = _construct("configuration", cls, rest)
        return config

    def to_json(self) -> dict[str, Any]:
        """OpenCLIP's layout with every field written out; ``from_json`` reads it back."""
        return {
            "embed_dim": self.embed_dim,
            "quick_gelu": self.quick_gelu,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "vision_cfg": dataclasses.asdict(self.vision),
            "text_cfg": dataclasses.asdict(self.text),
        }


def known_names() -> list[str]:
    """Names that ``from_name`` takes, without the suffix ``-quickgelu``."""
    return sorted(_NAMED)


# Fields of newer configurations that change nothing at these values.
_NEUTRAL: dict[str, Any] = {"patch_dropout": 0.0, "ls_init_value": None}
_NOTHING = object()


def _numbers(cls: type) -> dict[str, type]:
    return {f.name: f.type for f in dataclasses.fields(cls) if f.type in (int, float)}  # type: ignore[misc]


def _check_fields(where: str, fields: Mapping[str, Any], types: Mapping[str, type], others: set[str]) -> None:
    unknown = sorted(fields.keys() - types.keys() - others)
    if unknown:
        raise ValueError(
            f"{where} must be of a plain ViT and text transformer, with {sorted({*types, *others})}. "
            f"Received: {unknown}"
        )
    for name, value in fields.items():
        if name in others:
            continue
        allowed = (int, float) if types[name] is float else types[name]
        if not isinstance(value, allowed) or (isinstance(value, bool) and types[name] is not bool):
            raise ValueError(f"{where}.{name} must be {types[name].__name__}. Received: {value!r}")


def _construct(where: str, cls: type, values: Mapping[str, Any]) -> Any:
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{where} lacks a field: {error}. Received: {sorted(values)}") from error


def _check_sizes(config: VisionConfig | TextConfig) -> None:
    for field in dataclasses.fields(config):
        most = _MAX_LAYERS if field.name == "layers" else _MAX_SIZE
        if not 0 < getattr(config, field.name) <= most:
            raise ValueError(f"{field.name} must be positive and at most {most}. Received: {config}")


_BASE_TEXT, _PLUS_TEXT = TextConfig(512, 8, 12), TextConfig(640, 10, 12)
_LARGE_TEXT, _HUGE_TEXT = TextConfig(768, 12, 12), TextConfig(1024, 16, 24)


def _small(patch: int) -> VisionConfig:
    return VisionConfig(224, patch, 384, 12)


def _medium(patch: int) -> VisionConfig:
    return VisionConfig(224, patch, 512, 12)


def _base(patch: int, image: int = 224, width: int = 768) -> VisionConfig:
    return VisionConfig(image, patch, width, 12)


def _large(patch: int, image: int = 224) -> VisionConfig:
    return VisionConfig(image, patch, 1024, 24)


def _huge(patch: int, image: int = 224) -> VisionConfig:
    return VisionConfig(image, patch, 1280, 32, head_width=80)


# embed_dim and the towers of OpenCLIP's configurations.
_NAMED: dict[str, tuple[int, VisionConfig, TextConfig]] = {
    "ViT-S-32-alt": (256, _small(32), TextConfig(256, 4, 10)),
    "ViT-S-16-alt": (256, _small(16), TextConfig(256, 4, 10)),
    "ViT-S-32": (384, _small(32), TextConfig(384, 6, 12)),
    "ViT-S-16": (384, _small(16), TextConfig(384, 6, 12)),
    "ViT-M-32-alt": (384, _medium(32), TextConfig(384, 6, 12)),
    "ViT-M-32": (512, _medium(32), _BASE_TEXT),
    "ViT-M-16": (512, _medium(16), _BASE_TEXT),
    "ViT-B-32": (512, _base(32), _BASE_TEXT),
    "ViT-B-32-256": (512, _base(32, 256), _BASE_TEXT),
    "ViT-B-32-plus-256": (640, _base(32, 256, 896), _PLUS_TEXT),
    "ViT-B-16": (512, _base(16), _BASE_TEXT),
    "ViT-B-16-plus": (640, _base(16, 224, 896), _PLUS_TEXT),
    "ViT-B-16-plus-240": (640, _base(16, 240, 896), _PLUS_TEXT),
    "ViT-L-16": (768, _large(16), _LARGE_TEXT),
    "ViT-L-16-320": (768, _large(16, 320), _LARGE_TEXT),
    "ViT-L-14": (768, _large(14), _LARGE_TEXT),
    "ViT-L-14-280": (768, _large(14, 280), _LARGE_TEXT),
    "ViT-L-14-336": (768, _large(14, 336), _LARGE_TEXT),
    "ViT-H-16": (1024, _huge(16), _HUGE_TEXT),
    "ViT-H-14": (1024, _huge(14), _HUGE_TEXT),
    "ViT-H-14-378": (1024, _huge(14, 378), _HUGE_TEXT),
    "ViT-g-14": (1024, VisionConfig(224, 14, 1408, 40, 88, 4.3637), _HUGE_TEXT),
    "ViT-bigG-14": (1280, VisionConfig(224, 14, 1664, 48, 104, 4.9231), TextConfig(1280, 20, 32)),
    "ViT-e-14": (1280, VisionConfig(224, 14, 1792, 56, 112, 8.5715), TextConfig(1280, 20, 36)),
}
