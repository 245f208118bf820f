"""Compressed images (``sensor_msgs/CompressedImage``): JPEG, PNG, and ROS' compressedDepth.

``format`` is free text that drivers fill as they like (``jpeg``, ``jpg``, ``bgr8; jpeg compressed bgr8``), so
the first bytes of the data decide. Only what the data cannot say is taken from the text, where publishers of
ROS write it first: whether 16-bit gray is depth or a gray image, and the type of a compressedDepth image.
"""

import io
import struct
from typing import Any

import cv2
import numpy as np
from PIL import Image

from episodes.images.pixels import (
    COLOUR,
    DEPTH,
    MAX_PIXELS,
    ImageError,
    integer_depth_to_mm,
    metres_to_mm,
    to_8_bit,
)

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# compressed_depth_image_transport's header: format int32, then two float32 of the quantisation.
_DEPTH_HEADER = struct.Struct("<iff")
_PNG_BITS, _PNG_COLOUR_TYPE, _PNG_GRAY = 24, 25, 0
_UNCHANGED = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION


def compressed_kind(message: Any) -> str:
    """``depth`` for compressedDepth and for 16-bit gray PNG, else ``colour``."""
    data = _data(message)
    return DEPTH if _is_compressed_depth(data) or _is_deep_gray(data) else COLOUR


def decode_compressed(message: Any, kind: str, depth_unit_m: float | None) -> np.ndarray:
    """See ``episodes.images.decode_image``."""
    data = _data(message)
    if _is_compressed_depth(data):
        if kind != DEPTH:
            raise ImageError(f"A {kind} image is wanted. Received: {_description(message)}")
        return _decode_depth(message, data, depth_unit_m)
    if not data.startswith((_PNG, _JPEG)):
        if "rvl" in str(message.format).lower():
            raise ImageError(f"compressedDepth by RVL cannot be decoded, PNG can. {_received(message)}")
        raise ImageError(f"A JPEG or a PNG is wanted. {_received(message)}")
    is_depth = _is_deep_gray(data)
    gray_of_16_bits = is_depth and _type_in_text(message) == "mono16"
    if is_depth != (kind == DEPTH) and not (kind == COLOUR and gray_of_16_bits):
        raise ImageError(f"A {kind} image is wanted. {_received(message)}")
    pixels = _decode(message, data)
    return integer_depth_to_mm(pixels, depth_unit_m) if kind == DEPTH else _rgb(pixels)


def decode_encoded(data: bytes, kind: str = COLOUR) -> np.ndarray:
    """Decodes the bytes of a JPEG or PNG file, such as a data set's image column holds.

    Args:
      data: the file.
      kind: ``colour``, or ``depth`` for 16-bit gray PNG.

    Returns:
      uint8 [H, W, 3] RGB, or uint16 [H, W].

    Raises:
      ImageError: it is neither, is damaged, or is not of the kind.
    """
    return decode_compressed(_File(data), kind, None)


class _File:
    format = ""

    def __init__(self, data: bytes) -> None:
        self.data = data


def _decode_depth(message: Any, data: bytes, depth_unit_m: float | None) -> np.ndarray:
    stored = _type_in_text(message)
    if stored not in ("16uc1", "mono16", "32fc1"):
        raise ImageError(
            f"The format of a compressedDepth image must begin with 16UC1 or 32FC1. {_received(message)}"
        )
    pixels = _decode(message, data[_DEPTH_HEADER.size :])
    if pixels.ndim != 2 or pixels.dtype != np.uint16:
        raise ImageError(f"A compressedDepth image must hold a 16-bit gray PNG. {_received(message)}")
    if stored != "32fc1":
        return integer_depth_to_mm(pixels, depth_unit_m)
    _, a, b = _DEPTH_HEADER.unpack_from(data)
    if not (np.isfinite(a) and np.isfinite(b) and a > 0):
        raise ImageError(f"Its quantisation {a}, {b} is damaged. {_received(message)}")
    # The publisher stores A / depth + B, and 0 where there is no depth.
    inverse = (pixels.astype(np.float64) - b) / a
    with np.errstate(divide="ignore"):
        return metres_to_mm(np.where(pixels > 0, 1.0 / inverse, 0.0))


def _decode(message: Any, data: bytes) -> np.ndarray:
    """[H, W], [H, W, 3] BGR or [H, W, 4] BGRA, uint8 or uint16."""
    # Decoders raise nearly anything on hostile bytes, hence the broad except.
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as header:
            width, height = header.size
    except Exception as error:
        raise ImageError(f"The image's header is damaged ({error}). {_received(message)}") from error
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"An image must have at most {MAX_PIXELS} pixels, not {width} x {height}. {_received(message)}"
        )
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"The image is damaged ({error}). {_received(message)}") from error
    if pixels is None or pixels.shape[:2] != (height, width):
        raise ImageError(f"The image of {width} x {height} is damaged or cut off. {_received(message)}")
    return pixels


def _rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint16:
        pixels = to_8_bit(pixels)
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _data(message: Any) -> bytes:
    data = message.data
    return data.tobytes() if isinstance(data, np.ndarray) else bytes(data)


def _is_compressed_depth(data: bytes) -> bool:
    return data.startswith(_PNG, _DEPTH_HEADER.size) and not data.startswith((_PNG, _JPEG))


def _is_deep_gray(data: bytes) -> bool:
    fits = data.startswith(_PNG) and len(data) > _PNG_COLOUR_TYPE
    return fits and data[_PNG_BITS] == 16 and data[_PNG_COLOUR_TYPE] == _PNG_GRAY


def _type_in_text(message: Any) -> str:
    """What ROS' publishers write before the semicolon: the encoding of the image before compression."""
    return str(message.format).partition(";")[0].strip().lower()


def _description(message: Any) -> str:
    data = _data(message)
    return f"a compressed image of format {message.format!r}, {len(data)} bytes, beginning with {data[:16]!r}"


def _received(message: Any) -> str:
    return f"Received: {_description(message)}"
