"""What a checkpoint was made with: the content of ``versions.json``."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

_DISTRIBUTIONS = (
    "tensorflow",
    "tf_keras",
    "tf-agents",
    "tensorflow-probability",
    "tensorflow-datasets",
    "tensorflow-hub",
    "numpy",
    "gin-config",
    "opencv-python-headless",
)
_PROJECT = Path(__file__).resolve().parent.parent


def versions(project: Path = _PROJECT) -> dict[str, str | bool | None]:
    """Versions by name: ``python``, the libraries that are installed, and the project's git state.

    Returns:
      ``git_commit`` is None, and ``git_modified`` absent, where ``project`` is not the root of a git
      checkout with a commit, or there is no git. ``git_modified`` tells of uncommitted changes.
    """
    found: dict[str, str | bool | None] = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name.replace("-", "_")] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # Not every model needs every library.
    found["git_commit"] = None
    # An unpacked copy may lie inside another project's checkout, whose commit would mislead.
    if (project / ".git").exists():
        found["git_commit"] = _git(project, "rev-parse", "--verify", "HEAD")
        status = _git(project, "status", "--porcelain")
        if found["git_commit"] is not None and status is not None:
            found["git_modified"] = status != ""
    return found


def _git(project: Path, *arguments: str) -> str | None:
    """What git answers; None where there is no git or it refuses (no commit yet, another's checkout)."""
    try:
        done = subprocess.run(
            ["git", "-C", str(project), *arguments], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
