"""Contact sheets and videos show the frames, numbers and words of the episode, and of no other."""

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from episodes import show
from episodes.episode_stream import PlannedEpisode
from episodes.npz import NpzWriter, step_columns
from episodes.pictures import mp4, video
from episodes.pictures.contact_sheet import draw_contact_sheet, shown_steps
from episodes.pictures.shown_episode import Camera, Curves, ShownEpisode, coloured_depth, open_episodes
from tests.episodes import tiny_rlds

JOINTS = ("shoulder", "elbow")


def npz(path, steps=6, instruction="put the $5 cup_down", report=None):
    joints = np.random.default_rng(1).standard_normal((steps + 1, 2)).astype(np.float32)
    columns = {
        **step_columns(steps, np.full(steps, instruction)),
        "observation/joint_positions": joints[:-1],
        "action": joints[1:],
    }
    frames = {"observation/image": ((40, 60, 3), "uint8"), "observation/depth": ((40, 60), "uint16")}
    names = tuple(f"{name} [rad]" for name in JOINTS)
    episode = PlannedEpisode("0000", columns, frames, JOINTS, names, report or {})
    with NpzWriter(path, episode) as writer:
        for t in range(steps):
            writer.put("observation/image", (t,), np.full((40, 60, 3), (255 - 30 * t, 30 * t, 0), np.uint8))
            depth = np.full((40, 60), 500 + 100 * t, np.uint16)
            depth[:, :20] = 0
            writer.put("observation/depth", (t,), depth)
    return columns


def first(path, split=None):
    _, episodes = open_episodes(path, split)
    return next(episodes)


def read_video(path):
    reader, frames = cv2.VideoCapture(str(path)), []
    while (got := reader.read())[0]:
        frames.append(got[1][..., ::-1])
    return frames


def pictures_of(figure):
    return [a.get_images()[0].get_array() for a in figure.axes if a.get_images()]


