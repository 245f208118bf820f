"""Images to tokens: FiLM-EfficientNet, then TokenLearner (RT-1, section 5.1)."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from core.stateless_dropout import Seed
from film_efficientnet.pretrained_efficientnet_encoder import EfficientNetEncoder
from tokenizers.token_learner import TokenLearnerModule


class RT1ImageTokenizer(tf.keras.layers.Layer):
    """Tokens of every frame of a sequence, conditioned on the instruction."""

    def __init__(
        self,
        embedding_output_dim: int = 512,
        *,
        variant: str = "b3",
        image_size: int | None = None,
        use_token_learner: bool = True,
        num_tokens: int = 8,
        drop_connect_rate: float = 0.2,
        spatial_dropout_rate: float = 0.0,
        top_dropout_rate: float = 0.0,
        token_learner_dropout_rate: float = 0.0,
        name: str | None = None,
    ) -> None:
        """Makes the layers.

        Args:
          embedding_output_dim: size of a token.
          variant: of EfficientNet (``film_efficientnet.variants``).
          image_size: of the encoder's input; None takes the variant's.
          use_token_learner: False leaves one token a position.
          num_tokens: of TokenLearner.
          drop_connect_rate, spatial_dropout_rate, top_dropout_rate, token_learner_dropout_rate: rates of
            the dropout sites in this part of the network.
        """
        super().__init__(name=name)
        self._tokenizer = EfficientNetEncoder(
            variant,
            embedding_output_dim,
            image_size=image_size,
            drop_connect_rate=drop_connect_rate,
            spatial_dropout_rate=spatial_dropout_rate,
            top_dropout_rate=top_dropout_rate,
        )
        self._use_token_learner = use_token_learner
        if use_token_learner:
            self._num_tokens = num_tokens
            self._token_learner = TokenLearnerModule(num_tokens, dropout_rate=token_learner_dropout_rate)

    @property
    def encoder(self) -> EfficientNetEncoder:
        """The convolutional part."""
        return self._tokenizer

    @property
    def token_learner(self) -> TokenLearnerModule | None:
        """TokenLearner, None where it is off."""
        return self._token_learner if self._use_token_learner else None

    def call(
        self,
        image: tf.Tensor,
        context: tf.Tensor,
        training: bool = False,
        dropout_seed: Seed = None,
    ) -> tuple[tf.Tensor, Mapping[str, Any]]:
        """Tokenises every frame.

        Args:
          image: [b, t, h, w, 3] float32 in [0, 1].
          context: [b, t, context size] instruction embedding.
          training: batch statistics or moving averages.
          dropout_seed: int32 [2], None for no dropout.

        Returns:
          [b, t, tokens, embedding_output_dim], and named intermediates with the leading axis b·t: those
          of ``EfficientNetEncoder`` and ``token_learner_weights`` [b·t, tokens, h', w'].
        """
        b, t = tf.shape(image)[0], tf.shape(image)[1]
        images = tf.reshape(image, tf.concat([[b * t], tf.shape(image)[2:]], 0))
        images = tf.ensure_shape(images, [None, *image.shape[2:]])
        contexts = tf.reshape(context, [b * t, context.shape[-1]])
        features, aux = self._tokenizer(images, contexts, training=training, dropout_seed=dropout_seed)
        h, w, size = features.shape[1], features.shape[2], features.shape[3]
        tokens = tf.reshape(features, [-1, h * w, size])
        aux = dict(aux)
        if self._use_token_learner:
            tokens, weights = self._token_learner(tokens, dropout_seed=dropout_seed)
            aux["token_learner_weights"] = tf.reshape(weights, [-1, self._num_tokens, h, w])
        return tf.reshape(tokens, [b, t, tokens.shape[1], size]), aux
