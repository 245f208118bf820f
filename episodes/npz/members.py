"""The arrays in an NPZ file, mapped or streamed instead of read whole where the file allows it."""

import contextlib
import dataclasses
import hashlib
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

_LFS_POINTER = b"version https://git-lfs"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What zipfile, zlib and numpy raise for content that is not what it should be.
_DAMAGE = (ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclasses.dataclass(frozen=True, eq=False)
class NpzMembers:
    """An open NPZ file, see ``open_members``.

    Attributes:
      path: of the file.
      archive: the file as a ZIP.
      members: key -> its entry.
    """

    path: Path
    archive: zipfile.ZipFile
    members: dict[str, zipfile.ZipInfo]

    def is_compressed(self, key: str) -> bool:
        """Whether the array's bytes are compressed, so that it cannot be mapped."""
        return self.members[key].compress_type != zipfile.ZIP_STORED

    def header(self, key: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type of an array, without its content.

        Raises:
          ValueError: it is no plain array, or has another size than its header says.
        """
        with self._content(key) as file:
            shape, _, dtype = self._header(key, file)
            return shape, dtype

    def read(self, key: str) -> np.ndarray:
        """Reads an array whole.

        Raises:
          ValueError: as ``header``, or it is damaged.
        """
        self.header(key)  # Before memory is taken for what a damaged header asks for.
        with self._content(key) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def map_or_read(self, key: str) -> np.ndarray:
        """Maps an array read-only into memory; reads it whole where it is compressed or empty.

        Raises:
          ValueError: as ``read``.
        """
        shape, _ = self.header(key)
        if self.is_compressed(key) or 0 in shape:
            return self.read(key)
        with self.path.open("rb") as file:
            _seek_to_content(file, self.members[key], self.path)
            _, fortran_order, dtype = self._header(key, file)
            order = "F" if fortran_order else "C"
            return np.memmap(self.path, dtype, "r", file.tell(), shape, order)  # type: ignore[call-overload]

    def rows(self, key: str) -> Iterator[np.ndarray]:
        """Streams an array along its first axis; read-only rows.

        Memory is needed for one row, compressed or not (but for Fortran's order). At the end the checksum is
        compared, which a memory map cannot.

        Raises:
          ValueError: as ``read``.
        """
        with self._content(key) as file:
            shape, fortran_order, dtype = self._header(key, file)
            if not fortran_order:
                size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
                for _ in range(shape[0]):  # zipfile compares the checksum with the last one.
                    yield np.frombuffer(file.read(size), dtype).reshape(shape[1:])
                return
        yield from self.read(key)

    def fingerprint(self) -> str:
        """Hexadecimal digest of all keys and content, whatever the file's name and compression."""
        # The archive's directory holds a CRC of every member's uncompressed bytes: no data is read.
        digest = hashlib.sha256()
        for name in sorted(self.members):
            digest.update(f"{name} {self.members[name].CRC} {self.members[name].file_size}\n".encode())
        return digest.hexdigest()

    def _header(self, key: str, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
        """Shape, whether in Fortran's order, and type; leaves ``file`` at the content."""
        start = file.tell()
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{self.path}: {key} is not a plain array: its version is {version}")
        shape, fortran_order, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise ValueError(f"{self.path}: {key} is not a plain array: it holds Python objects")
        said = math.prod(shape) * dtype.itemsize
        held = self.members[key].file_size - (file.tell() - start)
        if said != held:
            raise ValueError(f"{self.path}: {key} is not a plain array: {held} bytes of {said} are there")
        return shape, fortran_order, dtype

    @contextlib.contextmanager
    def _content(self, key: str) -> Iterator[IO[bytes]]:
        try:
            with self.archive.open(self.members[key]) as file:
                yield file
        except _DAMAGE as error:
            if str(error).startswith(str(self.path)):
                raise
            raise ValueError(f"{self.path}: {key} is not a plain array: {error}") from error


@contextlib.contextmanager
def open_members(path: str | Path) -> Iterator[NpzMembers]:
    """Opens an NPZ file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is a git-lfs pointer, or no whole NPZ file.
    """
    path = Path(path)
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ValueError(
                f"{path} is a git-lfs pointer, not the data itself: run `git lfs pull` where it came from."
            )
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a whole NPZ file: {error}") from error
    with archive:
        yield NpzMembers(path, archive, {Path(i.filename).stem: i for i in archive.infolist()})


def _seek_to_content(file: IO[bytes], member: zipfile.ZipInfo, path: Path) -> None:
    # The local header repeats name and extra field, whose length may differ from the directory's.
    file.seek(member.header_offset)
    local = file.read(30)
    if local[:4] != b"PK\x03\x04":
        raise ValueError(f"{path} is damaged: {member.filename} is not where its directory says.")
    name_length, extra_length = (int.from_bytes(local[i : i + 2], "little") for i in (26, 28))
    file.seek(name_length + extra_length, 1)
