"""EIPL's layout of a data set: all episodes in a few arrays, padded to the longest.

::

    FOLDER/joint_bounds.npy        float32 [2, P]: smallest and largest joint positions of all splits
    FOLDER/task_dict.json          {"0": instruction, "1": …}
    FOLDER/{train,test}/
        images.npy                 uint8 [N, T, H, W, 3] BGR, as EIPL's own tools write and show it
        joints.npy                 float32 [N, T, P], rad
        tasks.npy                  int64 [N]: number of the task
        lengths.npy                int64 [N]: steps before the padding            (ours, as all below)
        actions.npy                float32 [N, T, A]
        depths.npy                 uint16 [N, T, H, W], millimetres
        gelsight_{left,right}.npy  uint8 [N, T, H, W, 3] BGR

What is shorter than the longest episode of all splits repeats its last step. What was not recorded is absent.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from core import files
from episodes.episode import (
    ACTION,
    DEPTH,
    GELSIGHT_LEFT,
    GELSIGHT_RIGHT,
    IMAGE,
    JOINT_POSITIONS,
    LANGUAGE_INSTRUCTION,
    check_columns,
    field,
)
from episodes.images import resize
from episodes.npz import step_columns

SPLITS = ("train", "test")
ARRAYS: Mapping[str, str] = {
    "images": IMAGE,
    "joints": JOINT_POSITIONS,
    "actions": ACTION,
    "depths": DEPTH,
    "gelsight_left": GELSIGHT_LEFT,
    "gelsight_right": GELSIGHT_RIGHT,
}
TASKS, LENGTHS, BOUNDS, TASK_DICT = "tasks", "lengths", "joint_bounds.npy", "task_dict.json"
RGB, BGR = "rgb", "bgr"

_Layout = dict[str, tuple[tuple[int, ...], np.dtype]]


@dataclasses.dataclass
class _Split:
    """What was taken in of one split; rows without padding wait in ``rows``."""

    rows: dict[str, BinaryIO]
    lengths: list[int]
    tasks: list[int]


def write_eipl(
    folder: str | Path,
    episodes: Iterable[tuple[str, Mapping[str, np.ndarray]]],
    task_dict: Mapping[str, str],
    image_size: tuple[int, int] | None = None,
) -> None:
    """Writes a data set, atomically, with memory for one frame beside what ``episodes`` holds.

    On the disk it needs its size twice while it is written. Rewards and flags are not kept.

    Args:
      folder: to write; it must not exist.
      episodes: (``train`` or ``test``, columns of the contract), one at a time; with joint positions, and
        all with the same modalities and sizes. The columns may be memory maps.
      task_dict: number, as text, -> instruction. Each episode has one of them.
      image_size: (height, width) that all images are brought to; None keeps theirs.

    Raises:
      FileExistsError: the folder exists.
      ValueError: no episodes, one outside the contract or unlike the first, another split, or an instruction
        that changes or is not in ``task_dict``. Nothing is written.
    """
    numbers = _numbers(task_dict)
    layout: _Layout | None = None
    splits: dict[str, _Split] = {}
    bounds: list[np.ndarray] = []  # Of each episode, [2, P].
    with files.atomic_folder(folder) as temporary:
        try:
            for i, (name, columns) in enumerate(episodes):
                what = f"episode {i}"
                found = _layout(columns, image_size, what)
                if layout is not None and found != layout:
                    raise ValueError(f"{what} must be as the first: {layout}. Received: {found}")
                layout = found
                if name not in SPLITS:
                    raise ValueError(f"EIPL's splits are {list(SPLITS)}. Received: {name!r} for {what}")
                if name not in splits:
                    splits[name] = _open_split(temporary / name, layout)
                split = splits[name]
                split.tasks.append(_task(columns, numbers, what))
                split.lengths.append(_append(split, columns, layout, image_size))
                joints = columns[JOINT_POSITIONS]
                bounds.append(np.stack([joints.min(axis=0), joints.max(axis=0)]))
            if layout is None:
                raise ValueError("A data set needs at least one episode. Received: none")
            longest = max(max(split.lengths) for split in splits.values())
            for name, split in splits.items():
                _write_split(temporary / name, split, layout, longest)
        finally:
            for split in splits.values():
                for file in split.rows.values():
                    file.close()
        lowest, highest = np.min(bounds, axis=0)[0], np.max(bounds, axis=0)[1]
        np.save(temporary / BOUNDS, np.stack([lowest, highest]))
        files.write_json(temporary / TASK_DICT, dict(task_dict))


def read_eipl(
    folder: str | Path, split: str, *, channel_order: str = BGR, instruction: str | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Reads a data set back, episode by episode, as columns of the contract; images stay memory-mapped.

    Data sets of others are understood too. Without ``lengths.npy`` their padding is kept: a robot that
    stands still at the end looks the same. Without ``actions.npy`` the action is the next joint positions,
    so that an episode has one step less than images.

    Args:
      folder: holds ``joint_bounds.npy`` and the splits.
      split: ``train`` or ``test``.
      channel_order: of the file's images; EIPL's sets from a simulator are ``rgb``.
      instruction: for a data set without tasks; it takes the place of its own.

    Yields:
      field path -> [steps, ...].

    Raises:
      FileNotFoundError: there is no such folder or no joints in it.
      ValueError: an array is damaged, or not as the module says; or nobody gives an instruction.
    """
    if channel_order not in (RGB, BGR):
        raise ValueError(f"channel_order must be {RGB!r} or {BGR!r}. Received: {channel_order!r}")
    place = Path(folder) / split
    there = {name: path for name, path in ARRAYS.items() if (place / f"{name}.npy").exists()}
    if "joints" not in there:
        raise FileNotFoundError(f"There is no joints.npy. Received: {place}")
    arrays = {path: _load(place / f"{name}.npy") for name, path in there.items()}
    shape = arrays[JOINT_POSITIONS].shape
    if len(shape) != 3 or any(array.shape[:2] != shape[:2] for array in arrays.values()):
        sizes = {path: array.shape for path, array in arrays.items()}
        raise ValueError(f"{place}: all arrays must be [N, T, ...], joints [N, T, P]. Received: {sizes}")
    lengths = _per_episode(place, LENGTHS, shape[0])
    if lengths is not None and not ((lengths >= 1) & (lengths <= shape[1])).all():
        raise ValueError(f"{place}: {LENGTHS} must be 1 to {shape[1]}. Received: {lengths.tolist()}")
    instructions = _instructions(Path(folder), place, shape[0], instruction)
    for i in range(shape[0]):
        steps = shape[1] if lengths is None else int(lengths[i])
        yield _episode(arrays, i, steps, instructions[i], channel_order == BGR, f"{place}: episode {i}")


