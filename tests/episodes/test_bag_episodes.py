"""From a bag to a stream of episodes: what each step shows, what is refused, and by which words."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.bag_episodes import open_source
from episodes.bag_index import TopicError
from episodes.episode import (
    ACTION,
    DEPTH,
    GELSIGHT_LEFT,
    GELSIGHT_RIGHT,
    IMAGE,
    IS_LAST,
    IS_TERMINAL,
    JOINT_POSITIONS,
    LANGUAGE_INSTRUCTION,
    REWARD,
    check_columns,
)
from episodes.settings import ConversionSettings, make_conversion_settings, make_sync_settings
from episodes.synchronisation.report import SyncError
from episodes.tasks import MissingTaskError, Tasks
from episodes.topics import make_topic_map, with_topics
from tests.episodes import bag_writer, demonstration_bag
from tests.episodes.bag_writer import START_NS, TYPES
from tests.episodes.demonstration_bag import MILLISECOND, colour_at, joints_at
from tests.shared_data import shared

CAMERAS = (IMAGE, DEPTH, GELSIGHT_LEFT, GELSIGHT_RIGHT)


def settings(
    *topics: str, sentence: str = "open the drawer", sync: dict[str, Any] | None = None, **others: Any
) -> ConversionSettings:
    return make_conversion_settings(
        with_topics(make_topic_map(), topics), make_sync_settings(**(sync or {})), Tasks(sentence), **others
    )


def read(path: Path, chosen: ConversionSettings) -> list[dict[str, np.ndarray]]:
    """All episodes as whole columns, checked against the contract."""
    with open_source(path, chosen) as stream:
        episodes = [dict(e.columns) for e in stream.episodes]
        for planned, columns in zip(stream.episodes, episodes, strict=True):
            for field, (shape, dtype) in planned.frames.items():
                columns[field] = np.zeros((planned.steps, *shape), dtype)
        seen = set()
        for frame in stream.frames():
            for step in frame.steps:
                assert (frame.episode, frame.field, step) not in seen
                seen.add((frame.episode, frame.field, step))
                episodes[frame.episode][frame.field][step] = frame.image
        assert len(seen) == sum(e.steps * len(e.frames) for e in stream.episodes)
    for columns in episodes:
        check_columns(columns)
    return episodes


@pytest.mark.parametrize("ros", ["ros1", "ros2"])
def test_every_step_shows_what_was_recorded_then(tmp_path: Path, ros: str) -> None:
    path = demonstration_bag.write_demonstration(tmp_path / ("d.bag" if ros == "ros1" else "d"), ros)
    (columns,) = read(path, settings())
    assert len(columns[ACTION]) == 5  # One fewer than frames: the last has no next joints.
    for k in range(5):
        for field in (IMAGE, GELSIGHT_LEFT, GELSIGHT_RIGHT):
            np.testing.assert_array_equal(columns[field][k], colour_at(k))
        assert (columns[DEPTH][k] == 1000 + k).all()
        now, then = (joints_at(100 * i * MILLISECOND) for i in (k, k + 1))
        np.testing.assert_allclose(columns[JOINT_POSITIONS][k], now, atol=1e-6)
        np.testing.assert_allclose(columns[ACTION][k], then, atol=1e-6)
    np.testing.assert_array_equal(columns[ACTION][:-1], columns[JOINT_POSITIONS][1:])
    assert columns[LANGUAGE_INSTRUCTION].tolist() == ["open the drawer"] * 5


def test_a_faster_clock_shows_a_frame_several_times(tmp_path: Path) -> None:
    path = demonstration_bag.write_demonstration(tmp_path / "d.bag")
    (columns,) = read(path, settings(sync={"rate_hz": 20.0, "default_tolerance_s": 0.06}))
    reds = columns[IMAGE][:, 0, 0, 0].tolist()
    assert len(reds) > 8
    assert reds == sorted(reds)
    assert max(reds.count(red) for red in reds) >= 2


def test_frames_are_brought_to_a_size(tmp_path: Path) -> None:
    path = demonstration_bag.write_demonstration(tmp_path / "d.bag")
    (columns,) = read(path, settings(image_sizes={"image": (6, 8), "depth": (24, 32)}))
    assert columns[IMAGE].shape[1:] == (6, 8, 3)
    assert columns[DEPTH].shape[1:] == (24, 32)
    assert set(np.unique(columns[DEPTH])) == {1000, 1001, 1002, 1003, 1004}
    assert columns[GELSIGHT_LEFT].shape[1:] == (12, 16, 3)


def test_a_camera_that_is_off_is_absent_not_zeros(tmp_path: Path) -> None:
    path = demonstration_bag.write_demonstration(tmp_path / "d.bag")
    (columns,) = read(path, settings("depth=", "gelsight_right="))
    assert {f for f in CAMERAS if f in columns} == {IMAGE, GELSIGHT_LEFT}


def test_an_optional_topic_may_be_missing(tmp_path: Path) -> None:
    messages = [m for m in demonstration_bag.demonstration() if m[0] != demonstration_bag.DEPTH]
    path = bag_writer.write_bag(tmp_path / "d.bag", messages=messages)
    with pytest.raises(TopicError, match="/camera/depth/image_rect_raw"):
        read(path, settings())
    chosen = dataclasses.replace(settings(), topics=make_topic_map(optional=["depth"]))
    (columns,) = read(path, chosen)
    assert DEPTH not in columns


def test_a_renamed_topic_is_told_with_the_one_it_may_be(tmp_path: Path) -> None:
    path = demonstration_bag.write_demonstration(tmp_path / "d.bag")
    with pytest.raises(
        TopicError, match=r"/camera/colour/image_raw.*nearest are \['/camera/color/image_raw'"
    ):
        read(path, settings("image=/camera/colour/image_raw"))


def test_a_topic_that_was_announced_and_never_sent_is_told(tmp_path: Path) -> None:
    path = bag_writer.write_bag(
        tmp_path / "d.bag",
        messages=demonstration_bag.demonstration(),
        topics=[("/task", "std_msgs/msg/String")],
    )
    with pytest.raises(TopicError, match=r"instruction \(/task\)"):
        read(path, settings("instruction=/task", sentence=""))


def test_one_broken_image_is_left_out_and_told(tmp_path: Path) -> None:
    messages = demonstration_bag.demonstration(frames=12)
    places = [i for i, m in enumerate(messages) if m[0] == demonstration_bag.LEFT]
    topic, message, log_ns = messages[places[4]]
    cut = bag_writer.compressed_message(bytes(message.data[:40]), "png", log_ns)
    messages[places[4]] = (topic, cut, log_ns)
    path = bag_writer.write_bag(tmp_path / "d.bag", messages=messages)
    with pytest.raises(SyncError, match="gelsight"):  # The next one is 100 ms away.
        read(path, settings())
    (columns,) = read(path, settings(sync={"default_tolerance_s": 0.12}))
    shown = [int(image[0, 0, 0]) // 10 for image in columns[GELSIGHT_LEFT]]
    assert shown[4] in (3, 5)
    assert [k for i, k in enumerate(shown) if i != 4] == [k for k in range(11) if k != 4]
    with open_source(path, settings(sync={"default_tolerance_s": 0.12})) as stream:
        assert stream.episodes[0].report["topics"][GELSIGHT_LEFT]["undecodable"] == 1


def test_a_camera_of_nothing_but_broken_images_is_an_error(tmp_path: Path) -> None:
    messages = [
        (
            t,
            bag_writer.compressed_message(b"\xff\xd8\xff\xe0", "jpeg", n)
            if t == demonstration_bag.LEFT
            else m,
            n,
        )
        for t, m, n in demonstration_bag.demonstration()
    ]
    path = bag_writer.write_bag(tmp_path / "d.bag", messages=messages)
    with pytest.raises(TopicError, match="none of its 6 messages holds a whole image"):
        read(path, settings())


def test_frames_that_change_their_size_are_an_error(tmp_path: Path) -> None:
    messages = demonstration_bag.demonstration()
    i = next(i for i, m in enumerate(messages) if m[0] == demonstration_bag.IMAGE and i > 10)
    topic, _, log_ns = messages[i]
    messages[i] = (topic, bag_writer.image_message(colour_at(1, (8, 8)), "rgb8", log_ns), log_ns)
    path = bag_writer.write_bag(tmp_path / "d.bag", messages=messages)
    with pytest.raises(ValueError, match=r"size of its first frame, \(12, 16, 3\). Received: \(8, 8, 3\)"):
        read(path, settings())


def test_a_colour_topic_for_depth_is_an_error(tmp_path: Path) -> None:
    path = demonstration_bag.write_demonstration(tmp_path / "d.bag")
    with pytest.raises(ValueError, match="depth"):
        read(path, settings(f"depth={demonstration_bag.IMAGE}"))


def test_all_episodes_without_a_task_are_listed(tmp_path: Path) -> None:
    path = demonstration_bag.write_demonstration(tmp_path / "d.bag")
    with pytest.raises(MissingTaskError, match="d.bag#0000"):
        read(path, settings(sentence=""))


def test_the_instruction_may_come_from_the_bag(tmp_path: Path) -> None:
    said = [
        ("/task", bag_writer.string_message(text), START_NS + at * MILLISECOND)
        for text, at in (("open the drawer", -40), ("close the drawer", 250))
    ]
    messages = sorted([*demonstration_bag.demonstration(), *said], key=lambda m: m[2])
    path = bag_writer.write_bag(tmp_path / "d.bag", messages=messages)
    (columns,) = read(path, settings("instruction=/task", sentence=""))
    assert columns[LANGUAGE_INSTRUCTION].tolist() == ["open the drawer"] * 3 + ["close the drawer"] * 2


def behind(messages: list[tuple[str, Any, int]], seconds: int) -> list[tuple[str, Any, int]]:
    """The same recording by a recorder whose clock is ahead of the robot's: stamps stay, log times move."""
    return [(topic, message, log_ns + seconds * 10**9) for topic, message, log_ns in messages]


