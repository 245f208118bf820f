"""Uncompressed images (``sensor_msgs/Image``), by ROS' names of encodings.

Rows lie ``step`` bytes apart, so that they may be padded; the last one need not be. Names without a colour
order (``8UC3``, ``8UC4``) are OpenCV's and mean BGR, as ROS' own viewers take them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from episodes.images.pixels import (
    COLOUR,
    DEPTH,
    MAX_PIXELS,
    ImageError,
    integer_depth_to_mm,
    metres_to_mm,
    to_8_bit,
)

_RGB = -1  # In the place of an OpenCV code: nothing to convert.


@dataclasses.dataclass(frozen=True)
class _Encoding:
    """How pixels lie in memory.

    Attributes:
      dtype: of an element, without byte order: ``u1``, ``u2`` or ``f4``.
      channels: elements of a pixel.
      code: OpenCV's conversion to RGB; None where it is no colour.
      depth: whether it may be depth.
      even_width: two pixels share their colour.
    """

    dtype: str
    channels: int
    code: int | None
    depth: bool = False
    even_width: bool = False


# OpenCV's older names of Bayer patterns are ROS' shifted by a row and a column; these newer ones are ROS'.
_BAYER: Mapping[str, int] = {
    "rggb": cv2.COLOR_BayerRGGB2RGB,
    "bggr": cv2.COLOR_BayerBGGR2RGB,
    "gbrg": cv2.COLOR_BayerGBRG2RGB,
    "grbg": cv2.COLOR_BayerGRBG2RGB,
}
_UYVY = _Encoding("u1", 2, cv2.COLOR_YUV2RGB_UYVY, even_width=True)
_YUYV = _Encoding("u1", 2, cv2.COLOR_YUV2RGB_YUYV, even_width=True)

ENCODINGS: Mapping[str, _Encoding] = {
    "rgb8": _Encoding("u1", 3, _RGB),
    "bgr8": _Encoding("u1", 3, cv2.COLOR_BGR2RGB),
    "8uc3": _Encoding("u1", 3, cv2.COLOR_BGR2RGB),
    "rgba8": _Encoding("u1", 4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding("u1", 4, cv2.COLOR_BGRA2RGB),
    "8uc4": _Encoding("u1", 4, cv2.COLOR_BGRA2RGB),
    "rgb16": _Encoding("u2", 3, _RGB),
    "bgr16": _Encoding("u2", 3, cv2.COLOR_BGR2RGB),
    "rgba16": _Encoding("u2", 4, cv2.COLOR_RGBA2RGB),
    "bgra16": _Encoding("u2", 4, cv2.COLOR_BGRA2RGB),
    "mono8": _Encoding("u1", 1, cv2.COLOR_GRAY2RGB),
    "8uc1": _Encoding("u1", 1, cv2.COLOR_GRAY2RGB),
    "mono16": _Encoding("u2", 1, cv2.COLOR_GRAY2RGB, depth=True),
    "16uc1": _Encoding("u2", 1, None, depth=True),
    "32fc1": _Encoding("f4", 1, None, depth=True),
    **{f"bayer_{pattern}8": _Encoding("u1", 1, code) for pattern, code in _BAYER.items()},
    **{f"bayer_{pattern}16": _Encoding("u2", 1, code) for pattern, code in _BAYER.items()},
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
}


def raw_kind(message: Any) -> str:
    """``depth`` where the encoding may be depth, else ``colour``."""
    return DEPTH if _encoding(message).depth else COLOUR


def decode_raw(message: Any, kind: str, depth_unit_m: float | None) -> np.ndarray:
    """See ``episodes.images.decode_image``."""
    encoding = _encoding(message)
    if (kind == DEPTH and not encoding.depth) or (kind == COLOUR and encoding.code is None):
        raise ImageError(f"A {kind} image is wanted. Received: {_description(message)}")
    pixels = _pixels(message, encoding)
    if kind == DEPTH:
        return metres_to_mm(pixels) if encoding.dtype == "f4" else integer_depth_to_mm(pixels, depth_unit_m)
    if encoding.dtype == "u2":
        pixels = to_8_bit(pixels)
    if encoding.code is None or encoding.code == _RGB:
        return np.array(pixels)
    return cv2.cvtColor(np.ascontiguousarray(pixels), encoding.code)


def _encoding(message: Any) -> _Encoding:
    found = ENCODINGS.get(str(message.encoding).strip().lower())
    if found is None:
        raise ImageError(
            f"The encodings {', '.join(ENCODINGS)} can be decoded. Received: {_description(message)}"
        )
    return found


def _pixels(message: Any, encoding: _Encoding) -> np.ndarray:
    """A view of the message's data: [H, W] or [H, W, channels] in the machine's byte order."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ImageError(f"An image must have 1 to {MAX_PIXELS} pixels. Received: {_description(message)}")
    if encoding.even_width and width % 2:
        raise ImageError(f"Its width must be even. Received: {_description(message)}")
    dtype = np.dtype(f"{'>' if message.is_bigendian else '<'}{encoding.dtype}")
    row = width * encoding.channels * dtype.itemsize
    if step < row:
        raise ImageError(f"Its step must be at least {row} bytes. Received: {_description(message)}")
    data = memoryview(message.data).cast("B")
    needed = (height - 1) * step + row
    # More than asked for means that size or step are not those of the data: the pixels would be wrong.
    if not needed <= len(data) <= height * step:
        raise ImageError(
            f"Its data must have {needed} to {height * step} bytes. Received: {_description(message)}"
        )
    strides = (step, encoding.channels * dtype.itemsize, dtype.itemsize)
    pixels = np.ndarray((height, width, encoding.channels), dtype, data, 0, strides)
    native = pixels if dtype.isnative else pixels.astype(dtype.newbyteorder("="))
    return native[..., 0] if encoding.channels == 1 else native


def _description(message: Any) -> str:
    return (
        f"an image of encoding {message.encoding!r}, {message.width} x {message.height}, "
        f"step {message.step}, {len(message.data)} bytes"
    )
