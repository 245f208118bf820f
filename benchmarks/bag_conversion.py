"""Bags to TFRecords by ``episodes.convert``, beside EIPL's rule done straightforwardly, on the same bags.

One bag has its colour camera as raw images, the other as JPEG; both have raw depth, two tactile cameras as
JPEG and joints. Every colour frame is a step. Each side runs in a process of its own, timed from its start
to its end, and once more on a bag four times as long, for the memory that its busiest process needs.

EIPL's rule: for every tick, and for every topic, the first message at or after it by log time; the bag is
opened there anew each time, frames are kept in a list, and arrays are saved at the end. It checks nothing and
stores pixels as they are, which needs several times the disk; the command checks, reports and compresses.

    python -m benchmarks.bag_conversion [--json] [--frames 150] [--height 480] [--width 640]
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

HZ, JOINT_HZ, START_NS = 30, 100, 1_700_000_000 * 10**9
JOINTS = ("joint_1", "joint_2", "joint_3", "joint_4", "joint_5", "joint_6", "joint_7")
COLOUR, DEPTH = "/camera/color/image_raw", "/camera/depth/image_rect_raw"
TACTILE = ("/gelsight1/raspicam_node/image/compressed", "/gelsight2/raspicam_node/image/compressed")
JOINT_TOPIC = "/joint_states"
KINDS = ("raw", "jpeg")
_LOOPS = 16  # Different frames; a camera that stands still would compress too well.


@dataclasses.dataclass(frozen=True)
class Measured:
    """One process.

    Attributes:
      seconds: from its start to its end.
      peak_mb: resident memory of it, or of the largest of its workers.
    """

    seconds: float
    peak_mb: float


def write_bag(path: Path, kind: str, frames: int, shape: tuple[int, int]) -> None:
    """Writes a ROS 1 bag of ``frames`` colour frames, ``raw`` or ``jpeg``."""
    from tests.episodes import bag_writer

    bag_writer.write_bag(path, messages=_messages(kind, frames, shape))


def _messages(kind: str, frames: int, shape: tuple[int, int]) -> Iterator[tuple[str, Any, int]]:
    from tests.episodes.bag_writer import compressed_message, image_message, joint_message

    rng = np.random.default_rng(0)
    smooth = [
        cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), shape[::-1], interpolation=cv2.INTER_CUBIC)
        for _ in range(_LOOPS)
    ]
    # Sensors are noisy; a smooth picture alone would cost the encoders nothing.
    colour = [cv2.add(image, rng.integers(0, 12, image.shape, np.uint8)) for image in smooth]
    depth = [image[..., 0].astype(np.uint16) * 8 + 500 for image in smooth]
    jpeg = [cv2.imencode(".jpg", image[..., ::-1])[1].tobytes() for image in colour]
    touch = [cv2.imencode(".jpg", cv2.resize(i, (320, 240))[..., ::-1])[1].tobytes() for i in colour]
    joint = 0
    for k in range(frames):
        now = START_NS + k * 10**9 // HZ
        while START_NS + joint * 10**9 // JOINT_HZ <= now + 10**9 // HZ:
            stamp = START_NS + joint * 10**9 // JOINT_HZ
            yield JOINT_TOPIC, joint_message(JOINTS, np.sin(joint / 50 + np.arange(7)).tolist(), stamp), stamp
            joint += 1
        i = k % _LOOPS
        image = (
            image_message(colour[i], "rgb8", now)
            if kind == "raw"
            else compressed_message(jpeg[i], "jpeg", now)
        )
        yield COLOUR, image, now
        yield DEPTH, image_message(depth[i], "16UC1", now + 10**6), now + 10**6
        for offset, topic in enumerate(TACTILE, start=2):
            at = now + offset * 10**6
            yield topic, compressed_message(touch[i], "jpeg", at), at


def eipl_rule(bag: Path, folder: Path, hz: float) -> int:
    """Converts a bag as EIPL's converter does; returns the number of steps."""
    from rosbags.highlevel import AnyReader

    folder.mkdir()
    images: dict[str, list[np.ndarray]] = {topic: [] for topic in (COLOUR, DEPTH, *TACTILE)}
    joints: list[np.ndarray] = []
    with AnyReader([bag]) as reader:
        tick = float(reader.start_time - START_NS)  # Less digits than a double has.
        while True:
            row: dict[str, Any] = {}
            for topic in (*images, JOINT_TOPIC):
                connections = [c for c in reader.connections if c.topic == topic]
                for connection, _, data in reader.messages(connections, start=START_NS + round(tick)):
                    row[topic] = reader.deserialize(data, connection.msgtype)
                    break
            if len(row) <= len(images):
                break
            for topic, column in images.items():
                column.append(_plain_image(row[topic]))
            joints.append(np.array(row[JOINT_TOPIC].position))
            tick += 10**9 / hz
    for i, column in enumerate(images.values()):
        np.save(folder / f"images_{i}.npy", np.stack(column))
    np.save(folder / "joints.npy", np.stack(joints))
    return len(joints)


