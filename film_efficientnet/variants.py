"""EfficientNet sizes as data (Tan & Le 2019, table 1 and section 4)."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Stage:
    """A row of EfficientNet's table: ``repeats`` MBConv blocks, the first with ``stride``."""

    kernel_size: int
    repeats: int
    filters: int
    expand_ratio: int
    stride: int


@dataclasses.dataclass(frozen=True)
class Variant:
    """One EfficientNet.

    Attributes:
      width: factor of the numbers of channels.
      depth: factor of the numbers of blocks.
      resolution: the image size it was designed for, in pixels.
      stages: before scaling.
      stem_filters, top_filters: before scaling.
    """

    width: float
    depth: float
    resolution: int
    stages: tuple[Stage, ...]
    stem_filters: int = 32
    top_filters: int = 1280


@dataclasses.dataclass(frozen=True)
class Block:
    """One MBConv block after scaling; ``name`` is Keras' (``block1a``)."""

    name: str
    kernel_size: int
    filters_in: int
    filters_out: int
    expand_ratio: int
    stride: int


SE_RATIO = 0.25
_WIDTH_DIVISOR = 8

_B_STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 2, 24, 6, 2),
    Stage(5, 2, 40, 6, 2),
    Stage(3, 3, 80, 6, 2),
    Stage(5, 3, 112, 6, 1),
    Stage(5, 4, 192, 6, 2),
    Stage(3, 1, 320, 6, 1),
)

VARIANTS: dict[str, Variant] = {
    "b0": Variant(1.0, 1.0, 224, _B_STAGES),
    "b3": Variant(1.2, 1.4, 300, _B_STAGES),
    # For demonstrations and tests that learn from scratch in minutes on a CPU: 1/8 of the resolution
    # is kept, which small images need.
    "tiny": Variant(
        1.0,
        1.0,
        64,
        (Stage(3, 1, 16, 1, 1), Stage(3, 2, 32, 4, 2), Stage(5, 2, 64, 4, 2)),
        stem_filters=16,
        top_filters=128,
    ),
}


def variant(name: str) -> Variant:
    """The variant of that name; ValueError lists those there are."""
    if name not in VARIANTS:
        raise ValueError(f"EfficientNet variant must be one of {sorted(VARIANTS)}. Received: {name!r}")
    return VARIANTS[name]


def round_filters(filters: float, width: float) -> int:
    """Scales a number of channels to a multiple of 8, never by more than 10 % down."""
    scaled = filters * width
    rounded = max(_WIDTH_DIVISOR, int(scaled + _WIDTH_DIVISOR / 2) // _WIDTH_DIVISOR * _WIDTH_DIVISOR)
    if rounded < 0.9 * scaled:
        rounded += _WIDTH_DIVISOR
    return rounded


def blocks(v: Variant) -> tuple[Block, ...]:
    """All MBConv blocks of a variant, in order."""
    result = []
    filters_in = round_filters(v.stem_filters, v.width)
    for i, stage in enumerate(v.stages):
        filters_out = round_filters(stage.filters, v.width)
        for j in range(math.ceil(stage.repeats * v.depth)):
            stride = stage.stride if j == 0 else 1
            name = f"block{i + 1}{chr(ord('a') + j)}"
            result.append(Block(name, stage.kernel_size, filters_in, filters_out, stage.expand_ratio, stride))
            filters_in = filters_out
    return tuple(result)
