"""Which topic fills which part: fallbacks, wildcards, types, suggestions."""

import gin
import pytest

from episodes import topics
from episodes.bags.bag import Connection
from episodes.topics import TopicMap, make_topic_map, with_topics

IMAGE, JOINTS = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState"


def bag(*topics_and_types: tuple[str, str]) -> list[Connection]:
    return [Connection(i, topic, msgtype, "", 1) for i, (topic, msgtype) in enumerate(topics_and_types)]


def test_the_published_topics_are_the_default() -> None:
    published = {
        "image": "/camera/color/image_raw",
        "depth": "/camera/depth/image_rect_raw",
        "gelsight_left": "/gelsight1/raspicam_node/image/compressed",
        "gelsight_right": "/gelsight2/raspicam_node/image/compressed",
        "joints": "/joint_states",
    }
    assert make_topic_map().names == {part: (name,) for part, name in published.items()}


def test_the_first_name_that_is_there_is_taken() -> None:
    only_second = TopicMap({"image": ("/a", "/b")}).resolve(bag(("/b", IMAGE), ("/c", IMAGE)))
    both = TopicMap({"image": ("/a", "/b")}).resolve(bag(("/b", IMAGE), ("/a", IMAGE)))
    assert (only_second.found, both.found) == ({"image": "/b"}, {"image": "/a"})
    assert only_second.problems == both.problems == ()


def test_a_wildcard_finds_one_topic_of_a_fitting_type_and_never_chooses_between_two() -> None:
    wild = TopicMap({"image": ("/*/image*",)})
    info = ("/cam/image_info", "sensor_msgs/msg/CameraInfo")
    assert wild.resolve(bag(("/cam/image_raw", IMAGE), info)).found == {"image": "/cam/image_raw"}
    two = wild.resolve(bag(("/left/image_raw", IMAGE), ("/right/image_raw", IMAGE)))
    assert two.found == {}
    assert "['/left/image_raw', '/right/image_raw']" in two.problems[0]


def test_several_publishers_on_a_topic_are_one_topic() -> None:
    joints = bag(("/joint_states", JOINTS), ("/joint_states", JOINTS))
    assert TopicMap({"joints": ("/joint_states",)}).resolve(joints).found == {"joints": "/joint_states"}


def test_a_missing_topic_is_a_problem_that_names_the_nearest_of_its_type_first() -> None:
    there = bag(
        ("/rear/thermal", IMAGE),
        ("/camera/colour/image_raw", IMAGE),
        ("/camera/color/camera_info", "sensor_msgs/msg/CameraInfo"),
    )
    resolution = TopicMap({"image": ("/camera/color/image_raw",)}).resolve(there)
    assert resolution.missing == {"image": ("/camera/colour/image_raw", "/rear/thermal")}
    assert "/camera/colour/image_raw" in resolution.problems[0]


def test_an_optional_part_may_be_missing_but_is_still_listed() -> None:
    resolution = TopicMap({"depth": ("/d",)}, frozenset({"depth"})).resolve(bag(("/x", IMAGE)))
    assert (resolution.problems, resolution.missing) == ((), {"depth": ("/x",)})


def test_a_topic_of_another_type_is_told_by_its_type() -> None:
    resolution = TopicMap({"joints": ("/joint_states",)}).resolve(
        bag(("/joint_states", "std_msgs/msg/String"))
    )
    assert resolution.found == {}
    assert "/joint_states is std_msgs/msg/String" in resolution.problems[0]


def test_a_part_without_names_is_off() -> None:
    assert make_topic_map(depth=()).resolve(bag()).missing.keys() == {
        "image",
        "gelsight_left",
        "gelsight_right",
        "joints",
    }


def test_the_command_line_renames_and_switches_off() -> None:
    changed = with_topics(make_topic_map(), ["image=/a,/b*", "depth="])
    assert changed.names["image"] == ("/a", "/b*")
    assert not changed.wants("depth")
    assert changed.names["joints"] == ("/joint_states",)


@pytest.mark.parametrize("override", ["image", "camera=/x", "=/x"])
def test_an_override_of_another_form_is_refused(override: str) -> None:
    with pytest.raises(ValueError, match="PART=NAME"):
        with_topics(make_topic_map(), [override])


def test_unknown_parts_and_blank_names_are_refused() -> None:
    with pytest.raises(ValueError, match="Received: \\['camera'\\]"):
        TopicMap({"camera": ("/x",)})
    with pytest.raises(ValueError, match="Received: \\['thermal'\\]"):
        make_topic_map(optional=["thermal"])
    with pytest.raises(ValueError, match="must be words"):
        make_topic_map(image=" ")


def test_gin_configures_names() -> None:
    with gin.unlock_config():
        gin.parse_config("episodes.topic_map.image = ('/a', '/b')\nepisodes.topic_map.marks = '/recording'")
    try:
        names = make_topic_map().names
    finally:
        gin.clear_config()
    assert (names["image"], names["marks"]) == (("/a", "/b"), ("/recording",))


def test_every_part_has_types() -> None:
    assert set(topics.CAMERAS) < topics.TYPES.keys()
