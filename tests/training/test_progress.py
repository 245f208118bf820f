"""The progress bar and its lines in a log file."""

import io
import sys

import pytest
from absl import logging

from training import progress
from training.progress import EpochProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(logging, "info", lambda text, *args: found.append(text % args))
    return found


def test_a_log_file_gets_a_line_every_so_often(
    clock: list[float], lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with EpochProgress("epoch 2/3", 100, 20, seconds_between_lines=10.0) as bar:
        for _ in range(40):
            clock[0] += 0.5
            bar.loss(0.25)
            bar.advance()
    assert lines == [
        "epoch 2/3: batch 40/100, loss 0.25, 2 batches/s, 30 s left in this epoch",
        "epoch 2/3: batch 60/100, loss 0.25, 2 batches/s, 20 s left in this epoch",
    ]
    assert capsys.readouterr().err == ""


def test_an_unknown_total(clock: list[float], lines: list[str]) -> None:
    with EpochProgress("epoch 1/1", None, seconds_between_lines=1.0) as bar:
        clock[0] += 2.0
        bar.advance()
    assert lines == ["epoch 1/1: batch 1, 0.5 batches/s"]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with EpochProgress("epoch 1/2", 4, 1, seconds_between_lines=1e-9) as bar:
        for _ in range(3):
            bar.loss(0.125)
            bar.advance()
        bar._bar.refresh()  # type: ignore[union-attr]
    assert "epoch 1/2: 100%" in terminal.getvalue() and "loss 0.125" in terminal.getvalue()
    assert lines == []
