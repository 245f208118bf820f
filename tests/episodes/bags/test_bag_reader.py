"""Bags of every format come out as they went in; what is odd costs nothing, what is missing is an error."""

import re
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from episodes.bags.bag import Bag, BagError
from episodes.bags.reader import open_bag
from tests.episodes import bag_writer
from tests.episodes.bag_writer import START_NS, image_message, joint_message, string_message, write_bag

FORMATS = [
    ("ros1", "bag", "none", "none"),
    ("ros1", "bag", "lz4", "lz4"),
    ("ros1", "bag", "bz2", "bz2"),
    ("ros2", "mcap", "none", "none"),
    ("ros2", "mcap", "file", "file zstd"),
    ("ros2", "mcap", "message", "message zstd"),
    ("ros2", "mcap", "chunk", "chunk zstd"),
    ("ros2", "sqlite3", "none", "none"),
    ("ros2", "sqlite3", "file", "file zstd"),
    ("ros2", "sqlite3", "message", "message zstd"),
]
COUNT = 30
ODD_DEFINITION = "this is no definition"


def all_messages(count: int = COUNT) -> list[tuple[Any, ...]]:
    random = np.random.default_rng(0)
    out: list[tuple[Any, ...]] = []
    for i in range(count):
        at = START_NS + i * 10**8
        out.append(
            ("/camera", image_message(random.integers(0, 256, (4, 6, 3), np.uint8), "rgb8", at), at + 5)
        )
        out.append(("/joint_states", joint_message(["a", "b"], [i, -i], at), at + 7, "/arm"))
        out.append(("/joint_states", joint_message(["c"], [i / 2], at), at + 9, "/gripper"))
        out.append(("/task", string_message(f"task {i}"), at + 11))
    return out


def make(
    folder: Path, ros: str = "ros1", storage: str = "mcap", compression: str = "none", **more: Any
) -> Path:
    path = folder / ("bag.bag" if ros == "ros1" else "bag")
    more.setdefault("messages", all_messages())
    return write_bag(path, ros, storage=storage, compression=compression, chunk_bytes=2000, **more)


def storage_file(bag: Path) -> Path:
    return next(f for f in bag.iterdir() if f.name != "metadata.yaml")


def read(bag: Bag, topics: Any = None) -> list[tuple[str, str, int, bytes]]:
    return [
        (m.connection.topic, m.connection.publisher, m.log_ns, bytes(m.data)) for m in bag.messages(topics)
    ]


@pytest.mark.parametrize(("ros", "storage", "compression", "told"), FORMATS)
def test_every_format_gives_back_what_was_written(tmp_path, ros, storage, compression, told):
    path = make(tmp_path, ros, storage, compression, topics=[("/quiet", "std_msgs/msg/Bool")])
    serialize = bag_writer.ROS1_STORE.serialize_ros1 if ros == "ros1" else bag_writer.ROS2_STORE.serialize_cdr
    wanted = [
        (topic, caller[0] if caller and ros == "ros1" else "", at, bytes(serialize(m, m.__msgtype__)))
        for topic, m, at, *caller in all_messages()
    ]
    with open_bag(path) as bag:
        assert (bag.path, bag.ros, bag.storage, bag.compression) == (path, ros, storage, told)
        assert not bag.salvaged
        assert bag.declared == 4 * COUNT
        assert {c.topic: c.declared for c in bag.connections if c.topic != "/joint_states"} == {
            "/camera": COUNT,
            "/task": COUNT,
            "/quiet": 0,
        }
        assert read(bag) == wanted
        assert read(bag) == wanted  # Again, the same.
        assert read(bag, ["/task", "/nowhere"]) == [row for row in wanted if row[0] == "/task"]
        assert read(bag, []) == []  # rosbags takes an empty filter for none.
        decoded = [bag.decode(m) for m in bag.messages(["/task"])]
        assert [m.data for m in decoded] == [f"task {i}" for i in range(COUNT)]
        assert bag.notes == []


