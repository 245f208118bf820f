"""The learning curves of a run as one picture."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from core import files
from training import metrics_csv
from training.train_state import Best, Row

NAME, LOSS_NAME = "curves.png", "loss.png"
_COLUMNS = 3
_LEGEND_LINES = 10
_LOG_SPREAD = 50.0


def learning_curves(path: Path, history: Sequence[Row], best: Best | None) -> None:
    """Draws loss and each metric over the steps, train and validation, the best step marked.

    Names before the last slash share a panel (``token_accuracy/…``). The picture is written with the
    Agg canvas, without pyplot: no display and no global state.

    Args:
      path: of the PNG, replaced atomically.
      history: rows with ``step``, ``train/NAME`` and ``validation/NAME``; at least one.
      best: the best validation, None where there was none.

    Raises:
      ValueError: the history is empty.
    """
    if not history:
        raise ValueError("Learning curves need at least one epoch. Received: an empty history")
    panels = _panels(metrics_csv.columns(history))
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5.2 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, names) in zip(grid, panels.items(), strict=False):
        _draw(axes, title, names, history, best)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


def loss_curves(path: Path, history: Sequence[Row], best: Best | None) -> None:
    """Draws the loss alone, large: train and validation over the steps, the best step marked.

    Args:
      path: of the PNG, replaced atomically.
      history: as for ``learning_curves``.
      best: as for ``learning_curves``.

    Raises:
      ValueError: no epoch has a loss.
    """
    names = _panels(metrics_csv.columns(history)).get("loss", [])
    if not names:
        raise ValueError("A loss curve needs an epoch with a loss. Received: none")
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    _draw(figure.subplots(), "loss", names, history, best)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _panels(columns: Sequence[str]) -> dict[str, list[str]]:
    """Panel title -> the columns drawn in it; the loss comes first."""
    panels: dict[str, list[str]] = {"loss": []}
    for column in columns:
        _, _, name = column.partition("/")
        if name:
            group, slash, _ = name.rpartition("/")
            panels.setdefault(group if slash else name, []).append(column)
    return {title: names for title, names in panels.items() if names}


def _draw(axes: Axes, title: str, names: list[str], history: Sequence[Row], best: Best | None) -> None:
    values: list[float] = []
    for name in names:
        points = [(row["step"], row[name]) for row in history if name in row]
        values += [y for _, y in points]
        side, _, rest = name.partition("/")
        label = side if rest == title else f"{side} {rest.removeprefix(title + '/')}"
        style = "--" if side == "train" else "-"
        axes.plot(*zip(*points, strict=True), style, marker=".", label=label)
    if best is not None:
        axes.axvline(best.step, color="0.6", linestyle=":", linewidth=1)
        if f"validation/{best.metric}" in names:
            label = f"best: {best.value:.4g} (epoch {best.epoch})"
            axes.plot([best.step], [best.value], "k*", markersize=12, label=label)
    if min(values) > 0 and max(values) / min(values) > _LOG_SPREAD:
        axes.set_yscale("log")
    axes.set_title(title)
    axes.set_xlabel("optimiser step")
    axes.grid(alpha=0.3)
    if len(names) <= _LEGEND_LINES:
        axes.legend(fontsize="small")
