"""Sequences of different length as one array, with a mask of what is real."""

from collections.abc import Sequence

import numpy as np


def pad_sequences(
    sequences: Sequence[np.ndarray], length: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Repeats the last step of each sequence up to a common length, as EIPL does.

    Args:
      sequences: n arrays [t_i, ...] of one type and, but for t_i, one shape.
      length: to pad to; None for the longest.

    Returns:
      [n, length, ...] in the sequences' type, and bool [n, length], True where a step is real.

    Raises:
      ValueError: none given, an empty or too long one, or types or shapes that differ.
    """
    if not sequences:
        raise ValueError("pad_sequences needs at least one sequence. Received: none")
    kinds = {(s.dtype, s.shape[1:]) for s in sequences}
    if len(kinds) > 1:
        raise ValueError(f"Sequences must be of one type and step shape. Received: {sorted(map(str, kinds))}")
    lengths = [len(s) for s in sequences]
    length = max(lengths) if length is None else length
    if not min(lengths) or max(lengths) > length:
        raise ValueError(f"Sequences must have 1 to {length} steps. Received: {lengths}")
    padded = np.stack([np.concatenate([s, np.repeat(s[-1:], length - len(s), axis=0)]) for s in sequences])
    return padded, np.arange(length) < np.asarray(lengths)[:, None]
