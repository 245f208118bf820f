"""The losses: padding counts for nothing, and a sequence counts as much as alone."""

import numpy as np
import pytest
import tensorflow as tf

from sarnn_tf.learning.losses import LossWeights, mean_over_real, sequence_losses, total_loss
from sarnn_tf.learning.padding import pad_sequences
from sarnn_tf.networks.sarnn import Sarnn

WEIGHTS = LossWeights(1.0, 1.0, 1.0)


def losses_and_gradients(
    model: Sarnn, images: np.ndarray, joints: np.ndarray, real: np.ndarray | None
) -> tuple[dict[str, float], list[np.ndarray]]:
    x, j = tf.constant(images), tf.constant(joints)
    with tf.GradientTape() as tape:
        output, _, _ = model(x[:, :-1], j[:, :-1])
        losses = sequence_losses(
            {"image": output.image},
            output.joints,
            {"image": output.encoder_points},
            {"image": output.decoder_points},
            {"image": x},
            j,
            None if real is None else tf.constant(real),
        )
        total = total_loss(losses, WEIGHTS)
    gradients = tape.gradient(total, model.trainable_variables)
    return {k: float(v) for k, v in losses.items()}, [g.numpy() for g in gradients]


def test_sequences_of_different_length_count_as_each_alone() -> None:
    model = Sarnn(3, rec_dim=6, k_dim=2, temperature=1e-1, seed=1)
    rng = np.random.default_rng(0)
    lengths = (7, 3, 5, 2)  # The last has no point loss.
    images = [rng.random((n, 12, 14, 3), np.float32) for n in lengths]
    joints = [rng.random((n, 3), np.float32) for n in lengths]
    alone = [losses_and_gradients(model, i[None], j[None], None) for i, j in zip(images, joints, strict=True)]
    padded_images, real = pad_sequences(images, 9)
    padded_joints, _ = pad_sequences(joints, 9)
    # What padding holds must not matter either.
    padded_images[~real] = 1e3
    padded_joints[~real] = -1e3
    losses, gradients = losses_and_gradients(model, padded_images, padded_joints, real)
    for name, value in losses.items():
        assert value == pytest.approx(np.mean([a[0][name] for a in alone]), rel=1e-5), name
    for i, gradient in enumerate(gradients):
        expected = np.mean([a[1][i] for a in alone], axis=0)
        np.testing.assert_allclose(gradient, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_a_mean_over_nothing_is_zero() -> None:
    assert float(mean_over_real(tf.ones([2, 0]), tf.ones([2, 0], tf.bool))) == 0
    assert float(mean_over_real(tf.fill([2, 3], np.inf), tf.zeros([2, 3], tf.bool))) == 0


def test_sequences_without_a_real_step_do_not_count() -> None:
    errors = tf.constant([[1.0, 3.0], [5.0, 9.0], [7.0, 7.0]])
    real = tf.constant([[True, True], [True, False], [False, False]])
    assert float(mean_over_real(errors, real)) == pytest.approx((2 + 5) / 2)
    every = tf.ones([3, 4], tf.bool)
    assert float(mean_over_real(errors, real, every)) == pytest.approx((2 + 5 + 0) / 3)


def points_and_images(names: tuple[str, ...]) -> tuple[dict, dict]:
    return {n: tf.zeros([2, 3, 4]) for n in names}, {n: tf.zeros([2, 3, 5, 5, 1]) for n in names}


def test_modalities_are_averaged_and_reported() -> None:
    points, predicted = points_and_images(("image", "depth"))
    targets = {"image": tf.ones([2, 4, 5, 5, 1]), "depth": 3 * tf.ones([2, 4, 5, 5, 1])}
    found = sequence_losses(
        predicted,
        tf.zeros([2, 3, 1]),
        points,
        {n: p + 2 for n, p in points.items()},
        targets,
        tf.zeros([2, 4, 1]),
    )
    of_images = {"image": 5, "image/image": 1, "image/depth": 9}
    of_points = {"point": 4, "point/image": 4, "point/depth": 4}
    assert {k: float(v) for k, v in found.items()} == of_images | of_points | {"joint": 0}
    assert float(total_loss(found, LossWeights(1, 1, 0.5), 0.5)) == 6


def test_targets_must_fit() -> None:
    points, predicted = points_and_images(("image",))
    joints = tf.zeros([2, 3, 1])
    with pytest.raises(ValueError, match="modalities"):
        sequence_losses(predicted, joints, points, points, {"depth": tf.zeros([2, 4, 5, 5, 1])}, joints)
    with pytest.raises(ValueError, match="3 steps have 2 predictions. Received: 3"):
        sequence_losses(predicted, joints, points, points, {"image": tf.zeros([2, 3, 5, 5, 1])}, joints)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weights must be >= 0"):
            LossWeights(point=weight)


def test_lengths_need_not_be_known_when_compiled() -> None:
    model = Sarnn(3, rec_dim=6, k_dim=2, temperature=1e-1, seed=1)

    def point_and_joint_loss(x: tf.Tensor, j: tf.Tensor) -> list[tf.Tensor]:
        o, _, _ = model(x[:, :-1], j[:, :-1])
        points = {"image": o.encoder_points}, {"image": o.decoder_points}
        losses = sequence_losses({"image": o.image}, o.joints, *points, {"image": x}, j)
        return [losses[name] for name in ("image", "joint", "point")]

    signature = [tf.TensorSpec([None, None, 10, 12, 3]), tf.TensorSpec([None, None, 3])]
    compiled = tf.function(point_and_joint_loss, input_signature=signature)
    for b, t in ((2, 4), (1, 2)):
        x = tf.random.stateless_uniform([b, t, 10, 12, 3], [1, t])
        j = tf.random.stateless_uniform([b, t, 3], [2, t])
        np.testing.assert_allclose(compiled(x, j), point_and_joint_loss(x, j), atol=1e-6)
