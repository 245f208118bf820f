"""Affine maps between raw values and the ranges that a network sees."""

import numpy as np

# Of a value, or of 1 for small ones: a joint that stands still would else be blown up to the whole range.
_STILL = 1e-6


def bounds_of(data: np.ndarray) -> np.ndarray:
    """The smallest and the largest value of every component.

    Args:
      data: [..., d].

    Returns:
      [2, d] in the type of ``data``: row 0 the minima, row 1 the maxima (EIPL's joint_bounds.npy).

    Raises:
      ValueError: there are no values, or one is not finite.
    """
    flat = np.asarray(data).reshape(-1, np.shape(data)[-1])
    if not len(flat) or not np.isfinite(flat).all():
        raise ValueError(f"Bounds need finite values. Received: {flat.shape[0]} rows, some NaN or infinite")
    return np.stack([flat.min(axis=0), flat.max(axis=0)])


def moving(bounds: np.ndarray) -> np.ndarray:
    """Which components move by more than float32's rounding; ``bounds`` [2, d] to bool [d]."""
    size = np.maximum(1.0, np.abs(bounds).max(axis=0))
    return np.asarray(bounds[1] - bounds[0] > _STILL * size)


def _range(bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minima, maxima, and where they differ by more than rounding."""
    bounds = np.asarray(bounds)
    if not len(bounds) == 2 or not np.isfinite(bounds).all() or (bounds[0] > bounds[1]).any():
        raise ValueError(f"bounds must be finite: minima, then maxima. Received: {bounds}")
    return bounds[0], bounds[1], moving(bounds)


def normalize(data: np.ndarray, bounds: np.ndarray, vmin: float, vmax: float) -> np.ndarray:
    """Maps ``bounds[0]`` to ``vmin`` and ``bounds[1]`` to ``vmax``, without clipping.

    A component that never moves (bounds equal but for float32's rounding) goes to ``vmin``, with its distance
    from the bound added as it is, so that the inverse has it back. EIPL divides by zero there.

    Args:
      data: [..., d].
      bounds: [2, d], or [2] for all components alike.
      vmin, vmax: the range.

    Returns:
      [..., d].

    Raises:
      ValueError: bounds that are not minima and maxima, or a range that does not rise.
    """
    low, high, moves = _range(bounds)
    _check_rises(vmin, vmax)
    width = np.where(moves, high - low, 1)
    return np.where(moves, (data - low) / width * (vmax - vmin) + vmin, data - low + vmin).astype(
        np.result_type(data, low), copy=False
    )


def denormalize(data: np.ndarray, bounds: np.ndarray, vmin: float, vmax: float) -> np.ndarray:
    """The inverse of ``normalize``, with the same arguments."""
    low, high, moves = _range(bounds)
    _check_rises(vmin, vmax)
    return np.where(
        moves, (data - vmin) / (vmax - vmin) * (high - low) + low, np.asarray(data) - vmin + low
    ).astype(np.result_type(data, low), copy=False)


def to_uint8(data: np.ndarray, vmin: float = -0.9, vmax: float = 0.9) -> np.ndarray:
    """An image in [vmin, vmax] as uint8: clipped, scaled, the fraction cut off. The argument is kept."""
    _check_rises(vmin, vmax)
    clipped = np.clip(data, vmin, vmax)
    return ((clipped - vmin) / (vmax - vmin) * 255.0).astype(np.uint8)


def _check_rises(vmin: float, vmax: float) -> None:
    if not vmin < vmax:
        raise ValueError(f"vmin must be below vmax. Received: {vmin}, {vmax}")
