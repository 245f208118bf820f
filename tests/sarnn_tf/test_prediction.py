"""Both models asked the same way."""

import numpy as np
import pytest
import tensorflow as tf

from sarnn_tf.image_modality import ImageModality
from sarnn_tf.networks.clip_sarnn import ClipSarnn, Observations
from sarnn_tf.networks.sarnn import Sarnn
from sarnn_tf.prediction import predict, predict_step


@pytest.fixture
def observations():
    rng = np.random.default_rng(3)
    return Observations(
        {"image": tf.constant(rng.random((2, 3, 16, 18, 3)), tf.float32)},
        tf.constant(rng.random((2, 3, 4)), tf.float32),
    )


def test_sarnn_answers_as_a_clip_sarnn_without_clip_of_equal_weights(observations):
    plain = Sarnn(4, rec_dim=5, k_dim=2, temperature=0.05, seed=7)
    modal = ClipSarnn(
        4, [ImageModality("image", k_dim=2)], rec_dim=5, temperature=0.05, use_clip=False, seed=7
    )
    for ours, theirs in zip(modal.trainable_variables, plain.trainable_variables, strict=True):
        ours.assign(theirs)
    found, state, aux = predict(plain, observations)
    expected, expected_state, expected_aux = predict(modal, observations)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state, expected_state)
    assert set(aux) == set(expected_aux)


@pytest.mark.parametrize("make", [Sarnn, lambda n: ClipSarnn(n, use_clip=False)])
def test_steps_one_by_one_are_the_sequence(make, observations):
    model = make(4)
    whole, _, _ = predict(model, observations)
    state = None
    for t in range(3):
        now = Observations({"image": observations.images["image"][:, t]}, observations.joints[:, t])
        output, state, _ = predict_step(model, now, state)
        np.testing.assert_allclose(output.joints, whole.joints[:, t], atol=1e-6)
        np.testing.assert_allclose(output.images["image"], whole.images["image"][:, t], atol=1e-6)


def test_sarnn_refuses_other_cameras(observations):
    with pytest.raises(ValueError, match="depth"):
        predict(Sarnn(4), observations._replace(images={"depth": observations.images["image"]}))
