"""A ``.npy`` file that grows row by row, for arrays larger than memory."""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np


class ArrayFile:
    """Appends rows to an array in a file, which is whole once this context manager has ended.

    Attributes:
      path: of the file.
      rows: how many there are so far.
    """

    def __init__(self, path: Path) -> None:
        """``path`` must not exist."""
        self.path, self.rows = path, 0
        self._file = path.open("xb")
        self._row: tuple[int, ...] = ()
        self._dtype: np.dtype | None = None
        self._start = 0
        self._digest = hashlib.sha256()

    def append(self, rows: np.ndarray) -> None:
        """Writes [n, ...] behind what is there.

        Raises:
          ValueError: the rows are of another shape or type than the first.
        """
        rows = np.ascontiguousarray(rows)
        if self._dtype is None:
            self._row, self._dtype = rows.shape[1:], rows.dtype
            self._start = self._write_header(rows.dtype)
        if (rows.shape[1:], rows.dtype) != (self._row, self._dtype):
            raise ValueError(
                f"all steps must be {self._dtype} {list(self._row)}, as the first ones. "
                f"Received: {rows.dtype} {list(rows.shape[1:])}"
            )
        self._file.write(rows.data)
        self._digest.update(rows.data)
        self.rows += len(rows)

    def about(self) -> dict[str, Any]:
        """Shape, type and checksum, as JSON values, for ``open_array``."""
        return {
            "shape": [self.rows, *self._row],
            "dtype": str(self._dtype),
            "sha256": self._digest.hexdigest(),
        }

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None and self._dtype is not None:
                self._file.seek(0)
                # numpy leaves room in the header for the first axis to grow.
                if self._write_header(self._dtype) != self._start:
                    raise RuntimeError(f"The header of {self.path} has outgrown its place")

    def _write_header(self, dtype: np.dtype) -> int:
        header: dict[str, Any] = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self._file, {**header, "shape": (self.rows, *self._row)})
        return self._file.tell()


def open_array(path: Path, about: dict[str, Any]) -> np.ndarray:
    """Maps the array of an ``ArrayFile`` into memory, read-only.

    Args:
      path: of the file.
      about: what ``ArrayFile.about`` said of it.

    Raises:
      ValueError: the file is missing, cut off, or another one.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is no whole array: {error}") from error
    found = {"shape": list(array.shape), "dtype": str(array.dtype)}
    expected = {key: about.get(key) for key in found}
    if found != expected:
        raise ValueError(f"{path} must be {expected}. Received: {found}")
    return array
