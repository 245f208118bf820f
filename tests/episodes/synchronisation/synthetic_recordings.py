"""Recordings made of arrays, with times that are known to the nanosecond."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from episodes.episode import GELSIGHT_LEFT, IMAGE
from episodes.recording import FrameTimes, JointSamples, Recording, TextSamples, VectorSamples

START_NS = 1_700_000_000_123_456_789
MS = 1_000_000
S = 1_000_000_000
ARM = ("joint_1", "joint_2")


def every(interval_ns: int, count: int, offset_ns: int = 0) -> np.ndarray:
    """int64 [count] stamps at a fixed interval, the first ``offset_ns`` after ``START_NS``."""
    return START_NS + offset_ns + np.arange(count, dtype=np.int64) * interval_ns


def camera(
    stamp_ns: np.ndarray,
    topic: str = "/camera",
    *,
    delay_ns: int | np.ndarray = 0,
    checksum: np.ndarray | None = None,
    **more: Any,
) -> FrameTimes:
    """Images that are recorded ``delay_ns`` after their stamps."""
    if checksum is None:
        checksum = np.arange(len(stamp_ns))
    return FrameTimes(
        topic=topic,
        stamp_ns=stamp_ns,
        log_ns=stamp_ns + delay_ns,
        zero_stamps=more.pop("zero_stamps", 0),
        checksum=np.asarray(checksum, np.uint32),
        shape=(4, 6, 3),
        dtype="uint8",
        **more,
    )


def arm(
    stamp_ns: np.ndarray,
    motion: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    names: tuple[str, ...] = ARM,
    delay_ns: int = 0,
    publisher: str = "",
) -> JointSamples:
    """All joints of ``names`` in each message, at ``motion(seconds since START_NS)``; at rest without."""
    seconds = (stamp_ns - START_NS) / 1e9
    positions = np.zeros((len(names), len(seconds)))
    if motion is not None:
        positions += motion(seconds)
    return JointSamples(
        topic="/joint_states",
        stamp_ns=stamp_ns,
        log_ns=stamp_ns + delay_ns,
        zero_stamps=0,
        names=(names,) * len(stamp_ns),
        positions=tuple(positions.T),
        publisher=(publisher,) * len(stamp_ns),
    )


def joint_messages(messages: Sequence[tuple[int, tuple[str, ...], Sequence[float], str]]) -> JointSamples:
    """From (ns since ``START_NS``, names, positions, publisher) of each message."""
    stamps = START_NS + np.array([m[0] for m in messages], np.int64)
    return JointSamples(
        topic="/joint_states",
        stamp_ns=stamps,
        log_ns=stamps,
        zero_stamps=0,
        names=tuple(m[1] for m in messages),
        positions=tuple(np.array(m[2], np.float64) for m in messages),
        publisher=tuple(m[3] for m in messages),
    )


def vectors(stamp_ns: np.ndarray, values: np.ndarray, names: tuple[str, ...]) -> VectorSamples:
    return VectorSamples("/vectors", stamp_ns, stamp_ns, 0, values, names)


def marks(*events: tuple[float, str]) -> TextSamples:
    """From (seconds since ``START_NS``, text) of each mark."""
    stamps = START_NS + np.array([round(s * 1e9) for s, _ in events], np.int64)
    return TextSamples("/marks", stamps, stamps, len(events), tuple(text for _, text in events))


def recording(
    image: FrameTimes | None = None,
    gelsight: FrameTimes | None = None,
    joints: JointSamples | None = None,
    **more: Any,
) -> Recording:
    frames = {field: f for field, f in ((IMAGE, image), (GELSIGHT_LEFT, gelsight)) if f is not None}
    parts = {"command": None, "pose": None, "instruction": None, "marks": None, **more}
    return Recording(path=Path("demo.bag"), frames=frames, joints=joints, **parts)
