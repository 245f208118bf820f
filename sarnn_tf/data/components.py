"""How prepared data lie on the disk: each modality by itself, so that switching one on computes only that.

::

    FOLDER/DIGEST/                of one data set at one stride
           episodes/              rows.npy float32 [steps, P]: joints; about.json: the episodes' table
           image-DIGEST/          rows.npy uint8 [steps, h, w, 3]
           depth-DIGEST/ …        rows.npy uint16 [steps, h, w, 1] …
           patches-DIGEST/        rows.npy float32 [steps, rows, columns, features]
           text-DIGEST/           rows.npy float32 [instructions, features]
           .lock                  held while something is computed

The steps of all episodes stand one after the other. Digests are of all that the content depends on.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from core import files
from sarnn_tf.data.array_file import ArrayFile, open_array

_LOCK, _ROWS, _ABOUT = ".lock", "rows.npy", "about.json"
_DIGITS = 24
_READ_BYTES = 1 << 28
"""Larger arrays are not read as a whole when they are opened: a start would take minutes."""


def digest_of(value: Any) -> str:
    """A short hexadecimal digest of JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_DIGITS]


@dataclasses.dataclass(frozen=True, eq=False)
class Component:
    """One array of a data set, opened by ``open_component``.

    Attributes:
      rows: read-only memory map [n, ...].
      sha256: of its content.
      table: JSON values that were written beside it.
    """

    rows: np.ndarray
    sha256: str
    table: Any


def is_there(folder: Path) -> bool:
    """Whether a component was written; it is whole then.

    Raises:
      ValueError: something else has its name.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"Prepared data must be a folder; remove what is there, and it is made again. Received: {folder}"
        )
    return folder.is_dir()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator["ComponentWriter"]:
    """Writes a component; it appears, whole, when the block ends without an error.

    Raises:
      FileExistsError: it is there.
    """
    with files.atomic_folder(folder) as temporary:
        with ArrayFile(temporary / _ROWS) as array:
            writer = ComponentWriter(array)
            yield writer
        files.write_json(temporary / _ABOUT, {**array.about(), "table": writer.table})


class ComponentWriter:
    """What ``writing`` gives.

    Attributes:
      table: JSON values to keep beside the array.
    """

    def __init__(self, array: ArrayFile) -> None:
        self._array = array
        self.table: Any = None

    def append(self, rows: np.ndarray) -> None:
        """See ``ArrayFile.append``."""
        self._array.append(rows)


def open_component(folder: Path) -> Component:
    """Opens what ``writing`` wrote. Lengths and types are checked; the contents of small arrays, too.

    Raises:
      ValueError: it is damaged; the message names the folder to remove.
    """
    try:
        about = files.read_json(folder / _ABOUT)
        rows = open_array(folder / _ROWS, about)
        if rows.nbytes <= _READ_BYTES and hashlib.sha256(rows.data).hexdigest() != about["sha256"]:
            raise ValueError(f"{_ROWS} is not what was written")
        return Component(rows, about["sha256"], about["table"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Prepared data are damaged; remove the folder {folder}, and it is made again. Received: {error}"
        ) from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Waits until no other process computes in this folder, then keeps others out.

    What a killed process left half written is removed.

    Raises:
      ValueError: the folder, or one above it, is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"Prepared data need a folder. Received: {folder}: {error}") from error
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("Another process prepares the data in %s; waiting for it.", folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.glob(".*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
        yield
