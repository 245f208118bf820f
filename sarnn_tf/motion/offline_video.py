"""A rollout as a film: what the model saw and where it looked, what it expected, and the joints."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from core import files
from episodes.pictures.contact_sheet import rendered, wrapped
from episodes.pictures.mp4 import DEFAULT_FPS, write_mp4
from sarnn_tf.motion.rollout import Rollout
from sarnn_tf.pictures import draw_points, to_rgb

_DPI = 100
_PAPER, _INK, _CURSOR = 255, (30, 30, 30), (160, 160, 160)
_GAP, _LABEL_HEIGHT, _LINE_HEIGHT = 4, 18, 22
_CURVES_HEIGHT, _MINIMUM_WIDTH = 240, 640
_FONT_SCALE = 0.4


def write_videos(
    stem: str | Path,
    rollout: Rollout,
    joint_names: Sequence[str],
    rate_hz: float | None = None,
    *,
    gif: bool = False,
) -> list[Path]:
    """Writes ``stem.mp4`` (MPEG-4 part 2) and, where asked for, ``stem.gif``, each atomically.

    Args:
      stem: the files' path without a suffix.
      rollout: what to show; each step is a frame.
      joint_names: for the legend.
      rate_hz: frames a second; None for 10.
      gif: also the animated picture, which holds all frames in memory.

    Returns:
      The files.

    Raises:
      VideoError: the codec is missing, or the file does not hold all frames.
    """
    fps = rate_hz or DEFAULT_FPS
    written = [Path(f"{stem}.mp4")]
    write_mp4(written[0], video_frames(rollout, joint_names), fps)
    if gif:
        written.append(Path(f"{stem}.gif"))
        write_gif(written[1], video_frames(rollout, joint_names), fps)
    return written


def video_frames(rollout: Rollout, joint_names: Sequence[str]) -> Iterator[np.ndarray]:
    """Draws the frames, one for each step.

    The upper row shows what the model saw, with the points that its encoders found (blue o) and those that it
    expects next (red x); the row below it the images that it predicts for the next step; then the joints,
    recorded (dashed) and, up to the step after this one, predicted.

    Args:
      rollout: what to show.
      joint_names: for the legend.

    Returns:
      uint8 [H, W, 3] RGB, H and W even and always the same.
    """
    names = list(rollout.images)
    first_row = [_seen(rollout, name, 0) for name in names]
    widths = [picture.shape[1] for picture in first_row]
    row_height = max(picture.shape[0] for picture in first_row)
    width = max(_MINIMUM_WIDTH, sum(widths) + _GAP * (len(widths) - 1))
    header = _header(rollout, width)
    recorded, both, place = _curves(rollout, joint_names, width)
    top = header.shape[0]
    below = top + 2 * (_LABEL_HEIGHT + row_height)
    height = below + _CURVES_HEIGHT
    for step in range(rollout.steps):
        frame = np.full((height + height % 2, width + width % 2, 3), _PAPER, np.uint8)
        frame[:top, :width] = header
        left = 0
        for name in names:
            seen = _seen(rollout, name, step)
            predicted = _enlarged(to_rgb(rollout.images[name][step]), seen.shape[0])
            title = name.replace("_", " ")
            for row, (picture, label) in enumerate(((seen, title), (predicted, f"{title}, predicted"))):
                upper = top + row * (_LABEL_HEIGHT + row_height)
                _write(frame, label, (left + 2, upper + _LABEL_HEIGHT - 5))
                upper += _LABEL_HEIGHT
                frame[upper : upper + picture.shape[0], left : left + picture.shape[1]] = picture
            left += seen.shape[1] + _GAP
        cursor = round(place[0] + (place[1] - place[0]) * (step + 1) / rollout.steps)
        frame[below : below + _CURVES_HEIGHT, :width] = recorded
        frame[below : below + _CURVES_HEIGHT, : cursor + 1] = both[:, : cursor + 1]
        # The legend, to the right of the axes, is in both pictures.
        cv2.line(frame, (cursor, below + place[2]), (cursor, below + place[3]), _CURSOR, 1)
        _write(frame, f"step {step} of {rollout.steps - 1}", (8, top - 7))
        yield frame


def write_gif(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes frames as an animated picture that repeats for ever, atomically.

    Args:
      path: ends in ``.gif``.
      frames: uint8 [H, W, 3] RGB, all of one size.
      fps: frames a second; the format knows whole hundredths of a second, and viewers no less than two.

    Raises:
      ValueError: another name, a rate that is not positive, or no frame.
    """
    path = Path(path)
    if path.suffix != ".gif" or not 0 < fps < float("inf"):
        raise ValueError(f"A .gif and a positive rate are needed. Received: {path}, fps={fps}")
    # Palettes at once: a third of the memory.
    pictures = [Image.fromarray(frame).quantize(dither=Image.Dither.NONE) for frame in frames]
    if not pictures:
        raise ValueError("An animated picture needs a frame. Received: none")
    milliseconds = max(2, round(100 / fps)) * 10
    with files.atomic_path(path) as temporary:
        pictures[0].save(temporary, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)


