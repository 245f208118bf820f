"""The one way in which an image is brought to the network's input size, in training and in serving."""

import tensorflow as tf


def resize_image(image: tf.Tensor, size: int | tuple[int, int], *, antialias: bool = True) -> tf.Tensor:
    """Resizes RGB images bilinearly; the aspect ratio follows the size.

    Args:
      image: [..., h, w, 3], uint8, or float in [0, 1]. Up to one leading axis.
      size: (height, width), or one number for both.
      antialias: widens the filter where the image shrinks. Without it shrinking skips pixels, and the
        result depends on where small things happen to lie; the official RT-1 network, whose own resize
        is part of the network, does not use it.

    Returns:
      float32 [..., *size, 3] in [0, 1]. An image that has the size already keeps its values exactly.

    Raises:
      ValueError: the image's type or shape is none of those above.
    """
    image = tf.convert_to_tensor(image)
    if image.dtype != tf.uint8 and not image.dtype.is_floating:
        raise ValueError(f"image must be uint8, or float in [0, 1]. Received: dtype={image.dtype.name}")
    if image.shape.rank not in (3, 4) or image.shape[-1] != 3:
        raise ValueError(f"image must be [h, w, 3] or [n, h, w, 3]. Received: shape={image.shape}")
    height, width = (size, size) if isinstance(size, int) else size
    image = tf.image.convert_image_dtype(image, tf.float32)
    if image.shape[-3:-1] == (height, width):
        return image
    resized = tf.image.resize(image, (height, width), tf.image.ResizeMethod.BILINEAR, antialias=antialias)
    return tf.clip_by_value(resized, 0.0, 1.0)


def to_uint8(image: tf.Tensor) -> tf.Tensor:
    """float32 in [0, 1] -> uint8, rounded."""
    return tf.cast(tf.round(image * 255.0), tf.uint8)
