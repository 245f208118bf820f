"""A resumed run equals an uninterrupted one bit for bit, whatever stopped it and when."""

import dataclasses
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import checkpoint_folder, files
from tests.training import toy as toy_module
from tests.training.toy import Toy
from training import checkpoints, plots, train_state
from training.loop import LoopSettings, RunResult, run

EPOCHS, BATCHES = 4, 5


def record(root: Path) -> dict[str, str]:
    """What a run leaves, but for the binary weights, the pictures and TensorBoard."""
    found = {"metrics.csv": (root / "metrics.csv").read_text()}
    for name in ("best", "last"):
        found[name] = (root / f"{name}.json").read_text()
        folder = root / json.loads(found[name])["folder"]
        found[f"{name} state"] = (folder / "train_state.json").read_text()
    found["folders"] = " ".join(sorted(p.name for p in root.glob("*step-*")))
    return found


def finish(root: Path, resume_from: Path | None = None, **settings: object) -> tuple[Toy, RunResult]:
    toy = Toy()
    return toy, run(toy, LoopSettings(root, **{"num_epochs": EPOCHS, **settings}), resume_from)  # type: ignore[arg-type]


def require_equal(toy: Toy, root: Path, reference: tuple[Toy, Path]) -> None:
    for mine, other in zip(toy.variables(), reference[0].variables(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert record(root) == record(reference[1])


@pytest.fixture(scope="module", autouse=True)
def no_picture() -> Iterator[None]:
    """Drawing takes most of the time of a toy run and is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "learning_curves", lambda path, history, best: None)
        patch.setattr(plots, "loss_curves", lambda path, history, best: None)
        yield


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, Path]:
    root = tmp_path_factory.mktemp("uninterrupted") / "run"
    return finish(root)[0], root


def test_two_epochs_resumed_to_four(tmp_path: Path, uninterrupted: tuple[Toy, Path]) -> None:
    finish(tmp_path, num_epochs=2)
    toy, result = finish(tmp_path, tmp_path)
    assert result.stopped_by == "num_epochs" and result.epoch == EPOCHS and result.step == EPOCHS * BATCHES
    require_equal(toy, tmp_path, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [1, 7, 10, 20])
def test_a_signal_at_any_step(
    tmp_path: Path, uninterrupted: tuple[Toy, Path], step: int, number: signal.Signals
) -> None:
    # 10 is the last batch of an epoch: interrupted after it and before its validation. 20 is the very last.
    def interrupt(toy: Toy) -> None:
        if toy.step == step:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    result = run(Toy(on_step=interrupt), LoopSettings(tmp_path, EPOCHS))
    assert signal.getsignal(number) is before
    assert result.interrupted and result.step == step
    assert result.last_folder == tmp_path / checkpoint_folder.folder_name(step)
    toy, result = finish(tmp_path, tmp_path)
    assert not result.interrupted
    assert len(toy.trained) == EPOCHS * BATCHES - step  # No batch is repeated, none is left out.
    require_equal(toy, tmp_path, uninterrupted)


def test_a_signal_during_validation_gives_it_up(tmp_path: Path, uninterrupted: tuple[Toy, Path]) -> None:
    def interrupt(toy: Toy) -> None:
        if toy.step == 10:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("The validation went on after the signal.")

    result = run(Toy(on_evaluate=interrupt), LoopSettings(tmp_path, EPOCHS))
    assert result.interrupted and result.step == 10 and result.epoch == 1 and len(result.history) == 1
    require_equal(finish(tmp_path, tmp_path)[0], tmp_path, uninterrupted)


def test_interrupted_again_and_again(tmp_path: Path, uninterrupted: tuple[Toy, Path]) -> None:
    resume, toy = None, Toy()
    for _ in range(30):

        def interrupt(toy: Toy, first: int = toy.step) -> None:
            if toy.step == first + 3:
                os.kill(os.getpid(), signal.SIGTERM)

        toy = Toy(on_step=interrupt)
        result = run(toy, LoopSettings(tmp_path, EPOCHS), resume)
        resume = tmp_path
        if not result.interrupted:
            break
    assert result.stopped_by == "num_epochs"
    require_equal(toy, tmp_path, uninterrupted)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    toy, first = finish(tmp_path)
    before = record(tmp_path)
    again, second = finish(tmp_path, tmp_path)
    assert again.trained == [] and record(tmp_path) == before
    assert second == first


def test_max_steps_in_mid_epoch_then_on(tmp_path: Path, uninterrupted: tuple[Toy, Path]) -> None:
    _, cut = finish(tmp_path, max_steps=8)
    assert (cut.stopped_by, cut.step, cut.epoch) == ("max_steps", 8, 1)
    assert [row["step"] for row in cut.history] == [5, 8] and "validation/mae" in cut.history[-1]
    toy, result = finish(tmp_path, tmp_path)
    # The extra validation stays on record; all else, the means of the cut epoch too, is as without it.
    whole = [row for row in result.history if row["step"] != 8]
    reference = train_state.load(checkpoints.find(uninterrupted[1])).history
    assert whole == reference
    for mine, other in zip(toy.variables(), uninterrupted[0].variables(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_interrupted_at_max_steps_still_validates_after_the_resume(tmp_path: Path) -> None:
    def interrupt(toy: Toy) -> None:
        if toy.step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    assert run(Toy(on_step=interrupt), LoopSettings(tmp_path, EPOCHS, max_steps=8)).interrupted
    _, result = finish(tmp_path, tmp_path, max_steps=8)
    assert result.stopped_by == "max_steps" and result.history[-1]["step"] == 8
    assert "validation/mae" in result.history[-1]


def test_patience_continues(tmp_path: Path) -> None:
    class Stuck(Toy):
        def evaluate(self, epoch: int):  # type: ignore[no-untyped-def]
            found = super().evaluate(epoch)
            return dataclasses.replace(found, scalars={"mae": 1.0 if epoch == 0 else 2.0})

    settings = LoopSettings(tmp_path, 2, early_stopping_patience=3)
    assert run(Stuck(), settings).stopped_by == "num_epochs"
    result = run(Stuck(), dataclasses.replace(settings, num_epochs=30), tmp_path)
    assert result.stopped_by == "early_stopping" and result.epoch == 4
    assert result.best is not None and result.best.epoch == 1
    again = run(Stuck(), dataclasses.replace(settings, num_epochs=30), tmp_path)
    assert again.stopped_by == "early_stopping" and again.epoch == 4


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it, and nothing moves after it."""


def test_killed_at_every_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file and folder appears by a rename: dies before the first, the second, … and resumes."""
    real = {name: getattr(Path, name) for name in ("replace", "rename")}
    settings = {"checkpoint_every_steps": 4, "num_epochs": 2}
    reference = finish(tmp_path / "uninterrupted", **settings)[0], tmp_path / "uninterrupted"
    deaths = 0
    while True:
        root = tmp_path / f"run{deaths}"
        left = [deaths]  # Renames that are left to live.

        def renamed(self: Path, target: Path, how: str, root: Path = root, left: list[int] = left) -> Path:
            if root in Path(target).parents:
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
            return real[how](self, target)

        def removed(path: Path, how: Callable[..., None], left: list[int] = left, **options: object) -> None:
            if left[0] > 0:
                how(path, **options)  # The dead clean nothing up.

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", functools.partialmethod(removed, how=Path.unlink))
            patch.setattr(shutil, "rmtree", functools.partial(removed, how=shutil.rmtree))
            for name in real:
                patch.setattr(Path, name, functools.partialmethod(renamed, how=name))
            try:
                finish(root, **settings)
                break
            except Killed:
                deaths += 1
        started = any(root.glob("step-*"))
        toy, _ = finish(root, root if started else None, **settings)
        require_equal(toy, root, reference)
    assert deaths > 20  # 4 checkpoints of several files each: the test did walk through them.


def _kill_and_resume(root: Path, reference: tuple[Toy, Path], kills: int, seed: int) -> None:
    draw = random.Random(seed)
    script = [sys.executable, toy_module.__file__, str(root), str(EPOCHS)]
    killed = 0
    while killed < kills:
        process = subprocess.Popen(
            [*script, "0.15", "--resume"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        events = root / "tensorboard"
        before = len(list(events.glob("*"))) if events.exists() else 0
        while process.poll() is None and (not events.exists() or len(list(events.glob("*"))) <= before):
            time.sleep(0.02)  # Until the loop has begun: TensorFlow's import is not what is tested.
        time.sleep(draw.uniform(0.0, 1.5))
        process.kill()
        output, errors = process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0), errors.decode()
        if process.returncode == 0:
            break
        killed += 1
    assert killed > 0
    done = subprocess.run([*script, "0", "--resume"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "num_epochs"
    assert record(root) == record(reference[1])
    toy = Toy()
    toy.restore(checkpoints.find(root))
    for mine, other in zip(toy.variables(), reference[0].variables(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_kill_minus_nine_and_resume(tmp_path: Path, uninterrupted: tuple[Toy, Path]) -> None:
    _kill_and_resume(tmp_path, uninterrupted, kills=1, seed=0)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kill_minus_nine_many_times(tmp_path: Path, uninterrupted: tuple[Toy, Path], seed: int) -> None:
    _kill_and_resume(tmp_path, uninterrupted, kills=5, seed=seed)


def test_a_half_removed_checkpoint_is_cleared(tmp_path: Path) -> None:
    finish(tmp_path, num_epochs=1)
    (tmp_path / "step-00000002").mkdir()
    (tmp_path / "step-00000002" / "ckpt.index").write_text("half of a folder that was being removed")
    (tmp_path / "step-00000003-keep").mkdir()
    finish(tmp_path, tmp_path, num_epochs=2)
    assert not (tmp_path / "step-00000002").exists()
    assert (tmp_path / "step-00000003-keep").exists()


@pytest.mark.parametrize("name", ["last.json", "best.json", "metrics.csv", "curves.png", "loss.png"])
def test_what_a_kill_left_half_written_is_cleared(tmp_path: Path, name: str) -> None:
    with pytest.raises(Killed), files.atomic_path(tmp_path / name) as temporary:
        temporary.write_text("half")
        temporary = temporary.rename(tmp_path / f"kept{temporary.name}")  # Out of the clean-up's reach.
        raise Killed
    left = temporary.rename(tmp_path / temporary.name.removeprefix("kept"))
    (tmp_path / ".loss.png").write_text("a user's own")
    finish(tmp_path, num_epochs=1)
    assert not left.exists()
    assert (tmp_path / ".loss.png").exists()


def test_a_checkpoint_that_nothing_names_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    # Written by a run that was killed before `last` moved to it; the resumed run may use other settings.
    finish(tmp_path, num_epochs=1)
    shutil.copytree(tmp_path / "step-00000005", tmp_path / "step-00000010")
    toy, result = finish(tmp_path, tmp_path, num_epochs=2)
    saved = Toy()
    saved.restore(result.last_folder)
    for mine, other in zip(saved.variables(), toy.variables(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_branching_off_into_another_folder(tmp_path: Path, uninterrupted: tuple[Toy, Path]) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    finish(old, num_epochs=2)
    before = record(old)
    toy, _ = finish(new, old)
    require_equal(toy, new, uninterrupted)
    assert record(old) == before


def test_branching_off_keeps_the_best_so_far(tmp_path: Path) -> None:
    class Worse(Toy):
        def evaluate(self, epoch: int):  # type: ignore[no-untyped-def]
            return dataclasses.replace(super().evaluate(epoch), scalars={"mae": float(epoch)})

    old, new = tmp_path / "old", tmp_path / "new"
    run(Worse(), LoopSettings(old, 2))
    result = run(Worse(), LoopSettings(new, 3), old)
    assert result.best_folder == new / "step-00000005" and (result.best_folder / "ckpt.index").exists()
    assert checkpoint_folder.pointer(new, "best") == checkpoint_folder.pointer(old, "best")
    # The best one is not the last: continuing from it in place would lose what came after.
    with pytest.raises(ValueError, match="Only the last checkpoint.*another checkpoint_dir"):
        run(Worse(), LoopSettings(old, 3), old / "step-00000005")
    branch = run(Worse(), LoopSettings(tmp_path / "branch", 3), old / "step-00000005")
    assert [row["step"] for row in branch.history] == [5, 10, 15]


def test_a_lost_best_checkpoint_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, result = finish(tmp_path / "old", num_epochs=1)
    state = train_state.load(result.last_folder)
    assert state.best is not None
    state.best = dataclasses.replace(state.best, step=3)
    (result.last_folder / "train_state.json").write_text(json.dumps(state.to_json()))
    _, resumed = finish(tmp_path / "new", result.last_folder, num_epochs=2)
    assert "step-00000003" in caplog.text
    assert resumed.best is not None and resumed.best.step == 10


@pytest.mark.parametrize(
    ("toy", "seed", "expected"),
    [
        (lambda: Toy(batch_size=4), 0, r"batch_size: 5 before, 4 now"),
        (lambda: Toy(seed=1), 1, r"seed: 0 before, 1 now"),
    ],
)
def test_a_resume_that_does_not_fit_is_refused(tmp_path: Path, toy, seed: int, expected: str) -> None:  # type: ignore[no-untyped-def]
    finish(tmp_path, num_epochs=1)
    before = record(tmp_path)
    with pytest.raises(ValueError, match=f"(?s)pretrained.*{expected}"):
        run(toy(), LoopSettings(tmp_path, 2, seed=seed), tmp_path)
    assert record(tmp_path) == before


def test_another_best_metric_is_refused(tmp_path: Path) -> None:
    finish(tmp_path, num_epochs=1)
    toy = Toy()
    toy.best_metric = "accuracy/a"
    with pytest.raises(ValueError, match="best_metric: 'mae' before, 'accuracy/a' now"):
        run(toy, LoopSettings(tmp_path, 2), tmp_path)


def test_only_what_differs_within_a_fingerprint_is_told(tmp_path: Path) -> None:
    class Detailed(Toy):
        def __init__(self, side: int) -> None:
            super().__init__()
            self.side = side

        def fingerprint(self) -> dict[str, Any]:
            images = [{"name": "image", "size": [48, 64]}, {"name": "depth", "size": [48, self.side]}]
            return {"model": {"images": images, "words": []}, "noise": {}}

    run(Detailed(64), LoopSettings(tmp_path, 1))
    run(Detailed(64), LoopSettings(tmp_path, 2), tmp_path)
    with pytest.raises(ValueError, match=r"Received: model.images.1.size.1: 64 before, 96 now \("):
        run(Detailed(96), LoopSettings(tmp_path, 3), tmp_path)


def test_a_fingerprint_that_is_new_is_refused(tmp_path: Path) -> None:
    class Plain(Toy):
        fingerprint = None  # type: ignore[assignment]

    run(Plain(), LoopSettings(tmp_path, 1))
    run(Plain(), LoopSettings(tmp_path, 2), tmp_path)
    with pytest.raises(ValueError, match=r"Received: batch_size: .* data: 'nothing' before, 'toy' now"):
        run(Toy(), LoopSettings(tmp_path, 3), tmp_path)


def test_what_cannot_be_resumed_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="No checkpoint"):
        finish(tmp_path / "new", tmp_path / "empty")
    _, result = finish(tmp_path / "run", num_epochs=1)
    path = result.last_folder / "train_state.json"
    text = path.read_text()
    path.write_text(text.replace('"format": 1', '"format": 99'))
    with pytest.raises(ValueError, match="format 1.*Received: format 99"):
        finish(tmp_path / "run", result.last_folder)
    value = json.loads(text)
    del value["history"], value["sums"]
    path.write_text(json.dumps(value))
    with pytest.raises(ValueError, match="not a complete train state"):
        finish(tmp_path / "run", result.last_folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no train_state.json.*pretrained"):
        finish(tmp_path / "run", tmp_path / "run")


def test_a_thread_other_than_the_main_one_can_train(tmp_path: Path) -> None:
    results: list[RunResult] = []
    thread = threading.Thread(target=lambda: results.append(finish(tmp_path, num_epochs=1)[1]))
    thread.start()
    thread.join()
    assert results[0].stopped_by == "num_epochs"
