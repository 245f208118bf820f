"""What is in a bag: every message read and decoded once, and measured."""

import array
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from episodes.bag_index import stamp_of
from episodes.bags.bag import Bag, BagError, Connection, Message
from episodes.bags.reader import open_bag
from episodes.images import ImageError, decode_image
from episodes.synchronisation.measures import find_gaps
from episodes.topics import Resolution, TopicMap

OK, UNREADABLE, REFUSED = "ok", "unreadable messages", "refused"
_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_JOINTS = "sensor_msgs/msg/JointState"
_LARGEST_GAPS = 3
# Compressed depth has a header before the image.
_CODECS = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png"}
_HEAD_BYTES = 16
# Ways in which messages of a topic look or fail; more of them are counted as others.
_MAX_KINDS = 20


@dataclasses.dataclass(frozen=True)
class TopicInspection:
    """One topic's messages, of all types and publishers.

    Attributes:
      types: of the messages; a topic may carry several.
      publishers: ROS 1's caller ids; empty where the bag does not say.
      count: messages that were read.
      declared: None where the bag declares nothing.
      rate_hz: one over the median interval, added over publishers; None for fewer than two messages.
      mean_rate_hz: intervals over the time from the first to the last message; None as above.
      gaps: intervals longer than 1.5 median ones of their publisher.
      missing: messages that would have filled the gaps.
      largest_gaps: (start in s since the topic's first message, length in s), the longest first.
      zero_stamps: messages whose header has no time; None for types without a header.
      stamp_minus_log_s: (median, least, most) of those that have one; None where none has.
      frames: images: "encoding WxH, compression" -> how many; the compression is told from the bytes.
      joints: publisher -> the lists of names that it publishes.
      undecodable: messages that are no whole message of their type, or no whole image.
      undecodable_reasons: why -> how many.
    """

    types: tuple[str, ...]
    publishers: tuple[str, ...]
    count: int
    declared: int | None
    rate_hz: float | None
    mean_rate_hz: float | None
    gaps: int
    missing: int
    largest_gaps: tuple[tuple[float, float], ...]
    zero_stamps: int | None
    stamp_minus_log_s: tuple[float, float, float] | None
    frames: Mapping[str, int]
    joints: Mapping[str, tuple[tuple[str, ...], ...]]
    undecodable: int
    undecodable_reasons: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class BagInspection:
    """One bag; of a bag that was refused there is only its path and the reason.

    Attributes:
      path: as it was given.
      status: ``ok``; ``unreadable messages``: some cannot be read or decoded, or were lost; ``refused``.
      error: why it was refused, or where reading it ended.
      ros, storage, compression, declared, salvaged, notes: as in ``Bag``.
      messages: that were read.
      start_ns, duration_s: of the log times; None without messages.
      topics: by name.
      resolution: what a topic map finds in it; None where none was given.
    """

    path: Path
    status: str
    error: str | None = None
    ros: str = ""
    storage: str = ""
    compression: str = ""
    declared: int | None = None
    salvaged: bool = False
    notes: tuple[str, ...] = ()
    messages: int = 0
    start_ns: int | None = None
    duration_s: float | None = None
    topics: Mapping[str, TopicInspection] = dataclasses.field(default_factory=dict)
    resolution: Resolution | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it; JSON values only, all numbers finite."""
        value = {**dataclasses.asdict(self), "path": str(self.path)}
        value["topic_map"] = value.pop("resolution")
        return value


class Inspector:
    """Inspects one bag while its messages stream by; memory grows by some 20 bytes a message."""

    def __init__(self, path: Path, *, salvage: bool = False, topic_map: TopicMap | None = None) -> None:
        self._path, self._salvage, self._topic_map = path, salvage, topic_map
        self.declared: int | None = None
        self.result: BagInspection | None = None

    def run(self) -> Iterator[int]:
        """Yields how many messages were read, at every hundredth; at the end ``result`` is there."""
        try:
            bag = open_bag(self._path, salvage=self._salvage)
        except BagError as error:
            self.result = BagInspection(self._path, REFUSED, str(error))
            return
        with bag:
            self.declared = bag.declared
            topics = {
                c.topic: _Topic([d for d in bag.connections if d.topic == c.topic]) for c in bag.connections
            }
            error_text: str | None = None
            count = 0
            try:
                for count, message in enumerate(bag.messages(), 1):
                    topics[message.connection.topic].add(message, bag)
                    if count % 100 == 0:
                        yield count
            except BagError as error:
                error_text = str(error)
            self.result = self._summarise(bag, topics, count, error_text)
        yield count

    def _summarise(
        self, bag: Bag, topics: Mapping[str, "_Topic"], count: int, error: str | None
    ) -> BagInspection:
        logs = [np.frombuffer(t, np.int64) for topic in topics.values() for t in topic.log_ns.values() if t]
        start = min((int(times.min()) for times in logs), default=None)
        end = max((int(times.max()) for times in logs), default=None)
        done = {name: topic.done() for name, topic in sorted(topics.items())}
        unread = error is not None or bag.salvaged or any(topic.undecodable for topic in done.values())
        return BagInspection(
            path=self._path,
            status=UNREADABLE if unread else OK,
            error=error,
            ros=bag.ros,
            storage=bag.storage,
            compression=bag.compression,
            declared=bag.declared,
            salvaged=bag.salvaged,
            notes=tuple(bag.notes),
            messages=count,
            start_ns=start,
            duration_s=None if start is None or end is None else (end - start) / 1e9,
            topics=done,
            resolution=None if self._topic_map is None else self._topic_map.resolve(bag.connections),
        )


def inspect_bag(path: Path, *, salvage: bool = False, topic_map: TopicMap | None = None) -> BagInspection:
    """Reads and decodes all of a bag; damage is a part of the result, not an exception.

    Args:
      path: of the bag.
      salvage: see ``open_bag``.
      topic_map: to say what it finds.
    """
    inspector = Inspector(path, salvage=salvage, topic_map=topic_map)
    for _ in inspector.run():
        pass
    assert inspector.result is not None
    return inspector.result


class _Topic:
    """What is measured of one topic; times by connection."""

    def __init__(self, connections: Iterable[Connection]) -> None:
        self._connections = tuple(connections)
        self.log_ns = {c.id: array.array("q") for c in self._connections}
        self._stamp_ns = {c.id: array.array("q") for c in self._connections}
        self._has_header = False
        self._frames: Counter[str] = Counter()
        self._joints: dict[str, set[tuple[str, ...]]] = {}
        self._reasons: Counter[str] = Counter()

    def add(self, message: Message, bag: Bag) -> None:
        connection = message.connection
        self.log_ns[connection.id].append(message.log_ns)
        stamp = 0
        try:
            decoded = bag.decode(message)
            if hasattr(decoded, "header"):
                self._has_header = True
                stamp = stamp_of(decoded)
            if connection.msgtype in _IMAGES:
                _count(self._frames, _describe(decoded, decode_image(decoded)))
            elif connection.msgtype == _JOINTS:
                self._joints.setdefault(connection.publisher, set()).add(tuple(decoded.name))
        except (BagError, ImageError) as error:
            _count(self._reasons, str(error).removeprefix(f"{bag.path}: "))
        self._stamp_ns[connection.id].append(stamp)

    def done(self) -> TopicInspection:
        logs = {id: np.frombuffer(times, np.int64) for id, times in self.log_ns.items() if times}
        stamps = {id: np.frombuffer(self._stamp_ns[id], np.int64) for id in logs}
        times = [np.where(stamps[id] == 0, logs[id], stamps[id]) for id in logs]
        gaps, missing = find_gaps(times)
        first = min((int(t.min()) for t in times), default=0)
        rates = [rate for t in times if (rate := _rate(t)) is not None]
        declared = [c.declared for c in self._connections if c.declared is not None]
        stamped = np.concatenate([(stamps[id] - logs[id])[stamps[id] != 0] for id in logs] or [np.zeros(0)])
        return TopicInspection(
            types=tuple(sorted({c.msgtype for c in self._connections})),
            publishers=tuple(sorted({c.publisher for c in self._connections} - {""})),
            count=sum(map(len, logs.values())),
            declared=sum(declared) if len(declared) == len(self._connections) else None,
            rate_hz=sum(rates) if rates else None,
            mean_rate_hz=_mean_rate(np.concatenate(times or [np.zeros(0, np.int64)])),
            gaps=len(gaps),
            missing=missing,
            largest_gaps=tuple(((at - first) / 1e9, length / 1e9) for at, length in gaps[:_LARGEST_GAPS]),
            zero_stamps=sum(int((s == 0).sum()) for s in stamps.values()) if self._has_header else None,
            stamp_minus_log_s=(
                (float(np.median(stamped)) / 1e9, int(stamped.min()) / 1e9, int(stamped.max()) / 1e9)
                if self._has_header and len(stamped)
                else None
            ),
            frames=dict(self._frames.most_common()),
            joints={publisher: tuple(sorted(names)) for publisher, names in sorted(self._joints.items())},
            undecodable=self._reasons.total(),
            undecodable_reasons=dict(self._reasons.most_common()),
        )


def _rate(times: np.ndarray) -> float | None:
    """One over the median interval between times that differ, in Hz."""
    ordered = np.unique(times)
    return 1e9 / float(np.median(np.diff(ordered))) if len(ordered) > 1 else None


def _mean_rate(times: np.ndarray) -> float | None:
    span = int(times.max() - times.min()) if len(times) else 0
    return 1e9 * (len(times) - 1) / span if span else None


def _describe(message: Any, image: np.ndarray) -> str:
    height, width = image.shape[:2]
    if hasattr(message, "encoding"):
        return f"{message.encoding} {width}x{height}, raw"
    head = bytes(message.data[:_HEAD_BYTES])
    codec = next((name for magic, name in _CODECS.items() if magic in head), "compressed")
    return f"{message.format or 'no format'} {width}x{height}, {codec}"


def _count(counter: Counter[str], key: str) -> None:
    counter[key if key in counter or len(counter) < _MAX_KINDS else "others"] += 1
