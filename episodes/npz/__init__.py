"""One episode as an NPZ file, in the published format.

::

    color         uint8 [T, H, W, 3]      depth         uint16 [T, H, W], millimetres
    gelsight1     uint8 [T, H, W, 3]      gelsight2     uint8 [T, H, W, 3]: left, right
    joints_state  float32 [T, P], rad     actions       float32 [T, A]; published: joints_state[t + 1]

What was not recorded is absent. Files written here say more: ``channel_order`` (``rgb``; files without it are
BGR, as published ones are, and are turned when they are read), ``language_instruction`` (a string, or T of
them), ``joint_names``, ``action_names``, ``action_kind``, ``is_terminal``, ``reward``, ``discount``, and
``report``, the JSON text of how well the topics were in step.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from episodes.episode import (
    ACTION,
    DISCOUNT,
    IS_FIRST,
    IS_LAST,
    IS_TERMINAL,
    JOINT_POSITIONS,
    LANGUAGE_INSTRUCTION,
    NPZ_KEYS,
    REWARD,
    check_columns,
)
from episodes.episode_stream import Frame, PlannedEpisode
from episodes.npz.members import NpzMembers, open_members
from episodes.npz.writer import (
    ACTION_NAMES,
    BGR,
    CHANNEL_ORDER,
    ENDS,
    JOINT_NAMES,
    KEY_OF,
    OWN_KEYS,
    REPORT,
    RGB,
    NpzWriter,
    is_image,
    texts,
)
from episodes.tasks import MissingTaskError

__all__ = ["NAME", "NpzEpisode", "NpzWriter", "open_npz", "read_npz", "step_columns"]

NAME = "0000"  # Of the one episode of a file.


class NpzEpisode:
    """The episode of an NPZ file; an ``EpisodeStream`` of one."""

    def __init__(self, path: Path, planned: PlannedEpisode, turned: bool, notes: Sequence[str]) -> None:
        self._path, self._turned = path, turned
        self.episodes: Sequence[PlannedEpisode] = (planned,)
        self.report: Mapping[str, Any] = {"notes": list(notes)}

    def frames(self) -> Iterator[Frame]:
        """See ``EpisodeStream``; camera by camera, with memory for one frame."""
        with open_members(self._path) as npz:
            for path in self.episodes[0].frames:
                for step, row in enumerate(npz.rows(KEY_OF[path])):
                    yield Frame(0, path, (step,), np.ascontiguousarray(_rgb(row, self._turned)))


def open_npz(path: str | Path, instruction: str | None = None) -> NpzEpisode:
    """Opens an episode; its images are checked for type and shape, and stay in the file.

    Args:
      path: of the file.
      instruction: what the robot was asked to do; it takes the place of the file's own.

    Raises:
      FileNotFoundError: there is no such file.
      MissingTaskError: neither the argument nor the file gives an instruction.
      ValueError: the file is damaged, holds Python objects, or is not as the module says.
    """
    path = Path(path)
    with open_members(path) as npz:
        columns, turned = _columns(npz, instruction, mapped=False)
        images = [p for p in columns if is_image(p)]
        joint_names, action_names = _names(npz, columns)
        planned = PlannedEpisode(
            name=NAME,
            columns={p: c for p, c in columns.items() if p not in images},
            frames={p: (columns[p].shape[1:], columns[p].dtype.name) for p in images},
            joint_names=joint_names,
            action_names=action_names,
            report=_report(npz),
        )
        unknown = sorted(set(npz.members) - set(NPZ_KEYS) - set(OWN_KEYS))
        notes = [f"The keys {unknown} are unknown and left out."] if unknown else []
        if images and CHANNEL_ORDER not in npz.members:
            notes.append(f"The file has no {CHANNEL_ORDER}: its images are taken for BGR and turned to RGB.")
    return NpzEpisode(path, planned, turned, notes)


def read_npz(path: str | Path, instruction: str | None = None) -> dict[str, np.ndarray]:
    """Reads an episode as columns of the contract; images are mapped into memory where the file allows it.

    Args:
      path: as for ``open_npz``.
      instruction: as for ``open_npz``.

    Returns:
      field path -> [T, ...].

    Raises:
      FileNotFoundError, MissingTaskError, ValueError: as ``open_npz``.
    """
    with open_members(path) as npz:
        columns, turned = _columns(npz, instruction, mapped=True)
    return {p: _rgb(c, turned) if is_image(p) else c for p, c in columns.items()}


def step_columns(steps: int, instructions: np.ndarray, finished: bool = True) -> dict[str, np.ndarray]:
    """The columns that a demonstration has whatever was recorded: it ends because the task was done.

    Args:
      steps: T.
      instructions: T str.
      finished: False where its end was not recorded: then nothing is terminal, and no reward given.

    Returns:
      ``language_instruction``, flags, ``reward`` (1 on the last step) and ``discount`` (1).
    """
    last = np.arange(steps) == steps - 1
    done = last & finished
    return {
        LANGUAGE_INSTRUCTION: instructions,
        IS_FIRST: np.arange(steps) == 0,
        IS_LAST: last,
        IS_TERMINAL: done,
        REWARD: done.astype(np.float32),
        DISCOUNT: np.ones(steps, np.float32),
    }


def _columns(npz: NpzMembers, instruction: str | None, *, mapped: bool) -> tuple[dict[str, np.ndarray], bool]:
    """All columns, checked, and whether images must be turned. Unmapped images have shape and type only."""
    if "actions" not in npz.members:
        raise ValueError(f"{npz.path} lacks ['actions']. Received keys: {sorted(npz.members)}")
    columns: dict[str, np.ndarray] = {}
    for key, path in NPZ_KEYS.items():
        if key not in npz.members:
            continue
        if not is_image(path):
            columns[path] = _single(npz.read(key))
        elif mapped:
            columns[path] = npz.map_or_read(key)
        else:
            shape, dtype = npz.header(key)
            columns[path] = np.broadcast_to(np.zeros((), dtype), shape)
    steps = len(columns[ACTION]) if columns[ACTION].ndim else 0
    columns |= step_columns(steps, _instructions(npz, instruction, steps))
    columns |= {path: npz.read(path) for path in ENDS if path in npz.members}
    check_columns(columns, str(npz.path))
    order = _text(npz, CHANNEL_ORDER) if CHANNEL_ORDER in npz.members else BGR
    if order not in (RGB, BGR):
        raise ValueError(f"{npz.path}: {CHANNEL_ORDER} must be {RGB!r} or {BGR!r}. Received: {order!r}")
    return columns, order == BGR


def _single(numbers: np.ndarray) -> np.ndarray:
    """numpy's own floats as the contract's; others are left for the contract to judge."""
    return numbers.astype(np.float32) if numbers.dtype == np.float64 else numbers


def _instructions(npz: NpzMembers, instruction: str | None, steps: int) -> np.ndarray:
    if instruction is not None:
        return np.full(steps, instruction)
    if LANGUAGE_INSTRUCTION not in npz.members:
        raise MissingTaskError(
            f"No task is given for {npz.path}#{NAME}: the file has no {LANGUAGE_INSTRUCTION}, as published "
            "ones have none. Received: instruction=None"
        )
    stored = texts(npz.read(LANGUAGE_INSTRUCTION))
    return np.full(steps, stored) if stored.ndim == 0 else stored


def _names(npz: NpzMembers, columns: Mapping[str, np.ndarray]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of joints and of the action's elements; published files have none, so they are numbered."""
    joints = columns[JOINT_POSITIONS].shape[1] if JOINT_POSITIONS in columns else 0
    actions = columns[ACTION].shape[1]
    joint_names = tuple(f"joint_{i}" for i in range(joints))
    if JOINT_NAMES in npz.members:
        joint_names = tuple(texts(npz.read(JOINT_NAMES)).reshape(-1).tolist())
    action_names = (
        tuple(f"{name} [rad]" for name in joint_names)
        if actions == joints
        else tuple(f"action_{i}" for i in range(actions))
    )
    if ACTION_NAMES in npz.members:
        action_names = tuple(texts(npz.read(ACTION_NAMES)).reshape(-1).tolist())
    for key, names, size in ((JOINT_NAMES, joint_names, joints), (ACTION_NAMES, action_names, actions)):
        if len(names) != size:
            raise ValueError(f"{npz.path}: {key} must be {size} names. Received: {list(names)}")
    return joint_names, action_names


def _report(npz: NpzMembers) -> dict[str, Any]:
    if REPORT not in npz.members:
        return {}
    text = _text(npz, REPORT)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{npz.path}: {REPORT} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{npz.path}: {REPORT} must be a JSON object. Received: {text[:80]!r}")
    return value


def _rgb(images: np.ndarray, turned: bool) -> np.ndarray:
    """Turns colour from BGR; depth has no channels. A view."""
    return images[..., ::-1] if turned and images.shape[-1] == 3 and images.dtype == np.uint8 else images


def _text(npz: NpzMembers, key: str) -> str:
    value = texts(npz.read(key))
    if value.ndim:
        raise ValueError(f"{npz.path}: {key} must be one string. Received: shape={value.shape}")
    return str(value)
