"""Episodes of RLDS data sets: those that ``episodes.convert`` wrote, and those of others."""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from episodes.conversion.tfrecord import FOOTER_BYTES, HEADER_BYTES
from episodes.episode import JOINT_POSITIONS, LANGUAGE_INSTRUCTION
from episodes.rlds import RldsSplit, open_rlds
from sarnn_tf.data import converted
from sarnn_tf.data.frames import ArrayFrames, EncodedFrames, Frames
from sarnn_tf.data.recorded_episode import (
    FIELDS,
    TEST,
    TRAIN,
    RecordedEpisode,
    check_modalities,
    numbered_joints,
    one_instruction,
)

JOINTS, INSTRUCTION = "joints", "instruction"
DEFAULT_FIELDS: Mapping[str, str] = {
    **FIELDS,
    JOINTS: JOINT_POSITIONS,
    INSTRUCTION: LANGUAGE_INSTRUCTION,
}


class RldsSource:
    """An RLDS data set as an ``EpisodeSource``; images stay encoded until they are asked for.

    Its split ``train`` is trained on. Held out is the first that it has of ``val``, ``validation`` and
    ``test``; another one is not read.
    """

    joint_bounds: np.ndarray | None = None

    def __init__(
        self, folder: Path, *, instruction: str = "", fields: Mapping[str, str] | None = None
    ) -> None:
        """Opens the data set; of its records only the checksums are read.

        Args:
          folder: of the version, or its parent.
          instruction: of every episode, in place of the data set's own.
          fields: modality, ``joints`` or ``instruction`` -> path of the step's feature, where it is not that
            of ``episodes.episode``; further modalities.

        Raises:
          FileNotFoundError, ValueError: as ``open_rlds``; or there are no joints.
        """
        self._instruction = instruction
        self._fields = {**DEFAULT_FIELDS, **(fields or {})}
        train = _open(folder, TRAIN)
        there = train.builder.info.splits
        self._splits = {TRAIN: train}
        held_out = [s for s in converted.HELD_OUT if s in there and there[s].num_examples]
        if held_out:
            self._splits[TEST] = _open(folder, held_out[0])
        self.name, self.num_episodes = train.name, sum(s.num_episodes for s in self._splits.values())
        for modality, path in (fields or {}).items():
            if path not in train.features:
                raise ValueError(
                    f"{self.name} has the step features {sorted(train.features)}. "
                    f"Received: fields={{{modality!r}: {path!r}}}"
                )
        joints = train.feature(self._fields[JOINTS])
        if len(joints.shape) != 1 or joints.shape[0] is None:
            raise ValueError(
                f"{self.name}: {self._fields[JOINTS]} must be [P] in every step. Received: {joints.shape}"
            )
        place = Path(train.builder.data_dir)
        names, self.rate_hz = converted.recorded(place)
        self.joint_names = names or numbered_joints(joints.shape[0])
        digest = hashlib.sha256(json.dumps([instruction, self._fields], sort_keys=True).encode())
        for part, split in self._splits.items():
            digest.update(part.encode())
            for shard in sorted(there[split.split].filenames):
                digest.update(f"\0{shard}\0".encode() + _checksums(place / shard))
        self.fingerprint = digest.hexdigest()

    def episodes(self, modalities: Sequence[str]) -> Iterator[RecordedEpisode]:
        """See ``EpisodeSource``."""
        for part, split in self._splits.items():
            there = [m for m, path in self._fields.items() if path in split.features]
            check_modalities(modalities, set(there) - {JOINTS, INSTRUCTION}, split.name)
            said = INSTRUCTION in there and not self._instruction
            wanted = (*modalities, JOINTS, *((INSTRUCTION,) if said else ()))
            paths = [self._fields[m] for m in wanted]
            try:
                for episode_id, columns in split.read(list(dict.fromkeys(paths)), decode=False):
                    yield self._episode(part, split, episode_id, columns, modalities, said)
            except tf.errors.OpError as error:
                raise ValueError(
                    f"{split.name}, split {split.split!r}, is damaged: {error.message}"
                ) from error

    def _episode(
        self,
        part: str,
        split: RldsSplit,
        episode_id: str,
        columns: Mapping[str, Any],
        modalities: Sequence[str],
        said: bool,
    ) -> RecordedEpisode:
        instruction = self._instruction
        if said:
            said_at_steps = np.asarray(columns[self._fields[INSTRUCTION]]).reshape(-1).tolist()
            instruction = one_instruction(said_at_steps, f"{split.name}, episode {episode_id!r}")
        return RecordedEpisode(
            id=episode_id,
            part=part if len(self._splits) > 1 else None,
            instruction=instruction,
            images={m: _frames(split, self._fields[m], columns) for m in modalities},
            joints=np.asarray(columns[self._fields[JOINTS]], np.float32),
        )


def _open(folder: Path, split: str) -> RldsSplit:
    try:
        return open_rlds(folder, split)
    except tf.errors.OpError as error:
        raise ValueError(f"{folder}, split {split!r}, is damaged or cut off: {error.message}") from error


def _frames(split: RldsSplit, path: str, columns: Mapping[str, Any]) -> Frames:
    if not split.is_image(path):
        return ArrayFrames(columns[path])

    def decode(encoded: np.ndarray) -> np.ndarray:
        try:
            return split.decode_images(path, tf.constant(encoded)).numpy()
        except tf.errors.OpError as error:
            raise ValueError(f"an image cannot be decoded: {error.message}") from error

    return EncodedFrames(columns[path], decode)


def _checksums(shard: Path) -> bytes:
    """The digest of a TFRecord file's own checksums; of another kind's size and time."""
    status, digest = shard.stat(), hashlib.sha256()
    if ".tfrecord" not in shard.name:
        return f"{status.st_size} {status.st_mtime_ns}".encode()
    with shard.open("rb") as file:
        while head := file.read(HEADER_BYTES):
            if len(head) < HEADER_BYTES:
                raise ValueError(f"{shard} is cut off. Received: {len(head)} bytes of a record's head")
            digest.update(head)
            (length,) = struct.unpack("<Q", head[:8])
            if length > status.st_size - file.tell() - FOOTER_BYTES:
                raise ValueError(
                    f"{shard} is cut off, or damaged. Received: {status.st_size} bytes, and at {file.tell()} "
                    f"a record of {length}"
                )
            file.seek(length, 1)
            digest.update(file.read(FOOTER_BYTES))
    return digest.digest()
