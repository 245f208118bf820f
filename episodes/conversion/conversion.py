"""A conversion from sources to a published data set: on several processes, resumable, killable.

The steps are functions of their own, so that another runner can call them elsewhere:
``sources.hash_source`` and ``source_conversion.convert_source`` (each source alone),
``assembly.plan_dataset``, ``shards.write_shard`` (each shard alone), ``assembly.finish_dataset``,
``Workspace.publish``.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from episodes.conversion import assembly, manifest, source_conversion, staging
from episodes.conversion.assembly import EIPL, FORMATS, RLDS, STAGED_AS, DatasetPlan
from episodes.conversion.conversion_report import ConversionReport, line_of
from episodes.conversion.dataset_name import check_name
from episodes.conversion.episode_sinks import encoder_of
from episodes.conversion.manifest import Failure, Published
from episodes.conversion.progress_bar import bytes_bar
from episodes.conversion.shards import DamagedSourceError
from episodes.conversion.source_hashes import Found, find_sources
from episodes.conversion.staging import Opener, StagedSource
from episodes.conversion.workspace import Workspace, open_workspace
from episodes.settings import ConversionSettings

REFUSE_ABSENT, KEEP_ABSENT, DROP_ABSENT = "refuse", "keep", "drop"
_VERSION = re.compile(r"\d+\.\d+\.\d+")


class UntaskedError(ValueError):
    """Episodes without an instruction; all of them are listed, and nothing was published."""


class AbsentSourcesError(ValueError):
    """The data set holds sources that are not among those given, and cannot be added to as it was told."""


def final_folder(out: Path, name: str, version: str, format: str) -> Path:
    """Where a data set is published.

    Raises:
      ValueError: TFDS can read no data set of such a name or version, or there is no such format.
    """
    check_name(name, for_tfds=format == RLDS)
    if not _VERSION.fullmatch(version):
        raise ValueError(f"A data set's version is like 1.0.0. Received: {version!r}")
    if format not in FORMATS:
        raise ValueError(f"The format must be one of {list(FORMATS)}. Received: {format!r}")
    return out / name / version if format == RLDS else out / name


def convert(
    paths: Sequence[Path],
    settings: ConversionSettings,
    out: Path,
    name: str,
    *,
    workers: int | None = None,
    format: str = RLDS,
    version: str = "1.0.0",
    absent: str = REFUSE_ABSENT,
    skip_untasked: bool = False,
    opener: Opener | None = None,
) -> ConversionReport:
    """Converts recordings to a data set, or adds recordings to one.

    What was converted before, with the same settings, is not converted again, whether by a run that was
    killed or by the one that made the data set that is there. The result depends on sources and settings
    alone.

    Args:
      paths: of the sources: bags, and NPZ files of episodes.
      settings: of everything about them.
      out: folder of data sets.
      name: of the data set: small letters, digits, ``_``.
      workers: processes; None for one a core, 0 for none but this one.
      format: ``rlds`` (``OUT/NAME/VERSION``), ``npz`` or ``eipl`` (``OUT/NAME``).
      version: of the data set, as TFDS names its folder.
      absent: what to do when the data set that is there has sources whose content is not among ``paths``:
        ``refuse``, ``keep`` or ``drop`` them. A recording of the same name with other content is another
        one: nobody can tell whether it was made again, or on another day.
      skip_untasked: leave out sources without an instruction rather than publish nothing.
      opener: opens a source; None for ``episodes.bag_episodes.open_source``. Workers import its module.

    Raises:
      UntaskedError: an instruction is missing.
      AbsentSourcesError: ``absent`` is ``refuse``, and there are some; or it is ``keep``, and they were
        converted with other settings.
      WorkspaceInUseError: another run makes this data set.
      ValueError: wrong arguments, or a foreign folder in the data set's place.
      OSError: the disk is full, for example. What was converted is kept for the next run.
    """
    final = final_folder(out, name, version, format)
    if absent not in (REFUSE_ABSENT, KEEP_ABSENT, DROP_ABSENT):
        raise ValueError(
            f"absent must be {REFUSE_ABSENT!r}, {KEEP_ABSENT!r} or {DROP_ABSENT!r}. Received: {absent!r}"
        )
    if not paths:
        raise ValueError("There must be at least one source. Received: none")
    workers = source_conversion.default_workers() if workers is None else workers
    if workers < 0:
        raise ValueError(f"workers must be at least 0. Received: {workers}")
    opener = opener or source_conversion.default_opener()
    if settings.encoder_source is not None:
        encoder_of(settings.encoder_source)  # A wrong name fails here, once, and not with every source.
    with open_workspace(out, name, final) as workspace:
        published = manifest.read_published(final)
        if published is not None and published.manifest["format"] != format:
            raise ValueError(
                f"{final} holds a data set of the format {published.manifest['format']!r}: choose another "
                f"name. "
                f"Received: {format!r}"
            )
        found = find_sources(paths, workspace, workers)
        kept = _absent_sources(published, found, absent, settings, final)
        run = _Run(settings, workspace, final, published, found, kept, name, version, format, skip_untasked)
        return run.until_published(workers, opener)


@dataclasses.dataclass
class _Run:
    """What one call of ``convert`` knows, once its sources are found."""

    settings: ConversionSettings
    workspace: Workspace
    final: Path
    published: Published | None
    found: Found
    kept: tuple[StagedSource, ...]
    name: str
    version: str
    format: str
    skip_untasked: bool

    def until_published(self, workers: int, opener: Opener) -> ConversionReport:
        damaged: set[str] = set()
        converted = 0
        while True:
            staged, failures, fresh = self._stage(workers, opener)
            converted += fresh
            if not staged:
                return ConversionReport(None, (), failures, self.found.duplicates, {})
            plan = self._plan(staged, failures)
            if assembly.is_published(plan, self.published, self.final):
                self._clean(plan)
                return self._report(plan, converted, unchanged=True)
            try:
                self._publish(plan)
            except DamagedSourceError as error:
                if error.key in damaged or error.key in {s.key for s in self.kept}:
                    raise
                # What is damaged is converted again, once.
                damaged.add(error.key)
                self._forget(error.key)
                logging.warning("%s It is converted again.", error)
                continue
            self._clean(plan)
            return self._report(plan, converted, unchanged=False)

    def _stage(self, workers: int, opener: Opener) -> tuple[list[StagedSource], tuple[Failure, ...], int]:
        staged, todo = list(self.kept), []
        for source in self.found.sources:
            key = staging.source_key(source, self.settings, STAGED_AS[self.format])
            there = self._reusable(key) or staging.load_staged(self.workspace.staged, key)
            if there is None:
                self.workspace.discard(key)
                todo.append(source)
            else:
                staged.append(there)
        failures, fresh = list(self.found.failures), 0
        for result in source_conversion.convert_all(
            todo, self.settings, self.workspace.staged, STAGED_AS[self.format], workers, opener
        ):
            if isinstance(result, Failure):
                failures.append(result)
            else:
                staged.append(result)
                fresh += 1
        untasked = sorted((f for f in failures if f.untasked), key=lambda f: f.label)
        if untasked and not self.skip_untasked:
            listed = "\n".join(f"  {f.label}: {f.reason}" for f in untasked)
            raise UntaskedError(
                f"{len(untasked)} sources have episodes without an instruction, and nothing was published:\n"
                f"{listed}"
            )
        return staged, tuple(failures), fresh

    def _plan(self, staged: Sequence[StagedSource], failures: Sequence[Failure]) -> DatasetPlan:
        usable = None if self.format == EIPL else self.published
        records = {s.key: assembly.records_of(s, self.workspace.staged, usable, self.final) for s in staged}
        return assembly.plan_dataset(
            staged,
            records,
            name=self.name,
            version=self.version,
            format=self.format,
            settings=self.settings,
            failures=failures,
            duplicates=self.found.duplicates,
            signature=self.kept[0].signature if self.kept else None,
        )

    def _publish(self, plan: DatasetPlan) -> None:
        build = self.workspace.build_folder(manifest.fingerprint(plan.manifest))
        with bytes_bar(plan.bytes, "writing") as bar:
            assembly.write_dataset(plan, build, bar.update)
        self.workspace.publish(build)

    def _reusable(self, key: str) -> StagedSource | None:
        if self.published is None or self.format == EIPL:
            return None
        return self.published.sources.get(key)

    def _forget(self, key: str) -> None:
        self.workspace.discard(key)
        if self.published is not None:
            sources = {k: s for k, s in self.published.sources.items() if k != key}
            # Its shards stay where they are, for the others.
            self.published = dataclasses.replace(self.published, sources=sources)

    def _clean(self, plan: DatasetPlan) -> None:
        # EIPL's arrays cannot be taken apart again; and who is unlike the others may be like the next ones.
        useful = set(plan.disagreeing) | ({s.key for s in plan.sources} if self.format == EIPL else set())
        for folder in self.workspace.staged.iterdir():
            if folder.name not in useful:
                self.workspace.discard(folder.name)

    def _report(self, plan: DatasetPlan, converted: int, *, unchanged: bool) -> ConversionReport:
        lines = tuple(line_of(s) for s in plan.sources)
        splits = plan.manifest["splits"]
        return ConversionReport(
            self.final, lines, plan.failures, self.found.duplicates, splits, converted, unchanged
        )


def _absent_sources(
    published: Published | None, found: Found, absent: str, settings: ConversionSettings, final: Path
) -> tuple[StagedSource, ...]:
    if published is None:
        return ()
    given = {s.sha256 for s in found.sources}
    gone = [s for s in published.sources.values() if s.sha256 not in given]
    if gone and absent == REFUSE_ABSENT:
        raise AbsentSourcesError(
            f"{final} holds {len(gone)} sources that were not given or cannot be read: give them too, or say "
            f"whether to keep (--keep_absent) or to drop (--drop_absent) them. "
            f"Received: without {', '.join(sorted(s.label for s in gone))}"
            + "".join(f"; {text}" for text in _namesakes(gone, found))
            + "".join(f"; {f.label}: {f.reason}" for f in found.failures)
        )
    if not gone or absent != KEEP_ABSENT:
        return ()
    if published.manifest["format"] == EIPL:
        raise ValueError(
            f"EIPL's arrays cannot be added to without their sources. Received: absent={absent!r}"
        )
    others = _differences(published.manifest["settings"], json.loads(json.dumps(settings.to_json())))
    if others:
        raise AbsentSourcesError(
            f"{final} holds {len(gone)} sources that were not given and were converted with other settings: "
            f"keep the settings, give the sources too, or choose another --name. "
            f"Received: {', '.join(others)}; without {', '.join(sorted(s.label for s in gone))}"
        )
    return tuple(gone)


def _namesakes(gone: Sequence[StagedSource], found: Found) -> list[str]:
    """What to say of given sources that are called like absent ones."""
    return [
        f"{new.path} is called {old.label}, too, but its content is another (SHA-256 {new.sha256[:8]}… "
        f"instead of {old.sha256[:8]}…): --keep_absent keeps both, --drop_absent puts it in the other's place"
        for old in sorted(gone, key=lambda s: (s.label, s.sha256))
        for new in found.sources
        if new.label == old.label
    ]


def _differences(former: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One sentence part for each setting of ``now``, as JSON, that is not as it was."""
    found = []
    for name, value in now.items():
        before = former.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            missing = dict.fromkeys(before.keys() - value.keys())
            found += _differences(before, {**value, **missing}, f"{prefix}{name}.")
        elif value != before:
            found.append(f"{prefix}{name} is {value} instead of {before}")
    return sorted(found)
