"""What one call of the loop does."""

import dataclasses
import json
import math
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gin
import numpy as np
import pytest
import tensorflow as tf
from absl import logging as absl_logging

from core import checkpoint_folder
from core.trainable import Evaluation
from tests.training.toy import Toy
from training import metrics_csv, plots
from training.loop import LoopSettings, run
from training.train_scalars import NonFiniteError

BATCHES = 5


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Drawing takes most of the time of a toy run."""
    if "curves" not in request.node.name:
        monkeypatch.setattr(plots, "learning_curves", lambda path, history, best: None)
        monkeypatch.setattr(plots, "loss_curves", lambda path, history, best: None)


class Scripted(Toy):
    """A toy whose validation gives one scripted value after the other."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = values

    def evaluate(self, epoch: int) -> Evaluation:
        return Evaluation({"mae": self.values[epoch]})


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_it_learns_and_tells_how_it_went(tmp_path: Path) -> None:
    toy = Toy()
    result = run(toy, LoopSettings(tmp_path, 40))
    assert (result.stopped_by, result.epoch, result.step) == ("num_epochs", 40, 40 * BATCHES)
    assert not result.interrupted
    losses = [row["train/loss"] for row in result.history]
    assert losses[-1] < 0.1 * losses[0]
    maes = [row["validation/mae"] for row in result.history]
    assert result.best is not None and result.best.value == min(maes)
    assert result.best.epoch == maes.index(min(maes)) + 1
    assert result.best_folder == tmp_path / checkpoint_folder.folder_name(result.best.step)
    assert result.last_folder == tmp_path / checkpoint_folder.folder_name(result.step)
    assert checkpoint_folder.resolve(tmp_path, "best") == result.best_folder
    assert checkpoint_folder.resolve(tmp_path, "last") == result.last_folder
    again = Toy()
    again.restore(result.best_folder)
    assert again.evaluate(0).scalars["mae"] == result.best.value
    assert metrics_csv.read(tmp_path / "metrics.csv") == [dict(row) for row in result.history]


def test_curves_are_drawn_at_the_end(tmp_path: Path) -> None:
    run(Toy(), LoopSettings(tmp_path, 2))
    for name in ("curves.png", "loss.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_every_example_once_an_epoch_in_another_order(tmp_path: Path) -> None:
    toy = Toy()
    run(toy, LoopSettings(tmp_path, 2))
    first, second = (sum(toy.trained[i * BATCHES : (i + 1) * BATCHES], []) for i in range(2))
    assert sorted(first) == sorted(second) == list(range(22)) and first != second


def test_train_means_are_weighted(tmp_path: Path) -> None:
    toy = Toy()
    result = run(toy, LoopSettings(tmp_path, 1))
    # The last batch has 2 examples instead of 5: only the weighted mean is that of the examples.
    unweighted = np.mean([toy.x[batch].mean() for batch in toy.trained])
    assert result.history[0]["train/batch_mean"] == pytest.approx(toy.x.mean(), abs=1e-6)
    assert abs(unweighted - toy.x.mean()) > 1e-3
    assert "train/weight" not in result.history[0]


def test_the_checkpoint_folder_is_complete(tmp_path: Path) -> None:
    result = run(Toy(), LoopSettings(tmp_path, 1, seed=0))
    names = {p.name for p in result.last_folder.iterdir()}
    assert {"spec.json", "config.gin", "train_state.json", "versions.json"} <= names
    state = json.loads((result.last_folder / "train_state.json").read_text())
    assert (state["epoch"], state["batch"], state["step"], state["seed"]) == (1, 0, BATCHES, 0)
    assert json.loads((result.last_folder / "versions.json").read_text())["tensorflow"] == tf.__version__


def test_a_configuration_that_the_trainable_wrote_stays(tmp_path: Path) -> None:
    class Configured(Toy):
        def save(self, folder: Path) -> None:
            super().save(folder)
            (folder / "config.gin").write_text("# mine\n")

    assert (run(Configured(), LoopSettings(tmp_path, 1)).last_folder / "config.gin").read_text() == "# mine\n"


@pytest.mark.parametrize("left", ["last.json", "best.json", "metrics.csv"])
def test_an_earlier_run_is_never_overwritten(tmp_path: Path, left: str) -> None:
    run(Toy(), LoopSettings(tmp_path, 1))
    for name in {"last.json", "best.json", "metrics.csv"} - {left}:
        (tmp_path / name).unlink()
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match=f"{left}.*resume_checkpoint={tmp_path}.*another checkpoint_dir"):
        run(Toy(), LoopSettings(tmp_path, 2))
    assert files_of(tmp_path) == before


