"""RT-1's losses: pure functions of scores, targets and masks."""

import tensorflow as tf

CROSS_ENTROPY, L1, SMOOTH_L1 = "cross_entropy", "l1", "smooth_l1"
LOSS_TYPES = (CROSS_ENTROPY, L1, SMOOTH_L1)
RT1_SCALE, MEAN_SCALE = "rt1", "mean"
SCALES = (RT1_SCALE, MEAN_SCALE)


def cross_entropy(logits: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of every action token.

    Args:
      logits: [..., vocab_size].
      tokens: int32 [...].

    Returns:
      [...] in nats.
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tokens, logits=logits)


def gaussian_targets(
    tokens: tf.Tensor, vocab_size: int, std: float = 2.0, truncate: float = 4.0
) -> tf.Tensor:
    """A normal distribution over the bins around the true one, cut off and renormalised.

    Args:
      tokens: int32 [...].
      vocab_size: number of bins.
      std: in bins.
      truncate: bins further than this many standard deviations away get nothing.

    Returns:
      [..., vocab_size], each row summing to 1.

    Raises:
      ValueError: ``std`` or ``truncate`` is not positive.
    """
    if std <= 0 or truncate <= 0:
        raise ValueError(f"std and truncate must be positive. Received: std={std}, truncate={truncate}")
    bins = tf.range(vocab_size, dtype=tf.float32)
    distance = (bins - tf.cast(tokens, tf.float32)[..., None]) / std
    weights = tf.where(tf.abs(distance) <= truncate, tf.exp(-0.5 * tf.square(distance)), 0.0)
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def smoothed_cross_entropy(logits: tf.Tensor, tokens: tf.Tensor, std: float, truncate: float) -> tf.Tensor:
    """Cross-entropy against ``gaussian_targets``; shapes as in ``cross_entropy``."""
    targets = gaussian_targets(tokens, logits.shape[-1], std, truncate)
    return tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)


def l1(values: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Absolute error, element by element."""
    return tf.abs(values - targets)


def smooth_l1(values: tf.Tensor, targets: tf.Tensor, delta: float = 1.0) -> tf.Tensor:
    """Huber's loss, element by element: quadratic up to ``delta``, linear beyond."""
    error = tf.abs(values - targets)
    return tf.where(error <= delta, 0.5 * tf.square(error), delta * (error - 0.5 * delta))


def step_losses(token_losses: tf.Tensor, scale: str, tokens_per_step: int) -> tf.Tensor:
    """The loss of every step: the mean over its action tokens or values.

    Args:
      token_losses: [b, t, tokens_per_action].
      scale: ``mean`` leaves it so; ``rt1`` divides by b · t · tokens_per_step (image tokens included), as
        RT-1's network does before its agent takes the mean.
      tokens_per_step: image and action tokens of a step.

    Returns:
      [b, t].

    Raises:
      ValueError: an unknown scale.
    """
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {SCALES}. Received: {scale!r}")
    losses = tf.reduce_mean(token_losses, axis=-1)
    if scale == RT1_SCALE:
        losses /= tf.cast(tf.size(losses) * tokens_per_step, losses.dtype)
    return losses


def masked_mean(losses: tf.Tensor, mask: tf.Tensor, *, count_masked: bool = True) -> tf.Tensor:
    """Sums the losses that count and divides.

    Args:
      losses: [b, t].
      mask: [b, t], 1 or True where a step counts.
      count_masked: RT-1 divides by all steps; False divides by those that count (at least 1).

    Returns:
      A scalar.
    """
    mask = tf.cast(mask, losses.dtype)
    count = tf.cast(tf.size(losses), losses.dtype) if count_masked else tf.maximum(tf.reduce_sum(mask), 1.0)
    # Not losses * mask: a masked step may be infinite, and inf · 0 is not 0.
    return tf.reduce_sum(tf.where(mask > 0, losses * mask, 0.0)) / count
