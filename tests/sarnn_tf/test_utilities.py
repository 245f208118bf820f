"""Optimiser, scheduler, normalisation, padding, interpolation, splits: beyond the recordings."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sarnn_tf.image_resize import resize
from sarnn_tf.learning.loss_scheduler import CURVES, LossScheduler
from sarnn_tf.learning.optimizer import TorchAdam
from sarnn_tf.learning.padding import pad_sequences
from sarnn_tf.mean_bounds import mean_bounds
from sarnn_tf.motion.cosine_interpolation import cosine_interpolation
from sarnn_tf.normalization import bounds_of, denormalize, normalize, to_uint8
from sarnn_tf.stratified_split import stratified_split, tasks_by_thirds


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_follows_the_papers_in_float64(weight_decay: float) -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 3))
    gradients = rng.normal(size=(5, 4, 3)) * 10.0 ** rng.integers(-9, 1, (4, 3))
    variable = tf.Variable(start, dtype=tf.float32)
    optimizer = TorchAdam([variable], 1e-2, epsilon=1e-7, weight_decay=weight_decay)
    x, m, v = start.astype(np.float32).astype(np.float64), 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        optimizer.apply([tf.constant(g, tf.float32)])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x * (1 - 1e-2 * weight_decay) - 1e-2 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)
    np.testing.assert_allclose(variable, x, atol=2e-6)
    assert int(optimizer.iterations) == 5


def test_adam_leaves_variables_without_a_gradient_and_can_be_saved(tmp_path) -> None:
    still, moved = tf.Variable([1.0]), tf.Variable([1.0])
    optimizer = TorchAdam([still, moved], weight_decay=0.1)
    optimizer.apply([None, tf.constant([1.0])])
    assert float(still[0]) == 1.0 > float(moved[0])
    path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "c"))
    other = TorchAdam([tf.Variable([1.0]), tf.Variable([1.0])])
    tf.train.Checkpoint(optimizer=other).read(path).assert_consumed()
    assert int(other.iterations) == 1
    np.testing.assert_array_equal(other.second_moments[1], optimizer.second_moments[1])
    with pytest.raises(ValueError, match="Expected 2 gradients. Received: 1"):
        optimizer.apply([None])
    with pytest.raises(ValueError, match="learning_rate"):
        TorchAdam([moved], 0.0)


@pytest.mark.parametrize("curve", CURVES)
def test_curves_rise_from_nothing_to_all(curve: str) -> None:
    found = LossScheduler(50, curve).at(np.arange(-1, 60)).numpy()
    assert found[0] == found[1] == 0
    assert found[50:] == pytest.approx(1.0)
    assert (np.diff(found) >= -1e-12).all()


def test_schedulers_refuse() -> None:
    with pytest.raises(ValueError, match="curve must be one of"):
        LossScheduler(curve="deform")
    with pytest.raises(ValueError, match="decay_end"):
        LossScheduler(decay_end=1)


values = hnp.arrays(np.float64, (5, 3), elements=st.floats(-1e3, 1e3).map(lambda x: round(x, 3)))


@settings(deadline=None, max_examples=50)
@given(values, st.sampled_from([(0.0, 1.0), (0.1, 0.9), (-0.9, 0.9)]))
def test_normalisation_has_an_inverse_also_for_what_never_moves(
    data: np.ndarray, span: tuple[float, float]
) -> None:
    data[:, 0] = data[0, 0]
    bounds = bounds_of(data)
    normalised = normalize(data, bounds, *span)
    assert np.isfinite(normalised).all()
    assert normalised.min() >= span[0] - 1e-9
    assert normalised.max() <= span[1] + 1e-9
    np.testing.assert_allclose(normalised[:, 0], span[0])
    np.testing.assert_allclose(denormalize(normalised, bounds, *span), data, atol=1e-9)
    # A joint that moves only after the bounds were taken is not lost.
    again = denormalize(normalize(data + 1, bounds, *span), bounds, *span)
    np.testing.assert_allclose(again, data + 1, atol=1e-9)


def test_rounding_of_a_joint_that_stands_still_is_not_blown_up() -> None:
    data = np.float32(0.35) + np.array([[0.0], [3e-8], [-3e-8]], np.float32)
    normalised = normalize(data + np.float32(0.1), bounds_of(data), 0.0, 1.0)
    np.testing.assert_allclose(normalised, 0.1, atol=1e-6)


def test_normalisation_refuses() -> None:
    for bounds in ([[1.0], [0.0]], [[np.nan], [1.0]], [[0.0], [1.0], [2.0]]):
        with pytest.raises(ValueError, match="bounds must be finite"):
            normalize(np.zeros((2, 1)), np.array(bounds), 0.0, 1.0)
    with pytest.raises(ValueError, match="vmin must be below vmax"):
        normalize(np.zeros((2, 1)), np.array([[0.0], [1.0]]), 1.0, 1.0)
    for data in (np.zeros((0, 2)), np.full((2, 2), np.inf)):
        with pytest.raises(ValueError, match="finite values"):
            bounds_of(data)
        with pytest.raises(ValueError, match="finite values"):
            mean_bounds(data)
    with pytest.raises(ValueError, match="clip must be in"):
        mean_bounds(np.zeros((2, 2)), clip=0.9)


def test_uint8_is_cut_off_and_clipped() -> None:
    np.testing.assert_array_equal(
        to_uint8(np.array([-1.0, 0.0, 0.999, 1.0, 7.0]), 0, 1), [0, 0, 254, 255, 255]
    )


def test_padding_repeats_the_last_step() -> None:
    padded, real = pad_sequences([np.array([[1], [2]]), np.array([[3]])], 4)
    np.testing.assert_array_equal(padded[..., 0], [[1, 2, 2, 2], [3, 3, 3, 3]])
    np.testing.assert_array_equal(real, [[1, 1, 0, 0], [1, 0, 0, 0]])


@pytest.mark.parametrize(
    ("sequences", "length"),
    [
        ([], None),
        ([np.zeros((0, 1))], None),
        ([np.zeros((3, 1))], 2),
        ([np.zeros((1, 1)), np.zeros((1, 2))], None),
    ],
)
def test_padding_refuses(sequences: list[np.ndarray], length: int | None) -> None:
    with pytest.raises(ValueError, match="Received"):
        pad_sequences(sequences, length)


@pytest.mark.parametrize(
    ("signal", "step"),
    [([0, 0, 0.5], 1), ([0, 1], 2), ([0, 0, 0, 1], 2), ([0, 1], 0), ([[0, 1]], 1)],
)
def test_interpolation_refuses(signal: list, step: int) -> None:
    with pytest.raises(ValueError, match="Received"):
        cosine_interpolation(np.array(signal), step)


def test_interpolation_rises_and_falls_without_leaving_0_to_1() -> None:
    signal = np.array([0] * 10 + [1] * 10 + [0] * 10)
    smooth = cosine_interpolation(signal, 5)
    assert smooth.min() == 0
    assert smooth.max() == 1
    np.testing.assert_allclose(smooth, smooth[::-1], atol=1e-12)
    assert (np.diff(smooth[:15]) >= 0).all()


def test_resize_keeps_axes_and_refuses() -> None:
    assert resize(np.zeros((2, 3, 8, 10, 1), np.uint16), 4, 5).shape == (2, 3, 4, 5, 1)
    with pytest.raises(ValueError, match="interpolation must be one of"):
        resize(np.zeros((4, 4)), 2, 2, "cubic")
    with pytest.raises(ValueError, match="Cannot resize"):
        resize(np.zeros((4, 4)), 0, 2)


@settings(deadline=None, max_examples=50)
@given(st.integers(15, 60), st.integers(0, 1000))
def test_a_split_holds_every_task_in_proportion(n: int, seed: int) -> None:
    labels = tasks_by_thirds(n)
    train, test = stratified_split(labels, seed=seed)
    assert sorted([*train, *test]) == list(range(n))
    assert len(test) == -(-n // 5)
    for task in range(3):
        assert abs((labels[test] == task).sum() - (labels == task).sum() / 5) < 1.5


def test_splits_refuse() -> None:
    with pytest.raises(ValueError, match="at least 3 episodes"):
        tasks_by_thirds(2)
    with pytest.raises(ValueError, match="Each label must occur twice"):
        stratified_split(tasks_by_thirds(10))
