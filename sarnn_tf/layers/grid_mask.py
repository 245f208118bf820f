"""GridMask: squares of an image blacked out on a regular grid (Chen et al. 2020, arXiv:2001.04086)."""

import dataclasses

import tensorflow as tf


def grid_mask(
    height: int,
    width: int,
    spacing: int | tf.Tensor,
    offset: tuple[int | tf.Tensor, int | tf.Tensor],
    keep: float,
) -> tf.Tensor:
    """The mask: 0 in squares of ``spacing - int(keep · spacing)`` pixels, one in each cell of the grid.

    Args:
      height, width: in pixels.
      spacing: side of a cell of the grid, in pixels.
      offset: rows and columns by which the grid starts before the image, each in [0, spacing).
      keep: share of a cell's side that is kept, in [0, 1].

    Returns:
      float32 [height, width] of 0 and 1.
    """
    spacing = tf.cast(spacing, tf.int32)
    # In float64, as the original: float32 would round 0.6 · 25 to another whole number.
    side = spacing - tf.cast(tf.constant(keep, tf.float64) * tf.cast(spacing, tf.float64), tf.int32)
    rows = (tf.range(height) + offset[0]) % spacing < side
    columns = (tf.range(width) + offset[1]) % spacing < side
    return 1.0 - tf.cast(rows[:, None] & columns[None, :], tf.float32)


@dataclasses.dataclass(frozen=True)
class GridMask:
    """Draws a mask and applies it, to images of any shape.

    Attributes:
      probability: of masking an image at all.
      spacings: range of the grid's spacing, in pixels, the upper end excluded.
      keep: share of a cell's side that is kept.
    """

    probability: float = 0.6
    spacings: tuple[int, int] = (10, 30)
    keep: float = 0.6

    def __post_init__(self) -> None:
        low, high = self.spacings
        if not 0 <= self.probability <= 1 or not 0 <= self.keep <= 1 or not 0 < low < high:
            raise ValueError(
                "probability and keep must be in [0, 1], spacings rise from at least 1. "
                f"Received: {self.probability}, {self.keep}, {self.spacings}"
            )

    def __call__(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Masks images, all of them alike.

        Args:
          images: [..., h, w, c] of any numeric type, e.g. the frames of one episode. They are not changed.
          seed: int32 [2]; the same seed draws the same mask.

        Returns:
          The shape and type of ``images``.
        """
        seeds = tf.random.experimental.stateless_split(seed, 4)
        chosen = tf.random.stateless_uniform([], seeds[0]) < self.probability
        low, high = self.spacings
        spacing = tf.random.stateless_uniform([], seeds[1], low, high, tf.int32)
        offset = tuple(tf.random.stateless_uniform([], s, 0, spacing, tf.int32) for s in (seeds[2], seeds[3]))
        height, width = tf.unstack(tf.shape(images)[-3:-1])
        mask = tf.cast(grid_mask(height, width, spacing, offset, self.keep), images.dtype)[..., None]
        return tf.where(chosen, images * mask, images)
