"""A conversion's long part as an Apache Beam pipeline, for more recordings than one machine is for.

::

    paths | hash | by content, one of each | convert | all together | plan | shards | write

Each arrow may cross machines; recordings and OUT are on a disk that all of them mount. The pipeline works in
the folder that ``conversion.convert`` works in and leaves there what that would: converted
recordings, content hashes and shards. ``convert`` then finds its work done, checks it, and publishes. So
the result is that of a conversion on one machine, and what a pipeline could not do, ``convert`` does.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import cv2
from absl import logging
from apache_beam.options.pipeline_options import PipelineOptions

from episodes.conversion import assembly, manifest, shards, staging
from episodes.conversion.assembly import EIPL, RLDS, STAGED_AS
from episodes.conversion.manifest import Duplicate, Failure
from episodes.conversion.shards import Shard
from episodes.conversion.source_conversion import convert_source, reason
from episodes.conversion.sources import Source, hash_source, label_of
from episodes.conversion.staging import Opener, StagedSource
from episodes.conversion.workspace import Workspace, open_workspace
from episodes.settings import ConversionSettings


@dataclasses.dataclass(frozen=True)
class BeamJob:
    """What every worker knows.

    Attributes:
      settings: of the conversion.
      folder: in which it works, see ``episodes.conversion.workspace``.
      final: where the data set will be.
      name, version, format: of the data set.
      opener: opens a source; workers import its module.
      skip_untasked: whether sources without an instruction are left out.
    """

    settings: ConversionSettings
    folder: Path
    final: Path
    name: str
    version: str
    format: str
    opener: Opener
    skip_untasked: bool

    @property
    def workspace(self) -> Workspace:
        """The folder, which the launching process has locked."""
        return Workspace(self.folder, self.final)


def run_pipeline(paths: Sequence[Path], job: BeamJob, options: PipelineOptions) -> int:
    """Hashes and converts sources and writes shards, wherever the options' runner does; waits for it.

    Args:
      paths: of the sources.
      job: what to make of them; ``job.folder`` is ``OUT/.work-NAME``.
      options: Beam's own, such as the runner.

    Returns:
      How many sources it has converted.

    Raises:
      WorkspaceInUseError: another run makes this data set.
      ValueError: a foreign folder in the data set's place.
      RuntimeError, OSError: the pipeline failed as a whole. What it did is kept for the next run.
    """
    with open_workspace(job.folder.parent, job.name, job.final) as workspace:
        _published(job)  # A foreign folder is refused before any work.
        before = _keys(workspace)
        _run(paths, job, workspace, options)
        return len(_keys(workspace) - before)


def _run(paths: Sequence[Path], job: BeamJob, workspace: Workspace, options: PipelineOptions) -> None:
    with beam.Pipeline(options=options) as pipeline:
        found = (
            pipeline
            | "Sources" >> beam.Create(sorted({str(path.absolute()) for path in paths}))
            | "SpreadSources" >> beam.Reshuffle()
            | "Hash" >> beam.Map(_hash)
        )
        _ = (
            found
            | "AllHashes" >> beam.combiners.ToList()
            | "RememberHashes" >> beam.Map(_remember_hashes, workspace)
        )
        _ = (
            found
            | "ByContent" >> beam.GroupByKey()
            | "OneOfEach" >> beam.FlatMap(_one_of_each)
            | "SpreadContents" >> beam.Reshuffle()
            | "Convert" >> beam.ParDo(ConvertSource(job))
            | "Together" >> beam.combiners.ToList()
            | "Plan" >> beam.FlatMap(_plan, job)
            | "SpreadShards" >> beam.Reshuffle()
            | "WriteShard" >> beam.MapTuple(_write_shard)
        )


def _hash(path: str) -> tuple[str, Source | Failure]:
    """A source under its content hash, or what is wrong with it under its path."""
    source = Path(path)
    try:
        hashed = hash_source(source)
    except (OSError, ValueError) as error:
        return path, Failure(label_of(source), reason(error, source))
    return hashed.sha256, hashed


def _remember_hashes(found: Iterable[tuple[str, Source | Failure]], workspace: Workspace) -> None:
    sources = [source for _, source in found if isinstance(source, Source)]
    fresh = {str(s.path): {"stamp": s.stamp, "sha256": s.sha256} for s in sources}
    workspace.save_hashes({**workspace.load_hashes(), **fresh})


def _one_of_each(
    same: tuple[str, Iterable[Source | Failure]],
) -> Iterator[Source | Failure | Duplicate]:
    """The first by name of the sources of one content; of the others, that they are like it."""
    sources = []
    for item in same[1]:
        if isinstance(item, Failure):
            yield item
        else:
            sources.append(item)
    sources.sort(key=lambda s: (s.label, s.path))
    yield from sources[:1]
    for source in sources[1:]:
        yield Duplicate(source.label, sources[0].label)


class ConvertSource(beam.DoFn):
    """Converts one source, unless that is done; everything else passes through."""

    def __init__(self, job: BeamJob) -> None:
        super().__init__()
        self._job = job
        self._published: manifest.Published | None = None

    def setup(self) -> None:
        self._published = _published(self._job)
        cv2.setNumThreads(1)  # The runner decides how much of a machine is used.

    def process(self, item: Source | Failure | Duplicate) -> Iterator[StagedSource | Failure | Duplicate]:
        yield self._convert(item) if isinstance(item, Source) else item

    def _convert(self, source: Source) -> StagedSource | Failure:
        job = self._job
        staged_as, folder = STAGED_AS[job.format], job.workspace.staged
        key = staging.source_key(source, job.settings, staged_as)
        if self._published is not None and key in self._published.sources:
            return self._published.sources[key]
        there = staging.load_staged(folder, key)
        if there is not None:
            return there
        job.workspace.discard(key)
        converted = convert_source(source, job.settings, folder, staged_as, job.opener)
        if isinstance(converted, Failure):
            # A runner may have the same work done twice at once; the second then finds it done.
            return staging.load_staged(folder, key) or converted
        return converted


def _plan(items: Sequence[StagedSource | Failure | Duplicate], job: BeamJob) -> Iterator[tuple[Shard, Path]]:
    """The shards to write, each with the folder; none where ``convert`` has to decide something first."""
    staged = [item for item in items if isinstance(item, StagedSource)]
    failures = [item for item in items if isinstance(item, Failure)]
    duplicates = [item for item in items if isinstance(item, Duplicate)]
    published = _published(job)
    given = {s.key for s in staged}
    if (
        job.format != RLDS  # The others are put together of links and of one array.
        or not staged
        or (any(f.untasked for f in failures) and not job.skip_untasked)
        or (published is not None and not published.sources.keys() <= given)
    ):
        return
    workspace = job.workspace
    records = {s.key: assembly.records_of(s, workspace.staged, published, job.final) for s in staged}
    try:
        plan = assembly.plan_dataset(
            staged,
            records,
            name=job.name,
            version=job.version,
            format=job.format,
            settings=job.settings,
            failures=failures,
            duplicates=duplicates,
        )
    except ValueError as error:
        logging.warning("No shards are written yet: %s", error)
        return
    if assembly.is_published(plan, published, job.final):
        return
    build = workspace.build_folder(manifest.fingerprint(plan.manifest))
    for shard in plan.shards:
        yield shard, build


def _write_shard(shard: Shard, folder: Path) -> None:
    try:
        shards.write_shard(shard, folder)
    except shards.DamagedSourceError as error:
        logging.warning("%s It will be converted again.", error)


def _keys(workspace: Workspace) -> set[str]:
    """Of what is staged."""
    return {folder.name for folder in workspace.staged.iterdir()}


def _published(job: BeamJob) -> manifest.Published | None:
    """The data set of an earlier run."""
    return None if job.format == EIPL else manifest.read_published(job.final)