def test_a_folder_with_other_files_is_fine(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a split file, a log")
    assert run(Toy(), LoopSettings(tmp_path, 1)).step == BATCHES


def test_best_moves_only_when_it_is_better(tmp_path: Path) -> None:
    result = run(Scripted(3.0, 2.0, 2.0, 2.5), LoopSettings(tmp_path, 4))
    assert result.best is not None and (result.best.epoch, result.best.value) == (2, 2.0)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00000010", "step-00000020"]
    assert checkpoint_folder.pointer(tmp_path, "best") == {
        "folder": "step-00000010",
        "step": 10,
        "metrics": {"mae": 2.0},
    }


def test_early_stopping_counts_validations_without_a_new_best(tmp_path: Path) -> None:
    settings = LoopSettings(tmp_path, 10, early_stopping_patience=2)
    result = run(Scripted(3.0, 3.0, 2.0, 2.5, 2.0, 0.0), settings)
    assert result.stopped_by == "early_stopping" and result.epoch == 5


def test_validation_every_other_epoch_and_at_the_end(tmp_path: Path) -> None:
    result = run(Toy(), LoopSettings(tmp_path, 5, validate_every_epochs=2))
    validated = [int(row["epoch"]) for row in result.history if "validation/mae" in row]
    assert validated == [2, 4, 5] and len(result.history) == 5


@pytest.mark.parametrize(("max_steps", "epochs", "rows"), [(3, 0, [3]), (5, 1, [5]), (7, 1, [5, 7])])
def test_max_steps_counts_all_steps(tmp_path: Path, max_steps: int, epochs: int, rows: list[int]) -> None:
    result = run(Toy(), LoopSettings(tmp_path, 9, max_steps=max_steps))
    assert (result.stopped_by, result.step, result.epoch) == ("max_steps", max_steps, epochs)
    assert [row["step"] for row in result.history] == rows
    assert all("validation/mae" in row for row in result.history)
    assert result.best_folder is not None and result.best_folder.is_dir() and result.last_folder.is_dir()


def test_max_steps_below_the_start_is_refused(tmp_path: Path) -> None:
    toy = Toy()
    toy.counter.assign(100)
    with pytest.raises(ValueError, match="above the 100"):
        run(toy, LoopSettings(tmp_path, 1, max_steps=100))
    assert run(toy, LoopSettings(tmp_path, 1, max_steps=102)).step == 102


def test_last_moves_within_an_epoch(tmp_path: Path) -> None:
    seen = {}

    def look(toy: Toy) -> None:
        pointer = checkpoint_folder.pointer(tmp_path, "last")
        seen[toy.step] = None if pointer is None else pointer["step"]

    run(Toy(on_step=look), LoopSettings(tmp_path, 2, checkpoint_every_steps=2))
    # What `last` names after each step, before the checkpoint of that step itself.
    assert list(seen.values()) == [None, None, 2, 2, 4, 5, 6, 6, 8, 8]


def test_each_step_is_saved_once(tmp_path: Path) -> None:
    saved = []

    class Counting(Toy):
        def save(self, folder: Path) -> None:
            saved.append(self.step)
            super().save(folder)

    run(Counting(), LoopSettings(tmp_path, 2, checkpoint_every_steps=1))
    assert saved == list(range(1, 2 * BATCHES + 1))


@pytest.mark.parametrize("window", [1, 2, 4, 100])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path, window: int, value: float) -> None:
    def poison(toy: Toy) -> None:
        toy.scale = value if toy.step == 6 else 1.0  # Scales the loss of step 7.

    before: dict[str, bytes] = {}

    def remember(toy: Toy) -> None:
        poison(toy)
        if toy.step == 6:
            before.update(files_of(tmp_path))

    toy = Toy(on_step=remember)
    with pytest.raises(NonFiniteError) as caught:
        run(toy, LoopSettings(tmp_path, 3, read_every_steps=window))
    batch = list(Toy().batches(1))[1].tolist()
    assert f"loss={value} at step 7, epoch 2, batch 2: examples {batch}" in str(caught.value)
    after = files_of(tmp_path)
    for name, content in before.items():
        if not name.startswith("tensorboard"):
            assert after[name] == content
    assert set(after) == set(before)
    # The checkpoint before it is good: a resume with finite batches goes through.
    assert run(Toy(), LoopSettings(tmp_path, 3), tmp_path).step == 3 * BATCHES


