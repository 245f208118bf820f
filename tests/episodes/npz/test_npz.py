"""An episode's NPZ: what is written is read back, published files are understood, damage is refused."""

import hashlib
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.episode import check_columns
from episodes.episode_stream import PlannedEpisode
from episodes.npz import NpzWriter, open_npz, read_npz, step_columns
from episodes.tasks import MissingTaskError

FRAMES = {
    "observation/image": ((6, 8, 3), "uint8"),
    "observation/depth": ((4, 5), "uint16"),
    "observation/gelsight_right": ((3, 3, 3), "uint8"),
}


def planned(steps=4, frames=FRAMES, instructions="put the cup down", **changes):
    joints = np.random.default_rng(1).standard_normal((steps + 1, 2)).astype(np.float32)
    texts = np.full(steps, instructions) if isinstance(instructions, str) else np.array(instructions)
    values = {
        "name": "0007",
        "columns": {
            **step_columns(steps, texts),
            "observation/joint_positions": joints[:-1],
            "action": joints[1:],
        },
        "frames": frames,
        "joint_names": ("shoulder", "elbow"),
        "action_names": ("shoulder [rad]", "elbow [rad]"),
        "report": {"skew_ms": 3.5, "warnings": ["später Anfang"]},
    }
    return PlannedEpisode(**{**values, **changes})


def pictures(episode):
    """Field -> [T, ...] of random frames."""
    rng = np.random.default_rng(0)
    return {
        field: rng.integers(0, np.iinfo(dtype).max, (episode.steps, *shape), dtype, endpoint=True)
        for field, (shape, dtype) in episode.frames.items()
    }


def write(path, episode, order=None):
    images = pictures(episode)
    places = [(field, step) for field in images for step in range(episode.steps)]
    with NpzWriter(path, episode) as writer:
        for i in range(len(places)) if order is None else order:
            field, step = places[i]
            writer.put(field, (step,), images[field][step])
    return images


def published(path, save=np.savez, **changes):
    """A file as the published converter writes it: no word on colour order or task."""
    rng = np.random.default_rng(3)
    joints = rng.standard_normal((6, 3)).astype(np.float32)
    content = {
        "color": rng.integers(0, 256, (5, 6, 8, 3), np.uint8),
        "depth": rng.integers(0, 5000, (5, 6, 8), np.uint16),
        "gelsight1": rng.integers(0, 256, (5, 4, 4, 3), np.uint8),
        "joints_state": joints[:-1],
        "actions": joints[1:],
        **changes,
    }
    content = {key: value for key, value in content.items() if value is not None}
    save(path, **content)
    return content


def frames_of(stream):
    frames = {f: [None] * stream.episodes[0].steps for f in stream.episodes[0].frames}
    for frame in stream.frames():
        for step in frame.steps:
            assert frame.episode == 0 and frames[frame.field][step] is None
            frames[frame.field][step] = frame.image
    return {field: np.stack(images) for field, images in frames.items()}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_written_is_read_back(tmp_path):
    path, episode = tmp_path / "a" / "episode.npz", planned()
    images = write(path, episode)
    stream = open_npz(path)
    (again,) = stream.episodes
    assert (again.name, again.steps, again.frames) == ("0000", 4, FRAMES)
    assert (again.joint_names, again.action_names) == (episode.joint_names, episode.action_names)
    assert again.report == episode.report and stream.report == {"notes": []}
    assert again.columns.keys() == episode.columns.keys()
    for field, column in episode.columns.items():
        np.testing.assert_array_equal(again.columns[field], column)
        assert again.columns[field].dtype == column.dtype
    for field, read in frames_of(stream).items():
        np.testing.assert_array_equal(read, images[field])
    whole = read_npz(path)
    assert check_columns(whole) == 4
    assert isinstance(whole["observation/depth"], np.memmap)
    for field, column in {**episode.columns, **images}.items():
        np.testing.assert_array_equal(whole[field], column)
    assert [p.name for p in path.parent.iterdir()] == ["episode.npz"]


