"""Kill -9 at any moment: never is there half a data set, and the next run ends as if undisturbed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.episodes.conversion import fake_sources as fake
from tests.episodes.conversion import killed_runs


def start(paths, out, workers=2):
    command = [sys.executable, "-m", "tests.episodes.conversion.killed_runs", "convert", out, workers, *paths]
    return subprocess.Popen([str(part) for part in command], start_new_session=True)


def processes_of_group(group):
    """Processes that are alive, not waiting to be collected."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue  # It has just ended.
        if int(its_group) == group and state != "Z":
            found.append(stat)
    return found


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.heavy)])
def test_killed_at_random_moments_the_result_is_the_same(tmp_path, kills):
    paths = [
        fake.write_source(tmp_path / "bags", f"b{i}.fake", lengths=[6, 9, 3], delay_s=0.01) for i in range(6)
    ]
    began = time.monotonic()
    assert start(paths, tmp_path / "undisturbed").wait() == 0
    usual = time.monotonic() - began
    wanted = killed_runs.data_set(tmp_path / "undisturbed")
    out, rng, killed = tmp_path / "out", random.Random(kills), 0
    while killed < kills:
        process = start(paths, out)
        try:
            process.wait(timeout=rng.uniform(0.2, 1.1) * usual)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
        found = killed_runs.data_set(out)
        assert found in (None, wanted)
        if found is not None:
            shutil.rmtree(out)  # It was done; another one shall be killed.
    assert start(paths, out).wait() == 0
    assert killed_runs.data_set(out) == wanted


def test_killed_at_each_rename_the_result_is_the_same(tmp_path):
    command = [sys.executable, "-m", "tests.episodes.conversion.killed_runs", "at_each_rename", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Two renames publish; each file and each source before needs one at least.
    assert int(done.stdout) > 10


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_survives_its_parent(tmp_path, stop):
    paths = [fake.write_source(tmp_path / "bags", f"b{i}.fake", lengths=[50], delay_s=0.2) for i in range(3)]
    process = start(paths, tmp_path / "out")
    staged = tmp_path / "out" / f".work-{killed_runs.NAME}" / "staged"
    while not list(staged.glob(".*")):  # A worker has begun.
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, stop)
    process.wait(timeout=60)
    deadline = time.monotonic() + 60
    while processes_of_group(process.pid):
        assert time.monotonic() < deadline, "workers go on"
        time.sleep(0.1)
    assert killed_runs.data_set(tmp_path / "out") is None
