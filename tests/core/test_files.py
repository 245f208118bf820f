"""Atomic writing: the old content or the new one, never half."""

import json
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from core import files
from tests.shared_data import ROOT


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_parents(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "b" / "c.txt", "größe")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "größe".encode()
    assert names(tmp_path / "a" / "b") == ["c.txt"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for text in ("old", "new"):
        files.write_text(tmp_path / "c.txt", text)
    assert (tmp_path / "c.txt").read_text() == "new"
    assert names(tmp_path) == ["c.txt"]


def test_until_the_end_readers_see_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("old")
    with files.atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "c.txt"
    path.write_text("old")
    with pytest.raises(error), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["c.txt"]


def test_writers_that_choose_by_suffix_are_served(tmp_path: Path) -> None:
    with files.atomic_path(tmp_path / "x.npz") as temporary:
        np.savez(temporary, a=np.arange(3))
    with np.load(tmp_path / "x.npz") as stored:
        assert stored["a"].tolist() == [0, 1, 2]
    assert names(tmp_path) == ["x.npz"]


def test_two_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    with files.atomic_path(path) as first, files.atomic_path(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["c.txt"]


def test_a_crash_in_the_middle_leaves_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("old")
    code = (
        "import os, sys; from core import files\n"
        "with files.atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half'); os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "c.txt")], cwd=ROOT)
    assert done.returncode == 9
    assert (tmp_path / "c.txt").read_text() == "old"
    # What is left is hidden and does not bear the final name.
    assert [n for n in names(tmp_path) if not n.startswith(".")] == ["c.txt"]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "one"
    with files.atomic_folder(target) as temporary:
        (temporary / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert names(target.parent) == ["one"]


def test_a_folder_that_failed_never_appears(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), files.atomic_folder(tmp_path / "one") as temporary:
        (temporary / "a").write_text("1")
        raise RuntimeError
    assert names(tmp_path) == []


def test_a_crash_in_the_middle_never_makes_the_folder(tmp_path: Path) -> None:
    code = (
        "import os, sys; from core import files\n"
        "with files.atomic_folder(sys.argv[1]) as temporary:\n"
        "    (temporary / 'a').write_text('half'); os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "one")], cwd=ROOT)
    assert done.returncode == 9
    assert all(name.startswith(".") for name in names(tmp_path))


@pytest.mark.parametrize("is_empty", [True, False])
def test_an_existing_folder_is_never_touched(tmp_path: Path, is_empty: bool) -> None:
    target = tmp_path / "one"
    target.mkdir()
    if not is_empty:
        (target / "a").write_text("old")
    with pytest.raises(FileExistsError, match="one"), files.atomic_folder(target):
        pytest.fail("entered")
    assert names(tmp_path) == ["one"]
    assert names(target) == ([] if is_empty else ["a"])


@pytest.mark.parametrize("is_empty", [True, False])
def test_a_folder_made_meanwhile_is_never_touched(tmp_path: Path, is_empty: bool) -> None:
    target = tmp_path / "one"
    with pytest.raises(FileExistsError, match="one"), files.atomic_folder(target) as temporary:
        (temporary / "a").write_text("new")
        target.mkdir()
        if not is_empty:
            (target / "a").write_text("old")
    assert names(tmp_path) == ["one"]
    assert names(target) == ([] if is_empty else ["a"])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # A busy machine is no failure.
@given(value=_JSON)
def test_json_comes_back(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    files.write_json(path, value)
    assert files.read_json(path) == value


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": object()}])
def test_what_json_cannot_say_is_an_error_and_keeps_the_old(tmp_path: Path, value: object) -> None:
    path = tmp_path / "value.json"
    files.write_json(path, {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        files.write_json(path, value)
    assert json.loads(path.read_text()) == {"old": 1}
    assert names(tmp_path) == ["value.json"]


def test_damaged_json_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text('{"a": ')
    with pytest.raises(ValueError, match="value.json is not valid JSON"):
        files.read_json(tmp_path / "value.json")
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "absent.json")


def test_a_file_of_other_bytes_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "value.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match="value.json is not valid JSON"):
        files.read_json(tmp_path / "value.json")
