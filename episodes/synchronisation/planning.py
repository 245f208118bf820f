"""Brings the topics of a recording in step: which message, or which two, each step of an episode takes."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from episodes.episode import JOINT_POSITIONS
from episodes.recording import Recording
from episodes.synchronisation import cuts, resampling
from episodes.synchronisation.cuts import Span
from episodes.synchronisation.joints import JointSelection
from episodes.synchronisation.judgement import clock_warnings, find_violations, find_warnings, foreign_clocks
from episodes.synchronisation.measures import measure_topic, milliseconds, seconds
from episodes.synchronisation.report import EpisodeReport, SyncError
from episodes.synchronisation.settings import KEEP, REFUSE, SPLIT, SyncSettings
from episodes.synchronisation.taking import take
from episodes.synchronisation.topics import Topic, find_joints, find_topics, whole_span


@dataclasses.dataclass(frozen=True, eq=False)
class EpisodePlan:
    """One episode but for its pixels.

    Attributes:
      times_ns: int64 [T], ascending.
      frames: image field -> int64 [T], the message of each step, counted as in ``recording.frames[field]``.
      columns: ``observation/joint_positions`` float32 [T, P] where joints are recorded, and ``action``
        float32 [T, A].
      joint_names: P names, empty without joints.
      action_names: A names with units.
      report: how well the topics are in step.
    """

    times_ns: np.ndarray
    frames: Mapping[str, np.ndarray]
    columns: Mapping[str, np.ndarray]
    joint_names: tuple[str, ...]
    action_names: tuple[str, ...]
    report: EpisodeReport


@dataclasses.dataclass(frozen=True, eq=False)
class EpisodePlans:
    """What a recording gives.

    Attributes:
      episodes: at least one, in the order of time.
      refused: why other spans of a cut recording give none, in the order of time.
    """

    episodes: tuple[EpisodePlan, ...]
    refused: tuple[SyncError, ...]


def plan_episodes(recording: Recording, settings: SyncSettings) -> EpisodePlans:
    """Cuts a recording, brings each episode's topics in step and judges each alone.

    An episode lasts as long as all topics are there. By a reference clock, images may be nearest to a step up
    to half their usual interval before their first and after their last message, as they are in between, but
    not beyond their tolerance; by a fixed rate the first step is where the last topic begins. A command holds
    for its tolerance. Nothing is extrapolated. Actions that are read at the next step (all but commands)
    leave the last step without one; it is dropped.

    Raises:
      SyncError: topics that the settings need are missing; or no episode can be made, or none is within the
        limits, and then the message says of every topic of every episode what is wrong.
    """
    joints = find_joints(recording, settings)
    topics = find_topics(recording, settings, joints)
    whole = whole_span(recording, topics)
    spans, notes = _cut(recording, settings, joints, whole)
    prepared = _Prepared(settings, joints, topics, whole, notes)
    episodes, refused = [], []
    for i, span in enumerate(spans):
        name = f"{recording.path}"
        if len(spans) > 1:
            begins = seconds(span.start_ns - whole.start_ns)
            name += f", cut {i + 1} of {len(spans)}, which begins at {begins:.2f} s"
        try:
            episodes.append(_plan(prepared, span, name))
        except SyncError as error:
            refused.append(error)
    if not episodes:
        raise refused[0] if len(refused) == 1 else SyncError("; ".join(map(str, refused)))
    return EpisodePlans(tuple(episodes), tuple(refused))


@dataclasses.dataclass(frozen=True, eq=False)
class _Prepared:
    """What the episodes of a recording share."""

    settings: SyncSettings
    joints: JointSelection | None
    topics: Mapping[str, Topic]
    whole: Span
    notes: tuple[str, ...]


def _cut(
    recording: Recording, settings: SyncSettings, joints: JointSelection | None, whole: Span
) -> tuple[list[Span], tuple[str, ...]]:
    """The spans that are to become episodes, and notes.

    Raises:
      SyncError: there are none.
    """
    spans, notes = [whole], list(joints.notes) if joints is not None else []
    if settings.start_marks or settings.stop_marks:
        if recording.marks is None:
            raise SyncError(f"{recording.path}: cutting at marks needs a topic of marks. Received: none")
        spans, of_marks = cuts.spans_from_marks(
            recording.marks, whole, settings.start_marks, settings.stop_marks
        )
        notes += [f"{recording.marks.topic}: {note}" for note in of_marks]
        if not spans:
            texts = sorted(set(recording.marks.texts))[:20]
            raise SyncError(
                f"{recording.path}: {recording.marks.topic} must mark an episode by "
                f"{settings.start_marks} and {settings.stop_marks}. Received: {texts}"
            )
    if settings.idle != KEEP and joints is not None:
        spans = [
            moving
            for span in spans
            for moving in cuts.moving_spans(
                joints.series.values(),
                span,
                settings.idle_speed,
                settings.minimum_idle_s,
                split=settings.idle == SPLIT,
            )
        ]
        if not spans:
            raise SyncError(
                f"{recording.path}: a joint must move faster than {settings.idle_speed:g} rad/s "
                "(idle_speed). Received: joints at rest"
            )
    return spans, tuple(notes)


def _plan(prepared: _Prepared, span: Span, name: str) -> EpisodePlan:
    settings, topics = prepared.settings, prepared.topics
    starts = {field: topic.reach(settings)[0] for field, topic in topics.items()}
    ends = {field: topic.reach(settings)[1] for field, topic in topics.items()}
    start, end = max(span.start_ns, *starts.values()), min(span.end_ns, *ends.values())
    times = _steps(topics, settings, start, end)
    if len(times) < 1 + settings.needs_next_step:
        there = [
            f"{topic} from {seconds(topic.first_ns - span.start_ns):.3f} to "
            f"{seconds(topic.last_ns - span.start_ns):.3f} s"
            for topic in topics.values()
        ]
        received = [f"{len(times)} steps", *there, *foreign_clocks(list(topics.values()))]
        received += _varying_joints(prepared)
        raise SyncError(
            f"{name}: all topics must be there together for at least {1 + settings.needs_next_step} steps of "
            f"{seconds(span.end_ns - span.start_ns):.3f} s. Received: {'; '.join(received)}"
        )
    steps = len(times) - settings.needs_next_step
    taken = take(topics, settings, prepared.joints, times)
    reports = tuple(measure_topic(use, (span.start_ns, span.end_ns), times[:steps]) for use in taken.uses)
    intervals = np.diff(times[:steps])
    report = EpisodeReport(
        clock=settings.clock if settings.rate_hz is None else f"{settings.rate_hz:g} Hz",
        steps=steps,
        start_ns=int(times[0]),
        begins_s=seconds(span.start_ns - prepared.whole.start_ns),
        span_s=seconds(span.end_ns - span.start_ns),
        trimmed_start_s=seconds(start - span.start_ns),
        trimmed_end_s=seconds(span.end_ns - end),
        trimmed_start_topic=str(topics[max(starts, key=starts.__getitem__)])
        if start > span.start_ns
        else None,
        trimmed_end_topic=str(topics[min(ends, key=ends.__getitem__)]) if end < span.end_ns else None,
        step_median_ms=milliseconds(float(np.median(intervals))) if len(intervals) else None,
        step_max_ms=milliseconds(int(intervals.max())) if len(intervals) else None,
        topics=reports,
        violations=tuple(find_violations(reports, steps, settings.maximum_trim_s)),
        warnings=tuple(find_warnings(reports, steps)),
        notes=prepared.notes,
    )
    if report.violations and settings.out_of_tolerance == REFUSE:
        causes = clock_warnings(reports)
        if any(
            topic.field == JOINT_POSITIONS and find_violations([topic], steps, settings.maximum_trim_s)
            for topic in reports
        ):
            causes += _varying_joints(prepared)
        problems = "; ".join((*report.violations, *causes))
        raise SyncError(
            f"{name} is out of step: {problems}. Received: {steps} steps in {report.span_s:.3f} s", report
        )
    names = prepared.joints.names if prepared.joints is not None else ()
    return EpisodePlan(times[:steps], taken.frames, taken.columns, names, taken.action_names, report)


def _varying_joints(prepared: _Prepared) -> list[str]:
    varying = None if prepared.joints is None else prepared.joints.varying
    return [] if varying is None else [varying]


def _steps(topics: Mapping[str, Topic], settings: SyncSettings, start_ns: int, end_ns: int) -> np.ndarray:
    """Times of all steps, int64, ascending, including one more where an action is read at the next step."""
    if end_ns < start_ns:
        return np.zeros(0, np.int64)
    if settings.rate_hz is not None:
        return resampling.ticks(start_ns, end_ns, settings.rate_hz)
    stamps = topics[settings.clock].series[0]
    return stamps[(stamps >= start_ns) & (stamps <= end_ns)]
