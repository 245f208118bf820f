"""Images from clients: base64 text to RGB pixels, with limits checked before anything is decoded."""

import base64
import binascii
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from serving.errors import ApiError

FORMATS: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "BMP")
SUFFIXES: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)
_WHITESPACE = re.compile(r"\s+")
# Modes of 16-bit gray PNGs, which Pillow would clip to white when asked for RGB.
_GRAY_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_DEEP_MODES = (*_GRAY_16, "F")


def decode_base64(text: str, max_bytes: int, field: str = "image") -> bytes:
    """The bytes of an image in base64, with or without a ``data:image/…;base64,`` prefix.

    Raises:
      ApiError: 413 above ``max_bytes``, 422 where it is empty or not base64.
    """
    prefix = _DATA_URI.match(text)
    if prefix:
        text = text[prefix.end() :]
    text = _WHITESPACE.sub("", text)
    if not text:
        raise ApiError(422, "missing_image", "An image in base64 is needed. Received: an empty text.", field)
    if len(text) // 4 * 3 - text[-2:].count("=") > max_bytes:
        raise ApiError(413, "image_too_large", f"An image may have {max_bytes} bytes.", field)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(422, "invalid_base64", f"Not base64: {error}.", field) from error


def decode_image(data: bytes, max_pixels: int, field: str = "image") -> np.ndarray:
    """Decodes a PNG, JPEG, WEBP or BMP file.

    Alpha is dropped, gray and palette images become RGB. An EXIF orientation is ignored, as training
    reads images; the size stays as it is, for resizing belongs to the policy.

    Returns:
      [height, width, 3] uint8, RGB.

    Raises:
      ApiError: 413 above ``max_pixels`` (read from the header), 415 for another format or more than
        8 bits a channel, 422 where it cannot be decoded.
    """
    return _decode(data, max_pixels, field, _rgb)


def decode_gray(data: bytes, max_pixels: int, dtype: str, field: str) -> np.ndarray:
    """Decodes an image of one channel: a gray one of 8 bits, or a PNG of 16 bits (depth in millimetres).

    Args:
      data: the file.
      max_pixels: as for ``decode_image``.
      dtype: ``uint8`` or ``uint16``; an image of the other depth is refused, for its values would mean
        something else.
      field: of the request.

    Returns:
      [height, width] of that type.

    Raises:
      ApiError: as ``decode_image``; 415 for colours or another number of bits.
    """
    return _decode(data, max_pixels, field, _gray_16 if dtype == "uint16" else _gray_8)


def _decode(
    data: bytes, max_pixels: int, field: str, read: Callable[[Image.Image], np.ndarray]
) -> np.ndarray:
    # Decoders raise nearly anything on hostile bytes, hence the broad excepts at this threshold.
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise ApiError(
            415, "unsupported_image", f"Not an image of the formats {', '.join(FORMATS)}.", field
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(max_pixels, field) from error
    except Exception as error:
        raise _undecodable(error, field) from error
    with image:
        if image.width * image.height > max_pixels:
            raise _too_many_pixels(max_pixels, field)
        try:
            return read(image)
        except _WrongModeError as error:
            message = f"{error} Received: mode {image.mode}."
            raise ApiError(415, "unsupported_image", message, field) from error
        except Exception as error:
            raise _undecodable(error, field) from error


class _WrongModeError(Exception):
    """The pixels are of another kind than asked for."""


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode in _DEEP_MODES:
        raise _WrongModeError("8 bits a channel are needed.")
    # A copy, for Pillow's own buffer is read-only.
    return np.array(image.convert("RGB"))


def _gray_8(image: Image.Image) -> np.ndarray:
    if image.mode != "L":
        raise _WrongModeError("A gray image of 8 bits is needed.")
    return np.array(image)


def _gray_16(image: Image.Image) -> np.ndarray:
    if image.mode not in _GRAY_16:
        raise _WrongModeError("A gray PNG of 16 bits is needed.")
    # Mode I has 32 bits, of which a PNG fills 16.
    return np.array(image).astype(np.uint16)


def read_image(path: Path, max_bytes: int, max_pixels: int) -> np.ndarray:
    """Reads an image file: [height, width, 3] uint8, RGB.

    Raises:
      ApiError: as ``decode_image``; 413 above ``max_bytes``, 404 where the file cannot be read.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise ApiError(413, "image_too_large", f"An image may have {max_bytes} bytes.", "image")
        data = path.read_bytes()
    except OSError as error:
        raise ApiError(404, "unreadable_file", f"{error.strerror}: {path}", "image") from error
    return decode_image(data, max_pixels)


def _too_many_pixels(limit: int, field: str) -> ApiError:
    return ApiError(413, "image_too_large", f"An image may have {limit} pixels.", field)


def _undecodable(error: Exception, field: str) -> ApiError:
    return ApiError(422, "undecodable_image", f"The image is damaged ({type(error).__name__}).", field)