@pytest.mark.parametrize("compression", ["none", "message", "chunk", "file"])
@pytest.mark.parametrize("named", ["whole folder", "file alone"])
def test_a_storage_file_can_be_read_alone(tmp_path, compression, named):
    path = make(tmp_path, "ros2", "mcap", compression)
    with open_bag(path) as bag:
        wanted = read(bag)
    with open_bag(path if named == "whole folder" else storage_file(path)) as bag:
        assert read(bag) == wanted
        assert bag.compression.split()[0] in (compression, "none")


def test_ros1_comes_in_order_of_log_time(tmp_path):
    late_first = sorted(all_messages(), key=lambda m: -m[2])
    with open_bag(make(tmp_path, messages=late_first)) as bag:
        assert [m.log_ns for m in bag.messages()] == sorted(m[2] for m in late_first)


def test_a_message_of_unparseable_type_costs_only_its_own_decoding(tmp_path):
    odd = [("/odd", ("odd_msgs/msg/Odd", b"\0\1\0\0abcd", ODD_DEFINITION), START_NS)]
    for ros in ("ros1", "ros2"):
        with open_bag(make(tmp_path, ros, messages=[*odd, *all_messages()])) as bag:
            assert len(read(bag)) == 4 * COUNT + 1
            for message in bag.messages():
                if message.connection.topic == "/odd":
                    with pytest.raises(
                        BagError, match="/odd cannot be decoded.*definition.*odd_msgs/msg/Odd"
                    ):
                        bag.decode(message)
                else:
                    bag.decode(message)


@pytest.mark.parametrize(
    ("ros", "definition", "said"),
    [
        ("ros1", "", "no definition of std_msgs/msg/String"),
        ("ros1", ODD_DEFINITION, "cannot be parsed"),
        ("ros1", "int32 other", "does not match|do not fit"),
        ("ros2", "int32 other", "does not match|do not fit"),
    ],
)
def test_a_wrong_definition_of_a_standard_type_is_replaced_with_a_note(tmp_path, ros, definition, said):
    serialize = bag_writer.ROS1_STORE.serialize_ros1 if ros == "ros1" else bag_writer.ROS2_STORE.serialize_cdr
    data = bytes(serialize(string_message("pick up the cup"), "std_msgs/msg/String"))
    path = make(tmp_path, ros, messages=[("/task", ("std_msgs/msg/String", data, definition), START_NS)])
    with open_bag(path) as bag:
        assert [bag.decode(m).data for m in bag.messages()] == ["pick up the cup"]
        assert len(bag.notes) == 1
        assert re.search(said, bag.notes[0])
        assert "ROS" in bag.notes[0]


STRING_MD5 = bag_writer.ROS1_STORE.generate_msgdef("std_msgs/msg/String")[1]


@pytest.mark.parametrize(
    ("msgtype", "digest", "said"),
    [
        ("std_msgs/msg/String", STRING_MD5, None),
        ("std_msgs/msg/String", "1" * 32, "does not match"),
        ("odd_msgs/msg/String", STRING_MD5, "does not match"),
    ],
)
def test_a_definition_must_match_its_md5(tmp_path, msgtype, digest, said):
    # Read as the embedded definition says, the payload would be five.
    data = (5).to_bytes(4, "little") + b"fives"
    message = ("/task", (msgtype, data, "uint32 data\nuint8[5] rest", digest), START_NS)
    with open_bag(make(tmp_path, messages=[message])) as bag:
        (got,) = bag.messages()
        if said is None:
            assert bag.decode(got).data == "fives"
            assert "does not match" in bag.notes[0]
        else:
            with pytest.raises(BagError, match=said):
                bag.decode(got)


def test_rows_that_a_database_lost_without_noticing_are_missed(tmp_path):
    path = make(tmp_path, "ros2", "sqlite3")
    file = storage_file(path)
    database = apsw.Connection(str(file))
    database.execute("DELETE FROM messages WHERE id = 7")
    with open_bag(path) as bag:
        assert len(read(bag)) == 4 * COUNT - 1
        assert any("1 of the numbers of its messages are missing" in note for note in bag.notes)
    database.execute("UPDATE messages SET topic_id = 99 WHERE id = 8")
    with pytest.raises(BagError, match="119 messages, of which 118 belong"):
        open_bag(path)
    with open_bag(path, salvage=True) as bag:
        assert len(read(bag)) == 4 * COUNT - 2
        assert "118 messages; " in bag.notes[0]
        assert "1 messages belong to no known topic" in bag.notes[0]
    root = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'timestamp_idx'").fetchone()[0]
    page = database.execute("PRAGMA page_size").fetchone()[0]
    database.execute("UPDATE messages SET topic_id = 1 WHERE id = 8")
    database.close()
    content = bytearray(file.read_bytes())
    (cells,) = struct.unpack_from(">H", content, (root - 1) * page + 3)
    assert cells > 1
    struct.pack_into(">H", content, (root - 1) * page + 3, cells - 1)
    file.write_bytes(content)
    with pytest.raises(BagError, match="its table has 119 messages and its index"):
        open_bag(path)


