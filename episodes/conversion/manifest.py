"""``conversion.json``: what became of every source, and where each episode stands in the data set."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from core import files
from episodes.conversion import tfrecord
from episodes.conversion.rlds_features import Signature
from episodes.conversion.staging import StagedEpisode, StagedSource
from episodes.settings import SPLITS, ConversionSettings

MANIFEST_FILE, REPORTS = "conversion.json", "reports"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an episode is in a data set.

    Attributes:
      split: its split.
      file: the shard or NPZ, below the data set's folder.
      index: in the file.
    """

    split: str
    file: str
    index: int = 0


@dataclasses.dataclass(frozen=True)
class Failure:
    """A source that is not in the data set.

    Attributes:
      label: of the source.
      reason: why.
      untasked: whether only an instruction is missing.
    """

    label: str
    reason: str
    untasked: bool = False


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """A source that holds the very bytes of another one.

    Attributes:
      label: of the source that is left out.
      same_as: of the one that is not.
    """

    label: str
    same_as: str


def make_manifest(
    *,
    name: str,
    version: str,
    format: str,
    settings: ConversionSettings,
    signature: Signature,
    sources: Sequence[StagedSource],
    places: Mapping[str, Place],
    failures: Sequence[Failure],
    duplicates: Sequence[Duplicate],
) -> dict[str, Any]:
    """The manifest's content; it depends on sources and settings alone.

    Args:
      name, version, format: of the data set.
      settings: that it was made with.
      signature: of its episodes.
      sources: what is in it.
      places: episode id -> where it stands.
      failures, duplicates: what is not in it.
    """
    splits: dict[str, dict[str, Any]] = {}
    for source in sources:
        for episode in source.episodes:
            place = places[episode.id]
            split = splits.setdefault(place.split, {"episodes": 0, "steps": 0, "files": set()})
            split["episodes"] += 1
            split["steps"] += episode.steps
            split["files"].add(place.file)
    return {
        "name": name,
        "version": version,
        "format": format,
        "settings": {
            **settings.to_json(),
            "fractions": dict(settings.fractions),
            "split_salt": settings.split_salt,
            "max_shard_bytes": settings.max_shard_bytes,
        },
        "signature": signature.to_json(),
        "splits": {s: {**splits[s], "files": sorted(splits[s]["files"])} for s in SPLITS if s in splits},
        "sources": [_source_entry(source, places) for source in sorted(sources, key=_by_label)],
        "failed": [dataclasses.asdict(f) for f in sorted(failures, key=lambda f: (f.label, f.reason))],
        "duplicates": [dataclasses.asdict(d) for d in sorted(duplicates, key=lambda d: (d.label, d.same_as))],
    }


def fingerprint(manifest: Mapping[str, Any]) -> str:
    """Hexadecimal digest of a manifest."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any], sources: Sequence[StagedSource]) -> None:
    """Writes the manifest and the sources' reports into the data set's folder."""
    (folder / REPORTS).mkdir(exist_ok=True)
    for source in sources:
        report = {
            "path": source.label,
            "sha256": source.sha256,
            "report": source.report,
            "episodes": {e.name: e.report for e in source.episodes},
        }
        files.write_json(folder / REPORTS / _report_name(source), report)
    files.write_json(folder / MANIFEST_FILE, manifest)


@dataclasses.dataclass(frozen=True)
class Published:
    """A data set that is there already.

    Attributes:
      manifest: as it was written.
      sources: key -> what is in it.
      offsets: episode id -> where its record begins in its file.
      places: episode id -> where it is.
    """

    manifest: Mapping[str, Any]
    sources: Mapping[str, StagedSource]
    offsets: Mapping[str, int]
    places: Mapping[str, Place]


def read_published(folder: Path) -> Published | None:
    """Reads the data set of an earlier run; None where there is none.

    Raises:
      ValueError: the folder holds something else.
    """
    if not folder.exists():
        return None
    if not (folder / MANIFEST_FILE).exists():
        raise ValueError(
            f"{folder} must be free, or a data set that this command wrote. Received: a folder without "
            f"{MANIFEST_FILE}"
        )
    manifest = files.read_json(folder / MANIFEST_FILE)
    try:
        return _parse(folder, manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / MANIFEST_FILE} is no manifest of a data set: {error!r}") from error


def _parse(folder: Path, manifest: Mapping[str, Any]) -> Published:
    signature = Signature.from_json(manifest["signature"])
    sources: dict[str, StagedSource] = {}
    places: dict[str, Place] = {}
    for entry in manifest["sources"]:
        report = files.read_json(folder / REPORTS / entry["report"])
        episodes = []
        for e in entry["episodes"]:
            places[e["id"]] = Place(e["split"], e["file"], e["index"])
            episodes.append(
                StagedEpisode(
                    name=e["name"],
                    id=e["id"],
                    steps=e["steps"],
                    instructions=tuple(e["instructions"]),
                    bytes=e["bytes"],
                    crc32c=int(e["crc32c"], 16),
                    report=report["episodes"][e["name"]],
                )
            )
        sources[entry["key"]] = StagedSource(
            key=entry["key"],
            label=entry["path"],
            sha256=entry["sha256"],
            size=entry["bytes"],
            format=manifest["format"],
            signature=signature,
            episodes=tuple(episodes),
            report=report["report"],
        )
    sizes = {e.id: e.bytes + tfrecord.FRAME_BYTES for s in sources.values() for e in s.episodes}
    offsets: dict[str, int] = {}
    ends: dict[str, int] = {}
    for episode_id in sorted(places, key=lambda i: (places[i].file, places[i].index)):
        offsets[episode_id] = ends.get(places[episode_id].file, 0)
        ends[places[episode_id].file] = offsets[episode_id] + sizes[episode_id]
    return Published(manifest, sources, offsets, places)


def _source_entry(source: StagedSource, places: Mapping[str, Place]) -> dict[str, Any]:
    return {
        "path": source.label,
        "sha256": source.sha256,
        "bytes": source.size,
        "key": source.key,
        "report": _report_name(source),
        "refused": [str(r) for r in source.report.get("refused", ())],
        "episodes": [
            {
                "name": e.name,
                "id": e.id,
                "steps": e.steps,
                "instructions": list(e.instructions),
                **dataclasses.asdict(places[e.id]),
                "bytes": e.bytes,
                "crc32c": f"{e.crc32c:08x}",
            }
            for e in source.episodes
        ],
    }


def _report_name(source: StagedSource) -> str:
    return f"{PurePosixPath(source.label).stem}-{source.sha256[:8]}.json"


def _by_label(source: StagedSource) -> tuple[str, str]:
    return source.label, source.sha256
