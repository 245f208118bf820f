"""Finds golden recordings by file stem, in ``tests/golden`` and in the folder that GOLDEN_DIR names.

A recording that is dropped there is checked without a new test.
"""

import fnmatch
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "golden"


def folders() -> list[Path]:
    """``tests/golden`` and, where it is set, GOLDEN_DIR (a missing folder is an error)."""
    named = os.environ.get("GOLDEN_DIR")
    if named is None:
        return [HERE]
    folder = Path(named)
    if not folder.is_dir():
        raise FileNotFoundError(f"GOLDEN_DIR is no folder. Received: {named}")
    return [HERE, folder]


def recordings(pattern: str, *, exclude: Iterable[str] = ()) -> list[object]:
    """Parameters for every file that matches, with the file's stem as the test's id.

    Args:
      pattern: of the file name, e.g. ``rt1_*.npz``; GOLDEN_DIR is searched with its subfolders.
      exclude: patterns of file names to leave out.
    """
    found: dict[tuple[str, bytes], Path] = {}  # One and the same file in both folders is one recording.
    for folder in folders():
        for path in sorted(folder.rglob(pattern)):
            if not any(fnmatch.fnmatch(path.name, e) for e in exclude):
                found.setdefault((path.name, hashlib.sha256(path.read_bytes()).digest()), path)
    return [pytest.param(path, id=path.stem) for path in found.values()]


def manifest(name: str) -> Path:
    """A manifest of ``tests/golden``."""
    return HERE / name