def test_numpy_reads_the_published_keys(tmp_path):
    path, episode = tmp_path / "e.npz", planned()
    images = write(path, episode)
    with np.load(path, allow_pickle=False) as content:
        np.testing.assert_array_equal(content["color"], images["observation/image"])
        np.testing.assert_array_equal(content["gelsight2"], images["observation/gelsight_right"])
        np.testing.assert_array_equal(content["actions"][:-1], content["joints_state"][1:])
        assert "gelsight1" not in content
        assert (str(content["channel_order"]), str(content["action_kind"])) == ("rgb", "next_joint_positions")
        assert str(content["language_instruction"]) == "put the cup down"
    with zipfile.ZipFile(path) as archive:  # Else the bytes would depend on the hour.
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_actions_of_another_kind_say_so(tmp_path):
    episode = planned()
    columns = {**episode.columns, "action": np.zeros((4, 1), np.float32)}
    write(tmp_path / "e.npz", planned(columns=columns, action_names=("dx [m]",)))
    with np.load(tmp_path / "e.npz") as content:
        assert str(content["action_kind"]) == "other"
    assert open_npz(tmp_path / "e.npz").episodes[0].action_names == ("dx [m]",)


def test_instructions_and_rewards_that_change_are_kept(tmp_path):
    texts = ["öffne die Tür", "öffne die Tür", "close it", "close it"]
    episode = planned(instructions=texts)
    rewards = np.array([0, 0.5, 0, 2], np.float32)
    columns = {**episode.columns, "reward": rewards, "is_terminal": np.zeros(4, bool)}
    write(tmp_path / "e.npz", planned(columns=columns))
    (again,) = open_npz(tmp_path / "e.npz").episodes
    assert again.columns["language_instruction"].tolist() == texts
    assert again.columns["reward"].tolist() == rewards.tolist()
    assert not again.columns["is_terminal"].any()
    (told,) = open_npz(tmp_path / "e.npz", instruction="wave").episodes
    assert set(told.columns["language_instruction"]) == {"wave"}


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(12)))
def test_the_order_of_frames_does_not_matter(tmp_path_factory, order):
    folder = tmp_path_factory.mktemp("npz")
    write(folder / "a.npz", planned())
    write(folder / "b.npz", planned(), order)
    assert digest(folder / "a.npz") == digest(folder / "b.npz")


def test_a_frame_may_serve_several_steps(tmp_path):
    episode = planned(frames={"observation/depth": ((2, 2), "uint16")})
    with NpzWriter(tmp_path / "e.npz", episode) as writer:
        writer.put("observation/depth", (1, 3), np.full((2, 2), 7, np.uint16))
        writer.put("observation/depth", (0, 2), np.full((4, 4), 9, np.uint16)[::2, ::2])
    assert read_npz(tmp_path / "e.npz")["observation/depth"][:, 0, 0].tolist() == [9, 7, 9, 7]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_published_files_are_bgr_and_turned(tmp_path, save):
    path = tmp_path / "published.npz"
    content = published(path, save)
    stream = open_npz(path, instruction="grasp the black cable")
    columns = read_npz(path, instruction="grasp the black cable")
    for read in (frames_of(stream), columns):
        np.testing.assert_array_equal(read["observation/image"], content["color"][..., ::-1])
        np.testing.assert_array_equal(read["observation/gelsight_left"], content["gelsight1"][..., ::-1])
        np.testing.assert_array_equal(read["observation/depth"], content["depth"])
    (episode,) = stream.episodes
    assert episode.joint_names == ("joint_0", "joint_1", "joint_2")
    assert episode.action_names[0] == "joint_0 [rad]"
    assert episode.columns["is_last"].tolist() == [False] * 4 + [True]
    assert "BGR" in stream.report["notes"][0]
    assert "observation/gelsight_right" not in columns


