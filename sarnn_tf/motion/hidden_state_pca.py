"""The recurrent state of episodes in three principal components: a picture of what the net tells apart."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

from core import files
from episodes.pictures.contact_sheet import rendered
from sarnn_tf.motion.offline_video import write_gif

COMPONENTS = 3
TURNS = 36
_SIZE_INCHES, _DPI = (8.0, 6.0), 100
_VIEW_FROM = 30
_LEGEND_ROWS = 24
_START, _END = "o", "s"


@dataclasses.dataclass(frozen=True, eq=False)
class HiddenStatePca:
    """States in their principal components.

    Attributes:
      projections: of each episode, [t, 3] float64; components that the states do not have are 0.
      explained: [3] float64, each component's share in the variance; all 0 where the state never moves.
    """

    projections: tuple[np.ndarray, ...]
    explained: np.ndarray


def principal_components(hidden: Sequence[np.ndarray]) -> HiddenStatePca:
    """Fits the components to all steps of all episodes together, and projects each episode.

    A component's sign is free; it is chosen so that its largest weight is positive, to be the same each time.

    Args:
      hidden: of each episode, [t, d], its own steps without any padding; lengths may differ.

    Raises:
      ValueError: there is no step, widths differ, or a value is not finite.
    """
    if not hidden or any(x.ndim != 2 for x in hidden) or len({x.shape[1] for x in hidden}) != 1:
        raise ValueError(
            f"hidden must be arrays [t, d] of one d. Received: {[list(np.shape(x)) for x in hidden]}"
        )
    states = np.concatenate(hidden).astype(np.float64)
    if not states.size or not np.isfinite(states).all():
        raise ValueError(f"Hidden states must be finite, at least one. Received: {states.shape[0]} steps")
    mean = states.mean(axis=0)
    # The covariance is d x d, however long the episodes are.
    variances, vectors = np.linalg.eigh((states - mean).T @ (states - mean) / len(states))
    largest = np.argsort(variances)[::-1][:COMPONENTS]
    axes = np.zeros((states.shape[1], COMPONENTS))
    axes[:, : len(largest)] = vectors[:, largest]
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), np.arange(COMPONENTS)] < 0, -1.0, 1.0)
    explained = np.zeros(COMPONENTS)
    if variances.sum() > 0:
        explained[: len(largest)] = np.clip(variances[largest], 0, None) / variances.sum()
    return HiddenStatePca(tuple((x.astype(np.float64) - mean) @ axes for x in hidden), explained)


def write_pictures(
    stem: str | Path,
    pca: HiddenStatePca,
    names: Sequence[str],
    instructions: Sequence[str],
    *,
    turns: int = TURNS,
    fps: float = 8.0,
) -> list[Path]:
    """Writes ``stem.png`` and ``stem.gif``, in which the picture turns once, each atomically.

    Args:
      stem: the files' path without a suffix.
      pca: what to show.
      names: of the episodes.
      instructions: of the episodes. Where there are several, they choose the colours, else the episodes do.
      turns: pictures of a full turn; 0 for no animation.
      fps: pictures a second.

    Returns:
      The files.

    Raises:
      ValueError: there are not as many names or instructions as episodes.
    """
    stem = Path(stem)
    figure, axes = draw(pca, names, instructions)
    written = [stem.with_name(f"{stem.name}.png")]
    with files.atomic_path(written[0]) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(rendered(figure), cv2.COLOR_RGB2BGR))
    if turns:
        written.append(stem.with_name(f"{stem.name}.gif"))
        write_gif(written[1], _turning(figure, axes, turns), fps)
    return written


def draw(pca: HiddenStatePca, names: Sequence[str], instructions: Sequence[str]) -> tuple[Figure, Axes3D]:
    """The picture and its axes: a line for each episode, with a circle at its first step and a square at its
    last one. Arguments and errors as in ``write_pictures``."""
    if not len(names) == len(instructions) == len(pca.projections):
        raise ValueError(
            f"{len(pca.projections)} episodes need as many names and instructions. "
            f"Received: {len(names)}, {len(instructions)}"
        )
    by_instruction = len(set(instructions)) > 1
    groups = instructions if by_instruction else names
    colours = {group: f"C{i % 10}" for i, group in enumerate(dict.fromkeys(groups))}
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI)
    axes = figure.add_subplot(projection="3d")
    figure.subplots_adjust(left=0.0, right=0.72, bottom=0.04, top=0.98)
    for group, projection in zip(groups, pca.projections, strict=True):
        colour = colours[group]
        axes.plot(*projection.T, color=colour, linewidth=1.0)
        axes.plot(*projection.T, ".", color=colour, markersize=3)
        axes.plot(*projection[:1].T, _START, color=colour, markeredgecolor="black", markersize=8)
        axes.plot(*projection[-1:].T, _END, color=colour, markeredgecolor="black", markersize=5)
    for axis, share, name in zip((axes.xaxis, axes.yaxis, axes.zaxis), pca.explained, "123", strict=True):
        axis.set_label_text(f"component {name} ({share:.0%})", fontsize=8)
        axis.set_tick_params(labelsize=6)
    labels = list(colours.items())[:_LEGEND_ROWS]
    handles = [axes.plot([], [], color=colour)[0] for _, colour in labels]
    texts = [_shortened(group or "(no instruction)") for group, _ in labels]
    handles += [axes.plot([], [], mark, color="white", markeredgecolor="black")[0] for mark in (_START, _END)]
    legend = figure.legend(
        handles, [*texts, "first step", "last step"], loc="center right", fontsize=7, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure, axes


def _shortened(text: str) -> str:
    return text if len(text) <= 36 else f"{text[:17]}…{text[-18:]}"


def _turning(figure: Figure, axes: Axes3D, turns: int) -> Iterator[np.ndarray]:
    for turn in range(turns):
        axes.view_init(elev=_VIEW_FROM, azim=360.0 * turn / turns)
        yield rendered(figure)
