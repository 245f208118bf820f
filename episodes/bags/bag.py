"""What a bag is to its readers, whichever ROS wrote it."""

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

ROS1, ROS2 = "ros1", "ros2"


class BagError(ValueError):
    """A bag, or a message in it, that cannot be read; the message names the path and the reason."""


@dataclasses.dataclass(frozen=True)
class Connection:
    """One publisher's (ROS 1) or one channel's (ROS 2) messages on a topic.

    Attributes:
      id: unique in its bag.
      topic: e.g. ``/joint_states``.
      msgtype: e.g. ``sensor_msgs/msg/JointState``, in ROS 1 too.
      publisher: ROS 1's caller id, e.g. ``/gripper_driver``; empty where the bag does not say.
      declared: messages that the bag's index or metadata declares; None where it declares nothing.
    """

    id: int
    topic: str
    msgtype: str
    publisher: str
    declared: int | None


@dataclasses.dataclass(frozen=True)
class Message:
    """One message as it was stored.

    Attributes:
      connection: what it came on.
      log_ns: when it was recorded, nanoseconds since 1970.
      data: ROS 1 or CDR serialisation, unpacked from any compression.
    """

    connection: Connection
    log_ns: int
    data: bytes | memoryview


class Bag(Protocol):
    """An open bag: a ROS 1 file, or a ROS 2 file or folder with all its parts. A context manager.

    Attributes:
      path: as it was given.
      ros: ``ros1`` or ``ros2``.
      storage: ``bag``, ``mcap`` or ``sqlite3``.
      compression: e.g. ``none``, ``lz4``, ``bz2``, ``chunk zstd``, ``message zstd``, ``file zstd``.
      connections: all there are.
      declared: messages that the bag declares in all; None where it declares nothing.
      salvaged: whether it was read around its damage.
      notes: what was odd and how it was dealt with, one sentence each; complete once all was read.
    """

    path: Path
    ros: str
    storage: str
    compression: str
    connections: Sequence[Connection]
    declared: int | None
    salvaged: bool
    notes: list[str]

    def __enter__(self) -> "Bag": ...

    def __exit__(self, *error: object) -> None: ...

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Message]:
        """Streams the messages of some topics; an empty collection yields none, None yields all.

        The order is the same each time; in ROS 1 it is by log time. Memory is bounded by a chunk.

        Raises:
          BagError: the file is damaged on the way, or fewer (or more) messages came than are declared,
            unless the bag was opened for salvage: then the loss goes to ``notes``.
        """

    def decode(self, message: Message) -> Any:
        """The message's fields, as rosbags gives them (arrays are read-only views).

        Raises:
          BagError: the data do not fit the type, or the type is not known.
        """
