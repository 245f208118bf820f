"""RT-1's causal transformer over image and action tokens (RT-1, section 5.1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from core.stateless_dropout import Seed, dropout


class MultiHeadAttention(tf.keras.layers.Layer):
    """Scaled dot-product attention whose dropout is drawn from a seed.

    The variables are those of ``tf.keras.layers.MultiHeadAttention``.
    """

    def __init__(
        self, num_heads: int, key_dim: int, output_size: int, dropout_rate: float, site: str
    ) -> None:
        super().__init__()
        self._key_dim = key_dim
        self._dropout_rate = dropout_rate
        self._site = site
        self._query_dense = _to_heads(num_heads, key_dim)
        self._key_dense = _to_heads(num_heads, key_dim)
        self._value_dense = _to_heads(num_heads, key_dim)
        self._output_dense = tf.keras.layers.EinsumDense(
            "bthk,hkd->btd", output_shape=(None, output_size), bias_axes="d"
        )

    def call(self, x: tf.Tensor, mask: tf.Tensor, dropout_seed: Seed = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Self-attention.

        Args:
          x: [b, n, size].
          mask: [n, n] bool, True where a row may attend to a column.
          dropout_seed: int32 [2], None for no dropout.

        Returns:
          [b, n, output_size] and the attention [b, heads, n, n] before dropout.
        """
        query = self._query_dense(x) * (self._key_dim**-0.5)
        scores = tf.einsum("bihk,bjhk->bhij", query, self._key_dense(x))
        # Keras' masked softmax adds this number too; a row always may attend to an image token.
        scores += tf.where(mask, 0.0, -1e9)
        attention = tf.nn.softmax(scores, axis=-1)
        weights = dropout(attention, self._dropout_rate, dropout_seed, f"attention/{self._site}")
        mixed = tf.einsum("bhij,bjhk->bihk", weights, self._value_dense(x))
        return self._output_dense(mixed), attention


class TransformerLayer(tf.keras.layers.Layer):
    """Pre-norm attention and one dense layer without activation, each with a residual."""

    def __init__(
        self,
        layer_size: int,
        num_heads: int,
        feed_forward_size: int,
        attention_dropout_rate: float,
        feed_forward_dropout_rate: float,
        site: str,
    ) -> None:
        """``layer_size`` is the key dimension of a head, ``feed_forward_size`` the width of the model."""
        super().__init__()
        self._feed_forward_dropout_rate = feed_forward_dropout_rate
        self._site = site
        self.layernorm1 = tf.keras.layers.LayerNormalization(epsilon=1e-6)
        self.mha1 = MultiHeadAttention(num_heads, layer_size, feed_forward_size, attention_dropout_rate, site)
        self.ff = tf.keras.layers.Dense(feed_forward_size)
        self.layernorm2 = tf.keras.layers.LayerNormalization(epsilon=1e-6)

    def call(self, x: tf.Tensor, mask: tf.Tensor, dropout_seed: Seed = None) -> tuple[tf.Tensor, tf.Tensor]:
        """[b, n, feed_forward_size] -> the same shape, and the attention [b, heads, n, n]."""
        attended, attention = self.mha1(self.layernorm1(x), mask, dropout_seed=dropout_seed)
        x = x + attended
        y = self.ff(self.layernorm2(x))
        y = dropout(y, self._feed_forward_dropout_rate, dropout_seed, f"feed_forward/{self._site}")
        return x + y, attention


class Transformer(tf.keras.layers.Layer):
    """A stack of layers between an embedding of tokens and positions and an output of scores."""

    def __init__(
        self,
        *,
        num_layers: int = 8,
        layer_size: int = 128,
        num_heads: int = 8,
        feed_forward_size: int = 512,
        vocab_size: int = 256,
        max_positions: int = 114,
        attention_dropout_rate: float = 0.1,
        feed_forward_dropout_rate: float = 0.1,
        embedding_dropout_rate: float = 0.0,
    ) -> None:
        """Makes the layers.

        Args:
          num_layers, num_heads: as named.
          layer_size: the key dimension of a head.
          feed_forward_size: the width of the model.
          vocab_size: size of the output at every position.
          max_positions: rows of the position table.
          attention_dropout_rate, feed_forward_dropout_rate: in every layer.
          embedding_dropout_rate: of the sum of token and position embedding.
        """
        super().__init__()
        self._max_positions = max_positions
        self._embedding_dropout_rate = embedding_dropout_rate
        self._layers: Sequence[TransformerLayer] = [
            TransformerLayer(
                layer_size,
                num_heads,
                feed_forward_size,
                attention_dropout_rate,
                feed_forward_dropout_rate,
                str(i),
            )
            for i in range(num_layers)
        ]
        self._token_emb = tf.keras.layers.Dense(feed_forward_size)
        self._position_emb = tf.keras.layers.Dense(feed_forward_size)
        self._output_tokens = tf.keras.layers.Dense(vocab_size)

    def call(
        self, tokens: tf.Tensor, mask: tf.Tensor, dropout_seed: Seed = None
    ) -> tuple[tf.Tensor, Mapping[str, Any]]:
        """One pass.

        Args:
          tokens: [b, n, token size], n at most ``max_positions``.
          mask: [n, n] bool, True where a row may attend to a column.
          dropout_seed: int32 [2], None for no dropout.

        Returns:
          [b, n, vocab_size], and ``attention``: a list with [b, heads, n, n] of every layer.
        """
        n = tf.shape(tokens)[1]
        # The position embedding is a dense layer on one-hot positions: a table and a bias.
        positions = self._position_emb(tf.eye(n, self._max_positions))
        x = self._token_emb(tokens) + positions[None]
        x = dropout(x, self._embedding_dropout_rate, dropout_seed, "embedding")
        attentions = []
        for layer in self._layers:
            x, attention = layer(x, mask, dropout_seed=dropout_seed)
            attentions.append(attention)
        return self._output_tokens(x), {"attention": attentions}


def _to_heads(num_heads: int, key_dim: int) -> tf.keras.layers.EinsumDense:
    return tf.keras.layers.EinsumDense(
        "btd,dhk->bthk", output_shape=(None, num_heads, key_dim), bias_axes="hk"
    )
