"""What a file is, by its first bytes, and why it is no bag in words that help."""

from pathlib import Path

from episodes.bags.bag import BagError
from episodes.bags.unpack import ZSTD_MAGIC

ROS1_FILE, MCAP_FILE, SQLITE_FILE, ZSTD_FILE = "bag", "mcap", "sqlite3", "zstd"
SUFFIXES = {ROS1_FILE: ".bag", MCAP_FILE: ".mcap", SQLITE_FILE: ".db3", ZSTD_FILE: ".zstd"}
ROS1_MAGIC = b"#ROSBAG V2.0\n"
MCAP_MAGIC = b"\x89MCAP0\r\n"
_SQLITE_MAGIC = b"SQLite format 3\0"
_HEAD_BYTES = 1024
_ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"7z\xbc\xaf": "7z",
    b"\x04\x22\x4d\x18": "lz4",
}


def file_kind(path: Path) -> str:
    """``bag``, ``mcap``, ``sqlite3`` or ``zstd``.

    Raises:
      BagError: none of them, or the name does not end as the content asks; it says what the file looks like.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise BagError(f"{path} cannot be opened: {error.strerror or error}") from error
    kind = _kind(head)
    if kind is None:
        raise BagError(f"{path} is no bag: {_looks_like(head)}")
    if path.suffix != SUFFIXES[kind]:
        raise BagError(f"{path} holds a {kind} file, so its name must end in {SUFFIXES[kind]}")
    return kind


def _kind(head: bytes) -> str | None:
    magics = {
        ROS1_FILE: ROS1_MAGIC,
        MCAP_FILE: MCAP_MAGIC,
        SQLITE_FILE: _SQLITE_MAGIC,
        ZSTD_FILE: ZSTD_MAGIC,
    }
    return next((kind for kind, magic in magics.items() if head.startswith(magic)), None)


def _looks_like(head: bytes) -> str:
    if not head:
        return "it is empty (0 bytes)"
    text = head.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself; fetch that with `git lfs pull`"
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "it is a web page; the download saved the page in place of the file"
    if head.startswith(b"#ROSBAG V1"):
        return "it is of ROS bag version 1.x; `rosbag fix` of ROS 1 turns it into version 2.0"
    if head.startswith(b"#ROSBAG"):
        return f"it is of an unknown ROS bag version. Received: {head[:14]!r}"
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            return f"it is a {name} archive; unpack it first"
    if not head.strip(b"\0"):
        return "it begins with zeros only; the copy or the recording did not complete"
    if len(head) < _HEAD_BYTES and b"\n" not in head.strip() and b"/" in head and head.isascii():
        link = head.decode("ascii").strip()
        return f"it is the text of a symbolic link, not the file itself. Received: {link!r}"
    return f"it begins as no known format does. Received: {head[:16]!r}"
