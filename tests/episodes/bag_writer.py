"""Writes small ROS 1 and ROS 2 bags for tests, by rosbags' own writers, and the messages in them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rosbags import rosbag1, rosbag2
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.typesys import Stores, get_typestore

ROS1_STORE = get_typestore(Stores.ROS1_NOETIC)
ROS2_STORE = get_typestore(Stores.ROS2_HUMBLE)
# Messages are made of ROS 1's classes: their fields are a superset (``header.seq``), so that both ROS
# serialise them.
TYPES = ROS1_STORE.types

START_NS = 1_700_000_000_000_000_000

_STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
_MODES = {
    "none": CompressionMode.NONE,
    "file": CompressionMode.FILE,
    "message": CompressionMode.MESSAGE,
    "chunk": CompressionMode.STORAGE,
}


def write_bag(
    path: Path,
    ros: str = "ros1",
    *,
    storage: str = "mcap",
    compression: str = "none",
    messages: Iterable[Sequence[Any]],
    topics: Sequence[tuple[str, str]] = (),
    chunk_bytes: int | None = None,
) -> Path:
    """Writes a bag and returns its path.

    Args:
      path: of the file (``ros1``) or of the folder (``ros2``); it must not exist.
      ros: ``ros1`` or ``ros2``.
      storage: ``mcap`` or ``sqlite3``; ROS 2 only.
      compression: ROS 1: ``none``, ``lz4`` or ``bz2``; ROS 2: ``none``, ``file``, ``message``, or ``chunk``
        (mcap only), which are all zstd.
      messages: (topic, message, log time in ns) each, or (topic, message, log time, caller id); a caller
        id other than the topic's first makes another ROS 1 connection. Messages are made below or from
        ``TYPES``; for a message of other type give (type name, serialised bytes, definition) instead, or
        (type name, serialised bytes, definition, md5 or RIHS01).
      topics: (topic, type) that get a connection without messages.
      chunk_bytes: after how many bytes a ROS 1 chunk is closed; 1 MiB unless told.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if ros == "ros1":
        _write_ros1(path, compression, messages, topics, chunk_bytes)
    else:
        _write_ros2(path, storage, compression, messages, topics)
    return path


def _write_ros1(
    path: Path,
    compression: str,
    messages: Iterable[Sequence[Any]],
    topics: Sequence[tuple[str, str]],
    chunk_bytes: int | None,
) -> None:
    writer = rosbag1.Writer(path)
    if compression != "none":
        writer.set_compression(rosbag1.Writer.CompressionFormat[compression.upper()])
    if chunk_bytes is not None:
        writer.chunk_threshold = chunk_bytes
    connections: dict[tuple[str, str, str | None], Any] = {}
    with writer:
        for topic, msgtype in topics:
            connections[topic, msgtype, None] = writer.add_connection(topic, msgtype, typestore=ROS1_STORE)
        for topic, message, log_ns, *caller in messages:
            callerid = caller[0] if caller else None
            if isinstance(message, tuple):
                msgtype, data, definition, *digest = message
                types: dict[str, Any] = {"msgdef": definition, "md5sum": digest[0] if digest else "0" * 32}
            else:
                msgtype, types = message.__msgtype__, {"typestore": ROS1_STORE}
                data = ROS1_STORE.serialize_ros1(message, msgtype)
            key = (topic, msgtype, callerid)
            if key not in connections:
                connections[key] = writer.add_connection(topic, msgtype, callerid=callerid, **types)
            writer.write(connections[key], log_ns, data)


def _write_ros2(
    path: Path,
    storage: str,
    compression: str,
    messages: Iterable[Sequence[Any]],
    topics: Sequence[tuple[str, str]],
) -> None:
    writer = rosbag2.Writer(path, version=9, storage_plugin=_STORAGES[storage])
    writer.set_compression(_MODES[compression], CompressionFormat.ZSTD)
    connections: dict[tuple[str, str], Any] = {}
    with writer:
        for topic, msgtype in topics:
            connections[topic, msgtype] = writer.add_connection(topic, msgtype, typestore=ROS2_STORE)
        for topic, message, log_ns, *_ in messages:
            if isinstance(message, tuple):
                msgtype, data, definition, *digest = message
                types: dict[str, Any] = {"msgdef": definition, "rihs01": digest[0] if digest else "0" * 64}
            else:
                msgtype, types = message.__msgtype__, {"typestore": ROS2_STORE}
                data = ROS2_STORE.serialize_cdr(message, msgtype)
            if (topic, msgtype) not in connections:
                connections[topic, msgtype] = writer.add_connection(topic, msgtype, **types)
            writer.write(connections[topic, msgtype], log_ns, data)


def header(stamp_ns: int = 0, frame_id: str = "") -> Any:
    stamp = TYPES["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return TYPES["std_msgs/msg/Header"](seq=0, stamp=stamp, frame_id=frame_id)


def image_message(
    array: np.ndarray, encoding: str, stamp_ns: int, *, step: int | None = None, big_endian: bool = False
) -> Any:
    """``sensor_msgs/Image`` of an array [H, W] or [H, W, C], in the encoding's own channel order.

    Args:
      array: uint8, uint16 or float32, native byte order.
      encoding: as in ``sensor_msgs/image_encodings.h``; it is not checked against the array.
      stamp_ns: header stamp.
      step: bytes of a row; more than the row needs gives padding of 0xAA behind every row.
      big_endian: byte order of the elements in the message.
    """
    height, width = array.shape[:2]
    ordered = array.astype(array.dtype.newbyteorder(">" if big_endian else "<"))
    rows = np.frombuffer(ordered.tobytes(), np.uint8).reshape(height, -1)
    step = rows.shape[1] if step is None else step
    padding = np.full((height, step - rows.shape[1]), 0xAA, np.uint8)
    return TYPES["sensor_msgs/msg/Image"](
        header=header(stamp_ns, "camera"),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=step,
        data=np.concatenate([rows, padding], axis=1).reshape(-1),
    )


def compressed_message(data: bytes, format: str, stamp_ns: int) -> Any:
    """``sensor_msgs/CompressedImage``; ``format`` is free text, e.g. ``bgr8; jpeg compressed bgr8``."""
    return TYPES["sensor_msgs/msg/CompressedImage"](
        header=header(stamp_ns, "camera"), format=format, data=np.frombuffer(data, np.uint8)
    )


def joint_message(names: Sequence[str], positions: Sequence[float], stamp_ns: int) -> Any:
    """``sensor_msgs/JointState`` without velocities and efforts."""
    return TYPES["sensor_msgs/msg/JointState"](
        header=header(stamp_ns),
        name=list(names),
        position=np.asarray(positions, np.float64),
        velocity=np.zeros(0),
        effort=np.zeros(0),
    )


def string_message(text: str) -> Any:
    """``std_msgs/String``."""
    return TYPES["std_msgs/msg/String"](data=text)
