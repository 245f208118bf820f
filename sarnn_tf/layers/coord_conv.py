"""CoordConv: a convolution that is told where it is (Liu et al. 2018, arXiv:1807.03247)."""

import tensorflow as tf

from sarnn_tf.layers.initializers import glorot_uniform

ORDERS = ("xy", "yx")


def add_coordinates(
    x: tf.Tensor, *, minimum: float = 0.0, with_radius: bool = False, order: str = "xy"
) -> tf.Tensor:
    """Appends the coordinates of each pixel as channels.

    Args:
      x: [n, h, w, c] float32, square or not.
      minimum: the first coordinate; the last one is 1. The paper has -1, EIPL 0.
      with_radius: also the distance from (0.5, 0.5), whatever ``minimum`` is, as EIPL has it.
      order: ``xy`` appends first the coordinate along the columns; ``yx`` first that along the rows, as
        EIPL has it.

    Returns:
      [n, h, w, c + 2], or c + 3 with the radius.

    Raises:
      ValueError: an unknown order.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}. Received: {order!r}")
    n, height, width = tf.unstack(tf.shape(x)[:3])
    columns = tf.broadcast_to(
        tf.linspace(float(minimum), 1.0, width)[None, None, :, None], [n, height, width, 1]
    )
    rows = tf.broadcast_to(
        tf.linspace(float(minimum), 1.0, height)[None, :, None, None], [n, height, width, 1]
    )
    channels = [x, columns, rows] if order == "xy" else [x, rows, columns]
    if with_radius:
        channels.append(tf.sqrt(tf.square(columns - 0.5) + tf.square(rows - 0.5)))
    return tf.concat(channels, axis=-1)


class CoordConv2D(tf.keras.layers.Layer):
    """A convolution over an image and the coordinates of its pixels."""

    def __init__(
        self,
        inputs: int,
        filters: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        minimum: float = 0.0,
        with_radius: bool = False,
        order: str = "xy",
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        """``inputs`` counts the channels of the image; ``padding`` is zeros on every side.

        The padding surrounds the coordinates too, as in EIPL.
        """
        super().__init__(name=name)
        self._padding = padding
        self._minimum, self._with_radius, self._order = minimum, with_radius, order
        self.conv = tf.keras.layers.Conv2D(
            filters, kernel_size, strides=stride, kernel_initializer=glorot_uniform(seed, "coord_conv")
        )
        self.conv.build((None, None, None, inputs + 2 + int(with_radius)))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[n, h, w, inputs] -> [n, h', w', filters]."""
        p = self._padding
        x = add_coordinates(x, minimum=self._minimum, with_radius=self._with_radius, order=self._order)
        return self.conv(tf.pad(x, [[0, 0], [p, p], [p, p], [0, 0]]))
