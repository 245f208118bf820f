"""Frames as an MP4 file that is whole, and can be read, or is not there."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from core import files

DEFAULT_FPS = 10.0
_FOURCC = "mp4v"


class VideoError(RuntimeError):
    """OpenCV did not write a video that it can read."""


def write_mp4(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes frames as MP4 (MPEG-4 part 2), atomically, with memory for one of them.

    Args:
      path: ends in ``.mp4``.
      frames: uint8 [H, W, 3] RGB, all of one size, H and W even.
      fps: frames a second; kept to three decimals, to two from 65 on, and whole from 655 on.

    Raises:
      ValueError: another name, a rate that is not positive, or no frame.
      VideoError: the codec is missing, or the file does not hold all frames.
    """
    path = Path(path)
    if path.suffix != ".mp4" or not 0 < fps < float("inf"):
        raise ValueError(f"An .mp4 and a positive rate are needed. Received: {path}, fps={fps}")
    with files.atomic_path(path) as temporary, contextlib.ExitStack() as stack:
        writer, count = None, 0
        for frame in frames:
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                writer = cv2.VideoWriter(
                    str(temporary), cv2.VideoWriter.fourcc(*_FOURCC), _writable(fps), size
                )
                stack.callback(writer.release)
                if not writer.isOpened():
                    raise VideoError(f"OpenCV cannot write {_FOURCC} video here. Received: {size}, {fps} fps")
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            count += 1
        if writer is None:
            raise ValueError("A video needs a frame. Received: none")
        writer.release()
        reader = cv2.VideoCapture(str(temporary))
        stack.callback(reader.release)
        found = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        if found != count or not reader.read()[0]:
            raise VideoError(f"{count} readable frames were to be written. Received: {found}")


def _writable(fps: float) -> float:
    # OpenCV writes 66.667 as 66667 ticks of which 1000 are a frame; MPEG-4 has room for 65535 a second.
    return round(fps, 3 if fps < 65 else 2 if fps < 655 else 0)
