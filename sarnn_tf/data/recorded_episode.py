"""One recorded episode as a SARNN's data come from it, whatever it is stored as."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from episodes.episode import DEPTH, GELSIGHT_LEFT, GELSIGHT_RIGHT, IMAGE
from sarnn_tf.data.frames import Frames

TRAIN, TEST = "train", "test"
# Modality -> field of the episode contract.
FIELDS: Mapping[str, str] = {
    field.removeprefix("observation/"): field for field in (IMAGE, DEPTH, GELSIGHT_LEFT, GELSIGHT_RIGHT)
}


@dataclasses.dataclass(frozen=True, eq=False)
class RecordedEpisode:
    """One episode.

    Attributes:
      id: tells it from all others of its source.
      part: ``train`` or ``test`` where the data set itself says so, else None.
      instruction: "" where nobody said one.
      images: modality (``image``, ``depth`` …) -> its frames.
      joints: float32 [T, P], rad.
    """

    id: str
    part: str | None
    instruction: str
    images: Mapping[str, Frames]
    joints: np.ndarray


class EpisodeSource(Protocol):
    """A data set on the disk, read anew at every pass."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hexadecimal digest that changes with the content, and not with the place on the disk."""
        ...

    @property
    def joint_names(self) -> tuple[str, ...]:
        """P names, in the order of the joints; ``joint_0`` … where they were not recorded."""
        ...

    @property
    def rate_hz(self) -> float | None:
        """Steps a second, None where that was not recorded."""
        ...

    @property
    def joint_bounds(self) -> np.ndarray | None:
        """float32 [2, P], minima and maxima that come with the data; None where none do."""
        ...

    @property
    def num_episodes(self) -> int: ...

    def episodes(self, modalities: Sequence[str]) -> Iterator[RecordedEpisode]:
        """Streams the episodes with the images of some modalities.

        Raises:
          ValueError: an episode lacks a modality, or is damaged; the message names it.
        """
        ...


def check_modalities(wanted: Sequence[str], there: Iterable[str], what: str) -> None:
    """Raises ValueError where an episode lacks a modality that is on."""
    there = sorted(there)
    missing = [name for name in wanted if name not in there]
    if missing:
        raise ValueError(
            f"{what} has no {' and no '.join(missing)}: switch the modality off, or record it. "
            f"Received: the modalities {there}"
        )


def numbered_joints(count: int) -> tuple[str, ...]:
    """Names of joints whose names were not recorded."""
    return tuple(f"joint_{i}" for i in range(count))


def one_instruction(said: Iterable[str | bytes], what: str) -> str:
    """The instruction that all steps of an episode have.

    Raises:
      ValueError: there are several.
    """
    different = sorted({v.decode() if isinstance(v, bytes) else str(v) for v in said})
    if len(different) > 1:
        raise ValueError(f"{what} must have one instruction for all steps. Received: {different}")
    return different[0].strip() if different else ""
