"""Data sets of NPZ files, one an episode, or of EIPL's arrays."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from core import files
from episodes.conversion import tfrecord
from episodes.conversion.shards import STATISTICS_OF, DamagedSourceError, Record, Shard
from episodes.conversion.staging import StagedSource
from episodes.npz import read_npz
from episodes.statistics import DatasetStatistics, compute_statistics

_ARRAYS = "data"  # The folder that EIPL's loaders are given.
# EIPL knows two splits; what is not trained on is tested on.
_EIPL_SPLITS: Mapping[str, str] = {"train": "train", "val": "test", "test": "test"}


def plan_files(records: Mapping[str, Sequence[Record]], sources: Mapping[str, StagedSource]) -> list[Shard]:
    """``SPLIT/NAME_DIGEST_EPISODE.npz`` for each episode: no two recordings of a name meet.

    Args:
      records: split -> records in order.
      sources: key -> source.
    """
    planned = []
    for split, members in records.items():
        for record in members:
            source = sources[record.key]
            stem = PurePosixPath(source.label).stem
            file = f"{split}/{stem}_{source.sha256[:8]}_{record.episode.name}.npz"
            planned.append(Shard(split, file, (record,)))
    return planned


def plan_arrays(records: Mapping[str, Sequence[Record]]) -> list[Shard]:
    """One group of episodes, and one row an episode, for each of EIPL's splits.

    Args:
      records: split -> records in order.
    """
    groups: dict[str, list[Record]] = {}
    for split, members in records.items():
        groups.setdefault(_EIPL_SPLITS[split], []).extend(members)
    return [
        Shard(split, f"{_ARRAYS}/{split}/joints.npy", tuple(members)) for split, members in groups.items()
    ]


def link_episodes(
    shards: Sequence[Shard], folder: Path, on_bytes: Callable[[int], None] = lambda n: None
) -> None:
    """Gives staged files their place: a second name, or a copy where the disk knows no such names.

    Args:
      shards: from ``plan_files``.
      folder: of the data set.
      on_bytes: is told how many bytes were dealt with since it was told last.

    Raises:
      DamagedSourceError: a file is not as it was written.
    """
    for shard in shards:
        (record,) = shard.records
        _check(record)
        target = folder / shard.file
        with files.atomic_path(target) as temporary:
            try:
                os.link(record.path, temporary)
            except OSError:
                shutil.copyfile(record.path, temporary)
        on_bytes(shard.bytes)


def write_arrays(
    shards: Sequence[Shard], folder: Path, on_bytes: Callable[[int], None] = lambda n: None
) -> None:
    """Writes EIPL's arrays; ``task_dict.json`` numbers the instructions in the order of the alphabet.

    Args:
      shards: from ``plan_arrays``.
      folder: of the data set.
      on_bytes: is told how many bytes were dealt with since it was told last.

    Raises:
      DamagedSourceError: a file is not as it was written.
    """
    from episodes.eipl_arrays import write_eipl

    sentences = sorted({s.episode.instructions[0] for shard in shards for s in shard.records})
    task_dict = {str(i): sentence for i, sentence in enumerate(sentences)}

    def episodes() -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
        for shard in shards:
            for record in shard.records:
                _check(record)
                yield shard.split, read_npz(record.path)
                on_bytes(record.frame_bytes)

    arrays = folder / _ARRAYS
    if arrays.exists():
        shutil.rmtree(arrays)
    write_eipl(arrays, episodes(), task_dict)


def npz_statistics(shards: Sequence[Shard], fields: Sequence[str] | Mapping[str, Any]) -> DatasetStatistics:
    """Statistics of the episodes of NPZ files.

    Args:
      shards: of the split that is trained on.
      fields: that episodes have.
    """
    wanted = [f for f in STATISTICS_OF if f in fields]

    def episodes() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        for shard in shards:
            for record in shard.records:
                columns = read_npz(record.path)
                yield record.episode.id, {f: np.asarray(columns[f]) for f in wanted}

    return compute_statistics(episodes())


def _check(record: Record) -> None:
    try:
        found = tfrecord.file_crc(record.path)
    except FileNotFoundError as error:
        raise DamagedSourceError(record.key, str(error)) from error
    if found != record.episode.crc32c:
        raise DamagedSourceError(
            record.key,
            f"{record.path} must have the CRC {record.episode.crc32c:08x}. Received: {found:08x}",
        )
