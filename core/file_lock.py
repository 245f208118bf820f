"""A lock that one process holds, and that ends with it however it ends."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def file_lock(path: Path, refusal: Exception) -> Iterator[None]:
    """Holds a file, which is made where it is absent, until the context ends or the process does.

    The empty file stays: to remove it would let a third process lock another file of that name.

    Args:
      path: of the file; its folder is there.
      refusal: what is raised where another holds it.

    Raises:
      OSError: the file cannot be written, or its file system has no locks.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise refusal from error
        yield
