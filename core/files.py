"""Writing files so that a reader sees the old content or the new one, never half of either."""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary name beside ``path``; on success it is renamed to ``path``.

    The temporary name keeps the suffix of ``path`` (writers such as ``numpy.savez`` choose or append
    one). On an exception the temporary file is removed and ``path`` is left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yields a temporary folder beside ``path``; on success it is renamed to ``path``.

    Raises:
      FileExistsError: ``path`` exists already (checked before and at the rename).
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"The folder to write exists already. Received: {path}")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():  # A rename would replace an empty folder.
            raise FileExistsError(f"The folder to write was made meanwhile. Received: {path}")
        for written in (*temporary.rglob("*"), temporary):
            _flush(written)
        temporary.rename(path)
        _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flush(path: Path) -> None:
    """Has the system write a file's content, or a folder's names, to the disk: a rename may come first."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Writes ``text`` to ``path`` in UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes ``value`` as indented JSON, atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads JSON.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not JSON; the message names it.
    """
    content = Path(path).read_bytes()
    try:
        return json.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
