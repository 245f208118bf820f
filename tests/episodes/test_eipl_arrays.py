"""EIPL's arrays: padded as EIPL pads, read back to the bit, others' data sets understood, damage refused."""

import json
import tracemalloc

import numpy as np
import pytest

from episodes.eipl_arrays import read_eipl, write_eipl
from episodes.episode import check_columns
from episodes.npz import step_columns

TASKS = {"0": "grasp the black cable", "1": "grasp the white cable"}


def episode(steps, seed=0, task="0", size=(6, 8), modalities=("image", "depth", "gelsight_left")):
    rng = np.random.default_rng(seed)
    joints = rng.standard_normal((steps + 1, 3)).astype(np.float32)
    columns = {
        **step_columns(steps, np.full(steps, TASKS.get(task, task))),
        "observation/joint_positions": joints[:-1],
        "action": joints[1:],
    }
    for name in modalities:
        shape, dtype = ((steps, 5, 4), np.uint16) if name == "depth" else ((steps, *size, 3), np.uint8)
        columns[f"observation/{name}"] = rng.integers(0, 256, shape, dtype)
    return columns


def three():
    return [("train", episode(4, 1)), ("test", episode(7, 2, "1")), ("train", episode(5, 3, "1"))]


def test_what_is_written_is_read_back(tmp_path):
    write_eipl(tmp_path / "data", iter(three()), TASKS)
    for split in ("train", "test"):
        wanted = [columns for name, columns in three() if name == split]
        got = list(read_eipl(tmp_path / "data", split))
        assert len(got) == len(wanted)
        for mine, theirs in zip(got, wanted, strict=True):
            assert mine.keys() == theirs.keys()
            for path, column in theirs.items():
                np.testing.assert_array_equal(mine[path], column)
                assert mine[path].dtype == column.dtype
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]


def test_the_arrays_are_as_eipl_has_them(tmp_path):
    folder = tmp_path / "data"
    write_eipl(folder, three(), TASKS)
    images = np.load(folder / "train" / "images.npy")
    joints = np.load(folder / "train" / "joints.npy")
    assert images.shape == (2, 7, 6, 8, 3) and images.dtype == np.uint8
    assert joints.shape == (2, 7, 3) and joints.dtype == np.float32
    first = episode(4, 1)
    np.testing.assert_array_equal(images[0, :4], first["observation/image"][..., ::-1])
    # Padded to the longest episode of all splits, by the last step.
    np.testing.assert_array_equal(images[0, 4:], np.repeat(images[0, 3:4], 3, axis=0))
    np.testing.assert_array_equal(joints[0, 4:], np.repeat(joints[0, 3:4], 3, axis=0))
    assert np.load(folder / "train" / "tasks.npy").tolist() == [0, 1]
    assert np.load(folder / "test" / "tasks.npy").tolist() == [1]
    assert np.load(folder / "train" / "lengths.npy").tolist() == [4, 5]
    assert json.loads((folder / "task_dict.json").read_text()) == TASKS
    every = np.concatenate([c["observation/joint_positions"] for _, c in three()])
    np.testing.assert_array_equal(np.load(folder / "joint_bounds.npy"), [every.min(0), every.max(0)])
    assert np.load(folder / "joint_bounds.npy").dtype == np.float32
    names = {"images", "joints", "actions", "depths", "gelsight_left", "tasks", "lengths"}
    assert {p.name for p in (folder / "train").iterdir()} == {f"{name}.npy" for name in names}


def test_images_are_brought_to_a_size(tmp_path):
    columns = episode(3)
    columns["observation/image"][:] = [200, 100, 50]
    write_eipl(tmp_path / "data", [("train", columns)], TASKS, image_size=(3, 2))
    (read,) = read_eipl(tmp_path / "data", "train")
    assert np.unique(read["observation/image"].reshape(-1, 3), axis=0).tolist() == [[200, 100, 50]]
    assert read["observation/image"].shape == (3, 3, 2, 3)
    assert read["observation/depth"].shape == (3, 3, 2)


