"""Each loss against numpy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rt1 import losses

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 4, (2, 3, 5, 16)).astype(np.float32)
TOKENS = RNG.integers(0, 16, (2, 3, 5)).astype(np.int32)
LOG_P = LOGITS - np.log(np.exp(LOGITS.astype(np.float64)).sum(-1, keepdims=True))


def test_cross_entropy() -> None:
    expected = -np.take_along_axis(LOG_P, TOKENS[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(losses.cross_entropy(LOGITS, TOKENS), expected, atol=1e-5)


def _gaussian(token: int, vocabulary: int, std: float, truncate: float) -> np.ndarray:
    bins = np.arange(vocabulary)
    weights = np.exp(-((bins - token) ** 2) / (2 * std**2)) * (np.abs(bins - token) <= truncate * std)
    return weights / weights.sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 255), st.floats(0.25, 20), st.floats(0.5, 6))
def test_gaussian_targets(token: int, std: float, truncate: float) -> None:
    std, truncate = float(np.float32(std)), float(np.float32(truncate))
    found = losses.gaussian_targets(tf.constant([token]), 256, std, truncate).numpy()[0]
    np.testing.assert_allclose(found.sum(), 1.0, atol=1e-5)
    assert found.argmax() == token
    distance = np.abs(np.arange(256) - token)
    assert not found[distance > truncate * std * 1.001 + 1e-3].any()
    inside = distance < truncate * std * 0.999 - 1e-3
    expected = _gaussian(token, 256, std, truncate)
    if (inside == (expected > 0)).all():  # No bin lies on the very edge, where rounding decides.
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gaussian_targets_are_cut_off_and_renormalised_at_the_border() -> None:
    found = losses.gaussian_targets(tf.constant([0, 8, 255]), 256, std=2.0, truncate=4.0).numpy()
    assert (found > 0).sum(axis=-1).tolist() == [9, 17, 9]  # Up to 8 bins to each side.
    np.testing.assert_allclose(found.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(found[0], _gaussian(0, 256, 2.0, 4.0), atol=1e-6)


def test_smoothed_cross_entropy() -> None:
    targets = np.stack([_gaussian(t, 16, 2.0, 4.0) for t in TOKENS.ravel()]).reshape(LOGITS.shape)
    expected = -(targets * LOG_P).sum(-1)
    found = losses.smoothed_cross_entropy(LOGITS, TOKENS, 2.0, 4.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_narrow_gaussian_is_the_plain_cross_entropy() -> None:
    found = losses.smoothed_cross_entropy(LOGITS, TOKENS, 0.1, 1.0)
    np.testing.assert_allclose(found, losses.cross_entropy(LOGITS, TOKENS), atol=1e-5)


@pytest.mark.parametrize(("std", "truncate"), [(0.0, 4.0), (-1.0, 4.0), (2.0, 0.0)])
def test_a_gaussian_without_width(std: float, truncate: float) -> None:
    with pytest.raises(ValueError, match=f"must be positive. Received: std={std}"):
        losses.gaussian_targets(TOKENS, 16, std, truncate)


VALUES = np.array([0.0, 0.5, 1.0, 1.5, -3.0, 0.25], np.float32)
TARGETS = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0], np.float32)


def test_l1() -> None:
    np.testing.assert_allclose(losses.l1(VALUES, TARGETS), [0, 0.5, 1, 1.5, 4, 0.75])


def test_smooth_l1() -> None:
    np.testing.assert_allclose(losses.smooth_l1(VALUES, TARGETS), [0, 0.125, 0.5, 1, 3.5, 0.28125])
    error = np.abs(VALUES - TARGETS)
    expected = np.where(error <= 0.5, error**2 / 2, 0.5 * (error - 0.25))
    np.testing.assert_allclose(losses.smooth_l1(VALUES, TARGETS, delta=0.5), expected)
    huber = tf.keras.losses.Huber(reduction="none")(TARGETS[:, None], VALUES[:, None])
    np.testing.assert_allclose(losses.smooth_l1(VALUES, TARGETS), huber, atol=1e-6)


def test_smooth_l1_has_a_gradient_at_zero_error() -> None:
    values = tf.Variable(TARGETS)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(losses.smooth_l1(values, TARGETS))
    np.testing.assert_array_equal(tape.gradient(loss, values), np.zeros_like(TARGETS))


TOKEN_LOSSES = RNG.uniform(size=(2, 3, 11)).astype(np.float32)


def test_step_losses() -> None:
    mean = TOKEN_LOSSES.mean(-1)
    np.testing.assert_allclose(losses.step_losses(TOKEN_LOSSES, "mean", 19), mean, atol=1e-6)
    # RT-1 divides by batch · time · all tokens of a step, image tokens included.
    np.testing.assert_allclose(losses.step_losses(TOKEN_LOSSES, "rt1", 19), mean / (2 * 3 * 19), atol=1e-8)


def test_an_unknown_scale() -> None:
    with pytest.raises(ValueError, match=r"\('rt1', 'mean'\).*Received: 'sum'"):
        losses.step_losses(TOKEN_LOSSES, "sum", 19)


MASK = np.array([[1, 0, 1], [0, 0, 1]])


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_masked_mean(dtype: type) -> None:
    step = TOKEN_LOSSES.mean(-1)
    total = step[MASK == 1].sum()
    mask = MASK.astype(dtype)
    np.testing.assert_allclose(losses.masked_mean(step, mask), total / 6, rtol=1e-6)
    np.testing.assert_allclose(losses.masked_mean(step, mask, count_masked=False), total / 3, rtol=1e-6)


def test_masked_mean_of_nothing() -> None:
    for count_masked in (True, False):
        assert (
            losses.masked_mean(np.ones((2, 3), np.float32), np.zeros((2, 3)), count_masked=count_masked) == 0
        )


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_masked_step_may_be_anything(bad: float) -> None:
    """Neither the mean nor its gradient sees a masked step."""
    values = np.where(MASK == 1, 2.0, bad).astype(np.float32)
    variable = tf.Variable(values)
    with tf.GradientTape() as tape:
        mean = losses.masked_mean(variable, MASK)
    np.testing.assert_allclose(mean, 1.0)
    np.testing.assert_allclose(tape.gradient(mean, variable), MASK / 6, rtol=1e-6)


def test_masked_mean_takes_weights() -> None:
    step = np.array([[1.0, 2.0]], np.float32)
    np.testing.assert_allclose(losses.masked_mean(step, np.array([[0.5, 1.0]])), 2.5 / 2)
    np.testing.assert_allclose(
        losses.masked_mean(step, np.array([[0.5, 1.0]]), count_masked=False), 2.5 / 1.5, rtol=1e-6
    )
