"""The gradient of a loss over all pairs of a batch, when the batch does not fit into one pass.

The loss couples every example with every other, so that gradients of parts of the batch cannot be added up.
But it depends on the weights through the features only: all features are computed first, the loss and its
gradient with respect to them over the whole batch, and then each part's share is carried back by itself. With
chunks the towers run twice and only one chunk's activations are held (Gao et al., "Scaling Deep Contrastive
Learning Batch Size under Memory Limited Setup", 2021); with replicas the features are gathered and each
carries its own rows back. Both give the gradient of one device and one pass.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from clip_tf.rt.objective import Features, clip_rt_loss

Batch = Mapping[str, tf.Tensor]
Encode = Callable[[Batch], Features]


class LossAndGradients(NamedTuple):
    """What ``loss_and_gradients`` returns, equal on every replica.

    Attributes:
      loss: float32 scalar over the batches of all replicas.
      towers: a dense gradient for each of the variables given.
      log_scale: the gradient with respect to τ.
    """

    loss: tf.Tensor
    towers: list[tf.Tensor]
    log_scale: tf.Tensor


def loss_and_gradients(
    encode: Encode,
    batch: Batch,
    labels: tf.Tensor,
    log_scale: tf.Variable,
    variables: Sequence[tf.Variable],
    chunks: int = 1,
) -> LossAndGradients:
    """The loss over all pairs, and its gradient.

    Args:
      encode: part of a batch -> its features; the same whenever it is called.
      batch: what ``encode`` takes, each [b, …]; of this replica, every replica with the same b.
      labels: integers [b].
      log_scale: τ.
      variables: that ``encode`` depends on.
      chunks: how many parts of equal size go through ``encode`` one after another.

    Raises:
      ValueError: chunks is below 1 or does not divide a known b.
      tf.errors.InvalidArgumentError: chunks does not divide b.
    """
    if chunks < 1:
        raise ValueError(f"chunks must be at least 1. Received: {chunks}")
    variables = list(variables)
    if chunks == 1:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            features = encode(batch)
        loss, feature_gradients, scale_gradient = _loss_over_replicas(features, labels, log_scale)
        towers = _dense(tape.gradient(features, variables, feature_gradients, _ZERO), variables)
    else:
        parts = {name: _split(tensor, chunks) for name, tensor in batch.items()}
        features = _encode_parts(encode, parts, chunks)
        loss, feature_gradients, scale_gradient = _loss_over_replicas(features, labels, log_scale)
        towers = _carry_back(encode, parts, chunks, feature_gradients, variables)
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1 and towers:
        towers = list(replica.all_reduce(tf.distribute.ReduceOp.SUM, towers))
    return LossAndGradients(loss, towers, scale_gradient)


_ZERO = tf.UnconnectedGradients.ZERO


def _loss_over_replicas(
    features: Features, labels: tf.Tensor, log_scale: tf.Variable
) -> tuple[tf.Tensor, Features, tf.Tensor]:
    """Loss, its gradients with respect to this replica's features, and with respect to τ."""
    replica = tf.distribute.get_replica_context()
    everyone = features
    if replica is not None and replica.num_replicas_in_sync > 1:
        everyone = Features(*(replica.all_gather(f, axis=0) for f in features))
        labels = replica.all_gather(labels, axis=0)
    scale = tf.convert_to_tensor(log_scale)
    with tf.GradientTape() as tape:
        tape.watch([*everyone, scale])
        loss = clip_rt_loss(everyone, labels, scale)
    *gradients, scale_gradient = tape.gradient(loss, [*everyone, scale])
    if replica is not None and replica.num_replicas_in_sync > 1:
        rows = tf.shape(features.image)[0]
        first = rows * replica.replica_id_in_sync_group
        gradients = [g[first : first + rows] for g in gradients]
    return loss, Features(*gradients), scale_gradient


def _split(tensor: tf.Tensor, chunks: int) -> tf.Tensor:
    """[b, …] -> [chunks, b / chunks, …]."""
    b = tensor.shape[0]
    if b is not None and b % chunks:
        raise ValueError(f"The batch of {b} must be divisible by chunks. Received: chunks={chunks}")
    parts = tf.reshape(tensor, [chunks, -1, *tf.unstack(tf.shape(tensor))[1:]])
    return tf.ensure_shape(parts, [chunks, None if b is None else b // chunks, *tensor.shape[1:]])


def _encode_parts(encode: Encode, parts: Batch, chunks: int) -> Features:
    def body(i: tf.Tensor, *arrays: tf.TensorArray) -> tuple:
        features = encode({name: part[i] for name, part in parts.items()})
        return (i + 1, *(a.write(i, f) for a, f in zip(arrays, features, strict=True)))

    empty = [tf.TensorArray(tf.float32, chunks) for _ in Features._fields]
    _, *arrays = tf.while_loop(
        lambda i, *_: i < chunks, body, (tf.constant(0), *empty), parallel_iterations=1
    )
    return Features(*(array.concat() for array in arrays))


def _carry_back(
    encode: Encode,
    parts: Batch,
    chunks: int,
    feature_gradients: Features,
    variables: Sequence[tf.Variable],
) -> list[tf.Tensor]:
    shares = [_split(gradient, chunks) for gradient in feature_gradients]

    def body(i: tf.Tensor, *sums: tf.Tensor) -> tuple:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            features = encode({name: part[i] for name, part in parts.items()})
        gradients = tape.gradient(features, variables, Features(*(s[i] for s in shares)), _ZERO)
        return (i + 1, *(s + g for s, g in zip(sums, _dense(gradients, variables), strict=True)))

    zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
    _, *sums = tf.while_loop(lambda i, *_: i < chunks, body, (tf.constant(0), *zeros), parallel_iterations=1)
    return sums


def _dense(gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable]) -> list[tf.Tensor]:
    return [
        tf.ensure_shape(tf.convert_to_tensor(g), v.shape) for g, v in zip(gradients, variables, strict=True)
    ]
