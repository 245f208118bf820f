"""Food metrics on numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt1.food_metrics import (
    METRICS,
    angle_degrees,
    food_metrics,
    mean_predictor_metrics,
    metrics_by_name,
    wrap_degrees,
)

TRUE = np.array([[0.0, 0.0, 1.0, 0.0], [0.5, 0.5, 0.5, 1.0]], np.float32)


def test_perfect_predictions_have_no_error():
    assert food_metrics(TRUE, TRUE) == dict.fromkeys(METRICS, 0.0)


def test_worked_example():
    # The first is moved by (0.1, 0.2); the second turned by 90 degrees about its first point.
    predicted = np.array([[0.1, 0.2, 1.1, 0.2], [0.5, 0.5, 1.0, 0.5]])
    got = food_metrics(predicted, TRUE)
    assert got["bbox_mae"] == pytest.approx((0.1 + 0.2 + 0.1 + 0.2 + 0.5 + 0.5) / 8)
    assert got["bbox_mse"] == pytest.approx((0.01 + 0.04 + 0.01 + 0.04 + 0.25 + 0.25) / 8)
    assert got["centroid_mae"] == got["skewer_mae"] == pytest.approx((0.1 + 0.2 + 0.25 + 0.25) / 4)
    assert got["centroid_mse"] == got["skewer_mse"] == pytest.approx((0.01 + 0.04 + 0.0625 * 2) / 4)
    assert got["angle_mae_degrees"] == pytest.approx(45)
    assert tuple(got) == METRICS


@pytest.mark.parametrize(
    ("points", "degrees"),
    [((0, 0, 1, 0), 0), ((0, 0, 0, 1), 90), ((1, 0, 0, 0), 180), ((0, 1, 0, 0), -90), ((0, 0, 1, 1), 45)],
)
def test_angles(points, degrees):
    assert angle_degrees(np.array(points, float)) == pytest.approx(degrees)


def test_angles_wrap():
    def around(degrees):
        return [0.5, 0.5, 0.5 + np.cos(np.radians(degrees)) / 4, 0.5 + np.sin(np.radians(degrees)) / 4]

    got = food_metrics(np.array([around(179)]), np.array([around(-179)]))
    assert got["angle_mae_degrees"] == pytest.approx(2)


@given(st.floats(-1e4, 1e4), st.integers(-3, 3))
def test_wrapping(angle, turns):
    got = wrap_degrees(angle + 360 * turns)
    assert -180 <= got < 180
    difference = (got - angle) / 360
    assert abs(difference - round(difference)) < 1e-6


def test_mean_predictor_answers_the_training_mean():
    training = np.array([[0.2, 0.2, 0.4, 0.4], [0.4, 0.4, 0.6, 0.6]])
    true = np.array([[0.3, 0.3, 0.5, 0.5], [0.5, 0.3, 0.7, 0.5]])
    got = mean_predictor_metrics(training, true)
    assert got["centroid_mae"] == pytest.approx(0.2 / 4)


def test_each_combination_for_itself():
    predicted = np.concatenate([TRUE, TRUE]) + np.array([0, 0, 0.1, 0.2])[:, None]
    got = metrics_by_name(predicted, np.concatenate([TRUE, TRUE]), ["b", "b", "a", "a"])
    assert list(got) == ["a", "b"]
    assert got["a"]["count"] == 2 and got["a"]["bbox_mae"] == pytest.approx(0.15)
    assert got["b"]["bbox_mae"] == 0


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        (TRUE, TRUE[:1], "must be alike"),
        (TRUE[:0], TRUE[:0], "n > 0"),
        (TRUE[:, :3], TRUE[:, :3], r"must be \[n, 4\]"),
        (TRUE * np.array([[1], [np.nan]]), TRUE, "predicted must be finite.*in row 1"),
    ],
)
def test_wrong_arrays(predicted, true, message):
    with pytest.raises(ValueError, match=message):
        food_metrics(predicted, true)


def test_wrong_number_of_names():
    with pytest.raises(ValueError, match="Received: 1 names"):
        metrics_by_name(TRUE, TRUE, ["a"])
