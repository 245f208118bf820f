"""Checkpoint folders: published whole, named by pointers, nothing else deleted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core import checkpoint_folder, files
from core.checkpoint_folder import BEST, LAST, SPEC


def writer(content: str = "weights") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / SPEC).write_text("{}")
        (folder / "weights").write_text(content)

    return write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_is_published_and_pointed_at(tmp_path: Path) -> None:
    folder = checkpoint_folder.publish(tmp_path, 12, writer(), pointers=(LAST, BEST), metrics={"mae": 0.5})
    assert folder == tmp_path / "step-00000012"
    assert names(tmp_path) == ["best.json", "last.json", "step-00000012"]
    expected = {"folder": "step-00000012", "step": 12, "metrics": {"mae": 0.5}}
    assert checkpoint_folder.pointer(tmp_path, LAST) == expected
    assert checkpoint_folder.pointer(tmp_path, BEST) == expected


def test_only_what_a_pointer_names_is_kept(tmp_path: Path) -> None:
    checkpoint_folder.publish(tmp_path, 1, writer(), pointers=(LAST, BEST))
    checkpoint_folder.publish(tmp_path, 2, writer())
    checkpoint_folder.publish(tmp_path, 3, writer())
    assert names(tmp_path) == ["best.json", "last.json", "step-00000001", "step-00000003"]
    checkpoint_folder.publish(tmp_path, 4, writer(), pointers=(LAST, BEST))
    assert names(tmp_path) == ["best.json", "last.json", "step-00000004"]


def test_nothing_but_checkpoints_is_ever_removed(tmp_path: Path) -> None:
    kept = ["step-by-step", "step-1", "step-00000001-copy", "notes"]
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / "step-00000009").write_text("a file")
    checkpoint_folder.publish(tmp_path, 2, writer())
    assert set(names(tmp_path)) == {*kept, "step-00000009", "step-00000002", "last.json"}


def test_a_published_step_is_kept_as_it_is(tmp_path: Path) -> None:
    checkpoint_folder.publish(tmp_path, 5, writer("first"))
    folder = checkpoint_folder.publish(tmp_path, 5, writer("second"), pointers=(BEST,), metrics={"mae": 1.0})
    assert (folder / "weights").read_text() == "first"
    best = checkpoint_folder.pointer(tmp_path, BEST)
    assert best is not None
    assert best["metrics"] == {"mae": 1.0}


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    checkpoint_folder.publish(tmp_path, 1, writer(), pointers=(LAST, BEST))

    def write(folder: Path) -> None:
        (folder / SPEC).write_text("{}")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint_folder.publish(tmp_path, 2, write, pointers=(LAST, BEST))
    assert names(tmp_path) == ["best.json", "last.json", "step-00000001"]
    assert checkpoint_folder.resolve(tmp_path).name == "step-00000001"


def test_pointers_move_only_to_what_is_there(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        assert checkpoint_folder.pointer(tmp_path, LAST) is None
        assert not (tmp_path / "step-00000001").exists()
        writer()(folder)

    checkpoint_folder.publish(tmp_path, 1, write)
    assert checkpoint_folder.pointer(tmp_path, LAST) is not None


def test_a_path_means_a_checkpoint(tmp_path: Path) -> None:
    first = checkpoint_folder.publish(tmp_path, 1, writer(), pointers=(LAST, BEST))
    second = checkpoint_folder.publish(tmp_path, 2, writer())
    assert checkpoint_folder.resolve(tmp_path) == first
    assert checkpoint_folder.resolve(tmp_path, prefer=LAST) == second
    assert checkpoint_folder.resolve(str(first)) == first
    (tmp_path / "best.json").unlink()
    assert checkpoint_folder.resolve(tmp_path) == second


def test_what_means_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(FileNotFoundError, match=f"No checkpoint: .*Received: {path}"):
            checkpoint_folder.resolve(path)


def test_a_pointer_to_a_folder_that_is_gone_is_an_error_and_no_fallback(tmp_path: Path) -> None:
    checkpoint_folder.publish(tmp_path, 1, writer())
    files.write_json(tmp_path / "best.json", {"folder": "step-00000007", "step": 7, "metrics": {}})
    with pytest.raises(FileNotFoundError, match="best.json names a folder that is gone: step-00000007"):
        checkpoint_folder.resolve(tmp_path)


def test_folder_names_sort_by_step() -> None:
    steps = [0, 9, 10, 99_999_999]
    assert sorted(checkpoint_folder.folder_name(s) for s in steps) == [
        checkpoint_folder.folder_name(s) for s in steps
    ]


@pytest.mark.parametrize("pointers", [(), ("latest",), (LAST, "latest")])
def test_a_checkpoint_that_nothing_would_keep_is_not_written(
    tmp_path: Path, pointers: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="pointers must be 'last', 'best' or both. Received: "):
        checkpoint_folder.publish(tmp_path, 1, writer(), pointers=pointers)
    assert names(tmp_path) == []