def _numbers(task_dict: Mapping[str, str]) -> dict[str, int]:
    """Instruction -> number."""
    if not all(number.isdecimal() for number in task_dict):
        raise ValueError(f"task_dict maps '0', '1' … to instructions. Received: {dict(task_dict)}")
    numbers = {text: int(number) for number, text in task_dict.items()}
    if len(numbers) != len(task_dict):
        raise ValueError(f"task_dict names an instruction twice. Received: {dict(task_dict)}")
    return numbers


def _layout(columns: Mapping[str, np.ndarray], image_size: tuple[int, int] | None, what: str) -> _Layout:
    """Array -> shape and type of a step."""
    check_columns(columns, what)
    if JOINT_POSITIONS not in columns:
        raise ValueError(f"EIPL's layout needs {JOINT_POSITIONS} in {what}. Received: {sorted(columns)}")
    layout: _Layout = {}
    for name, path in ARRAYS.items():
        if path in columns:
            shape = columns[path].shape[1:]
            if image_size is not None and _is_image(path):
                shape = (*image_size, *shape[2:])
            layout[name] = (shape, columns[path].dtype)
    return layout


def _open_split(folder: Path, layout: _Layout) -> _Split:
    folder.mkdir()
    return _Split({name: (folder / f"{name}.rows").open("w+b") for name in layout}, [], [])


