"""What is known of a bag before any image is decoded: when each message of the configured topics was
recorded, and the numbers and words of the small ones. Made in one streaming pass; images stay in the bag.

All times are int64 nanoseconds since 1970. Arrays keep the order in which ``Bag.messages`` gave them.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Times:
    """When the n messages of one topic were taken and recorded.

    Attributes:
      topic: its name in the bag.
      stamp_ns: int64 [n], the header's stamp, or the log time where that is zero or there is no header.
      log_ns: int64 [n].
      zero_stamps: how many messages had no stamp and got their log time.
    """

    topic: str
    stamp_ns: np.ndarray
    log_ns: np.ndarray
    zero_stamps: int


@dataclasses.dataclass(frozen=True, eq=False)
class FrameTimes(Times):
    """An image topic.

    Attributes:
      checksum: uint32 [n] of the payload; equal neighbours are a frozen camera.
      shape: of a decoded frame, (H, W, 3) or (H, W), from the first message.
      dtype: ``uint8`` or ``uint16``.
      undecodable: messages that hold no whole image, by their place among all of the topic; the arrays
        above are without them.
    """

    checksum: np.ndarray
    shape: tuple[int, ...]
    dtype: str
    undecodable: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class JointSamples(Times):
    """A ``sensor_msgs/JointState`` topic, with whatever publishers there are on it.

    Attributes:
      names: n tuples of joint names, as published.
      positions: n float64 arrays, each as long as its names.
      publisher: n names (ROS 1's caller id; empty where unknown).
    """

    names: tuple[tuple[str, ...], ...]
    positions: tuple[np.ndarray, ...]
    publisher: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class VectorSamples(Times):
    """A topic of numbers, such as a command or a pose.

    Attributes:
      values: float64 [n, k].
      names: k names of the elements with their units, e.g. ``linear.x [m/s]``.
    """

    values: np.ndarray
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class TextSamples(Times):
    """A topic of strings, or of marks: ``true``/``false`` for Bool, the number for Int, empty for Empty.

    Attributes:
      texts: n strings.
    """

    texts: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """One bag's index.

    Attributes:
      path: of the bag.
      frames: field of the contract (``observation/image`` …) -> its topic. Topics that may be absent and
        are have no entry.
      joints: None where no joint topic is configured or there.
      command: of the topic that actions are taken from; else None.
      pose: end-effector poses, float64 [n, 7]: x, y, z in m, then the quaternion x, y, z, w; else None.
      instruction: None where instructions do not come from a topic.
      marks: start and stop marks; else None.
      notes: what was odd, one sentence each.
    """

    path: Path
    frames: Mapping[str, FrameTimes]
    joints: JointSamples | None
    command: VectorSamples | None
    pose: VectorSamples | None
    instruction: TextSamples | None
    marks: TextSamples | None
    notes: tuple[str, ...] = ()