def test_other_scalars_must_be_finite_too(tmp_path: Path) -> None:
    class Exploding(Toy):
        def train_step(self, batch: np.ndarray) -> Mapping[str, Any]:
            return {**super().train_step(batch), "gradient_norm": math.inf if self.step == 3 else 1.0}

    with pytest.raises(NonFiniteError, match="gradient_norm=inf at step 3, epoch 1, batch 3"):
        run(Exploding(), LoopSettings(tmp_path, 1))


def test_weights_that_are_not_finite_never_become_last(tmp_path: Path) -> None:
    def poison(toy: Toy) -> None:
        if toy.step == 8:
            toy.weights.assign(toy.weights * math.nan)  # The loss of step 8 was finite.

    with pytest.raises(ValueError, match="weight is not finite"):
        run(Toy(on_step=poison), LoopSettings(tmp_path, 3, checkpoint_every_steps=2))
    assert checkpoint_folder.resolve(tmp_path, "last").name == "step-00000006"
    assert not list(tmp_path.glob(".step-*"))


def test_scalars_are_read_once_a_window(tmp_path: Path) -> None:
    reads: list[int] = []
    made = 0

    class Lazy:
        """A scalar that tells when it is read, as a device would be waited for."""

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            reads.append(made)
            return np.asarray(1.0)

    class OnDevice(Toy):
        def train_step(self, batch: np.ndarray) -> Mapping[str, Any]:
            nonlocal made
            made += 1
            super().train_step(batch)
            return {"loss": Lazy()}

    run(OnDevice(), LoopSettings(tmp_path, 1, read_every_steps=3))
    assert reads == [3, 3, 3, 5, 5]


@pytest.mark.parametrize("window", [2, 3, 100])
def test_the_window_changes_no_result(tmp_path: Path, window: int) -> None:
    one = run(Toy(), LoopSettings(tmp_path / "one", 2, read_every_steps=1))
    many = run(Toy(), LoopSettings(tmp_path / "many", 2, read_every_steps=window))
    assert one.history == many.history


def test_a_failed_validation_is_an_error(tmp_path: Path) -> None:
    def fail(toy: Toy) -> None:
        if toy.step == 10:
            raise ValueError("no validation data")

    with pytest.raises(ValueError, match="no validation data"):
        run(Toy(on_evaluate=fail), LoopSettings(tmp_path, 3))
    assert checkpoint_folder.resolve(tmp_path, "last").name == "step-00000005"
    assert len(metrics_csv.read(tmp_path / "metrics.csv")) == 1


