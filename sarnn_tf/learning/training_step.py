"""The losses of a batch of sequences, and their gradients: what a validation and a training step compute.

They are those of ``prediction.predict`` and ``losses.sequence_losses``. But nothing is predicted for
padding, and images go through the convolutions a few at a time, there and back, so that memory does not
grow with the batch.
"""

import tensorflow as tf

from sarnn_tf.data.batch import Batch
from sarnn_tf.image_modality import IMAGE
from sarnn_tf.learning.losses import (
    LossWeights,
    gathered,
    joint_error,
    point_error,
    shares_of_real,
    total_loss,
)
from sarnn_tf.networks.clip_sarnn import ClipSarnn
from sarnn_tf.networks.sarnn import Sarnn

LOSS = "loss"
"""The weighted sum of the losses."""


def losses_of(
    model: Sarnn | ClipSarnn,
    batch: Batch,
    weights: LossWeights,
    point_share: float | tf.Tensor = 1.0,
) -> dict[str, tf.Tensor]:
    """The losses of one-step predictions, without gradients.

    Args:
      model: as it is trained.
      batch: sequences of t steps, at least 2, of which the first t - 1 are shown.
      weights: of the losses.
      point_share: of the point's weight.

    Returns:
      Scalars: those of ``sequence_losses``, and ``loss``, their weighted sum.

    Raises:
      ValueError: the batch does not fit the model.
    """
    return _losses(model, batch, weights, point_share, with_gradient=False)


def losses_and_gradients(
    model: Sarnn | ClipSarnn,
    batch: Batch,
    weights: LossWeights,
    point_share: float | tf.Tensor = 1.0,
) -> tuple[dict[str, tf.Tensor], list[tf.Tensor | None]]:
    """The losses and the gradient of their weighted sum.

    Args:
      model, batch, weights, point_share: as for ``losses_of``.

    Returns:
      The losses of ``losses_of``, and the gradients in the order of ``model.trainable_variables``; None
      where a variable has no part in the loss.

    Raises:
      ValueError: the batch does not fit the model.
    """
    variables = model.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        losses = _losses(model, batch, weights, point_share, with_gradient=True)
    return losses, tape.gradient(losses[LOSS], variables)


def _losses(
    model: Sarnn | ClipSarnn,
    batch: Batch,
    weights: LossWeights,
    point_share: float | tf.Tensor,
    *,
    with_gradient: bool,
) -> dict[str, tf.Tensor]:
    _check(model, batch)
    images, joints, patches, text = batch.inputs
    real = batch.real
    # Not even the gradient may see padding: 0 times what is not finite is not 0.
    targets = tf.where(real[..., None], batch.joints, 0.0)
    sequences, length = tf.unstack(tf.shape(batch.joints)[:2])
    seen = tf.where(real[:, 1:])  # [n, 2]: sequence and step of everything that is shown and predicted.
    frames = seen[:, 0] * tf.cast(length, tf.int64) + seen[:, 1]
    shares = tf.gather_nd(shares_of_real(real[:, 1:]), seen)

    def by_step(rows: tf.Tensor) -> tf.Tensor:
        """[n, d] to [b, t - 1, d], zeros where nothing is shown."""
        shape = tf.stack([sequences, length - 1, rows.shape[1]])
        return tf.ensure_shape(
            tf.scatter_nd(seen, rows, tf.cast(shape, tf.int64)), [None, None, rows.shape[1]]
        )

    found = {}
    for name, stream in model.streams.items():
        of_frames, gate = None, None
        if stream.uses_clip and patches is not None:
            of_frames = tf.gather(_flat(patches), frames)
            gate = None if text is None else tf.gather(text, seen[:, 0])
        found[name] = by_step(stream.find(_flat(images[name]), frames, of_frames, gate))
    shown = tf.where(real[:, 1:, None], joints[:, :-1], 0.0)
    every, _ = model.recur(found, shown, text)
    hidden = tf.gather_nd(every.h, seen)
    of_images, of_points = {}, {}
    for name, stream in model.streams.items():
        expected = stream.expect(hidden)
        of_images[name] = stream.image_error(
            _flat(images[name]),
            _flat(batch.images[name]),
            frames,
            shares,
            expected,
            with_gradient=with_gradient,
        )
        of_points[name] = point_error(found[name], by_step(expected), real)
    losses = gathered(of_images, joint_error(model.expect_joints(every.h), targets, real), of_points)
    return losses | {LOSS: total_loss(losses, weights, point_share)}


def _check(model: Sarnn | ClipSarnn, batch: Batch) -> None:
    if isinstance(model, ClipSarnn):
        model.check(batch.inputs)
    elif set(batch.inputs.images) != {IMAGE}:
        raise ValueError(f"SARNN sees only {IMAGE!r}. Received: {sorted(batch.inputs.images)}")
    for name, seen in batch.inputs.images.items():
        target = batch.images.get(name)
        if target is None or not seen.shape.is_compatible_with(target.shape):
            raise ValueError(
                f"Targets of {name!r} must be {seen.shape}. Received: {getattr(target, 'shape', None)}"
            )


def _flat(sequences: tf.Tensor) -> tf.Tensor:
    """[b, t, ...] to [b · t, ...]."""
    return tf.reshape(sequences, [-1, *sequences.shape[2:]])