def _task(columns: Mapping[str, np.ndarray], numbers: Mapping[str, int], what: str) -> int:
    said = {v.decode() if isinstance(v, bytes) else str(v) for v in columns[LANGUAGE_INSTRUCTION].tolist()}
    if len(said) > 1:
        raise ValueError(f"EIPL's layout has one task an episode. Received: {sorted(said)} in {what}")
    (text,) = said
    if text not in numbers:
        raise ValueError(f"task_dict has the instructions {sorted(numbers)}. Received: {text!r} in {what}")
    return numbers[text]


def _append(
    split: _Split, columns: Mapping[str, np.ndarray], layout: _Layout, image_size: tuple[int, int] | None
) -> int:
    """Writes an episode's rows; returns how many."""
    for name in layout:
        path = ARRAYS[name]
        for row in columns[path]:
            if _is_image(path):
                row = _turned(resize(np.ascontiguousarray(row), image_size), path)
            split.rows[name].write(np.ascontiguousarray(row).data)
    return len(columns[ACTION])


def _write_split(folder: Path, split: _Split, layout: _Layout, longest: int) -> None:
    for name, (shape, dtype) in layout.items():
        rows, size = split.rows[name], int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        rows.seek(0)
        with (folder / f"{name}.npy").open("xb") as file:
            header: dict[str, Any] = {"descr": dtype.str, "fortran_order": False}
            header["shape"] = (len(split.lengths), longest, *shape)
            np.lib.format.write_array_header_1_0(file, header)
            for length in split.lengths:
                for _ in range(length):
                    row = rows.read(size)
                    file.write(row)
                for _ in range(longest - length):
                    file.write(row)
        rows.close()
        (folder / f"{name}.rows").unlink()
    np.save(folder / f"{TASKS}.npy", np.array(split.tasks, np.int64))
    np.save(folder / f"{LENGTHS}.npy", np.array(split.lengths, np.int64))


def _load(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a whole plain array: {error}") from error


def _per_episode(place: Path, name: str, n: int) -> np.ndarray | None:
    """int64 [n], or None where there is no such file."""
    path = place / f"{name}.npy"
    if not path.exists():
        return None
    values = _load(path)
    if values.shape != (n,) or values.dtype.kind not in "iu":
        raise ValueError(f"{path} must be integers, {n}. Received: {values.dtype} {values.shape}")
    return np.array(values, np.int64)


def _instructions(folder: Path, place: Path, n: int, instruction: str | None) -> Sequence[str]:
    if instruction is not None:
        return [instruction] * n
    tasks = _per_episode(place, TASKS, n)
    if tasks is None:
        raise ValueError(f"{place} has no {TASKS}.npy: name an instruction. Received: instruction=None")
    names = files.read_json(folder / TASK_DICT)
    if not isinstance(names, dict) or not {str(t) for t in tasks.tolist()} <= names.keys():
        wanted = sorted(set(tasks.tolist()))
        raise ValueError(f"{folder / TASK_DICT} must name the tasks {wanted}. Received: {names}")
    return [str(names[str(t)]) for t in tasks.tolist()]


def _episode(
    arrays: Mapping[str, np.ndarray], i: int, steps: int, instruction: str, bgr: bool, what: str
) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    kept = steps if ACTION in arrays else steps - 1
    for path, array in arrays.items():
        column = array[i, :kept]
        if _is_image(path):
            columns[path] = _turned(column, path) if bgr else column
        else:
            columns[path] = np.array(column, np.float32) if column.dtype.kind == "f" else column
    if ACTION not in arrays:
        columns[ACTION] = np.array(arrays[JOINT_POSITIONS][i, 1:steps], np.float32)
    columns |= step_columns(kept, np.full(kept, instruction))
    check_columns(columns, what)
    return columns


def _turned(images: np.ndarray, path: str) -> np.ndarray:
    """RGB to BGR and back; depth stays."""
    return images if path == DEPTH else images[..., ::-1]


def _is_image(path: str) -> bool:
    return "H" in field(path).shape
