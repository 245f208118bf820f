"""Smooth transitions in place of the steps of a signal that is 0 or 1, such as an open or closed hand."""

import numpy as np


def cosine_interpolation(signal: np.ndarray, step: int) -> np.ndarray:
    """Replaces every jump by half a cosine of ``2 · step`` samples.

    A jump between samples i and i + 1 is spread over [i - step + 1, i + step]. Of transitions that
    overlap the later one stands.

    Args:
      signal: [t] or [t, 1], of 0 and 1.
      step: half the length of a transition, at least 1.

    Returns:
      float64, the shape of ``signal``.

    Raises:
      ValueError: values other than 0 and 1, another shape, or a jump closer than ``step`` to an end.
    """
    signal = np.asarray(signal)
    if signal.ndim not in (1, 2) or (signal.ndim == 2 and signal.shape[1] != 1):
        raise ValueError(f"signal must be [t] or [t, 1]. Received: shape {signal.shape}")
    if step < 1:
        raise ValueError(f"step must be >= 1. Received: {step}")
    flat = signal.reshape(-1).astype(np.float64)
    if not np.isin(flat, (0.0, 1.0)).all():
        raise ValueError(f"signal must be of 0 and 1. Received: values {np.unique(flat)[:5]}")
    rise = (1.0 - np.cos(np.pi * np.linspace(0.0, 1.0, 2 * step))) / 2.0
    smooth = flat.copy()
    jumps = np.diff(flat)
    for i in np.flatnonzero(jumps):
        first, last = i - step + 1, i + step
        if first < 0 or last >= len(flat):
            raise ValueError(
                f"A jump must be at least step = {step} samples from either end of {len(flat)}. "
                f"Received: a jump after sample {i}"
            )
        smooth[first : last + 1] = rise if jumps[i] > 0 else rise[::-1]
    return smooth.reshape(signal.shape)
