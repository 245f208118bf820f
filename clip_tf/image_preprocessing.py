"""Images as CLIP's image tower takes them, equal to OpenCLIP's to the last bit."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
SHORTEST, SQUASH = "shortest", "squash"
# Resizing keeps a side's proportion before it crops, so a thread of an image would fill the memory.
MAX_ASPECT = 100
_MODES = ("RGB", "RGBA", "RGBX", "L", "LA", "P", "PA", "1", "CMYK", "YCbCr", "HSV", "LAB", "La", "RGBa")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What is done to an image.

    Attributes:
      size: side of the result in pixels.
      mean, std: of the channels of images in [0, 1].
      resize_mode: ``shortest`` scales the shorter side to ``size`` and crops the centre; ``squash`` scales
        both sides.
    """

    size: int
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    resize_mode: str = SHORTEST

    def __post_init__(self) -> None:
        if not 0 < self.size <= 4096:
            raise ValueError(f"size must be in 1..4096. Received: {self.size}")
        if self.resize_mode not in (SHORTEST, SQUASH):
            raise ValueError(f"resize_mode must be {SHORTEST} or {SQUASH}. Received: {self.resize_mode!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or not min(self.std) > 0:
            raise ValueError(
                f"mean and std must be three numbers, std positive. Received: {self.mean}, {self.std}"
            )

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], size: int) -> "Preprocessing":
        """Reads OpenCLIP's ``preprocess_cfg``.

        Args:
          fields: it; what it does not name is as OpenCLIP's default.
          size: the image tower's, with which a named size must agree.

        Raises:
          ValueError: it asks for something else than bicubic resizing of RGB to that size.
        """
        named = fields.get("size", size)
        if named not in (size, [size, size], (size, size)):
            raise ValueError(f"preprocess_cfg.size must be the image tower's {size}. Received: {named!r}")
        for key, only in (("interpolation", "bicubic"), ("mode", "RGB")):
            if fields.get(key, only) != only:
                raise ValueError(f"preprocess_cfg.{key} must be {only}. Received: {fields[key]!r}")
        try:
            mean, std = (tuple(map(float, fields.get(k, v))) for k, v in (("mean", MEAN), ("std", STD)))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"preprocess_cfg mean and std must be numbers. Received: {dict(fields)}"
            ) from error
        return cls(size, mean, std, fields.get("resize_mode", SHORTEST))  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """OpenCLIP's ``preprocess_cfg``."""
        return {
            "size": self.size,
            "mode": "RGB",
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": "bicubic",
            "resize_mode": self.resize_mode,
        }


def preprocess(image: np.ndarray | Image.Image, how: Preprocessing | int) -> np.ndarray:
    """Resizes, crops and normalises an image.

    Args:
      image: uint8 [h, w, 3] RGB, or a picture of Pillow's, which is converted to RGB after resizing as
        OpenCLIP does (alpha is dropped).
      how: what is done; a number is a size with OpenAI's mean and deviation.

    Returns:
      [size, size, 3] float32.

    Raises:
      ValueError: the image is of another kind or empty, or one side is over 100 times the other.
    """
    how = Preprocessing(how) if isinstance(how, int) else how
    return normalize(resize_and_crop(image, how.size, how.resize_mode), how)


def normalize(pixels: np.ndarray, how: Preprocessing) -> np.ndarray:
    """(pixels / 255 - mean) / std in float32, of uint8 […, 3]."""
    scaled = pixels.astype(np.float32) / np.float32(255)
    return (scaled - np.asarray(how.mean, np.float32)) / np.asarray(how.std, np.float32)


def resize_and_crop(image: np.ndarray | Image.Image, size: int, resize_mode: str = SHORTEST) -> np.ndarray:
    """The geometry of ``preprocess`` alone.

    Args:
      image: as for ``preprocess``.
      size: side of the result.
      resize_mode: as in ``Preprocessing``.

    Returns:
      uint8 [size, size, 3] RGB.

    Raises:
      ValueError: as for ``preprocess``.
    """
    picture = _picture(image)
    width, height = picture.size
    check_sides(height, width)
    if resize_mode == SQUASH:
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    else:
        width, height = resized_sides(width, height, size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - size) / 2.0), round((height - size) / 2.0)
        picture = picture.crop((left, top, left + size, top + size))
    return np.asarray(picture.convert("RGB"))


def resized_sides(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height of an image whose shorter side becomes ``size``, before its centre is cropped."""
    short = min(width, height)
    # Truncated from the quotient of floats, as torchvision does.
    return int(size * width / short), int(size * height / short)


def check_sides(height: int, width: int) -> None:
    """Raises ValueError for an empty image and for one much longer than wide."""
    if min(height, width) < 1 or max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(
            f"An image must have pixels, and no side over {MAX_ASPECT} times the other. "
            f"Received: {height} high, {width} wide"
        )


def check_mode(picture: Image.Image) -> None:
    """Raises ValueError for a picture of more than 8 bits a channel: Pillow would clip it to white."""
    if picture.mode not in _MODES:
        raise ValueError(f"An image must have 8 bits a channel. Received: mode {picture.mode}")


def _picture(image: np.ndarray | Image.Image) -> Image.Image:
    if isinstance(image, Image.Image):
        check_mode(image)
        return image
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"An image must be uint8 [h, w, 3] RGB or a Pillow image. Received: {got}")
    check_sides(*image.shape[:2])
    return Image.fromarray(image)
