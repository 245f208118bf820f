"""TFRecord files: their framing and checksums, and moving records without holding one in memory.

A record is its length (uint64), the masked CRC-32C of those eight bytes, the data, and the masked CRC-32C of
the data; all little-endian.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import google_crc32c

HEADER_BYTES, FOOTER_BYTES = 12, 4
FRAME_BYTES = HEADER_BYTES + FOOTER_BYTES
_CHUNK = 1 << 20


class DamagedRecordError(ValueError):
    """A record that is cut off or is not what was written."""


def masked(crc: int) -> int:
    """A CRC as TFRecord files store it: a CRC of data that hold a CRC would be weak."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class RecordWriter:
    """Writes one record, whose length is known beforehand, piece by piece."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        """Writes the head.

        Args:
          file: at the place where the record shall begin.
          length: of the data, in bytes.
        """
        self._file, self._left, self._crc = file, length, 0
        head = struct.pack("<Q", length)
        file.write(head + struct.pack("<I", masked(google_crc32c.value(head))))

    def write(self, data: bytes) -> None:
        """Appends to the record."""
        self._left -= len(data)
        self._crc = google_crc32c.extend(self._crc, data)
        self._file.write(data)

    def finish(self) -> int:
        """Writes the end.

        Returns:
          The CRC-32C of the data, not masked.

        Raises:
          ValueError: more or fewer bytes were written than announced.
        """
        if self._left:
            raise ValueError(f"A record must be as long as announced. Received: {-self._left} bytes more")
        self._file.write(struct.pack("<I", masked(self._crc)))
        return self._crc


def copy_record(
    source: BinaryIO, offset: int, length: int, crc: int, target: BinaryIO, what: str | Path
) -> None:
    """Copies one record, checking it on the way.

    Args:
      source: the file that holds it.
      offset: where its frame begins.
      length: of its data.
      crc: CRC-32C of its data.
      target: where it is appended.
      what: names the source in messages.

    Raises:
      DamagedRecordError: it is not there as described. ``target`` may hold a part of it then.
    """
    source.seek(offset)
    head = source.read(HEADER_BYTES)
    expected = struct.pack("<Q", length)
    if head != expected + struct.pack("<I", masked(google_crc32c.value(expected))):
        raise DamagedRecordError(f"{what} must hold {length} bytes at {offset}. Received: the head {head!r}")
    target.write(head)
    left, found = length, 0
    while left:
        piece = source.read(min(left, _CHUNK))
        if not piece:
            raise DamagedRecordError(f"{what} must hold {length} bytes at {offset}. Received: {left} fewer")
        found = google_crc32c.extend(found, piece)
        target.write(piece)
        left -= len(piece)
    foot = source.read(FOOTER_BYTES)
    if found != crc or foot != struct.pack("<I", masked(crc)):
        raise DamagedRecordError(
            f"{what}: the record at {offset} must have the CRC {crc:08x}. "
            f"Received: {found:08x}, and the end {foot!r}"
        )
    target.write(foot)


def file_crc(path: Path) -> int:
    """The CRC-32C of a whole file."""
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            crc = google_crc32c.extend(crc, piece)
    return crc
