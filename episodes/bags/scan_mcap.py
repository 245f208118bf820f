"""Reading an mcap file record by record, without its summary: cut off, damaged, or written without chunks.

Follows the format's specification (https://mcap.dev/spec).
"""

import dataclasses
import re
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from episodes.bags.bag import BagError
from episodes.bags.part import IDL, MSG, UNDEFINED, Channel
from episodes.bags.scan import (
    MAX_TIME_NS,
    U32,
    U64,
    Budget,
    Chunk,
    Loss,
    MessageIndex,
    ScannedPart,
    file_size,
    find,
    walk,
)
from episodes.bags.sniff import MCAP_MAGIC
from episodes.bags.unpack import MAX_CHUNK_BYTES, unpack

_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _STATISTICS, _DATA_END = 2, 3, 4, 5, 6, 0x0B, 0x0F
_KNOWN = frozenset(range(1, 0x10))
_APPLICATIONS = 0x80  # From here on records are applications' own.
_RECORD = struct.Struct("<BQ")
_MESSAGE_HEADER = struct.Struct("<HIQQ")
_CHUNK_HEADER = struct.Struct("<QQQII")
_STATISTICS_HEADER = struct.Struct("<QHIIIIQQI")
_COUNT = struct.Struct("<HQ")
_COMPRESSIONS = {b"": "none", b"lz4": "lz4", b"zstd": "zstd"}
_LANGUAGES = {"ros2msg": MSG, "ros2idl": IDL, "omgidl": IDL}
# A schema or channel that is longer is damaged.
_MAX_RECORD_BYTES = 1 << 24
# Operation, length, header, name of the compression (up to 4 bytes), size of the data.
_CHUNK_PREFIX_BYTES = _RECORD.size + _CHUNK_HEADER.size + 4 + 8


# A chunk's operation, then its length, whose upper three of eight bytes are zero in any file there is.
_CHUNK_START = re.compile(rb"\x06.{5}\x00{3}", re.DOTALL)


@dataclasses.dataclass
class _Found:
    """What a scan collects."""

    index: MessageIndex = dataclasses.field(default_factory=MessageIndex)
    schemas: dict[int, tuple[str, str, str]] = dataclasses.field(default_factory=dict)
    channels: dict[int, tuple[int, str, str]] = dataclasses.field(default_factory=dict)
    declared: Counter[int] | None = None
    ended: bool = False
    loss: Loss = dataclasses.field(default_factory=Loss)


def scan_mcap(path: Path, *, strict: bool = False) -> ScannedPart:
    """Finds all messages that a file still holds.

    Chunks are unpacked one at a time and compared with their checksums. A chunk that the file's end cuts
    gives its messages up to there; one that is damaged is left out. Behind damage the scan goes on at the
    next chunk.

    Args:
      path: of the file.
      strict: any damage is an error.

    Raises:
      BagError: nothing in it can be read, or it was made to keep a reader busy; if strict, any loss.
    """
    found = _Found()
    with path.open("rb") as file:
        size = file_size(file)
        budget = Budget(size)

        def record(position: int) -> int | None:
            following = _record(file, position, size, found, budget)
            return size if found.ended else following

        def resume(position: int) -> int | None:
            return find(file, position, _CHUNK_START, _chunk_start, _CHUNK_PREFIX_BYTES)

        walk(len(MCAP_MAGIC), size, found.loss, record, resume)
    if not found.ended and not found.loss.ends:
        found.loss.ends = "the file ends before its summary does"
    counts = found.index.counts()
    found.loss.messages = sum(n for channel, n in counts.items() if channel not in found.channels)
    if strict and found.loss.any():
        raise BagError(f"{path} is damaged: {found.loss}; it can be salvaged")
    if not found.channels:
        raise BagError(f"{path} has no channel that can be read, so nothing can be salvaged")
    recovered = len(found.index) - found.loss.messages
    of = f" of {found.declared.total()}" if found.declared is not None else ""
    said = f"{path.name} was salvaged: {recovered}{of} messages; {found.loss}"
    return ScannedPart(path, _channels(found), found.index, [] if strict else [said])


def _channels(found: _Found) -> list[Channel]:
    channels = []
    for number, (schema, topic, encoding) in found.channels.items():
        name, language, definition = found.schemas.get(schema, ("", "", ""))
        channels.append(
            Channel(
                id=number,
                topic=topic,
                msgtype=name,
                publisher="",
                declared=None if found.declared is None else found.declared[number],
                serialization=encoding,
                definition=definition,
                language=_LANGUAGES.get(language, UNDEFINED),
                digest="",
            )
        )
    return channels


def _record(file: BinaryIO, position: int, size: int, found: _Found, budget: Budget) -> int | None:
    """Takes in the record at a position; the next one's position, or None where there is no record."""
    file.seek(position)
    prefix = file.read(_RECORD.size)
    if len(prefix) < _RECORD.size:
        found.loss.ends = "the file ends within a record"
        return size
    operation, length = _RECORD.unpack(prefix)
    at, end = position + _RECORD.size, position + _RECORD.size + length
    if operation not in _KNOWN and operation < _APPLICATIONS:
        return None
    if operation == _CHUNK:
        return _take_chunk(file, at, length, size, found, budget)
    if end > size:
        return None
    if operation == _FOOTER:
        file.seek(end)
        found.ended = file.read(len(MCAP_MAGIC)) == MCAP_MAGIC
        if not found.ended:
            found.loss.ends = "the file's end mark is missing"
        return size
    if operation == _MESSAGE:
        if length < _MESSAGE_HEADER.size:
            return None
        channel, _, time_ns, _ = _MESSAGE_HEADER.unpack(file.read(_MESSAGE_HEADER.size))
        if time_ns > MAX_TIME_NS:
            return None
        last = found.index.chunks[-1] if found.index.chunks else None
        if last is None or last.position != 0:
            found.index.chunks.append(Chunk(0, 0, "none", 0))  # Stands for the file itself.
        found.index.add(channel, time_ns, at + _MESSAGE_HEADER.size, length - _MESSAGE_HEADER.size)
    elif operation in (_SCHEMA, _CHANNEL, _STATISTICS) and (
        length > _MAX_RECORD_BYTES or not _take(operation, file.read(length), found)
    ):
        return None
    # A damaged length leads anywhere.
    file.seek(end)
    return end if end == size or file.read(1)[0] in _KNOWN or operation >= _APPLICATIONS else None


