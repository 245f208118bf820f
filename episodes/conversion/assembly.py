"""A data set put together from converted sources: planned first, then written, published by the caller."""

import collections
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from episodes import splits
from episodes.conversion import manifest, npz_folder, rlds_features, shards
from episodes.conversion.episode_sinks import NPZ, RLDS
from episodes.conversion.manifest import Duplicate, Failure, Place, Published
from episodes.conversion.rlds_features import Signature
from episodes.conversion.shards import Record, Shard
from episodes.conversion.staging import StagedSource, episode_file
from episodes.conversion.tfrecord import FRAME_BYTES
from episodes.settings import ConversionSettings

EIPL = "eipl"
FORMATS = (RLDS, NPZ, EIPL)
# In which form sources are staged.
STAGED_AS: Mapping[str, str] = {RLDS: RLDS, NPZ: NPZ, EIPL: NPZ}


@dataclasses.dataclass(frozen=True)
class DatasetPlan:
    """A data set before it is written.

    Attributes:
      manifest: its ``conversion.json``.
      signature: of its episodes.
      sources: what is in it.
      shards: its files; of the other formats than ``rlds`` one record a file.
      failures: sources that are not in it.
      disagreeing: keys of those failures that are staged, but unlike the others.
    """

    manifest: Mapping[str, Any]
    signature: Signature
    sources: tuple[StagedSource, ...]
    shards: tuple[Shard, ...]
    failures: tuple[Failure, ...]
    disagreeing: frozenset[str]

    @property
    def format(self) -> str:
        """One of ``FORMATS``."""
        return self.manifest["format"]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(shard.bytes for shard in self.shards)


def records_of(
    source: StagedSource, staged: Path, published: Published | None, published_folder: Path
) -> list[Record]:
    """Where the episodes of a source are: in the data set that is there already, or staged.

    Args:
      source: converted.
      staged: folder of all staged sources.
      published: the data set that is there.
      published_folder: its folder.
    """
    if published is not None and source.key in published.sources:
        places, offsets = published.places, published.offsets
        return [
            Record(source.key, e, published_folder / places[e.id].file, offsets[e.id])
            for e in source.episodes
        ]
    return [Record(source.key, e, episode_file(staged, source, e)) for e in source.episodes]


def plan_dataset(
    sources: Sequence[StagedSource],
    records: Mapping[str, Sequence[Record]],
    *,
    name: str,
    version: str,
    format: str,
    settings: ConversionSettings,
    failures: Sequence[Failure] = (),
    duplicates: Sequence[Duplicate] = (),
    signature: Signature | None = None,
) -> DatasetPlan:
    """Decides what goes where; the same arguments, in any order, give the same plan.

    Args:
      sources: converted; at least one.
      records: key of a source -> its episodes' records.
      name, version, format: of the data set.
      settings: splits and sizes of shards.
      failures, duplicates: for the manifest.
      signature: that sources must have; None takes that of most of them.

    Raises:
      ValueError: no episode fell into the split that is trained on.
    """
    ordered = sorted(sources, key=lambda s: (s.label, s.sha256))
    common = signature or _most_common(ordered)
    agreeing = [s for s in ordered if s.signature == common]
    disagreeing = {s.key: _disagreement(s, common, len(agreeing)) for s in ordered if s.signature != common}
    failures = (*failures, *disagreeing.values())
    if not agreeing:
        raise ValueError(
            f"No source is like the data set. Received: {[f.reason for f in disagreeing.values()]}"
        )
    by_id = {record.episode.id: record for source in agreeing for record in records[source.key]}
    members = shards.assign_splits(by_id, settings.fractions, settings.split_salt)
    per_split = {split: [by_id[i] for i in ids] for split, ids in members.items()}
    if format == RLDS:
        files = shards.plan_shards(per_split, name, settings.max_shard_bytes)
    elif format == NPZ:
        files = npz_folder.plan_files(per_split, {s.key: s for s in agreeing})
    else:
        files = npz_folder.plan_arrays(per_split)
    places = {
        record.episode.id: Place(shard.split, shard.file, index)
        for shard in files
        for index, record in enumerate(shard.records)
    }
    content = manifest.make_manifest(
        name=name,
        version=version,
        format=format,
        settings=settings,
        signature=common,
        sources=agreeing,
        places=places,
        failures=failures,
        duplicates=duplicates,
    )
    return DatasetPlan(content, common, tuple(agreeing), tuple(files), failures, frozenset(disagreeing))


def write_dataset(plan: DatasetPlan, folder: Path, on_bytes: Callable[[int], None] = lambda n: None) -> None:
    """Writes a whole data set into a folder; what an earlier, killed call has finished there is kept.

    Raises:
      DamagedSourceError: a record is not as it was written; it names the source.
      OSError: writing failed.
    """
    if plan.format == RLDS:
        for shard in plan.shards:
            shards.write_shard(shard, folder, on_bytes)
    elif plan.format == NPZ:
        npz_folder.link_episodes(plan.shards, folder, on_bytes)
    else:
        npz_folder.write_arrays(plan.shards, folder, on_bytes)
    finish_dataset(plan, folder)


def finish_dataset(plan: DatasetPlan, folder: Path) -> None:
    """Writes what stands beside the shards: features, statistics, reports and the manifest.

    Raises:
      DamagedSourceError: a record is not as it was written; it names the source.
    """
    training = [s for s in plan.shards if s.split == splits.TRAIN]
    if plan.format == RLDS:
        sizes: dict[str, tuple[list[int], int]] = {}
        for shard in plan.shards:
            lengths, size = sizes.get(shard.split, ([], 0))
            data = sum(r.episode.bytes for r in shard.records)
            sizes[shard.split] = ([*lengths, len(shard.records)], size + data)
        name, version = plan.manifest["name"], plan.manifest["version"]
        rlds_features.write_metadata(folder, name, version, plan.signature, sizes)
        if training:
            found = shards.shard_statistics(training, plan.signature.columns)
            found.save(folder / shards.STATISTICS_FILE)
    elif training:
        found = npz_folder.npz_statistics(training, plan.signature.columns)
        found.save(folder / shards.STATISTICS_FILE)
    manifest.write_manifest(folder, plan.manifest, plan.sources)


def is_published(plan: DatasetPlan, published: Published | None, folder: Path) -> bool:
    """Whether a folder holds just this data set, all its files in their sizes."""
    if published is None or manifest.fingerprint(published.manifest) != manifest.fingerprint(plan.manifest):
        return False
    if plan.format == EIPL:
        return all((folder / shard.file).is_file() for shard in plan.shards)
    return all(
        (folder / shard.file).is_file()
        and (folder / shard.file).stat().st_size == shard.bytes - (0 if plan.format == RLDS else FRAME_BYTES)
        for shard in plan.shards
    )


def _most_common(sources: Sequence[StagedSource]) -> Signature:
    counts = collections.Counter(json.dumps(s.signature.to_json(), sort_keys=True) for s in sources)
    # The first of equals, in the order of labels.
    return Signature.from_json(json.loads(counts.most_common(1)[0][0]))


def _disagreement(source: StagedSource, common: Signature, others: int) -> Failure:
    differences = "; ".join(source.signature.differences(common))
    return Failure(source.label, f"It is unlike the {others} others of the data set: {differences}")
