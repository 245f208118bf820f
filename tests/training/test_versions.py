"""versions.json."""

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from training.versions import versions

GIT = shutil.which("git")
needs_git = pytest.mark.skipif(GIT is None, reason="git is not installed")


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    command = ["git", "-C", str(root), *who, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_libraries_by_name() -> None:
    found = versions()
    assert found["python"] == platform.python_version() and found["numpy"] == np.__version__
    assert {"tensorflow", "tf_keras", "tf_agents", "git_commit"} <= set(found)


def test_no_checkout(tmp_path: Path) -> None:
    found = versions(tmp_path)
    assert found["git_commit"] is None and "git_modified" not in found


@needs_git
def test_a_folder_inside_another_checkout_is_not_that_checkout(tmp_path: Path) -> None:
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "another project")
    (tmp_path / "unpacked").mkdir()
    assert versions(tmp_path / "unpacked")["git_commit"] is None


@needs_git
def test_commit_and_changes(tmp_path: Path) -> None:
    git(tmp_path, "init")
    assert versions(tmp_path)["git_commit"] is None  # There is no commit yet.
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-m", "first")
    found = versions(tmp_path)
    assert found["git_commit"] == git(tmp_path, "rev-parse", "HEAD") and found["git_modified"] is False
    (tmp_path / "a.py").write_text("a = 2\n")
    assert versions(tmp_path)["git_modified"] is True


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert versions(tmp_path)["git_commit"] is None
