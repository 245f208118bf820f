"""CLIP-RT's objective: every context against every supervision of the batch, by sigmoids.

With unit-length features i_a of images, t_a of instructions, s_b of supervisions,
z_ab = exp(τ)·(i_a + t_a)·s_b and Y_ab = 1 where label_a = label_b, the loss is the mean over all B² pairs of
softplus(z_ab) − Y_ab·z_ab. The sum i + t is not brought to unit length and there is no bias. Source: Kang et
al., "CLIP-RT", RSS 2025; the sigmoid loss is Zhai et al.'s (2023).
"""

import math
from typing import NamedTuple

import tensorflow as tf

INITIAL_LOG_SCALE = math.log(1 / 0.07)
MAX_LOG_SCALE = math.log(100.0)


class Features(NamedTuple):
    """Unit-length features of a batch, each float32 [b, d]."""

    image: tf.Tensor
    instruction: tf.Tensor
    supervision: tf.Tensor


def pair_logits(features: Features, log_scale: tf.Tensor) -> tf.Tensor:
    """z_ab, float32 [b, b]: contexts in rows, supervisions in columns.

    Args:
      features: as the class says.
      log_scale: τ, a scalar or of shape [1].
    """
    context = features.image + features.instruction
    scale = tf.exp(tf.reshape(log_scale, []))
    return scale * tf.matmul(context, features.supervision, transpose_b=True)


def pair_targets(labels: tf.Tensor) -> tf.Tensor:
    """Y_ab, float32 [b, b], of labels [b]."""
    return tf.cast(tf.equal(labels[:, None], labels[None, :]), tf.float32)


def clip_rt_loss(features: Features, labels: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
    """The loss, a float32 scalar.

    Args:
      features: of b examples.
      labels: integers [b].
      log_scale: τ.
    """
    logits = pair_logits(features, log_scale)
    # softplus(z) − Y·z without overflow, which is what this function computes.
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=pair_targets(labels), logits=logits)
    return tf.reduce_mean(losses)


def unit_length(features: tf.Tensor) -> tf.Tensor:
    """Rows of length 1 in float32, as torch's ``normalize`` makes them (a zero row stays zero)."""
    features = tf.cast(features, tf.float32)
    norms = tf.norm(features, axis=-1, keepdims=True)
    return features / tf.maximum(norms, 1e-12)


def clamp_log_scale(log_scale: tf.Variable) -> None:
    """Brings τ into [0, ln 100], as after every step."""
    log_scale.assign(tf.clip_by_value(log_scale, 0.0, MAX_LOG_SCALE))
