"""Finding the bags that a command line names."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import logging

from episodes.bags.bag import BagError
from episodes.bags.metadata import METADATA_NAME
from episodes.bags.reader import STORAGE_NAME, part_number, storage_files

_ACCEPTED = (
    "A bag is a ROS 1 file (.bag), a ROS 2 folder (with metadata.yaml, or the numbered parts of a split "
    "bag), or one ROS 2 file (.mcap, .db3, .mcap.zstd, .db3.zstd)"
)
_UNFINISHED = ".bag.active"


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """Finds bags by files, folders of ROS 2 bags, and folders that are searched with all below them.

    Hidden files and folders are left out of the search, and recordings that were not closed
    (``.bag.active``) and folders that may not be read, with a warning. Links are followed.

    Returns:
      The bags, sorted, each once: a part of a ROS 2 folder that is found is not listed again.

    Raises:
      BagError: a path does not exist or is none of these, or nothing is found.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for bag in _bags(Path(path)):
            try:
                found.setdefault(bag.resolve(strict=True), bag)
            except (OSError, RuntimeError) as error:  # Python 3.11 tells a loop of links by RuntimeError.
                if bag == Path(path):
                    raise BagError(f"{bag} is a link that leads nowhere: {error}") from error
                logging.warning("%s is a link that leads nowhere; it is left out", bag)
    kept = [bag for real, bag in found.items() if real.parent not in found]
    if not kept:
        raise BagError(f"No bag was found. {_ACCEPTED}. Received: {[str(path) for path in paths]}")
    return sorted(kept)


def _bags(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise BagError(f"There is no {path}")
    if path.is_dir():
        yield from _search(path)
    elif path.name.endswith(_UNFINISHED):
        raise BagError(
            f"{path} is a recording that was not closed. If nothing records it any more, rename it to "
            f"{path.name.removesuffix('.active')} and salvage it"
        )
    elif _is_bag_file(path):
        yield path
    else:
        raise BagError(f"{_ACCEPTED}. Received: {path}")


def _search(folder: Path) -> Iterator[Path]:
    visited: set[Path] = set()
    for name, folders, files in os.walk(folder, followlinks=True, onerror=_warn_of_unreadable):
        here = Path(name)
        if here.resolve() in visited:  # A link that leads upwards.
            folders.clear()
            continue
        visited.add(here.resolve())
        if _is_ros2_folder(here):
            folders.clear()
            yield here
            continue
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(files):
            path = here / file
            if file.startswith("."):
                continue
            if file.endswith(_UNFINISHED):
                logging.warning("%s is a recording that was not closed; it is left out", path)
            elif _is_bag_file(path):
                yield path


def _warn_of_unreadable(error: OSError) -> None:
    logging.warning("%s cannot be searched and is left out: %s", error.filename, error.strerror)


def _is_bag_file(path: Path) -> bool:
    return path.suffix == ".bag" or STORAGE_NAME.fullmatch(path.name) is not None


def _is_ros2_folder(folder: Path) -> bool:
    """Whether a folder is one bag: it has metadata, or nothing but parts numbered from 0 of one name."""
    parts = storage_files(folder)
    if (folder / METADATA_NAME).is_file():
        return True
    if len(parts) < 2 or [part_number(part) for part in parts] != list(range(len(parts))):
        return False
    stems = {match["stem"] for part in parts if (match := STORAGE_NAME.fullmatch(part.name))}
    return len(stems) == 1
