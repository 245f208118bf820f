"""The residual attention blocks that both CLIP towers are made of.

Variables carry OpenCLIP's names. Matrices are stored [in, out], the transpose of PyTorch's: a product with
a transposed matrix is slower on CPUs for few tokens. They begin at zero; ``clip_model`` fills them.
"""

from typing import TypeAlias

import tensorflow as tf

Policy: TypeAlias = str | tf.keras.mixed_precision.Policy


def quick_gelu(x: tf.Tensor) -> tf.Tensor:
    """x·sigmoid(1.702 x), the approximation that OpenAI trained CLIP with."""
    return x * tf.sigmoid(1.702 * x)


class LayerNorm(tf.keras.layers.Layer):
    """Normalises the last axis, in float32 whatever the policy."""

    def __init__(self, width: int, epsilon: float, dtype: Policy) -> None:
        """``width`` is the size of the last axis, ``epsilon`` is added to the variance."""
        super().__init__(dtype=dtype)
        self._epsilon = epsilon
        self.weight = self.add_weight("weight", [width], initializer="ones", experimental_autocast=False)
        self.bias = self.add_weight("bias", [width], initializer="zeros", experimental_autocast=False)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[…, width] -> the same, in the dtype of ``x``."""
        y = tf.cast(x, tf.float32)
        y -= tf.reduce_mean(y, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(y), -1, keepdims=True)
        y *= tf.math.rsqrt(variance + self._epsilon)
        return tf.cast(y * tf.cast(self.weight, tf.float32) + tf.cast(self.bias, tf.float32), x.dtype)


class Linear(tf.keras.layers.Layer):
    """x·W + b."""

    def __init__(self, size_in: int, size_out: int, dtype: Policy) -> None:
        """``weight`` is [in, out]."""
        super().__init__(dtype=dtype)
        self.weight = self.add_weight("weight", [size_in, size_out], initializer="zeros")
        self.bias = self.add_weight("bias", [size_out], initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[n, in] -> [n, out]."""
        return tf.matmul(x, self.weight) + self.bias


class Attention(tf.keras.layers.Layer):
    """Self-attention with queries, keys and values from one matrix product."""

    def __init__(self, width: int, heads: int, dtype: Policy) -> None:
        """``width`` is the size of a token, a multiple of ``heads``."""
        super().__init__(dtype=dtype)
        self._heads, self._head_width = heads, width // heads
        self.in_proj_weight = self.add_weight("in_proj_weight", [width, 3 * width], initializer="zeros")
        self.in_proj_bias = self.add_weight("in_proj_bias", [3 * width], initializer="zeros")
        self.out_proj = Linear(width, width, dtype)

    def call(self, x: tf.Tensor, mask: tf.Tensor | None, at: tf.Tensor | None = None) -> tf.Tensor:
        """Attends.

        Args:
          x: [b, t, width].
          mask: [t, t] float32, 0 where a row may attend to a column and -inf elsewhere; None for all.
          at: int32 [b], the one token of each sequence that is asked for; None for all.

        Returns:
          [b·t, width], or [b, width] where one token is asked for.
        """
        b, t, width = tf.shape(x)[0], tf.shape(x)[1], x.shape[2]
        qkv = tf.matmul(tf.reshape(x, [-1, width]), self.in_proj_weight) + self.in_proj_bias
        qkv = tf.transpose(tf.reshape(qkv, [b, t, 3, self._heads, self._head_width]), [2, 0, 3, 1, 4])
        query, key, value = tf.unstack(qkv)
        if at is not None:
            query = tf.gather(query, at[:, None], axis=2, batch_dims=1)
            mask = None if mask is None else tf.gather(mask, at)[:, None, None]
        scores = tf.matmul(query * self._head_width**-0.5, key, transpose_b=True)
        scores = tf.cast(scores, tf.float32)
        if mask is not None:
            scores += mask
        weights = tf.cast(tf.nn.softmax(scores), x.dtype)
        mixed = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return self.out_proj(tf.reshape(mixed, [-1, width]))


class Mlp(tf.keras.layers.Layer):
    """Two linear layers with the activation between."""

    def __init__(self, width: int, hidden: int, use_quick_gelu: bool, dtype: Policy) -> None:
        """``hidden`` is the size between the layers."""
        super().__init__(dtype=dtype)
        self._activation = quick_gelu if use_quick_gelu else tf.nn.gelu
        self.c_fc = Linear(width, hidden, dtype)
        self.c_proj = Linear(hidden, width, dtype)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[n, width] -> the same."""
        return self.c_proj(self._activation(self.c_fc(x)))


class ResidualBlock(tf.keras.layers.Layer):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self, width: int, heads: int, mlp_width: int, use_quick_gelu: bool, epsilon: float, dtype: Policy
    ) -> None:
        """As ``Transformer``."""
        super().__init__(dtype=dtype)
        self.ln_1 = LayerNorm(width, epsilon, dtype)
        self.attn = Attention(width, heads, dtype)
        self.ln_2 = LayerNorm(width, epsilon, dtype)
        self.mlp = Mlp(width, mlp_width, use_quick_gelu, dtype)

    def call(self, x: tf.Tensor, mask: tf.Tensor | None, at: tf.Tensor | None = None) -> tf.Tensor:
        """[b, t, width] -> the same, or [b, width] of the tokens ``at``; arguments as for ``Attention``."""
        # Two axes for what works on tokens alone: a plain matrix product is faster than a batched one.
        tokens = tf.reshape(x, [-1, x.shape[2]]) if at is None else tf.gather(x, at, batch_dims=1)
        tokens += self.attn(self.ln_1(x), mask, at)
        tokens += self.mlp(self.ln_2(tokens))
        return tf.reshape(tokens, tf.shape(x)) if at is None else tokens


class Transformer(tf.keras.layers.Layer):
    """A stack of residual attention blocks."""

    def __init__(
        self,
        width: int,
        heads: int,
        layers: int,
        mlp_width: int,
        use_quick_gelu: bool,
        epsilon: float,
        dtype: Policy,
    ) -> None:
        """Makes the blocks.

        Args:
          width: size of a token.
          heads: attention heads.
          layers: number of blocks.
          mlp_width: hidden size of a block's MLP.
          use_quick_gelu: else the exact GELU.
          epsilon: of the layer normalisations.
          dtype: Keras policy.
        """
        super().__init__(dtype=dtype)
        self.resblocks = [
            ResidualBlock(width, heads, mlp_width, use_quick_gelu, epsilon, dtype) for _ in range(layers)
        ]

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None, at: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """Runs the blocks.

        The last block runs twice, for one token and for all: a graph that does not ask for the others leaves
        them out, which saves three quarters of the block.

        Args:
          x: [b, t, width].
          mask: as for ``Attention``.
          at: int32 [b], the token of each sequence that features are read from.

        Returns:
          The tokens ``at`` [b, width], all tokens [b, t, width], and the output of every block as ``block0``,
          ``block1``, ….
        """
        intermediates = {}
        for i, block in enumerate(self.resblocks):
            before, x = x, block(x, mask)
            intermediates[f"block{i}"] = x
        return self.resblocks[-1](before, mask, at), x, intermediates
