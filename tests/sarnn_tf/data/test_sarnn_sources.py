"""Recorded episodes of every kind: what is read is what was recorded, and what is wrong is named."""

import json
import shutil
from pathlib import Path

import gin
import numpy as np
import pytest
import tensorflow as tf

from episodes import convert
from episodes.eipl_arrays import write_eipl
from episodes.npz import step_columns
from sarnn_tf.data.rlds_source import _checksums
from sarnn_tf.data.source import open_source
from tests.episodes import demonstration_bag
from tests.sarnn_tf.data import recordings
from tests.sarnn_tf.data.recordings import arrays, write_npz, write_original_eipl, write_rlds


def read(source, modalities=("image", "depth"), stride=1):
    """Episodes with their frames in memory."""
    return [
        (e, {name: np.stack(list(frames.every(stride))) for name, frames in e.images.items()})
        for e in source.episodes(modalities)
    ]


@pytest.fixture
def published(tmp_path):
    """Six published NPZ files, the third compressed."""
    for i in range(6):
        write_npz(tmp_path / "npz", f"demo_{i}", arrays(4 + i, i), compressed=i == 2)
    return tmp_path / "npz"


@pytest.mark.parametrize("stride", [1, 3])
def test_published_npz(published, stride):
    source = open_source(published)
    assert (source.num_episodes, source.rate_hz, source.joint_bounds) == (6, None, None)
    assert source.joint_names == ("joint_0", "joint_1", "joint_2")
    found = read(source, ("image", "depth", "gelsight_left"), stride)
    assert len(found) == 6
    for i, (episode, images) in enumerate(found):
        wanted = arrays(4 + i, i)
        assert (episode.id, episode.part, episode.instruction) == (f"demo_{i}", None, "")
        np.testing.assert_array_equal(episode.joints, wanted["joints_state"])
        np.testing.assert_array_equal(images["image"], wanted["color"][::stride, ..., ::-1])
        np.testing.assert_array_equal(images["depth"], wanted["depth"][::stride])
        np.testing.assert_array_equal(images["gelsight_left"], wanted["gelsight1"][::stride, ..., ::-1])


def test_instructions_of_npz_files(published):
    def said(**options):
        return [e.instruction for e, _ in read(open_source(published, **options), ())]

    assert said(instruction="push") == ["push"] * 6
    assert said(tasks_by_thirds=["a", "b"]) == ["a"] * 3 + ["b"] * 3
    table = published.parent / "tasks.json"
    table.write_text(json.dumps({"demo_1": "grasp", "demo_4.npz": "let go"}))
    assert said(task_table=table) == ["", "grasp", "", "", "let go", ""]
    assert said(task_table=table, tasks_by_thirds=["a"]) == ["a", "grasp", "a", "a", "let go", "a"]
    write_npz(published, "demo_0", {**arrays(4), "language_instruction": np.array(["x", "x", "y", "y"])})
    with pytest.raises(ValueError, match=r"demo_0.npz must have one instruction.*\['x', 'y'\]"):
        open_source(published)


def test_npz_files_beside_folders_of_them_are_refused(published):
    """One of the two would be left out in silence."""
    write_npz(published / "val", "a", arrays(3))
    with pytest.raises(ValueError, match=r"not both.*Received: demo_0.npz … beside the folders \['val'\]"):
        open_source(published)


def test_npz_files_whose_joints_differ(published):
    names = {"joint_names": np.array(["a", "b", "c"]), "language_instruction": np.array("push")}
    write_npz(published, "demo_5", {**arrays(4), **names})
    with pytest.raises(ValueError, match=r"demo_5.npz must have the joints of demo_0.npz, \['joint_0'"):
        open_source(published)
    write_npz(published, "demo_5", arrays(4, joints=4))
    with pytest.raises(ValueError, match="demo_5.npz must have the joints of demo_0.npz"):
        open_source(published)


def test_a_modality_that_is_missing_is_named(published):
    content = arrays(4)
    del content["depth"]
    write_npz(published, "demo_3", content)
    source = open_source(published)
    assert len(read(source, ("image",))) == 6
    with pytest.raises(ValueError, match=r"demo_3.npz has no depth.*\['gelsight_left', 'image'\]"):
        read(source, ("image", "depth"))


def test_damaged_images_are_found(published):
    path = published / "demo_1.npz"
    content = bytearray(path.read_bytes())
    at = content.index(arrays(5, 1)["color"][3].tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="demo_1.npz: color.*CRC"):
        read(open_source(published))


