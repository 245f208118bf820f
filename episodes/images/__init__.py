"""Image messages of ROS, raw or compressed, as the episode's frames: RGB, or depth in millimetres."""

from typing import Any

import cv2
import numpy as np

from episodes.episode import field as contract_field
from episodes.images.compressed import compressed_kind, decode_compressed, decode_encoded
from episodes.images.pixels import COLOUR, DEPTH, MAX_PIXELS, ImageError
from episodes.images.raw import decode_raw, raw_kind

__all__ = [
    "COLOUR",
    "DEPTH",
    "MAX_PIXELS",
    "ImageError",
    "decode_encoded",
    "decode_frame",
    "decode_image",
    "is_depth",
    "resize",
]


def decode_image(message: Any, *, depth_unit_m: float | None = None, kind: str | None = None) -> np.ndarray:
    """Decodes a ``sensor_msgs`` Image or CompressedImage.

    The message is known by its fields: ``encoding`` (with ``height``, ``width``, ``step``, ``is_bigendian``)
    or ``format``, and ``data``.

    16-bit colour becomes 8 bits (65535 -> 255, rounded), gray becomes RGB, alpha is dropped. An EXIF
    orientation is ignored: pixels stay as the camera sent them. Float depth is in metres, as ROS' REP 118
    says; NaN, infinity and what is not positive become 0 (unknown), and more than 65.535 m becomes 65535.

    Args:
      message: with arrays or bytes as data.
      depth_unit_m: metres of a unit of integer depth; None for millimetres.
      kind: ``colour`` or ``depth``. None goes by the encoding: 16UC1, 32FC1, compressedDepth, 16-bit gray
        PNG and mono16 are depth. Some cameras send gray images as mono16: asked for as colour, they are.

    Returns:
      uint8 [H, W, 3] RGB, or uint16 [H, W] in millimetres; a new array.

    Raises:
      ImageError: an unknown encoding or format, sizes that do not fit the data, more than ``MAX_PIXELS``,
        damage, or an image of the other kind.
    """
    if kind not in (None, COLOUR, DEPTH):
        raise ValueError(f"kind must be {COLOUR!r} or {DEPTH!r}. Received: {kind!r}")
    if hasattr(message, "encoding"):
        return decode_raw(message, kind or raw_kind(message), depth_unit_m)
    if hasattr(message, "format"):
        return decode_compressed(message, kind or compressed_kind(message), depth_unit_m)
    raise ImageError(
        f"An Image or a CompressedImage of sensor_msgs is wanted. Received: {type(message).__name__}"
    )


def decode_frame(message: Any, field: str, *, depth_unit_m: float | None = None) -> np.ndarray:
    """Decodes a message for one field of an episode; see ``decode_image``.

    Args:
      message: as there.
      field: of the contract, e.g. ``observation/depth``; it decides between colour and depth.
      depth_unit_m: as there.

    Raises:
      ImageError: as there; the message names the field.
      ValueError: the contract has no such field.
    """
    kind = DEPTH if contract_field(field).dtype == "uint16" else COLOUR
    try:
        return decode_image(message, depth_unit_m=depth_unit_m, kind=kind)
    except ImageError as error:
        raise ImageError(f"{field}: {error}") from error


def is_depth(message: Any) -> bool:
    """Whether ``decode_image`` takes a message for depth when it is not told.

    Raises:
      ImageError: the encoding is unknown.
    """
    return (raw_kind(message) if hasattr(message, "encoding") else compressed_kind(message)) == DEPTH


def resize(image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Brings a frame to a size: colour by area averaging (linear where it grows), depth by nearest.

    Depth is never averaged: between near and far there is nothing.

    Args:
      image: uint8 [H, W, 3] or uint16 [H, W].
      size: (height, width); None leaves it.
    """
    if size is None or image.shape[:2] == size:
        return image
    height, width = size
    if image.ndim == 2:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
