"""The learning curves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from training import plots
from training.train_state import Best

HISTORY = [
    {
        "epoch": i,
        "step": 10 * i,
        "train/learning_rate": 0.1,
        "train/loss": 1.0 / i**2,
        **({"validation/loss": 1.5 / i, "validation/mae": abs(i - 4) + 1.0} if i % 2 == 0 else {}),
        **{f"validation/token_accuracy/action_{k}": i / (9 + k) for k in range(12)},
    }
    for i in range(1, 9)
]
BEST = Best("mae", 1.0, 4, 40)


@pytest.fixture
def figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The figure behind the picture."""
    kept: list[Figure] = []
    real = Figure.savefig

    def keep(self: Figure, *args: object, **kwargs: object) -> None:
        kept.append(self)
        real(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    plots.learning_curves(tmp_path / "curves.png", HISTORY, BEST)
    return kept[0]


def test_a_picture_with_something_on_it(tmp_path: Path, figure: Figure) -> None:
    pixels = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    assert min(pixels.shape[:2]) > 300 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_one_panel_for_the_loss_and_for_each_metric(figure: Figure) -> None:
    assert [a.get_title() for a in figure.axes if a.axison] == [
        "loss",
        "learning_rate",
        "token_accuracy",
        "mae",
    ]


def test_lines_hold_what_the_history_says(figure: Figure) -> None:
    loss = figure.axes[0]
    train, validation = loss.lines[:2]
    assert (train.get_label(), validation.get_label()) == ("train", "validation")
    np.testing.assert_array_equal(train.get_xdata(), [10 * i for i in range(1, 9)])
    np.testing.assert_allclose(train.get_ydata(), [1 / i**2 for i in range(1, 9)])
    np.testing.assert_array_equal(validation.get_xdata(), [20, 40, 60, 80])
    assert loss.get_yscale() == "log" and figure.axes[3].get_yscale() == "linear"


def test_the_best_is_marked(figure: Figure) -> None:
    (star,) = [line for line in figure.axes[3].lines if "best" in str(line.get_label())]
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([40], [1.0])
    assert all(any(list(line.get_xdata()) == [40, 40] for line in a.lines) for a in figure.axes if a.axison)


def test_many_lines_have_no_legend(figure: Figure) -> None:
    legends = {a.get_title(): a.get_legend() is not None for a in figure.axes if a.axison}
    assert legends == {"loss": True, "learning_rate": True, "token_accuracy": False, "mae": True}


def test_the_loss_has_a_picture_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (drawn.append(self), path.touch()))
    plots.loss_curves(tmp_path / "loss.png", HISTORY, BEST)
    (axes,) = drawn[0].axes
    assert [line.get_label() for line in axes.lines[:2]] == ["train", "validation"]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1 / i**2 for i in range(1, 9)])


@pytest.mark.parametrize("draw", [plots.learning_curves, plots.loss_curves])
def test_one_epoch_without_validation_is_enough(draw: Callable[..., None], tmp_path: Path) -> None:
    draw(tmp_path / "x.png", [{"epoch": 1, "step": 1, "train/loss": 0.0}], None)
    assert (tmp_path / "x.png").exists()


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one epoch"):
        plots.learning_curves(tmp_path / "curves.png", [], None)
    with pytest.raises(ValueError, match="an epoch with a loss"):
        plots.loss_curves(tmp_path / "loss.png", [], None)
