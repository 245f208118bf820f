"""The inspect command measures what was written, and its exit status says whether all of it can be read."""

import json
import struct

import cv2
import gin
import numpy as np
import pytest

from episodes import inspect
from episodes.inspection import inspect_bag
from episodes.inspection_text import to_text
from episodes.topics import make_topic_map
from tests.episodes.bag_writer import (
    START_NS,
    compressed_message,
    image_message,
    joint_message,
    string_message,
    write_bag,
)
from tests.shared_data import shared

MILLISECOND = 10**6
FRAME = np.zeros((4, 6, 3), np.uint8)
JPEG = cv2.imencode(".jpg", FRAME)[1].tobytes()


@pytest.fixture(autouse=True)
def _no_configuration():
    gin.clear_config()
    yield
    gin.clear_config()


def messages():
    """Images at 10 Hz without the 5th and 6th, stamped 20 to 29 ms before they were recorded; two of three
    joint states without a stamp, from two publishers; JPEGs; strings."""
    out = []
    for i in range(10):
        at = START_NS + i * 100 * MILLISECOND
        if i not in (5, 6):
            delay = (20 + i) * MILLISECOND
            out.append(("/camera/color/image", image_message(FRAME, "bgr8", at), at + delay))
        out.append(("/wrist/compressed", compressed_message(JPEG, "bgr8; jpeg compressed bgr8", at), at))
    for i, caller in enumerate(["/arm", "/arm", "/gripper"]):
        at = START_NS + i * 50 * MILLISECOND
        names = ["finger"] if caller == "/gripper" else ["b", "a"]
        out.append(
            ("/joint_states", joint_message(names, [0.0] * len(names), at if i == 1 else 0), at, caller)
        )
    out.append(("/task", string_message("pick up the cup"), START_NS))
    return out


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / "a.bag", messages=messages(), topics=[("/quiet", "std_msgs/msg/Bool")])


def test_what_is_measured_is_what_was_written(bag):
    got = inspect_bag(bag, topic_map=make_topic_map())
    assert (got.status, got.error, got.ros, got.storage, got.compression) == (
        "ok",
        None,
        "ros1",
        "bag",
        "none",
    )
    assert got.messages == got.declared == 22
    assert got.start_ns == START_NS
    assert got.duration_s == pytest.approx(0.929)
    camera = got.topics["/camera/color/image"]
    assert camera.types == ("sensor_msgs/msg/Image",)
    assert (camera.count, camera.declared, camera.zero_stamps) == (8, 8, 0)
    assert camera.rate_hz == pytest.approx(10)
    assert camera.mean_rate_hz == pytest.approx(7 / 0.9)
    assert (camera.gaps, camera.missing) == (1, 2)
    assert camera.largest_gaps == (pytest.approx((0.4, 0.3)),)
    assert camera.stamp_minus_log_s == pytest.approx((-0.0235, -0.029, -0.020))
    assert camera.frames == {"bgr8 6x4, raw": 8}
    assert got.topics["/wrist/compressed"].frames == {"bgr8; jpeg compressed bgr8 6x4, jpeg": 10}
    joints = got.topics["/joint_states"]
    assert joints.publishers == ("/arm", "/gripper")
    assert joints.joints == {"/arm": (("b", "a"),), "/gripper": (("finger",),)}
    assert joints.zero_stamps == 2
    assert joints.stamp_minus_log_s == (0, 0, 0)
    assert got.topics["/task"].zero_stamps is None
    assert got.topics["/task"].rate_hz is None
    assert got.topics["/quiet"].count == 0
    assert got.resolution.found == {"joints": "/joint_states"}
    assert got.resolution.missing["image"][0] == "/camera/color/image"


def test_the_table_names_all_of_it(bag):
    text = to_text(inspect_bag(bag, topic_map=make_topic_map()))
    for said in (
        "22 messages, 0.93 s",
        "bgr8 6x4, raw",
        "-23.5 (-29.0..-20.0)",
        "from /arm, /gripper",
        "joints of /joint_states from /gripper: finger",
        "topic map: joints is /joint_states",
        "/camera/color/image_raw; the nearest are ['/camera/color/image'",
    ):
        assert said in text
    assert max(map(len, text.splitlines())) < 250


