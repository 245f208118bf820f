"""What shards hold, so that opening them need not read them: labels by episode, beside the tar files.

``index.json`` in a folder of shards is ``{shard: {"bytes": size, "episodes": {episode: {label: count}}}}``.
"""

import collections
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from core import files

NAME = "index.json"

Episodes = dict[str, dict[int, int]]
"""Episode -> label -> samples."""


def episode_of(key: str) -> str:
    """The episode of a sample's key ``EPISODE-STEP``; a key without a dash is an episode by itself."""
    return key.rpartition("-")[0] or key


def count_labels(samples: Iterable[tuple[str, int]]) -> Episodes:
    """Counts (key, label) pairs."""
    found: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for key, label in samples:
        found[episode_of(key)][label] += 1
    return {episode: dict(counts) for episode, counts in found.items()}


def digest(episodes: Episodes) -> str:
    """Hexadecimal SHA-256 of what ``count_labels`` found, in whatever order."""
    ordered = sorted((episode, sorted(counts.items())) for episode, counts in episodes.items())
    return hashlib.sha256(repr(ordered).encode()).hexdigest()


def write_index(folder: Path, shards: Mapping[str, Episodes]) -> None:
    """Writes the index of the shards of a folder, which must be complete files."""
    files.write_json(
        folder / NAME,
        {
            name: {"bytes": (folder / name).stat().st_size, "episodes": episodes}
            for name, episodes in shards.items()
        },
    )


def read_index(shard: Path) -> Episodes | None:
    """What the index says of a shard; None where there is none, or the file has another size by now.

    Raises:
      ValueError: the index is there and is none.
    """
    path = shard.parent / NAME
    if not path.exists():
        return None
    try:
        entry = files.read_json(path).get(shard.name)
        if entry is None or entry["bytes"] != shard.stat().st_size:
            return None
        return {
            episode: {int(label): int(count) for label, count in counts.items()}
            for episode, counts in entry["episodes"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must be an index of shards. Received: {error!r}") from error
