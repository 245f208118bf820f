"""Real, recomposed and broken bags give what SOURCES.md says is right, or are refused with the reason."""

import dataclasses
import re

import pytest

from episodes.bags.bag import BagError
from episodes.bags.find import find_bags
from episodes.bags.reader import open_bag
from tests.shared_data import shared

_BRIDGE = ("put_carrot_on_plate", "put_cup_from_counter_or_drying")


@dataclasses.dataclass(frozen=True)
class Case:
    """A bag: messages that it holds, topics that they come on, messages that cannot be decoded."""

    path: str
    messages: int
    topics: int
    undecodable: int = 0
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Broken:
    """A bag that is refused, why, and the messages that salvage recovers; None: it refuses, too."""

    path: str
    reason: str
    salvaged: int | None
    note: str = ""


WHOLE = [
    Case("real_ros1/circles_scan_tf.bag", 1049, 2),
    Case("real_ros1/embag_odom_scan_cloud.bag", 15, 3),
    Case("real_ros1/jsk_wrench_644hz.bag", 7035, 1),
    Case("real_ros1/no_messages.bag", 0, 0),
    Case("real_ros1/panda_joint_states.bag", 988, 1),
    Case("real_ros1/ros_numpy_test.bag", 9, 9),
    Case("real_ros1/turtlesim_bz2.bag", 8647, 9),
    Case("real_ros1/turtlesim_lz4.bag", 8647, 9),
    Case("real_ros1/turtlesim_none.bag", 8647, 9),
    Case("real_ros1/ubiquity_aruco_images.bag", 16, 2),
    Case("real_ros1/ubiquity_aruco_marker.bag", 2, 2),
    Case("real_ros2/cdr_test_mcap", 7, 2),
    Case("real_ros2/cdr_test_sqlite3", 7, 2),
    Case("real_ros2/empty_bag", 0, 2),
    Case("real_ros2/rosbagsrs_94types_mcap", 188, 94),
    Case("real_ros2/service_events_mcap", 10, 5, undecodable=8),
    Case("real_ros2/talker_mcap_qos_mismatch", 20, 3),
    Case("real_ros2/talker_sqlite3_qos_mismatch", 20, 3, note="do not fit the bag's definition"),
    Case("real_ros2/topics_and_services.mcap", 13, 5, undecodable=6),
    Case("real_ros2/wbag_sqlite3_split5", 6074, 8, note="no definition of std_msgs/msg/String"),
    Case("broken_real/webviz_empty_message_definition.bag", 14, 1, undecodable=14),
    *(
        Case(f"recomposed_real_pixels/real_bridge{i}_{name}{end}", 150, 5)
        for i, name in enumerate(_BRIDGE)
        for end in (".bag", "_ros2")
    ),
]
BROKEN = [
    Broken("broken_real/empty_file.bag", "empty", None),
    Broken("broken_real/html_page_named.bag", "web page", None),
    Broken("broken_real/lfs_pointer.bag", "git lfs pull", None),
    Broken("broken_real/symlink_text.bag", "symbolic link.*kinect.bag", None),
    Broken("broken_real/wrong_serialization_format", "wrong_format", None),
    Broken(
        "broken_real/reindex_message_compression_no_metadata",
        "no metadata.yaml",
        1127,
        "no metadata.yaml; .*parts of one bag",
    ),
    Broken(
        "broken_real/reindex_multiple_files_no_metadata",
        "no metadata.yaml",
        3177,
        "no metadata.yaml; .*parts of one bag",
    ),
    Broken(
        "broken_synthetic/no_end_magic.mcap", "cut off", 150, "150 of 150 messages; .*end mark is missing"
    ),
    Broken("broken_synthetic/truncated_half.mcap", "cut off", 84, "84 messages; .*ends within a chunk"),
    Broken("broken_synthetic/ros1_truncated_half.bag", "cut off", 84, "84 messages; .*ends within a chunk"),
    Broken("broken_synthetic/ros1_unindexed.bag", "no index", 150, "nothing was lost; it has no index"),
]


@pytest.mark.parametrize("salvage", [False, True])
@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.path)
def test_whole_bags_are_read_in_full(case, salvage):
    with open_bag(shared(f"data/bags/{case.path}"), salvage=salvage) as bag:
        assert bag.declared == case.messages
        assert len({c.topic for c in bag.connections}) == case.topics
        count = undecodable = 0
        for message in bag.messages():
            count += 1
            try:
                bag.decode(message)
            except BagError:
                undecodable += 1
        assert (count, undecodable) == (case.messages, case.undecodable)
        assert not bag.salvaged
        if case.note:
            assert any(case.note in note for note in bag.notes)
        else:
            assert bag.notes == []


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.path)
def test_broken_bags_are_refused_or_salvaged(case):
    path = shared(f"data/bags/{case.path}")
    with pytest.raises(BagError, match=case.reason):
        open_bag(path)
    if case.salvaged is None:
        with pytest.raises(BagError, match=case.reason):
            open_bag(path, salvage=True)
        return
    with open_bag(path, salvage=True) as bag:
        assert sum(bag.decode(message) is not None for message in bag.messages()) == case.salvaged
        assert bag.salvaged
        assert any(re.search(case.note, note) for note in bag.notes), bag.notes


def test_every_shared_bag_is_in_the_tables():
    root = shared("data/bags")
    found = {str(path.relative_to(root)) for path in find_bags([root])}
    named = {case.path for case in (*WHOLE, *BROKEN)}
    assert found - named == set()
    # The parts of a wrong bag are found as the bag that they make.
    assert named - found == set()


def test_salvage_of_an_unindexed_bag_gives_what_the_index_would():
    whole = shared("data/bags/recomposed_real_pixels/real_bridge0_put_carrot_on_plate.bag")
    unindexed = shared("data/bags/broken_synthetic/ros1_unindexed.bag")
    cut = shared("data/bags/broken_synthetic/ros1_truncated_half.bag")

    def rows(path, salvage):
        with open_bag(path, salvage=salvage) as bag:
            return [(m.connection.topic, m.log_ns, bytes(m.data)) for m in bag.messages()]

    wanted = rows(whole, False)
    assert rows(unindexed, True) == wanted
    half = rows(cut, True)
    assert half == wanted[: len(half)]