def test_an_rlds_data_set(tmp_path, capsys):
    episodes = [tiny_rlds.episode(i, 5 + i, instruction=f"task {i}") for i in range(3)]
    folder = tiny_rlds.write_rlds(tmp_path / "set", {"train": episodes[:2], "val": episodes[2:]})
    assert show.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    names = ["episode_0000.mp4", "episode_0000.png", "episode_0001.mp4", "episode_0001.png"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    assert sorted(p.rpartition("/")[2] for p in capsys.readouterr().out.split()) == names
    assert len(read_video(tmp_path / "out" / "episode_0001.mp4")) == 6
    assert cv2.imread(str(tmp_path / "out" / "episode_0001.png")).shape[1] > 600
    # The parent folder, one split, and at most so many.
    assert (
        show.main([str(folder.parent), "--out", str(tmp_path / "val"), "--split", "val", "--no_video"]) == 0
    )
    assert [p.name for p in (tmp_path / "val").iterdir()] == ["episode_0000.png"]
    assert len(show.show(folder, tmp_path / "one", episodes=1)) == 2
    assert len(show.show(folder, tmp_path / "all", episodes=0, video=False)) == 2


def test_the_folder_that_a_conversion_wrote_to(tmp_path):
    tiny_rlds.write_rlds(tmp_path, {"train": [tiny_rlds.episode(0, 3)]}, name="one")
    npz(tmp_path / ".work-one" / "0000.npz")
    assert first(tmp_path).name == first(tmp_path / "one").name == "e0"
    tiny_rlds.write_rlds(tmp_path, {"train": [tiny_rlds.episode(0, 3)]}, name="other")
    with pytest.raises((ValueError, FileNotFoundError), match="one"):
        open_episodes(tmp_path)


def test_what_is_read_from_rlds(tmp_path):
    folder = tiny_rlds.write_rlds(tmp_path, {"train": [tiny_rlds.episode(4, 5, instruction="lift it")]})
    count, episodes = open_episodes(folder)
    (episode,) = episodes
    assert count == 1 and episode.instructions == ("lift it",) * 5 and episode.step_s is None
    image, depth = episode.cameras
    assert (image.name, image.depth) == ("observation/image", False)
    assert (depth.name, depth.depth) == ("observation/depth", True)
    assert image.picture(3).shape == (8, 8, 3) and image.picture(3)[0, 0].tolist() == [3, 3, 3]
    assert depth.read(2).tolist() == np.full((8, 8), 1002).tolist()
    (curves,) = episode.curves
    assert curves.values.shape == (5, 4) and curves.labels == ("0", "1", "2", "3")


def test_names_come_from_the_descriptions_of_our_data_sets(tmp_path):
    spec = tfds.features.FeaturesDict(
        {
            "steps": tfds.features.Dataset(
                {
                    "observation": {
                        "joint_positions": tfds.features.Tensor(
                            shape=(2,), dtype=np.float32, doc="shoulder, elbow"
                        ),
                        "image": tfds.features.Image(shape=(4, 4, 3), dtype=np.uint8),
                    },
                    "action": tfds.features.Tensor(
                        shape=(2,), dtype=np.float32, doc="Joint velocities, or positions, or both."
                    ),
                }
            )
        }
    )
    step = {
        "observation": {"joint_positions": np.ones(2, np.float32), "image": np.zeros((4, 4, 3), np.uint8)},
        "action": np.zeros(2, np.float32),
    }
    folder = tiny_rlds.write_rlds(tmp_path, {"train": [{"steps": [step] * 3}]}, spec=spec)
    episode = first(folder)
    assert [(c.name, c.labels) for c in episode.curves] == [
        ("observation/joint_positions", ("shoulder", "elbow")),
        ("action", ("0", "1")),
    ]
    assert episode.instructions == ("(no instruction)",) * 3


def test_the_sheet_shows_the_right_frames_numbers_and_words(tmp_path):
    columns = npz(tmp_path / "e.npz", report={"step_median_ms": 100.0})
    figure = draw_contact_sheet(first(tmp_path / "e.npz"), columns=3)
    pictures = pictures_of(figure)
    assert [p[0, 0].tolist() for p in pictures[:3]] == [[255 - 30 * t, 30 * t, 0] for t in (0, 2, 5)]
    assert [a.get_title() for a in figure.axes[:3]] == ["step 0, 0.0 s", "step 2, 0.2 s", "step 5, 0.5 s"]
    assert all((p[:, :20] == 0).all() for p in pictures[3:])
    assert "put the $5 cup_down" in [t.get_text() for t in figure.texts]
    curves = [a for a in figure.axes if a.get_legend()]
    assert [a.get_ylabel() for a in curves] == ["joint positions [rad]", "action"]
    for axes, name in zip(curves, ("observation/joint_positions", "action"), strict=True):
        drawn = np.stack([line.get_ydata() for line in axes.lines[:2]], axis=1)
        np.testing.assert_array_equal(drawn, columns[name])
    assert [t.get_text().strip("\u200b") for t in curves[0].get_legend().get_texts()] == list(JOINTS)


def test_the_video_shows_each_step_once(tmp_path):
    npz(tmp_path / "e.npz", report={"step_median_ms": 50.0})
    assert show.main([str(tmp_path / "e.npz"), "--out", str(tmp_path)]) == 0
    frames = read_video(tmp_path / "episode_0000.mp4")
    assert len(frames) == 6
    assert cv2.VideoCapture(str(tmp_path / "episode_0000.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(20)
    # The colour camera is on the left, below two lines of text; its colour goes from red to green.
    for t, frame in enumerate(frames):
        np.testing.assert_allclose(frame[200, 180].astype(int), [255 - 30 * t, 30 * t, 0], atol=25)
    exact = list(video.video_frames(first(tmp_path / "e.npz")))
    assert exact[0].shape == frames[0].shape and all(side % 2 == 0 for side in exact[0].shape[:2])
    cursors = [np.flatnonzero((frame[-100] == (200, 30, 30)).all(axis=-1)).tolist() for frame in exact]
    assert all(len(c) == 1 for c in cursors) and cursors == sorted(cursors)
    assert len({c[0] for c in cursors}) == 6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.npz", "episode_0000.mp4", "episode_0000.png"]


def episode_of(cameras=(), curves=(), steps=3, instructions=None):
    return ShownEpisode("e", tuple(instructions or ["x"] * steps), tuple(cameras), tuple(curves))


@pytest.mark.parametrize(
    "episode",
    [
        episode_of(),
        episode_of(steps=1, curves=[Curves("action", np.zeros((1, 2)), ("_a", "$b"))]),
        episode_of([Camera("observation/image", False, lambda t: None)]),
        episode_of([Camera(f"c{i}", False, lambda t: np.zeros((30, 400, 3), np.uint8)) for i in range(9)]),
        episode_of(
            [Camera("c", False, lambda t: np.zeros((7, 5, 3), np.uint8))], instructions=["a", "b", "杯"]
        ),
        episode_of(instructions=["$\\frac{"] * 3),
        episode_of(curves=[Curves("action", np.full((3, 32), np.nan), ("long name " * 5,) * 32)]),
    ],
    ids=["nothing", "one step", "absent frames", "many cameras", "three tasks", "no formula", "many curves"],
)
def test_odd_episodes_are_shown(tmp_path, episode):
    video.write_video(tmp_path / "e.mp4", episode)
    assert len(read_video(tmp_path / "e.mp4")) == episode.steps
    show.write_contact_sheet(tmp_path / "e.png", episode)
    sheet = cv2.imread(str(tmp_path / "e.png"))
    assert sheet is not None and sheet.min() < 100  # Something is drawn.
    assert max(read_video(tmp_path / "e.mp4")[0].shape) <= 1920


def test_an_empty_image_is_absent(tmp_path):
    reading = Camera("observation/image", False, lambda t: None)
    figure = draw_contact_sheet(episode_of([reading]))
    assert [t.get_text() for a in figure.axes for t in a.texts] == ["absent"] * 3


def test_depth_is_black_where_unknown_and_only_there():
    depth = np.arange(0, 3000, 10, dtype=np.uint16).reshape(15, 20)
    colours = coloured_depth(depth, (100, 2000))
    np.testing.assert_array_equal((colours == 0).all(axis=-1), depth == 0)
    assert (colours[depth >= 2000] == colours[-1, -1]).all()
    assert colours[-1, -1].argmax() == 0 and colours[1, 5].argmax() == 2  # Far is red, near is blue.


@pytest.mark.parametrize(("steps", "columns"), [(1, 8), (5, 8), (8, 8), (100, 8), (100, 1), (7, 3)])
def test_steps_are_even_and_each_is_shown_once(steps, columns):
    shown = shown_steps(steps, columns)
    assert len(shown) == len(set(shown)) == min(steps, columns) and shown[0] == 0
    if len(shown) > 1:
        assert shown[-1] == steps - 1 and np.ptp(np.diff(shown)) <= 1


def test_folders_of_npz(tmp_path):
    npz(tmp_path / "set" / "train" / "b.npz", instruction="b")
    npz(tmp_path / "set" / "train" / "a.npz", instruction="a")
    npz(tmp_path / "set" / "val" / "c.npz", instruction="c")
    npz(tmp_path / "set" / ".work" / "unfinished.npz")
    for split, wanted in ((None, "abc"), ("val", "c")):
        count, episodes = open_episodes(tmp_path / "set", split)
        assert [e.instructions[0] for e in episodes] == list(wanted) and count == len(wanted)


def test_a_published_npz_is_shown_without_a_task(tmp_path):
    color = np.zeros((4, 8, 8, 3), np.uint8)
    color[..., 0] = 200  # Blue, as published files are BGR.
    np.savez(tmp_path / "p.npz", color=color, actions=np.zeros((4, 2), np.float32))
    episode = first(tmp_path / "p.npz")
    assert episode.instructions[0] == "(no instruction)"
    assert episode.cameras[0].picture(0)[0, 0].tolist() == [0, 0, 200]


def test_what_cannot_be_shown(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.npz").write_bytes(b"PK")
    folder = tiny_rlds.write_rlds(tmp_path / "set", {"train": [tiny_rlds.episode(0, 3)]})
    for arguments, message in (
        (["nowhere"], "Received: nowhere"),
        ([str(tmp_path / "empty")], "dataset_info.json"),
        ([str(tmp_path / "bad.npz")], "bad.npz is not a whole NPZ"),
        ([str(folder), "--split", "test"], "split='test'"),
    ):
        assert show.main([*arguments, "--out", str(tmp_path / "out")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit, match="2"):
        show.main([str(folder), "--out", str(tmp_path / "out"), "--episodes", "-1"])


def test_a_video_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch, capsys):
    npz(tmp_path / "e.npz")
    monkeypatch.setattr(mp4, "_FOURCC", "zzzz")
    assert show.main([str(tmp_path / "e.npz"), "--out", str(tmp_path / "out")]) == 1
    assert "video" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["episode_0000.png"]
    monkeypatch.undo()
    with pytest.raises(ValueError, match="positive rate"):
        video.write_video(tmp_path / "e.mp4", first(tmp_path / "e.npz"), fps=0)
