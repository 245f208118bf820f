"""Finds the material that lies beside the checkout and is not part of it."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_dir() -> Path:
    """The folder of shared material: SHARED_DIR, or ``shared`` beside the checkout."""
    return Path(os.environ.get("SHARED_DIR", ROOT.parent / "shared"))


def shared(relative: str) -> Path:
    """The path of shared material; skips the test, with the reason, where it is absent."""
    path = shared_dir() / relative
    if not path.exists():
        pytest.skip(f"shared material is absent: {relative} (set SHARED_DIR)")
    return path
