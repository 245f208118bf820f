"""The first pass over a bag: times of all messages that matter, and the content of the small ones."""

import array
import dataclasses
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from episodes import topics
from episodes.bags.bag import Bag, BagError, Message
from episodes.episode import DEPTH, GELSIGHT_LEFT, GELSIGHT_RIGHT, IMAGE
from episodes.images import decode_frame
from episodes.recording import FrameTimes, JointSamples, Recording, TextSamples, VectorSamples
from episodes.topics import Resolution, TopicMap

CAMERA_FIELDS: Mapping[str, str] = {
    topics.IMAGE: IMAGE,
    topics.DEPTH: DEPTH,
    topics.GELSIGHT_LEFT: GELSIGHT_LEFT,
    topics.GELSIGHT_RIGHT: GELSIGHT_RIGHT,
}
_POSE_NAMES = ("x [m]", "y [m]", "z [m]", "qx", "qy", "qz", "qw")
_TWIST_NAMES = (
    *(f"linear.{axis} [m/s]" for axis in "xyz"),
    *(f"angular.{axis} [rad/s]" for axis in "xyz"),
)

_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_DEPTH_HEADER = 12  # Before the PNG of a compressedDepth image.
_CLOCKS_APART_NS = 500_000_000  # More is no latency: the robot's clock is not the recorder's.
_TRAILER = 64  # Some drivers pad what they send with zeros.


class TopicError(ValueError):
    """A bag that lacks topics, or whose topics hold something else than they should."""


def resolve_topics(bag: Bag, topic_map: TopicMap) -> Resolution:
    """The topics of a bag.

    Raises:
      TopicError: one that is required is missing or ambiguous; the message lists all such, and every topic
        there is.
    """
    resolution = topic_map.resolve(bag.connections)
    if resolution.problems:
        there = sorted({f"{c.topic} ({c.msgtype})" for c in bag.connections})
        raise TopicError(
            f"{bag.path} does not have the configured topics: {'; '.join(resolution.problems)}. "
            f"Received: {', '.join(there) or 'a bag without topics'}"
        )
    return resolution


def index_bag(bag: Bag, resolution: Resolution, depth_unit_m: float | None = None) -> Recording:
    """Reads a bag once and keeps what ``Recording`` says; memory grows by some 100 bytes a message.

    Args:
      bag: open.
      resolution: of its topics, without problems.
      depth_unit_m: see ``episodes.images.decode_image``.

    Raises:
      BagError: the bag is damaged, or a message that is needed cannot be decoded.
      TopicError: a topic has no messages, or a type or number of elements that changes.
      ValueError: the first frame of a camera is no image of its kind.
    """
    of_topic = {topic: part for part, topic in resolution.found.items()}
    collectors = {part: _collector(part, depth_unit_m) for part in resolution.found}
    for message in bag.messages(of_topic):
        part = of_topic[message.connection.topic]
        if message.connection.msgtype not in topics.TYPES[part]:
            continue  # Another type on the same topic; the map chose it for one that fits.
        try:
            collectors[part].add(message, bag.decode(message))
        except BagError:
            raise
        except ValueError as error:
            raise TopicError(f"{bag.path}: {message.connection.topic}: {error}") from error
    empty = [
        f"{part} ({topic}): {collectors[part].explain_empty()}"
        for part, topic in resolution.found.items()
        if not collectors[part].count
    ]
    if empty:
        raise TopicError(f"{bag.path} must have messages for every topic. Received: {'; '.join(empty)}")
    done: dict[str, Any] = {part: c.done(resolution.found[part]) for part, c in collectors.items()}
    notes = [*bag.notes, *_bring_to_one_clock(done)]
    return Recording(
        path=bag.path,
        frames={CAMERA_FIELDS[part]: done[part] for part in topics.CAMERAS if part in done},
        joints=done.get(topics.JOINTS),
        command=done.get(topics.COMMAND),
        pose=done.get(topics.POSE),
        instruction=done.get(topics.INSTRUCTION),
        marks=done.get(topics.MARKS),
        notes=tuple(notes),
    )


