"""The episode contract: names, types, shapes and units of a recorded episode, written once.

An episode is held as columns: one array for each field, with the step as leading axis, under the
field's path (``observation/image``). A modality that was not recorded is absent, never zeros.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

IMAGE = "observation/image"
DEPTH = "observation/depth"
GELSIGHT_LEFT = "observation/gelsight_left"
GELSIGHT_RIGHT = "observation/gelsight_right"
JOINT_POSITIONS = "observation/joint_positions"
ACTION = "action"
LANGUAGE_INSTRUCTION = "language_instruction"
IS_FIRST, IS_LAST, IS_TERMINAL = "is_first", "is_last", "is_terminal"
REWARD, DISCOUNT = "reward", "discount"


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a step.

    Attributes:
      path: where it stands in a step, ``/`` between levels.
      dtype: a numpy type name, or ``string``.
      shape: of one step; a letter is a size that is the same in all steps of an episode.
      unit: empty where there is none.
      required: False for a modality that may be absent.
      description: one sentence.
    """

    path: str
    dtype: str
    shape: tuple[int | str, ...]
    unit: str
    required: bool
    description: str


FIELDS: tuple[Field, ...] = (
    Field(IMAGE, "uint8", ("H", "W", 3), "", False, "Colour camera, RGB."),
    Field(DEPTH, "uint16", ("H", "W"), "mm", False, "Distance from the depth camera; 0 where unknown."),
    Field(GELSIGHT_LEFT, "uint8", ("H", "W", 3), "", False, "Left finger's tactile image, RGB."),
    Field(GELSIGHT_RIGHT, "uint8", ("H", "W", 3), "", False, "Right finger's tactile image, RGB."),
    Field(JOINT_POSITIONS, "float32", ("P",), "rad", False, "Joint positions when the images were taken."),
    Field(ACTION, "float32", ("A",), "", True, "The command of this step; units as the data set says."),
    Field(LANGUAGE_INSTRUCTION, "string", (), "", True, "What the robot was asked to do."),
    Field(IS_FIRST, "bool", (), "", True, "True on the first step only."),
    Field(IS_LAST, "bool", (), "", True, "True on the last step only."),
    Field(IS_TERMINAL, "bool", (), "", True, "True on the last step where the task ended there."),
    Field(REWARD, "float32", (), "", True, "Reward of this step."),
    Field(DISCOUNT, "float32", (), "", True, "Discount of this step; 1 where nothing else is known."),
)

# The published NPZ files of one demonstration name the same fields otherwise.
NPZ_KEYS: Mapping[str, str] = {
    "color": IMAGE,
    "depth": DEPTH,
    "gelsight1": GELSIGHT_LEFT,
    "gelsight2": GELSIGHT_RIGHT,
    "joints_state": JOINT_POSITIONS,
    "actions": ACTION,
}

_BY_PATH: Mapping[str, Field] = {field.path: field for field in FIELDS}


def field(path: str) -> Field:
    """The field at ``path``.

    Raises:
      ValueError: the contract has no such field.
    """
    if path not in _BY_PATH:
        raise ValueError(f"An episode has the fields {sorted(_BY_PATH)}. Received: {path!r}")
    return _BY_PATH[path]


def check_columns(columns: Mapping[str, np.ndarray], what: str = "episode") -> int:
    """Checks one episode's columns against the contract.

    Args:
      columns: path -> array, the step as leading axis. Strings are numpy ``S``, ``U`` or object arrays of
        str or bytes.
      what: names the episode in messages.

    Returns:
      The number of steps, at least 1.

    Raises:
      ValueError: an unknown or missing field, another type or shape, lengths that differ, numbers that
        are not finite, an empty instruction, or first/last flags that do not stand at the ends.
    """
    for path in columns:
        field(path)
    missing = [f.path for f in FIELDS if f.required and f.path not in columns]
    if missing:
        raise ValueError(f"{what} lacks {missing}. Received: {sorted(columns)}")
    arrays = {path: np.asarray(column) for path, column in columns.items()}
    length = len(arrays[ACTION]) if arrays[ACTION].ndim else 0
    if length == 0:
        raise ValueError(f"{what} must have at least one step. Received: {ACTION} {arrays[ACTION].shape}")
    for path, array in arrays.items():
        _check_column(_BY_PATH[path], array, length, what)
    _check_flags(arrays, length, what)
    return length


def _check_column(spec: Field, array: np.ndarray, length: int, what: str) -> None:
    fits = array.ndim == 1 + len(spec.shape) and len(array) == length
    fits = fits and all(
        size > 0 if isinstance(wanted, str) else size == wanted
        for wanted, size in zip(spec.shape, array.shape[1:], strict=True)
    )
    if not fits:
        raise ValueError(f"{what}: {spec.path} must be {[length, *spec.shape]}. Received: {array.shape}")
    if spec.dtype == "string":
        if array.dtype.kind not in "SUO" or not all(isinstance(v, (str, bytes)) for v in array.tolist()):
            raise ValueError(f"{what}: {spec.path} must hold strings. Received: dtype={array.dtype}")
        empty = [i for i, v in enumerate(array.tolist()) if not v.strip()]
        if empty:
            raise ValueError(
                f"{what}: {spec.path} is empty at step {empty[0]}. Received: {array[empty[0]]!r}"
            )
    elif array.dtype != np.dtype(spec.dtype):
        raise ValueError(f"{what}: {spec.path} must be {spec.dtype}. Received: dtype={array.dtype}")
    elif array.dtype.kind == "f" and not np.isfinite(array).all():
        step = int(np.flatnonzero(~np.isfinite(array).reshape(length, -1).all(axis=1))[0])
        raise ValueError(f"{what}: {spec.path} must be finite. Received: {array[step]} at step {step}")


def _check_flags(arrays: Mapping[str, np.ndarray], length: int, what: str) -> None:
    ends = {IS_FIRST: 0, IS_LAST: length - 1}
    for path, step in ends.items():
        true_at = np.flatnonzero(arrays[path]).tolist()
        if true_at != [step]:
            raise ValueError(f"{what}: {path} must be True at step {step} only. Received: True at {true_at}")
    terminal_at = np.flatnonzero(arrays[IS_TERMINAL]).tolist()
    if terminal_at not in ([], [length - 1]):
        raise ValueError(
            f"{what}: {IS_TERMINAL} may be True at step {length - 1} only. Received: True at {terminal_at}"
        )
