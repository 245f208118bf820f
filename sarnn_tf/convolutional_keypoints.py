"""Attention points that three convolutions find: EIPL's, and CLIP-SARNN's without CLIP."""

import tensorflow as tf

from sarnn_tf.layers.conv_stack import ConvStack
from sarnn_tf.layers.spatial_softmax import spatial_softmax


class ConvolutionalKeypoints(tf.keras.layers.Layer):
    """A convolution stack and a spatial softmax over its maps."""

    def __init__(
        self,
        channels: int,
        k_dim: int,
        temperature: float,
        *,
        seed: int | None = None,
        name: str = "pos_encoder",
    ) -> None:
        """``channels`` of the image, ``k_dim`` points; ``temperature`` of the softmax."""
        super().__init__(name=name)
        self._temperature = temperature
        self.stack = ConvStack(channels, k_dim, seed=seed, name=name)

    def call(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Images [n, h, w, channels] to points [n, k, 2] in [0, 1] and attention [n, h - 6, w - 6, k]."""
        return spatial_softmax(self.stack(images), self._temperature)
