"""How a loss weight grows over the first training steps (EIPL's point loss)."""

import dataclasses
import math
from collections.abc import Callable
from types import MappingProxyType

import gin
import tensorflow as tf

CURVES: MappingProxyType[str, Callable[[tf.Tensor], tf.Tensor]] = MappingProxyType(
    {
        "linear": lambda t: t,
        "s": lambda t: t - tf.sin(2 * math.pi * t) / (2 * math.pi),
        "inverse_s": lambda t: t + tf.sin(2 * math.pi * t) / (2 * math.pi),
        "deceleration": lambda t: 1 - tf.cos(math.pi * t / 2),
        "acceleration": lambda t: tf.sin(math.pi * t / 2),
    }
)
"""From progress in [0, 1] to share in [0, 1]. Deceleration and acceleration bear EIPL's names, which are
the wrong way round: its ``deceleration`` starts flat."""


@dataclasses.dataclass(frozen=True)
class LossScheduler:
    """A weight that rises from 0 to its full value, as a function of the step.

    EIPL counts calls, those of validation too, so that its weight differs between the training and the
    test loss of one epoch. Here the step is an argument: whoever trains hands in the training step.

    Attributes:
      decay_end: number of the steps of the rise; step ``decay_end - 1`` and later have the full weight.
      curve: one of ``CURVES``.
    """

    decay_end: int = 1000
    curve: str = "s"

    def __post_init__(self) -> None:
        if self.curve not in CURVES:
            raise ValueError(f"curve must be one of {tuple(CURVES)}. Received: {self.curve!r}")
        if self.decay_end < 2:
            raise ValueError(f"decay_end must be >= 2. Received: {self.decay_end}")

    def at(self, step: int | tf.Tensor, weight: float = 1.0) -> tf.Tensor:
        """The weight at the training step that follows ``step`` finished ones; float64, any shape."""
        progress = tf.cast(step, tf.float64) / (self.decay_end - 1)
        return CURVES[self.curve](tf.clip_by_value(progress, 0.0, 1.0)) * weight


make_loss_scheduler = gin.external_configurable(LossScheduler, "LossScheduler", module="sarnn_tf")
