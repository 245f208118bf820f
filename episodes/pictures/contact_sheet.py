"""A picture of a whole episode: every camera at evenly chosen steps, and the curves below."""

import textwrap
import warnings
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from core import files
from episodes.pictures.shown_episode import Camera, Curves, ShownEpisode

_DPI = 100
_CELL_INCHES = 1.9
_CURVES_INCHES = 1.7
_LEFT, _RIGHT, _FOOT = 0.75, 1.75, 0.4  # Margins in inches; the right one holds legends and scales.
_THUMBNAIL = 256  # Longest side of a frame on the sheet; more is not seen.
_ABSENT = np.full((48, 64, 3), 225, np.uint8)


def write_contact_sheet(path: str | Path, episode: ShownEpisode, columns: int = 8) -> None:
    """Writes the sheet as a PNG, atomically.

    Args:
      path: the file to write.
      episode: what to show.
      columns: how many steps to show; all, where there are fewer.
    """
    picture = rendered(draw_contact_sheet(episode, columns))
    with files.atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def draw_contact_sheet(episode: ShownEpisode, columns: int = 8) -> Figure:
    """See ``write_contact_sheet``."""
    steps = shown_steps(episode.steps, columns)
    thumbnails = [[_thumbnail(camera, step) for step in steps] for camera in episode.cameras]
    width = _LEFT + _CELL_INCHES * max(len(steps), 5) + _RIGHT
    heights = [_row_inches(row) for row in thumbnails]
    title = wrapped(instruction_of(episode), width)
    head = 0.62 + 0.24 * (title.count("\n") + 1)
    foot = _FOOT + (_CURVES_INCHES + _FOOT) * len(episode.curves)
    height = head + sum(heights) * 1.04 + foot
    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.text(0.15 / width, 1 - 0.12 / height, title, va="top", fontsize=13, parse_math=False)
    subtitle = f"{episode.name}   ({episode.steps} steps)"
    below_title = 1 - (head - 0.36) / height
    figure.text(0.15 / width, below_title, subtitle, va="center", fontsize=8, color="0.4", parse_math=False)
    sides = {"left": _LEFT / width, "right": 1 - _RIGHT / width}
    grid = figure.add_gridspec(
        max(1, len(heights)),
        len(steps),
        height_ratios=heights or None,
        top=1 - head / height,
        bottom=min(foot / height, 1 - head / height),
        wspace=0.04,
        hspace=0.04,
        **sides,
    )
    for row, (camera, pictures) in enumerate(zip(episode.cameras, thumbnails, strict=True)):
        cells = [figure.add_subplot(grid[row, column]) for column in range(len(steps))]
        for cell, picture, step in zip(cells, pictures, steps, strict=True):
            _draw_picture(cell, picture)
            if row == 0:
                cell.set_title(episode.time(step), fontsize=8, pad=3)
        cells[0].set_ylabel(short(camera.name), fontsize=8)
        if camera.depth:
            _draw_scale(figure, cells[-1], camera)
    for row, curves in enumerate(episode.curves):
        top = foot - _FOOT / 2 - row * (_CURVES_INCHES + _FOOT)
        place = (sides["left"], (top - _CURVES_INCHES) / height)
        axes = figure.add_axes((*place, sides["right"] - sides["left"], _CURVES_INCHES / height))
        draw_curves(axes, curves)
        for step in steps:
            axes.axvline(step, color="0.8", linewidth=0.8, zorder=0)
        if row == len(episode.curves) - 1:
            axes.set_xlabel("step", fontsize=8)
    return figure


def shown_steps(steps: int, columns: int) -> list[int]:
    """Steps from the first to the last, as evenly as can be, each once."""
    return np.unique(np.linspace(0, steps - 1, min(columns, steps)).round().astype(int)).tolist()


def draw_curves(axes: Axes, curves: Curves) -> None:
    """Draws one line for each element, with a legend beside the axes."""
    for values, label in zip(curves.values.T, curves.labels, strict=True):
        (line,) = axes.plot(values, linewidth=1.2, marker="." if len(values) == 1 else None)
        line.set_label(f"\u200b{label}")  # Matplotlib leaves labels out that begin with an underscore.
    unit = f" [{curves.unit}]" if curves.unit else ""
    axes.set_ylabel(short(curves.name) + unit, fontsize=8)
    axes.set_xlim(0, max(1, len(curves.values) - 1))
    axes.tick_params(labelsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    legend = axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.0, 1.05),
        fontsize=6 if len(curves.labels) > 8 else 7,
        frameon=False,
        handlelength=1.2,
        labelspacing=0.25,
        ncols=1 + (len(curves.labels) - 1) // 16,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def rendered(figure: Figure) -> np.ndarray:
    """A figure as uint8 [H, W, 3] RGB."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes; said for each, it would bury the progress bar.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def instruction_of(episode: ShownEpisode) -> str:
    """All that was asked, in order."""
    return " → ".join(dict.fromkeys(episode.instructions))


def wrapped(text: str, inches: float) -> str:
    """Text in at most three lines that fit a width at 13 points."""
    return textwrap.fill(text, max(20, int(inches * 10)), max_lines=3, placeholder=" …")


def short(name: str) -> str:
    """A field without the level that all have."""
    return name.removeprefix("observation/").replace("_", " ")


def _thumbnail(camera: Camera, step: int) -> np.ndarray | None:
    picture = camera.picture(step)
    if picture is None or max(picture.shape) <= _THUMBNAIL:
        return picture
    scale = _THUMBNAIL / max(picture.shape)
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    # Between colours of depth there is nothing to average.
    how = cv2.INTER_NEAREST_EXACT if camera.depth else cv2.INTER_AREA
    return cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=how)


def _row_inches(pictures: list[np.ndarray | None]) -> float:
    shapes = [picture.shape for picture in pictures if picture is not None]
    ratio = max((height / width for height, width, _ in shapes), default=0.75)
    return _CELL_INCHES * float(np.clip(ratio, 0.2, 2.0))


def _draw_picture(cell: Axes, picture: np.ndarray | None) -> None:
    cell.imshow(_ABSENT if picture is None else picture, aspect="equal", interpolation="antialiased")
    if picture is None:
        cell.text(0.5, 0.5, "absent", ha="center", va="center", transform=cell.transAxes, fontsize=8)
    cell.set_xticks([])
    cell.set_yticks([])
    for spine in cell.spines.values():
        spine.set_visible(False)


def _draw_scale(figure: Figure, beside: Axes, camera: Camera) -> None:
    scale = ScalarMappable(Normalize(*camera.limits_mm), "turbo")
    place = beside.inset_axes((1.04, 0.0, 0.05, 1.0))
    bar = figure.colorbar(scale, cax=place)
    bar.ax.tick_params(labelsize=6)
    bar.set_label("mm (black: unknown)", fontsize=6)
