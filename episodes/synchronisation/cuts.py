"""Cutting a recording into episodes: at start and stop marks, and where the robot rests."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Sequence

import numpy as np

from episodes.recording import TextSamples
from episodes.synchronisation.joints import JointSeries

# Speeds are differences over this time: long enough that a sensor's noise does not look like motion.
_GRID_NS = 100_000_000


@dataclasses.dataclass(frozen=True, order=True)
class Span:
    """A stretch of time, both ends included, in nanoseconds."""

    start_ns: int
    end_ns: int


def spans_from_marks(
    marks: TextSamples, whole: Span, start: Sequence[str], stop: Sequence[str]
) -> tuple[list[Span], list[str]]:
    """Episodes between start and stop marks.

    A second start without a stop begins the episode anew: what was before is left out. A stop without a
    start is ignored. An episode without a stop lasts to the end of the recording. All three are noted.
    Without start patterns an episode begins where the recording or the last one ended; without stop
    patterns it ends where the next begins. A text that fits both kinds starts and stops in turn.

    Args:
      marks: of the topic.
      whole: the recording; marks outside are taken to its nearest end.
      start, stop: wildcards of texts, of which one must fit the whole text; upper and lower case differ.

    Returns:
      Spans in the order of time, which do not overlap and lie in ``whole``; and notes.
    """
    spans: list[Span] = []
    notes: list[str] = []
    opened: int | None = None if start else whole.start_ns
    for i in np.argsort(marks.stamp_ns, kind="stable"):
        text = marks.texts[i]
        stamp = min(max(int(marks.stamp_ns[i]), whole.start_ns), whole.end_ns)
        when = f"at {(stamp - whole.start_ns) / 1e9:.2f} s"
        starts, stops = _fits(text, start), _fits(text, stop)
        if starts and stops:
            starts, stops = opened is None, opened is not None
        if starts:
            if opened is not None and not stop:
                _append(spans, opened, stamp - 1)
            elif opened is not None:
                lost = (stamp - opened) / 1e9
                notes.append(
                    f"the episode starts anew {when}; the {lost:.2f} s before, without a stop, are left out"
                )
            opened = max(stamp, spans[-1].end_ns + 1) if spans else stamp
        elif stops:
            if opened is None:
                notes.append(f"the stop mark {when} has no start and is ignored")
                continue
            _append(spans, opened, stamp)
            opened = None if start else stamp + 1
    if opened is not None and start:
        if stop:
            notes.append("the last episode has no stop mark and lasts to the end of the recording")
        _append(spans, opened, whole.end_ns)
    elif opened is not None and opened < whole.end_ns:
        lost = (whole.end_ns - opened) / 1e9
        notes.append(f"the {lost:.2f} s after the last stop mark are left out")
    return spans, notes


def moving_spans(
    joints: Iterable[JointSeries], span: Span, speed: float, minimum_idle_s: float, *, split: bool
) -> list[Span]:
    """What remains of a span without the times in which all joints rest.

    A joint rests in a tenth of a second in which its mean speed is at most ``speed``. The span's ends that
    have no samples count with the nearest tenth that has.

    Args:
      joints: whose motion counts.
      span: to look at.
      speed: rad/s.
      minimum_idle_s: shorter rests are kept.
      split: leave out rests amid the span too, not only at its ends.

    Returns:
      Spans in the order of time, which do not overlap and lie in ``span``; none if nothing moves.
    """
    joints = list(joints)
    first = max([span.start_ns, *(int(joint.stamp_ns[0]) for joint in joints)])
    last = min([span.end_ns, *(int(joint.stamp_ns[-1]) for joint in joints)])
    cells = (last - first) // _GRID_NS
    if cells < 1:
        return [span]
    edges = np.arange(cells + 1) * _GRID_NS
    moves = np.zeros(cells, bool)
    for joint in joints:
        # Relative to the start: float64 cannot hold nanoseconds since 1970.
        positions = np.interp(edges, joint.stamp_ns - first, joint.positions)
        moves |= np.abs(np.diff(positions)) > speed * (_GRID_NS / 1e9)
    changes = np.flatnonzero(np.diff(moves)) + 1
    bounds = np.concatenate([[0], changes, [cells]])
    remaining = [span]
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        at_start, at_end = begin == 0, end == cells
        if moves[begin] or (end - begin) * _GRID_NS < minimum_idle_s * 1e9:
            continue
        if not (split or at_start or at_end):
            continue
        current = remaining.pop()
        if not at_start:
            _append(remaining, current.start_ns, first + int(begin) * _GRID_NS)
        if at_end:
            break
        remaining.append(Span(first + int(end) * _GRID_NS, current.end_ns))
    return remaining


def _fits(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def _append(spans: list[Span], start_ns: int, end_ns: int) -> None:
    if end_ns > start_ns:
        spans.append(Span(start_ns, end_ns))
