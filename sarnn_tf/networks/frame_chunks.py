"""A few frames at a time: what convolutions leave behind stays in the processor's cache, and memory small."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

PIXELS = 1 << 15
"""Of a chunk's frames together: 8 frames of 64 x 64."""
PARALLEL = 4
"""Chunks that may be under way at once, so that no core waits for another's small operations."""


def chunk_size(images: tf.Tensor) -> int:
    """Frames of a chunk, given images [n, h, w, c] of static h and w; at least 1."""
    return max(1, PIXELS // (images.shape[1] * images.shape[2]))


def for_chunks(
    body: Callable[..., tuple], frames: tf.Tensor, size: int, sums: Any, rows: tuple[tf.TensorSpec, ...] = ()
) -> tuple[Any, list[tf.Tensor]]:
    """Runs ``body`` on chunks of frames, some of them at the same time.

    Nothing flows from one chunk into the next, so nothing needs to be kept for a gradient through this loop:
    whoever wants one computes it within ``body``.

    Args:
      body: (first, frames) -> (sums, rows): the place of the chunk's first frame, and the chunk's part of
        ``frames``, to what is added up, in the structure of ``sums``, and to what is kept of every frame.
      frames: [n].
      size: frames of a chunk; the last one may be shorter.
      sums: what to begin adding with.
      rows: type and shape, with the frames first, of what is kept.

    Returns:
      The sums over all chunks, and of every one of ``rows`` the frames' [n, ...].
    """
    n = tf.size(frames)
    chunks = (n + size - 1) // size
    kept = tuple(tf.TensorArray(r.dtype, chunks, element_shape=r.shape, infer_shape=False) for r in rows)

    def step(i: tf.Tensor, total: Any, kept: tuple) -> tuple:
        added, of_frames = body(i * size, frames[i * size : (i + 1) * size])
        kept = tuple(array.write(i, row) for array, row in zip(kept, of_frames, strict=True))
        return i + 1, tf.nest.map_structure(tf.add, total, added), kept

    _, total, kept = tf.while_loop(
        lambda i, *_: i < chunks, step, (0, sums, kept), parallel_iterations=PARALLEL
    )
    return total, [array.concat() for array in kept]