def _plain_image(message: Any) -> np.ndarray:
    if hasattr(message, "format"):
        return np.ascontiguousarray(cv2.imdecode(message.data, cv2.IMREAD_COLOR_RGB))
    if message.encoding == "16UC1":
        return message.data.view(np.uint16).reshape(message.height, message.width).copy()
    return message.data.reshape(message.height, message.width, 3).copy()


def run_alone(arguments: Sequence[str]) -> Measured:
    """Runs ``python -m …`` and measures it.

    Raises:
      RuntimeError: it failed; the message is what it said.
    """
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{arguments}: {said.read().decode(errors='replace')}")
    return Measured(seconds, usage.ru_maxrss / 1024)


def measure(kind: str, frames: int, shape: tuple[int, int], folder: Path) -> dict[str, Any]:
    """Both sides on a bag and on one four times as long.

    Args:
      kind: ``raw`` or ``jpeg``.
      frames: of the shorter bag.
      shape: (height, width) of colour and depth.
      folder: for bags and results.
    """
    sides: dict[str, list[Measured]] = {"ours": [], "eipl": []}
    megabytes = 0.0
    for times in (1, 4):
        bag = folder / f"{kind}{times}.bag"
        write_bag(bag, kind, frames * times, shape)
        if times == 1:
            megabytes = bag.stat().st_size / 1e6
        ours = ("episodes.convert", str(bag), "--out", str(folder / f"{kind}{times}"), "--task", "measure")
        sides["ours"].append(run_alone((*ours, "--workers", "1", "--splits", "train=1")))
        target = folder / f"{kind}{times}_eipl"
        sides["eipl"].append(run_alone(("benchmarks.bag_conversion", "--eipl", str(bag), str(target))))
        bag.unlink()
    result: dict[str, Any] = {"bag_mb": round(megabytes, 1)}
    for side, (short, long) in sides.items():
        # Of the longer bag: a short one would measure how long Python takes to start.
        result[side] = {
            "seconds": round(long.seconds, 2),
            "mb_per_s": round(4 * megabytes / long.seconds, 1),
            "s_per_gb": round(long.seconds / (4 * megabytes / 1000), 1),
            "episodes_per_s": round(1 / short.seconds, 2),
            "peak_mb": round(short.peak_mb),
            "peak_mb_of_4_times": round(long.peak_mb),
        }
    return result


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of sentences")
    parser.add_argument("--frames", type=int, default=150, help="colour frames of the shorter bag")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--eipl", nargs=2, metavar=("BAG", "FOLDER"), help="only EIPL's rule, on one bag")
    options = parser.parse_args()
    if options.eipl:
        eipl_rule(Path(options.eipl[0]), Path(options.eipl[1]), HZ)
        return
    with tempfile.TemporaryDirectory() as folder:
        shape = (options.height, options.width)
        found = {kind: measure(kind, options.frames, shape, Path(folder)) for kind in KINDS}
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    for kind, result in found.items():
        sys.stdout.write(f"{kind} colour images, bags of {result['bag_mb']} MB and four times that:\n")
        for side in ("ours", "eipl"):
            m = result[side]
            sys.stdout.write(
                f"  {side}: {m['mb_per_s']} MB/s, {m['s_per_gb']} s for each GB, "
                f"{m['episodes_per_s']} of the shorter episodes a second; memory {m['peak_mb']} MB, "
                f"{m['peak_mb_of_4_times']} MB for four times the length\n"
            )


if __name__ == "__main__":
    main()
