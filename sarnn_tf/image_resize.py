"""Resizing of image sequences as the published data sets were resized, by OpenCV."""

import cv2
import numpy as np

INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST}


def resize(images: np.ndarray, height: int, width: int, interpolation: str = "area") -> np.ndarray:
    """Resizes images.

    Args:
      images: [h, w] or [..., h, w, c] uint8, uint16 or float32, with 1 to 4 channels.
      height, width: of the result.
      interpolation: ``linear`` (EIPL; no antialiasing), ``area`` (CLIP-SARNN; the mean of the covered
        pixels when shrinking) or ``nearest`` (for depth: no value that was not there).

    Returns:
      The type of ``images``, [..., height, width(, c)].

    Raises:
      ValueError: an unknown interpolation, a size below 1, or fewer than two axes.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation must be one of {tuple(INTERPOLATIONS)}. Received: {interpolation!r}")
    if height < 1 or width < 1 or images.ndim < 2:
        raise ValueError(f"Cannot resize {images.shape} images. Received: height={height}, width={width}")
    if images.ndim == 2:
        return cv2.resize(images, (width, height), interpolation=INTERPOLATIONS[interpolation])
    *leading, h, w, channels = images.shape
    resized = np.empty([int(np.prod(leading)), height, width, channels], images.dtype)
    for i, image in enumerate(images.reshape(-1, h, w, channels)):
        # OpenCV drops the axis of a single channel.
        result = cv2.resize(image, (width, height), interpolation=INTERPOLATIONS[interpolation])
        resized[i] = result.reshape(height, width, channels)
    return resized.reshape(*leading, height, width, channels)