def test_original_eipl_arrays_lose_their_padding(tmp_path):
    episodes = [arrays(n, n) for n in (5, 9, 3)]
    episodes[0]["joints_state"][3:] = episodes[0]["joints_state"][3]  # Stands still, but its images move.
    folder = write_original_eipl(tmp_path / "eipl", {"train": episodes[:2], "test": episodes[2:]})
    source = open_source(folder)
    found = read(source, ("image",))
    assert [(e.id, e.part, e.instruction) for e, _ in found] == [
        ("train/0", "train", ""),
        ("train/1", "train", ""),
        ("test/0", "test", ""),
    ]
    for (episode, images), wanted in zip(found, episodes, strict=True):
        np.testing.assert_array_equal(episode.joints, wanted["joints_state"])
        np.testing.assert_array_equal(images["image"], wanted["color"][..., ::-1])
    joints = np.concatenate([e["joints_state"] for e in episodes])
    np.testing.assert_array_equal(source.joint_bounds, [joints.min(0), joints.max(0)])
    kept = open_source(folder, trim_repeats=False, instruction="push")
    assert [(len(e.joints), e.instruction) for e, _ in read(kept, ())] == [(9, "push")] * 3
    _, images = read(open_source(folder, channel_order="rgb"), ("image",))[1]
    np.testing.assert_array_equal(images["image"], episodes[1]["color"])
    with pytest.raises(ValueError, match="channel_order must be"):
        open_source(folder, channel_order="hsv")
    with pytest.raises(ValueError, match=r"has no depth.*\['image'\]"):
        read(source)
    shutil.rmtree(folder / "test")
    assert [e.part for e, _ in read(open_source(folder), ())] == [None, None]


def test_our_eipl_arrays_say_how_long_they_are(tmp_path):
    def columns(steps):
        content = arrays(steps, steps)
        content["color"][-2:], content["joints_state"][-2:] = 7, 0.0  # Stands still indeed.
        return {
            **step_columns(steps, np.full(steps, "push" if steps == 4 else "pull")),
            "observation/image": content["color"],
            "observation/depth": content["depth"],
            "observation/joint_positions": content["joints_state"],
            "action": content["actions"],
        }

    episodes = [("train", columns(4)), ("train", columns(7)), ("test", columns(5))]
    write_eipl(tmp_path / "eipl", episodes, {"0": "push", "1": "pull"})
    for (episode, images), (part, wanted) in zip(read(open_source(tmp_path / "eipl")), episodes, strict=True):
        assert episode.part == part and episode.instruction == wanted["language_instruction"][0]
        np.testing.assert_array_equal(episode.joints, wanted["observation/joint_positions"])
        np.testing.assert_array_equal(images["image"], wanted["observation/image"])
        np.testing.assert_array_equal(images["depth"], wanted["observation/depth"])
    (tmp_path / "eipl" / "task_dict.json").write_text('{"0": "push"}')
    with pytest.raises(ValueError, match="must name the task of .*train, episode 1: 1"):
        read(open_source(tmp_path / "eipl"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train/joints", np.zeros((2, 9)), r"joints \[N, T, P\]"),
        ("train/images", np.zeros((2, 8, 4, 4, 3), np.uint8), "of the same N and T"),
        ("train/images", np.array([{}], object), "no whole plain array|is not a whole plain array"),
        ("train/lengths", np.array([3, 10]), "lengths must be 1 to 9"),
        ("train/lengths", np.array([3.0, 9.0]), "lengths.npy must be 2 integers"),
        ("train/tasks", np.array([0]), "tasks.npy must be 2 integers"),
        ("joint_bounds", np.zeros((3, 2)), r"minima and maxima, \[2, 3\]"),
        ("joint_bounds", np.array([[1.0] * 3, [0.0] * 3]), "minima and maxima"),
        ("test/joints", np.zeros((1, 9, 2), np.float32), "as many joints in every part"),
    ],
)
def test_eipl_arrays_that_do_not_fit(tmp_path, name, content, message):
    folder = write_original_eipl(tmp_path, {"train": [arrays(9), arrays(4)], "test": [arrays(3)]})
    if name.startswith("test"):
        (folder / "test" / "images.npy").unlink()
    np.save(folder / f"{name}.npy", content)
    with pytest.raises(ValueError, match=message):
        open_source(folder)


def test_a_cut_off_eipl_array(tmp_path):
    folder = write_original_eipl(tmp_path, {"train": [arrays(9)]})
    whole = (folder / "train" / "images.npy").read_bytes()
    (folder / "train" / "images.npy").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="images.npy is not a whole plain array"):
        open_source(folder)


@pytest.mark.parametrize("held_out", [None, "val"])
def test_rlds_of_others(tmp_path, held_out):
    train, val = [arrays(4, 0), arrays(6, 1)], [arrays(5, 2)]
    splits = {"train": train, **({held_out: val, "test": [arrays(9)]} if held_out else {})}
    source = open_source(write_rlds(tmp_path, splits), fields=recordings.FIELDS)
    found = read(source, stride=2)
    assert source.num_episodes == len(found) == (3 if held_out else 2)
    for (episode, images), wanted in zip(found, train + val, strict=False):
        np.testing.assert_array_equal(episode.joints, wanted["joints_state"])
        assert episode.joints.dtype == np.float32 and episode.instruction == "push"
        np.testing.assert_array_equal(images["image"], wanted["color"][::2, ..., ::-1])
        np.testing.assert_array_equal(images["depth"][..., 0], wanted["depth"][::2])
    parts = [e.part for e, _ in found]
    assert parts == (["train", "train", "test"] if held_out else [None, None])
    with pytest.raises(ValueError, match=r"has no gelsight_left.*\['depth', 'image'\]"):
        read(source, ("gelsight_left",))


