"""From staged episodes to a data set's files: which split, which shard, and the copying."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from core import files
from episodes import splits
from episodes.conversion import example_writer, tfrecord
from episodes.conversion.rlds_features import step_key
from episodes.conversion.staging import StagedEpisode
from episodes.conversion.tfrecord import DamagedRecordError
from episodes.episode import ACTION, JOINT_POSITIONS
from episodes.statistics import DatasetStatistics, compute_statistics

STATISTICS_FILE = "dataset_statistics.json"
# What normalisation and action tokenisation ask about.
STATISTICS_OF = (ACTION, JOINT_POSITIONS)


class DamagedSourceError(DamagedRecordError):
    """A staged or published source that is not as it was written.

    Attributes:
      key: of the source.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key


@dataclasses.dataclass(frozen=True)
class Record:
    """Where an episode's record is now: staged, or in a shard that was published before.

    Attributes:
      key: of the source.
      episode: what it is.
      path: the TFRecord file.
      offset: of the record's frame in it.
    """

    key: str
    episode: StagedEpisode
    path: Path
    offset: int = 0

    @property
    def frame_bytes(self) -> int:
        """Bytes that it takes in a file."""
        return self.episode.bytes + tfrecord.FRAME_BYTES


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file to write.

    Attributes:
      split: its split.
      file: its name.
      records: in order.
    """

    split: str
    file: str
    records: tuple[Record, ...]

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return sum(r.frame_bytes for r in self.records)


def assign_splits(
    episode_ids: Iterable[str], fractions: Mapping[str, float], salt: str
) -> dict[str, list[str]]:
    """Puts episodes into splits, in the order in which they are written.

    Both depend on the ids alone: an episode that is added moves no other to another split.

    Args:
      episode_ids: all different.
      fractions: split -> expected share.
      salt: another one gives another split.

    Returns:
      split -> ids; splits without an episode are left out.

    Raises:
      ValueError: no episode fell into the split that is trained on.
    """
    ids = sorted(episode_ids, key=lambda i: (hashlib.sha256(f"{salt}\0order\0{i}".encode()).digest(), i))
    found: dict[str, list[str]] = {split: [] for split, fraction in fractions.items() if fraction > 0}
    for episode_id in ids:
        found[splits.split_by_hash(episode_id, fractions, salt)].append(episode_id)
    if splits.TRAIN in found and not found[splits.TRAIN]:
        raise ValueError(
            f"By their hashes, none of the {len(ids)} episodes is for {splits.TRAIN}: convert more of them, "
            f"choose another split_salt, or change the fractions, e.g. to train=1. "
            f"Received: {dict(fractions)}"
        )
    return {split: members for split, members in found.items() if members}


def plan_shards(records: Mapping[str, Sequence[Record]], name: str, maximum_bytes: int) -> list[Shard]:
    """Fills shards in order, none beyond ``maximum_bytes`` unless one record alone is.

    Args:
      records: split -> records in order.
      name: of the data set.
      maximum_bytes: of a file.
    """
    shards = []
    for split, members in records.items():
        groups: list[list[Record]] = []
        size = 0
        for record in members:
            if not groups or size + record.frame_bytes > maximum_bytes:
                groups.append([])
                size = 0
            groups[-1].append(record)
            size += record.frame_bytes
        shards += [
            Shard(split, f"{name}-{split}.tfrecord-{i:05d}-of-{len(groups):05d}", tuple(group))
            for i, group in enumerate(groups)
        ]
    return shards


def write_shard(shard: Shard, folder: Path, on_bytes: Callable[[int], None] = lambda n: None) -> None:
    """Writes one shard by copying records, each checked against its CRC; a shard that is there is kept.

    Args:
      shard: what to write.
      folder: into which.
      on_bytes: is told how many bytes were written since it was told last.

    Raises:
      DamagedSourceError: a record is not as it was written.
    """
    path = folder / shard.file
    # Shards come into being whole, by a rename: one of the right size is right.
    if path.exists() and path.stat().st_size == shard.bytes:
        on_bytes(shard.bytes)
        return
    with files.atomic_path(path) as temporary, temporary.open("xb") as target:
        for record in shard.records:
            try:
                with record.path.open("rb") as source:
                    tfrecord.copy_record(
                        source,
                        record.offset,
                        record.episode.bytes,
                        record.episode.crc32c,
                        target,
                        record.path,
                    )
            except (DamagedRecordError, FileNotFoundError) as error:
                raise DamagedSourceError(record.key, str(error)) from error
            on_bytes(record.frame_bytes)


def shard_statistics(shards: Iterable[Shard], signature_fields: Iterable[str]) -> DatasetStatistics:
    """Statistics of the episodes of shards, read from their records without the images.

    Args:
      shards: of the split that is trained on.
      signature_fields: the fields that episodes have.

    Raises:
      DamagedSourceError: a record is not as it was written.
    """
    fields = [f for f in STATISTICS_OF if f in set(signature_fields)]
    return compute_statistics(_columns(shards, fields))


def _columns(shards: Iterable[Shard], fields: Sequence[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    keys = [step_key(f) for f in fields]
    for shard in shards:
        for record in shard.records:
            steps = record.episode.steps
            try:
                with record.path.open("rb") as file:
                    flat = example_writer.read_floats(file, record.offset, keys)
                columns = {f: flat[k].reshape(steps, -1) for f, k in zip(fields, keys, strict=True)}
            except (DamagedRecordError, FileNotFoundError, KeyError, ValueError) as error:
                raise DamagedSourceError(record.key, f"{record.path}: {error}") from error
            yield record.episode.id, columns
