"""The sample bags: arm, pictures, touch, and the bags, which are also read back as they are shipped."""

import hashlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader

from simulation import arm, reach_scene, sample_bags
from simulation.ray_caster import Box, Camera, Capsule, render
from simulation.reach_motion import DURATION_S, OPEN, sample_reach
from simulation.reach_scene import CUBE, FULL_PRESS, Thing

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = ROOT / "sample_bags"
GREY = (0.5, 0.5, 0.5)


# The arm.


def test_the_arm_stands_upright_at_zero() -> None:
    pose = arm.forward(np.zeros(7))
    np.testing.assert_allclose(pose.points[:, :2], 0.0, atol=1e-12)
    assert (np.diff(pose.points[:, 2]) >= 0).all()
    np.testing.assert_allclose(pose.rotation, np.eye(3), atol=1e-12)


@given(
    reach=st.floats(reach_scene.NEAREST, reach_scene.FARTHEST),
    side=st.floats(-reach_scene.WIDEST, reach_scene.WIDEST),
    height=st.floats(0.02, 0.1),
    yaw=st.floats(-math.pi / 4, math.pi / 4),
    lean=st.floats(-0.3, 0.3),
)
@settings(max_examples=40, deadline=None)
def test_solved_joints_bring_the_hand_to_the_pose(
    reach: float, side: float, height: float, yaw: float, lean: float
) -> None:
    tip, hand = np.array([reach * math.cos(side), reach * math.sin(side), height]), arm.downward(yaw, lean)
    joints = arm.solve(tip, hand, np.array([side, 0.4, 1.7, 1.0, 0.0, side - yaw]))
    pose = arm.forward(np.append(joints, 0.0))
    np.testing.assert_allclose(pose.points[-1], tip, atol=1e-7)
    np.testing.assert_allclose(pose.rotation, hand, atol=1e-6)


