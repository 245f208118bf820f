"""Training windows: for every step of an episode, that step and the steps before it.

A window of T steps for step t of an episode holds steps t−T+1 … t. Where the episode has fewer, the
window is padded, and ``is_padding`` says where; padded steps must contribute no loss.

::

    T = 4, step 1:     padding "start":   0* 0* 0  1       (the first step repeated, as OXE's pipelines do)
                       padding "end":     0  1  1* 1*      (the steps first, the last repeated after them)

Under causal attention the padding of "end" is never seen by a real step, and step t stands at position
t, just as in step-by-step use, where the state fills from position 0. With "start", real steps see the
padding before them.

A window is

::

    {"columns": {path: [T, ...]}, "episode_id": string [], "step_index": int64 [] (the step t),
     "is_padding", "is_first", "is_last": bool [T] (by position in the episode; padding repeats them)}
"""

from typing import Any

import numpy as np
import tensorflow as tf

from episodes.rlds import COLUMNS, EPISODE_ID

STEP_INDEX, IS_PADDING, IS_FIRST, IS_LAST = "step_index", "is_padding", "is_first", "is_last"
PADDINGS = ("start", "end")


def window_steps(step: tf.Tensor, length: int, padding: str = "start") -> tuple[tf.Tensor, tf.Tensor]:
    """Which steps of its episode a window holds.

    Args:
      step: int64 [], the step t that the window is for.
      length: T.
      padding: ``start`` or ``end``.

    Returns:
      steps: int64 [T]; is_padding: bool [T].
    """
    positions = tf.range(length, dtype=tf.int64)
    if padding == "start":
        steps = step - (length - 1) + positions
        return tf.maximum(steps, 0), steps < 0
    steps = tf.maximum(step - (length - 1), 0) + positions
    return tf.minimum(steps, step), steps > step


def episode_windows(episode: dict[str, Any], length: int, padding: str = "start") -> tf.data.Dataset:
    """The windows of one episode (as ``episodes.rlds`` gives it), one for each step in order."""
    columns = episode[COLUMNS]
    steps = tf.cast(tf.shape(tf.nest.flatten(columns)[0])[0], tf.int64)

    def window(step: tf.Tensor) -> dict[str, Any]:
        chosen, is_padding = window_steps(step, length, padding)
        return {
            COLUMNS: {
                p: tf.ensure_shape(tf.gather(c, chosen), [length, *c.shape[1:]]) for p, c in columns.items()
            },
            EPISODE_ID: episode[EPISODE_ID],
            STEP_INDEX: step,
            IS_PADDING: tf.ensure_shape(is_padding, [length]),
            IS_FIRST: tf.equal(chosen, 0),
            IS_LAST: tf.equal(chosen, steps - 1),
        }

    return tf.data.Dataset.range(steps).map(window)


def make_windows(
    episodes: tf.data.Dataset,
    length: int,
    *,
    padding: str = "start",
    seed: int | None = None,
    epoch: int = 0,
    shuffle_buffer: int = 2048,
    episodes_at_once: int = 16,
    shard: tuple[int, int] = (1, 0),
    skip: int = 0,
) -> tf.data.Dataset:
    """Windows of all episodes; their order depends on the arguments only.

    Without a seed, episode by episode and step by step. With one, ``episodes_at_once`` episodes are read
    in turns and their windows drawn from a buffer: memory is bounded by so many episodes and
    ``shuffle_buffer`` windows, images still encoded. (TensorFlow mixes its global seed into the draw: to
    repeat an order, repeat ``tf.random.set_seed`` too where it was called.)

    Args:
      episodes: as ``RldsSplit.episodes`` gives them.
      length: T >= 1.
      padding: ``start`` or ``end``, as the module says.
      seed, epoch: together they name an order.
      shuffle_buffer, episodes_at_once: memory against quality of the shuffle; each >= 1.
      shard: (n, i) takes every n-th episode from the i-th, before anything else.
      skip: windows to leave out at the beginning, for a resumed epoch. They are drawn but not decoded.

    Raises:
      ValueError: an argument is out of range.
    """
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {PADDINGS}. Received: {padding!r}")
    for name, value, least in (
        ("length", length, 1),
        ("shuffle_buffer", shuffle_buffer, 1),
        ("episodes_at_once", episodes_at_once, 1),
        ("skip", skip, 0),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}. Received: {value}")
    if not 0 <= shard[1] < shard[0]:
        raise ValueError(f"shard must be (n, i) with 0 <= i < n. Received: {shard}")

    def of_episode(episode: dict[str, Any]) -> tf.data.Dataset:
        return episode_windows(episode, length, padding)

    if shard[0] > 1:
        episodes = episodes.shard(*shard)
    if seed is None:
        return episodes.flat_map(of_episode).skip(skip)
    windows = episodes.interleave(of_episode, episodes_at_once, block_length=1)
    windows = windows.shuffle(shuffle_buffer, epoch_seed(seed, epoch), reshuffle_each_iteration=False)
    return windows.skip(skip)


def epoch_seed(seed: int, epoch: int) -> int:
    """One number in [0, 2^31) for an epoch of a seeded run; neighbours are unrelated."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0] >> 1)