def test_data_that_do_not_fit_their_type_are_an_error(tmp_path):
    definition = bag_writer.ROS1_STORE.generate_msgdef("std_msgs/msg/String")[0]
    message = ("/task", ("std_msgs/msg/String", b"\xff\xff\xff\x7fshort", definition), START_NS)
    with open_bag(make(tmp_path, messages=[message])) as bag:
        (got,) = bag.messages()
        with pytest.raises(BagError, match="a message of /task is no std_msgs/msg/String"):
            bag.decode(got)


def test_wrong_quality_of_service_in_the_metadata_loses_nothing(tmp_path):
    path = make(tmp_path, "ros2")
    metadata = path / "metadata.yaml"
    text = metadata.read_text()
    changed = text.replace("offered_qos_profiles: []", "offered_qos_profiles: ''")
    metadata.write_text(changed.replace("type_description_hash: RIHS01", "type_description_hash: RIHS02"))
    assert metadata.read_text() != text
    with open_bag(path) as bag:
        assert len(read(bag)) == 4 * COUNT


def test_stale_metadata_is_noted_and_the_storage_believed(tmp_path):
    path = make(tmp_path, "ros2")
    metadata = path / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 30", "message_count: 31"))
    with open_bag(path) as bag:
        assert len(read(bag)) == 4 * COUNT
        assert any("not up to date" in note and "/task 31 there and 30" in note for note in bag.notes)


def split(path: Path) -> None:
    """Turns a folder's only storage file into the first of two parts; the second is a copy."""
    first = storage_file(path)
    one, two = path / f"bag_0{first.suffix}", path / f"bag_1{first.suffix}"
    first.rename(one)
    shutil.copy(one, two)
    metadata = path / "metadata.yaml"
    lines = metadata.read_text().replace(f"- {first.name}", f"- {one.name}\n  - {two.name}")
    metadata.write_text(lines)


def test_a_split_bag_is_one_bag_in_order(tmp_path):
    path = make(tmp_path, "ros2")
    split(path)
    with open_bag(path) as bag:
        rows = read(bag)
        assert rows[: len(rows) // 2] == rows[len(rows) // 2 :]
        assert bag.declared == len(rows) == 8 * COUNT
        assert sorted(c.topic for c in bag.connections) == ["/camera", "/joint_states", "/task"]
        assert [bag.decode(m).data for m in bag.messages(["/task"])][-1] == f"task {COUNT - 1}"


def test_a_missing_part_is_an_error_that_salvage_notes(tmp_path):
    path = make(tmp_path, "ros2")
    split(path)
    (path / "bag_0.mcap").unlink()
    with pytest.raises(BagError, match="lacks the files .*bag_0.mcap"):
        open_bag(path)
    with open_bag(path, salvage=True) as bag:
        assert len(read(bag)) == 4 * COUNT
        assert bag.salvaged
        assert "bag_0.mcap" in bag.notes[0]


def test_parts_that_the_metadata_do_not_list_are_noted(tmp_path):
    path = make(tmp_path, "ros2")
    shutil.copy(storage_file(path), path / "other_7.mcap")
    with open_bag(path) as bag:
        assert len(read(bag)) == 4 * COUNT
        assert "other_7.mcap" in bag.notes[0]


@pytest.mark.parametrize("content", ["", "x: [", "rosbag2_bagfile_information: 3", "[]", "\0", "a: &a [*a]"])
def test_broken_metadata(tmp_path, content):
    path = make(tmp_path, "ros2")
    (path / "metadata.yaml").write_text(content)
    with pytest.raises(BagError, match="broken metadata.yaml.*salvage"):
        open_bag(path)
    with open_bag(path, salvage=True) as bag:
        assert len(read(bag)) == 4 * COUNT


@pytest.mark.parametrize("salvage", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.bag", b"", "empty"),
        ("a.db3", b"", "empty"),
        ("a.mcap", b"\n\n <!DOCTYPE html><html>", "web page"),
        ("a.bag", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("a.bag", b"/data/bags/real.bag", "symbolic link"),
        ("a.bag", b"#ROSBAG V1.2\n", "version 1"),
        ("a.bag", b"PK\x03\x04rest", "zip archive"),
        ("a.bag", bytes(5000), "zeros"),
        ("a.bag", b"\x89MCAP0\r\nrest", "must end in .mcap"),
        ("a.mcap", b"\x89MCAP0\r\n", "cannot be read|salvaged"),
        ("a.bag", b"#ROSBAG V2.0\n", "salvaged"),
        ("a.db3", b"SQLite format 3\0", "a.db3"),
    ],
)
def test_what_is_no_bag_is_refused_in_words_that_help(tmp_path, name, content, said, salvage):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BagError, match=said) as refusal:
        open_bag(path, salvage=salvage)
    assert str(path) in str(refusal.value)