@pytest.mark.parametrize("seconds", [0, 2, 3 * 3600])
def test_what_has_no_stamps_follows_the_clock_of_those_that_have(tmp_path: Path, seconds: int) -> None:
    said = [
        ("/task", bag_writer.string_message(text), START_NS + at * MILLISECOND)
        for text, at in (("open the drawer", -40), ("close the drawer", 250))
    ]
    messages = sorted([*demonstration_bag.demonstration(), *said], key=lambda m: m[2])
    path = bag_writer.write_bag(tmp_path / "d.bag", messages=behind(messages, seconds))
    chosen = settings("instruction=/task", sentence="")
    (columns,) = read(path, chosen)
    assert columns[LANGUAGE_INSTRUCTION].tolist() == ["open the drawer"] * 3 + ["close the drawer"] * 2
    with open_source(path, chosen) as stream:
        assert any("/task" in note for note in stream.report["notes"]) == (seconds > 0)


def test_the_end_of_a_salvaged_bag_is_no_success(tmp_path: Path) -> None:
    whole = demonstration_bag.write_demonstration(tmp_path / "whole.bag", frames=25)
    cut = tmp_path / "cut.bag"
    cut.write_bytes(whole.read_bytes()[:-3000])
    (columns,) = read(whole, settings())
    assert (columns[IS_TERMINAL][-1], columns[REWARD][-1]) == (True, 1.0)
    (columns,) = read(cut, settings(salvage=True))
    assert columns[IS_LAST][-1]
    assert not columns[IS_TERMINAL].any()
    assert not columns[REWARD].any()


