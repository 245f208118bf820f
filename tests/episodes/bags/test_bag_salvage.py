"""Salvage gives what a damaged bag still holds, says what it lost, and ends on whatever it is given."""

import bz2
import contextlib
import re
import struct
import zlib
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from episodes.bags import scan, unpack
from episodes.bags.bag import BagError
from episodes.bags.reader import open_bag
from tests.episodes.bag_writer import START_NS, joint_message, string_message, write_bag

COUNT = 60
FORMATS = [
    ("ros1", "bag", "none"),
    ("ros1", "bag", "lz4"),
    ("ros1", "bag", "bz2"),
    ("ros2", "mcap", "none"),
    ("ros2", "mcap", "chunk"),
    ("ros2", "mcap", "message"),
    ("ros2", "mcap", "file"),
    ("ros2", "sqlite3", "none"),
    ("ros2", "sqlite3", "file"),
]

Row = tuple[str, int, bytes]


def make(folder: Path, ros: str, storage: str, compression: str) -> Path:
    """Writes a bag of 2 COUNT messages; the file that holds them, which can be read alone."""
    messages = []
    for i in range(COUNT):
        at = START_NS + i * 10**8
        messages.append(("/joint_states", joint_message(["a", "b"], [i, -i], at), at))
        messages.append(("/task", string_message(f"task {i}, in a few words"), at + 1))
    path = folder / ("bag.bag" if ros == "ros1" else "bag")
    write_bag(path, ros, storage=storage, compression=compression, messages=messages, chunk_bytes=1500)
    return path if ros == "ros1" else next(f for f in path.iterdir() if f.name != "metadata.yaml")


def rows(path: Path, *, salvage: bool = False) -> list[Row]:
    with open_bag(path, salvage=salvage) as bag:
        return [(m.connection.topic, m.log_ns, bytes(m.data)) for m in bag.messages()]


def salvaged(path: Path) -> tuple[list[Row], list[str]]:
    with open_bag(path, salvage=True) as bag:
        got = [(m.connection.topic, m.log_ns, bytes(m.data)) for m in bag.messages()]
        assert bag.salvaged
        for message in bag.messages():
            bag.decode(message)
        return got, bag.notes


def damage(path: Path, content: bytes | bytearray) -> Path:
    damaged = path.with_name(f"damaged{''.join(path.suffixes)}")
    damaged.write_bytes(content)
    return damaged


def bag_header(index_position: int, connections: int, chunks: int) -> bytes:
    fields = [
        b"op=\x03",
        b"index_pos=" + struct.pack("<Q", index_position),
        b"conn_count=" + struct.pack("<I", connections),
        b"chunk_count=" + struct.pack("<I", chunks),
    ]
    header = b"".join(struct.pack("<I", len(field)) + field for field in fields)
    padding = 4096 - len(header) - 8
    return struct.pack("<I", len(header)) + header + struct.pack("<I", padding) + b" " * padding


def chunk_starts(content: bytes) -> list[int]:
    return [match.start() - 4 for match in re.finditer(re.escape(b"\x04\0\0\0op=\x05"), content)]


@pytest.mark.parametrize("compression", ["none", "lz4", "bz2"])
def test_a_ros1_bag_without_index_gives_all(tmp_path, compression):
    path = make(tmp_path, "ros1", "bag", compression)
    content = path.read_bytes()
    (index,) = struct.unpack_from("<Q", content, content.index(b"index_pos=") + len(b"index_pos="))
    unindexed = damage(path, content[:13] + bag_header(0, 0, 0) + content[13 + 4096 : index])
    with pytest.raises(BagError, match="no index.*salvage"):
        open_bag(unindexed)
    got, notes = salvaged(unindexed)
    assert got == rows(path)
    assert len(notes) == 1
    assert f"{2 * COUNT} messages" in notes[0]
    assert "nothing was lost; it has no index" in notes[0]


@pytest.mark.parametrize(("ros", "storage", "compression"), [f for f in FORMATS if f[1] != "sqlite3"])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.999])
def test_a_cut_bag_gives_what_lies_before_the_cut(tmp_path, ros, storage, compression, share):
    path = make(tmp_path, ros, storage, compression)
    content = path.read_bytes()
    cut = damage(path, content[: int(share * len(content))])
    with pytest.raises(BagError, match=re.escape(str(tmp_path))):
        rows(cut)
    try:
        got, notes = salvaged(cut)
    except BagError as error:
        # Packed as a whole, nothing comes out of a frame of one block.
        assert compression in ("file", "chunk"), error
        return
    assert got == rows(path)[: len(got)]
    assert notes
    if compression == "none":
        assert len(got) > 2 * COUNT * (share - 0.35)


