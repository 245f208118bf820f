"""How good predicted skewering parameters are. Pure functions on [n, 4] arrays of x1, y1, x2, y2.

All distances are in fractions of the image; angles in degrees. The skewer point is the middle of the two
points, as the centroid is, so its figures are the centroid's.
"""

from collections.abc import Mapping, Sequence

import numpy as np

METRICS = (
    "bbox_mse",
    "bbox_mae",
    "centroid_mse",
    "centroid_mae",
    "skewer_mse",
    "skewer_mae",
    "angle_mae_degrees",
)


def centroid(parameters: np.ndarray) -> np.ndarray:
    """The middle (x, y) of the two points, [n, 2]; also the skewer point."""
    return (parameters[..., :2] + parameters[..., 2:]) / 2


def angle_degrees(parameters: np.ndarray) -> np.ndarray:
    """The direction from the first point to the second, atan2(dy, dx) in (-180, 180], [n].

    y points down, so that 90 degrees point down in the picture.
    """
    dx, dy = parameters[..., 2] - parameters[..., 0], parameters[..., 3] - parameters[..., 1]
    return np.degrees(np.arctan2(dy, dx))


def wrap_degrees(angle: np.ndarray) -> np.ndarray:
    """The same angle in [-180, 180)."""
    return (np.asarray(angle) + 180) % 360 - 180


def food_metrics(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """The validation metrics of the food task (``METRICS``).

    MSE and MAE are means over examples and coordinates.

    Args:
      predicted, true: float [n, 4], n > 0.

    Raises:
      ValueError: shapes differ or are not [n, 4], or a number is not finite.
    """
    predicted, true = _checked(predicted, "predicted"), _checked(true, "true")
    if predicted.shape != true.shape:
        raise ValueError(f"predicted and true must be alike. Received: {predicted.shape} and {true.shape}")
    box = predicted - true
    middle = centroid(predicted) - centroid(true)
    turn = wrap_degrees(angle_degrees(predicted) - angle_degrees(true))
    mse, mae = float(np.mean(middle**2)), float(np.mean(np.abs(middle)))
    return {
        "bbox_mse": float(np.mean(box**2)),
        "bbox_mae": float(np.mean(np.abs(box))),
        "centroid_mse": mse,
        "centroid_mae": mae,
        "skewer_mse": mse,
        "skewer_mae": mae,
        "angle_mae_degrees": float(np.mean(np.abs(turn))),
    }


def mean_predictor_metrics(training_labels: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """The metrics of always answering the mean of the training labels: what must be beaten."""
    mean = _checked(training_labels, "training_labels").mean(axis=0)
    return food_metrics(np.broadcast_to(mean, np.shape(true)), true)


def metrics_by_name(
    predicted: np.ndarray, true: np.ndarray, names: Sequence[str]
) -> Mapping[str, dict[str, float]]:
    """The metrics of each combination (``skewering_banana``…), and ``count``; names in sorted order.

    Raises:
      ValueError: as ``food_metrics``, or another number of names.
    """
    if len(names) != len(predicted):
        raise ValueError(f"There must be one name for each of {len(predicted)}. Received: {len(names)} names")
    labels = np.asarray(names)
    result = {}
    for name in sorted(set(names)):
        chosen = labels == name
        metrics = food_metrics(np.asarray(predicted)[chosen], np.asarray(true)[chosen])
        result[name] = {"count": float(chosen.sum()), **metrics}
    return result


def _checked(parameters: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(parameters, np.float64)
    if array.ndim != 2 or array.shape[1] != 4 or len(array) == 0:
        raise ValueError(f"{name} must be [n, 4], n > 0. Received: shape={array.shape}")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(f"{name} must be finite. Received: {array[row]} in row {row}")
    return array
