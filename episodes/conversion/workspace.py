"""The folder that a conversion works in beside its result, and how a finished data set takes its place.

::

    OUT/NAME/1.0.0/            the data set, whole or not there
    OUT/.work-NAME/lock        held by the run that works here
                   hashes.json content hashes of the sources, by path, size and time
                   staged/KEY/ converted sources
                   build-…/    a data set being put together
                   replaced/   the former one, for as long as the new one takes its place
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core import files
from core.file_lock import file_lock


class WorkspaceInUseError(ValueError):
    """Another run works on the same data set."""


class Workspace:
    """The folder of one data set, locked. Made by ``open_workspace``."""

    def __init__(self, folder: Path, final: Path) -> None:
        self.folder, self.final = folder, final
        self.staged = folder / "staged"
        self._replaced = folder / "replaced"
        self._hashes = folder / "hashes.json"

    def recover(self) -> None:
        """Ends what a killed run had begun: an exchange of data sets, and files half written."""
        if self._replaced.exists() and not self.final.exists():
            self._replaced.rename(self.final)
        self.staged.mkdir(parents=True, exist_ok=True)
        for leftover in (self._replaced, *self.folder.glob(".*"), *self.staged.glob(".*")):
            _remove(leftover)

    def discard(self, key: str) -> None:
        """Removes a staged source; never is a part of one left under its name."""
        folder = self.staged / key
        if folder.exists():
            _remove(folder.rename(self.staged / f".{uuid.uuid4().hex}"))

    def build_folder(self, fingerprint: str) -> Path:
        """The folder in which the data set of a manifest is put together; those of others are removed."""
        wanted = self.folder / f"build-{fingerprint[:16]}"
        for other in self.folder.glob("build-*"):
            if other != wanted:
                _remove(other)
        for leftover in list(wanted.rglob(".*")):
            _remove(leftover)
        wanted.mkdir(exist_ok=True)
        return wanted

    def publish(self, build: Path) -> None:
        """Puts a finished data set in the place of the former one.

        Between two renames there is none; a run killed there puts the former one back when it runs again.
        """
        for path in (*build.rglob("*"), build):
            _flush(path)
        self.final.parent.mkdir(parents=True, exist_ok=True)
        if self.final.exists():
            self.final.rename(self._replaced)
        build.rename(self.final)
        _flush(self.final.parent)
        _remove(self._replaced)

    def load_hashes(self) -> dict[str, Any]:
        """Content hashes that an earlier run has found; empty where they cannot be read."""
        try:
            hashes = files.read_json(self._hashes)
        except (FileNotFoundError, ValueError):
            return {}
        return hashes if isinstance(hashes, dict) else {}

    def save_hashes(self, hashes: dict[str, Any]) -> None:
        files.write_json(self._hashes, hashes)


@contextlib.contextmanager
def open_workspace(out: Path, name: str, final: Path) -> Iterator[Workspace]:
    """Locks the work folder of a data set.

    Args:
      out: folder of data sets.
      name: of the data set.
      final: the folder that it will be in, on the same disk as ``out``.

    Raises:
      WorkspaceInUseError: another run has it.
    """
    folder = out / f".work-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "lock"
    refusal = WorkspaceInUseError(
        f"Another run is converting to {final}: wait for it, or choose another --out or --name. "
        f"Received: {lock} is locked"
    )
    with file_lock(lock, refusal):
        workspace = Workspace(folder, final)
        workspace.recover()
        yield workspace


def _flush(path: Path) -> None:
    """Has the system write to the disk before what comes next."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
