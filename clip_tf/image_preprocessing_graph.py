"""``image_preprocessing`` as TensorFlow operations, for graphs, and the crop of training.

The resizing repeats Pillow's fixed-point arithmetic and the normalisation is a table, so a graph gives the
same bits as Pillow. (Only a weight within 1e-9 of a rounding boundary could differ, by one in 255.)
"""

import numpy as np
import tensorflow as tf

from clip_tf.bicubic import bicubic_matrix
from clip_tf.image_preprocessing import SQUASH, Preprocessing, normalize

SCALE, RATIO = (0.9, 1.0), (3 / 4, 4 / 3)
# Pillow's 8-bit resampling keeps 32 - 8 - 2 bits of a weight.
_PRECISION = 1 << 22
_ATTEMPTS = 10


def preprocess_graph(images: tf.Tensor, how: Preprocessing | int) -> tf.Tensor:
    """Resizes, crops and normalises images of one size.

    Args:
      images: uint8 [b, h, w, 3] RGB.
      how: as for ``image_preprocessing.preprocess``.

    Returns:
      [b, size, size, 3] float32.
    """
    how = Preprocessing(how) if isinstance(how, int) else how
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    if how.resize_mode == SQUASH:
        tall, wide = tf.constant(how.size), tf.constant(how.size)
    else:
        short = tf.cast(tf.minimum(height, width), tf.float64)
        tall, wide = (tf.cast(how.size * tf.cast(n, tf.float64) / short, tf.int32) for n in (height, width))
    resized = _resample(images, tall, wide, crop=how.size)
    return tf.ensure_shape(normalize_graph(resized, how), [None, how.size, how.size, 3])


def training_crop(image: tf.Tensor, how: Preprocessing | int, seed: tf.Tensor) -> tf.Tensor:
    """A random part of an image, resized and normalised (torchvision's random resized crop).

    The part has 0.9 to 1 of the area and a side ratio of 3/4 to 4/3; where ten draws do not fit, it is the
    largest one about the centre whose ratio is allowed.

    Args:
      image: uint8 [h, w, 3] RGB.
      how: as for ``preprocess_graph``; both sides are scaled whatever its ``resize_mode``.
      seed: int32 [2].

    Returns:
      [size, size, 3] float32; the same for the same seed.
    """
    how = Preprocessing(how) if isinstance(how, int) else how
    top, left, tall, wide = _draw_box(tf.shape(image)[0], tf.shape(image)[1], seed)
    part = image[None, top : top + tall, left : left + wide]
    resized = _resample(part, tf.constant(how.size), tf.constant(how.size))
    return tf.ensure_shape(normalize_graph(resized, how)[0], [how.size, how.size, 3])


def normalize_graph(pixels: tf.Tensor, how: Preprocessing) -> tf.Tensor:
    """(pixels / 255 - mean) / std of uint8 [b, h, w, 3], by a table: a graph would reorder the divisions."""
    values = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, 3))
    table = tf.constant(normalize(values, how).T.reshape(-1))
    return tf.gather(table, tf.cast(pixels, tf.int32) + tf.constant([0, 256, 512]))


def _centre(matrix: tf.Tensor, size: int) -> tf.Tensor:
    # round() of halves goes to the even number, in Python and in TensorFlow.
    start = tf.cast(tf.round(tf.cast(tf.shape(matrix)[0] - size, tf.float64) / 2.0), tf.int32)
    return matrix[start : start + size]


def _resample(images: tf.Tensor, tall: tf.Tensor, wide: tf.Tensor, crop: int | None = None) -> tf.Tensor:
    """Resizes [b, h, w, 3] uint8 to [b, tall, wide, 3] uint8, and crops the centre if asked to."""
    h, w = tf.shape(images)[1], tf.shape(images)[2]
    rows, columns = bicubic_matrix(h, tall), bicubic_matrix(w, wide)
    if crop is not None:  # What the crop throws away need not be computed.
        rows, columns = _centre(rows, crop), _centre(columns, crop)
    # Pillow rounds to bytes between the axes. It begins with the width, unless the height shrinks by over
    # twice as many pixels (found by trial with Pillow 13; no document says so).
    height_first = (h > tall) & (h - tall > 2 * (w - wide))

    def from_height() -> tf.Tensor:
        swapped = _width_then_height(tf.transpose(images, [0, 2, 1, 3]), columns, rows)
        return tf.transpose(swapped, [0, 2, 1, 3])

    return tf.cond(height_first, from_height, lambda: _width_then_height(images, rows, columns))


def _width_then_height(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    b, h, w = tf.shape(images)[0], tf.shape(images)[1], tf.shape(images)[2]
    tall, wide = tf.shape(rows)[0], tf.shape(columns)[0]
    # An axis is summed by one matrix product for all images.
    x = tf.reshape(tf.transpose(images, [2, 0, 1, 3]), [w, -1])
    x = tf.reshape(_weigh(columns, x), [wide, b, h, 3])
    x = tf.reshape(tf.transpose(x, [2, 1, 0, 3]), [h, -1])
    return tf.transpose(tf.reshape(_weigh(rows, x), [tall, b, wide, 3]), [1, 0, 2, 3])


def _weigh(weights: tf.Tensor, samples: tf.Tensor) -> tf.Tensor:
    """Weighted sums in fixed point: [m, n] float64 and [n, k] uint8 -> [m, k] uint8."""
    fixed = weights * _PRECISION
    # Half away from zero. Sums of these integers are exact in float64.
    fixed = tf.sign(fixed) * tf.floor(tf.abs(fixed) + 0.5)
    sums = tf.matmul(fixed, tf.cast(samples, tf.float64))
    return tf.cast(tf.clip_by_value(tf.floor(sums / _PRECISION + 0.5), 0.0, 255.0), tf.uint8)


def _draw_box(height: tf.Tensor, width: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """(top, left, height, width) of the part."""
    draws = tf.random.stateless_uniform([_ATTEMPTS + 1, 2], seed, dtype=tf.float64)
    h, w = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    area = h * w * (SCALE[0] + draws[:-1, 0] * (SCALE[1] - SCALE[0]))
    low, high = np.log(RATIO[0]), np.log(RATIO[1])
    ratio = tf.exp(low + draws[:-1, 1] * (high - low))
    wides, talls = tf.round(tf.sqrt(area * ratio)), tf.round(tf.sqrt(area / ratio))
    fits = (wides >= 1) & (wides <= w) & (talls >= 1) & (talls <= h)
    pick = tf.argmax(tf.cast(fits, tf.int32))
    # None fits: as much as the allowed ratios let in.
    most_wide = tf.minimum(w, tf.maximum(tf.round(h * RATIO[1]), 1.0))
    most_tall = tf.minimum(h, tf.maximum(tf.round(w / RATIO[0]), 1.0))
    any_fits = tf.reduce_any(fits)
    wide = tf.where(any_fits, wides[pick], most_wide)
    tall = tf.where(any_fits, talls[pick], most_tall)
    place = tf.where(any_fits, draws[-1], 0.5)
    # A drawn corner is any pixel that leaves room; torchvision truncates the centre's.
    spare_top, spare_left = h - tall, w - wide
    extra = tf.where(any_fits, tf.constant(1.0, tf.float64), 0.0)
    top = tf.floor(place[0] * (spare_top + extra))
    left = tf.floor(place[1] * (spare_left + extra))
    return tuple(tf.cast(n, tf.int32) for n in (top, left, tall, wide))
