"""Spatial softmax: from feature maps to the points they attend to (Finn et al. 2016)."""

import numpy as np
import tensorflow as tf


def axes(height: int, width: int, *, normalized: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the columns and of the rows.

    Args:
      height, width: of the feature map.
      normalized: from 0 to 1; else pixel indices.

    Returns:
      x float32 [width], y float32 [height].

    Raises:
      ValueError: a side is smaller than 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1. Received: {height}, {width}")
    last = (1.0, 1.0) if normalized else (width - 1.0, height - 1.0)
    return np.linspace(0.0, last[0], width).astype(np.float32), np.linspace(0.0, last[1], height).astype(
        np.float32
    )


def position_grid(height: int, width: int, *, normalized: bool = True) -> np.ndarray:
    """The coordinates of every pixel: float32 [height, width, 2], (x, y) with x along columns."""
    return np.stack(np.meshgrid(*axes(height, width, normalized=normalized)), axis=-1)


def spatial_softmax(
    features: tf.Tensor, temperature: float, *, normalized: bool = True
) -> tuple[tf.Tensor, tf.Tensor]:
    """The expected position under a softmax over each map.

    Args:
      features: [n, h, w, k] float32; h and w are static.
      temperature: divides the features; at 1e-4 the point is nearly that of the largest feature.
      normalized: points in [0, 1], 1 at the last column or row; else in pixels.

    Returns:
      points [n, k, 2] as (x, y), x along columns and y along rows, and attention [n, h, w, k], which sums
      to 1 over each map.

    Raises:
      ValueError: the temperature is not positive, or the size of the maps is unknown.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0. Received: {temperature}")
    _, height, width, k = features.shape
    if height is None or width is None or k is None:
        raise ValueError(f"features must be [n, h, w, k] with static h, w, k. Received: {features.shape}")
    flat = tf.reshape(tf.transpose(features, [0, 3, 1, 2]), [-1, k, height * width])
    attention = tf.nn.softmax(flat / temperature)
    grid = position_grid(height, width, normalized=normalized).reshape(-1, 2)
    points = tf.linalg.matmul(attention, grid)
    return points, tf.transpose(tf.reshape(attention, [-1, k, height, width]), [0, 2, 3, 1])