def test_a_pose_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reach the pose\. Received: tip=\[2\.0"):
        arm.solve(np.array([2.0, 0.0, 0.0]), arm.downward(0.0), np.zeros(6) + 0.5)


@pytest.mark.parametrize("width", [0.02, 0.04, 0.06])
def test_the_fingertips_are_as_far_apart_as_asked(width: float) -> None:
    tips = arm.forward(np.append(np.zeros(6), arm.gripper_angle(width))).fingertips
    assert np.linalg.norm(tips[1] - tips[0]) == pytest.approx(width)
    assert arm.opening(arm.gripper_angle(width)) == pytest.approx(width)


# Pictures.


def overhead(height: int, width: int) -> Camera:
    # Looking straight down has no horizon to be level with, so almost.
    return Camera((0.0, 1e-6, 1.0), (0.0, 0.0, 0.0), 0.6, height, width)


@pytest.mark.parametrize(
    ("body", "top"),
    [
        (Capsule(np.array([0, 0, 0.1]), np.array([0, 0, 0.1]), 0.05, GREY), 0.15),
        (Capsule(np.array([-0.1, 0, 0.1]), np.array([0.1, 0, 0.1]), 0.03, GREY), 0.13),
        (Box(np.array([0, 0, 0.02]), np.array([0.03, 0.03, 0.02]), 0.4, GREY), 0.04),
    ],
    ids=["ball", "bar", "box"],
)
def test_depth_is_the_distance_along_the_optical_axis(body: Any, top: float) -> None:
    _, depth = render(overhead(101, 101), [body], GREY, GREY)
    assert depth[50, 50] == pytest.approx(1.0 - top, abs=1e-4)
    # The table's depth is the same everywhere, as it is not along the rays.
    assert depth[0, 0] == pytest.approx(1.0, abs=1e-4)
    assert depth[0, 100] == pytest.approx(1.0, abs=1e-4)


def test_a_body_in_front_hides_one_behind_whichever_comes_first() -> None:
    near = Capsule(np.array([0, 0, 0.3]), np.array([0, 0, 0.3]), 0.05, (1.0, 0.0, 0.0))
    far = Box(np.array([0, 0, 0.02]), np.array([0.2, 0.2, 0.02]), 0.0, (0.0, 1.0, 0.0))
    images = [render(overhead(41, 41), bodies, GREY, GREY)[0] for bodies in ([near, far], [far, near])]
    np.testing.assert_array_equal(images[0], images[1])
    assert images[0][20, 20, 0] > 0.4
    assert images[0][20, 20, 1] == 0


def test_windows_hide_nothing() -> None:
    """Only the pixels near a body are computed; all of them give the same picture."""

    class Everywhere(Camera):
        def window(self, centre: np.ndarray, radius: float) -> tuple[slice, slice]:
            return slice(None), slice(None)

    random = np.random.default_rng(0)
    bodies = [
        Capsule(random.uniform(-0.4, 0.4, 3), random.uniform(-0.4, 0.4, 3) + [0, 0, 0.4], 0.04, GREY)
        for _ in range(12)
    ]
    view = ((0.80, -0.42, 0.52), (0.16, 0.0, 0.13), 0.85, 48, 64)
    for windowed, whole in zip(
        render(Camera(*view), bodies, GREY, GREY), render(Everywhere(*view), bodies, GREY, GREY), strict=True
    ):
        np.testing.assert_array_equal(windowed, whole)


def test_every_joint_can_be_seen() -> None:
    camera, joints = reach_scene.make_camera(96, 128), np.array([0.2, 0.3, 1.7, 1.1, 0.1, 0.2, 0.3])
    before = reach_scene.see(camera, joints, ())[0].astype(int)
    for i in range(7):
        after = reach_scene.see(camera, joints + 0.15 * np.eye(7)[i], ())[0].astype(int)
        assert np.abs(after - before).max() > 20, arm.JOINT_NAMES[i]


# Touch.


@pytest.mark.parametrize("shape", reach_scene.SHAPES)
def test_the_gel_shows_how_deep_it_is_pressed(shape: str) -> None:
    thing = Thing("red", shape, 0.3, 0.0, 0.0)

    def feel(press: float, right: bool = False) -> np.ndarray:
        return reach_scene.feel(thing, press, 0.001, 48, 64, right=right).astype(int)

    light, deep = (np.abs(feel(press) - feel(0.0)).sum() for press in (FULL_PRESS / 4, FULL_PRESS))
    assert 0 < light < deep
    assert (feel(FULL_PRESS) != feel(FULL_PRESS, right=True)).any()


# The motion.


@pytest.mark.parametrize("seed", range(5))
def test_a_reach_ends_with_the_fingers_around_the_target(seed: int) -> None:
    random = np.random.default_rng(seed)
    things = reach_scene.sample_things(random, "green cube", 2)
    assert things[0].name == "green cube"
    assert len({thing.colour for thing in things}) == 3
    reach = sample_reach(random, things[0])
    assert reach.joints(0.0)[6] == OPEN
    assert [reach.press(t) for t in (0.0, DURATION_S)] == [0.0, FULL_PRESS]
    end = arm.forward(reach.joints(DURATION_S))
    np.testing.assert_allclose(end.points[-1], things[0].middle, atol=0.004)
    np.testing.assert_allclose(end.fingertips.mean(axis=0), things[0].middle, atol=0.006)
    # Velocities are those of the positions, and nothing jumps.
    times = np.linspace(0.0, DURATION_S, 2000)
    positions = np.stack([reach.joints(t) for t in times])
    velocities = np.stack([reach.velocities(t) for t in times])
    np.testing.assert_allclose(np.gradient(positions, times, axis=0)[2:-2], velocities[2:-2], atol=0.02)


# Bags.


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Topic -> its (log time, message), as rosbags reads them."""
    found: dict[str, list[tuple[int, Any]]] = {}
    with AnyReader([path]) as reader:
        for connection, log_ns, raw in reader.messages():
            found.setdefault(connection.topic, []).append(
                (log_ns, reader.deserialize(raw, connection.msgtype))
            )
    return found


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulation.sample_bags", "--bags=2", "--ros2_bags=1"]
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        done = subprocess.run(
            [*command, f"--out={tmp_path / name}", f"--seed={seed}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert set(a) == {"reach_00.bag", "reach_01/metadata.yaml", "reach_01/reach_01.mcap"}
    assert a == b
    assert all(a[name] != c[name] for name in a)
    again = subprocess.run([*command, f"--out={tmp_path / 'a'}"], cwd=ROOT, capture_output=True, check=False)
    assert again.returncode == 1
    assert digests(tmp_path / "a") == a


@pytest.mark.parametrize("numbers", [{"bags": 0}, {"bags": 1, "ros2_bags": 2}, {"bags": 1, "seed": -1}])
def test_numbers_out_of_range_are_refused(tmp_path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="Received: bags="):
        sample_bags.write_bags(tmp_path, **{"seed": 0, "ros2_bags": 0, **numbers})


def test_a_few_megabytes_are_shipped() -> None:
    assert len(list(SHIPPED.iterdir())) == sample_bags.BAGS
    assert sum(p.stat().st_size for p in SHIPPED.rglob("*") if p.is_file()) < 6e6


@pytest.mark.parametrize("number", [0, sample_bags.BAGS - 1], ids=["ros1", "ros2"])
def test_the_shipped_bags_are_those_of_the_script(number: int, tmp_path: Path) -> None:
    """But for the last bits of numbers, which another processor may round otherwise."""
    name = f"reach_{number:02d}" + (".bag" if number == 0 else "")
    shipped = read(SHIPPED / name)
    sample_bags.write_bag(tmp_path / name, number, sample_bags.SEED)
    made = read(tmp_path / name)
    assert {t: len(m) for t, m in shipped.items()} == {t: len(m) for t, m in made.items()}
    assert set(shipped) == {topic.name for topic in sample_bags.TOPICS}
    for topic, messages in shipped.items():
        assert [log for log, _ in messages] == [log for log, _ in made[topic]]
    joints = [np.stack([m.position for _, m in bag[sample_bags.JOINTS]]) for bag in (shipped, made)]
    np.testing.assert_allclose(*joints, atol=1e-9)
    images = [np.stack([m.data for _, m in bag[sample_bags.COLOUR]]).astype(int) for bag in (shipped, made)]
    assert np.mean(np.abs(images[0] - images[1]) > 2) < 0.001


def test_the_topics_are_as_real_drivers_publish_them() -> None:
    bag = read(SHIPPED / "reach_00.bag")
    for topic in sample_bags.TOPICS:
        logs = np.array([log for log, _ in bag[topic.name]])
        # The default map's tolerance of 50 ms needs every topic until the end, and no holes.
        assert np.diff(logs).max() < 1.5e9 / topic.rate_hz
        if topic.name == sample_bags.INSTRUCTION:
            continue
        stamps = np.array(
            [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for _, m in bag[topic.name]], np.int64
        )
        assert (logs > stamps).all()
        assert np.diff(stamps).std() > 0
        assert (np.diff(stamps) > 0).all()
    colour, depth = bag[sample_bags.COLOUR][0][1], bag[sample_bags.DEPTH][0][1]
    assert (colour.encoding, colour.step, len(colour.data)) == ("rgb8", 128 * 3, 96 * 128 * 3)
    assert (depth.encoding, depth.step, len(depth.data)) == ("16UC1", 128 * 2, 96 * 128 * 2)
    millimetres = np.frombuffer(depth.data, "<u2")
    assert 500 < np.median(millimetres[millimetres > 0]) < 2000
    gel = bag[sample_bags.GELSIGHT_LEFT][0][1]
    assert (gel.format, bytes(gel.data[:3])) == ("jpeg", b"\xff\xd8\xff")
    # A camera whose pictures repeat is frozen.
    for topic in (sample_bags.COLOUR, sample_bags.DEPTH, sample_bags.GELSIGHT_LEFT):
        frames = [m.data.tobytes() for _, m in bag[topic]]
        assert len(set(frames)) == len(frames)
    names = bag[sample_bags.JOINTS][0][1].name
    assert sorted(names) == sorted(arm.JOINT_NAMES)
    assert tuple(names) != arm.JOINT_NAMES


def test_the_instruction_names_an_object_that_is_reached_for() -> None:
    for path in (SHIPPED / "reach_00.bag", SHIPPED / "reach_15"):
        bag = read(path)
        said = {m.data for _, m in bag[sample_bags.INSTRUCTION]}
        assert len(said) == 1
        colour, shape = said.pop().removeprefix("reach for the ").split()
        assert colour in reach_scene.COLOURS
        assert shape in (CUBE, reach_scene.BALL)
        last = bag[sample_bags.COLOUR][-1][1]
        image = last.data.reshape(96, 128, 3)[..., :: -1 if last.encoding == "bgr8" else 1].astype(float)
        distance = np.abs(image / 255 - 0.85 * np.array(reach_scene.COLOURS[colour])).sum(axis=-1)
        rows, columns = np.nonzero(distance < 0.45)
        assert len(rows) > 3
        joints = dict(
            zip(bag[sample_bags.JOINTS][-1][1].name, bag[sample_bags.JOINTS][-1][1].position, strict=True)
        )
        tip = arm.forward(np.array([joints[name] for name in arm.JOINT_NAMES])).points[-1]
        camera = reach_scene.make_camera(96, 128)
        x, y, z = camera.axes @ (tip - np.array(camera.position))
        at = np.array([48 + camera.focal * y / z, 64 + camera.focal * x / z])
        assert np.hypot(rows - at[0], columns - at[1]).min() < 6
