"""A recording to convert: what it is called, and what tells its content from any other."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Source:
    """A recording to convert.

    Attributes:
      path: where it is.
      label: its name and the folder it is in, the same on every machine.
      size: bytes of all its files.
      sha256: of its content.
      stamp: changes when a file is changed.
    """

    path: Path
    label: str
    size: int
    sha256: str
    stamp: str


def label_of(path: Path) -> str:
    """``folder/name``: what the source is called in the data set, wherever the disk is mounted."""
    return "/".join(path.absolute().parts[1:][-2:])


def stamp_of(path: Path) -> tuple[int, str]:
    """Bytes of a source, and a digest of its files' names, sizes and times."""
    digest, size = hashlib.sha256(), 0
    for file in _files(path):
        status = file.stat()
        size += status.st_size
        digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return size, digest.hexdigest()


def content_hash(path: Path, on_bytes: Callable[[int], None] = lambda n: None) -> str:
    """SHA-256 of a file; of a folder, of the digests of its files in the order of their names.

    Args:
      path: of the source.
      on_bytes: is told how many bytes were read since it was told last.

    Raises:
      OSError: a file cannot be read.
      ValueError: an empty folder.
    """
    digests = []
    for file in _files(path):
        digest = hashlib.sha256()
        with file.open("rb") as opened:
            while piece := opened.read(_CHUNK):
                digest.update(piece)
                on_bytes(len(piece))
        digests.append(digest)
    if not digests:
        raise ValueError(f"A source must be a file or a folder with files. Received: the empty folder {path}")
    if not path.is_dir():
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(d.digest() for d in digests)).hexdigest()


def hash_source(path: Path) -> Source:
    """A source with its content hash.

    Raises:
      OSError, ValueError: see ``content_hash``.
    """
    size, stamp = stamp_of(path)
    return Source(path, label_of(path), size, content_hash(path), stamp)


def _files(path: Path) -> Sequence[Path]:
    if not path.is_dir():
        return (path,)
    return sorted(_visible(path))


def _visible(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path
