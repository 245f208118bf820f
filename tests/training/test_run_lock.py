"""Two runs never write into one folder at a time."""

from pathlib import Path

import pytest

from tests.training.toy import Toy
from training.loop import LoopSettings, run
from training.run_lock import run_lock


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    """It begins while the first one has saved nothing yet, and the first one goes on undisturbed."""
    refused = []

    def begin_another(toy: Toy) -> None:
        if toy.step == 1:
            for resumed in (None, tmp_path):
                with pytest.raises(ValueError, match=f"Another run is writing.*Received: {tmp_path}$"):
                    run(Toy(), LoopSettings(tmp_path, num_epochs=1), resumed)
                refused.append(resumed)

    result = run(Toy(on_step=begin_another), LoopSettings(tmp_path, num_epochs=1))
    assert len(refused) == 2
    assert result.step == 5
    assert run(Toy(), LoopSettings(tmp_path, num_epochs=2), tmp_path).step == 10  # The lock is gone.


def test_a_failure_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run_lock(tmp_path):
        raise ZeroDivisionError
    with run_lock(tmp_path):
        pass
