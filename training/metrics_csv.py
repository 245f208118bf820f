"""metrics.csv: one row for each epoch, for spreadsheets and plots of one's own."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from core import files

NAME = "metrics.csv"


def columns(rows: Iterable[Mapping[str, float]]) -> list[str]:
    """The names of all rows, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def write(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Replaces the table by ``rows``, atomically.

    The whole table is written each time: it is small, a reader never sees half a row, a resumed run
    drops the rows after its checkpoint, and a metric that appears later becomes a column in which the
    earlier rows are empty. Numbers are written so that reading gives the same float64.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, text.getvalue())


def read(path: Path) -> list[dict[str, float]]:
    """The rows without their empty cells; all numbers as float.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a cell is not a number.
    """
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: float(cell) for name, cell in row.items() if cell != ""} for row in csv.DictReader(file)
        ]