@pytest.mark.parametrize(
    ("scalars", "message"),
    [
        ({"mae": 1.0, "loss": math.nan}, "loss of the validation of epoch 1 must be finite. Received: nan"),
        ({"mae": math.inf}, "mae of the validation of epoch 1 must be finite. Received: inf"),
        ({"iou": 1.0, "loss": 2.0}, r"best metric 'mae'. Received: \['iou', 'loss'\]"),
        ({}, r"best metric 'mae'. Received: \[\]"),
    ],
)
def test_an_evaluation_that_cannot_be_judged(tmp_path: Path, scalars: dict[str, float], message: str) -> None:
    class Bad(Toy):
        def evaluate(self, epoch: int) -> Evaluation:
            return Evaluation(scalars)

    with pytest.raises(ValueError, match=message):
        run(Bad(), LoopSettings(tmp_path, 1))
    assert not list(tmp_path.glob("*.json"))


def test_no_batches_is_an_error(tmp_path: Path) -> None:
    class Empty(Toy):
        def batches(self, epoch: int, skip: int = 0) -> Iterator[np.ndarray]:
            return iter(())

    with pytest.raises(ValueError, match="at least one batch. Received: none in epoch 1/1"):
        run(Empty(), LoopSettings(tmp_path, 1))


def test_the_number_of_batches_need_not_be_known(tmp_path: Path) -> None:
    class Unknown(Toy):
        def num_batches(self) -> int | None:
            return None

    assert run(Unknown(), LoopSettings(tmp_path, 2)).step == 2 * BATCHES


def test_a_trainable_that_miscounts_is_an_error(tmp_path: Path) -> None:
    def twice(toy: Toy) -> None:
        toy.counter.assign_add(1)

    with pytest.raises(ValueError, match="Received: step 10 where the loop counts 5"):
        run(Toy(on_step=twice), LoopSettings(tmp_path, 1))


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    def twice(toy: Toy) -> None:
        if toy.step == 7:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(Toy(on_step=twice), LoopSettings(tmp_path, 2))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert checkpoint_folder.resolve(tmp_path, "last").name == "step-00000005"


def test_a_second_sigterm_does_not(tmp_path: Path) -> None:
    def twice(toy: Toy) -> None:
        if toy.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    assert run(Toy(on_step=twice), LoopSettings(tmp_path, 2)).last_folder.name == "step-00000007"


def test_a_keyboard_interrupt_of_the_validation_itself_is_not_swallowed(tmp_path: Path) -> None:
    def interrupt(toy: Toy) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Toy(on_evaluate=interrupt), LoopSettings(tmp_path, 1))


def test_a_signal_when_all_is_done_interrupts_nothing(tmp_path: Path) -> None:
    class Late(Toy):
        def save(self, folder: Path) -> None:
            super().save(folder)
            os.kill(os.getpid(), signal.SIGTERM)

    assert run(Late(), LoopSettings(tmp_path, 1)).stopped_by == "num_epochs"


def test_the_console_has_all_metrics(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        run(Scripted(3.0, 4.0), LoopSettings(tmp_path, 2))
    finally:
        absl_logging.set_verbosity(verbosity)
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("epoch")]
    assert len(lines) == 2
    for part in ("epoch 1/2, step 5, ", "train/loss ", "train/batch_mean ", "validation/mae 3", "(new best)"):
        assert part in lines[0]
    assert "validation/mae 4" in lines[1] and "new best" not in lines[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_epochs", 0),
        ("num_epochs", None),
        ("num_epochs", 1.5),
        ("max_steps", 0),
        ("validate_every_epochs", 0),
        ("early_stopping_patience", 0),
        ("checkpoint_every_steps", -1),
        ("log_every_steps", 0),
        ("read_every_steps", 0),
        ("progress_seconds", 0.0),
    ],
)
def test_settings_are_checked(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .*Received: {value!r}"):
        LoopSettings("somewhere", **{field: value})


def test_settings_come_from_gin() -> None:
    try:
        gin.parse_config("LoopSettings.num_epochs = 7\nLoopSettings.early_stopping_patience = 3")
        settings = LoopSettings("somewhere", seed=5)
        assert (settings.num_epochs, settings.early_stopping_patience, settings.seed) == (7, 3, 5)
        assert LoopSettings("somewhere", num_epochs=2).num_epochs == 2
        assert dataclasses.replace(settings, seed=6).seed == 6
    finally:
        gin.clear_config()
