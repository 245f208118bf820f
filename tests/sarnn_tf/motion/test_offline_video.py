"""The film shows every step, the points where they are, and files are written whole or not at all."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sarnn_tf.motion.offline_video import video_frames, write_gif, write_videos
from sarnn_tf.motion.rollout import Rollout

BLUE, RED = (0, 0, 255), (255, 0, 0)


def rollout(size: tuple[int, int] = (20, 30), steps: int = 4, **changes: object) -> Rollout:
    """A grey recording, white predictions, and points in known places."""
    grey = np.full((steps, *size, 3), 0.5, np.float32)
    point = np.tile(np.array([[[0.25, 0.75]]], np.float32), (steps, 1, 1))
    made = Rollout(
        instruction="grasp $x$ ✓",
        input_param=0.5,
        recorded_images={"image": grey},
        recorded_joints=np.linspace(0, 1, steps, dtype=np.float32)[:, None].repeat(2, axis=1),
        seen_images={"image": grey},
        images={"image": np.ones_like(grey)},
        joints=np.full((steps, 2), 0.5, np.float32),
        encoder_points={"image": point},
        decoder_points={"image": 1 - point},
        point_borders={"image": (3.0, 3.0)},
        hidden=np.zeros((steps, 4), np.float32),
    )
    return dataclasses.replace(made, **changes)


def panel_of(frame: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """The seen image in a frame, found by its grey, and its enlargement."""
    grey = np.all(frame == 128, axis=-1)
    rows, columns = np.flatnonzero(grey.sum(1) > 50), np.flatnonzero(grey.sum(0) > 50)
    panel = frame[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = panel.shape[0] // size[0]
    assert panel.shape[:2] == (size[0] * scale, size[1] * scale)
    return panel, scale


def centre(panel: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(x, y) of the pixels that are drawn in a colour."""
    return np.argwhere(np.all(panel == colour, axis=-1)).mean(axis=0)[::-1]


@pytest.mark.parametrize("size", [(20, 30), (64, 64), (130, 97)])
@pytest.mark.parametrize("border", [(3.0, 3.0), (0.0, 0.0)])
def test_markers_are_at_the_points_for_any_size(size: tuple[int, int], border: tuple[float, float]) -> None:
    """EIPL drew them for 128 pixels whatever the image."""
    made = rollout(size, point_borders={"image": border})
    made.decoder_points["image"][:] = [0.6, 0.4]
    panel, scale = panel_of(next(video_frames(made, "ab")), size)
    height, width = size
    for colour, (x, y), (rows, columns) in (
        (BLUE, (0.25, 0.75), border),
        (RED, (0.6, 0.4), (3.0, 3.0)),  # The decoder's map is always the one behind the convolutions.
    ):
        column = columns + x * (width - 1 - 2 * columns)
        row = rows + y * (height - 1 - 2 * rows)
        expected = np.array([column, row]) * scale + (scale - 1) / 2
        np.testing.assert_allclose(centre(panel, colour), expected, atol=1.0)


def test_points_beyond_the_image_are_at_its_edge() -> None:
    made = rollout()
    made.decoder_points["image"][:] = [7.0, -3.0]
    panel, _ = panel_of(next(video_frames(made, "ab")), (20, 30))
    reds = np.argwhere(np.all(panel == RED, axis=-1))
    assert reds[:, 0].min() == 0 and reds[:, 1].max() == panel.shape[1] - 1
    assert reds[:, 0].max() < 20 and reds[:, 1].min() > panel.shape[1] - 20


def test_predicted_images_follow_the_joints_appear_step_by_step() -> None:
    frames = list(video_frames(rollout(steps=5), ("_a", "b")))
    assert len(frames) == 5
    assert {f.shape for f in frames} == {frames[0].shape}
    assert frames[0].shape[0] % 2 == frames[0].shape[1] % 2 == 0
    orange = [np.all(np.abs(f.astype(int) - (255, 127, 14)) < 30, axis=-1).sum() for f in frames]
    assert all(b > a for a, b in zip(orange, orange[1:], strict=False))


def test_several_modalities_side_by_side() -> None:
    one = rollout()
    depth = np.full((4, 12, 9, 1), 0.25, np.float32)
    both = rollout(
        **{
            field: {**getattr(one, field), "depth": value}
            for field, value in (
                ("recorded_images", depth),
                ("seen_images", depth),
                ("images", depth),
                ("encoder_points", one.encoder_points["image"]),
                ("decoder_points", one.decoder_points["image"]),
                ("point_borders", (3.0, 3.0)),
            )
        }
    )
    frame = next(video_frames(both, "ab"))
    # Seen and predicted.
    assert np.all(frame == 64, axis=-1).sum() > 1.5 * (12 * 16) * (9 * 16)


def test_files_can_be_read_and_have_all_frames(tmp_path: Path) -> None:
    written = write_videos(tmp_path / "new" / "run_1.0", rollout(steps=6), "ab", 5.0, gif=True)
    assert [p.name for p in written] == ["run_1.0.mp4", "run_1.0.gif"]
    reader = cv2.VideoCapture(str(written[0]))
    assert reader.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)
    reader.release()
    with Image.open(written[1]) as picture:
        assert picture.n_frames == 6
        assert picture.info["duration"] == 200
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["run_1.0.gif", "run_1.0.mp4"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    frame = np.zeros((16, 16, 3), np.uint8)
    for name, frames, fps, message in (
        ("a.gif", [], 10.0, "needs a frame"),
        ("a.avi", [frame], 10.0, "are needed"),
        ("a.gif", [frame], 0.0, "are needed"),
    ):
        with pytest.raises(ValueError, match=message):
            write_gif(tmp_path / name, frames, fps)
    assert not list(tmp_path.iterdir())
