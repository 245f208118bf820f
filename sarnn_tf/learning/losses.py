"""SARNN's losses: pure functions of predictions, targets and a mask of the steps that are real."""

import dataclasses
import math
from collections.abc import Mapping

import tensorflow as tf

IMAGE, JOINT, POINT = "image", "joint", "point"


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """What each loss counts for; the defaults are EIPL's.

    Attributes:
      image, joint: of the predicted images and joints.
      point: of the predicted points, once its scheduler has risen.
    """

    image: float = 0.1
    joint: float = 1.0
    point: float = 0.1

    def __post_init__(self) -> None:
        if not all(0 <= weight < math.inf for weight in (self.image, self.joint, self.point)):
            raise ValueError(f"Loss weights must be >= 0 and finite. Received: {self}")


def mean_over_real(errors: tf.Tensor, real: tf.Tensor, sequences: tf.Tensor | None = None) -> tf.Tensor:
    """The mean over the real steps of each sequence, then over the sequences that have any.

    So every sequence counts as much as alone, however much it was padded beside a longer one.

    Args:
      errors: [b, n], 0 or more.
      real: bool [b, n].
      sequences: bool [b, m], any True in those that count, as 0 where ``real`` has no step; None: ``real``.

    Returns:
      A scalar; 0 where nothing is real.
    """
    # Not errors * real: an error of padding may be infinite, and inf · 0 is not 0.
    return tf.reduce_sum(tf.where(real, errors * shares_of_real(real, sequences), 0.0))


def shares_of_real(real: tf.Tensor, sequences: tf.Tensor | None = None) -> tf.Tensor:
    """What each step counts in ``mean_over_real``: bool [b, n] to float32 [b, n], 0 for padding."""
    steps = tf.cast(real, tf.float32)
    counts = tf.reduce_sum(steps, axis=1, keepdims=True)
    counted = tf.reduce_any(real if sequences is None else sequences, axis=1)
    number = tf.reduce_sum(tf.cast(counted, tf.float32))
    return steps / (tf.maximum(counts, 1.0) * tf.maximum(number, 1.0))


def squared_error(predicted: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Mean squared error of every step: [b, n, ...] twice to [b, n]."""
    axes = list(range(2, len(predicted.shape)))
    return tf.reduce_mean(tf.math.squared_difference(predicted, target), axis=axes)


def sequence_losses(
    predicted_images: Mapping[str, tf.Tensor],
    predicted_joints: tf.Tensor,
    encoder_points: Mapping[str, tf.Tensor],
    decoder_points: Mapping[str, tf.Tensor],
    images: Mapping[str, tf.Tensor],
    joints: tf.Tensor,
    real: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """The mean squared errors of one-step predictions.

    Predictions are those from steps 0 to t - 2 of sequences of t steps: prediction i is compared with
    step i + 1. The points predicted at step i are compared with those found at step i + 1; the gradient
    flows to both.

    Args:
      predicted_images: modality -> [b, t - 1, h, w, c].
      predicted_joints: [b, t - 1, joint_dim].
      encoder_points, decoder_points: modality -> [b, t - 1, 2 k].
      images: modality -> [b, t, h, w, c], without noise.
      joints: [b, t, joint_dim], without noise.
      real: bool [b, t], False for padding after a sequence's end; None where all is real.

    Returns:
      Scalars: ``image``, the mean over modalities; ``joint``; ``point``, the mean over modalities; with
      several modalities ``image/<name>`` and ``point/<name>`` too.

    Raises:
      ValueError: the lengths or the modalities do not fit.
    """
    if not set(predicted_images) == set(images) == set(encoder_points) == set(decoder_points):
        raise ValueError(
            f"Targets must be of the modalities {sorted(predicted_images)}. Received: {sorted(images)}"
        )
    steps, length = predicted_joints.shape[1], joints.shape[1]
    if None not in (steps, length) and steps != length - 1:
        raise ValueError(f"{length} steps have {length - 1} predictions. Received: {steps}")
    if real is None:
        real = tf.ones(tf.shape(joints)[:2], tf.bool)
    of_images, of_points = {}, {}
    for name, predicted in predicted_images.items():
        of_images[name] = mean_over_real(squared_error(predicted, images[name][:, 1:]), real[:, 1:])
        of_points[name] = point_error(encoder_points[name], decoder_points[name], real)
    return gathered(of_images, joint_error(predicted_joints, joints, real), of_points)


def joint_error(predicted: tf.Tensor, joints: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """The joints' loss; arguments as of ``sequence_losses``."""
    return mean_over_real(squared_error(predicted, joints[:, 1:]), real[:, 1:])


def point_error(encoder_points: tf.Tensor, decoder_points: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """One modality's point loss, 0 of sequences of two steps; arguments as of ``sequence_losses``."""
    errors = squared_error(decoder_points[:, :-1], encoder_points[:, 1:])
    # The points of the last step are found by nobody: alone, its sequence would end before it.
    return mean_over_real(errors, real[:, 2:], real[:, 1:])


def gathered(
    of_images: Mapping[str, tf.Tensor], joint: tf.Tensor, of_points: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """The result of ``sequence_losses``, given the losses of each modality."""
    losses = {
        IMAGE: tf.add_n(list(of_images.values())) / len(of_images),
        JOINT: joint,
        POINT: tf.add_n(list(of_points.values())) / len(of_points),
    }
    if len(of_images) > 1:
        losses |= {f"{IMAGE}/{name}": loss for name, loss in of_images.items()}
        losses |= {f"{POINT}/{name}": loss for name, loss in of_points.items()}
    return losses


def total_loss(
    losses: Mapping[str, tf.Tensor], weights: LossWeights, point_share: float | tf.Tensor = 1.0
) -> tf.Tensor:
    """The weighted sum.

    Args:
      losses: of ``sequence_losses``.
      weights: of the three.
      point_share: of the point's weight, from ``LossScheduler.at``.
    """
    point = tf.cast(weights.point * point_share, losses[POINT].dtype)
    return weights.image * losses[IMAGE] + weights.joint * losses[JOINT] + point * losses[POINT]
