"""One run in a folder at a time: two would each delete and overwrite what the other saved."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

NAME = "run.lock"


@contextlib.contextmanager
def run_lock(root: Path) -> Iterator[None]:
    """Holds the folder, which is made where it is absent, until the context ends or the process does.

    The empty file stays: to remove it would let a third run lock another file of that name.

    Raises:
      ValueError: another run holds it.
      OSError: the folder cannot be written, or its file system has no locks.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / NAME).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"Another run is writing into this checkpoint_dir. Wait for its end, or pass another "
                f"checkpoint_dir. Received: {root}"
            ) from error
        yield
