"""The learning rate by step."""

import dataclasses
import math

import gin
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class LearningRate:
    """Linear warm-up, then constant or falling along a cosine.

    Attributes:
      peak: after the warm-up; RT-1 keeps 1e-4 throughout.
      warmup_steps: 0 for none.
      decay_steps: step at which the cosine reaches ``final``; None for no decay.
      final: as a fraction of ``peak``.
    """

    peak: float = 1e-4
    warmup_steps: int = 0
    decay_steps: int | None = None
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.peak <= 0 or self.warmup_steps < 0 or not 0 <= self.final <= 1:
            raise ValueError(f"peak must be > 0, warmup_steps >= 0, final in [0, 1]. Received: {self}")
        if self.decay_steps is not None and self.decay_steps <= self.warmup_steps:
            raise ValueError(f"decay_steps must come after warmup_steps. Received: {self}")

    def at(self, step: tf.Tensor) -> tf.Tensor:
        """The rate for the step after ``step`` finished ones, float32."""
        step = tf.cast(step, tf.float32)
        rate = tf.constant(self.peak, tf.float32)
        if self.decay_steps is not None:
            done = (step - self.warmup_steps) / (self.decay_steps - self.warmup_steps)
            cosine = 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0)))
            rate *= self.final + (1.0 - self.final) * cosine
        if self.warmup_steps:
            rate *= tf.minimum(1.0, (step + 1.0) / self.warmup_steps)
        return rate


make_learning_rate = gin.external_configurable(LearningRate, "LearningRate")