def test_marks_cut_a_bag_into_episodes(tmp_path: Path) -> None:
    marks = [
        ("/recording", TYPES["std_msgs/msg/Bool"](data=on), START_NS + at * MILLISECOND)
        for on, at in ((True, -10), (False, 550), (True, 990), (False, 1650))
    ]
    messages = sorted([*demonstration_bag.demonstration(frames=20), *marks], key=lambda m: m[2])
    path = bag_writer.write_bag(tmp_path / "d.bag", messages=messages)
    cut = {"start_marks": ["true"], "stop_marks": ["false"]}
    first, second = read(path, settings("marks=/recording", sync=cut))
    assert [image[0, 0, 0] // 10 for image in first[IMAGE]] == [0, 1, 2, 3, 4]
    assert [image[0, 0, 0] // 10 for image in second[IMAGE]] == [10, 11, 12, 13, 14, 15]


def twist(x: float, turn: float) -> Any:
    vector = TYPES["geometry_msgs/msg/Vector3"]
    return TYPES["geometry_msgs/msg/Twist"](
        linear=vector(x=x, y=0.0, z=0.0), angular=vector(x=0.0, y=0.0, z=turn)
    )


def test_a_command_topic_gives_the_actions(tmp_path: Path) -> None:
    sent = [("/cmd_vel", twist(0.01 * k, -0.5), START_NS + (20 * k + 1) * MILLISECOND) for k in range(-3, 40)]
    messages = sorted([*demonstration_bag.demonstration(), *sent], key=lambda m: m[2])
    path = bag_writer.write_bag(tmp_path / "d.bag", messages=messages)
    with open_source(path, settings("command=/cmd_vel", sync={"action": "command"})) as stream:
        (planned,) = stream.episodes
    assert planned.action_names[0] == "linear.x [m/s]"
    assert planned.steps == 6  # A command needs no next step.
    assert (planned.columns[ACTION][:, 5] == np.float32(-0.5)).all()
    np.testing.assert_allclose(np.diff(planned.columns[ACTION][:, 0]), 0.05, atol=1e-6)


def test_end_effector_actions_come_from_a_pose_topic(tmp_path: Path) -> None:
    path = demonstration_bag.write_demonstration(tmp_path / "d.bag", poses=True)
    chosen = settings("pose=/tool_pose", sync={"action": "pose_difference", "gripper_joint": "wrist"})
    (columns,) = read(path, chosen)
    moved = columns[ACTION]
    assert moved.shape == (5, 7)
    np.testing.assert_allclose(moved[:, :6], np.tile([0.02, 0, -0.005, 0, 0, 0.04], (5, 1)), atol=2e-6)
    np.testing.assert_allclose(
        moved[:, 6], [joints_at(100 * k * MILLISECOND)[2] for k in range(1, 6)], atol=1e-6
    )


@pytest.mark.parametrize(
    "name", ["real_bridge0_put_carrot_on_plate", "real_bridge1_put_cup_from_counter_or_drying"]
)
def test_recomposed_bags_are_the_same_episodes_in_both_forms(name: str) -> None:
    folder = shared("data/bags/recomposed_real_pixels")
    chosen = settings("gelsight_left=/gelsight/left/*", "gelsight_right=/gelsight/right/*")
    (one,), (two,) = read(folder / f"{name}.bag", chosen), read(folder / f"{name}_ros2", chosen)
    assert one.keys() == two.keys()
    assert set(CAMERAS) < one.keys()
    for field in one:
        np.testing.assert_array_equal(one[field], two[field], err_msg=field)
    # The arm moves and the pictures change: this is no comparison of nothing with nothing.
    assert np.ptp(one[JOINT_POSITIONS], axis=0).max() > 0.01
    assert len({hashlib.sha256(image.tobytes()).digest() for image in one[IMAGE]}) == len(one[IMAGE])
