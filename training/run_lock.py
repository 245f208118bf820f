"""One run in a folder at a time: two would each delete and overwrite what the other saved."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from core.file_lock import file_lock

NAME = "run.lock"


@contextlib.contextmanager
def run_lock(root: Path) -> Iterator[None]:
    """Holds the folder, which is made where it is absent, until the context ends or the process does.

    Raises:
      ValueError: another run holds it.
      OSError: the folder cannot be written, or its file system has no locks.
    """
    root.mkdir(parents=True, exist_ok=True)
    refusal = ValueError(
        "Another run is writing into this checkpoint_dir. Wait for its end, or pass another checkpoint_dir. "
        f"Received: {root}"
    )
    with file_lock(root / NAME, refusal):
        yield
