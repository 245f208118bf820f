"""Reading a ROS 1 file without trusting its index: unindexed, cut off, or damaged in the middle.

Follows the record layout of the bag format, version 2.0 (http://wiki.ros.org/Bags/Format/2.0).
"""

import dataclasses
import re
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from rosbags.typesys.msg import normalize_msgtype

from episodes.bags.bag import BagError
from episodes.bags.part import MSG, Channel
from episodes.bags.scan import U32, Budget, Chunk, Loss, MessageIndex, ScannedPart, file_size, find, walk
from episodes.bags.sniff import ROS1_MAGIC
from episodes.bags.unpack import MAX_CHUNK_BYTES, unpack

_MESSAGE, _BAG_HEADER, _INDEX, _CHUNK, _CHUNK_INFO, _CONNECTION = 2, 3, 4, 5, 6, 7
_OPERATIONS = frozenset({_MESSAGE, _BAG_HEADER, _INDEX, _CHUNK, _CHUNK_INFO, _CONNECTION})
# Headers hold a few short fields; only a connection's has a topic name in it.
_MAX_HEADER_BYTES = 1 << 16
_CHUNK_FIELD = re.compile(re.escape(b"\x04\x00\x00\x00op=\x05"))
_CHUNK_HEADER_BYTES = 256
_TIME = struct.Struct("<II")

Header = Mapping[str, bytes]


@dataclasses.dataclass
class _Found:
    """What a scan collects."""

    index: MessageIndex = dataclasses.field(default_factory=MessageIndex)
    connections: dict[int, Channel] = dataclasses.field(default_factory=dict)
    declared: Counter[int] = dataclasses.field(default_factory=Counter)
    chunk_infos: int = 0
    declared_chunks: int = 0
    loss: Loss = dataclasses.field(default_factory=Loss)


def scan_ros1(path: Path) -> ScannedPart:
    """Finds all messages that the chunks of a file still hold.

    Chunks are unpacked one at a time. A chunk that the file's end cuts gives its messages up to there; one
    that does not unpack is left out. Behind damage the scan goes on at the next chunk.

    Raises:
      BagError: nothing in it can be read, or it was made to keep a reader busy.
    """
    found = _Found()
    with path.open("rb") as file:
        size = file_size(file)
        budget = Budget(size)
        walk(
            len(ROS1_MAGIC),
            size,
            found.loss,
            lambda position: _record(file, position, size, found, budget),
            lambda position: find(file, position, _CHUNK_FIELD, _chunk_start, _CHUNK_HEADER_BYTES),
        )
    counts = found.index.counts()
    found.loss.messages = sum(n for channel, n in counts.items() if channel not in found.connections)
    if not found.connections and not found.index.chunks:
        raise BagError(f"{path} has no chunk that can be read, so nothing can be salvaged")
    # Only an index that describes every chunk tells how many messages there were.
    whole = found.chunk_infos and found.chunk_infos == found.declared_chunks
    channels = [
        dataclasses.replace(c, declared=found.declared[c.id] if whole else None)
        for c in found.connections.values()
    ]
    recovered = len(found.index) - found.loss.messages
    of = f" of {found.declared.total()}" if whole else ""
    note = f"{path.name} was salvaged: {recovered}{of} messages; {found.loss}"
    if not found.chunk_infos:
        note += "; it has no index"
    return ScannedPart(path, channels, found.index, [note])


def _record(file: BinaryIO, position: int, size: int, found: _Found, budget: Budget) -> int | None:
    """Takes in the record at a position; the next one's position, or None where there is no record."""
    header, at = _header(file, position)
    if header is None:
        return None
    file.seek(at)
    length_field = file.read(4)
    if len(length_field) < 4:
        found.loss.ends = "the file ends within a record"
        return size
    (length,) = U32.unpack(length_field)
    at, end = at + 4, at + 4 + length
    operation = header["op"][0]
    if operation == _CHUNK:
        return _take_chunk(file, header, at, length, size, found, budget)
    if end > size:
        # Damage, or the file's end: a chunk behind it decides.
        return None
    if operation == _CONNECTION:
        _take_connection(header, file.read(length), found)
    elif operation == _CHUNK_INFO:
        _take_chunk_info(file.read(length), found)
    elif operation == _BAG_HEADER:
        (found.declared_chunks,) = U32.unpack(header["chunk_count"])
    # A damaged length leads anywhere.
    return end if end == size or _header(file, end)[0] is not None else None


