"""Rare classes shown more often, common ones less: how many copies of an example a pass has."""

import numpy as np
import tensorflow as tf


def copies_per_class(counts: np.ndarray, power: float, maximum: float = 10.0) -> np.ndarray:
    """The expected number of copies of an example of each class.

    Proportional to count^(−power), and scaled so that a pass has about as many examples as the data set.

    Args:
      counts: integers [classes], examples of each; 0 for a class that does not occur.
      power: 0 leaves the data as they are, 1 shows all classes that occur equally often, as far as
        ``maximum`` allows.
      maximum: no example is shown more often than this.

    Returns:
      float32 [classes]; 0 for classes that do not occur.

    Raises:
      ValueError: no example, or numbers out of range.
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or counts.size == 0 or (counts < 0).any() or counts.sum() == 0:
        raise ValueError(f"counts must be [classes], >= 0, not all 0. Received: {counts.tolist()}")
    if not 0 <= power <= 1 or maximum < 1:
        raise ValueError(
            f"power must be in [0, 1] and maximum >= 1. Received: power={power}, maximum={maximum}"
        )
    weights = np.zeros(len(counts))
    present = counts > 0
    weights[present] = counts[present].astype(np.float64) ** -power
    copies, capped = np.zeros(len(counts)), np.zeros(len(counts), bool)
    while True:  # What the rare classes may not take is left to the others.
        free = present & ~capped
        left = counts.sum() - maximum * counts[capped].sum() if capped.any() else counts.sum()
        copies[free] = weights[free] * left / (weights * counts)[free].sum()
        if not (copies > maximum).any():
            return copies.astype(np.float32)
        capped |= copies > maximum
        copies[capped] = maximum


def draw_copies(expected: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A whole number of copies whose mean is ``expected``: int64 scalar.

    Args:
      expected: float32 scalar, >= 0.
      seed: int32 [2], of the draw.
    """
    whole = tf.floor(expected)
    more = tf.random.stateless_uniform([], seed) < expected - whole
    return tf.cast(whole, tf.int64) + tf.cast(more, tf.int64)
