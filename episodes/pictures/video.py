"""An episode as a video: all cameras side by side, the curves with a cursor, and what was asked."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from episodes.pictures.contact_sheet import draw_curves, rendered, short, wrapped
from episodes.pictures.mp4 import DEFAULT_FPS, write_mp4
from episodes.pictures.shown_episode import Camera, ShownEpisode

_DPI = 100
_PANEL_HEIGHT, _MINIMUM_WIDTH, _MAXIMUM_WIDTH = 240, 640, 1920
_CURVES_HEIGHT, _LINE_HEIGHT = 170, 26
_CURSOR, _INK, _PAPER = (200, 30, 30), (30, 30, 30), 255
_FONT_SCALE = 0.45


def write_video(path: str | Path, episode: ShownEpisode, fps: float | None = None) -> None:
    """Writes the video as MP4 (MPEG-4 part 2), atomically, with memory for one frame.

    Args:
      path: the file to write; its name must end in ``.mp4``.
      episode: what to show; each step is a frame.
      fps: frames a second; None takes the episode's own rate, or 10 where it is not known.

    Raises:
      ValueError: another name, or a rate that is not positive.
      VideoError: see ``write_mp4``.
    """
    rate = fps if fps is not None else 1 / episode.step_s if episode.step_s else DEFAULT_FPS
    write_mp4(path, video_frames(episode), rate)


def video_frames(episode: ShownEpisode) -> Iterator[np.ndarray]:
    """Draws the frames, one for each step: uint8 [H, W, 3] RGB, H and W even and always the same."""
    sizes = [_panel_size(camera, episode.steps) for camera in episode.cameras]
    width = max(_MINIMUM_WIDTH, sum(w for _, w in sizes))
    if width > _MAXIMUM_WIDTH:
        scale = _MAXIMUM_WIDTH / width
        sizes = [(max(2, int(h * scale)), max(2, int(w * scale))) for h, w in sizes]
        width = _MAXIMUM_WIDTH
    headers = {text: _header(text, width) for text in dict.fromkeys(episode.instructions)}
    header_height = max(h.shape[0] for h in headers.values())
    panels_height = max((h for h, _ in sizes), default=0)
    curves, spans = _curves_picture(episode, width)
    height = header_height + panels_height + curves.shape[0]
    canvas = np.full((height + height % 2, width + width % 2, 3), _PAPER, np.uint8)
    for step in range(episode.steps):
        frame = canvas.copy()
        header = headers[episode.instructions[step]]
        frame[: header.shape[0], :width] = header
        left = 0
        for camera, (h, w) in zip(episode.cameras, sizes, strict=True):
            frame[header_height : header_height + h, left : left + w] = _panel(camera, step, (h, w))
            left += w
        top = header_height + panels_height
        frame[top : top + curves.shape[0], :width] = curves
        for first, last, upper, lower in spans:
            x = round(first + (last - first) * step / max(1, episode.steps - 1))
            cv2.line(frame, (x, top + upper), (x, top + lower), _CURSOR, 1)
        _write_text(frame, episode.time(step), (8, header_height - 8), _INK)
        yield frame


def _panel_size(camera: Camera, steps: int) -> tuple[int, int]:
    """(height, width) of a camera's place, from its first frame that is there."""
    for step in range(steps):
        picture = camera.picture(step)
        if picture is not None:
            return _PANEL_HEIGHT, max(2, round(_PANEL_HEIGHT * picture.shape[1] / picture.shape[0]))
    return _PANEL_HEIGHT, _PANEL_HEIGHT


def _panel(camera: Camera, step: int, size: tuple[int, int]) -> np.ndarray:
    picture, (height, width) = camera.picture(step), size
    if picture is None:
        panel = np.full((height, width, 3), 225, np.uint8)
    else:
        how = cv2.INTER_AREA if picture.shape[0] > height else cv2.INTER_LINEAR
        how = cv2.INTER_NEAREST_EXACT if camera.depth else how
        panel = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=how)
    near, far = camera.limits_mm
    title = short(camera.name) + (f", {near} to {far} mm" if camera.depth else "")
    (text_width, _), _ = cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, 1)
    cv2.rectangle(panel, (0, 0), (text_width + 12, 22), _INK, cv2.FILLED)
    _write_text(panel, title, (6, 16), (255, 255, 255))
    return panel


def _write_text(image: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, colour, 1, cv2.LINE_AA)


def _header(text: str, width: int) -> np.ndarray:
    """The instruction, with a free line below for the step. By matplotlib, whose fonts know more letters."""
    lines = wrapped(text, width / _DPI)
    height = _LINE_HEIGHT * (lines.count("\n") + 2)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    figure.text(8 / width, 1 - 6 / height, lines, va="top", fontsize=12, parse_math=False)
    return rendered(figure)


def _curves_picture(
    episode: ShownEpisode, width: int
) -> tuple[np.ndarray, list[tuple[float, float, int, int]]]:
    """The curves, and for each axes where the first and last step and its upper and lower edge are."""
    n = len(episode.curves)
    if not n:
        return np.zeros((0, width, 3), np.uint8), []
    height = _CURVES_HEIGHT * n
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    figure.subplots_adjust(left=60 / width, right=1 - 130 / width, top=1 - 8 / height, bottom=24 / height)
    all_axes = figure.subplots(n, 1, squeeze=False)[:, 0]
    for axes, curves in zip(all_axes, episode.curves, strict=True):
        draw_curves(axes, curves)
    picture = rendered(figure)
    spans = []
    for axes in all_axes:
        last = max(1, episode.steps - 1)
        (x0, _), (x1, _) = axes.transData.transform([(0, 0), (last, 0)])
        box = axes.get_window_extent()
        spans.append((x0, x1, round(height - box.y1), round(height - box.y0)))
    return picture, spans
