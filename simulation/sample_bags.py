"""Writes small ROS bags of a simulated arm that reaches for coloured objects:
``python -m simulation.sample_bags --out DIR --bags N --seed S``.

The topics are those of the published recordings, with rates, phases, latencies and jitter of their own as
real drivers have them, and a topic that says the instruction. The same arguments give the same bytes.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm

from core import files
from simulation import arm, reach_scene
from simulation.reach_motion import DURATION_S, Reach, sample_reach

COLOUR, DEPTH = "/camera/color/image_raw", "/camera/depth/image_rect_raw"
GELSIGHT_LEFT = "/gelsight1/raspicam_node/image/compressed"
GELSIGHT_RIGHT = "/gelsight2/raspicam_node/image/compressed"
JOINTS, INSTRUCTION = "/joint_states", "/instruction"

BAGS, ROS2_BAGS, SEED = 16, 2, 0
HEIGHT, WIDTH = 96, 128
GEL_HEIGHT, GEL_WIDTH = 48, 64
_JPEG_QUALITY = 90
_GEL_STIFFNESS = 4000.0  # Effort of the gripper for each metre of dent.
# No two pictures of a camera are the same, or it is frozen. So much noise does it, and still compresses.
_SPECKLED, _GEL_NOISE = 0.005, 1.0
_FIRST_START_NS = 1_767_225_600 * 10**9
_BETWEEN_STARTS_NS = 60 * 10**9
_IMAGE, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


@dataclasses.dataclass(frozen=True)
class Topic:
    """One topic of the bags.

    Attributes:
      name, type: as ROS has them.
      caller: the node that publishes it.
      rate_hz: of its messages.
      jitter_s: standard deviation of a stamp from the even rhythm.
      latency_s: from stamp to log; each message's is up to half as long again.
      latched: whether late subscribers get its last message.
    """

    name: str
    type: str
    caller: str
    rate_hz: float
    jitter_s: float
    latency_s: float
    latched: bool = False


TOPICS = (
    Topic(COLOUR, _IMAGE, "/camera/realsense2_camera_manager", 10.0, 0.0008, 0.022),
    Topic(DEPTH, _IMAGE, "/camera/realsense2_camera_manager", 10.0, 0.0008, 0.026),
    Topic(GELSIGHT_LEFT, _COMPRESSED, "/gelsight1/raspicam_node", 15.0, 0.0025, 0.035),
    Topic(GELSIGHT_RIGHT, _COMPRESSED, "/gelsight2/raspicam_node", 15.0, 0.0025, 0.035),
    Topic(JOINTS, "sensor_msgs/msg/JointState", "/joint_state_publisher", 50.0, 0.0004, 0.001),
    Topic(INSTRUCTION, "std_msgs/msg/String", "/instruction_panel", 1.0, 0.0, 0.001, latched=True),
)


@dataclasses.dataclass(frozen=True)
class _Message:
    log_ns: int
    topic: Topic
    content: Any


def instruction_of(target: str) -> str:
    """The sentence for a target such as ``red cube``."""
    return f"reach for the {target}"


def write_bags(
    folder: Path,
    bags: int,
    seed: int,
    ros2_bags: int = ROS2_BAGS,
    on_bag: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Writes ``reach_00.bag``, ``reach_01.bag`` …, and the last ones as ROS 2 folders.

    Args:
      folder: that exists.
      bags: how many.
      seed: of everything that is drawn.
      ros2_bags: how many of them are ROS 2 (MCAP, zstd).
      on_bag: is called after each.

    Returns:
      What was written, in order.

    Raises:
      ValueError: numbers out of range.
      rosbags' WriterError: a bag of that name is there.
    """
    if bags < 1 or not 0 <= ros2_bags <= bags or seed < 0:
        raise ValueError(
            "bags must be at least 1, ros2_bags of them ROS 2, and the seed at least 0. "
            f"Received: bags={bags}, ros2_bags={ros2_bags}, seed={seed}"
        )
    written = []
    for i in range(bags):
        is_ros2 = i >= bags - ros2_bags
        path = folder / f"reach_{i:02d}{'' if is_ros2 else '.bag'}"
        write_bag(path, i, seed)
        written.append(path)
        on_bag()
    return written


