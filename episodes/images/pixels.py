"""What raw and compressed images share: error, largest size, and the way to 8 bits and millimetres."""

import numpy as np

# More than any camera on a robot; a header that claims more is a broken or a hostile one.
MAX_PIXELS = 100_000_000
COLOUR, DEPTH = "colour", "depth"
_MAX_MM = 65535


class ImageError(ValueError):
    """A message that holds no image, or none of the wanted kind; says encoding, size, step and bytes."""


def to_8_bit(values: np.ndarray) -> np.ndarray:
    """uint16 to uint8: 65535 becomes 255, rounded to the nearest."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def integer_depth_to_mm(values: np.ndarray, unit_m: float | None) -> np.ndarray:
    """uint16 depth in units of ``unit_m`` metres (None: millimetres) to uint16 millimetres, at most 65535."""
    if unit_m is None:
        return np.array(values, np.uint16)
    return np.clip(np.rint(values * (unit_m * 1000.0)), 0, _MAX_MM).astype(np.uint16)


def metres_to_mm(metres: np.ndarray) -> np.ndarray:
    """Float depth in metres to uint16 millimetres: rounded, at most 65535; 0 where it is not a distance."""
    known = np.isfinite(metres) & (metres > 0)
    millimetres = np.where(known, metres, 0).astype(np.float64) * 1000.0
    return np.clip(np.rint(millimetres), 0, _MAX_MM).astype(np.uint16)
