"""CLIP's text tower: a causal transformer read at the end token (Radford et al. 2021)."""

import tensorflow as tf

from clip_tf.model_config import ClipConfig
from clip_tf.transformer import LayerNorm, Policy, Transformer


class TokenEmbedding(tf.keras.layers.Layer):
    """A row for every id."""

    def __init__(self, vocab_size: int, width: int, dtype: Policy) -> None:
        """``weight`` is [vocab_size, width]."""
        super().__init__(dtype=dtype)
        self.weight = self.add_weight("weight", [vocab_size, width], initializer="zeros")

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """[b, t] int32 -> [b, t, width]."""
        return tf.cast(tf.gather(self.weight, ids), self.compute_dtype)


class TextTower(tf.keras.layers.Layer):
    """Token ids -> features at the first position of the largest id, which is the end token."""

    def __init__(self, config: ClipConfig, dtype: Policy) -> None:
        """Makes the tower.

        Args:
          config: of the model.
          dtype: Keras policy.
        """
        super().__init__(dtype=dtype)
        text, epsilon = config.text, config.layer_norm_epsilon
        self._context_length = text.context_length
        self.token_embedding = TokenEmbedding(text.vocab_size, text.width, dtype)
        self.positional_embedding = self.add_weight(
            "positional_embedding", [text.context_length, text.width], initializer="zeros"
        )
        self.transformer = Transformer(
            text.width, text.heads, text.layers, text.mlp_width, config.quick_gelu, epsilon, dtype
        )
        self.ln_final = LayerNorm(text.width, epsilon, dtype)
        self.text_projection = self.add_weight(
            "text_projection", [text.width, config.embed_dim], initializer="zeros"
        )

    def call(self, ids: tf.Tensor, whole_context: bool = False) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Encodes texts.

        Tokens attend only to what comes before them, so what follows the last end token of the batch
        changes no feature and no gradient; it is left out unless ``whole_context`` is set.

        Args:
          ids: int32 [b, context_length], as ``tokenizer.tokenize`` gives them.
          whole_context: keep the padding: for intermediates of the whole context, or static shapes.

        Returns:
          Features [b, embed_dim], not normalised, and intermediates ``block0``, … and ``ln_final``
          [b, t, width], where t is the longest text of the batch, or ``context_length``.

        Raises:
          ValueError: the ids are not [b, context_length].
        """
        ids.shape.assert_has_rank(2)
        if not ids.shape[1:].is_compatible_with([self._context_length]):
            raise ValueError(f"ids must be [b, {self._context_length}]. Received: {ids.shape}")
        end = tf.argmax(ids, 1, tf.int32)
        if not whole_context:
            ids = ids[:, : tf.reduce_max(end) + 1]
        t = tf.shape(ids)[1]
        x = self.token_embedding(ids) + self.positional_embedding[:t]
        mask = tf.where(tf.linalg.band_part(tf.ones([t, t], tf.bool), -1, 0), 0.0, -float("inf"))
        pooled, x, intermediates = self.transformer(x, mask, end)
        features = tf.matmul(self.ln_final(pooled), self.text_projection)
        return features, {**intermediates, "ln_final": self.ln_final(x)}
