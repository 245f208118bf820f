"""Opening a bag of any kind: intact, or, where that is asked for, damaged."""

import contextlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from episodes.bags import sniff
from episodes.bags.bag import ROS1, ROS2, Bag, BagError
from episodes.bags.metadata import METADATA_NAME, Metadata, read_metadata
from episodes.bags.part import Part
from episodes.bags.parts_bag import PartsBag
from episodes.bags.rosbags_parts import Ros1Part, open_part
from episodes.bags.scan_mcap import scan_mcap
from episodes.bags.scan_ros1 import scan_ros1
from episodes.bags.scan_sqlite import scan_sqlite
from episodes.bags.unpack import ZSTD_MAGIC, unpack_file

# Names of the files that hold messages; `.zstd` are packed as a whole.
STORAGE_NAME = re.compile(r"(?P<stem>.+?)(?:_(?P<number>\d+))?\.(?:mcap|db3)(?:\.zstd)?")

_SALVAGE: Mapping[str, Callable[[Path], Part]] = {
    sniff.ROS1_FILE: scan_ros1,
    sniff.MCAP_FILE: scan_mcap,
    sniff.SQLITE_FILE: scan_sqlite,
}


def open_bag(path: str | Path, *, salvage: bool = False) -> Bag:
    """Opens a bag for streaming; use it as a context manager.

    A ROS 2 folder's own storage files are read, not by way of its metadata: what these say otherwise than
    the storage is noted. Files that are packed as a whole are unpacked into a temporary folder first,
    which is removed on closing.

    Args:
      path: a ROS 1 ``.bag``; a ROS 2 folder; or one ``.mcap`` or ``.db3`` file, also with ``.zstd`` behind.
      salvage: read whatever a damaged bag still holds, and say in ``notes`` what was lost. The bag is then
        read once in full to see whether it is damaged; an intact one is read as without salvage.

    Raises:
      BagError: there is no such bag, it is damaged, or it is of a kind that is not supported; the message
        names the path and the reason.
    """
    path = Path(path)
    if not path.exists():
        raise BagError(f"there is no bag {path}")
    with contextlib.ExitStack() as stack:
        try:
            bag = _Opening(path, salvage, stack).open()
        except BagError as error:
            if str(path) in str(error):
                raise
            raise BagError(f"{path}: {error}") from error
        except Exception as error:  # Libraries raise whatever befalls them in damaged data.
            raise BagError(f"{path} cannot be read: {_say(error)}") from error
        bag.on_close(stack.pop_all().close)
        return bag


def part_number(path: Path) -> int:
    """The number in a storage file's name by which a split bag's parts are ordered; -1 without one."""
    match = STORAGE_NAME.fullmatch(path.name)
    return int(match["number"]) if match and match["number"] else -1


def storage_files(folder: Path) -> list[Path]:
    """The files of a folder that hold messages of ROS 2, by their number, then by name."""
    files = (f for f in folder.iterdir() if STORAGE_NAME.fullmatch(f.name) and not f.name.startswith("."))
    return sorted((f for f in files if f.is_file()), key=lambda f: (part_number(f), f.name))


