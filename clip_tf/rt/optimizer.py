"""AdamW as OpenCLIP sets it up, and its learning rate by step."""

import dataclasses
import math
from collections.abc import Mapping

import gin
import tensorflow as tf

# Parts of OpenCLIP's parameter names whose parameters are not decayed.
_UNDECAYED = ("bn", "ln", "bias", "logit_scale")


def decays(name: str, variable: tf.Variable) -> bool:
    """Whether weight decay applies to the parameter of that OpenCLIP name.

    Not to those of rank 0 or 1, and not where the name has ``bn``, ``ln``, ``bias`` or ``logit_scale`` in it.
    """
    return variable.shape.rank >= 2 and not any(part in name for part in _UNDECAYED)


@gin.configurable(module="clip_rt", denylist=["parameters"])
def make_optimizer(
    parameters: Mapping[str, tf.Variable],
    weight_decay: float = 0.1,
    beta_1: float = 0.9,
    beta_2: float = 0.98,
    epsilon: float = 1e-6,
) -> tf.keras.optimizers.Optimizer:
    """AdamW with decoupled weight decay, built for these parameters; the step sets its learning rate.

    Rows of an embedding that a batch does not use decay too. The small number stands where PyTorch has it,
    beside the bias-corrected root (``adaptive_epsilon``).

    Args:
      parameters: OpenCLIP name -> variable, of those that are trained.
      weight_decay: of the parameters that ``decays``; 0 for none.
      beta_1, beta_2, epsilon: of Adam.

    Raises:
      ValueError: there is nothing to train, or a number is out of range.
    """
    if not parameters:
        raise ValueError("There must be a parameter to train. Received: none, everything is frozen")
    if weight_decay < 0 or not 0 <= beta_1 < 1 or not 0 <= beta_2 < 1 or epsilon <= 0:
        raise ValueError(
            "weight_decay must be >= 0, beta_1 and beta_2 in [0, 1), epsilon > 0. Received: "
            f"weight_decay={weight_decay}, beta_1={beta_1}, beta_2={beta_2}, epsilon={epsilon}"
        )
    optimizer = tf.keras.optimizers.Adam(
        learning_rate=0.0,
        beta_1=beta_1,
        beta_2=beta_2,
        epsilon=epsilon,
        adaptive_epsilon=True,
        weight_decay=weight_decay or None,
        jit_compile=False,
    )
    undecayed = [v for name, v in parameters.items() if not decays(name, v)]
    optimizer.exclude_from_weight_decay(var_list=undecayed)
    optimizer.build(list(parameters.values()))
    return optimizer


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then half a cosine down to nothing.

    Attributes:
      peak: the rate after the warm-up.
      warmup_steps: 0 for none.
      total_steps: when the rate reaches 0; None keeps it at ``peak``.

    Raises:
      ValueError: a number is out of range.
    """

    peak: float
    warmup_steps: int = 0
    total_steps: int | None = None

    def __post_init__(self) -> None:
        if self.peak <= 0 or self.warmup_steps < 0:
            raise ValueError(f"peak must be > 0 and warmup_steps >= 0. Received: {self}")
        if self.total_steps is not None and self.total_steps <= self.warmup_steps:
            raise ValueError(
                f"The run must have more steps than the warm-up ({self.warmup_steps}). Set "
                "clip_rt.make_schedule.warmup_steps for short runs. "
                f"Received: {self.total_steps} steps in all"
            )

    def at(self, step: tf.Tensor) -> tf.Tensor:
        """The rate for the step after ``step`` finished ones, float32."""
        done = tf.cast(step, tf.float32)
        rate = tf.constant(self.peak, tf.float32)
        if self.total_steps is not None:
            share = (done - self.warmup_steps) / (self.total_steps - self.warmup_steps)
            rate *= 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(share, 0.0, 1.0)))
        if self.warmup_steps:
            warming = self.peak * (done + 1.0) / self.warmup_steps
            rate = tf.where(done < self.warmup_steps, warming, rate)
        return rate


@gin.configurable(module="clip_rt", denylist=["steps_per_epoch"])
def make_schedule(
    steps_per_epoch: int,
    peak: float = 5e-6,
    warmup_steps: int = 100,
    epochs: int | None = 100,
) -> Schedule:
    """The schedule of a run.

    Args:
      steps_per_epoch: batches in a pass over the data.
      peak, warmup_steps: see ``Schedule``; the defaults are those of the published fine-tuning.
      epochs: after which the rate is 0; None keeps it at its peak.

    Raises:
      ValueError: a number is out of range.
    """
    return Schedule(peak, warmup_steps, None if epochs is None else epochs * steps_per_epoch)
