"""What became of every topic's messages when an episode was made, and how well they are in step."""

import dataclasses
from typing import Any

# How a step takes from a topic.
CLOCK, NEAREST, LINEAR, LAST = "clock", "nearest", "linear", "last"


@dataclasses.dataclass(frozen=True)
class TopicReport:
    """One topic in one episode. Messages are those stamped within the episode's span, and those used.

    messages = used + between + outside + left_out.

    Attributes:
      field: what the topic is taken for.
      topic: its name in the bag.
      by_log_time: its stamps do not count, but the times at which its messages were recorded.
      pick: what a step takes: ``clock`` (its messages are the steps), the ``nearest`` message, ``linear``
        interpolation, or the ``last`` message sent before.
      messages: how many there are.
      used: messages that a step shows or is interpolated from.
      between: messages that others were nearer than.
      outside: messages before the first or after the last that is used.
      left_out: messages of other publishers, or without positions.
      repeats: steps that take a message which an earlier step took too; 0 for ``linear``.
      undecodable, zero_stamps: in the whole recording; the latter got their log time as stamp.
      out_of_order: messages stamped before the message that was recorded before them.
      largest_step_back_ms: how far at most a clock that was set back stamps a message before one of its
        publisher that was recorded (by log time) earlier; messages that only came late do not count.
      duplicate_stamps: messages stamped as another one.
      frozen: images of the same bytes as the one before.
      longest_freeze_s: from the first to the last of a row of them.
      rate_hz: of the median interval between stamps, of the slowest publisher; None for a single message.
      gaps: intervals longer than 1.5 median ones of their publisher.
      missing: messages that would have filled the gaps: of each, its length in median intervals, rounded,
        less one.
      longest_interval_ms: between two stamps of one publisher, gap or not; None for a single message.
      longest_gaps: up to 3 (seconds from the first step to its beginning, length in seconds).
      first_s, last_s: seconds from the first step to the topic's first and last message.
      starts_late_s, ends_early_s: how much of the span the topic misses at either end.
      offset_median_ms, offset_min_ms, offset_max_ms: stamp minus log time.
      drift: how many seconds stamp minus log time grows each second, by Theil and Sen's robust line through
        medians; None for fewer than 3 messages.
      drift_total_ms: the same over all its messages.
      drift_noise_ms: median distance from that line.
      tolerance_ms: how far a step may be from what it takes.
      skew_median_ms, skew_95_ms, skew_max_ms: distance of the steps from the message (``linear``: from the
        nearest sample of the joint that is farthest); None without steps.
      longest_bracket_ms: ``linear``: the longest interval that was interpolated over.
      out_of_tolerance: steps out of tolerance: for ``linear`` those in an interval of more than twice the
        tolerance, for ``clock`` those whose next step is farther than the usual interval and the tolerance.
      first_out_s: seconds from the first step to the first of these.
    """

    field: str
    topic: str
    by_log_time: bool
    pick: str
    messages: int
    used: int
    between: int
    outside: int
    left_out: int
    repeats: int
    undecodable: int
    zero_stamps: int
    out_of_order: int
    largest_step_back_ms: float
    duplicate_stamps: int
    frozen: int
    longest_freeze_s: float
    rate_hz: float | None
    gaps: int
    missing: int
    longest_interval_ms: float | None
    longest_gaps: tuple[tuple[float, float], ...]
    first_s: float
    last_s: float
    starts_late_s: float
    ends_early_s: float
    offset_median_ms: float
    offset_min_ms: float
    offset_max_ms: float
    drift: float | None
    drift_total_ms: float | None
    drift_noise_ms: float | None
    tolerance_ms: float
    skew_median_ms: float | None
    skew_95_ms: float | None
    skew_max_ms: float | None
    longest_bracket_ms: float | None
    out_of_tolerance: int
    first_out_s: float | None


@dataclasses.dataclass(frozen=True)
class EpisodeReport:
    """One episode.

    Attributes:
      clock: a field, or a rate such as ``10 Hz``.
      steps: T.
      start_ns: the first step, since 1970.
      begins_s: where the episode's span begins in the recording.
      span_s: what was to become the episode.
      trimmed_start_s, trimmed_end_s: of it, before and after all topics are there.
      trimmed_start_topic, trimmed_end_topic: the topics to blame; None where nothing is lost.
      step_median_ms, step_max_ms: intervals between steps; None for a single one.
      topics: of images, joints and actions.
      violations: what breaks a limit, one sentence a topic; an episode with any was kept on demand.
      warnings: what one should know before training on it.
      notes: what was odd about joints and marks.
    """

    clock: str
    steps: int
    start_ns: int
    begins_s: float
    span_s: float
    trimmed_start_s: float
    trimmed_end_s: float
    trimmed_start_topic: str | None
    trimmed_end_topic: str | None
    step_median_ms: float | None
    step_max_ms: float | None
    topics: tuple[TopicReport, ...]
    violations: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __getitem__(self, field: str) -> TopicReport:
        """The report of one field's topic.

        Raises:
          ValueError: it takes no part.
        """
        for topic in self.topics:
            if topic.field == field:
                return topic
        raise ValueError(f"The report is of {[topic.field for topic in self.topics]}. Received: {field!r}")

    def to_json(self) -> dict[str, Any]:
        """JSON values; numbers are finite, and None where there is nothing to measure."""
        value = dataclasses.asdict(self)
        topics = {}
        for topic in value["topics"]:
            topic["longest_gaps"] = [list(gap) for gap in topic["longest_gaps"]]
            topics[topic.pop("field")] = topic
        lists = {name: list(value[name]) for name in ("violations", "warnings", "notes")}
        return {**value, **lists, "topics": topics}

    def to_text(self) -> str:
        """A table for the terminal, a line a topic; then all sentences."""
        head = f"{self.steps} steps by {self.clock}, {self.span_s:.2f} s from {self.begins_s:.2f} s on"
        if self.step_median_ms is not None and self.step_max_ms is not None:
            head += f"; steps {self.step_median_ms:.1f} ms apart, at most {self.step_max_ms:.1f} ms"
        rows = [_HEADINGS, *(_row(topic) for topic in self.topics)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
        lines = [head]
        for row in rows:
            cells = [
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  " + "  ".join(cells).rstrip())
        for kind in ("violations", "warnings", "notes"):
            lines += [f"  {kind[:-1]}: {sentence}" for sentence in getattr(self, kind)]
        return "\n".join(lines)


class SyncError(ValueError):
    """A recording, or an episode of it, that cannot be brought in step.

    Attributes:
      report: as far as it could be made; None if the recording itself is at fault.
    """

    def __init__(self, message: str, report: EpisodeReport | None = None) -> None:
        super().__init__(message)
        self.report = report


_HEADINGS = (
    "field",
    "topic",
    "messages",
    "Hz",
    "used",
    "gaps",
    "missing",
    "skew ms",
    "max",
    "out",
    "late s",
    "early s",
    "stamp-log ms",
    "drift ms/s",
)


def _row(topic: TopicReport) -> tuple[str, ...]:
    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return (
        topic.field.removeprefix("observation/"),
        topic.topic,
        str(topic.messages),
        number(topic.rate_hz, 1),
        str(topic.used),
        str(topic.gaps),
        str(topic.missing),
        number(topic.skew_median_ms, 1),
        number(topic.skew_max_ms, 1),
        str(topic.out_of_tolerance),
        number(topic.starts_late_s, 2),
        number(topic.ends_early_s, 2),
        number(topic.offset_median_ms, 1),
        number(None if topic.drift is None else topic.drift * 1e3, 2),
    )
