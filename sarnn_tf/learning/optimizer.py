"""Adam and AdamW by PyTorch's formula (Kingma and Ba 2015; Loshchilov and Hutter 2019).

Keras adds its epsilon to a second moment that is not yet corrected for its start at zero, which in the
first steps is another algorithm: three steps move a SARNN's weights by up to 1.3e-3 elsewhere.
"""

from collections.abc import Iterable, Sequence

import gin
import tensorflow as tf


class TorchAdam(tf.Module):
    """Adam with decoupled weight decay, its moments and step as variables for a checkpoint."""

    def __init__(
        self,
        variables: Iterable[tf.Variable],
        learning_rate: float = 1e-3,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """Makes the slots.

        Args:
          variables: to train; their order is that of the gradients.
          learning_rate: a variable of the optimiser, ``learning_rate``.
          beta_1, beta_2: of the moments.
          epsilon: added to the root of the corrected second moment.
          weight_decay: AdamW's; a step first shrinks weights by learning_rate · weight_decay.

        Raises:
          ValueError: a rate, beta, epsilon or decay out of range.
        """
        super().__init__()
        if learning_rate <= 0 or epsilon <= 0 or weight_decay < 0 or not 0 <= beta_1 < 1 > beta_2 >= 0:
            raise ValueError(
                "learning_rate and epsilon must be > 0, weight_decay >= 0, betas in [0, 1). Received: "
                f"{learning_rate}, {epsilon}, {weight_decay}, {beta_1}, {beta_2}"
            )
        self._targets = list(variables)
        self._betas, self._epsilon, self._weight_decay = (beta_1, beta_2), epsilon, weight_decay
        self._first_rate = learning_rate
        self.learning_rate = tf.Variable(learning_rate, dtype=tf.float32, trainable=False)
        self.iterations = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.first_moments = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self._targets]
        self.second_moments = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self._targets]

    @property
    def settings(self) -> dict[str, float]:
        """What it was made with; ``learning_rate`` is that of the start, whatever was restored since."""
        beta_1, beta_2 = self._betas
        return {
            "learning_rate": self._first_rate,
            "beta_1": beta_1,
            "beta_2": beta_2,
            "epsilon": self._epsilon,
            "weight_decay": self._weight_decay,
        }

    def apply(self, gradients: Sequence[tf.Tensor | None]) -> None:
        """One step; variables without a gradient (None) stay, as PyTorch leaves them.

        Raises:
          ValueError: not one gradient for each variable.
        """
        if len(gradients) != len(self._targets):
            raise ValueError(f"Expected {len(self._targets)} gradients. Received: {len(gradients)}")
        beta_1, beta_2 = self._betas
        # In float64, as PyTorch: 1 - 0.999^t in float32 is off by 1e-4 of itself at the first steps.
        step = tf.cast(self.iterations.assign_add(1), tf.float64)
        rate = tf.cast(self.learning_rate, tf.float64)
        size = tf.cast(rate / (1.0 - tf.pow(tf.constant(beta_1, tf.float64), step)), tf.float32)
        root = tf.cast(tf.sqrt(1.0 - tf.pow(tf.constant(beta_2, tf.float64), step)), tf.float32)
        shrink = tf.cast(1.0 - rate * self._weight_decay, tf.float32)
        for variable, gradient, first, second in zip(
            self._targets, gradients, self.first_moments, self.second_moments, strict=True
        ):
            if gradient is None:
                continue
            m = first.assign(beta_1 * first + (1.0 - beta_1) * gradient)
            v = second.assign(beta_2 * second + (1.0 - beta_2) * tf.square(gradient))
            decayed = variable * shrink if self._weight_decay else variable
            variable.assign(decayed - size * m / (tf.sqrt(v) / root + self._epsilon))


@gin.configurable(module="sarnn_tf")
def make_adam(
    variables: Iterable[tf.Variable], learning_rate: float = 1e-3, epsilon: float = 1e-7
) -> TorchAdam:
    """EIPL's optimiser for SARNN."""
    return TorchAdam(variables, learning_rate, epsilon=epsilon)


@gin.configurable(module="sarnn_tf")
def make_adamw(
    variables: Iterable[tf.Variable],
    learning_rate: float = 1e-4,
    epsilon: float = 1e-8,
    weight_decay: float = 1e-2,
) -> TorchAdam:
    """The published CLIP-SARNN's optimiser."""
    return TorchAdam(variables, learning_rate, epsilon=epsilon, weight_decay=weight_decay)
