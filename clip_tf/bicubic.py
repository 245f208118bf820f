"""Bicubic resampling with antialiasing, as Pillow and PyTorch do it, as a matrix.

Keys' cubic with a = -1/2, widened by the scale where the image shrinks (Keys 1981; Pillow's ``BICUBIC``,
PyTorch's ``interpolate(mode="bicubic", antialias=True)``).
"""

import tensorflow as tf

_SUPPORT = 2.0
_A = -0.5


def bicubic_matrix(size_in: tf.Tensor | int, size_out: tf.Tensor | int) -> tf.Tensor:
    """The weights of every input sample in every output sample.

    Args:
      size_in, size_out: numbers of samples, at least 1.

    Returns:
      [size_out, size_in] float64, rows add up to 1.
    """
    n_in = tf.cast(size_in, tf.float64)
    scale = n_in / tf.cast(size_out, tf.float64)
    widening = tf.maximum(scale, 1.0)
    centre = ((tf.range(size_out, dtype=tf.float64) + 0.5) * scale)[:, None]
    sample = tf.range(n_in, dtype=tf.float64)[None]
    first = tf.maximum(tf.floor(centre - _SUPPORT * widening + 0.5), 0.0)
    last = tf.minimum(tf.floor(centre + _SUPPORT * widening + 0.5), n_in)
    weights = _cubic((sample - centre + 0.5) / widening)
    weights = tf.where((first <= sample) & (sample < last), weights, 0.0)
    return weights / tf.reduce_sum(weights, 1, keepdims=True)


def _cubic(x: tf.Tensor) -> tf.Tensor:
    x = tf.abs(x)
    near = ((_A + 2.0) * x - (_A + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * _A
    return tf.where(x < 1.0, near, tf.where(x < 2.0, far, 0.0))
