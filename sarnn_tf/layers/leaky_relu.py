"""Leaky ReLU that keeps its output for the gradient instead of its input."""

import tensorflow as tf

SLOPE = 0.3
"""Below zero, after every convolution and linear layer of SARNN, the last ones too."""


def leaky_relu(x: tf.Tensor, slope: float = SLOPE) -> tf.Tensor:
    """x where it is positive, ``slope`` · x elsewhere; the same shape.

    Output and input have one sign, so that the gradient can be had from the output, which the next layer
    keeps anyway. That saves one stored tensor a layer, and lets convolution, bias and activation be fused.

    Raises:
      ValueError: ``slope`` is not positive.
    """
    if slope <= 0:
        raise ValueError(f"slope must be > 0. Received: {slope}")

    @tf.custom_gradient
    def apply(x: tf.Tensor) -> tuple:
        y = tf.nn.leaky_relu(x, slope)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.LeakyReluGrad(gradients=upstream, features=y, alpha=slope)

        return y, gradient

    return apply(x)
