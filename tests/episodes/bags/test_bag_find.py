"""Bags are found where they are, each once; what is none is an error that says what is accepted."""

import os
from pathlib import Path

import pytest

from episodes.bags.bag import BagError
from episodes.bags.find import find_bags


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(root: Path, found: list[Path]) -> list[str]:
    return [str(path.relative_to(root)) for path in found]


def test_a_folder_is_searched(tmp_path):
    make(
        tmp_path,
        "z.bag",
        "deep/down/a.bag",
        "deep/alone.mcap",
        "deep/packed.db3.zstd",
        "two/metadata.yaml",
        "two/two_0.mcap",
        "two/two_1.mcap",
        "two/nested/not_a_bag_of_its_own.bag",
        "parts/run_0.db3",
        "parts/run_1.db3",
        "several/left_0.mcap",
        "several/right_0.mcap",
        "gap/run_0.db3",
        "gap/run_2.db3",
        ".hidden/h.bag",
        "deep/.h.bag",
        "deep/._a.bag",
        "now.bag.active",
        "notes.txt",
        "archive.zstd",
    )
    assert names(tmp_path, find_bags([tmp_path])) == [
        "deep/alone.mcap",
        "deep/down/a.bag",
        "deep/packed.db3.zstd",
        "gap/run_0.db3",
        "gap/run_2.db3",
        "parts",
        "several/left_0.mcap",
        "several/right_0.mcap",
        "two",
        "z.bag",
    ]


def test_nothing_is_listed_twice(tmp_path):
    make(tmp_path, "a.bag", "two/metadata.yaml", "two/two_0.mcap")
    (tmp_path / "link.bag").symlink_to(tmp_path / "a.bag")
    (tmp_path / "loop").symlink_to(tmp_path)
    given = [tmp_path / "two" / "two_0.mcap", tmp_path, tmp_path / "a.bag", tmp_path / "two"]
    assert names(tmp_path, find_bags(given)) == ["a.bag", "two"]
    assert names(tmp_path, find_bags(given[:1])) == ["two/two_0.mcap"]


def test_a_hidden_folder_that_is_named_is_searched(tmp_path):
    make(tmp_path, ".cache/a.bag")
    assert names(tmp_path, find_bags([tmp_path / ".cache"])) == [".cache/a.bag"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere.bag", "There is no"),
        ("now.bag.active", "not closed.*rename it to now.bag"),
        ("notes.txt", r"\.mcap.*Received: .*notes\.txt"),
        ("empty", r"No bag was found.*\.bag.*metadata\.yaml.*\.mcap"),
    ],
)
def test_what_is_no_bag(tmp_path, given, said):
    make(tmp_path, "now.bag.active", "notes.txt", "empty/notes.txt")
    with pytest.raises(BagError, match=said):
        find_bags([tmp_path / given])


def test_links_that_lead_nowhere_cost_nothing_but_themselves(tmp_path):
    make(tmp_path, "good.bag")
    (tmp_path / "loop.bag").symlink_to("loop2.bag")
    (tmp_path / "loop2.bag").symlink_to("loop.bag")
    (tmp_path / "gone.bag").symlink_to("nowhere.bag")
    assert names(tmp_path, find_bags([tmp_path])) == ["good.bag"]
    for name in ("loop.bag", "gone.bag"):
        with pytest.raises(BagError, match=name):
            find_bags([tmp_path / name])


def test_folder_that_cannot_be_searched_is_named(tmp_path, monkeypatch, caplog):
    make(tmp_path, "a.bag")
    listing = os.scandir

    def refusing(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", refusing)
    with caplog.at_level("WARNING"):
        assert names(tmp_path, find_bags([tmp_path])) == ["a.bag"]
    assert "locked cannot be searched" in caplog.text
