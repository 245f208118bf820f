"""Fits position embeddings to another image size or text length, as OpenCLIP does."""

import math

import numpy as np

from clip_tf.bicubic import bicubic_matrix


def resize_image_positions(table: np.ndarray, grid: int) -> np.ndarray:
    """Resizes the grid of an image tower's position embeddings, bicubic with antialiasing.

    Args:
      table: [1 + g², width]; row 0 belongs to the class token and is kept.
      grid: patches along a side of the new image.

    Returns:
      [1 + grid², width] float32.

    Raises:
      ValueError: the rows are not one and a square.
    """
    old = math.isqrt(max(len(table) - 1, 0))
    if table.ndim != 2 or old < 1 or 1 + old * old != len(table) or grid < 1:
        raise ValueError(
            "Position embeddings must be [1 + g², width] and the new grid positive. "
            f"Received: {table.shape}, {grid}"
        )
    if old == grid:
        return table.astype(np.float32)
    weights = bicubic_matrix(old, grid).numpy()
    squares = table[1:].astype(np.float64).reshape(old, old, -1)
    resized = np.einsum("oi,pj,ijc->opc", weights, weights, squares, optimize=True)
    return np.concatenate([table[:1], resized.reshape(grid * grid, -1)]).astype(np.float32)


def resize_text_positions(table: np.ndarray, length: int) -> np.ndarray:
    """Resizes a text tower's position embeddings, linearly between the centres of positions.

    Args:
      table: [t, width].
      length: number of positions.

    Returns:
      [length, width] float32.

    Raises:
      ValueError: the table is empty or has not two axes, or the length is not positive.
    """
    if table.ndim != 2 or not len(table) or length < 1:
        raise ValueError(
            "Position embeddings must be [t, width] and the length positive. "
            f"Received: {table.shape}, {length}"
        )
    place = np.clip((np.arange(length) + 0.5) * len(table) / length - 0.5, 0, len(table) - 1)
    below = place.astype(np.int64)
    above = np.minimum(below + 1, len(table) - 1)
    part = (place - below)[:, None]
    return ((1 - part) * table[below] + part * table[above]).astype(np.float32)
