"""Frames as they are stored: JPEG or PNG for colour and touch, 16-bit PNG for depth."""

import cv2
import numpy as np

from episodes.episode import DEPTH

JPEG, PNG = "jpeg", "png"
# On depth of 640 x 480 as small as level 3 and twice as fast (12 ms); level 6 saves 2 to 20 % for 70 ms.
_PNG_OPTIONS = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FAST_FILTERS)


def encoding_of(field: str, colour_encoding: str) -> str:
    """``jpeg`` or ``png``: depth loses nothing, whatever is chosen for colour."""
    return PNG if field == DEPTH else colour_encoding


def encode_image(image: np.ndarray, encoding: str, jpeg_quality: int = 95) -> bytes:
    """Encodes one frame; the same frame always gives the same bytes.

    Args:
      image: uint8 [H, W, 3] RGB, or uint16 [H, W] in millimetres (PNG only).
      encoding: ``jpeg`` (chroma at half resolution, as cameras store it) or ``png``.
      jpeg_quality: 1 to 100.

    Raises:
      ValueError: another type or shape, or an image that the format cannot hold.
    """
    colour = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    depth = image.dtype == np.uint16 and image.ndim == 2 and encoding == PNG
    if encoding not in (JPEG, PNG) or not (colour or depth) or not image.size:
        raise ValueError(
            "A frame must be uint8 [H, W, 3] for jpeg or png, or uint16 [H, W] for png. "
            f"Received: {image.dtype} {list(image.shape)} for {encoding!r}"
        )
    options = (cv2.IMWRITE_JPEG_QUALITY, jpeg_quality) if encoding == JPEG else _PNG_OPTIONS
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if colour else image
    try:
        done, encoded = cv2.imencode(f".{encoding}", pixels, options)
    except cv2.error as error:
        raise ValueError(f"OpenCV cannot encode this as {encoding}: {error}") from error
    if not done:
        raise ValueError(f"OpenCV cannot encode this as {encoding}. Received: {list(image.shape)}")
    return encoded.tobytes()