def test_a_depth_image_three_pixels_wide_is_not_turned(tmp_path):
    content = published(tmp_path / "e.npz", depth=np.arange(45, dtype=np.uint16).reshape(5, 3, 3))
    read = read_npz(tmp_path / "e.npz", instruction="x")["observation/depth"]
    np.testing.assert_array_equal(read, content["depth"])


def test_the_colour_order_may_be_said(tmp_path):
    content = published(tmp_path / "e.npz", channel_order="rgb")
    read = read_npz(tmp_path / "e.npz", instruction="x")["observation/image"]
    np.testing.assert_array_equal(read, content["color"])
    published(tmp_path / "e.npz", channel_order="gbr")
    with pytest.raises(ValueError, match="channel_order must be 'rgb' or 'bgr'. Received: 'gbr'"):
        open_npz(tmp_path / "e.npz", instruction="x")


def test_numpys_own_floats_are_taken(tmp_path):
    content = published(tmp_path / "e.npz")
    published(tmp_path / "e.npz", actions=content["actions"].astype(np.float64))
    read = read_npz(tmp_path / "e.npz", instruction="x")["action"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, content["actions"])


def test_a_file_without_a_task_asks_for_one(tmp_path):
    published(tmp_path / "e.npz")
    for read in (open_npz, read_npz):
        with pytest.raises(MissingTaskError, match=r"e.npz#0000"):
            read(tmp_path / "e.npz")


