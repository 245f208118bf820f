"""Episodes on their way from a source to a data set: small columns at once, frames one by one.

A source (a bag, an NPZ file) yields its frames in the order in which they are read from the disk, each
once, so that writing an episode needs memory for a frame and not for the episode.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class PlannedEpisode:
    """An episode but for its frames.

    Attributes:
      name: tells it from the others of its source: ``0000``, ``0001`` …
      columns: field path -> [T, ...]: every field of the contract (``episodes.episode.FIELDS``) that is
        present and is no image; ``language_instruction`` is a numpy array of T str.
      frames: image field path -> (shape, dtype name) of a frame, e.g. ((480, 640, 3), "uint8").
      joint_names: P names, empty without joints.
      action_names: A names with units, e.g. ``joint_1 [rad]``.
      report: how well the topics were in step; JSON values only.
    """

    name: str
    columns: Mapping[str, np.ndarray]
    frames: Mapping[str, tuple[tuple[int, ...], str]]
    joint_names: tuple[str, ...]
    action_names: tuple[str, ...]
    report: Mapping[str, Any]

    @property
    def steps(self) -> int:
        """T."""
        return len(self.columns["action"])


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One image, and the steps that show it.

    Attributes:
      episode: index into the source's episodes.
      field: ``observation/image``, ``observation/depth``, …
      steps: at least one, ascending; a frame may serve several steps.
      image: uint8 [H, W, 3] RGB, or uint16 [H, W] in millimetres.
    """

    episode: int
    field: str
    steps: tuple[int, ...]
    image: np.ndarray


class EpisodeStream(Protocol):
    """One source's episodes.

    Attributes:
      episodes: planned, in the order of their time.
      report: of the source as a whole; JSON values only.
    """

    episodes: Sequence[PlannedEpisode]
    report: Mapping[str, Any]

    def frames(self) -> Iterator[Frame]:
        """Every (episode, image field, step) exactly once, in any order.

        Raises:
          ValueError: the source is damaged, or a frame has another shape than was planned.
        """
