"""``scripts/demo`` does what the README says."""

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.heavy
def test_demo_learns_serves_and_leaves_pictures(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = subprocess.run(
        [str(ROOT / "scripts" / "demo"), "--out", str(out)], capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "/predict, " in done.stdout
    robot = re.search(r"Robot: loss .* bags ([\d.]+); .* frequencies: ([\d.]+)\.", done.stdout)
    assert robot is not None
    assert float(robot[1]) < 0.5 * float(robot[2])
    for folder in ("episodes", "open_loop"):
        assert all(path.stat().st_size > 10_000 for path in (out / folder).glob("*.png"))
        assert list((out / folder).glob("*.png"))
    for name in ("predictions.png", "curves.png"):
        assert (out / name).stat().st_size > 10_000
    metrics = json.loads((out / "run" / "best.json").read_text())["metrics"]
    assert metrics["centroid_mae"] <= 0.5 * metrics["centroid_mae_of_mean_predictor"]


def test_demo_refuses_a_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not delete")
    done = subprocess.run(
        [str(ROOT / "scripts" / "demo"), "--out", str(tmp_path)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode != 0
    assert "--out must be a new folder" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "do not delete"
