"""Inverse spatial softmax: from points back to heatmaps (Ichiwara et al. 2021, arXiv:2103.01598)."""

import tensorflow as tf

from sarnn_tf.layers.spatial_softmax import axes


def inverse_spatial_softmax(
    points: tf.Tensor,
    height: int,
    width: int,
    heatmap_size: float,
    *,
    normalized: bool = True,
    convex: bool = True,
    transposed: bool = False,
) -> tf.Tensor:
    """A Gaussian bump exp(-distance² / heatmap_size) at each point.

    Args:
      points: [n, k, 2] as (x, y); a point may lie outside the map.
      height, width: of the map.
      heatmap_size: divides the squared distance, as it is.
      normalized: points run from 0 to 1; else they are pixels.
      convex: False gives |1 - bump|, a dent.
      transposed: rows and columns changed places, as the published CLIP-SARNN had it (square maps only).

    Returns:
      [n, height, width, k] in [0, 1].

    Raises:
      ValueError: ``heatmap_size`` is not positive, or ``transposed`` with a map that is not square.
    """
    if heatmap_size <= 0:
        raise ValueError(f"heatmap_size must be > 0. Received: {heatmap_size}")
    if transposed and height != width:
        raise ValueError(f"A transposed heatmap must be square. Received: {height} x {width}")
    columns, rows = axes(height, width, normalized=normalized)
    x, y = points[:, None, :, 0], points[:, None, :, 1]
    if transposed:
        x, y = y, x
    # The bump is a product of one along each axis: h + w exponentials instead of h · w.
    along_x = tf.exp(-tf.square(columns[None, :, None] - x) / heatmap_size)
    along_y = tf.exp(-tf.square(rows[None, :, None] - y) / heatmap_size)
    bump = along_y[:, :, None] * along_x[:, None]
    return bump if convex else tf.abs(1.0 - bump)
