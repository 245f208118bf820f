"""Measuring how the steps of an episode take from one topic."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from episodes.recording import FrameTimes, Times
from episodes.synchronisation.report import TopicReport

# An interval longer than this many usual (median) ones is a gap.
GAP_FACTOR = 1.5
_LONGEST_GAPS = 3
# Points that the drift is fitted to, each the median of a stretch of messages.
_DRIFT_POINTS = 200
# Messages on either side that tell a clock that was set back from a late message.
_NEIGHBOURS = 10
# Reports keep nanoseconds of a second.
_DIGITS = 9


@dataclasses.dataclass(frozen=True, eq=False)
class TopicUse:
    """How the T steps of an episode take from one topic.

    Attributes:
      field, pick: see ``TopicReport``.
      times: of the n messages.
      stamp_ns: int64 [n], the times that count; the log times where settings say so.
      groups: messages of each publisher that counts, ascending.
      reach_ns: from when until when the topic is there.
      messages: int64 [k], those used: for one message a step, k = T and in their order.
      skew_ns: int64 [T], time of the message minus time of the step.
      out: bool [T], steps out of tolerance.
      tolerance_ns: see ``TopicReport``.
      bracket_ns: int64 [T], the interval that is interpolated over; None if not ``linear``.
    """

    field: str
    pick: str
    times: Times
    stamp_ns: np.ndarray
    groups: tuple[np.ndarray, ...]
    reach_ns: tuple[int, int]
    messages: np.ndarray
    skew_ns: np.ndarray
    out: np.ndarray
    tolerance_ns: int
    bracket_ns: np.ndarray | None = None


def measure_topic(use: TopicUse, span_ns: tuple[int, int], steps_ns: np.ndarray) -> TopicReport:
    """Measures one topic in one episode.

    Args:
      use: how the steps take from it.
      span_ns: what was to become the episode, both ends included.
      steps_ns: int64 [T], the steps; may be empty.
    """
    stamps, times = use.stamp_ns, use.times
    origin = int(steps_ns[0]) if len(steps_ns) else span_ns[0]
    used, counted = np.zeros((2, len(stamps)), bool)
    used[use.messages] = True
    counted[np.concatenate(use.groups)] = True
    inside = ((stamps >= span_ns[0]) & (stamps <= span_ns[1])) | used
    spare = inside & counted & ~used
    outside = spare.copy()
    if used.any():
        outside &= (stamps < stamps[used].min()) | (stamps > stamps[used].max())
    messages = [group[inside[group]] for group in use.groups if inside[group].any()]
    groups, logged = [stamps[group] for group in messages], [times.log_ns[group] for group in messages]
    there = stamps[inside & counted]
    offsets = (times.stamp_ns - times.log_ns)[inside & counted]
    drift = fit_drift(times.log_ns[inside & counted], offsets)
    intervals = [np.diff(np.unique(group)) for group in groups]
    intervals = [group for group in intervals if len(group)]
    gaps, missing = find_gaps(groups)
    freezes = _freezes(times, stamps, inside)
    skew = np.abs(use.skew_ns)
    late, early = use.reach_ns[0] - span_ns[0], span_ns[1] - use.reach_ns[1]
    one_each = use.bracket_ns is None
    return TopicReport(
        field=use.field,
        topic=times.topic,
        by_log_time=stamps is times.log_ns,
        pick=use.pick,
        messages=int(inside.sum()),
        used=int(used.sum()),
        between=int((spare & ~outside).sum()),
        outside=int(outside.sum()),
        left_out=int((inside & ~counted).sum()),
        repeats=len(use.messages) - int(used.sum()) if one_each else 0,
        undecodable=len(times.undecodable) if isinstance(times, FrameTimes) else 0,
        zero_stamps=int(times.zero_stamps),
        out_of_order=sum(int((np.diff(group) < 0).sum()) for group in groups),
        largest_step_back_ms=milliseconds(max(map(largest_step_back, logged, groups), default=0)),
        duplicate_stamps=sum(len(group) - len(np.unique(group)) for group in groups),
        frozen=freezes[0],
        longest_freeze_s=seconds(freezes[1]),
        rate_hz=_rounded(1e9 / max(np.median(group) for group in intervals)) if intervals else None,
        gaps=len(gaps),
        missing=missing,
        longest_interval_ms=milliseconds(max(int(g.max()) for g in intervals)) if intervals else None,
        longest_gaps=tuple(
            (seconds(start - origin), seconds(length)) for start, length in gaps[:_LONGEST_GAPS]
        ),
        first_s=seconds(int(there.min()) - origin) if len(there) else 0.0,
        last_s=seconds(int(there.max()) - origin) if len(there) else 0.0,
        starts_late_s=seconds(max(late, 0)),
        ends_early_s=seconds(max(early, 0)),
        offset_median_ms=_rounded(float(np.median(offsets)) / 1e6) if len(offsets) else 0.0,
        offset_min_ms=milliseconds(int(offsets.min())) if len(offsets) else 0.0,
        offset_max_ms=milliseconds(int(offsets.max())) if len(offsets) else 0.0,
        drift=None if drift is None else round(drift[0], 12),
        drift_total_ms=None if drift is None else _rounded(drift[1] / 1e6),
        drift_noise_ms=None if drift is None else _rounded(drift[2] / 1e6),
        tolerance_ms=milliseconds(use.tolerance_ns),
        skew_median_ms=_rounded(float(np.median(skew)) / 1e6) if len(skew) else None,
        skew_95_ms=_rounded(float(np.quantile(skew, 0.95)) / 1e6) if len(skew) else None,
        skew_max_ms=milliseconds(int(skew.max())) if len(skew) else None,
        longest_bracket_ms=(
            None if use.bracket_ns is None or not len(skew) else milliseconds(int(use.bracket_ns.max()))
        ),
        out_of_tolerance=int(use.out.sum()),
        first_out_s=seconds(int(steps_ns[np.argmax(use.out)]) - origin) if use.out.any() else None,
    )


def find_gaps(groups: Sequence[np.ndarray]) -> tuple[list[tuple[int, int]], int]:
    """Gaps of each publisher, see ``TopicReport.gaps``.

    Args:
      groups: int64 stamps in any order.

    Returns:
      (start, length) in ns, the longest first; and how many messages are missing in all.
    """
    gaps: list[tuple[int, int]] = []
    missing = 0
    for group in groups:
        stamps = np.unique(group)
        if len(stamps) < 2:
            continue
        intervals = np.diff(stamps)
        median = float(np.median(intervals))
        at = np.flatnonzero(intervals > GAP_FACTOR * median)
        missing += int((np.rint(intervals[at] / median) - 1).sum())
        gaps += [(int(stamps[i]), int(intervals[i])) for i in at]
    return sorted(gaps, key=lambda gap: (-gap[1], gap[0])), missing


def largest_step_back(log_ns: np.ndarray, stamp_ns: np.ndarray) -> int:
    """How far at most a clock that was set back stamps a message before one recorded earlier, in ns.

    A message that only came late is told from it by stamp minus log time, of which the largest is that of
    the message with the least delay: it falls from the 10 messages before to the 10 from this one on only if
    the clock was set back.

    Args:
      log_ns: int64 [n], in any order; messages of one log time count in the order of their stamps.
      stamp_ns: int64 [n]; n is at least 1.
    """
    order = np.lexsort((stamp_ns, log_ns))
    stamps, offsets = stamp_ns[order], (stamp_ns - log_ns)[order]
    back = np.maximum.accumulate(stamps) - stamps
    padded = np.pad(offsets, _NEIGHBOURS, constant_values=offsets.min())
    largest = np.lib.stride_tricks.sliding_window_view(padded, _NEIGHBOURS).max(axis=1)
    fall = largest[: len(stamps)] - largest[_NEIGHBOURS : _NEIGHBOURS + len(stamps)]
    # Of the very last message alone it cannot be told.
    return int(back[:-1][(back < 2 * fall)[:-1]].max(initial=0))


def fit_drift(log_ns: np.ndarray, offset_ns: np.ndarray) -> tuple[float, float, float] | None:
    """A robust line through stamp minus log time: Theil and Sen's median of slopes.

    Long recordings are first brought to 200 points, each the medians of a stretch of equally many messages.

    Args:
      log_ns: int64 [n].
      offset_ns: int64 [n].

    Returns:
      Slope, its product with the time from the first to the last message in ns, and the median distance of
      the messages from the line in ns; None if there are fewer than 3 messages or no time between them.
    """
    if len(log_ns) < 3 or log_ns.min() == log_ns.max():
        return None
    order = np.argsort(log_ns, kind="stable")
    time = (log_ns[order] - log_ns.min()).astype(np.float64)
    offset = (offset_ns[order] - offset_ns[order[0]]).astype(np.float64)
    parts = np.array_split(np.arange(len(time)), min(len(time), _DRIFT_POINTS))
    x, y = (np.array([np.median(values[part]) for part in parts]) for values in (time, offset))
    first, second = np.triu_indices(len(x), 1)
    apart = x[second] > x[first]
    if not apart.any():
        return None
    slopes = (y[second] - y[first])[apart] / (x[second] - x[first])[apart]
    slope = float(np.median(slopes))
    residual = offset - slope * time
    noise = float(np.median(np.abs(residual - np.median(residual))))
    return slope, slope * float(time[-1]), noise


def seconds(nanoseconds: float) -> float:
    """Nanoseconds as seconds."""
    return _rounded(nanoseconds / 1e9)


def milliseconds(nanoseconds: float) -> float:
    """Nanoseconds as milliseconds."""
    return _rounded(nanoseconds / 1e6)


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)


def _freezes(times: Times, stamps: np.ndarray, inside: np.ndarray) -> tuple[int, int]:
    """Images of the same bytes as the one before, and the longest row of them in ns."""
    if not isinstance(times, FrameTimes):
        return 0, 0
    at = np.flatnonzero(inside)
    at = at[np.argsort(stamps[at], kind="stable")]
    if len(at) < 2:
        return 0, 0
    same = times.checksum[at][1:] == times.checksum[at][:-1]
    # Each image belongs to the row that began at the last one of other bytes.
    begins = np.concatenate([[0], np.where(same, 0, np.arange(1, len(at)))])
    row = stamps[at] - stamps[at][np.maximum.accumulate(begins)]
    return int(same.sum()), int(row.max())
