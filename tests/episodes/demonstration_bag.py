"""A small demonstration with the published topics, for tests of the road from bags to data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.episodes import bag_writer
from tests.episodes.bag_writer import START_NS, TYPES

IMAGE, DEPTH = "/camera/color/image_raw", "/camera/depth/image_rect_raw"
LEFT, RIGHT = (f"/gelsight{i}/raspicam_node/image/compressed" for i in (1, 2))
JOINTS, POSE = "/joint_states", "/tool_pose"
NAMES = ("shoulder", "elbow", "wrist")
MILLISECOND = 1_000_000


def joints_at(t_ns: int) -> np.ndarray:
    """Linear in time, so that interpolation is exact."""
    return np.array([0.0, 1.0, -1.0]) + np.array([0.1, -0.2, 0.3]) * (t_ns * 1e-9)


def colour_at(k: int, shape: tuple[int, int] = (12, 16)) -> np.ndarray:
    """The k-th colour frame: red names it, green and blue tell the channels apart."""
    image = np.zeros((*shape, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 10 * k, 200, 30
    return image


def pose_at(t_ns: int) -> Any:
    """The tool's pose, moving as ``demonstration`` says."""
    point, quaternion = TYPES["geometry_msgs/msg/Point"], TYPES["geometry_msgs/msg/Quaternion"]
    t, half = t_ns * 1e-9, 0.2 * t_ns * 1e-9
    return TYPES["geometry_msgs/msg/PoseStamped"](
        header=bag_writer.header(START_NS + t_ns),
        pose=TYPES["geometry_msgs/msg/Pose"](
            position=point(x=0.2 * t, y=0.1, z=0.3 - 0.05 * t),
            orientation=quaternion(x=0.0, y=0.0, z=float(np.sin(half)), w=float(np.cos(half))),
        ),
    )


def demonstration(
    frames: int = 6,
    *,
    offset_ms: Sequence[int] = (3, 7, 11),
    shape: tuple[int, int] = (12, 16),
    poses: bool = False,
) -> list[tuple[str, Any, int]]:
    """Messages at 10 Hz from the cameras and 100 Hz from the arm, in the order of their log time.

    Args:
      frames: K of the colour camera, at 0, 100, … ms.
      offset_ms: of depth, left and right tactile camera behind it.
      shape: of all images.
      poses: with the tool's, at 100 Hz: it moves by 0.2 m/s in x and -0.05 m/s in z, and turns about z by
        0.4 rad/s.
    """
    messages = []
    for k in range(frames):
        stamp = START_NS + 100 * k * MILLISECOND
        messages.append((IMAGE, bag_writer.image_message(colour_at(k, shape), "rgb8", stamp), stamp))
        later = [stamp + o * MILLISECOND for o in offset_ms]
        depth = np.full(shape, 1000 + k, np.uint16)
        messages.append((DEPTH, bag_writer.image_message(depth, "16UC1", later[0]), later[0]))
        for topic, at in zip((LEFT, RIGHT), later[1:], strict=True):
            encoded = cv2.imencode(".png", colour_at(k, shape)[..., ::-1])[1].tobytes()
            messages.append((topic, bag_writer.compressed_message(encoded, "png", at), at))
    for k in range(-5, 10 * frames + 5):
        t = 10 * k * MILLISECOND
        stamp = START_NS + t
        messages.append((JOINTS, bag_writer.joint_message(NAMES, joints_at(t).tolist(), stamp), stamp))
        if poses:
            messages.append((POSE, pose_at(t), stamp))
    return sorted(messages, key=lambda message: message[2])


def write_demonstration(path: Path, ros: str = "ros1", storage: str = "mcap", **arguments: Any) -> Path:
    """Writes ``demonstration(**arguments)`` as a bag."""
    return bag_writer.write_bag(path, ros, storage=storage, messages=demonstration(**arguments))
