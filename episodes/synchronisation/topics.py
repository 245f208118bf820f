"""Which topics of a recording take part in its episodes, and when each of them is there."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from episodes.episode import ACTION, JOINT_POSITIONS
from episodes.recording import Recording, Times
from episodes.synchronisation.cuts import Span
from episodes.synchronisation.joints import JointSelection, select_joints
from episodes.synchronisation.measures import seconds
from episodes.synchronisation.report import LAST, LINEAR, NEAREST, SyncError
from episodes.synchronisation.settings import (
    COMMAND,
    KEEP,
    NEXT_JOINT_POSITIONS,
    POSE_DIFFERENCE,
    SyncSettings,
)

# Stamps farther apart are no recording but a clock that was set meanwhile, or a broken header.
_MAXIMUM_SPAN_NS = 48 * 3600 * 10**9


@dataclasses.dataclass(frozen=True, eq=False)
class Topic:
    """A topic that takes part.

    Attributes:
      field, pick: see ``TopicReport``; also the topic of the clock has the pick that it would have otherwise.
      times, stamp_ns, groups: see ``TopicUse``.
      series: int64 stamps of the topic, or of each of its joints, ascending and each once.
      interval_ns: the usual one of the first of these; 0 for a single message.
    """

    field: str
    pick: str
    times: Times
    stamp_ns: np.ndarray
    groups: tuple[np.ndarray, ...]
    series: tuple[np.ndarray, ...]
    interval_ns: float

    @property
    def first_ns(self) -> int:
        """When the topic, with all of its joints, is there."""
        return max(int(stamps[0]) for stamps in self.series)

    @property
    def last_ns(self) -> int:
        """Until when the topic, with all of its joints, is there."""
        return min(int(stamps[-1]) for stamps in self.series)

    @property
    def offset_s(self) -> float:
        """Median of the times that count minus log times; 0 where log times count."""
        counted = np.concatenate(self.groups)
        return seconds(float(np.median(self.stamp_ns[counted] - self.times.log_ns[counted])))

    def reach(self, settings: SyncSettings) -> tuple[int, int]:
        """The first and the last time at which a step may take from the topic."""
        tolerance = settings.tolerance_ns(self.field)
        if self.pick == LAST:
            return self.first_ns, self.last_ns + tolerance
        if self.pick == NEAREST and settings.rate_hz is None and self.field != settings.clock:
            margin = min(tolerance, int(self.interval_ns / 2))
            return self.first_ns - margin, self.last_ns + margin
        return self.first_ns, self.last_ns

    def __str__(self) -> str:
        return f"{self.times.topic} ({self.field})"


def _counted(times: Times, field: str, settings: SyncSettings) -> np.ndarray:
    return times.log_ns if field in settings.log_time else times.stamp_ns


def find_joints(recording: Recording, settings: SyncSettings) -> JointSelection | None:
    """The joints that take part; None where none are recorded.

    Raises:
      SyncError: the settings need joints that are not there, or see ``select_joints``.
    """
    samples = recording.joints
    if samples is None:
        uses = [
            what
            for what, used in (
                (f"action={settings.action!r}", settings.action not in (COMMAND, POSE_DIFFERENCE)),
                ("gripper_joint", settings.gripper_joint is not None),
                (f"idle={settings.idle!r}", settings.idle != KEEP),
            )
            if used
        ]
        if uses:
            raise SyncError(f"{recording.path}: {', '.join(uses)} needs a joint topic. Received: none")
        return None
    also = () if settings.gripper_joint is None else (settings.gripper_joint,)
    samples = dataclasses.replace(samples, stamp_ns=_counted(samples, JOINT_POSITIONS, settings))
    try:
        selection = select_joints(samples, settings.joint_names, settings.joint_publisher, also)
    except SyncError as error:
        raise SyncError(f"{recording.path}: {error}") from error
    if settings.action == NEXT_JOINT_POSITIONS and settings.gripper_joint in selection.names:
        raise SyncError(
            f"{recording.path}: the action has {settings.gripper_joint} already; gripper_joint must not be "
            f"among the observed joints. Received: {list(selection.names)}"
        )
    return selection


def find_topics(
    recording: Recording, settings: SyncSettings, joints: JointSelection | None
) -> dict[str, Topic]:
    """The topics that take part, by field.

    Raises:
      SyncError: one that the settings need is missing, or one has no messages.
    """
    found: list[tuple[str, str, Times]] = [
        (field, NEAREST, times) for field, times in recording.frames.items()
    ]
    if recording.joints is not None:
        found.append((JOINT_POSITIONS, LINEAR, recording.joints))
    wanted = {COMMAND: (recording.command, LAST), POSE_DIFFERENCE: (recording.pose, LINEAR)}
    if settings.action in wanted:
        samples, pick = wanted[settings.action]
        if samples is None:
            raise SyncError(
                f"{recording.path}: action={settings.action!r} needs a topic of its own. "
                f"Received: {[field for field, _, _ in found]}"
            )
        found.append((ACTION, pick, samples))
    empty = [f"{times.topic} ({field})" for field, _, times in found if not len(times.stamp_ns)]
    if empty or not found:
        raise SyncError(f"{recording.path}: every topic must have messages. Received: none on {empty}")
    topics = {}
    for field, pick, times in found:
        stamps = _counted(times, field, settings)
        groups: tuple[np.ndarray, ...] = (np.arange(len(stamps)),)
        series = [np.unique(stamps)]
        if field == JOINT_POSITIONS and joints is not None:
            groups = joints.groups
            series = [joint.stamp_ns for joint in joints.series.values()]
        interval = float(np.median(np.diff(series[0]))) if len(series[0]) > 1 else 0.0
        topics[field] = Topic(field, pick, times, stamps, groups, tuple(series), interval)
    if settings.rate_hz is None and settings.clock not in topics:
        raise SyncError(
            f"{recording.path}: the clock must be a recorded field; or set a rate. "
            f"Received: clock={settings.clock!r}, recorded are {sorted(topics)}"
        )
    return topics


def whole_span(recording: Recording, topics: Mapping[str, Topic]) -> Span:
    """From the first to the last message of all topics.

    Raises:
      SyncError: that is longer than a recording can be.
    """
    whole = Span(
        min(int(stamps[0]) for topic in topics.values() for stamps in topic.series),
        max(int(stamps[-1]) for topic in topics.values() for stamps in topic.series),
    )
    if whole.end_ns - whole.start_ns > _MAXIMUM_SPAN_NS:
        spans = "; ".join(
            f"{topic}: {seconds(topic.first_ns):.3f} to {seconds(topic.last_ns):.3f} s since 1970, "
            f"logged from {seconds(int(topic.times.log_ns.min())):.3f} s on"
            for topic in topics.values()
        )
        raise SyncError(
            f"{recording.path}: the stamps must be of one recording, not more than "
            f"{_MAXIMUM_SPAN_NS // 3600 // 10**9} hours; log_time takes the log times of a field instead. "
            f"Received: {spans}"
        )
    return whole
