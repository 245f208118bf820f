"""Attention points on CLIP's patch map, gated by the instruction."""

import tensorflow as tf

from sarnn_tf.layers.initializers import dense
from sarnn_tf.layers.spatial_softmax import spatial_softmax


class ClipKeypoints(tf.keras.layers.Layer):
    """A linear adapter on gated patch features and a spatial softmax over the patches.

    The tower that makes the patch map is frozen and not part of this layer. Its map is CLIP's own embedding
    of every patch (all tokens through the last layer norm and the projection, the class token dropped), so
    that a product with the instruction's embedding has a meaning.
    """

    def __init__(
        self,
        features: int,
        k_dim: int,
        temperature: float,
        *,
        seed: int | None = None,
        name: str = "pos_encoder",
    ) -> None:
        """``features`` of a patch (512 for ViT-B/32), ``k_dim`` points; ``temperature`` of the softmax."""
        super().__init__(name=name)
        self._temperature = temperature
        self.adapter = dense(features, k_dim, seed, f"{name}/adapter")

    def logits(self, patches: tf.Tensor, text: tf.Tensor | None = None) -> tf.Tensor:
        """The maps before the softmax.

        Args:
          patches: [n, rows, columns, features] float32, row-major from the image's top left.
          text: [n, features], the instruction's embedding of unit length; None for no gate.

        Returns:
          [n, rows, columns, k].
        """
        return self.adapter(patches if text is None else patches * text[:, None, None, :])

    def call(self, patches: tf.Tensor, text: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Points [n, k, 2] in [0, 1] and attention [n, rows, columns, k]; arguments as in ``logits``."""
        return spatial_softmax(self.logits(patches, text), self._temperature)