def run(capsys, *arguments):
    status = inspect.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_json_is_a_list_of_bags_with_an_object_for_each_topic(bag, tmp_path, capsys):
    write_bag(tmp_path / "b", "ros2", messages=messages())
    status, out, _ = run(capsys, tmp_path, "--json", "--topic", "image=/camera/*/image")
    first, second = json.loads(out)
    assert status == 0
    assert (first["path"], first["ros"]) == (str(bag), "ros1")
    assert (second["path"], second["ros"], second["storage"]) == (str(tmp_path / "b"), "ros2", "mcap")
    assert first["topics"]["/camera/color/image"]["count"] == 8
    assert second["topics"]["/joint_states"]["joints"] == {"": [["b", "a"], ["finger"]]}
    assert first["topic_map"]["found"]["image"] == "/camera/color/image"


def test_a_gin_file_gives_the_topic_map(bag, tmp_path, capsys):
    config = tmp_path / "conversion.gin"
    config.write_text("topic_map.image = '/wrist/*'\nsome_model.layers = 3\n")
    binding = "topic_map.instruction = '/task'"
    status, out, _ = run(capsys, bag, "--json", "--config_file", config, "--gin_bindings", binding)
    assert status == 0
    found = json.loads(out)[0]["topic_map"]["found"]
    assert (found["image"], found["instruction"]) == ("/wrist/compressed", "/task")


def undecodable(path):
    stub = compressed_message(JPEG[:20], "jpeg", START_NS)
    return write_bag(path, messages=[*messages(), ("/stub", stub, START_NS)])


def damaged(path):
    write_bag(path, messages=messages(), compression="lz4", chunk_bytes=200)
    content = bytearray(path.read_bytes())
    start = content.index(b"op=\x05", content.index(b"op=\x05") + 1)
    content[start + 60 : start + 90] = b"\xee" * 30
    path.write_bytes(content)
    return path


def unindexed(path):
    write_bag(path, messages=messages())
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, content.index(b"index_pos=") + len(b"index_pos="), 0)
    path.write_bytes(content)
    return path


def test_exit_status(bag, tmp_path, capsys):
    assert run(capsys, bag)[0] == 0
    status, out, _ = run(capsys, undecodable(tmp_path / "undecodable.bag"))
    assert status == 3
    assert "not decodable, 1 of /stub" in out
    status, out, _ = run(capsys, damaged(tmp_path / "damaged.bag"))
    assert status == 3
    assert "ended early" in out
    status, out, _ = run(capsys, tmp_path / "damaged.bag", "--salvage")
    assert status == 3
    assert "chunks were lost" in out
    status, out, _ = run(capsys, unindexed(tmp_path / "unindexed.bag"))
    assert status == 2
    assert "refused:" in out
    assert "no index" in out
    # The worst of all bags counts, and each of them is told.
    status, out, _ = run(capsys, tmp_path)
    assert status == 2
    assert all(str(path) in out for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.bag"], "There is no nowhere.bag"),
        ([".", "--topic", "colour=/x"], "PART=NAME"),
        ([".", "--config_file", "nowhere.gin"], "nowhere.gin"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    ("path", "status", "undecodable"),
    [
        ("real_ros1/ros_numpy_test.bag", "ok", {}),
        ("real_ros1/panda_joint_states.bag", "ok", {}),
        (
            "real_ros2/rosbagsrs_94types_mcap",
            "unreadable messages",
            {"/test/sensor_msgs/compressed_image": 2, "/test/sensor_msgs/image": 2},
        ),
        ("broken_real/lfs_pointer.bag", "refused", {}),
    ],
)
def test_shared_bags(path, status, undecodable):
    got = inspect_bag(shared(f"data/bags/{path}"))
    assert got.status == status
    assert {name: topic.undecodable for name, topic in got.topics.items() if topic.undecodable} == undecodable


def test_a_camera_whose_stamps_lie_behind_says_so():
    camera = inspect_bag(shared("data/bags/real_ros1/ubiquity_aruco_images.bag")).topics[
        "/raspicam_node/image/compressed"
    ]
    assert camera.stamp_minus_log_s == pytest.approx((-1.2368,) * 3, abs=1e-3)
    assert camera.frames == {"jpg 1280x960, jpeg": 1}
