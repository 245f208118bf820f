"""What RT-1 does to an image before its encoder."""

import tensorflow as tf


def to_float(image: tf.Tensor) -> tf.Tensor:
    """uint8 in [0, 255] or float32 in [0, 1] -> float32 in [0, 1].

    Raises:
      ValueError: another type.
    """
    if image.dtype == tf.uint8:
        return tf.image.convert_image_dtype(image, tf.float32)
    if image.dtype == tf.float32:
        return image
    raise ValueError(f"image must be uint8 or float32. Received: {image.dtype}")


def shift_padding(height: int) -> tuple[int, int]:
    """Rows and columns of zero padding of the random shift for an image height (RT-1: 256 and 512)."""
    return {256: (20, 50), 512: (40, 100)}.get(height, (0, 0))


def random_shift(image: tf.Tensor, padding: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
    """Pads with zeros on every side and crops back at one random offset for the whole call (RT-1).

    Args:
      image: [..., h, w, 3].
      padding: rows and columns on each side; (0, 0) returns the image.
      seed: int32 [2].

    Returns:
      The shifted image, of the same shape.
    """
    rows, columns = padding
    if not rows and not columns:
        return image
    shape = tf.shape(image)
    height, width = shape[-3], shape[-2]
    pads = [[0, 0]] * (image.shape.rank - 3) + [[rows, rows], [columns, columns], [0, 0]]
    padded = tf.pad(image, pads)
    seeds = tf.random.split(seed, 2)
    top = tf.random.stateless_uniform((), seeds[0], 0, 2 * rows + 1, tf.int32)
    left = tf.random.stateless_uniform((), seeds[1], 0, 2 * columns + 1, tf.int32)
    shifted = padded[..., top : top + height, left : left + width, :]
    return tf.ensure_shape(shifted, image.shape)
