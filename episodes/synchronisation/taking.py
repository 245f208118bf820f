"""What the steps of one episode take from each topic: messages of images, joint positions, actions."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from episodes.episode import ACTION, JOINT_POSITIONS
from episodes.recording import VectorSamples
from episodes.synchronisation import actions, resampling
from episodes.synchronisation.joints import JointSelection
from episodes.synchronisation.measures import TopicUse
from episodes.synchronisation.report import CLOCK, NEAREST, SyncError
from episodes.synchronisation.resampling import Bracket
from episodes.synchronisation.settings import COMMAND, POSE_DIFFERENCE, SyncSettings
from episodes.synchronisation.topics import Topic


@dataclasses.dataclass(frozen=True, eq=False)
class Taken:
    """What T steps take.

    Attributes:
      frames: image field -> int64 [T], messages.
      columns: see ``EpisodePlan``.
      action_names: A names with units.
      uses: what to report of each topic.
    """

    frames: Mapping[str, np.ndarray]
    columns: Mapping[str, np.ndarray]
    action_names: tuple[str, ...]
    uses: tuple[TopicUse, ...]


def take(
    topics: Mapping[str, Topic], settings: SyncSettings, joints: JointSelection | None, times_ns: np.ndarray
) -> Taken:
    """Takes from all topics.

    Args:
      topics: that take part.
      settings: of the synchronisation.
      joints: None where none are recorded.
      times_ns: int64, of the T steps; of one more if ``settings.needs_next_step``.

    Raises:
      SyncError: a pose without a rotation.
    """
    steps = len(times_ns) - settings.needs_next_step
    frames: dict[str, np.ndarray] = {}
    uses: list[TopicUse] = []
    for field, topic in topics.items():
        if topic.pick == NEAREST:
            frames[field], skew = resampling.nearest(times_ns[:steps], topic.stamp_ns)
            uses.append(_use(topic, settings, times_ns, frames[field], skew))
    columns: dict[str, np.ndarray] = {}
    positions: dict[str, np.ndarray] = {}
    if joints is not None:
        brackets = []
        for name, series in joints.series.items():
            positions[name], around = resampling.interpolate(times_ns, series.stamp_ns, series.positions)
            before, after = series.message[around.before], series.message[around.after]
            brackets.append(dataclasses.replace(around, before=before, after=after))
        uses.append(_use_between(topics[JOINT_POSITIONS], settings, times_ns, brackets))
        observed = np.stack([positions[name] for name in joints.names], axis=1)
        columns[JOINT_POSITIONS] = observed[:steps].astype(np.float32)
    if ACTION in topics:
        action, names, use = _from_topic(topics[ACTION], settings, times_ns)
        uses.append(use)
    else:
        assert joints is not None  # Settings that need joints were checked against the recording.
        action, names = actions.joint_actions(observed, joints.names, settings.action)
    if settings.gripper_joint is not None:
        action = np.concatenate([action, positions[settings.gripper_joint][1:, None]], axis=1)
        names = (*names, f"{settings.gripper_joint} [rad]")
    columns[ACTION] = action.astype(np.float32)
    return Taken(frames, columns, names, tuple(uses))


def _from_topic(
    topic: Topic, settings: SyncSettings, times_ns: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...], TopicUse]:
    samples = topic.times
    assert isinstance(samples, VectorSamples)
    steps = len(times_ns) - settings.needs_next_step
    if settings.action == COMMAND:
        messages, skew = resampling.last_before(times_ns[:steps], topic.stamp_ns)
        return samples.values[messages], samples.names, _use(topic, settings, times_ns, messages, skew)
    assert settings.action == POSE_DIFFERENCE
    around = resampling.bracket(times_ns, topic.stamp_ns)
    try:
        poses = actions.interpolate_poses(samples.values, around.before, around.after, around.weight)
    except ValueError as error:
        raise SyncError(f"{topic}: {error}") from error
    use = _use_between(topic, settings, times_ns, [around])
    return actions.pose_differences(poses), actions.POSE_DIFFERENCE_NAMES, use


def _use(
    topic: Topic, settings: SyncSettings, times_ns: np.ndarray, messages: np.ndarray, skew_ns: np.ndarray
) -> TopicUse:
    """Of one message a step."""
    tolerance = settings.tolerance_ns(topic.field)
    out = np.abs(skew_ns) > tolerance
    return _judged(topic, settings, times_ns, messages, skew_ns, out, None)


def _use_between(
    topic: Topic, settings: SyncSettings, times_ns: np.ndarray, brackets: Sequence[Bracket]
) -> TopicUse:
    """Of interpolation, for each joint; a step's skew is that of its farthest."""
    steps = len(times_ns) - settings.needs_next_step
    skews = np.stack([around.skew_ns for around in brackets])[:, :steps]
    farthest = np.abs(skews).argmax(axis=0)
    width = np.max([around.width_ns for around in brackets], axis=0)
    too_wide = width > 2 * settings.tolerance_ns(topic.field)
    out = too_wide[:steps]
    # The time after the last step counts too: its action is read there.
    out[-1] |= too_wide[-1]
    used = np.unique(
        np.concatenate([index for around in brackets for index in (around.before, around.after)])
    )
    return _judged(topic, settings, times_ns, used, skews[farthest, np.arange(steps)], out, width)


def _judged(
    topic: Topic,
    settings: SyncSettings,
    times_ns: np.ndarray,
    messages: np.ndarray,
    skew_ns: np.ndarray,
    out: np.ndarray,
    bracket_ns: np.ndarray | None,
) -> TopicUse:
    tolerance = settings.tolerance_ns(topic.field)
    is_clock = settings.rate_hz is None and topic.field == settings.clock
    if is_clock:
        silent = np.diff(times_ns) > topic.interval_ns + tolerance
        out = out | np.append(silent, False)[: len(out)]
    return TopicUse(
        topic.field,
        CLOCK if is_clock else topic.pick,
        topic.times,
        topic.stamp_ns,
        topic.groups,
        (topic.first_ns, topic.last_ns),
        messages,
        skew_ns,
        out,
        tolerance,
        bracket_ns,
    )