class _Opening:
    """Collects what is opened and noted on the way to a bag."""

    def __init__(self, path: Path, salvage: bool, stack: contextlib.ExitStack) -> None:
        self._path, self._salvage, self._stack = path, salvage, stack
        self._notes: list[str] = []
        self._scanned = False
        self._unpacked: Path | None = None

    def open(self) -> PartsBag:
        if self._path.is_dir():
            return self._open_folder()
        kind = sniff.file_kind(self._path)
        if kind != sniff.ROS1_FILE:
            return self._open_ros2([self._path], None)
        part = self._open_part(self._path, kind)
        return self._bag(ROS1, kind, part.compression, [part])

    def _open_folder(self) -> PartsBag:
        stored = storage_files(self._path)
        if not (self._path / METADATA_NAME).exists():
            return self._open_without_metadata(stored, f"has no {METADATA_NAME}")
        try:
            metadata = read_metadata(self._path)
        except BagError as error:
            return self._open_without_metadata(stored, f"has a broken {METADATA_NAME} ({error})")
        files = [self._path / name for name in metadata.files]
        missing = [file.name for file in files if not file.is_file()]
        if missing and not self._salvage:
            raise BagError(f"{self._path} lacks the files {missing} that its {METADATA_NAME} lists")
        if missing:
            self._notes.append(f"the files {missing} that {METADATA_NAME} lists are missing")
            self._scanned = True
        more = [file.name for file in stored if file not in files]
        if more:
            self._notes.append(f"{more} lie in the folder, but {METADATA_NAME} does not list them: not read")
        return self._open_ros2([file for file in files if file.is_file()], metadata)

    def _open_without_metadata(self, stored: Sequence[Path], reason: str) -> PartsBag:
        names = [file.name for file in stored]
        if not stored:
            raise BagError(f"{self._path} {reason} and no .mcap or .db3 file, so it is no bag")
        if not self._salvage:
            raise BagError(
                f"{self._path} {reason}; salvage reads its files {names} as the parts of one bag, in this "
                f"order, or each can be named as a bag of its own"
            )
        self._notes.append(f"the folder {reason}; {names} were read as the parts of one bag, in this order")
        self._scanned = True
        return self._open_ros2(stored, None)

    def _open_ros2(self, files: Sequence[Path], metadata: Metadata | None) -> PartsBag:
        if not files:
            raise BagError(f"{self._path} has no storage files")
        parts, kinds, compressions = [], [], set()
        for file in files:
            kind = sniff.file_kind(file)
            if kind == sniff.ZSTD_FILE:
                file, compression = self._unpack(file), "file zstd"
                kind = sniff.file_kind(file)
            if kind not in (sniff.MCAP_FILE, sniff.SQLITE_FILE):
                raise BagError(
                    f"{file} must be mcap or SQLite, as all parts of a ROS 2 bag. Received: {kind}"
                )
            part = self._open_part(file, kind)
            if file.parent != self._unpacked:
                compression = "none" if part.compression == "none" else f"chunk {part.compression}"
                if self._has_packed_messages(part, metadata):
                    compression = "message zstd"
            parts.append(part)
            kinds.append(kind)
            compressions.add(compression)
        self._refuse_foreign_messages(parts)
        if metadata is not None:
            self._compare(parts, metadata)
        return self._bag(ROS2, ", ".join(sorted(set(kinds))), ", ".join(sorted(compressions)), parts)

    def _unpack(self, file: Path) -> Path:
        if self._unpacked is None:
            self._unpacked = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            return unpack_file(file, self._unpacked)
        except Exception as error:
            # A cut file gives its first part, which salvage can go on with.
            if not self._salvage or isinstance(error, OSError):
                raise BagError(f"{file} does not unpack: {_say(error)}") from error
            self._notes.append(f"{file.name} is packed and cut or damaged; it was read as far as it unpacks")
            self._scanned = True
            return self._unpacked / file.stem

    def _open_part(self, file: Path, kind: str) -> Part:
        try:
            part = _open_intact(file, kind, read_through=self._salvage)
        except Exception as error:  # Libraries raise whatever befalls them in damaged data.
            if not self._salvage and isinstance(error, BagError):
                raise
            if not self._salvage:
                raise BagError(f"{file} {_explain(error, kind)}") from error
            part = _SALVAGE[kind](file)
            self._scanned = True
        self._stack.callback(part.close)
        self._notes += part.notes
        return part

    def _has_packed_messages(self, part: Part, metadata: Metadata | None) -> bool:
        if metadata is not None:
            return metadata.compression_mode == "message"
        with contextlib.closing(part.messages([channel.id for channel in part.channels])) as messages:
            first = next(messages, None)
        return first is not None and bytes(first[2][:4]) == ZSTD_MAGIC

    def _refuse_foreign_messages(self, parts: Sequence[Part]) -> None:
        """One foreign topic costs nothing; where all are, there is nothing to read."""
        known = {
            channel.serialization for part in parts for channel in part.channels if channel.declared != 0
        }
        if known and "cdr" not in known:
            raise BagError(f"{self._path} is serialised otherwise than as cdr. Received: {sorted(known)}")

    def _compare(self, parts: Sequence[Part], metadata: Metadata) -> None:
        """The storage is right: it counts its own messages, metadata may be edited or older."""
        counts: Counter[tuple[str, str]] = Counter()
        for part in parts:
            for channel in part.channels:
                counts[channel.topic, channel.msgtype] += channel.declared or 0
        if any(channel.declared is None for part in parts for channel in part.channels):
            return
        stale = [
            f"{key[0]} {metadata.counts.get(key, 0)} there and {counts[key]} in storage"
            for key in sorted({*counts, *metadata.counts})
            if metadata.counts.get(key, 0) != counts[key]
        ]
        if stale:
            self._notes.append(
                f"{METADATA_NAME} is not up to date, what is stored was read: {'; '.join(stale)}"
            )

    def _bag(self, ros: str, storage: str, compression: str, parts: Sequence[Part]) -> PartsBag:
        return PartsBag(
            self._path, ros, storage, compression, parts, salvaged=self._scanned, notes=self._notes
        )


def _open_intact(file: Path, kind: str, *, read_through: bool) -> Part:
    part: Part = Ros1Part(file) if kind == sniff.ROS1_FILE else open_part(file, kind)
    if read_through:
        try:
            _read_through(part)
        except BaseException:
            part.close()
            raise
    return part


def _read_through(part: Part) -> None:
    """Reads all messages, and compares their numbers with what is declared."""
    counts: Counter[int] = Counter()
    for id, _, _ in part.messages([channel.id for channel in part.channels]):
        counts[id] += 1
    for channel in part.channels:
        if channel.declared is not None and counts[channel.id] != channel.declared:
            raise BagError(f"{channel.topic} has {counts[channel.id]} messages of {channel.declared}")


def _explain(error: Exception, kind: str) -> str:
    """Why a file cannot be opened, in the words of who recorded it."""
    said = _say(error)
    if kind == sniff.ROS1_FILE:
        if "not indexed" in said:
            return "has no index, as after a recording that was not closed; it can be salvaged"
        if "index looks damaged" in said or "could not be read" in said:
            return f"is cut off or its index is damaged; it can be salvaged ({said})"
    elif "end magic" in said or "Truncated" in said or "footer" in said:
        return f"is cut off: its end is missing; it can be salvaged ({said})"
    elif "Profile" in said:
        return f"holds no ROS 2 recording: its profile is another one ({said})"
    elif "malformed" in said or "disk image" in said:
        return f"is cut off or damaged ({said}); it can be salvaged"
    return f"cannot be read: {said}"


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
