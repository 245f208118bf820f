"""What a conversion did, for people: a line for each source, failures with their reasons."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from episodes.conversion.manifest import REPORTS, Duplicate, Failure
from episodes.conversion.staging import StagedSource

ALL_GOOD, SOME_FAILED, NOTHING = 0, 1, 2
# Of reports; each a list of sentences.
_SENTENCES = ("violations", "warnings", "notes")
_MOST_WARNINGS = 40  # On the console.


@dataclasses.dataclass(frozen=True)
class SourceLine:
    """One source that is in the data set, or would be.

    Attributes:
      label: folder and name.
      episodes, steps: how many.
      skew_ms: the largest distance in time of anything from its step; None where nobody measured it.
      warnings: one sentence each.
      refused: reasons of episodes that were left out.
    """

    label: str
    episodes: int
    steps: int
    skew_ms: float | None
    warnings: tuple[str, ...]
    refused: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What a run did.

    Attributes:
      folder: of the data set; None where none was published.
      sources: what is in it.
      failures: what is not, and why.
      duplicates: what is in it under another name.
      splits: split -> {"episodes": …, "steps": …}.
      converted: how many sources were converted by this run; the others had been before.
      unchanged: whether the data set was there just so.
    """

    folder: Path | None
    sources: tuple[SourceLine, ...]
    failures: tuple[Failure, ...]
    duplicates: tuple[Duplicate, ...]
    splits: Mapping[str, Mapping[str, Any]]
    converted: int = 0
    unchanged: bool = False

    @property
    def exit_code(self) -> int:
        """0: all is in the data set; 1: some is not; 2: there is none."""
        if not self.sources:
            return NOTHING
        return SOME_FAILED if self.failures or any(s.refused for s in self.sources) else ALL_GOOD

    def to_text(self) -> str:
        """The report as a table and sentences."""
        lines = [*_table(self.sources), ""] if self.sources else []
        warnings = [f"warning: {s.label}: {text}" for s in self.sources for text in s.warnings]
        lines += warnings[:_MOST_WARNINGS]
        if len(warnings) > _MOST_WARNINGS:
            lines.append(f"… and {len(warnings) - _MOST_WARNINGS} more warnings, in the folder {REPORTS}.")
        lines += [f"left out of {s.label}: {text}" for s in self.sources for text in s.refused]
        lines += [f"left out: {d.label} holds the same as {d.same_as}" for d in self.duplicates]
        for failure in sorted(self.failures, key=lambda f: f.label):
            # Many reasons name the source themselves.
            named = failure.reason.startswith(failure.label)
            lines.append(f"FAILED: {failure.reason if named else f'{failure.label}: {failure.reason}'}")
        counts = ", ".join(
            f"{n} {v['episodes']} episodes of {v['steps']} steps" for n, v in self.splits.items()
        )
        if self.folder is not None:
            state = "unchanged" if self.unchanged else f"{self.converted} sources converted by this run"
            lines.append(f"{self.folder}: {counts} ({state})")
        elif not self.sources:
            lines.append("Nothing was converted.")
        if self.failures:
            lines.append(f"{len(self.failures)} of {len(self.sources) + len(self.failures)} sources failed.")
        return "\n".join(lines) + "\n"


def line_of(staged: StagedSource) -> SourceLine:
    """The line of one converted source."""
    return make_line(staged.label, [(e.steps, e.report) for e in staged.episodes], staged.report)


def make_line(
    label: str, episodes: Sequence[tuple[int, Mapping[str, Any]]], report: Mapping[str, Any]
) -> SourceLine:
    """A line from steps and reports of episodes.

    Args:
      label: of the source.
      episodes: (steps, report).
      report: of the source.
    """
    reports = [r for _, r in episodes]
    skews = [skew for r in reports if (skew := _largest_skew(r)) is not None]
    sentences = [str(s) for r in (report, *reports) for kind in _SENTENCES for s in r.get(kind, ())]
    return SourceLine(
        label=label,
        episodes=len(episodes),
        steps=sum(steps for steps, _ in episodes),
        skew_ms=max(skews, default=None),
        warnings=tuple(dict.fromkeys(sentences)),
        refused=tuple(str(r) for r in report.get("refused", ())),
    )


def _largest_skew(report: Mapping[str, Any]) -> float | None:
    """Of all topics of an ``episodes.synchronisation.report.EpisodeReport``, as JSON."""
    skews = [topic.get("skew_max_ms") for topic in report.get("topics", {}).values()]
    return max((s for s in skews if s is not None), default=None)


def _table(sources: Sequence[SourceLine]) -> list[str]:
    head = ("source", "episodes", "steps", "largest skew", "warnings")
    rows = [
        (
            s.label,
            str(s.episodes),
            str(s.steps),
            "-" if s.skew_ms is None else f"{s.skew_ms:.1f} ms",
            str(len(s.warnings) + len(s.refused) or "-"),
        )
        for s in sources
    ]
    total = ("all", str(sum(s.episodes for s in sources)), str(sum(s.steps for s in sources)), "", "")
    table = [head, *rows, total] if len(rows) > 1 else [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    return [
        "  ".join((row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))))
        for row in table
    ]
