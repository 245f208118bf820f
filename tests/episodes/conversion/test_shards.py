"""Splits that growth does not disturb, shards of bounded size, and copies that are checked."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.conversion import example_writer, shards
from episodes.conversion.shards import DamagedSourceError, Record, assign_splits, plan_shards, write_shard
from episodes.conversion.staging import StagedEpisode

FRACTIONS = {"train": 0.7, "val": 0.2, "test": 0.1}
IDS = st.sets(st.text("abcdef0123456789", min_size=8, max_size=8), min_size=30, max_size=60)


def episode(name, size=100, steps=3, crc=0):
    return StagedEpisode(name, f"id-{name}", steps, ("go",), size, crc, {})


def records(sizes):
    return [Record("key", episode(str(i), size), None) for i, size in enumerate(sizes)]


@given(IDS, IDS)
@settings(deadline=None, max_examples=40)
def test_episodes_that_are_added_move_no_other(ids, more):
    before, after = (assign_splits(i, FRACTIONS, "") for i in (ids, ids | more))
    for split, members in before.items():
        assert [i for i in after[split] if i in ids] == members
    assert sorted(i for members in after.values() for i in members) == sorted(ids | more)


def test_the_order_is_shuffled_but_always_the_same():
    ids = [f"{i:04d}" for i in range(200)]
    members = assign_splits(ids, {"train": 1.0}, "")["train"]
    assert members == assign_splits(ids[::-1], {"train": 1.0}, "")["train"]
    assert np.corrcoef([int(i) for i in members], range(200))[0, 1] < 0.3
    assert members != assign_splits(ids, {"train": 1.0}, "salt")["train"]


def test_splits_without_an_episode_are_left_out_but_train_must_have_one():
    members = assign_splits(["a"], {"train": 1.0, "val": 0.0}, "")
    assert members == {"train": ["a"]}
    with pytest.raises(ValueError, match="none of the 1 episodes is for train"):
        assign_splits(["a"], {"train": 1e-12, "val": 1 - 1e-12}, "")


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 600))
@settings(deadline=None)
def test_no_shard_is_larger_than_allowed_nor_smaller_than_it_must_be(sizes, maximum):
    members = records(sizes)
    planned = plan_shards({"train": members}, "name", maximum)
    assert [r for s in planned for r in s.records] == members
    for shard, following in zip(planned, [*planned[1:], None], strict=True):
        assert shard.bytes <= maximum or len(shard.records) == 1
        assert following is None or shard.bytes + following.records[0].frame_bytes > maximum
    assert [s.file for s in planned] == [
        f"name-train.tfrecord-{i:05d}-of-{len(planned):05d}" for i in range(len(planned))
    ]


@pytest.fixture
def written(tmp_path):
    """Three records in files of their own, the last behind another one."""
    found = []
    for i in range(3):
        file = io.BytesIO(b"x" * 100 * (i // 2))
        file.seek(0, io.SEEK_END)
        offset = file.tell()
        columns = {
            "steps/action": np.arange(6, dtype=np.float32) + i,
            "steps/observation/image": np.array([b"img"], object),
        }
        length, crc = example_writer.write_example(file, columns)
        path = tmp_path / f"{i}.tfrecord"
        path.write_bytes(file.getvalue())
        found.append(Record(f"key{i}", episode(str(i), length, crc=crc), path, offset))
    return found


def test_a_shard_is_its_records_one_after_the_other(tmp_path, written):
    (shard,) = plan_shards({"val": written}, "name", 10**6)
    told = []
    write_shard(shard, tmp_path, told.append)
    content = (tmp_path / "name-val.tfrecord-00000-of-00001").read_bytes()
    assert content == b"".join(r.path.read_bytes()[r.offset :] for r in written)
    assert sum(told) == shard.bytes == len(content)


def test_a_shard_that_is_there_is_kept_and_one_of_another_size_is_not(tmp_path, written):
    (shard,) = plan_shards({"val": written}, "name", 10**6)
    path = tmp_path / shard.file
    path.write_bytes(b"y" * shard.bytes)
    write_shard(shard, tmp_path)
    assert path.read_bytes() == b"y" * shard.bytes
    path.write_bytes(b"y")
    write_shard(shard, tmp_path)
    assert path.stat().st_size == shard.bytes


@pytest.mark.parametrize(
    ("use", "damage"),
    [
        *(("copy", d) for d in ("cut", "gone", "other", "bit")),
        *(("read", d) for d in ("cut", "gone", "other")),
    ],
)
def test_a_damaged_record_names_its_source_and_leaves_no_shard(tmp_path, written, use, damage):
    (shard,) = plan_shards({"val": written}, "name", 10**6)
    path = written[1].path
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:20])
    elif damage == "other":
        path.write_bytes(bytes(len(content)))
    else:
        path.write_bytes(content[:30] + bytes([content[30] ^ 1]) + content[31:])
    with pytest.raises(DamagedSourceError) as caught:
        if use == "copy":
            write_shard(shard, tmp_path)
        else:
            shards.shard_statistics([shard], ["action"])
    assert caught.value.key == "key1"
    assert not list(tmp_path.glob("*name-val*"))


def test_statistics_are_of_the_values_without_the_images(written):
    planned = plan_shards({"train": written}, "name", 10**6)
    found = shards.shard_statistics(planned, ["action", "language_instruction"])
    rows = np.concatenate([np.arange(6).reshape(3, 2) + i for i in range(3)])
    assert (found.episodes, found.steps, sorted(found.arrays)) == (3, 9, ["action"])
    np.testing.assert_allclose(found["action"].mean, rows.mean(axis=0))
    np.testing.assert_allclose(found["action"].std, rows.std(axis=0))
