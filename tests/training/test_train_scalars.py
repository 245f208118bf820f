"""Reading, checking and averaging train scalars."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from training.train_scalars import NonFiniteError, Position, ScalarWindow, add_to_sums, means


def read_one(scalars: dict[str, object]) -> dict[str, float]:
    window = ScalarWindow(1)
    window.add(Position(0, 0, 1), scalars)
    return next(window.read())[1]


def test_numbers_arrays_and_tensors_are_read() -> None:
    assert read_one({"loss": tf.constant(0.5), "a": np.float32(0.25), "b": 2}) == {
        "loss": 0.5,
        "a": 0.25,
        "b": 2.0,
    }


def test_a_window_is_read_oldest_first_and_emptied() -> None:
    window = ScalarWindow(2)
    window.add(Position(0, 0, 1), {"loss": 1.0})
    assert not window.full
    window.add(Position(0, 1, 2), {"loss": 2.0})
    assert window.full
    assert [(p.step, v["loss"]) for p, v in window.read()] == [(1, 1.0), (2, 2.0)]
    assert not window.full and list(window.read()) == []


@pytest.mark.parametrize(
    ("scalars", "message"),
    [
        ({"accuracy": 1.0}, r"must return 'loss'. Received: \['accuracy'\]"),
        ({"loss": [1.0, 2.0]}, r"loss of train_step must be a scalar. Received: shape \(2,\)"),
        ({"loss": 1.0, "step": 3}, "must not use the names.*Received: 'step'"),
        ({"loss": 1.0, "weight": 0.0}, "weight of train_step must be positive. Received: 0.0"),
    ],
)
def test_what_is_no_scalar_is_refused(scalars: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_one(scalars)


def test_the_loss_is_named_before_what_follows_from_it() -> None:
    with pytest.raises(NonFiniteError, match="loss=nan at step 1, epoch 1, batch 1"):
        read_one({"gradient_norm": math.nan, "loss": math.nan})


@given(
    st.lists(st.tuples(st.floats(-10, 10), st.floats(0.125, 8), st.booleans()), min_size=1, max_size=20),
)
def test_means_are_those_of_numpy(steps: list[tuple[float, float, bool]]) -> None:
    sums: dict[str, tuple[float, float]] = {}
    for value, weight, rare in steps:
        values = {"loss": value, "weight": weight}
        add_to_sums(sums, {**values, "rare": 2 * value} if rare else values)
    found = means(sums)
    values, weights, rare = (np.asarray(column) for column in zip(*steps, strict=True))
    assert found["loss"] == pytest.approx(np.average(values, weights=weights), abs=1e-9)
    assert ("rare" in found) == rare.any()
    if rare.any():
        assert found["rare"] == pytest.approx(np.average(2 * values[rare], weights=weights[rare]), abs=1e-9)


def test_without_a_weight_each_batch_counts_the_same() -> None:
    sums: dict[str, tuple[float, float]] = {}
    for value in (1.0, 2.0, 6.0):
        add_to_sums(sums, {"loss": value})
    assert means(sums) == {"loss": 3.0}