@pytest.mark.parametrize("compression", ["none", "lz4", "bz2"])
def test_a_ros1_bag_damaged_in_the_middle_gives_the_other_chunks(tmp_path, compression):
    path = make(tmp_path, "ros1", "bag", compression)
    content = bytearray(path.read_bytes())
    starts = chunk_starts(content)
    assert len(starts) > 4
    start, end = starts[2], starts[3]
    content[start + 80 : end - 60] = b"\xee" * (end - 60 - start - 80)
    damaged = damage(path, content)
    with pytest.raises(BagError, match=re.escape(str(damaged))):
        rows(damaged)
    got, notes = salvaged(damaged)
    whole = rows(path)
    assert [row for row in whole if row in got] == got
    assert 0 < len(whole) - len(got) <= 2 * len(whole) // len(starts)
    # The index is whole, so it is known what was lost.
    assert f"{len(got)} of {len(whole)} messages; 1 chunks were lost" in notes[0]
    tasks = sum(row[0] == "/task" for row in got)
    assert f"/task has {tasks} messages of the {COUNT} that are declared" in notes


def mcap_record(operation: int, data: bytes) -> bytes:
    return struct.pack("<BQ", operation, len(data)) + data


def mcap_string(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


def mcap_message(channel: int, time_ns: int, text: str) -> bytes:
    payload = b"\0\1\0\0" + struct.pack("<I", len(text) + 1) + text.encode() + b"\0"
    return mcap_record(5, struct.pack("<HIQQ", channel, 0, time_ns, time_ns) + payload)


def mcap_chunk(records: bytes, *, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(records) if checksum is None else checksum
    header = struct.pack("<QQQI", 0, 2**62, len(records), checksum) + mcap_string(b"")
    return mcap_record(6, header + struct.pack("<Q", len(records)) + records)


MCAP = b"\x89MCAP0\r\n"
HEADER = mcap_record(1, mcap_string(b"ros2") + mcap_string(b"test"))
DESCRIPTION = mcap_record(
    3,
    struct.pack("<H", 1)
    + mcap_string(b"std_msgs/msg/String")
    + mcap_string(b"ros2msg")
    + mcap_string(b"string data"),
) + mcap_record(
    4, struct.pack("<HH", 1, 1) + mcap_string(b"/task") + mcap_string(b"cdr") + struct.pack("<I", 0)
)
END = mcap_record(15, bytes(4)) + mcap_record(2, bytes(20)) + MCAP


def test_an_mcap_chunk_that_does_not_match_its_checksum_is_lost(tmp_path):
    path = tmp_path / "a.mcap"
    good = mcap_chunk(mcap_message(1, 1, "good"))
    path.write_bytes(
        MCAP + HEADER + DESCRIPTION + good + mcap_chunk(mcap_message(1, 2, "bad"), checksum=1) + good + END
    )
    with pytest.raises(BagError, match="checksum|damaged"):
        rows(path)
    got, notes = salvaged(path)
    assert [text[8:12] for _, _, text in got] == [b"good"] * 2
    assert "2 messages; 1 chunks were lost" in notes[0]


@pytest.mark.parametrize("in_chunks", [False, True])
def test_an_mcap_without_summary_is_read_whatever_its_order(tmp_path, in_chunks):
    # rosbags wants messages outside chunks in order, and yields none of chunks without a message index.
    path = tmp_path / "a.mcap"
    messages = b"".join(mcap_message(1, time, f"at {time}") for time in (5, 3, 9))
    path.write_bytes(MCAP + HEADER + DESCRIPTION + (mcap_chunk(messages) if in_chunks else messages) + END)
    with open_bag(path) as bag:
        assert [m.log_ns for m in bag.messages()] == [3, 5, 9]
        assert [bag.decode(m).data for m in bag.messages()] == ["at 3", "at 5", "at 9"]
        assert not bag.salvaged
        assert bag.notes == []


def test_mcap_goes_on_behind_bytes_that_are_no_record(tmp_path):
    path = tmp_path / "a.mcap"
    chunk = mcap_chunk(mcap_message(1, 7, "here"))
    path.write_bytes(MCAP + HEADER + DESCRIPTION + chunk + b"\x77" * 5000 + b"\x06" * 50 + chunk + END)
    got, notes = salvaged(path)
    assert len(got) == 2
    assert "5050 bytes were skipped" in notes[0]


@pytest.mark.parametrize("size", [unpack.MAX_CHUNK_BYTES + 1, 2**32 - 1])
def test_absurd_sizes_are_not_believed(tmp_path, size):
    path = make(tmp_path, "ros1", "bag", "lz4")
    content = bytearray(path.read_bytes())
    at = content.index(b"size=", chunk_starts(content)[1]) + len(b"size=")
    struct.pack_into("<I", content, at, size)
    del content[-10:]  # So that the index is of no use.
    got, notes = salvaged(damage(path, content))
    assert 0 < len(got) < 2 * COUNT
    assert "skipped" in notes[0]


def test_a_bomb_gives_no_more_than_it_says(tmp_path):
    bomb = bz2.compress(bytes(50 << 20))
    with pytest.raises(BagError, match="says that it has 1000 bytes"):
        unpack.unpack(bomb, "bz2", 1000)
    with pytest.raises(BagError, match="over 1000 bytes"):
        unpack.unpack_message(unpack.zstd.compress(bytes(1 << 20)), limit=1000)


def test_many_look_alikes_of_chunks_end_the_scan(tmp_path, monkeypatch):
    # Each claims all the rest of the file: without an end that would be quadratic work.
    monkeypatch.setattr(scan, "_WASTE_BYTES", 0)
    fields = [b"op=\x05", b"compression=none", b"size=\x01\0\0\0"]
    header = b"".join(struct.pack("<I", len(field)) + field for field in fields)
    chunk = struct.pack("<I", len(header)) + header + struct.pack("<I", 10_000)
    path = tmp_path / "a.bag"
    path.write_bytes(b"#ROSBAG V2.0\n" + chunk * 1000 + bytes(10_000))
    with pytest.raises(BagError, match="look like chunks"):
        open_bag(path, salvage=True)


def test_a_damaged_database_gives_the_rows_before_the_damage(tmp_path):
    path = make(tmp_path, "ros2", "sqlite3", "none")
    database = apsw.Connection(str(path))
    database.execute("DROP INDEX timestamp_idx")
    page = database.execute("PRAGMA page_size").fetchone()[0]
    (last,) = (
        database.execute(
            "SELECT max(pageno) FROM dbstat WHERE name = 'messages' AND pagetype = 'leaf'"
        ).fetchone()
        if "ENABLE_DBSTAT_VTAB" in apsw.compile_options
        else (None,)
    )
    database.close()
    if last is None:
        pytest.skip("this SQLite cannot say where its pages are")
    content = bytearray(path.read_bytes())
    content[(last - 1) * page : last * page] = b"\xff" * page
    damaged = damage(path, content)
    with pytest.raises(BagError, match="malformed"):
        rows(damaged)
    got, notes = salvaged(damaged)
    assert 0 < len(got) < 2 * COUNT
    assert got == rows(path)[: len(got)]
    assert "breaks" in notes[0]


@pytest.mark.parametrize("share", [0.5, 0.8, 0.999])
def test_a_cut_database_gives_the_rows_before_the_cut(tmp_path, share):
    messages = [("/task", string_message(f"task {i}"), START_NS + i) for i in range(1000)]
    path = write_bag(tmp_path / "bag", "ros2", storage="sqlite3", messages=messages) / "bag.db3"
    content = path.read_bytes()
    cut = damage(path, content[: int(share * len(content))])
    with pytest.raises(BagError, match=re.escape(str(cut))):
        rows(cut)
    got, notes = salvaged(cut)
    assert 0 < len(got) < 1000
    assert got == rows(path)[: len(got)]
    assert f"{len(got)} messages" in notes[0]


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    made = []
    for number, (ros, storage, compression) in enumerate(FORMATS):
        path = make(tmp_path_factory.mktemp(f"b{number}"), ros, storage, compression)
        made.append((path, path.read_bytes(), rows(path)))
    return made


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_gives_messages_or_a_bag_error(bags, data):
    path, content, whole = bags[data.draw(st.integers(0, len(bags) - 1))]
    at = data.draw(st.integers(0, len(content) - 1))
    length = data.draw(st.sampled_from([1, 4, 100, 3000]))
    how = data.draw(st.sampled_from(["cut", "overwrite", "flip", "remove", "insert"]))
    noise = data.draw(st.binary(min_size=1, max_size=8)) * length
    damaged = bytearray(content)
    if how == "cut":
        del damaged[at:]
    elif how == "remove":
        del damaged[at : at + length]
    elif how == "insert":
        damaged[at:at] = noise
    elif how == "flip":
        damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        damaged[at : at + length] = noise[: len(damaged[at : at + length])]
    file = damage(path, damaged)
    for salvage in (False, True):
        try:
            with open_bag(file, salvage=salvage) as bag:
                count = 0
                for message in bag.messages():
                    count += 1
                    with contextlib.suppress(BagError):
                        bag.decode(message)
                # Nothing is lost in silence.
                assert count >= len(whole) or (salvage and bag.salvaged and bag.notes)
        except BagError as error:
            assert path.parent.name in str(error) or "tmp" in str(error)
