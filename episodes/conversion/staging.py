"""One source on its way into a data set: converted alone into a folder of its own, complete or not there.

A staged source is a folder ``KEY/`` of one file an episode (a TFRecord of one record, or an NPZ) and
``source.json``. The key is a digest of all that decides its content, so a later run finds what an earlier one
has done. Nothing here imports TensorFlow: this runs in many small worker processes.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from core import files
from episodes.conversion import rlds_features, tfrecord
from episodes.conversion.episode_sinks import RLDS, SUFFIX, IncomingEpisode, NpzSink, RldsSink, encoder_of
from episodes.conversion.rlds_features import Signature
from episodes.conversion.sources import Source, stamp_of
from episodes.episode import FIELDS, LANGUAGE_INSTRUCTION
from episodes.episode_stream import EpisodeStream, Frame, PlannedEpisode
from episodes.images.encoding import encoding_of
from episodes.settings import ConversionSettings
from episodes.tasks import MissingTaskError

SOURCE_FILE = "source.json"
# Raised whenever the same episode gives other bytes: what was staged by an earlier version is stale then.
LAYOUT_VERSION = 1
_NAME = re.compile(r"[\w.-]+")

Opener = Callable[[Path, ConversionSettings], AbstractContextManager[EpisodeStream]]


@dataclasses.dataclass(frozen=True)
class StagedEpisode:
    """One converted episode.

    Attributes:
      name: in its source.
      id: unique for good: from the source's content and the name.
      steps: T.
      instructions: the different ones, in order.
      bytes, crc32c: of the record's data, or of the NPZ file.
      report: how well the topics were in step.
    """

    name: str
    id: str
    steps: int
    instructions: tuple[str, ...]
    bytes: int
    crc32c: int
    report: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StagedSource:
    """One converted source.

    Attributes:
      key: see ``source_key``.
      label, sha256, size: of the source.
      format: ``rlds`` or ``npz``.
      signature: of all its episodes.
      episodes: at least one.
      report: of the source as a whole.
    """

    key: str
    label: str
    sha256: str
    size: int
    format: str
    signature: Signature
    episodes: tuple[StagedEpisode, ...]
    report: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "signature": self.signature.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "StagedSource":
        """The inverse of ``to_json``.

        Raises:
          ValueError: anything else.
        """
        try:
            episodes = tuple(
                StagedEpisode(**{**e, "instructions": tuple(e["instructions"])}) for e in value["episodes"]
            )
            signature = Signature.from_json(value["signature"])
            return cls(**{**value, "signature": signature, "episodes": episodes})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"Not a staged source: {error!r}. Received: {str(value)[:200]}") from error


def source_key(source: Source, settings: ConversionSettings, format: str) -> str:
    """Digest of all that decides what a source becomes."""
    parts = [LAYOUT_VERSION, format, source.label, source.sha256, settings.fingerprint(source.path)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def episode_file(folder: Path, staged: StagedSource, episode: StagedEpisode) -> Path:
    """Where a staged episode lies below the folder of all staged sources."""
    return folder / staged.key / f"{episode.name}{SUFFIX[staged.format]}"


def load_staged(folder: Path, key: str) -> StagedSource | None:
    """A staged source, if it is there and none of its files was lost, cut off or changed in size.

    Args:
      folder: of all staged sources.
      key: of the source.
    """
    try:
        staged = StagedSource.from_json(files.read_json(folder / key / SOURCE_FILE))
        frame = tfrecord.FRAME_BYTES if staged.format == RLDS else 0
        whole = all(
            episode_file(folder, staged, e).stat().st_size == e.bytes + frame for e in staged.episodes
        )
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return staged if whole and staged.key == key else None


def stage_source(
    source: Source,
    settings: ConversionSettings,
    folder: Path,
    format: str,
    opener: Opener,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> StagedSource:
    """Converts one source.

    Args:
      source: what to convert.
      settings: how.
      folder: of all staged sources; the source's own is made in it, all at once.
      format: ``rlds`` or ``npz``.
      opener: ``episodes.bag_episodes.open_source``, or a function like it.
      on_progress: is told the fraction of frames that were written.

    Raises:
      MissingTaskError: an episode has no instruction.
      ValueError: the source is damaged, is refused, or changed meanwhile.
      OSError: reading or writing failed.
    """
    key = source_key(source, settings, format)
    with files.atomic_folder(folder / key) as temporary, opener(source.path, settings) as stream:
        signature = _common_signature(source, stream, settings)
        episodes = [
            IncomingEpisode(planned, f"{source.sha256[:16]}-{planned.name}") for planned in stream.episodes
        ]
        total, done = sum(e.missing for e in episodes), 0
        with ExitStack() as stack:
            sink = (
                stack.enter_context(RldsSink(temporary, source, settings, signature))
                if format == RLDS
                else stack.enter_context(NpzSink(temporary))
            )
            written = {e.id: sink.write(e) for e in episodes if not e.missing}
            for frame in stream.frames():
                episode = episodes[_index(frame, len(episodes))]
                episode.fill(frame)
                sink.put(episode, frame)
                if not episode.missing:
                    written[episode.id] = sink.write(episode)
                done += len(frame.steps)
                on_progress(done / total)
            for episode in episodes:
                episode.require_full()
        if stamp_of(source.path) != (source.size, source.stamp):
            raise ValueError("The recording changed while it was read. Is it still being recorded or copied?")
        staged = StagedSource(
            key=key,
            label=source.label,
            sha256=source.sha256,
            size=source.size,
            format=format,
            signature=signature,
            episodes=tuple(_staged(e, *written[e.id]) for e in episodes),
            report=_without_folder(stream.report, source),
        )
        files.write_json(temporary / SOURCE_FILE, staged.to_json())
    return staged


def _staged(episode: IncomingEpisode, size: int, crc: int) -> StagedEpisode:
    planned = episode.planned
    texts = dict.fromkeys(str(t) for t in planned.columns[LANGUAGE_INSTRUCTION].tolist())
    report = dict(planned.report)
    return StagedEpisode(planned.name, episode.id, planned.steps, tuple(texts), size, crc, report)


def _common_signature(source: Source, stream: EpisodeStream, settings: ConversionSettings) -> Signature:
    if not stream.episodes:
        refused = [str(r) for r in stream.report.get("refused", ())]
        raise ValueError("; ".join(refused) or "There is no episode in it.")
    names = [planned.name for planned in stream.episodes]
    if len(set(names)) != len(names) or not all(_NAME.fullmatch(name) for name in names):
        raise ValueError(f"Episodes must have different names of letters and digits. Received: {names}")
    without = [p.name for p in stream.episodes if not _has_task(p)]
    if without:
        raise MissingTaskError(
            f"No task is given for {', '.join(f'{source.path}#{name}' for name in without)}"
        )
    encodings = {f.path: encoding_of(f.path, settings.colour_encoding) for f in FIELDS}
    identity, size = "", 0
    if settings.encoder_source is not None:
        encoder = encoder_of(settings.encoder_source)
        identity, size = encoder.identity, encoder.size
    signatures = [
        rlds_features.signature_of(planned, encodings, identity, size) for planned in stream.episodes
    ]
    for planned, signature in zip(stream.episodes, signatures, strict=True):
        if signature != signatures[0]:
            differences = signature.differences(signatures[0])
            raise ValueError(
                f"All episodes of a recording must be alike. "
                f"Received: in {planned.name}, {'; '.join(differences)}"
            )
    return signatures[0]


def _without_folder(report: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """The report with the source's label for its path: data sets are the same wherever they are made."""
    path, label = (json.dumps(text)[1:-1] for text in (str(source.path), source.label))
    return json.loads(json.dumps(report, allow_nan=False).replace(path, label))


def _has_task(planned: PlannedEpisode) -> bool:
    instructions = planned.columns.get(LANGUAGE_INSTRUCTION)
    return instructions is not None and all(str(text).strip() for text in instructions.tolist())


def _index(frame: Frame, episodes: int) -> int:
    if not 0 <= frame.episode < episodes:
        raise ValueError(f"A frame must be of one of {episodes} episodes. Received: {frame.episode}")
    return frame.episode
