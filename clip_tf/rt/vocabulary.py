"""The language actions that a policy chooses among: phrase, label and low-level action of each class.

A low-level action is ``[dx, dy, dz, droll, dpitch, dyaw, (gripper rotation,) gripper]``: metres (x forward,
y left, z up), radians, and 1 for an open gripper. ``action_table.action_specs`` names them.
"""

import csv
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gin
import numpy as np

from clip_tf.rt import action_table
from clip_tf.text_cleaning import clean
from clip_tf.tokenizer import tokenize
from core import files

# A move of 20 cm weighs as much as a quarter turn.
POSITION_WEIGHT = 7.854
# A gripper that changes by more is opening or closing.
GRIPPER_CHANGE = 0.5
SIZES = (7, 8)
PRESETS = {
    "finetuned": action_table.finetuning_table,
    "pretrained": action_table.pretraining_table,
}
_COLUMNS = {
    7: ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
    8: ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper_rotation", "gripper"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """Classes in the order of their labels.

    Attributes:
      phrases: of each class, each different.
      actions: float32 [n, 7 or 8], each row different.

    Raises:
      ValueError: no class, sizes that differ, a phrase that is empty or there twice, a number that is not
        finite, a gripper outside [0, 1], or two classes of one action.
    """

    phrases: tuple[str, ...]
    actions: np.ndarray
    _labels: Mapping[str, int] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        actions = np.asarray(self.actions, np.float32)
        object.__setattr__(self, "phrases", tuple(self.phrases))
        object.__setattr__(self, "actions", actions)
        n = len(self.phrases)
        if not n or actions.ndim != 2 or actions.shape[0] != n or actions.shape[1] not in SIZES:
            raise ValueError(
                f"A vocabulary has at least one phrase and an action of {SIZES[0]} or {SIZES[1]} numbers for "
                f"each. Received: {n} phrases and actions of shape {actions.shape}"
            )
        for phrase in self.phrases:
            if not isinstance(phrase, str) or not phrase.strip():
                raise ValueError(f"A phrase of a vocabulary must be a text. Received: {phrase!r}")
        # What the tokenizer makes one of could never be told apart.
        ids = tokenize(self.phrases).tolist() if self.phrases else []
        _require_different("phrase", self.phrases, [tuple(row) for row in ids])
        for phrase, action in zip(self.phrases, actions, strict=True):
            if not np.isfinite(action).all():
                raise ValueError(f"The action of {phrase!r} must be finite. Received: {action.tolist()}")
            if not 0.0 <= action[-1] <= 1.0:
                raise ValueError(
                    f"The gripper, last number of {phrase!r}, must be in [0, 1]. Received: {action[-1]}"
                )
        _require_different("action", self.phrases, [tuple(row) for row in actions.tolist()])
        labels = {_normal(phrase): label for label, phrase in enumerate(self.phrases)}
        object.__setattr__(self, "_labels", labels)

    def __len__(self) -> int:
        return len(self.phrases)

    def label_of(self, phrase: str) -> int:
        """The class of a phrase, whatever its case and spacing.

        Raises:
          ValueError: it is not in the vocabulary.
        """
        label = self._labels.get(_normal(phrase))
        if label is None:
            raise ValueError(f"phrase must be one of the vocabulary's {len(self)}. Received: {phrase!r}")
        return label

    def check_label(self, phrase: str, label: int, what: str) -> None:
        """Raises:
        ValueError: the phrase is the vocabulary's, of another class: data were made with another vocabulary.
        """
        known = self._labels.get(_normal(phrase), label)
        if known != label:
            raise ValueError(
                f"{what}: {phrase!r} is class {known} of the vocabulary. Data that were made with another "
                f"vocabulary (pretrained has 50 classes, finetuned 58) need it in training too, as "
                f"clip_rt.make_vocabulary.source. Received: label {label}"
            )

    def nearest(self, action: Sequence[float] | np.ndarray, gripper_change: float = 0.0) -> int:
        """The class nearest to a low-level action.

        The distance is Euclidean, a move of 20 cm counting as much as a quarter turn. The gripper's position
        says nothing about which move it is, so it is compared by its change: a change above 0.5 means the
        class that opens or closes, whatever else moves.

        Args:
          action: as the module says, of the vocabulary's size.
          gripper_change: the gripper after the step less the gripper before it.

        Raises:
          ValueError: an action of another size, not finite, or no class that opens or closes where one is
            meant, or none that moves.
        """
        wanted = np.asarray(action, np.float64)
        if wanted.shape != (self.actions.shape[1],) or not np.isfinite([*wanted, gripper_change]).all():
            raise ValueError(
                f"action must be {self.actions.shape[1]} finite numbers. "
                f"Received: {np.asarray(action)!r} with gripper_change={gripper_change}"
            )
        moves = self.actions[:, :-1].astype(np.float64)
        is_move = moves.any(axis=1)
        if abs(gripper_change) > GRIPPER_CHANGE:
            target = action_table.OPEN if gripper_change > 0 else action_table.CLOSE
            found = np.flatnonzero(~is_move & (np.abs(self.actions[:, -1] - target) < GRIPPER_CHANGE))
            if not found.size:
                raise ValueError(
                    f"The vocabulary has no class that sets the gripper to {target}. "
                    f"Received: gripper_change={gripper_change}"
                )
            return int(found[0])
        if not is_move.any():
            raise ValueError("The vocabulary has no class that moves. Received: a move")
        weights = np.ones(moves.shape[1])
        weights[:3] = POSITION_WEIGHT
        distances = np.linalg.norm((moves - wanted[:-1]) * weights, axis=1)
        return int(np.argmin(np.where(is_move, distances, np.inf)))

    def to_json(self) -> dict[str, str]:
        """The published layout of ``language_to_action.json``: phrase -> its numbers in a string."""
        return {p: json.dumps([float(v) for v in a]) for p, a in zip(self.phrases, self.actions, strict=True)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Vocabulary":
        """The inverse of ``to_json``; lists of numbers are taken too.

        Raises:
          ValueError: not such an object, or a vocabulary that is not valid.
        """
        if not isinstance(value, Mapping):
            raise ValueError(
                f"A vocabulary is an object of phrase to numbers. Received: {type(value).__name__}"
            )
        rows = []
        for phrase, numbers in value.items():
            if isinstance(numbers, str):
                try:
                    numbers = json.loads(numbers)
                except (json.JSONDecodeError, RecursionError) as error:
                    raise ValueError(
                        f"The action of {phrase!r} must be a list of numbers. "
                        f"Received: {str(numbers)[:200]!r}"
                    ) from error
            rows.append(_numbers(phrase, numbers))
        return cls(tuple(value), _matrix(tuple(value), rows))

    def save(self, path: str | Path) -> None:
        files.write_json(path, self.to_json())


def load_vocabulary(path: str | Path) -> Vocabulary:
    """Reads a custom vocabulary.

    Args:
      path: ``.json`` in the layout of ``Vocabulary.to_json``, or ``.csv`` with the columns ``phrase, dx, dy,
        dz, droll, dpitch, dyaw, gripper`` and, where there is one, ``gripper_rotation``, in any order.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: another suffix, or a file that holds no valid vocabulary; the message names the file.
        Classes that move and differ in the gripper are refused too: a move leaves the gripper as it is.
    """
    path = Path(path)
    try:
        if path.suffix in (".json", ".csv"):
            found = Vocabulary.from_json(read_json_once(path)) if path.suffix == ".json" else _from_csv(path)
            _require_moves_without_gripper(found)
            return found
    # Numbers without end, objects without end, a quote that is never closed.
    except (ValueError, OverflowError, RecursionError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from error
    raise ValueError(f"A vocabulary is a .json or a .csv file. Received: {path}")


@gin.configurable(module="clip_rt")
def make_vocabulary(source: str = "finetuned") -> Vocabulary:
    """A vocabulary by name, or from a file.

    Args:
      source: ``finetuned`` (58 classes), ``pretrained`` (50 classes, Open X-Embodiment), or a path for
        ``load_vocabulary``.

    Raises:
      FileNotFoundError, ValueError: see ``load_vocabulary``.
    """
    if source in PRESETS:
        table = PRESETS[source]()
        return Vocabulary(tuple(m.phrase for m in table), np.array([m.action for m in table], np.float32))
    if not Path(source).suffix:
        raise ValueError(f"vocabulary must be one of {sorted(PRESETS)} or a file. Received: {source!r}")
    return load_vocabulary(source)


def _from_csv(path: Path) -> Vocabulary:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        given = reader.fieldnames or []
        columns = next((c for c in _COLUMNS.values() if sorted(given) == sorted(("phrase", *c))), None)
        if columns is None:
            raise ValueError(f"columns must be phrase and {_COLUMNS[7]} or {_COLUMNS[8]}. Received: {given}")
        phrases, rows = [], []
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"line {reader.line_num} must have {len(given)} values. Received: {row}")
            phrases.append(row["phrase"].strip())
            try:
                rows.append([float(row[name]) for name in columns])
            except ValueError as error:
                raise ValueError(f"line {reader.line_num} must hold numbers. Received: {row}") from error
    return Vocabulary(tuple(phrases), _matrix(phrases, rows))


def read_json_once(path: Path) -> Any:
    """JSON whose keys must be different: Python would keep the last and renumber the labels."""

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        _require_different("phrase", keys, keys)
        return dict(pairs)

    text = path.read_bytes().decode("utf-8-sig")
    return json.loads(text, object_pairs_hook=object_of)


def _numbers(phrase: str, value: Any) -> list[float]:
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(v, (int, float)) and not isinstance(v, bool) for v in value
    ):
        raise ValueError(f"The action of {phrase!r} must be a list of numbers. Received: {str(value)[:200]}")
    return [float(v) for v in value]


def _matrix(phrases: Sequence[str], rows: Sequence[Sequence[float]]) -> np.ndarray:
    sizes = {len(row): phrase for phrase, row in zip(phrases, rows, strict=True)}
    if len(sizes) > 1:
        raise ValueError(f"All actions must have as many numbers. Received: {sizes}")
    with np.errstate(over="ignore"):  # Infinity is refused with a message of its own.
        return np.array(rows, np.float32)


def _require_moves_without_gripper(vocabulary: Vocabulary) -> None:
    moves = np.flatnonzero(vocabulary.actions[:, :-1].any(axis=1))
    grippers = vocabulary.actions[moves, -1]
    other = moves[grippers != grippers[:1]]
    if other.size:
        first, second = vocabulary.phrases[moves[0]], vocabulary.phrases[other[0]]
        raise ValueError(
            f"A class that moves leaves the gripper as it was last sent, so the gripper's number must be the "
            f"same in all of them. Received: {grippers[0]:g} in {first!r}, "
            f"{vocabulary.actions[other[0], -1]:g} in {second!r}"
        )


def _normal(phrase: str) -> str:
    return clean(phrase).lower()


def _require_different(what: str, names: Iterable[str], keys: Iterable[Any]) -> None:
    seen: dict[Any, str] = {}
    for name, key in zip(names, keys, strict=True):
        if key in seen:
            raise ValueError(f"No two classes may have the same {what}. Received: {seen[key]!r} and {name!r}")
        seen[key] = name
