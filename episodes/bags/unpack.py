"""Decompression that never gives more than it was told to expect."""

import bz2
import shutil
from pathlib import Path
from typing import Protocol

import lz4.frame
from backports import zstd

from episodes.bags.bag import BagError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# No recorder writes a chunk that large; a header that asks for more is damaged.
MAX_CHUNK_BYTES = 1 << 30
_STEP_BYTES = 1 << 20
# What lz4, bz2 and zstd raise.
_DAMAGE = (RuntimeError, OSError, ValueError, EOFError, zstd.ZstdError)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def unpack(data: bytes, compression: str, size: int, *, cut: bool = False) -> bytes:
    """Decompresses a chunk.

    Args:
      data: of the chunk.
      compression: ``none``, ``lz4``, ``bz2`` or ``zstd``.
      size: bytes that it must give, as its header says.
      cut: the data end too early, and what they give until there is wanted.

    Raises:
      BagError: the data are damaged, give fewer or more bytes, or the size is absurd.
    """
    if size > MAX_CHUNK_BYTES:
        raise BagError(f"a chunk has at most {MAX_CHUNK_BYTES} bytes. Received: {size}")
    got = data if compression == "none" else _run(data, _decompressor(compression), size + 1)
    if len(got) > size or (len(got) < size and not cut):
        raise BagError(f"the chunk's header says that it has {size} bytes. Received: {len(got)} bytes")
    return got


def unpack_message(data: bytes, limit: int = MAX_CHUNK_BYTES) -> bytes:
    """Decompresses one message (zstd), of at most ``limit`` bytes.

    Raises:
      BagError: it is damaged, cut, or larger.
    """
    decompressor = _decompressor("zstd")
    got = _run(data, decompressor, limit + 1)
    if len(got) > limit or not decompressor.eof:
        raise BagError(f"a compressed message is cut, or has over {limit} bytes. Received: {len(got)}")
    return got


def unpack_file(path: Path, folder: Path) -> Path:
    """Decompresses ``name.mcap.zstd`` into ``folder`` as ``name.mcap`` and returns where.

    Raises:
      OSError: there is no room for it, for one; with its own reason.
      EOFError, ZstdError: it is cut or damaged.
    """
    unpacked = folder / path.stem
    with zstd.open(path, "rb") as packed, unpacked.open("wb") as out:
        shutil.copyfileobj(packed, out, _STEP_BYTES)
    return unpacked


def _decompressor(compression: str) -> _Decompressor:
    if compression == "lz4":
        return lz4.frame.LZ4FrameDecompressor()
    if compression == "bz2":
        return bz2.BZ2Decompressor()
    if compression == "zstd":
        return zstd.ZstdDecompressor()
    raise BagError(f"chunks are compressed with lz4, bz2 or zstd. Received: {compression!r}")


def _run(data: bytes, decompressor: _Decompressor, limit: int) -> bytes:
    pieces, have = [], 0
    view = memoryview(data)
    position = 0
    while have < limit and not decompressor.eof:
        step = b""
        if decompressor.needs_input:
            step = bytes(view[position : position + _STEP_BYTES])
            position += len(step)
            if not step:
                break
        try:
            piece = decompressor.decompress(step, limit - have)
        except _DAMAGE as error:
            raise BagError(f"compressed data are damaged: {error}") from error
        pieces.append(piece)
        have += len(piece)
    return b"".join(pieces)
