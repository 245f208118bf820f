"""Reading the rows of a damaged SQLite file of ROS 2, up to where the database breaks."""

import itertools
import shutil
import struct
import tempfile
from collections.abc import Collection, Generator, Sequence
from pathlib import Path

import apsw

from episodes.bags.bag import BagError
from episodes.bags.part import UNDEFINED, Channel

# In the file's header: the size of a page, where 1 stands for 65536.
_PAGE_BYTES = struct.Struct(">16xH")
_URI_ESCAPES = str.maketrans({"%": "%25", "?": "%3f", "#": "%23"})


class SqliteRows:
    """The messages of a file in the order in which they were written; log times need not rise."""

    def __init__(self, path: Path) -> None:
        """Reads all rows that there are, to count them.

        Raises:
          BagError: not even its topics can be read.
        """
        self._path = path
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        try:
            self._database = _connect(self._without_cut_page())
            # So SQLite takes a file that is shorter than its header says; nothing is written.
            self._database.execute("PRAGMA writable_schema = ON")
            topics = list(self._database.execute("SELECT id, name, type, serialization_format FROM topics"))
        except (apsw.Error, struct.error) as error:
            raise BagError(f"{path} cannot be salvaged, its topics are not readable: {error}") from error
        self.channels: Sequence[Channel] = [
            Channel(id, name, msgtype, "", None, serialization, "", UNDEFINED, "")
            for id, name, msgtype, serialization in topics
        ]
        self.compression = "none"
        self.notes: list[str] = []
        self._orphans = 0
        self._rows, ends = self._count()
        said = f"{path.name} was salvaged: {self._rows - self._orphans} messages; {ends}"
        if self._orphans:
            said += f"; {self._orphans} messages belong to no known topic or are none"
        self.notes.append(said)

    def messages(self, ids: Collection[int]) -> Generator[tuple[int, int, bytes], None, None]:
        rows = self._database.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED")
        for id, log_ns, data in itertools.islice(rows, self._rows):
            if id in ids and _is_message(log_ns, data):
                yield id, log_ns, data

    def close(self) -> None:
        self._database.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _without_cut_page(self) -> Path:
        """The file, or a copy without the page that is cut: SQLite takes what is missing for zeros."""
        with self._path.open("rb") as file:
            (page_bytes,) = _PAGE_BYTES.unpack(file.read(_PAGE_BYTES.size))
            page_bytes = 1 << 16 if page_bytes == 1 else page_bytes
            cut = self._path.stat().st_size % page_bytes if page_bytes else 0
            if not cut:
                return self._path
            self._folder = tempfile.TemporaryDirectory()
            copy = Path(self._folder.name, self._path.name)
            with copy.open("wb") as out:
                file.seek(0)
                shutil.copyfileobj(file, out)
                out.truncate(self._path.stat().st_size - cut)
        return copy

    def _count(self) -> tuple[int, str]:
        count = 0
        known = {channel.id for channel in self.channels}
        most = self._path.stat().st_size  # No row takes less than a byte; a broken tree may go in circles.
        try:
            rows = self._database.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED")
            for id, log_ns, data in rows:
                count += 1
                self._orphans += id not in known or not _is_message(log_ns, data)
                if count > most:
                    break
        except apsw.Error as error:
            return count, f"behind them the database breaks ({error})"
        return count, "its index of times, and any log beside it, were left aside"


def _is_message(log_ns: object, data: object) -> bool:
    return isinstance(log_ns, int) and isinstance(data, bytes)


def check_rows(path: Path) -> list[str]:
    """Counts the rows of a file in each way there is: SQLite itself believes pages that lack a row.

    Costs little: the bulk of large messages is not touched.

    Returns:
      Notes on rows that were deleted, or lost without a trace in the database's own structure.

    Raises:
      BagError: table and index do not have the same number of messages.
      apsw.Error: the file is damaged.
    """
    database = _connect(path)
    try:
        rows, first, last = _numbers(database, "SELECT count(*), min(id), max(id) FROM messages NOT INDEXED")
        indexes = database.execute(
            "SELECT name FROM sqlite_master "
            "WHERE type = 'index' AND tbl_name = 'messages' AND sql NOT LIKE '%where%'"
        ).fetchall()
        for (name,) in indexes:
            quoted = str(name).replace('"', '""')
            (indexed,) = _numbers(database, f'SELECT count(*) FROM messages INDEXED BY "{quoted}"')
            if indexed != rows:
                raise BagError(f"{path} is damaged: its table has {rows} messages and its index {indexed}")
    finally:
        database.close()
    missing = last - first + 1 - rows if rows else 0
    return [f"{path.name}: {missing} of the numbers of its messages are missing"] if missing else []


def _numbers(database: apsw.Connection, query: str) -> list[int]:
    return [int(str(value or 0)) for row in database.execute(query) for value in row]


def _connect(path: Path) -> apsw.Connection:
    address = f"file:{str(path).translate(_URI_ESCAPES)}?immutable=1"
    return apsw.Connection(address, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)


def scan_sqlite(path: Path) -> SqliteRows:
    """Opens what is left of a damaged file; see ``SqliteRows``."""
    return SqliteRows(path)