def _bring_to_one_clock(done: dict[str, Any]) -> list[str]:
    """Moves topics that have log times only to the clock of the stamps, where the two are far apart.

    The robot's clock and the recorder's may be hours apart; a mark that was recorded at a log time would then
    cut somewhere else. Latencies are left as they are.

    Returns:
      A note where something was moved.
    """
    offsets = [np.median(t.stamp_ns - t.log_ns) for t in done.values() if t.zero_stamps == 0]
    without = {part: t for part, t in done.items() if t.zero_stamps == len(t.stamp_ns)}
    if not offsets or not without:
        return []
    offset = int(np.median(offsets))
    if abs(offset) < _CLOCKS_APART_NS:
        return []
    for part, times in without.items():
        done[part] = dataclasses.replace(times, stamp_ns=times.stamp_ns + offset)
    moved = ", ".join(t.topic for t in without.values())
    return [
        f"stamps and log times are {offset / 1e9:.3f} s apart; {moved}, which have log times only, were "
        f"moved by as much"
    ]


def stamp_of(decoded: Any) -> int:
    """A message's own time in nanoseconds; 0 where it has none."""
    header = getattr(decoded, "header", None)
    if header is None:
        return 0
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


class _Collector:
    """Times of one part's messages."""

    def __init__(self) -> None:
        self._stamps, self._logs, self._zero = array.array("q"), array.array("q"), 0

    @property
    def count(self) -> int:
        return len(self._stamps)

    def add(self, message: Message, decoded: Any) -> None:
        if not self.take(message, decoded):
            return
        stamp = stamp_of(decoded)
        self._zero += stamp == 0
        self._stamps.append(stamp or message.log_ns)
        self._logs.append(message.log_ns)

    def times(self, topic: str) -> dict[str, Any]:
        stamps, logs = (np.frombuffer(a, np.int64).copy() for a in (self._stamps, self._logs))
        return {"topic": topic, "stamp_ns": stamps, "log_ns": logs, "zero_stamps": self._zero}

    def explain_empty(self) -> str:
        return "no messages"

    def take(self, message: Message, decoded: Any) -> bool:
        """Keeps what is needed of a message; False leaves it out."""
        raise NotImplementedError

    def done(self, topic: str) -> Any:
        raise NotImplementedError


class _Frames(_Collector):
    def __init__(self, field: str, depth_unit_m: float | None) -> None:
        super().__init__()
        self._field, self._depth_unit_m = field, depth_unit_m
        self._checksums = array.array("I")
        self._first: np.ndarray | None = None
        self._messages = 0
        self._undecodable: list[int] = []
        self._reason = ""

    def take(self, message: Message, decoded: Any) -> bool:
        self._messages += 1
        if not _is_whole(decoded):
            if not self._undecodable:
                self._reason = self._reason_for(decoded)
            self._undecodable.append(self._messages - 1)
            return False
        if self._first is None:
            self._first = decode_frame(decoded, self._field, depth_unit_m=self._depth_unit_m)
        self._checksums.append(zlib.crc32(decoded.data))
        return True

    def explain_empty(self) -> str:
        if not self._messages:
            return super().explain_empty()
        return f"none of its {self._messages} messages holds a whole image; the first: {self._reason}"

    def _reason_for(self, decoded: Any) -> str:
        try:
            decode_frame(decoded, self._field, depth_unit_m=self._depth_unit_m)
        except ValueError as error:
            return str(error)
        return "its end is missing"

    def done(self, topic: str) -> FrameTimes:
        assert self._first is not None  # There was a message.
        checksums = np.array(self._checksums, np.uint32)
        return FrameTimes(
            **self.times(topic),
            checksum=checksums,
            shape=self._first.shape,
            dtype=self._first.dtype.name,
            undecodable=tuple(self._undecodable),
        )


class _Joints(_Collector):
    def __init__(self) -> None:
        super().__init__()
        self._names: list[tuple[str, ...]] = []
        self._positions: list[np.ndarray] = []
        self._publisher: list[str] = []
        self._seen: dict[tuple[str, ...], tuple[str, ...]] = {}

    def take(self, message: Message, decoded: Any) -> bool:
        names = tuple(decoded.name)
        if len(decoded.position) not in (0, len(names)) and names:
            raise ValueError(
                f"a joint state must have as many positions as names. "
                f"Received: {len(decoded.position)} positions of {list(names)}"
            )
        self._names.append(self._seen.setdefault(names, names))  # One tuple for all equal ones.
        self._positions.append(np.array(decoded.position, np.float64))
        self._publisher.append(message.connection.publisher)
        return True

    def done(self, topic: str) -> JointSamples:
        return JointSamples(
            **self.times(topic),
            names=tuple(self._names),
            positions=tuple(self._positions),
            publisher=tuple(self._publisher),
        )