def test_keys_that_nobody_knows_are_named(tmp_path):
    published(tmp_path / "e.npz", cam_left=np.zeros(3), channel_order="rgb")
    assert open_npz(tmp_path / "e.npz", "x").report["notes"] == [
        "The keys ['cam_left'] are unknown and left out."
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": None}, r"lacks \['actions'\]. Received keys: \['color', "),
        ({"actions": np.zeros((0, 3), np.float32)}, "at least one step"),
        ({"actions": np.zeros((6, 3), np.float32)}, r"observation/image must be \[6, 'H'"),
        ({"actions": np.zeros((5, 3), np.float16)}, "action must be float32. Received: dtype=float16"),
        ({"actions": np.full((5, 3), np.nan, np.float32)}, "finite"),
        ({"actions": np.array([{}] * 5, object)}, "actions is not a plain array"),
        ({"color": np.array([{}] * 5, object)}, "color is not a plain array"),
        ({"color": np.zeros((5, 6, 8), np.uint8)}, "observation/image must be"),
        ({"color": np.zeros((5, 6, 8, 3), np.float32)}, "observation/image must be uint8"),
        ({"color": np.zeros((5, 0, 8, 3), np.uint8)}, "observation/image must be"),
        ({"depth": np.zeros((5, 6, 8), np.float32)}, "observation/depth must be uint16"),
        ({"depth": np.zeros((4, 6, 8), np.uint16)}, "observation/depth must be"),
        ({"joints_state": np.zeros((5, 3), np.int64)}, "joint_positions must be float32"),
        ({"joint_names": np.array(["a"])}, r"joint_names must be 3 names. Received: \['a'\]"),
        ({"report": "no json"}, "report is no JSON"),
        ({"report": "[1]"}, "JSON object"),
        ({"reward": np.zeros(4, np.float32)}, "reward must be"),
        ({"language_instruction": np.array(["a", "b"])}, "language_instruction must be"),
        ({"language_instruction": ""}, "language_instruction is empty"),
        ({"language_instruction": 3}, "must hold strings"),
    ],
)
def test_wrong_files_are_refused(tmp_path, changes, message):
    path = tmp_path / "e.npz"
    published(path, **{"language_instruction": "x", **changes})
    for read in (open_npz, read_npz):
        with pytest.raises(ValueError, match=message) as error:
            if read is read_npz and {"report", "joint_names"} & changes.keys():
                open_npz(path)  # Only the stream has these.
            read(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_is_refused(tmp_path, save):
    path = tmp_path / "e.npz"
    published(path, save)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("color.npy")
    for content in (whole[:-40], whole[: len(whole) // 2], b"", b"version https://git-lfs.github.com/spec"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a whole NPZ|git-lfs"):
            open_npz(path, "x")
    # A bit in the pixels: nothing but the checksum knows.
    damaged = bytearray(whole)
    damaged[member.header_offset + member.compress_size] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"e\.npz: color is not a plain array"):
        frames_of(open_npz(path, "x"))


def test_a_header_that_asks_for_much_memory_takes_none(tmp_path):
    path = tmp_path / "e.npz"
    content = published(path)
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in content.items():
            with archive.open(f"{key}.npy", "w") as file:
                if key == "actions":
                    shape = (10**9, 10**6)
                    np.lib.format.write_array_header_1_0(
                        file, {"descr": "<f4", "fortran_order": False, "shape": shape}
                    )
                else:
                    np.lib.format.write_array(file, value)
    with pytest.raises(ValueError, match="0 bytes of 4000000000000000 are there"):
        open_npz(path, "x")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reading_and_writing_need_memory_for_a_frame(tmp_path, save):
    color = np.zeros((40, 500, 500, 3), np.uint8)  # 30 MB.
    joints = np.zeros((40, 3), np.float32)
    published(
        tmp_path / "e.npz", save, color=color, depth=None, gelsight1=None, joints_state=joints, actions=joints
    )
    tracemalloc.start()
    stream = open_npz(tmp_path / "e.npz", "x")
    with NpzWriter(tmp_path / "again.npz", stream.episodes[0]) as writer:
        for frame in stream.frames():
            writer.put(frame.field, frame.steps, frame.image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


WRONG_FRAMES = [
    ("observation/gelsight_left", (0,), np.zeros((3, 3, 3), np.uint8), "frames are"),
    ("observation/image", (0,), np.zeros((6, 9, 3), np.uint8), r"must be uint8 \(6, 8, 3\)"),
    ("observation/image", (0,), np.zeros((6, 8, 3), np.uint16), "Received: uint16"),
    ("observation/image", (4,), np.zeros((6, 8, 3), np.uint8), "Received: step 4"),
    ("observation/image", (-1,), np.zeros((6, 8, 3), np.uint8), "Received: step -1"),
    ("observation/image", (2, 2), np.zeros((6, 8, 3), np.uint8), "Received: step 2"),
]


@pytest.mark.parametrize(("field", "steps", "image", "message"), WRONG_FRAMES)
def test_a_failed_write_leaves_nothing(tmp_path, field, steps, image, message):
    with pytest.raises(ValueError, match=message), NpzWriter(tmp_path / "e.npz", planned()) as writer:
        writer.put(field, steps, image)
    assert not list(tmp_path.iterdir())


def test_a_missing_frame_is_an_error_and_the_old_file_stays(tmp_path):
    path = tmp_path / "e.npz"
    write(path, planned())
    before = digest(path)
    with pytest.raises(ValueError, match="observation/image .* each of 4 steps. Received: none for step 3"):
        write(path, planned(), [0, 1, 2])
    assert digest(path) == before and [p.name for p in tmp_path.iterdir()] == ["e.npz"]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("e.zip", {}, "end in .npz"),
        ("e.npz", {"frames": {"observation/joint_positions": ((2,), "float32")}}, "Frames are of images"),
        ("e.npz", {"frames": {"observation/image": ((6, 8), "uint8")}}, "observation/image must be"),
        ("e.npz", {"frames": {"observation/depth": ((6, 8), "uint8")}}, "must be uint16"),
        ("e.npz", {"columns": {"action": np.zeros((2, 1), np.float32)}}, "lacks"),
        ("e.npz", {"report": {"skew": float("nan")}}, "JSON"),
    ],
)
def test_an_episode_outside_the_contract_is_not_written(tmp_path, name, changes, message):
    images = pictures(planned())
    with (
        pytest.raises(ValueError, match=message),
        NpzWriter(tmp_path / name, planned(**changes)) as writer,
    ):
        for field, column in images.items():
            for step, image in enumerate(column):
                writer.put(field, (step,), image)
    assert not list(tmp_path.iterdir())
