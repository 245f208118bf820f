"""EIPL's augmentation of colour images: one draw for all frames of a sequence.

A rectangle is erased from every other sequence, then brightness, contrast, hue and saturation change, in this
order; all as torchvision's transforms do, on images in [0, 1], which they stay in.
"""

import dataclasses
import math

import cv2
import numpy as np

_ERASED_SHARE = 0.5
_AREA, _ASPECT = (0.02, 0.33), (0.3, 3.3)
_TRIES = 10
_FACTOR, _HUE = (0.6, 1.4), (0.0, 0.04)
# Weights of red, green and blue in torchvision's grey value.
_GREY = np.array([0.2989, 0.587, 0.114], np.float32)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to one sequence.

    Attributes:
      erased: top, left, height and width of the rectangle that becomes black; None for none.
      brightness, contrast, saturation: factors; 1 changes nothing.
      hue: what is added, in turns of the colour circle.
    """

    erased: tuple[int, int, int, int] | None = None
    brightness: float = 1.0
    contrast: float = 1.0
    hue: float = 0.0
    saturation: float = 1.0


def draw_augmentation(random: np.random.Generator, height: int, width: int) -> Augmentation:
    """Draws for images of a size."""
    erased = _draw_rectangle(random, height, width) if random.uniform() < _ERASED_SHARE else None
    brightness, contrast = random.uniform(*_FACTOR, 2).tolist()
    hue, saturation = random.uniform(*_HUE), random.uniform(*_FACTOR)
    return Augmentation(erased, brightness, contrast, hue, saturation)


def augment(images: np.ndarray, how: Augmentation) -> np.ndarray:
    """Changes the images of a sequence alike.

    Args:
      images: [t, h, w, 3] float32 RGB in [0, 1]; they are kept.
      how: what to do.

    Returns:
      [t, h, w, 3] float32 in [0, 1].
    """
    images = images.copy()
    if how.erased is not None:
        top, left, height, width = how.erased
        images[:, top : top + height, left : left + width] = 0.0
    images = np.clip(images * np.float32(how.brightness), 0.0, 1.0)
    mean = (images @ _GREY).mean(axis=(1, 2))[:, None, None, None]
    images = _blended(images, mean, how.contrast)
    if how.hue:
        images = np.stack([_turned(image, how.hue) for image in images])
    return _blended(images, (images @ _GREY)[..., None], how.saturation)


def _draw_rectangle(random: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int] | None:
    for _ in range(_TRIES):
        area = height * width * random.uniform(*_AREA)
        aspect = math.exp(random.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < height and w < width:
            return int(random.integers(height - h + 1)), int(random.integers(width - w + 1)), h, w
    return None


def _blended(images: np.ndarray, others: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(np.float32(factor) * images + np.float32(1.0 - factor) * others, 0.0, 1.0)


def _turned(image: np.ndarray, turns: float) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # Hue in degrees, for float32.
    hsv[..., 0] = (hsv[..., 0] + np.float32(360.0 * turns)) % 360.0
    return np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), 0.0, 1.0)
