"""SARNN's three small convolutions, and the three transposed ones that undo their sizes."""

from collections.abc import Sequence

import tensorflow as tf

from sarnn_tf.layers.initializers import glorot_uniform
from sarnn_tf.layers.leaky_relu import leaky_relu

KERNEL = 3
HIDDEN = (16, 32)
BORDER = (len(HIDDEN) + 1) * (KERNEL - 1)
"""Pixels that a stack takes from, or adds to, each side of the image: 6."""


def convolve(x: tf.Tensor, weights: Sequence[tf.Tensor]) -> tf.Tensor:
    """Convolutions without padding, leaky ReLU after each.

    Args:
      x: [n, h, w, channels].
      weights: kernel and bias of the first convolution, of the second, and so on.

    Returns:
      [n, h', w', channels of the last].
    """
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        x = leaky_relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "VALID"), bias))
    return x


def deconvolve(x: tf.Tensor, weights: Sequence[tf.Tensor]) -> tf.Tensor:
    """Transposed convolutions that undo the sizes of ``convolve``, leaky ReLU after each.

    Args:
      x: [n, h, w, channels].
      weights: kernel [3, 3, outputs, inputs] and bias of the first convolution, of the second, and so on.

    Returns:
      [n, h', w', channels of the last].
    """
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        _, height, width, _ = x.shape
        shape = [tf.shape(x)[0], height + KERNEL - 1, width + KERNEL - 1, kernel.shape[2]]
        x = leaky_relu(tf.nn.bias_add(tf.nn.conv2d_transpose(x, kernel, shape, 1, "VALID"), bias))
    return x


class ConvStack(tf.keras.layers.Layer):
    """Convolutions without padding, leaky ReLU after each."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden: Sequence[int] = HIDDEN,
        seed: int | None = None,
        name: str = "conv_stack",
    ) -> None:
        """``inputs``, ``hidden`` and ``outputs`` count channels."""
        super().__init__(name=name)
        sizes = [inputs, *hidden, outputs]
        self.convs = []
        for i in range(len(sizes) - 1):
            conv = tf.keras.layers.Conv2D(
                sizes[i + 1], KERNEL, kernel_initializer=glorot_uniform(seed, f"{name}/{i}")
            )
            conv.build((None, None, None, sizes[i]))
            self.convs.append(conv)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[n, h, w, inputs] -> [n, h - 6, w - 6, outputs]."""
        return convolve(x, self.kernels_and_biases)

    @property
    def kernels_and_biases(self) -> list[tf.Variable]:
        """The variables in the order of ``convolve``."""
        return [v for conv in self.convs for v in (conv.kernel, conv.bias)]


class DeconvStack(tf.keras.layers.Layer):
    """Transposed convolutions, leaky ReLU after each, the last too: an output may be below 0."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden: Sequence[int] = HIDDEN[::-1],
        seed: int | None = None,
        name: str = "deconv_stack",
    ) -> None:
        """``inputs``, ``hidden`` and ``outputs`` count channels."""
        super().__init__(name=name)
        sizes = [inputs, *hidden, outputs]
        self.convs = []
        for i in range(len(sizes) - 1):
            conv = tf.keras.layers.Conv2DTranspose(
                sizes[i + 1], KERNEL, kernel_initializer=glorot_uniform(seed, f"{name}/{i}")
            )
            conv.build((None, None, None, sizes[i]))
            self.convs.append(conv)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[n, h, w, inputs] -> [n, h + 6, w + 6, outputs]."""
        return deconvolve(x, self.kernels_and_biases)

    @property
    def kernels_and_biases(self) -> list[tf.Variable]:
        """The variables in the order of ``deconvolve``."""
        return [v for conv in self.convs for v in (conv.kernel, conv.bias)]
