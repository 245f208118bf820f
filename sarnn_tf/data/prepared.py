"""Episodes made ready for a SARNN, as they lie on the disk."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from sarnn_tf.image_modality import ImageModality


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedEpisode:
    """One episode; the arrays are read-only memory maps.

    Attributes:
      id: of the episode.
      instruction: "" where there is none.
      images: modality -> uint8 or uint16 [T, h, w, channels].
      joints: float32 [T, P], rad.
      patches: float32 [T, rows, columns, features], None without CLIP.
      text: float32 [features] of unit length, None without CLIP.
    """

    id: str
    instruction: str
    images: Mapping[str, np.ndarray]
    joints: np.ndarray
    patches: np.ndarray | None
    text: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedData:
    """A data set made ready by ``prepare``. Every episode has at least two steps.

    Attributes:
      name: of the data set.
      ids, instructions: of each episode; an instruction is "" where nobody said one.
      source_parts: ``train`` or ``test`` where the data set has parts of its own, else None.
      lengths: int64 [n], steps of each episode.
      joint_names: P names.
      joint_bounds: float32 [2, P], minima and maxima: those that came with the data, if they hold all
        steps, else those of all steps.
      rate_hz: steps a second after the stride, None where unknown.
      modalities: name -> as it was prepared.
      clip_fingerprint: of the frozen CLIP, "" without.
      fingerprint: hexadecimal digest of all that is trained on, wherever it lies.
      images, joints, patches, text_of_instruction: the steps of all episodes one after the other, and
        instruction -> embedding; see ``PreparedEpisode``.
    """

    name: str
    ids: tuple[str, ...]
    instructions: tuple[str, ...]
    source_parts: tuple[str | None, ...]
    lengths: np.ndarray
    joint_names: tuple[str, ...]
    joint_bounds: np.ndarray
    rate_hz: float | None
    modalities: Mapping[str, ImageModality]
    clip_fingerprint: str
    fingerprint: str
    images: Mapping[str, np.ndarray]
    joints: np.ndarray
    patches: np.ndarray | None
    text_of_instruction: Mapping[str, np.ndarray] | None

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum(self.lengths) - self.lengths

    @property
    def different_instructions(self) -> tuple[str, ...]:
        """Each instruction once, in the order of appearance; none for those that are empty."""
        return tuple(dict.fromkeys(text for text in self.instructions if text))

    def episode(self, i: int) -> PreparedEpisode:
        """The arrays of one episode.

        Raises:
          ValueError: there is none of this number.
        """
        if not 0 <= i < len(self):
            raise ValueError(f"{self.name} has the episodes 0 to {len(self) - 1}. Received: {i}")
        start = int(self._starts[i])
        steps = slice(start, start + int(self.lengths[i]))
        texts = self.text_of_instruction
        return PreparedEpisode(
            id=self.ids[i],
            instruction=self.instructions[i],
            images={name: rows[steps] for name, rows in self.images.items()},
            joints=self.joints[steps],
            patches=None if self.patches is None else self.patches[steps],
            text=None if texts is None else texts[self.instructions[i]],
        )
