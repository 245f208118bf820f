"""Plain words for what a report's numbers mean: what breaks a limit, and what one should know."""

from collections.abc import Sequence

from episodes.synchronisation.measures import GAP_FACTOR
from episodes.synchronisation.report import CLOCK, LAST, LINEAR, TopicReport
from episodes.synchronisation.topics import Topic

# Of a tolerance; a clock that goes wrong by less does no harm.
_HARMLESS = 0.2
# A drift is told from noise if it is so many times larger.
_CLEAR = 3.0
# Clocks farther apart than this are set wrong; no network is that late.
_WRONG_CLOCK_S = 1.0


def find_violations(topics: Sequence[TopicReport], steps: int, maximum_trim_s: float) -> list[str]:
    """What breaks the limits, one sentence for each topic and limit.

    Args:
      topics: of one episode.
      steps: of it.
      maximum_trim_s: see ``SyncSettings``.
    """
    sentences = []
    for topic in topics:
        for lost, what in (
            (topic.starts_late_s, "starts {:.3f} s after the episode begins"),
            (topic.ends_early_s, "ends {:.3f} s before the episode does"),
        ):
            if lost > maximum_trim_s:
                sentences.append(
                    f"{_label(topic)} {what.format(lost)}, of which {maximum_trim_s:g} s may be lost"
                )
        if topic.largest_step_back_ms > topic.tolerance_ms:
            sentences.append(
                f"{_label(topic)}: in the order of log times its stamps step back by "
                f"{topic.largest_step_back_ms:.1f} ms, tolerance {topic.tolerance_ms:g} ms; its clock was "
                f"set back; {_by_log_time([topic.field])}"
            )
        if topic.out_of_tolerance:
            sentences.append(f"{_label(topic)}: {_out_of_tolerance(topic, steps)}")
    return sentences


def find_warnings(topics: Sequence[TopicReport], steps: int) -> list[str]:
    """What one should know of an episode before training on it, one sentence each."""
    sentences = []
    offsets = [topic.offset_median_ms for topic in topics]
    nearest = min(offsets, key=abs, default=0.0)
    for topic in topics:
        label = _label(topic)
        # At the ends a topic may miss as much as it does between two messages.
        interval_s = 0.0 if topic.rate_hz is None else GAP_FACTOR / topic.rate_hz
        limit_s = max(topic.tolerance_ms / 1e3, interval_s)
        if topic.starts_late_s > limit_s:
            sentences.append(f"{label} starts {topic.starts_late_s:.3f} s after the episode begins")
        if topic.ends_early_s > limit_s:
            sentences.append(f"{label} ends {topic.ends_early_s:.3f} s before the episode does")
        if topic.gaps:
            longest = max(length for _, length in topic.longest_gaps)
            sentences.append(
                f"{label} has {_count(topic.gaps, 'gap')}, about {_count(topic.missing, 'message')} missing; "
                f"the longest is {longest:.3f} s"
            )
        sentences += _clock_warnings(topic, nearest)
        if topic.frozen:
            sentences.append(
                f"{label} repeats the same image {_count(topic.frozen, 'time')}, at most "
                f"{topic.longest_freeze_s:.3f} s long"
            )
        if topic.repeats:
            sentences.append(
                f"{label} gives {topic.repeats} of {steps} steps a message that an earlier step has too"
            )
        if topic.undecodable:
            sentences.append(f"{label} has {_count(topic.undecodable, 'message')} without a whole image")
        if topic.zero_stamps:
            sentences.append(
                f"{label} has {_count(topic.zero_stamps, 'message')} without a stamp; their log time is taken"
            )
        if topic.out_of_order:
            sentences.append(f"{label} has {_count(topic.out_of_order, 'message')} out of order")
        if topic.duplicate_stamps:
            sentences.append(f"{label} has {_count(topic.duplicate_stamps, 'stamp')} twice")
    return sentences


def clock_warnings(topics: Sequence[TopicReport]) -> list[str]:
    """Those warnings that say that a topic's clock is wrong."""
    nearest = min((topic.offset_median_ms for topic in topics), key=abs, default=0.0)
    return [sentence for topic in topics for sentence in _clock_warnings(topic, nearest)]


def foreign_clocks(topics: Sequence[Topic]) -> list[str]:
    """Which topics' clocks are more than 1 s off the others', and what to do; one sentence each.

    The others' is the median of stamp minus log time over all topics; of an even number of them, that of the
    two in the middle which is nearer to the log times.
    """
    apart = sorted(topics, key=lambda topic: topic.offset_s)
    middle = apart[(len(apart) - 1) // 2 : len(apart) // 2 + 1]
    usual = min(middle, key=lambda topic: abs(topic.offset_s))
    wrong = [topic.field for topic in topics if abs(topic.offset_s) > _WRONG_CLOCK_S]
    return [
        f"the stamps of {topic} are {_beside_log(topic.offset_s)} its log times, those of {usual} "
        f"{_beside_log(usual.offset_s)} theirs; {_by_log_time(wrong)}"
        for topic in topics
        if abs(topic.offset_s - usual.offset_s) > _WRONG_CLOCK_S
    ]


def _beside_log(offset_s: float) -> str:
    return f"{abs(offset_s):.3f} s {'ahead of' if offset_s > 0 else 'behind'}"


def _by_log_time(fields: Sequence[str]) -> str:
    return f"synchronisation.log_time = {tuple(fields)} takes log times instead"


def _clock_warnings(topic: TopicReport, others_ms: float) -> list[str]:
    sentences: list[str] = []
    if topic.by_log_time:
        return sentences
    apart = topic.offset_median_ms - others_ms
    if abs(apart) > topic.tolerance_ms:
        remedy = f"; {_by_log_time([topic.field])}" if abs(apart) > _WRONG_CLOCK_S * 1e3 else ""
        sentences.append(
            f"{_label(topic)} is stamped {abs(apart) / 1e3:.3f} s {'after' if apart > 0 else 'before'} its "
            "log time, counted from the topic with the least; its clock may be wrong, or it arrives late"
            f"{remedy}"
        )
    total = topic.drift_total_ms
    if topic.drift is not None and total is not None and topic.drift_noise_ms is not None:
        limit = max(_HARMLESS * topic.tolerance_ms, _CLEAR * topic.drift_noise_ms)
        if abs(total) > limit:
            sentences.append(
                f"the clock of {_label(topic)} drifts {topic.drift * 1e3:.3g} ms per s against its log time, "
                f"{total:.1f} ms in all"
            )
    return sentences


def _out_of_tolerance(topic: TopicReport, steps: int) -> str:
    which = f"{topic.out_of_tolerance} of {steps} steps"
    first = f"the first at {topic.first_out_s:.3f} s; tolerance {topic.tolerance_ms:g} ms"
    if topic.pick == CLOCK:
        return (
            f"as the clock it leaves {which} without a next one in time, the longest interval is "
            f"{topic.longest_interval_ms or 0:.1f} ms, {first}"
        )
    if topic.pick == LINEAR:
        return (
            f"{which} lie between samples more than twice the tolerance apart, at most "
            f"{topic.longest_bracket_ms:.1f} ms, {first}"
        )
    message = "last message" if topic.pick == LAST else "nearest message"
    rate = "one message" if topic.rate_hz is None else f"a message each {1e3 / topic.rate_hz:.1f} ms"
    return (
        f"{which} are out of tolerance, the farthest {topic.skew_max_ms:.1f} ms from its {message} "
        f"({rate}), {first}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _label(topic: TopicReport) -> str:
    return f"{topic.topic} ({topic.field})"
