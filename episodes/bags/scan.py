"""What the scans of damaged ROS 1 and mcap files share: an index of the messages that were found."""

import array
import dataclasses
import os
import re
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from episodes.bags.bag import BagError
from episodes.bags.part import Channel
from episodes.bags.unpack import unpack

U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
# Times are signed 64-bit numbers everywhere else; later ones are damage.
MAX_TIME_NS = (1 << 63) - 1
# Chunks that are kept unpacked while messages are read in order of time.
_CACHE_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20
# Bytes of look-alikes of chunks that may be unpacked in vain, on top of a few times the file's size.
_WASTE_BYTES = 1 << 28
_WASTE_FACTOR = 4


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Where a chunk's data lie.

    Attributes:
      position, size: in the file, in bytes.
      compression: ``none``, ``lz4``, ``bz2`` or ``zstd``.
      unpacked_size: as its header says.
      cut: whether the file ends within it.
    """

    position: int
    size: int
    compression: str
    unpacked_size: int
    cut: bool = False


class MessageIndex:
    """Where each message lies that a scan found: four numbers a message."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self._times, self._channels = array.array("Q"), array.array("I")
        self._chunks, self._offsets, self._sizes = array.array("I"), array.array("Q"), array.array("Q")

    def __len__(self) -> int:
        return len(self._times)

    def add(self, channel: int, time_ns: int, offset: int, size: int) -> None:
        """Adds a message of the chunk that was appended last."""
        self._times.append(time_ns)
        self._channels.append(channel)
        self._chunks.append(len(self.chunks) - 1)
        self._offsets.append(offset)
        self._sizes.append(size)

    def counts(self) -> Counter[int]:
        """Messages of each channel."""
        return Counter(self._channels)

    def in_order(self, ids: Collection[int]) -> Iterator[tuple[int, int, int, int, int]]:
        """(channel, time, number of the chunk, offset, size) by time; equal times as they were stored."""
        times = np.frombuffer(self._times, np.uint64) if len(self) else np.zeros(0, np.uint64)
        for i in np.argsort(times, kind="stable"):
            if self._channels[i] in ids:
                yield self._channels[i], self._times[i], self._chunks[i], self._offsets[i], self._sizes[i]


@dataclasses.dataclass
class Loss:
    """What a scan could not read.

    Attributes:
      chunks: that could not be unpacked, or only in part.
      bytes: between the records that were understood.
      messages: whose connection is not described anywhere in the file.
      ends: how the file ends, if not as it should.
    """

    chunks: int = 0
    bytes: int = 0
    messages: int = 0
    ends: str = ""

    def any(self) -> bool:
        return bool(self.chunks or self.bytes or self.messages or self.ends)

    def __str__(self) -> str:
        parts = [f"{self.chunks} chunks were lost in whole or in part"] if self.chunks else []
        parts += [f"{self.bytes} bytes were skipped"] if self.bytes else []
        parts += [f"{self.messages} messages belong to no known topic"] if self.messages else []
        parts += [self.ends] if self.ends else []
        return "; ".join(parts) or "nothing was lost"


class Budget:
    """Ends a scan that meets ever new look-alikes of chunks, as only a hostile file has them."""

    def __init__(self, file_bytes: int) -> None:
        self._left = _WASTE_FACTOR * file_bytes + _WASTE_BYTES

    def waste(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise BagError("it holds too many things that look like chunks and are none")


class ScannedPart:
    """A file that is read by what a scan found in it."""

    def __init__(
        self, path: Path, channels: Sequence[Channel], index: MessageIndex, notes: list[str]
    ) -> None:
        self.channels, self.notes = channels, notes
        self.compression = ", ".join(sorted({c.compression for c in index.chunks})) or "none"
        self._path, self._index = path, index

    def messages(self, ids: Collection[int]) -> Generator[tuple[int, int, bytes | memoryview], None, None]:
        cache: OrderedDict[int, bytes] = OrderedDict()
        with self._path.open("rb") as file:
            for channel, time_ns, number, offset, size in self._index.in_order(frozenset(ids)):
                chunk = self._index.chunks[number]
                if chunk.compression == "none":
                    yield channel, time_ns, read_at(file, chunk.position + offset, size)
                    continue
                if number in cache:
                    cache.move_to_end(number)
                else:
                    cache[number] = unpack_chunk(file, chunk)
                    while len(cache) > 1 and sum(map(len, cache.values())) > _CACHE_BYTES:
                        cache.popitem(last=False)
                yield channel, time_ns, memoryview(cache[number])[offset : offset + size]

    def close(self) -> None:
        """The file is open only while messages are read."""


def read_at(file: BinaryIO, position: int, size: int) -> bytes:
    """Reads exactly so many bytes.

    Raises:
      BagError: the file ends before.
    """
    file.seek(position)
    got = file.read(size)
    if len(got) != size:
        raise BagError(f"the file ends {size - len(got)} bytes too early")
    return got


def unpack_chunk(file: BinaryIO, chunk: Chunk) -> bytes:
    return unpack(
        read_at(file, chunk.position, chunk.size), chunk.compression, chunk.unpacked_size, cut=chunk.cut
    )


def find(
    file: BinaryIO,
    start: int,
    pattern: re.Pattern[bytes],
    accept: Callable[[bytes, int], int | None],
    reach: int,
) -> int | None:
    """Searches a file for the next record of a kind; reads block by block.

    Args:
      file: to search.
      start: where to begin.
      pattern: that the record holds.
      accept: given a block and where the pattern is in it, where the record begins in it; None to go on.
      reach: bytes around the pattern that ``accept`` looks at.

    Returns:
      The position of the record in the file; None if there is no more.
    """
    position = start
    while True:
        file.seek(position)
        block = file.read(_BLOCK_BYTES + 2 * reach)
        match = pattern.search(block)
        while match:
            begin = accept(block, match.start())
            if begin is not None:
                return position + begin
            match = pattern.search(block, match.start() + 1)
        if len(block) < _BLOCK_BYTES + 2 * reach:
            return None
        position += _BLOCK_BYTES


def walk(
    start: int,
    size: int,
    loss: Loss,
    record: Callable[[int], int | None],
    resume: Callable[[int], int | None],
) -> None:
    """Goes through a file record by record, and behind damage on from the next that can be found.

    Args:
      start: where the first record begins.
      size: of the file.
      loss: bytes that were skipped are added, unless the file's end was met within a record.
      record: takes the record at a place and gives the place behind it; None where there is none. At the
        file's own end mark it gives ``size``.
      resume: searches from a place for the next record; None where there is none.
    """
    position = start
    while position < size:
        following = record(position)
        if following is None:
            found = resume(position + 1)
            following = size if found is None else min(found, size)
            if not loss.ends:
                loss.bytes += following - position
        position = following


def file_size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)
