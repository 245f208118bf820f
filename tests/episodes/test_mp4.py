"""A video holds every frame at its rate, or there is none."""

import cv2
import numpy as np
import pytest

from episodes.pictures import mp4
from episodes.pictures.mp4 import VideoError, write_mp4

FRAME = np.zeros((16, 16, 3), np.uint8)


@pytest.mark.parametrize("fps", [0.1, 1 / 0.3, 10.0, 29.97, 1 / 0.015, 99.998, 1000.3])
def test_a_video_has_its_frames_at_their_rate(fps, tmp_path):
    write_mp4(tmp_path / "a.mp4", (np.full_like(FRAME, 80 * i) for i in range(3)), fps)
    reader = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    try:
        assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=1e-3)
        for i in range(3):
            assert np.abs(reader.read()[1].astype(int) - 80 * i).max() < 12
        assert not reader.read()[0]
    finally:
        reader.release()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("name", "frames", "fps", "error", "message"),
    [
        ("a.mp4", [], 10.0, ValueError, "needs a frame"),
        ("a.avi", [FRAME], 10.0, ValueError, "are needed"),
        ("a.mp4", [FRAME], 0.0, ValueError, "are needed"),
        # OpenCV drops a frame of another size without a word.
        ("a.mp4", [FRAME, FRAME, np.zeros((18, 16, 3), np.uint8)], 10.0, VideoError, "3 readable frames"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(name, frames, fps, error, message, tmp_path):
    with pytest.raises(error, match=message):
        write_mp4(tmp_path / name, frames, fps)
    assert not list(tmp_path.iterdir())


def test_a_missing_codec_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(mp4, "_FOURCC", "zzzz")
    with pytest.raises(VideoError, match="zzzz"):
        write_mp4(tmp_path / "a.mp4", [FRAME], 10.0)
    assert not list(tmp_path.iterdir())
