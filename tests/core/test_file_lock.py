"""One holder at a time, in this process or another, and none after its death."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.file_lock import file_lock

BUSY = KeyError("busy")
HOLDER = """
import sys, time
from pathlib import Path
from core.file_lock import file_lock
with file_lock(Path(sys.argv[1]), KeyError()):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_and_an_error_frees_the_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), file_lock(tmp_path / "lock", BUSY):
        with pytest.raises(KeyError, match="busy"), file_lock(tmp_path / "lock", BUSY):
            pass
        raise ZeroDivisionError
    with file_lock(tmp_path / "lock", BUSY):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(KeyError, match="busy"), file_lock(tmp_path / "lock", BUSY):
            pass
        holder.kill()
        holder.wait()
    with file_lock(tmp_path / "lock", BUSY):
        pass
