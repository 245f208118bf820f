"""The recipe of CLIP's recordings: inputs from seeds, stand-in weights by key (golden/README_clip.md)."""

import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clip_tf.clip_model import ClipModel, openclip_variables
from clip_tf.model_config import ClipConfig, TextConfig, VisionConfig
from clip_tf.tokenizer import tokenize
from clip_tf.weights.layout import LOGIT_SCALE, from_openclip, openclip_shapes
from core.load_report import Shape
from tests.golden.golden_weights import fill

TEXTS = (
    "what motion should the robot arm perform to complete the instruction 'close the laptop'?",
    "a",
    "",
    " ".join(["word"] * 100),
    "open the gripper",
)
# Seeds of the synthetic images with their sizes.
IMAGES = {"a": (37, 53, 1), "b": (480, 640, 2), "c": (301, 224, 3), "d": (720, 405, 4)}


def tiny_config(quick_gelu: bool) -> ClipConfig:
    """The configuration of ``model_tiny``."""
    vision = VisionConfig(image_size=32, patch_size=8, width=64, layers=2, head_width=32)
    return ClipConfig(64, vision, TextConfig(width=64, heads=4, layers=2), quick_gelu)


def config_of(stem: str) -> ClipConfig:
    """The configuration of ``model_vit_b32_quickgelu`` and its like."""
    match = re.fullmatch(r"model_vit_([a-z]+?)_?(\d+)(?:_(\d+))?(_quickgelu)?", stem)
    assert match, f"no recipe for this recording: {stem}"
    letter, patch, size, quick = match.groups()
    name = "-".join(["ViT", letter.upper(), patch, *([size] if size else [])])
    return ClipConfig.from_name(name + (quick or "").replace("_", "-"))


def standin(key: str, shape: Shape) -> np.ndarray:
    """A stand-in weight in PyTorch's layout."""
    return np.asarray(np.log(1 / 0.07), np.float32) if key == LOGIT_SCALE else fill(key, shape)


def filled(config: ClipConfig, dtype: str = "float32") -> ClipModel:
    """A model with the stand-in weights."""
    model = ClipModel(config, dtype, seed=None)
    shapes = openclip_shapes(config)
    for key, variable in openclip_variables(model).items():
        variable.assign(from_openclip(key, standin(key, shapes[key])).astype(variable.dtype.as_numpy_dtype))
    return model


def rnd(name: str, shape: Shape) -> np.ndarray:
    """The recording's random array of that name."""
    rng = np.random.Generator(np.random.Philox(zlib.crc32(name.encode())))
    return rng.standard_normal(shape, dtype=np.float32)


def text_ids() -> np.ndarray:
    """int32 [5, 77]."""
    return tokenize(TEXTS)


def synth(height: int, width: int, seed: int) -> np.ndarray:
    """uint8 [h, w, 3]: two ramps, a chequerboard and noise."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    ramps = [x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x // 8 + y // 8) % 2 * 255]
    noise = np.random.Generator(np.random.Philox(seed)).integers(
        0, 48, size=(height, width, 3), dtype=np.int64
    )
    return np.clip(np.stack(ramps, -1) + noise - 24, 0, 255).astype(np.uint8)


def crc(array: np.ndarray) -> int:
    """crc32 of the bytes in C order."""
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def assert_close(got: np.ndarray, want: np.ndarray, tolerance: float, what: str) -> None:
    """Absolute difference; shapes must agree."""
    got = np.asarray(got)
    assert got.shape == want.shape, (what, got.shape, want.shape)
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance, err_msg=what)


def load(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a recording."""
    with np.load(path) as recorded:
        return {name: recorded[name] for name in recorded.files}


def assert_each_is_compared(
    recorded: Mapping[str, Any], check: Callable[[Mapping[str, Any]], object], exceptions: Iterable[str] = ()
) -> None:
    """Damages every array of a recording in turn: the check that passed must fail.

    Args:
      recorded: name -> array, number or text.
      check: the comparison; it raises AssertionError where it sees a difference.
      exceptions: names that are inputs, or may not be compared.
    """
    ignored = [name for name in recorded if name not in exceptions]
    for name in list(ignored):
        try:
            check({**recorded, name: damaged(recorded[name])})
        except AssertionError:
            ignored.remove(name)
    assert not ignored, f"recorded, but compared with nothing: {ignored}"


def damaged(value: Any) -> Any:
    """The same with another last element; of what is no number, another value."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
        value = np.array(value, order="C")
        last = value.reshape(-1)[-1:]
        last += 1 + abs(last) if value.dtype.kind == "f" else 1
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value + 1
    if isinstance(value, (bool, np.bool_)):
        return not value
    if isinstance(value, list):
        return [*value[:-1], damaged(value[-1])]
    return np.asarray("[]") if isinstance(value, np.ndarray) else "damaged"
