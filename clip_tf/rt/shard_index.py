"""What shards hold, so that opening them need not read them: labels by episode, and a digest of all samples.

``index.json`` in a folder of shards is
``{shard: {"bytes": size, "content": digest, "episodes": {episode: {label: count}}}}``.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from core import files

NAME = "index.json"

Episodes = dict[str, dict[int, int]]
"""Episode -> label -> samples."""


@dataclasses.dataclass(frozen=True)
class ShardContent:
    """What a shard holds.

    Attributes:
      episodes: how many samples of which labels each has.
      digest: hexadecimal SHA-256 of its samples in their order, the encoded images too.
    """

    episodes: Episodes
    digest: str

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of both: an index may say of a content what it does not hold."""
        ordered = sorted((episode, sorted(counts.items())) for episode, counts in self.episodes.items())
        return hashlib.sha256(repr((self.digest, ordered)).encode()).hexdigest()


class Tally:
    """Adds a shard's samples up."""

    def __init__(self) -> None:
        """Of no sample."""
        self._episodes: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
        self._digest = hashlib.sha256()

    def add(self, key: str, image: bytes, instruction: str, supervision: str, label: int) -> None:
        """One more sample."""
        self._episodes[episode_of(key)][label] += 1
        texts = (key, instruction.strip(), supervision.strip())
        self._digest.update(f"{texts!r} {label} {len(image)}\n".encode())
        self._digest.update(image)

    @property
    def content(self) -> ShardContent:
        """Of the samples that were added."""
        episodes = {episode: dict(counts) for episode, counts in self._episodes.items()}
        return ShardContent(episodes, self._digest.hexdigest())


def episode_of(key: str) -> str:
    """The episode of a sample's key ``EPISODE-STEP``; a key without a dash is an episode by itself."""
    return key.rpartition("-")[0] or key


def write_index(folder: Path, shards: Mapping[str, ShardContent]) -> None:
    """Writes the index of the shards of a folder, which must be complete files."""
    files.write_json(
        folder / NAME,
        {
            name: {
                "bytes": (folder / name).stat().st_size,
                "content": shard.digest,
                "episodes": shard.episodes,
            }
            for name, shard in shards.items()
        },
    )


def read_index(folder: Path) -> dict[str, ShardContent]:
    """What the index of a folder says of its shards, by name.

    Shards that have another size by now are left out, and those of which an index of an earlier version has
    no digest; nothing is there where there is no index.

    Raises:
      ValueError: the index is there and is none.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    found = {}
    try:
        for name, entry in files.read_json(path).items():
            shard = folder / name
            if "content" not in entry or not shard.is_file() or entry["bytes"] != shard.stat().st_size:
                continue
            episodes = {
                episode: {int(label): int(count) for label, count in counts.items()}
                for episode, counts in entry["episodes"].items()
            }
            found[name] = ShardContent(episodes, str(entry["content"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must be an index of shards. Received: {error!r}") from error
    return found