def _seen(rollout: Rollout, name: str, step: int) -> np.ndarray:
    return draw_points(
        to_rgb(rollout.seen_images[name][step]),
        rollout.encoder_points[name][step].reshape(-1),
        rollout.decoder_points[name][step].reshape(-1),
        rollout.point_borders[name],
    )


def _enlarged(picture: np.ndarray, height: int) -> np.ndarray:
    scale = height // picture.shape[0]
    return np.repeat(np.repeat(picture, scale, axis=0), scale, axis=1)


def _write(frame: np.ndarray, text: str, at: tuple[int, int]) -> None:
    cv2.putText(frame, text, at, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, _INK, 1, cv2.LINE_AA)


def _header(rollout: Rollout, width: int) -> np.ndarray:
    """What was asked, a legend, and a free line for the step. Matplotlib's fonts know more letters."""
    said = wrapped(rollout.instruction, width / _DPI) if rollout.instruction else "(no instruction)"
    share = f"{rollout.input_param:g} recorded + {1 - rollout.input_param:g} predicted"
    lines = said.count("\n") + 1
    height = _LINE_HEIGHT * (lines + 2) + 6
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    figure.text(8 / width, 1 - 5 / height, said, va="top", fontsize=12, parse_math=False)
    legend = f"seen: {share}; blue o: looked at, red x: expected next"
    figure.text(8 / width, (_LINE_HEIGHT + 2) / height, legend, va="bottom", fontsize=8, parse_math=False)
    return rendered(figure)


def _curves(
    rollout: Rollout, joint_names: Sequence[str], width: int
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, int, int]]:
    """The joints without and with the predictions, and where step 0, step t, and the axes' edges are."""
    figure = Figure(figsize=(width / _DPI, _CURVES_HEIGHT / _DPI), dpi=_DPI)
    figure.subplots_adjust(
        left=56 / width, right=1 - 150 / width, top=1 - 8 / _CURVES_HEIGHT, bottom=40 / _CURVES_HEIGHT
    )
    axes = figure.subplots()
    steps = np.arange(rollout.steps)
    predicted = []
    for i, name in enumerate(joint_names):
        colour = f"C{i % 10}"
        axes.plot(steps, rollout.recorded_joints[:, i], "--", color=colour, linewidth=1.1, alpha=0.8)
        (line,) = axes.plot(steps + 1, rollout.joints[:, i], color=colour, linewidth=1.3)
        line.set_label(f"\u200b{name}")  # Matplotlib leaves labels out that begin with an underscore.
        predicted.append(line)
    axes.set_xlim(0, rollout.steps)
    axes.set_xlabel("step (dashed: recorded)", fontsize=8)
    axes.set_ylabel("joints [rad]", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.autoscale(False)
    handles = [Line2D([], [], color=line.get_color(), label=line.get_label()) for line in predicted]
    columns = 1 + (len(handles) - 1) // 14
    legend = axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.05),
        fontsize=6,
        frameon=False,
        ncols=columns,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    both = rendered(figure)
    for line in predicted:
        line.set_visible(False)
    recorded = rendered(figure)
    (x0, _), (x1, _) = axes.transData.transform([(0, 0), (rollout.steps, 0)])
    box = axes.get_window_extent()
    place = (x0, x1, round(_CURVES_HEIGHT - box.y1), round(_CURVES_HEIGHT - box.y0))
    return recorded, both, place
