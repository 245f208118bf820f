"""Which topic of a bag fills which part of an episode."""

import dataclasses
import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence

import gin

from episodes.bags.bag import Connection

# The parts of an episode that topics fill; the first five are fields of observations.
IMAGE, DEPTH, GELSIGHT_LEFT, GELSIGHT_RIGHT = "image", "depth", "gelsight_left", "gelsight_right"
JOINTS, COMMAND, POSE, INSTRUCTION, MARKS = "joints", "command", "pose", "instruction", "marks"
CAMERAS = (IMAGE, DEPTH, GELSIGHT_LEFT, GELSIGHT_RIGHT)

_FRAME_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
TYPES: Mapping[str, tuple[str, ...]] = {
    IMAGE: _FRAME_TYPES,
    DEPTH: _FRAME_TYPES,
    GELSIGHT_LEFT: _FRAME_TYPES,
    GELSIGHT_RIGHT: _FRAME_TYPES,
    JOINTS: ("sensor_msgs/msg/JointState",),
    COMMAND: (
        "sensor_msgs/msg/JointState",
        "trajectory_msgs/msg/JointTrajectory",
        "std_msgs/msg/Float64MultiArray",
        "std_msgs/msg/Float32MultiArray",
        "std_msgs/msg/Float64",
        "std_msgs/msg/Float32",
        "geometry_msgs/msg/Twist",
        "geometry_msgs/msg/TwistStamped",
    ),
    POSE: (
        "geometry_msgs/msg/PoseStamped",
        "geometry_msgs/msg/Pose",
        "geometry_msgs/msg/PoseWithCovarianceStamped",
        "geometry_msgs/msg/TransformStamped",
        "nav_msgs/msg/Odometry",
    ),
    INSTRUCTION: ("std_msgs/msg/String",),
    MARKS: (
        "std_msgs/msg/Bool",
        "std_msgs/msg/String",
        "std_msgs/msg/Empty",
        "std_msgs/msg/Int32",
        "std_msgs/msg/UInt8",
    ),
}
_SUGGESTIONS = 3


@dataclasses.dataclass(frozen=True)
class Resolution:
    """What a topic map finds in one bag.

    Attributes:
      found: part -> topic.
      missing: part -> topics of a fitting type, the nearest names first; for parts that were asked for and
        are not there, optional ones too.
      problems: one sentence for each part that is required and missing, or ambiguous.
    """

    found: Mapping[str, str]
    missing: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TopicMap:
    """Part of an episode -> names of its topic, tried in order.

    Attributes:
      names: part -> topic names, or wildcards (``*``, ``?``, ``[…]``); the first that fits is taken. A part
        without an entry, or with none in it, is off.
      optional: parts whose absence is no fault; their episodes are without them.
    """

    names: Mapping[str, tuple[str, ...]]
    optional: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for what, parts in (("names", self.names), ("optional", self.optional)):
            unknown = sorted(set(parts) - TYPES.keys())
            if unknown:
                raise ValueError(f"A topic map's {what} are of the parts {list(TYPES)}. Received: {unknown}")

    def wants(self, part: str) -> bool:
        """Whether the part is on."""
        return bool(self.names.get(part))

    def resolve(self, connections: Sequence[Connection]) -> Resolution:
        """Finds the topics of a bag.

        A name counts only where its type fits the part. Between two that a wildcard fits, nothing is
        chosen: it is a problem that names both.
        """
        found: dict[str, str] = {}
        missing: dict[str, tuple[str, ...]] = {}
        problems: list[str] = []
        for part in TYPES:
            if not self.wants(part):
                continue
            fitting = sorted({c.topic for c in connections if c.msgtype in TYPES[part]})
            candidates = next(
                (c for name in self.names[part] if (c := fnmatch.filter(fitting, name))),
                [],
            )
            if len(candidates) == 1:
                found[part] = candidates[0]
                continue
            if candidates:
                problems.append(f"{part}: name one of the topics {candidates}, all fit {self.names[part]}")
                continue
            missing[part] = _nearest(self.names[part], fitting)
            if part not in self.optional:
                problems.append(self._explain(part, connections, missing[part]))
        return Resolution(found, missing, tuple(problems))

    def _explain(self, part: str, connections: Sequence[Connection], near: Sequence[str]) -> str:
        wanted = " or ".join(self.names[part])
        others = sorted(
            {f"{c.topic} is {c.msgtype}" for c in connections if c.topic in self.names[part]},
        )
        if others:
            return f"{part}: {'; '.join(others)}, which is none of {list(TYPES[part])}"
        hint = f"the nearest are {list(near)}" if near else f"it has none of type {' or '.join(TYPES[part])}"
        return f"{part}: there is no topic {wanted}; {hint}"


@gin.configurable("topic_map", module="episodes")
def make_topic_map(
    image: str | Sequence[str] = "/camera/color/image_raw",
    depth: str | Sequence[str] = "/camera/depth/image_rect_raw",
    gelsight_left: str | Sequence[str] = "/gelsight1/raspicam_node/image/compressed",
    gelsight_right: str | Sequence[str] = "/gelsight2/raspicam_node/image/compressed",
    joints: str | Sequence[str] = "/joint_states",
    command: str | Sequence[str] = (),
    pose: str | Sequence[str] = (),
    instruction: str | Sequence[str] = (),
    marks: str | Sequence[str] = (),
    optional: Iterable[str] = (),
) -> TopicMap:
    """The topic map that gin configures; the defaults are the published recordings' topics.

    Args:
      image, depth, gelsight_left, gelsight_right, joints: topic names or wildcards, in order of
        preference; empty switches the part off.
      command: of the commands that are recorded as actions.
      pose: of the end effector.
      instruction: of the string that says what to do.
      marks: of messages that mark an episode's start and stop.
      optional: parts that a bag may lack.
    """
    named = {
        IMAGE: image,
        DEPTH: depth,
        GELSIGHT_LEFT: gelsight_left,
        GELSIGHT_RIGHT: gelsight_right,
        JOINTS: joints,
        COMMAND: command,
        POSE: pose,
        INSTRUCTION: instruction,
        MARKS: marks,
    }
    names = {part: _names(value, part) for part, value in named.items()}
    return TopicMap({part: value for part, value in names.items() if value}, frozenset(optional))


def with_topics(topic_map: TopicMap, overrides: Iterable[str]) -> TopicMap:
    """The map with some parts renamed, as a command line says it.

    Args:
      topic_map: to begin with.
      overrides: ``part=name[,name…]``; ``part=`` switches the part off.

    Raises:
      ValueError: not of that form, or an unknown part.
    """
    names = dict(topic_map.names)
    for override in overrides:
        part, equals, value = override.partition("=")
        if not equals or part not in TYPES:
            raise ValueError(
                f"A topic is given as PART=NAME, a part of {list(TYPES)}. Received: {override!r}"
            )
        names[part] = _names([name for name in value.split(",") if name], part)
    return dataclasses.replace(topic_map, names={part: value for part, value in names.items() if value})


def _names(value: str | Sequence[str], part: str) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value)
    wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
    if wrong:
        raise ValueError(f"Topic names of {part} must be words. Received: {names}")
    return names


def _nearest(names: Sequence[str], fitting: Sequence[str]) -> tuple[str, ...]:
    def distance(topic: str) -> float:
        return -max(difflib.SequenceMatcher(None, topic, name).ratio() for name in names)

    return tuple(sorted(fitting, key=distance)[:_SUGGESTIONS])
