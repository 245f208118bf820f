"""One episode as one ``tf.train.Example``, written and read in pieces without TensorFlow.

The wire format, fields by their numbers::

    Example  { 1: Features }
    Features { 1: entry { 1: key, 2: Feature } }       one entry a column, keys in order
    Feature  { 1: BytesList | 2: FloatList | 3: Int64List }
    lists    { 1: values }                             numbers packed

Every length stands before its content, so the frames of an episode have to be on the disk before its first
byte can be written: they wait in a ``FrameSpool``.
"""

import dataclasses
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from episodes.conversion.tfrecord import HEADER_BYTES, DamagedRecordError, RecordWriter

# Protocol buffers refuse larger messages.
MAXIMUM_BYTES = 2**31 - 1
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 0x0A, 0x12, 0x1A  # Tags of Feature.
_FIRST, _SECOND = 0x0A, 0x12  # Fields 1 and 2 with a length.


class EpisodeTooLongError(ValueError):
    """An episode that no ``tf.train.Example`` can hold."""


def too_long(what: str, size: int) -> EpisodeTooLongError:
    """The error for an episode that came to ``size`` bytes, at least."""
    return EpisodeTooLongError(
        f"{what} must fit into {MAXIMUM_BYTES} bytes, the most that a tf.train.Example can have: cut the "
        f"recording into shorter episodes, or store smaller frames. Received: {size} bytes"
    )


class FrameSpool:
    """A file of encoded frames in the order of their arrival; removed when it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb+")
        self._end = 0

    def __enter__(self) -> "FrameSpool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def append(self, data: bytes) -> int:
        """Returns the offset at which ``data`` stand."""
        offset = self._end
        self._file.seek(offset)
        self._file.write(data)
        self._end += len(data)
        return offset

    def read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)


@dataclasses.dataclass(frozen=True, eq=False)
class SpooledFrames:
    """A column of T encoded frames; several steps may share one.

    Attributes:
      spool: that holds them.
      offsets, lengths: int64 [T].
    """

    spool: FrameSpool
    offsets: np.ndarray
    lengths: np.ndarray


def write_example(
    file: BinaryIO, columns: Mapping[str, np.ndarray | SpooledFrames], what: str = "episode"
) -> tuple[int, int]:
    """Writes one record that holds a ``tf.train.Example``; the same columns give the same bytes.

    Args:
      file: a TFRecord file, at its end.
      columns: TFDS' name of a feature (``steps/observation/image``) -> values. Floats are stored as
        float32, integers and booleans as int64, strings (str or bytes) as bytes.
      what: names the episode in messages.

    Returns:
      The data's length in bytes, and their CRC-32C.

    Raises:
      EpisodeTooLongError: the Example would be larger than protocol buffers allow.
      ValueError: a column of another type.
    """
    entries = {key: _Feature.of(columns[key], f"{what}: {key}") for key in sorted(columns)}
    heads = {key: _entry_head(key.encode(), feature) for key, feature in entries.items()}
    size = sum(len(heads[key]) + feature.content_bytes for key, feature in entries.items())
    head = _tagged(_FIRST, size)
    length = len(head) + size
    if length > MAXIMUM_BYTES:
        raise too_long(what, length)
    record = RecordWriter(file, length)
    record.write(head)
    for key, feature in entries.items():
        record.write(heads[key])
        for piece in feature.pieces():
            record.write(piece)
    return length, record.finish()


def read_floats(file: BinaryIO, offset: int, keys: Collection[str]) -> dict[str, np.ndarray]:
    """Reads the float columns of a record that ``write_example`` wrote, and nothing else of it.

    Args:
      file: a TFRecord file.
      offset: where the record begins.
      keys: of the columns; those that the record lacks are left out.

    Returns:
      key -> float32 [values], flat.

    Raises:
      DamagedRecordError: it is no such record.
    """
    file.seek(offset + HEADER_BYTES)
    found: dict[str, np.ndarray] = {}
    end = _expect(file, _FIRST) + file.tell()
    while file.tell() < end:
        entry_end = _expect(file, _FIRST) + file.tell()
        key = file.read(_expect(file, _FIRST)).decode("utf-8", "replace")
        _expect(file, _SECOND)
        if key in keys:
            _expect(file, _FLOAT_LIST)
            size = _expect(file, _FIRST)
            found[key] = np.frombuffer(file.read(size), "<f4").astype(np.float32)
        file.seek(entry_end)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Feature:
    """What stands behind a Feature's own tag and length.

    Attributes:
      tag: of the list in the Feature.
      content_bytes: of the list's content.
      content: the list's content, or frames that become one.
    """

    tag: int
    content_bytes: int
    content: bytes | SpooledFrames

    @classmethod
    def of(cls, column: np.ndarray | SpooledFrames, what: str) -> "_Feature":
        if isinstance(column, SpooledFrames):
            lengths, repeats = np.unique(column.lengths, return_counts=True)
            heads = sum(len(_tagged(_FIRST, int(n))) * int(k) for n, k in zip(lengths, repeats, strict=True))
            return cls(_BYTES_LIST, int(column.lengths.sum()) + heads, column)
        kind = column.dtype.kind
        if kind in "SUO":
            values = [v.encode() if isinstance(v, str) else bytes(v) for v in column.reshape(-1).tolist()]
            content = b"".join(_tagged(_FIRST, len(v)) + v for v in values)
            return cls(_BYTES_LIST, len(content), content)
        if kind == "f":
            packed, tag = column.astype("<f4").tobytes(), _FLOAT_LIST
        elif kind in "biu":
            packed, tag = b"".join(_varint(int(v) % 2**64) for v in column.reshape(-1)), _INT64_LIST
        else:
            raise ValueError(f"{what} must hold numbers or strings. Received: {column.dtype}")
        content = _tagged(_FIRST, len(packed)) + packed
        return cls(tag, len(content), content)

    def pieces(self) -> Iterator[bytes]:
        if isinstance(self.content, bytes):
            yield self.content
            return
        frames = self.content
        for offset, length in zip(frames.offsets.tolist(), frames.lengths.tolist(), strict=True):
            yield _tagged(_FIRST, length) + frames.spool.read(offset, length)


def _entry_head(key: bytes, feature: _Feature) -> bytes:
    list_head = _tagged(feature.tag, feature.content_bytes)
    feature_head = _tagged(_SECOND, len(list_head) + feature.content_bytes)
    key_field = _tagged(_FIRST, len(key)) + key
    size = len(key_field) + len(feature_head) + len(list_head) + feature.content_bytes
    return _tagged(_FIRST, size) + key_field + feature_head + list_head


def _tagged(tag: int, length: int) -> bytes:
    return struct.pack("B", tag) + _varint(length)


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _expect(file: BinaryIO, tag: int) -> int:
    """Reads a tag and the length behind it."""
    read = file.read(1)
    if read != bytes([tag]):
        raise DamagedRecordError(
            f"Not an episode's record: the tag {tag} must stand here. Received: {read!r}"
        )
    length, shift = 0, 0
    while shift < 64:
        digit = file.read(1)
        if not digit:
            break
        length |= (digit[0] & 0x7F) << shift
        if digit[0] < 0x80:
            return length
        shift += 7
    raise DamagedRecordError("Not an episode's record: a length is cut off.")