def test_what_is_wrong_with_an_rlds_data_set(tmp_path):
    folder = write_rlds(tmp_path, {"train": [arrays(3)]}, instruction=["a", "b", "b"])
    with pytest.raises(ValueError, match="no step feature of that path.*observation/joint_positions"):
        open_source(folder)
    with pytest.raises(ValueError, match="Received: fields={'image': 'camera'}"):
        open_source(folder, fields={**recordings.FIELDS, "image": "camera"})
    with pytest.raises(ValueError, match=r"one instruction for all steps. Received: \['a', 'b'\]"):
        read(open_source(folder, fields=recordings.FIELDS))
    named = open_source(folder, fields=recordings.FIELDS, instruction="c")
    assert [e.instruction for e, _ in read(named)] == ["c"]
    shard = next(folder.glob("*.tfrecord*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match="split 'train', is damaged|corrupted"):
        read(named)
    shard.write_bytes(content[:-20])
    with pytest.raises(ValueError, match="cut off"):
        open_source(folder, fields=recordings.FIELDS, instruction="c")


@pytest.mark.parametrize("cut", [1, 8, 20, None])
def test_records_behind_those_that_are_looked_at_are_damaged(tmp_path, cut):
    """Cut within a record, its foot or its head; or a length that no file has."""
    shard = tmp_path / "x.tfrecord-00000-of-00001"
    with tf.io.TFRecordWriter(str(shard)) as writer:
        writer.write(b"one")
        writer.write(b"another one")
    whole = shard.read_bytes()
    assert len(_checksums(shard)) == 32
    second = 12 + 3 + 4
    shard.write_bytes(whole[:-cut] if cut else whole[:second] + b"\xff" * 8 + whole[second + 8 :])
    with pytest.raises(ValueError, match="cut off"):
        _checksums(shard)


def test_fingerprints_follow_the_content_and_not_the_place(tmp_path):
    kinds = {
        "npz": lambda f, e: write_npz(f, "a", e),
        "eipl": lambda f, e: write_original_eipl(f, {"train": [e]}),
        "rlds": lambda f, e: write_rlds(f, {"train": [e]}),
    }
    for kind, write in kinds.items():
        options = {"fields": recordings.FIELDS} if kind == "rlds" else {}
        one = write(tmp_path / kind / "one", arrays(4))
        moved = shutil.copytree(one, tmp_path / kind / "moved" / one.name)
        changed = arrays(4)
        changed["joints_state"][0, 0] += 1e-3
        other = write(tmp_path / kind / "other", changed)
        first = open_source(one, **options).fingerprint
        assert open_source(moved, **options).fingerprint == first, kind
        assert open_source(other, **options).fingerprint != first, kind
        assert open_source(one, instruction="x", **options).fingerprint != first, kind


def test_what_is_no_data_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_source(tmp_path / "nothing")
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(FileNotFoundError, match=r"must hold .*photo.jpg"):
        open_source(tmp_path)
    write_npz(tmp_path / "lab" / "monday", "a", arrays(3))
    write_npz(tmp_path / ".rest", "a", arrays(3))
    with pytest.raises(FileNotFoundError, match=r"name one: [^,]*lab/monday\. Received"):
        open_source(tmp_path)
    write_npz(tmp_path, "a", arrays(3))
    with pytest.raises(ValueError, match=r"NPZ files, which know no such option. Received: \['fields'\]"):
        open_source(tmp_path, fields={"image": "x"})


def test_converted_bags_are_the_same_in_every_format(tmp_path: Path):
    for i in range(4):
        demonstration_bag.write_demonstration(tmp_path / "bags" / f"{i}.bag", frames=5 + i)
    found = {}
    for kind in ("rlds", "npz", "eipl"):
        gin.clear_config()
        arguments = [
            str(tmp_path / "bags"),
            "--out",
            str(tmp_path / kind),
            "--name=reach",
            f"--format={kind}",
        ]
        arguments += ["--workers=0", "--splits=train=0.5,val=0.5", "--image_encoding=png", "--task=push"]
        assert convert.main(arguments) == 0
        source = open_source(tmp_path / kind / "reach")
        assert source.joint_names == demonstration_bag.NAMES
        assert source.rate_hz == pytest.approx(10.0, rel=0.2)
        found[kind] = sorted(read(source), key=lambda e: len(e[0].joints))
    gin.clear_config()
    assert {e.part for e, _ in found["rlds"]} == {"train", "test"}
    for kind in ("npz", "eipl"):
        for (e, images), (other, theirs) in zip(found[kind], found["rlds"], strict=True):
            assert (e.part, e.instruction) == (other.part, other.instruction)
            np.testing.assert_array_equal(e.joints, other.joints)
            np.testing.assert_array_equal(images["image"], theirs["image"])
            np.testing.assert_array_equal(images["depth"], theirs["depth"][..., 0])