class _Vectors(_Collector):
    def __init__(self, read: Callable[[Any, str], tuple[Iterable[float], tuple[str, ...]]]) -> None:
        super().__init__()
        self._read = read
        self._values = array.array("d")
        self._names: tuple[str, ...] | None = None

    def take(self, message: Message, decoded: Any) -> bool:
        values, names = self._read(decoded, message.connection.msgtype)
        values = [float(v) for v in values]
        if self._names is None:
            self._names = names
        if len(values) != len(names) or names != self._names:
            raise ValueError(
                f"all messages must be of {list(self._names)}. Received: {values} of {list(names)}"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"numbers must be finite. Received: {values}")
        self._values.extend(values)
        return True

    def done(self, topic: str) -> VectorSamples:
        names = self._names or ()
        values = np.frombuffer(self._values, np.float64).reshape(-1, len(names)).copy()
        return VectorSamples(**self.times(topic), values=values, names=names)


class _Texts(_Collector):
    def __init__(self) -> None:
        super().__init__()
        self._texts: list[str] = []

    def take(self, message: Message, decoded: Any) -> bool:
        value = getattr(decoded, "data", "")
        self._texts.append(str(value).lower() if isinstance(value, (bool, np.bool_)) else str(value))
        return True

    def done(self, topic: str) -> TextSamples:
        return TextSamples(**self.times(topic), texts=tuple(self._texts))


def _is_whole(image: Any) -> bool:
    """Whether an image's bytes reach to its end; a look at the length or the last bytes, no decoding."""
    data = image.data
    if hasattr(image, "encoding"):
        return (image.height - 1) * image.step < len(data) <= image.height * image.step
    end = bytes(data[-_TRAILER:]).rstrip(b"\0")
    head = bytes(data[: _DEPTH_HEADER + len(_PNG)])
    if head.startswith(_JPEG):
        return end.endswith(_JPEG_END)
    if _PNG in (head[: len(_PNG)], head[_DEPTH_HEADER:]):
        return _PNG_END in end
    return False


def _collector(part: str, depth_unit_m: float | None) -> _Collector:
    if part in CAMERA_FIELDS:
        return _Frames(CAMERA_FIELDS[part], depth_unit_m)
    if part == topics.JOINTS:
        return _Joints()
    if part == topics.COMMAND:
        return _Vectors(_command)
    if part == topics.POSE:
        return _Vectors(_pose)
    return _Texts()


def _command(message: Any, msgtype: str) -> tuple[Iterable[float], tuple[str, ...]]:
    kind = msgtype.rpartition("/")[2]
    if kind == "JointState":
        return message.position, tuple(f"{name} [rad]" for name in message.name)
    if kind == "JointTrajectory":
        if not message.points:
            raise ValueError("a joint trajectory must have a point. Received: none")
        # The last point is where the controller is told to go.
        return message.points[-1].positions, tuple(f"{name} [rad]" for name in message.joint_names)
    if kind in ("Twist", "TwistStamped"):
        twist = getattr(message, "twist", message)
        parts = (twist.linear, twist.angular)
        return [getattr(part, axis) for part in parts for axis in "xyz"], _TWIST_NAMES
    values = np.atleast_1d(message.data)
    return values, tuple(f"command_{i}" for i in range(len(values)))


def _pose(message: Any, msgtype: str) -> tuple[Iterable[float], tuple[str, ...]]:
    if hasattr(message, "transform"):
        position, turn = message.transform.translation, message.transform.rotation
    else:
        pose = message
        while hasattr(pose, "pose"):  # Stamped, with covariance, in an odometry.
            pose = pose.pose
        position, turn = pose.position, pose.orientation
    values = [*(getattr(position, a) for a in "xyz"), *(getattr(turn, a) for a in "xyzw")]
    return values, _POSE_NAMES
