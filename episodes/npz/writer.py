"""Writing one episode as an NPZ file; the format is told in ``episodes.npz``."""

import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from core import files
from episodes.episode import (
    ACTION,
    DISCOUNT,
    IS_TERMINAL,
    JOINT_POSITIONS,
    LANGUAGE_INSTRUCTION,
    NPZ_KEYS,
    REWARD,
    check_columns,
    field,
)
from episodes.episode_stream import PlannedEpisode

CHANNEL_ORDER, RGB, BGR = "channel_order", "rgb", "bgr"
JOINT_NAMES, ACTION_NAMES, REPORT = "joint_names", "action_names", "report"
ACTION_KIND, NEXT_JOINT_POSITIONS, OTHER = "action_kind", "next_joint_positions", "other"

# Rows of their own, under their own names.
ENDS = (IS_TERMINAL, REWARD, DISCOUNT)
OWN_KEYS = (CHANNEL_ORDER, LANGUAGE_INSTRUCTION, JOINT_NAMES, ACTION_NAMES, ACTION_KIND, REPORT, *ENDS)
KEY_OF: Mapping[str, str] = {path: key for key, path in NPZ_KEYS.items()}
# The archive has no other time, so that the same episode gives the same bytes.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


class NpzWriter:
    """Writes one episode, its frames in any order, with memory for one of them.

    A context manager: the file appears, whole, when it ends without an error, and not at all otherwise. The
    same episode gives the same bytes. On the disk an episode needs its size twice while it is written.
    """

    def __init__(self, path: str | Path, planned: PlannedEpisode) -> None:
        """Checks the episode against the contract.

        Args:
          path: the file to write; its name must end in ``.npz``.
          planned: all of the episode but its frames.

        Raises:
          ValueError: another name, or columns or frames that are not of the contract.
        """
        self._path, self._planned = Path(path), planned
        if self._path.suffix != ".npz":
            raise ValueError(f"The name of an episode's file must end in .npz. Received: {path}")
        for name in planned.frames:
            if not is_image(name):
                raise ValueError(f"Frames are of images. Received: {name!r}")
        frames = {
            p: np.broadcast_to(np.zeros((), dtype), (planned.steps, *shape))
            for p, (shape, dtype) in planned.frames.items()
        }
        check_columns({**planned.columns, **frames}, f"episode {planned.name}")
        self._filled = {p: np.zeros(planned.steps, bool) for p in planned.frames}
        self._parts: dict[str, IO[bytes]] = {}
        self._starts: dict[str, int] = {}
        self._folder = self._path.with_name(f".{self._path.stem}.{uuid.uuid4().hex}")

    def __enter__(self) -> "NpzWriter":
        self._folder.mkdir(parents=True)
        try:
            for name, (shape, dtype) in self._planned.frames.items():
                part = self._parts[name] = (self._folder / f"{KEY_OF[name]}.npy").open("w+b")
                _write_header(part, (self._planned.steps, *shape), np.dtype(dtype))
                self._starts[name] = part.tell()
        except BaseException:
            self._remove()
            raise
        return self

    def put(self, path: str, steps: Sequence[int], image: np.ndarray) -> None:
        """Writes one frame.

        Args:
          path: of the field.
          steps: that show it.
          image: as planned.

        Raises:
          ValueError: an unknown field, another shape or type, or a step that does not exist or is there.
        """
        if path not in self._filled:
            raise ValueError(f"The episode's frames are {sorted(self._filled)}. Received: {path!r}")
        shape, dtype = self._planned.frames[path]
        if image.shape != tuple(shape) or image.dtype != np.dtype(dtype):
            raise ValueError(f"{path} must be {dtype} {shape}. Received: {image.dtype} {image.shape}")
        content, filled, part = np.ascontiguousarray(image), self._filled[path], self._parts[path]
        for step in steps:
            if not 0 <= step < len(filled) or filled[step]:
                raise ValueError(f"{path} needs each of {len(filled)} steps once. Received: step {step}")
            part.seek(self._starts[path] + step * content.nbytes)
            part.write(content.data)
            filled[step] = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._remove()

    def _finish(self) -> None:
        for name, filled in self._filled.items():
            if not filled.all():
                raise ValueError(
                    f"{name} must have a frame for each of {len(filled)} steps. "
                    f"Received: none for step {int(np.argmin(filled))}"
                )
        with (
            files.atomic_path(self._path) as temporary,
            zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive,
        ):
            for key, path in NPZ_KEYS.items():
                if path in self._parts:
                    part = self._parts[path]
                    part.seek(0)
                    with _member(archive, key) as member:
                        shutil.copyfileobj(part, member, 1 << 20)
                    os.truncate(part.fileno(), 0)  # Gives back the disk's space as it goes.
                elif path in self._planned.columns:
                    _write(archive, key, self._planned.columns[path])
            for key, value in self._said().items():
                _write(archive, key, value)

    def _said(self) -> dict[str, np.ndarray]:
        """The keys that published files do not have."""
        planned = self._planned
        instructions = texts(planned.columns[LANGUAGE_INSTRUCTION])
        alike = (instructions == instructions[0]).all()
        return {
            CHANNEL_ORDER: np.array(RGB),
            LANGUAGE_INSTRUCTION: np.array(instructions[0]) if alike else instructions,
            JOINT_NAMES: np.array(planned.joint_names, np.str_),
            ACTION_NAMES: np.array(planned.action_names, np.str_),
            ACTION_KIND: np.array(_action_kind(planned)),
            REPORT: np.array(
                json.dumps(dict(planned.report), sort_keys=True, ensure_ascii=False, allow_nan=False)
            ),
            **{path: np.asarray(planned.columns[path]) for path in ENDS},
        }

    def _remove(self) -> None:
        for part in self._parts.values():
            part.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def is_image(path: str) -> bool:
    return "H" in field(path).shape


def texts(values: np.ndarray) -> np.ndarray:
    """Strings or UTF-8 bytes as a U array; what is neither stays, for the contract to refuse."""
    values = np.asarray(values)
    if values.dtype.kind not in "SO":
        return values
    decoded = [v.decode("utf-8") if isinstance(v, bytes) else v for v in values.reshape(-1).tolist()]
    return np.array(decoded, np.str_).reshape(values.shape)


def _action_kind(planned: PlannedEpisode) -> str:
    joints, actions = planned.columns.get(JOINT_POSITIONS), planned.columns[ACTION]
    if joints is None or joints.shape != actions.shape:
        return OTHER
    named = planned.action_names == tuple(f"{name} [rad]" for name in planned.joint_names)
    return NEXT_JOINT_POSITIONS if named and np.array_equal(actions[:-1], joints[1:]) else OTHER


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _member(archive: zipfile.ZipFile, key: str) -> IO[bytes]:
    info = zipfile.ZipInfo(f"{key}.npy", _NO_TIME)
    info.create_system, info.external_attr = 3, 0o600 << 16
    return archive.open(info, "w", force_zip64=True)


def _write(archive: zipfile.ZipFile, key: str, value: np.ndarray) -> None:
    with _member(archive, key) as file:
        np.lib.format.write_array(
            file, np.ascontiguousarray(value) if value.ndim else value, allow_pickle=False
        )