def test_a_data_set_of_others(tmp_path):
    """EIPL's own files: images, joints and bounds; no lengths, no actions."""
    folder = tmp_path / "data" / "train"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, joints = rng.integers(0, 256, (2, 5, 4, 4, 3), np.uint8), rng.random((2, 5, 3))
    np.save(folder / "images.npy", images)
    np.save(folder / "joints.npy", joints)
    with pytest.raises(ValueError, match=r"no tasks.npy: name an instruction"):
        list(read_eipl(folder.parent, "train"))
    got = list(read_eipl(folder.parent, "train", instruction="reach"))
    assert [check_columns(columns) for columns in got] == [4, 4]
    np.testing.assert_array_equal(got[1]["observation/image"], images[1, :4, :, :, ::-1])
    np.testing.assert_array_equal(got[1]["action"], joints[1, 1:].astype(np.float32))
    (as_it_is, _) = read_eipl(folder.parent, "train", instruction="reach", channel_order="rgb")
    np.testing.assert_array_equal(as_it_is["observation/image"], images[0, :4])


def test_memory_is_for_a_frame(tmp_path):
    big = np.zeros((1, 500, 500, 3), np.uint8)

    def episodes():
        for _ in range(3):
            columns = episode(20, modalities=())
            yield "train", {**columns, "observation/image": np.broadcast_to(big, (20, 500, 500, 3))}

    tracemalloc.start()
    write_eipl(tmp_path / "data", episodes(), TASKS)
    assert len(list(read_eipl(tmp_path / "data", "train"))) == 3
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000  # The images are 45 MB.


def without(path):
    return {p: c for p, c in episode(3).items() if p != path}


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ([], "at least one episode"),
        ([("val", episode(3))], r"splits are \['train', 'test'\]. Received: 'val'"),
        ([("train", without("observation/joint_positions"))], "needs observation/joint_positions"),
        ([("train", without("action"))], "episode 0 lacks"),
        ([("train", episode(3)), ("train", episode(3, size=(6, 9)))], "episode 1 must be as the first"),
        ([("train", episode(3)), ("test", without("observation/depth"))], "episode 1 must be as the first"),
        ([("train", episode(3, task="fly"))], "Received: 'fly' in episode 0"),
        (
            [("train", {**episode(2), "language_instruction": np.array(list(TASKS.values()))})],
            "one task an episode",
        ),
    ],
)
def test_what_does_not_fit_writes_nothing(tmp_path, episodes, message):
    with pytest.raises(ValueError, match=message):
        write_eipl(tmp_path / "data", episodes, TASKS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task_dict", [{"a": "x"}, {"0": "x", "1": "x"}, {"-1": "x"}])
def test_a_task_dict_that_is_none(tmp_path, task_dict):
    with pytest.raises(ValueError, match="task_dict"):
        write_eipl(tmp_path / "data", three(), task_dict)


def test_an_existing_folder_stays(tmp_path):
    write_eipl(tmp_path / "data", three(), TASKS)
    with pytest.raises(FileExistsError):
        write_eipl(tmp_path / "data", three()[:1], TASKS)
    assert (tmp_path / "data" / "test").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("joints", b"", "joints.npy is not a whole plain array"),
        ("joints", b"\x93NUMPY\x01\x00", "not a whole plain array"),
        ("images", "half", "images.npy is not a whole plain array"),
        ("images", np.zeros((2, 7, 6, 8, 3), np.float32), "observation/image must be uint8"),
        ("images", np.zeros((2, 6, 6, 8, 3), np.uint8), "all arrays must be"),
        ("joints", np.zeros((2, 7), np.float32), "joints "),
        ("joints", np.full((2, 7, 3), np.nan, np.float32), "finite"),
        ("joints", np.array([{}], object), "not a whole plain array"),
        ("lengths", np.array([4, 8]), r"lengths must be 1 to 7. Received: \[4, 8\]"),
        ("lengths", np.array([0, 5]), "lengths must be"),
        ("lengths", np.array([4.0, 5.0]), "must be integers"),
        ("tasks", np.array([0, 2]), r"must name the tasks \[0, 2\]"),
        ("tasks", np.array([0]), "must be integers, 2"),
    ],
)
def test_damage_is_refused(tmp_path, name, content, message):
    write_eipl(tmp_path / "data", three(), TASKS)
    path = tmp_path / "data" / "train" / f"{name}.npy"
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_bytes(path.read_bytes()[:-9] if content == "half" else content)
    with pytest.raises(ValueError, match=message):
        list(read_eipl(tmp_path / "data", "train"))


def test_what_is_not_there(tmp_path):
    write_eipl(tmp_path / "data", three()[:1], TASKS)
    with pytest.raises(FileNotFoundError, match=r"test"):
        list(read_eipl(tmp_path / "data", "test"))
    with pytest.raises(ValueError, match="channel_order"):
        list(read_eipl(tmp_path / "data", "train", channel_order="gray"))
