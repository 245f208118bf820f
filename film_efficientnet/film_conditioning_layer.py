"""FiLM: feature-wise linear modulation of an image by an instruction (Perez et al. 2018; RT-1)."""

import tensorflow as tf


class FilmConditioning(tf.keras.layers.Layer):
    """Scales and shifts every channel by linear functions of a context.

    Both projections start at zero, so that a fresh layer is the identity and a pretrained trunk is not
    disturbed (RT-1, section 5.1).
    """

    def __init__(self, num_channels: int, name: str | None = None) -> None:
        """``num_channels`` is the number of channels of the features."""
        super().__init__(name=name)
        self._projection_add = tf.keras.layers.Dense(num_channels, kernel_initializer="zeros")
        self._projection_mult = tf.keras.layers.Dense(num_channels, kernel_initializer="zeros")

    def call(self, features: tf.Tensor, context: tf.Tensor) -> tf.Tensor:
        """(1 + W_m c) · x + W_a c.

        Args:
          features: [b, h, w, channels].
          context: [b, context size].

        Returns:
          [b, h, w, channels].
        """
        add = self._projection_add(context)[:, None, None, :]
        mult = self._projection_mult(context)[:, None, None, :]
        return (1.0 + mult) * features + add
