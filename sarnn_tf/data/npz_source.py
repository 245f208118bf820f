"""Episodes that are NPZ files in a folder, one each: published ones, and ours (``episodes.npz``)."""

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from episodes.episode import JOINT_POSITIONS, LANGUAGE_INSTRUCTION
from episodes.episode_stream import PlannedEpisode
from episodes.npz import NAME, open_npz
from episodes.npz.members import open_members
from episodes.npz.writer import BGR, CHANNEL_ORDER, KEY_OF
from episodes.tasks import MissingTaskError, Tasks
from sarnn_tf.data import converted
from sarnn_tf.data.frames import Frames, StreamedFrames
from sarnn_tf.data.recorded_episode import (
    FIELDS,
    TEST,
    TRAIN,
    RecordedEpisode,
    check_modalities,
    one_instruction,
)
from sarnn_tf.stratified_split import tasks_by_thirds as thirds

_UNKNOWN = "?"  # Stands for the instruction of an episode that has none, whose other columns are checked.


class NpzSource:
    """A folder of NPZ files as an ``EpisodeSource``; frames are streamed, and their checksums compared."""

    joint_bounds: np.ndarray | None = None

    def __init__(
        self,
        folder: Path,
        *,
        instruction: str = "",
        task_table: Mapping[str, str] | None = None,
        tasks_by_thirds: Sequence[str] = (),
    ) -> None:
        """Looks at all files; no images are read.

        Args:
          folder: with ``*.npz``, or with folders ``train`` and ``val`` or ``test`` of them; their order is
            that of their names.
          instruction: of every episode, in place of the data set's own.
          task_table: file -> instruction, see ``episodes.tasks.load_table``.
          tasks_by_thirds: instructions of the first, second … part of the files, where these say none.

        Raises:
          ValueError: a file is damaged, its joints have other names than the first's, the table names a
            file that may be several, or there are files both in the folder and in those of its parts.
        """
        self.name, self._instruction = str(folder), instruction
        self._part_of = _find(folder)
        self._paths = list(self._part_of)
        self.num_episodes = len(self._paths)
        self._tasks = Tasks(table=task_table or {})
        faults = self._tasks.faults(self._paths)
        if faults:
            raise ValueError(f"The task table must name each file once. Received: {'; '.join(faults)}")
        unused = self._tasks.unused(self._paths)
        if unused:
            logging.warning("%s has none of the files %s of the task table.", folder, unused)
        self._by_place: dict[Path, str] = {}
        if tasks_by_thirds:
            places = thirds(len(self._paths), len(tasks_by_thirds)).tolist()
            self._by_place = {p: tasks_by_thirds[i] for p, i in zip(self._paths, places, strict=True)}
        digest = hashlib.sha256()
        intervals = []
        names: tuple[str, ...] | None = None
        for path in self._paths:
            planned = self._plan(path)
            if names is not None and planned.joint_names != names:
                raise ValueError(
                    f"{path} must have the joints of {self._paths[0].name}, {list(names)}, in this order. "
                    f"Received: {list(planned.joint_names)}"
                )
            names = planned.joint_names
            if planned.report.get("step_median_ms"):
                intervals.append(float(planned.report["step_median_ms"]))
            with open_members(path) as npz:
                about = (path.relative_to(folder).as_posix(), npz.fingerprint(), self._said(path, planned))
                digest.update("\0".join((*about, "")).encode())
        self.fingerprint = digest.hexdigest()
        self.joint_names = names or ()
        self.rate_hz = round(1000.0 / float(np.median(intervals)), 3) if intervals else None

    def episodes(self, modalities: Sequence[str]) -> Iterator[RecordedEpisode]:
        """See ``EpisodeSource``."""
        for path in self._paths:
            planned = self._plan(path)
            there = [name for name, field in FIELDS.items() if field in planned.frames]
            check_modalities(modalities, there, str(path))
            yield RecordedEpisode(
                id=path.relative_to(self.name).with_suffix("").as_posix(),
                part=self._part_of[path],
                instruction=self._said(path, planned),
                images={name: _frames(path, name) for name in modalities},
                joints=planned.columns[JOINT_POSITIONS],
            )

    def _plan(self, path: Path) -> PlannedEpisode:
        try:
            (planned,) = open_npz(path).episodes
        except MissingTaskError:
            (planned,) = open_npz(path, _UNKNOWN).episodes
        if JOINT_POSITIONS not in planned.columns:
            raise ValueError(f"{path} lacks {KEY_OF[JOINT_POSITIONS]}. Received: {sorted(planned.columns)}")
        return planned

    def _said(self, path: Path, planned: PlannedEpisode) -> str:
        if self._instruction:
            return self._instruction
        listed = self._tasks.of(path, NAME)
        if listed:
            return listed
        said = one_instruction(planned.columns[LANGUAGE_INSTRUCTION].tolist(), str(path))
        return self._by_place.get(path, "") if said == _UNKNOWN else said


def _find(folder: Path) -> dict[Path, str | None]:
    """Files in order -> the part that they belong to."""
    flat = sorted(folder.glob("*.npz"))
    train = sorted((folder / TRAIN).glob("*.npz"))
    held_out = [f for name in converted.HELD_OUT if (f := sorted((folder / name).glob("*.npz")))]
    if flat and (train or held_out):
        below = sorted({path.parent.name for path in (*train, *sum(held_out, []))})
        raise ValueError(
            f"{folder} must hold NPZ files, or folders of them, not both: which are episodes? "
            f"Received: {flat[0].name} … beside the folders {below}"
        )
    if flat:
        return dict.fromkeys(flat)
    if not train or not held_out:
        return dict.fromkeys(train)
    return {**dict.fromkeys(train, TRAIN), **dict.fromkeys(held_out[0], TEST)}


def _frames(path: Path, modality: str) -> Frames:
    with open_members(path) as npz:
        turned = CHANNEL_ORDER not in npz.members or str(npz.read(CHANNEL_ORDER)) == BGR
    return StreamedFrames(functools.partial(_rows, path, KEY_OF[FIELDS[modality]]), turned=turned)


def _rows(path: Path, key: str) -> Iterator[np.ndarray]:
    with open_members(path) as npz:
        yield from npz.rows(key)