def write_bag(path: Path, number: int, seed: int) -> None:
    """Writes one bag, which depends on its number and the seed alone; ROS 1 where the name ends in ``.bag``.

    Raises:
      rosbags' WriterError: there is something of that name.
    """
    names = [f"{colour} {shape}" for shape in reach_scene.SHAPES for colour in reach_scene.COLOURS]
    order = np.random.default_rng(seed).permutation(names)
    random = np.random.default_rng((seed, number))
    things = reach_scene.sample_things(
        random, str(order[number % len(order)]), others=int(random.integers(1, 3))
    )
    reach = sample_reach(random, things[0])
    # rgb8 as RealSense's driver publishes it, and bgr8 as many others do.
    encoding = "bgr8" if number % 3 == 2 else "rgb8"
    is_ros1 = path.suffix == ".bag"
    store = get_typestore(Stores.ROS1_NOETIC if is_ros1 else Stores.ROS2_HUMBLE)
    publisher = _Publisher(store, encoding, things, reach, int(random.integers(2**31)))
    messages = _messages(publisher, _FIRST_START_NS + number * _BETWEEN_STARTS_NS, random)
    (_write_ros1 if is_ros1 else _write_ros2)(path, messages, store)


def _messages(publisher: "_Publisher", start_ns: int, random: np.random.Generator) -> Iterator[_Message]:
    """All messages in the order of their log times; images are drawn when their turn comes."""
    schedule: list[tuple[int, int, int, int]] = []
    phase = 0.0
    for place, topic in enumerate(TOPICS):
        if topic.name == DEPTH:  # One camera takes both, one shortly after the other.
            phase += float(random.uniform(0.003, 0.015))
        else:
            phase = 0.0 if topic.latched else float(random.uniform(0.1, 0.9)) / topic.rate_hz
        seconds = np.arange(phase, DURATION_S, 1 / topic.rate_hz)
        count = len(seconds)
        jitter = np.clip(random.normal(0.0, 1.0, count), -2.0, 2.0) * topic.jitter_s
        latency = topic.latency_s * random.uniform(1.0, 1.5, count)
        stamps = start_ns + np.rint((seconds + jitter) * 1e9).astype(np.int64)
        logs = stamps + np.rint(latency * 1e9).astype(np.int64)
        schedule += zip(logs.tolist(), [place] * count, range(count), stamps.tolist(), strict=True)
    for log_ns, place, number, stamp_ns in sorted(schedule):
        topic = TOPICS[place]
        yield _Message(log_ns, topic, publisher.message(topic, stamp_ns, stamp_ns - start_ns, number))


