"""The image encoder of RT-1: FiLM-EfficientNet, a 1×1 convolution, one more FiLM layer."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from core.stateless_dropout import Seed, dropout
from film_efficientnet.film_conditioning_layer import FilmConditioning
from film_efficientnet.film_efficientnet_encoder import FilmEfficientNet
from film_efficientnet.variants import variant as find_variant


class EfficientNetEncoder(tf.keras.layers.Layer):
    """Image and instruction embedding to a map of visual features."""

    def __init__(
        self,
        variant: str = "b3",
        token_embedding_size: int = 512,
        *,
        image_size: int | None = None,
        drop_connect_rate: float = 0.2,
        spatial_dropout_rate: float = 0.0,
        top_dropout_rate: float = 0.0,
        name: str | None = None,
    ) -> None:
        """Makes the layers.

        Args:
          variant: a name of ``variants.VARIANTS``.
          token_embedding_size: channels of the result.
          image_size: height and width to which images are resized; None takes the variant's (300 for B3).
          drop_connect_rate, spatial_dropout_rate: as in ``FilmEfficientNet``.
          top_dropout_rate: of single elements of the result.
        """
        super().__init__(name=name)
        self.image_size = image_size or find_variant(variant).resolution
        self.top_dropout_rate = top_dropout_rate
        # In the order of the optimiser's slots in RT-1's checkpoints.
        self.conv1x1 = tf.keras.layers.Conv2D(
            token_embedding_size, 1, use_bias=False, kernel_initializer="he_normal"
        )
        self.net = FilmEfficientNet(
            variant, drop_connect_rate=drop_connect_rate, spatial_dropout_rate=spatial_dropout_rate
        )
        self.film_layer = FilmConditioning(token_embedding_size)

    def prepare(self, image: tf.Tensor) -> tf.Tensor:
        """[b, h, w, 3] float32 in [0, 1] -> [b, image_size, image_size, 3] in [0, 255], bilinear."""
        if image.shape[1:3] != (self.image_size, self.image_size):
            image = tf.image.resize(image, (self.image_size, self.image_size))
        return image * 255.0

    def call(
        self,
        image: tf.Tensor,
        context: tf.Tensor,
        training: bool = False,
        dropout_seed: Seed = None,
    ) -> tuple[tf.Tensor, Mapping[str, Any]]:
        """Encodes images.

        Args:
          image: [b, h, w, 3] float32 in [0, 1].
          context: [b, context size] instruction embedding.
          training: batch statistics or moving averages.
          dropout_seed: int32 [2], None for no dropout.

        Returns:
          [b, h', w', token_embedding_size] (9×9 for 300 px), and the named activations
          ``prepared_image``, those of ``FilmEfficientNet`` and ``features``.
        """
        prepared = self.prepare(image)
        x, aux = self.net(prepared, context, training=training, dropout_seed=dropout_seed)
        x = self.film_layer(self.conv1x1(x), context)
        aux = {"prepared_image": prepared, **aux, "features": x}
        return dropout(x, self.top_dropout_rate, dropout_seed, "backbone_top"), aux
