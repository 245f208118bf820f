"""TokenLearner: a few tokens that are weighted means of many positions (Ryoo et al. 2021, v1.1)."""

import tensorflow as tf

from core.stateless_dropout import Seed, dropout


class MlpBlock(tf.keras.layers.Layer):
    """Two dense layers with GELU (tanh form) and dropout between and after."""

    def __init__(self, hidden_size: int, output_size: int, dropout_rate: float) -> None:
        super().__init__()
        self._dropout_rate = dropout_rate
        self._hidden_layer = tf.keras.layers.Dense(
            hidden_size, bias_initializer=tf.keras.initializers.RandomNormal(stddev=1e-6)
        )
        self._output_layer = tf.keras.layers.Dense(
            output_size, bias_initializer=tf.keras.initializers.RandomNormal(stddev=1e-6)
        )

    def call(self, x: tf.Tensor, dropout_seed: Seed = None) -> tf.Tensor:
        """[..., size] -> [..., output_size]."""
        x = tf.nn.gelu(self._hidden_layer(x), approximate=True)
        x = dropout(x, self._dropout_rate, dropout_seed, "token_learner/hidden")
        x = self._output_layer(x)
        return dropout(x, self._dropout_rate, dropout_seed, "token_learner/output")


class TokenLearnerModule(tf.keras.layers.Layer):
    """Reduces the positions of a feature map to ``num_tokens`` tokens."""

    def __init__(
        self,
        num_tokens: int = 8,
        bottleneck_size: int = 64,
        dropout_rate: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.num_tokens = num_tokens
        self.mlp = MlpBlock(bottleneck_size, num_tokens, dropout_rate)
        self.layernorm = tf.keras.layers.LayerNormalization(epsilon=1e-6)

    def call(self, features: tf.Tensor, dropout_seed: Seed = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Averages the features with learned weights.

        Args:
          features: [b, positions, size].
          dropout_seed: int32 [2], None for no dropout.

        Returns:
          Tokens [b, num_tokens, size] and the weights [b, num_tokens, positions], each summing to 1. The
          weights are computed from normalised features and average the features as they were.
        """
        logits = self.mlp(self.layernorm(features), dropout_seed=dropout_seed)
        weights = tf.nn.softmax(tf.transpose(logits, (0, 2, 1)), axis=-1)
        return tf.matmul(weights, features), weights