class _Publisher:
    """Makes the content of the messages of one demonstration."""

    def __init__(
        self, store: Any, encoding: str, things: tuple[reach_scene.Thing, ...], reach: Reach, seed: int
    ) -> None:
        self._types, self._is_ros1 = store.types, "seq" in dict(store.fielddefs["std_msgs/msg/Header"][1])
        self._encoding, self._things, self._reach, self._seed = encoding, things, reach, seed
        self._camera = reach_scene.make_camera(HEIGHT, WIDTH)

    def message(self, topic: Topic, stamp_ns: int, since_start_ns: int, number: int) -> Any:
        seconds = since_start_ns / 1e9
        noise = np.random.default_rng((self._seed, TOPICS.index(topic), number))
        if topic.name == INSTRUCTION:
            return self._types[topic.type](data=instruction_of(self._things[0].name))
        if topic.name == JOINTS:
            return self._joint_state(topic, stamp_ns, seconds, number)
        if topic.type == _COMPRESSED:
            header = self._header(stamp_ns, number, topic.name.split("/")[1])
            data = self._gel_jpeg(seconds, noise, right=topic.name == GELSIGHT_RIGHT)
            return self._types[topic.type](header=header, format="jpeg", data=data)
        colour, depth = reach_scene.see(self._camera, self._reach.joints(seconds), self._things)
        if topic.name == DEPTH:
            pixels, encoding = _speckled(depth, 2, noise).astype("<u2"), "16UC1"
        else:
            colour = _speckled(colour, 4, noise)
            pixels = colour[..., ::-1] if self._encoding == "bgr8" else colour
            encoding = self._encoding
        rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(HEIGHT, -1)
        return self._types[topic.type](
            header=self._header(stamp_ns, number, "camera_color_optical_frame"),
            height=HEIGHT,
            width=WIDTH,
            encoding=encoding,
            is_bigendian=0,
            step=rows.shape[1],
            data=rows.reshape(-1),
        )

    def _gel_jpeg(self, seconds: float, noise: np.random.Generator, *, right: bool) -> np.ndarray:
        image = reach_scene.feel(
            self._things[0],
            self._reach.press(seconds),
            self._reach.offset,
            GEL_HEIGHT,
            GEL_WIDTH,
            right=right,
        )
        image = np.clip(image + noise.normal(0.0, _GEL_NOISE, image.shape[:2])[..., None], 0, 255)
        bgr = np.rint(image[..., ::-1]).astype(np.uint8)
        done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if not done:
            raise OSError("OpenCV could not encode a JPEG.")
        return data.reshape(-1)

    def _joint_state(self, topic: Topic, stamp_ns: int, seconds: float, number: int) -> Any:
        # By name, as ROS' own controllers publish them: whoever takes them by place gets the gripper first.
        order = np.argsort(arm.JOINT_NAMES)
        effort = np.zeros(len(order))
        effort[-1] = 0.0 - _GEL_STIFFNESS * self._reach.press(seconds)
        return self._types[topic.type](
            header=self._header(stamp_ns, number, ""),
            name=[arm.JOINT_NAMES[i] for i in order],
            position=self._reach.joints(seconds)[order],
            velocity=self._reach.velocities(seconds)[order],
            effort=effort[order],
        )

    def _header(self, stamp_ns: int, number: int, frame: str) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, 10**9)
        stamp = self._types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
        seq = {"seq": number} if self._is_ros1 else {}
        return self._types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame, **seq)


def _speckled(image: np.ndarray, amount: int, noise: np.random.Generator) -> np.ndarray:
    """The image with a few pixels off by up to ``amount``; 0, which is no measurement, stays 0 in depth."""
    rows, columns = (noise.integers(0, n, int(_SPECKLED * HEIGHT * WIDTH)) for n in (HEIGHT, WIDTH))
    speckled = image.astype(np.int64)
    speckled[rows, columns] += noise.integers(-amount, amount + 1, speckled[rows, columns].shape)
    speckled = np.clip(speckled, 0, np.iinfo(image.dtype).max).astype(image.dtype)
    return np.where(image == 0, image, speckled)


def _write_ros1(path: Path, messages: Iterable[_Message], store: Any) -> None:
    writer = rosbag1.Writer(path)
    writer.set_compression(rosbag1.Writer.CompressionFormat.LZ4)
    with writer:
        connections = {
            topic: writer.add_connection(
                topic.name, topic.type, typestore=store, callerid=topic.caller, latching=int(topic.latched)
            )
            for topic in TOPICS
        }
        for message in messages:
            data = store.serialize_ros1(message.content, message.topic.type)
            writer.write(connections[message.topic], message.log_ns, data)


def _write_ros2(path: Path, messages: Iterable[_Message], store: Any) -> None:
    writer = rosbag2.Writer(path, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP)
    writer.set_compression(rosbag2.CompressionMode.STORAGE, rosbag2.CompressionFormat.ZSTD)
    with writer:
        connections = {
            topic: writer.add_connection(topic.name, topic.type, typestore=store) for topic in TOPICS
        }
        for message in messages:
            data = store.serialize_cdr(message.content, message.topic.type)
            writer.write(connections[message.topic], message.log_ns, data)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m simulation.sample_bags", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--bags", type=int, default=BAGS)
    parser.add_argument("--ros2_bags", type=int, default=ROS2_BAGS, help="how many of them are ROS 2")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    try:
        with (
            files.atomic_folder(options.out) as folder,
            tqdm(total=options.bags, unit="bag", file=sys.stderr) as bar,
        ):
            write_bags(folder, options.bags, options.seed, options.ros2_bags, lambda: bar.update() and None)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