def test_a_bag_that_is_not_there(tmp_path):
    with pytest.raises(BagError, match="no bag"):
        open_bag(tmp_path / "nowhere.bag")
    with pytest.raises(BagError, match="no .mcap or .db3"):
        open_bag(tmp_path)


def test_only_foreign_serialisation_is_refused(tmp_path):
    path = make(tmp_path, "ros2", "sqlite3")
    database = apsw.Connection(str(storage_file(path)))
    database.execute("UPDATE topics SET serialization_format = 'protobuf' WHERE name = '/task'")
    with open_bag(path) as bag:
        assert len(read(bag)) == 4 * COUNT
        with pytest.raises(BagError, match="not supported.*'protobuf'"):
            bag.decode(next(bag.messages(["/task"])))
    database.execute("UPDATE topics SET serialization_format = 'protobuf'")
    database.close()
    with pytest.raises(BagError, match="otherwise than as cdr.*protobuf"):
        open_bag(path)


def test_messages_that_are_still_in_a_log_are_not_lost_silently(tmp_path):
    path = make(tmp_path, "ros2", "sqlite3")
    log = storage_file(path).with_name(f"{storage_file(path).name}-wal")
    log.write_bytes(b"some pages")
    with pytest.raises(BagError, match="wal_checkpoint"):
        open_bag(path)
    log.write_bytes(b"")
    open_bag(path).close()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_names_with_a_meaning_in_addresses(tmp_path, storage):
    path = make(tmp_path, "ros2", storage).rename(tmp_path / "run #3? 100%20")
    with open_bag(path) as bag:
        assert len(read(bag)) == 4 * COUNT


def test_fewer_rows_on_the_second_look_are_an_error(tmp_path):
    path = make(tmp_path)
    with open_bag(path) as bag:
        content = bytearray(path.read_bytes())
        # The first index record now counts to a message that another record describes.
        at = content.index(b"count=") + len(b"count=")
        assert content[at] > 1
        content[at] -= 1
        damaged = tmp_path / "damaged.bag"
        damaged.write_bytes(content)
        bag.close()
    with pytest.raises(BagError, match=re.escape(str(damaged))), open_bag(damaged) as bag:
        read(bag)


def test_unpacked_files_are_removed_on_closing(tmp_path, monkeypatch):
    path = make(tmp_path, "ros2", "mcap", "file")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with open_bag(path) as bag:
        assert list(scratch.iterdir())
        next(bag.messages())
    assert not list(scratch.iterdir())
    storage_file(path).write_bytes(storage_file(path).read_bytes()[:-50])
    with pytest.raises(BagError, match="does not unpack"):
        open_bag(path)
    assert not list(scratch.iterdir())


def test_what_the_reader_of_messages_raises_is_left_alone(tmp_path):
    with open_bag(make(tmp_path)) as bag, pytest.raises(KeyError):
        for _ in bag.messages():
            raise KeyError("of the consumer")
