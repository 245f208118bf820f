"""What TensorBoard shows of a run."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from core.trainable import Evaluation
from tests.training.toy import Toy
from training import plots
from training.loop import LoopSettings, run
from training.tensorboard import TensorBoardWriter


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "learning_curves", lambda path, history, best: None)
    monkeypatch.setattr(plots, "loss_curves", lambda path, history, best: None)


def shown(root: Path) -> dict[str, dict[int, np.ndarray]]:
    """Tag -> step -> value, as TensorBoard would show it; a step shown twice fails."""
    events = EventAccumulator(str(root / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    found: dict[str, dict[int, np.ndarray]] = {}
    for tag in events.Tags()["tensors"]:
        steps = [e.step for e in events.Tensors(tag)]
        assert len(steps) == len(set(steps)), (tag, steps)
        found[tag] = {e.step: tensor_util.make_ndarray(e.tensor_proto) for e in events.Tensors(tag)}
    return found


def test_everything_is_written(tmp_path: Path) -> None:
    result = run(Toy(), LoopSettings(tmp_path, 2, log_every_steps=3))
    found = shown(tmp_path)
    assert list(found["train/loss"]) == [3, 6, 9] and list(found["train/batch_mean"]) == [3, 6, 9]
    assert "train/weight" not in found
    for row in result.history:
        step = int(row["step"])
        assert found["train_epoch/loss"][step] == pytest.approx(row["train/loss"], rel=1e-6)
        assert found["validation/mae"][step] == pytest.approx(row["validation/mae"], rel=1e-6)
        assert found["validation/accuracy/b"][step] == pytest.approx(row["validation/accuracy/b"], rel=1e-6)
        assert found["Loss/train"][step] == pytest.approx(row["train/loss"], rel=1e-6)
    assert found["validation/error"][10].shape[-1] == 3  # Buckets: left, right, count.
    assert found["validation/error"][10][:, 2].sum() == 22
    assert len(found["validation/frames"][10]) == 2 + 2  # Width, height, and a PNG for each image.


def test_both_losses_share_a_chart(tmp_path: Path) -> None:
    class WithLoss(Toy):
        def evaluate(self, epoch: int) -> Evaluation:
            return Evaluation({"mae": 1.0, "loss": 0.5 + epoch})

    run(WithLoss(), LoopSettings(tmp_path, 4, validate_every_epochs=2))
    found = shown(tmp_path)
    assert list(found["Loss/train"]) == [5, 10, 15, 20]
    assert {step: float(v) for step, v in found["Loss/test"].items()} == {10: 1.5, 20: 3.5}


def test_a_resumed_run_shows_each_step_once(tmp_path: Path) -> None:
    def die(toy: Toy) -> None:
        if toy.step == 9:
            raise RuntimeError("dies after step 8 was written and step 5 was saved")

    with pytest.raises(RuntimeError):
        run(Toy(on_step=die), LoopSettings(tmp_path, 3, log_every_steps=1))
    time.sleep(1.1)  # TensorBoard orders the files by the second in their names.
    run(Toy(), LoopSettings(tmp_path, 3, log_every_steps=1), tmp_path)
    found = shown(tmp_path)
    assert sorted(found["train/loss"]) == list(range(1, 16))
    assert sorted(found["validation/mae"]) == [5, 10, 15]


def test_an_interrupted_step_stays(tmp_path: Path) -> None:
    def interrupt(toy: Toy) -> None:
        if toy.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    run(Toy(on_step=interrupt), LoopSettings(tmp_path, 2, log_every_steps=1))
    time.sleep(1.1)
    run(Toy(), LoopSettings(tmp_path, 2, log_every_steps=1), tmp_path)
    assert sorted(shown(tmp_path)["train/loss"]) == list(range(1, 11))


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (np.zeros([2, 8, 8, 3], np.float32), r"float32 \[2, 8, 8, 3\]"),
        (np.zeros([8, 8, 3], np.uint8), r"uint8 \[8, 8, 3\]"),
        (np.zeros([1, 8, 8, 1], np.uint8), r"uint8 \[1, 8, 8, 1\]"),
    ],
)
def test_images_are_checked(tmp_path: Path, images: np.ndarray, received: str) -> None:
    with (
        TensorBoardWriter(tmp_path, 0) as writer,
        pytest.raises(ValueError, match=f"images frames .*Received: {received}"),
    ):
        writer.evaluation(Evaluation({"mae": 1.0}, images={"frames": images}), 1)