def _take_chunk(
    file: BinaryIO, header: Header, at: int, length: int, size: int, found: _Found, budget: Budget
) -> int | None:
    """Unpacks a chunk and finds its messages; where it cannot be, the search goes on behind its header."""
    compression = header["compression"].decode("ascii", "replace")
    (unpacked_size,) = U32.unpack(header["size"])
    cut = at + length > size
    if max(length, unpacked_size) > MAX_CHUNK_BYTES:
        return None
    file.seek(at)
    data = file.read(min(length, size - at))
    try:
        content = unpack(data, compression, unpacked_size, cut=cut)
    except BagError:
        budget.waste(len(data))
        found.loss.chunks += 1
        return at + length if not cut and _header(file, at + length)[0] is not None else None
    chunk = Chunk(at, len(data), compression, unpacked_size, cut)
    found.index.chunks.append(chunk)
    read = _walk(content, found)
    if cut:
        found.loss.ends = "the file ends within a chunk"
        found.loss.chunks += 1
        return size
    if read < len(content):
        found.loss.chunks += 1
        budget.waste(len(content))
        if _header(file, at + length)[0] is None and at + length < size:
            return None
    return at + length


def _walk(content: bytes, found: _Found) -> int:
    """Takes in the messages and connections of an unpacked chunk; how far it could be understood."""
    position = 0
    while position + 4 <= len(content):
        (header_bytes,) = U32.unpack_from(content, position)
        begin = position + 4 + header_bytes
        if header_bytes > _MAX_HEADER_BYTES or begin + 4 > len(content):
            return position
        header = _fields(content[position + 4 : begin])
        (length,) = U32.unpack_from(content, begin)
        end = begin + 4 + length
        if header is None or end > len(content):
            return position
        operation = header["op"][0]
        if operation == _MESSAGE:
            (connection,) = U32.unpack(header["conn"])
            seconds, nanoseconds = _TIME.unpack(header["time"])
            found.index.add(connection, seconds * 10**9 + nanoseconds, begin + 4, length)
        elif operation == _CONNECTION:
            _take_connection(header, content[begin + 4 : end], found)
        else:
            return position
        position = end
    return position


def _take_connection(header: Header, data: bytes, found: _Found) -> None:
    fields = _split(data)
    if fields is None or not {"type", "md5sum", "message_definition"} <= fields.keys():
        found.loss.bytes += len(data)
        return
    (number,) = U32.unpack(header["conn"])
    text = {name: value.decode("utf-8", "replace") for name, value in fields.items()}
    topic = header["topic"].decode("utf-8", "replace")
    found.connections.setdefault(
        number,
        Channel(
            id=number,
            topic="/" * topic.startswith("/") + "/".join(part for part in topic.split("/") if part),
            msgtype=normalize_msgtype(text["type"]),
            publisher=text.get("callerid", ""),
            declared=None,
            serialization="ros1",
            definition=text["message_definition"],
            language=MSG,
            digest=text["md5sum"],
        ),
    )


def _take_chunk_info(data: bytes, found: _Found) -> None:
    for connection, count in struct.iter_unpack("<II", data[: len(data) // 8 * 8]):
        found.declared[connection] += count
    found.chunk_infos += 1


def _header(file: BinaryIO, position: int) -> tuple[Header | None, int]:
    """The header at a position, and where it ends; None where there is none."""
    file.seek(position)
    length_field = file.read(4)
    if len(length_field) < 4:
        return None, position
    (length,) = U32.unpack(length_field)
    if length > _MAX_HEADER_BYTES:
        return None, position
    data = file.read(length)
    return (_fields(data) if len(data) == length else None), position + 4 + length


# Field -> bytes of its value, of the records that a scan reads.
_NEEDED: Mapping[int, Mapping[str, int | None]] = {
    _MESSAGE: {"conn": 4, "time": 8},
    _BAG_HEADER: {"chunk_count": 4},
    _INDEX: {},
    _CHUNK: {"compression": None, "size": 4},
    _CHUNK_INFO: {},
    _CONNECTION: {"conn": 4, "topic": None},
}


def _fields(data: bytes) -> Header | None:
    """A record's header fields; None where they are not those of a known record."""
    fields = _split(data)
    if fields is None or len(fields.get("op", b"")) != 1 or fields["op"][0] not in _OPERATIONS:
        return None
    for name, size in _NEEDED[fields["op"][0]].items():
        if name not in fields or size not in (None, len(fields[name])):
            return None
    return fields


def _split(data: bytes) -> dict[str, bytes] | None:
    fields: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        if position + 4 > len(data):
            return None
        (length,) = U32.unpack_from(data, position)
        name, equals, value = data[position + 4 : position + 4 + length].partition(b"=")
        if not equals or position + 4 + length > len(data):
            return None
        fields[name.decode("ascii", "replace")] = value
        position += 4 + length
    return fields


def _chunk_start(block: bytes, at: int) -> int | None:
    """Where the chunk record begins that has a given ``op`` field; fields come in any order."""
    for begin in range(at - 4, max(at - _CHUNK_HEADER_BYTES, -1), -1):
        (length,) = U32.unpack_from(block, begin)
        if at - begin < length + 4 <= _CHUNK_HEADER_BYTES:
            header = _fields(block[begin + 4 : begin + 4 + length])
            if header is not None and header["op"][0] == _CHUNK:
                return begin
    return None