def _take_chunk(file: BinaryIO, at: int, length: int, size: int, found: _Found, budget: Budget) -> int | None:
    """Unpacks a chunk and finds its messages; None where the search must go on behind its header."""
    file.seek(at)
    prefix = file.read(_CHUNK_PREFIX_BYTES)
    described = _describe_chunk(prefix, length)
    if described is None:
        return None
    compression, unpacked_size, checksum, prefix_bytes = described
    begin, end = at + prefix_bytes, at + length
    cut = end > size
    file.seek(begin)
    data = file.read(min(end, size) - begin)
    try:
        content = unpack(data, compression, unpacked_size, cut=cut)
        if checksum and not cut and zlib.crc32(content) != checksum:
            raise BagError("the chunk does not match its checksum")
    except BagError:
        budget.waste(len(data))
        found.loss.chunks += 1
        if cut:
            found.loss.ends = "the file ends within a chunk"
            return None
        return end
    found.index.chunks.append(Chunk(begin, len(data), compression, unpacked_size, cut))
    read = _walk(content, found)
    if cut:
        found.loss.ends = "the file ends within a chunk"
        found.loss.chunks += 1
        return size
    if read < len(content):
        found.loss.chunks += 1
    return end


def _describe_chunk(prefix: bytes, length: int) -> tuple[str, int, int, int] | None:
    """(compression, unpacked size, checksum, bytes before the data) of a chunk; None where it is none."""
    if len(prefix) < _CHUNK_HEADER.size + 8 or length < _CHUNK_HEADER.size + 8:
        return None
    first, last, unpacked_size, checksum, name_bytes = _CHUNK_HEADER.unpack_from(prefix)
    at = _CHUNK_HEADER.size + name_bytes
    if name_bytes > 4 or prefix[_CHUNK_HEADER.size : at] not in _COMPRESSIONS or len(prefix) < at + 8:
        return None
    (packed_size,) = U64.unpack_from(prefix, at)
    if packed_size != length - at - 8 or max(packed_size, unpacked_size) > MAX_CHUNK_BYTES:
        return None
    return _COMPRESSIONS[prefix[_CHUNK_HEADER.size : at]], unpacked_size, checksum, at + 8


def _walk(content: bytes, found: _Found) -> int:
    """Takes in the records of an unpacked chunk; how far it could be understood."""
    position = 0
    while position + _RECORD.size <= len(content):
        operation, length = _RECORD.unpack_from(content, position)
        at, end = position + _RECORD.size, position + _RECORD.size + length
        if end > len(content) or operation not in (_SCHEMA, _CHANNEL, _MESSAGE):
            return position
        if operation == _MESSAGE:
            if length < _MESSAGE_HEADER.size:
                return position
            channel, _, time_ns, _ = _MESSAGE_HEADER.unpack_from(content, at)
            if time_ns > MAX_TIME_NS:
                return position
            found.index.add(channel, time_ns, at + _MESSAGE_HEADER.size, length - _MESSAGE_HEADER.size)
        elif not _take(operation, content[at:end], found):
            return position
        position = end
    return position


def _take(operation: int, data: bytes, found: _Found) -> bool:
    """Takes in a schema, a channel or the statistics; whether it is one."""
    try:
        if operation == _STATISTICS:
            counts = data[_STATISTICS_HEADER.size :]
            counts = counts[: len(counts) // _COUNT.size * _COUNT.size]
            found.declared = Counter(dict(_COUNT.iter_unpack(counts)))
            return len(data) >= _STATISTICS_HEADER.size
        (number,) = struct.unpack_from("<H", data)
        if operation == _SCHEMA:
            name, at = _string(data, 2)
            language, at = _string(data, at)
            definition, at = _string(data, at)
            found.schemas.setdefault(number, (name, language, definition))
        else:
            (schema,) = struct.unpack_from("<H", data, 2)
            topic, at = _string(data, 4)
            encoding, at = _string(data, at)
            found.channels.setdefault(number, (schema, topic, encoding))
    except struct.error:
        return False
    return True


def _string(data: bytes, at: int) -> tuple[str, int]:
    """A string with its length before it, and where it ends; other schemas than ROS' may be binary."""
    (length,) = U32.unpack_from(data, at)
    if at + 4 + length > len(data):
        raise struct.error(f"a string of {length} bytes does not fit")
    return data[at + 4 : at + 4 + length].decode("utf-8", "replace"), at + 4 + length


def _chunk_start(block: bytes, at: int) -> int | None:
    _, length = _RECORD.unpack_from(block, at)
    prefix = block[at + _RECORD.size : at + _RECORD.size + _CHUNK_PREFIX_BYTES]
    return None if _describe_chunk(prefix, length) is None else at
