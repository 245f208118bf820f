"""The loss and its gradients are the recorded ones."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_tf.rt import objective
from clip_tf.rt.objective import Features, clip_rt_loss
from tests import golden_files
from tests.clip_tf.clip_goldens import assert_each_is_compared, load

CASES = [f"{labels}/{scale}" for labels in ("mixed", "unique", "same", "one") for scale in ("init", "max")]


def assert_close(ours, recorded, tolerance=1e-6):
    recorded = np.asarray(recorded)
    worst = np.max(np.abs(np.asarray(ours) - recorded) / np.maximum(1.0, np.abs(recorded)))
    assert worst <= tolerance, f"differs by {worst:.2e}"


@pytest.mark.parametrize("path", golden_files.recordings("loss_*.npz"))
def test_golden_clip_loss(path):
    recorded = load(path)
    cases = {name.rsplit("/", 1)[0] for name in recorded if "/" in name}
    assert set(CASES) <= cases
    inputs = {n: v for n, v in recorded.items() if "/" not in n}
    for case in cases:
        of_case = inputs | {n: v for n, v in recorded.items() if n.startswith(f"{case}/")}
        check_loss(of_case, case)
        # A case of one row reads only the first of the inputs.
        rows = len(recorded[f"{case}/labels"])
        assert_each_is_compared(
            {n: v[:rows] if n in inputs else v for n, v in of_case.items()},
            lambda damaged, case=case: check_loss(damaged, case),
            exceptions=[f"{case}/labels"],  # What goes in; other unique ones say the same.
        )


def check_loss(recorded, case) -> None:
    labels = recorded[f"{case}/labels"]
    inputs = [tf.constant(recorded[f"input_{n}"][: len(labels)]) for n in ("image", "text", "supervision")]
    log_scale = tf.constant(recorded[f"{case}/log_logit_scale"])
    with tf.GradientTape() as tape:
        tape.watch([*inputs, log_scale])
        loss = clip_rt_loss(Features(*inputs), tf.constant(labels), log_scale)
    gradients = tape.gradient(loss, [*inputs, log_scale])
    np.testing.assert_array_equal(objective.pair_targets(tf.constant(labels)), recorded[f"{case}/targets"])
    assert_close(objective.pair_logits(Features(*inputs), log_scale), recorded[f"{case}/logits"], 5e-6)
    assert_close(loss, recorded[f"{case}/loss"])
    for name, gradient in zip(("image", "text", "supervision"), gradients, strict=False):
        assert_close(gradient, recorded[f"{case}/grad_{name}"])
    assert_close(gradients[-1], recorded[f"{case}/grad_log_logit_scale"], 1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 6), st.integers(0, 2**31 - 1), st.floats(0, math.log(100)))
def test_the_loss_is_the_mean_over_all_pairs(b, seed, log_scale):
    rng = np.random.default_rng(seed)
    image, text, supervision = (objective.unit_length(rng.normal(size=(b, 5))).numpy() for _ in range(3))
    labels = rng.integers(0, 3, b)
    total = 0.0
    for i in range(b):
        for j in range(b):
            z = math.exp(log_scale) * float((image[i] + text[i]).astype(np.float64) @ supervision[j])
            total += np.logaddexp(0, z) - (labels[i] == labels[j]) * z
    features = Features(*map(tf.constant, (image, text, supervision)))
    loss = clip_rt_loss(features, tf.constant(labels), tf.constant(log_scale, tf.float32))
    assert float(loss) == pytest.approx(total / b**2, rel=2e-5, abs=1e-5)


def test_the_scale_is_clamped():
    for value, expected in ((-1.0, 0.0), (9.0, math.log(100)), (2.0, 2.0)):
        variable = tf.Variable([value])
        objective.clamp_log_scale(variable)
        assert float(variable[0]) == pytest.approx(expected)


def test_a_zero_row_stays_zero():
    np.testing.assert_array_equal(objective.unit_length(tf.zeros([1, 3])), np.zeros((1, 3)))
