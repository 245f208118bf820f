"""metrics.csv."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training import metrics_csv

names = st.text("abc/,\"' \n", min_size=1, max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(names, numbers, max_size=4).map(lambda r: {"step": 1.0, **r}), max_size=5))
def test_rows_come_back_exactly(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    metrics_csv.write(tmp_path / "m.csv", rows)
    assert metrics_csv.read(tmp_path / "m.csv") == rows


def test_a_metric_that_appears_later_becomes_a_column(tmp_path: Path) -> None:
    metrics_csv.write(tmp_path / "m.csv", [{"step": 1, "loss": 0.5}, {"step": 2, "mae": 0.1}])
    assert (tmp_path / "m.csv").read_text() == "step,loss,mae\n1,0.5,\n2,,0.1\n"


def test_a_failed_write_leaves_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.csv"
    metrics_csv.write(path, [{"step": 1}])

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        metrics_csv.write(path, [{"step": 1}, {"step": 2}])
    assert path.read_text() == "step\n1\n" and list(tmp_path.iterdir()) == [path]
