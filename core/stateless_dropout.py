"""Dropout as a pure function of its seed.

Keras' dropout layers draw from hidden generators and are switched by ``training``, the flag that also
switches batch statistics. Here a layer drops when its caller hands it a seed and not otherwise:
training hands one derived from the step, Monte-Carlo dropout one derived from the request, and both
can be repeated. Batch normalisation never sees the seed.
"""

import zlib
from typing import TypeAlias

from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)

# isort: split
import tensorflow as tf

Seed: TypeAlias = "tf.Tensor | None"


def site_seed(seed: tf.Tensor, site: str) -> tf.Tensor:
    """The seed of one dropout site: int32 [2] in, int32 [2] out.

    Sites are told apart by name, not by the order in which they run, so that adding a site does not
    change the draws of the others.
    """
    return tf.random.experimental.stateless_fold_in(seed, zlib.crc32(site.encode()) & 0x7FFFFFFF)


def dropout(
    x: tf.Tensor, rate: float, seed: Seed, site: str, broadcast_axes: tuple[int, ...] = ()
) -> tf.Tensor:
    """Sets elements of ``x`` to zero with probability ``rate`` and scales the rest by 1 / (1 - rate).

    Args:
      x: any shape, floating point.
      rate: in [0, 1), a Python number.
      seed: int32 [2], or None for no dropout.
      site: the name of the site, part of the seed.
      broadcast_axes: axes along which one draw serves all elements (all positions of a channel:
        spatial dropout; all of a sample: drop-connect).

    Returns:
      ``x`` itself where ``seed`` is None or ``rate`` is 0.

    Raises:
      ValueError: ``rate`` is outside [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"The dropout rate of {site} must be in [0, 1). Received: {rate}")
    if seed is None or rate == 0.0:
        return x
    shape = tf.shape(x)
    for axis in broadcast_axes:
        shape = tf.tensor_scatter_nd_update(shape, [[axis]], [1])
    kept = tf.random.stateless_uniform(shape, site_seed(seed, site), dtype=tf.float32) >= rate
    return x * (tf.cast(kept, x.dtype) / tf.cast(1.0 - rate, x.dtype))
