"""What the robot was asked to do: from a sentence for all, a table of bags, or a topic in the bag."""

import csv
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core import files
from episodes.recording import TextSamples

_BAG_COLUMN, _TEXT_COLUMN, _NUMBER_COLUMN = "bag", "instruction", "task"
_EPISODE = re.compile(r"#\d{4}$")


class MissingTaskError(ValueError):
    """An episode that nobody says the task of."""


@dataclasses.dataclass(frozen=True)
class Tasks:
    """Where instructions come from.

    Attributes:
      sentence: of every episode that has none of its own; empty for none.
      table: bag -> sentence. A bag is named by the end of its path, with or without suffix
        (``demo3``, ``demo3.bag``, ``monday/demo3.bag``); ``NAME#0002`` is the third episode of a bag that is
        cut.
    """

    sentence: str = ""
    table: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def of(self, source: Path, episode: str) -> str | None:
        """The sentence of one episode; None where there is none.

        Args:
          source: the bag.
          episode: its name in the bag, e.g. ``0002``.
        """
        names = _names(source)
        for key in (*(f"{name}#{episode}" for name in names), *names):
            if key in self.table:
                return self.table[key]
        return self.sentence or None

    def mentions(self, source: Path) -> dict[str, str]:
        """What concerns one bag: changing another bag's line does not change it."""
        names = _names(source)
        own = {k: v for k, v in self.table.items() if _bag_of(k) in names}
        return {**own, "": self.sentence}

    def unused(self, sources: Sequence[Path]) -> list[str]:
        """Names in the table that are of none of the bags."""
        known = {name for source in sources for name in _names(source)}
        return sorted(key for key in self.table if _bag_of(key) not in known)

    def faults(self, sources: Sequence[Path]) -> list[str]:
        """One sentence for each name in the table that is of several bags."""
        bags: dict[str, list[Path]] = {}
        for source in sources:
            for name in _names(source):
                bags.setdefault(name, []).append(source)
        return [
            f"the task table's {key} may be {' or '.join(map(str, named))}"
            for key in sorted(self.table)
            if len(named := bags.get(_bag_of(key), [])) > 1
        ]


def load_table(path: str | Path, task_dict: str | Path | None = None) -> dict[str, str]:
    """Reads a table of tasks.

    A CSV has the column ``bag`` and either ``instruction`` (a sentence) or ``task`` (a number); a JSON maps
    bag -> sentence or number. Numbers are looked up in ``task_dict``.

    Args:
      path: ``.csv`` or ``.json``.
      task_dict: JSON of ``{"0": "put the cable into the slot", …}``.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: another layout or encoding, an empty sentence, a bag named twice, or a number that
        ``task_dict`` lacks; all of them are listed.
    """
    path = Path(path)
    try:
        rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8 text. Received: {error}") from error
    sentences = {} if task_dict is None else load_task_dict(task_dict)
    table: dict[str, str] = {}
    faults: list[str] = []
    for name, value in rows:
        number = _number(value)
        if not name:
            faults.append(f"a row without a bag: {value!r}")
        elif name in table:
            faults.append(f"{name} is named twice")
        elif number is not None:
            text = f"{number:g}"
            if text not in sentences:
                where = f"{task_dict} has {sorted(sentences)}" if task_dict else "no task_dict is given"
                faults.append(f"{name}: task {text} is not defined ({where})")
            table[name] = sentences.get(text, "")
        else:
            if not isinstance(value, str) or not value.strip():
                faults.append(f"{name}: an instruction must be words or a task number, not {value!r}")
            table[name] = str(value).strip()
    if faults:
        raise ValueError(f"{path}: every bag needs one task. Received: {'; '.join(faults)}")
    if not table:
        raise ValueError(f"{path} must name at least one bag. Received: an empty table")
    return table


def load_task_dict(path: str | Path) -> dict[str, str]:
    """Reads ``task_dict.json``: task number, as a string, -> sentence.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: anything else than that.
    """
    value = files.read_json(path)
    if not isinstance(value, dict) or not all(
        k.isdecimal() and isinstance(v, str) and v.strip() for k, v in value.items()
    ):
        raise ValueError(
            f'{path} must map task numbers ("0", "1", …) to sentences. Received: {str(value)[:200]}'
        )
    return {str(int(number)): sentence.strip() for number, sentence in value.items()}


def instructions_from_topic(samples: TextSamples, times_ns: np.ndarray) -> np.ndarray:
    """The sentence in force at each step: the last one said, or the first where none had been yet.

    Args:
      samples: of a string topic.
      times_ns: int64 [T].

    Returns:
      T str.

    Raises:
      MissingTaskError: nothing but blanks was ever said.
    """
    order = np.argsort(samples.stamp_ns, kind="stable")
    said = [(samples.stamp_ns[i], samples.texts[i].strip()) for i in order if samples.texts[i].strip()]
    if not said:
        raise MissingTaskError(f"the topic {samples.topic} says no instruction")
    last = np.searchsorted(np.array([stamp for stamp, _ in said]), times_ns, side="right") - 1
    return np.array([said[i][1] for i in np.maximum(last, 0)], dtype=np.str_)


def _names(source: Path) -> tuple[str, ...]:
    """The ends of a path, the longest first, with suffix and without."""
    parts = source.parts
    ends = [Path(*parts[i:]) for i in range(len(parts))]
    names = [name for end in ends for name in (end.as_posix(), end.with_suffix("").as_posix())]
    return tuple(dict.fromkeys(names))


def _bag_of(key: str) -> str:
    return _EPISODE.sub("", key)


def _number(value: Any) -> float | None:
    """A task number, also as spreadsheets write one (``1.0``); None for words."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _csv_rows(path: Path) -> list[tuple[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = [c.strip() for c in reader.fieldnames or ()]
        reader.fieldnames = columns
        value = _TEXT_COLUMN if _TEXT_COLUMN in columns else _NUMBER_COLUMN
        if _BAG_COLUMN not in columns or value not in columns:
            raise ValueError(
                f"{path} must have the columns {_BAG_COLUMN!r} and {_TEXT_COLUMN!r} or {_NUMBER_COLUMN!r}. "
                f"Received: {columns}"
            )
        rows = []
        for row in reader:
            if None in row:
                raise ValueError(
                    f"{path}, line {reader.line_num}: a row has {len(columns)} columns; put an instruction "
                    f"with a comma into double quotes. Received: {[*row.values()]}"
                )
            rows.append(((row[_BAG_COLUMN] or "").strip(), row[value] or ""))
        return rows


def _json_rows(path: Path) -> list[tuple[str, Any]]:
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path} must map bags to instructions. Received: {type(value).__name__}")
    return [(name.strip(), v) for name, v in value.items()]
