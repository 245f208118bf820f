"""The benchmark times what it says, and compares like with like."""

import argparse
import json
import sys
from pathlib import Path

import pytest

from benchmarks import eipl_step, sarnn_train
from benchmarks.sarnn_train import Case

CASE = Case(16, 4, 2)
FAKE_TRAINER = """
class fullBPTTtrainer:
    def __init__(self, model, optimizer, loss_weights, device):
        self.loss_weights = loss_weights
"""


def side(seconds: list[float], memory: float) -> dict:
    return {
        "seconds": seconds,
        "cpu_seconds": [2 * s for s in seconds],
        "peak_mb": 500 + memory,
        "step_mb": memory,
        "threads": 2,
        "others": 0.05 if memory < 200 else 0.7,
        "version": "v",
    }


def test_the_timed_step_trains() -> None:
    found = sarnn_train.measure_ours(CASE, 4)
    assert len(found["seconds"]) == len(found["cpu_seconds"]) == 4
    assert found["losses"][-1] < found["losses"][0]
    assert found["peak_mb"] >= found["step_mb"] >= 0


def test_sides_run_in_turns_and_ratios_are_theirs_by_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def run(command: list[str]) -> dict:
        commands.append(command)
        return side([1.0, 3.0], 100) if "benchmarks.sarnn_train" in command else side([4.0, 4.0], 300)

    monkeypatch.setattr(sarnn_train, "run", run)
    found = sarnn_train.compare(CASE, 2, 2, Path("eipl"), "python-with-torch")
    assert [c[0] for c in commands] == [sys.executable, "python-with-torch"] * 2
    assert commands[0][-6:] == ["--case", "16x4x2", "--repeats", "2", "--threads", "0"]
    assert commands[1][-6:] == [str(Path("eipl").resolve()), "16", "4", "2", "2", "0"]
    assert found["seconds_ratio"] == found["cpu_seconds_ratio"] == 2.0
    assert (found["step_mb_ratio"], found["peak_mb_ratio"]) == (3.0, round(800 / 600, 3))
    text = sarnn_train.describe(found)
    assert "16x16, T 4, batch 2" in text
    assert "EIPL / ours: 2.0" in text
    assert "; quiet: other work took 0.05" in text
    assert "NOT QUIET: other work took 0.7" in text
    assert "eipl" not in sarnn_train.compare(CASE, 2, 1)


def test_without_a_checkout_the_stand_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []
    monkeypatch.setattr(sarnn_train, "run", lambda c: (commands.append(c), side([1.0], 1))[1])
    assert "eipl" in sarnn_train.compare(CASE, 2, 1, torch_python="python-with-torch", threads=1)
    assert commands[1][2:] == ["-", "16", "4", "2", "2", "1"]


def test_other_work_is_what_the_machine_did_without_the_side(monkeypatch: pytest.MonkeyPatch) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint('{}')"
    busy = iter([100.0, 100.0])
    monkeypatch.setattr(sarnn_train, "busy_seconds", lambda: next(busy))
    assert sarnn_train.run([sys.executable, "-c", burn])["others"] == 0.0
    busy = iter([100.0, 1100.0])
    assert sarnn_train.run([sys.executable, "-c", burn])["others"] > 1.0
    monkeypatch.setattr(sarnn_train, "busy_seconds", lambda: None)
    assert sarnn_train.run([sys.executable, "-c", "print('{}')"])["others"] is None


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sarnn_train, "run", lambda _: side([1.0], 1))
    monkeypatch.setattr(sys, "argv", ["sarnn_train", "--json"])
    sarnn_train.main()
    cases = [json.loads(line)["case"] for line in capsys.readouterr().out.splitlines()]
    assert cases == [c._asdict() for c in sarnn_train.PUBLISHED]


def test_a_side_that_fails_is_not_passed_over() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        sarnn_train.run([sys.executable, "-c", "raise SystemExit('no such thing')"])


@pytest.mark.parametrize("text", ["64", "64x50", "7x5x1", "16x2x1", "16x3x0", "axbxc"])
def test_cases_are_checked(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected"):
        sarnn_train.parse_case(text)


@pytest.mark.parametrize("relative", eipl_step.TRAINERS)
def test_the_trainer_is_that_of_the_checkout(tmp_path: Path, relative: str) -> None:
    path = tmp_path / relative
    path.parent.mkdir(parents=True)
    path.write_text(FAKE_TRAINER)
    trainer = eipl_step.trainer_class(tmp_path)(None, None, loss_weights=[1], device="cpu")
    assert trainer.loss_weights == [1]


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The checkout must hold one of"):
        eipl_step.trainer_class(tmp_path)


def test_an_interpreter_that_is_not_there_is_named() -> None:
    with pytest.raises(RuntimeError, match="interpreter must be there. Received: no-python"):
        sarnn_train.run(["no-python", "-c", ""])
