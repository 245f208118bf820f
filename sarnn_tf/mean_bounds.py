"""Bounds about the mean, widened for components that hardly move (EIPL's get_bounds)."""

import numpy as np


def mean_bounds(data: np.ndarray, clip: float = 0.0, vmin: float = 0.1, vmax: float = 0.9) -> np.ndarray:
    """The mean of every component and how far it goes below and above.

    A range smaller than ``clip`` would blow small movements up to the whole of [vmin, vmax]: both ends are
    moved out by ((vmax - vmin) - clip) / 2.

    Args:
      data: [..., d].
      clip: smallest range that is left as it is, in the units of ``data``.
      vmin, vmax: the range that the component will be normalised to.

    Returns:
      [3, d]: mean, lowest - mean, highest - mean. ``as_bounds`` makes bounds for ``normalize`` of it.

    Raises:
      ValueError: there are no values or one is not finite; ``clip`` is negative or beyond vmax - vmin.
    """
    flat = np.asarray(data).reshape(-1, np.shape(data)[-1])
    if not len(flat) or not np.isfinite(flat).all():
        raise ValueError(f"Bounds need finite values. Received: {len(flat)} rows, some NaN or infinite")
    if not 0 <= clip <= vmax - vmin:
        raise ValueError(f"clip must be in [0, vmax - vmin]. Received: {clip}, {vmin}, {vmax}")
    mean = flat.mean(axis=0)
    below, above = flat.min(axis=0) - mean, flat.max(axis=0) - mean
    widening = np.where(above - below < clip, ((vmax - vmin) - clip) / 2, 0.0)
    return np.stack([mean, below - widening, above + widening]).astype(flat.dtype, copy=False)


def as_bounds(mean_and_reach: np.ndarray) -> np.ndarray:
    """[3, d] of ``mean_bounds`` as minima and maxima [2, d]."""
    mean, below, above = mean_and_reach
    return np.stack([mean + below, mean + above])
