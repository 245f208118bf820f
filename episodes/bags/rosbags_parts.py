"""Intact files, read with rosbags' low-level readers.

Its high-level reader refuses a whole bag for one odd connection, and its reader of ROS 2 folders silently
yields nothing where the folder's metadata and the storage disagree on a topic's quality of service.
"""

import tempfile
from collections import Counter
from collections.abc import Collection, Generator, Sequence
from pathlib import Path
from typing import Any

from rosbags import rosbag1, rosbag2
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag1.reader import decompressors

from episodes.bags.bag import BagError
from episodes.bags.part import IDL, MSG, UNDEFINED, Channel, Part
from episodes.bags.scan_mcap import scan_mcap
from episodes.bags.scan_sqlite import check_rows
from episodes.bags.sniff import MCAP_FILE

_LANGUAGES = {MessageDefinitionFormat.MSG: MSG, MessageDefinitionFormat.IDL: IDL}
# Such characters have a meaning in the address by which the SQLite library opens a file.
_URI_CHARACTERS = frozenset("?#%")


class Ros1Part:
    """A ROS 1 file with an index."""

    def __init__(self, path: Path) -> None:
        self._reader = rosbag1.Reader(path)
        self._reader.open()
        self.notes: list[str] = []
        declared: Counter[int] = Counter()
        for chunk in self._reader.chunk_infos:
            declared.update(chunk.connection_counts)
        self.channels: Sequence[Channel] = [
            _channel(c, declared[c.id], "ros1", getattr(c.ext, "callerid", None))
            for c in self._reader.connections
        ]
        names = {function: name for name, function in decompressors.items()}
        self.compression = _join(names[chunk.decompressor] for chunk in self._reader.chunks.values())

    def messages(self, ids: Collection[int]) -> Generator[tuple[int, int, bytes], None, None]:
        wanted = [c for c in self._reader.connections if c.id in ids]
        if wanted:  # For rosbags, none means all.
            for connection, log_ns, data in self._reader.messages(wanted):
                yield connection.id, log_ns, data

    def close(self) -> None:
        self._reader.close()


class Ros2Part:
    """One mcap or SQLite file of ROS 2."""

    def __init__(self, path: Path) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if _URI_CHARACTERS & set(str(path)):
            self._folder = tempfile.TemporaryDirectory()
            link = Path(self._folder.name, f"part{path.suffix}")
            link.symlink_to(path.absolute())
            path = link
        self._reader = rosbag2.Reader(path)
        try:
            self._reader.open()
        except BaseException:
            self._remove_link()
            raise
        total, of_topics = self._reader.message_count, sum(c.msgcount for c in self._reader.connections)
        if total != of_topics:
            self.close()
            raise BagError(f"{path} has {total} messages, of which {of_topics} belong to its topics")
        self.notes: list[str] = []
        self.channels: Sequence[Channel] = [
            _channel(c, c.msgcount, getattr(c.ext, "serialization_format", ""))
            for c in self._reader.connections
        ]
        self.compression = _join(chunk.compression or "none" for chunk in self.chunks)

    @property
    def chunks(self) -> Sequence[Any]:
        """rosbags' entries of the chunks of an mcap file, with compression and count of each channel."""
        return getattr(self._reader.storage, "chunks", ())

    def messages(self, ids: Collection[int]) -> Generator[tuple[int, int, bytes], None, None]:
        wanted = [c for c in self._reader.connections if c.id in ids]
        if wanted:
            for connection, log_ns, data in self._reader.messages(wanted):
                yield connection.id, log_ns, data

    def close(self) -> None:
        self._reader.close()
        self._remove_link()

    def _remove_link(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def open_part(path: Path, kind: str) -> Part:
    """Opens an mcap or SQLite file that must be intact.

    Raises:
      BagError: it has an unmerged log beside it.
      Exception: of the library's own types: it is damaged or cut.
    """
    if kind != MCAP_FILE:
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise BagError(
                f"{log} holds messages that were not merged into {path.name}, as after a crash of the "
                f"recorder; `sqlite3 {path.name} 'pragma wal_checkpoint(truncate)'` merges them"
            )
        lost = check_rows(path)
        part = Ros2Part(path)
        part.notes += lost
        return part
    part = Ros2Part(path)
    if all(chunk.channel_count for chunk in part.chunks) and part.chunks:
        return part
    # Without chunks rosbags asks for messages in order, and without message indexes it yields none.
    part.close()
    return scan_mcap(path, strict=True)


def _channel(connection: Any, declared: int, serialization: str, publisher: str | None = None) -> Channel:
    return Channel(
        id=connection.id,
        topic=connection.topic,
        msgtype=connection.msgtype,
        publisher=publisher or "",
        declared=declared,
        serialization=serialization,
        definition=connection.msgdef.data,
        language=_LANGUAGES.get(connection.msgdef.format, UNDEFINED),
        digest=connection.digest or "",
    )


def _join(names: Any) -> str:
    return ", ".join(sorted(set(names))) or "none"
