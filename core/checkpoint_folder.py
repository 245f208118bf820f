"""The checkpoint folder: everything needed to serve or resume, published whole or not at all.

::

    checkpoint_dir/
      best.json  last.json         pointers: {"folder": "step-00001200", "step": 1200, "metrics": {…}}
      step-00001200/
        ckpt-1200.index, .data-…   weights, optimiser slots and counters, official key names
        config.gin                 the operative gin configuration
        spec.json                  the policy's specification (core.spec)
        dataset_statistics.json    what normalisation asks
        train_state.json           epoch, step, seeds, history
        versions.json              of the libraries and of this project
"""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core import files

BEST, LAST = "best", "last"
CONFIG, SPEC, STATISTICS = "config.gin", "spec.json", "dataset_statistics.json"
TRAIN_STATE, VERSIONS = "train_state.json", "versions.json"


_STEP_FOLDER = re.compile(r"step-\d{8,}")


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def publish(
    root: str | Path,
    step: int,
    write: Callable[[Path], None],
    *,
    pointers: tuple[str, ...] = (LAST,),
    metrics: Mapping[str, float] | None = None,
) -> Path:
    """Writes one checkpoint and moves the pointers to it.

    ``write`` fills a temporary folder, which is renamed when it is complete; only then do the
    pointers move, and folders that no pointer names are removed. Where the step's folder is there
    already (a resumed run that repeats a step, or a step that becomes ``best`` after it was
    ``last``), it is kept and only the pointers move.

    Args:
      pointers: ``last``, ``best`` or both, in the order in which they move.

    Returns:
      The published folder.

    Raises:
      ValueError: no pointer is named, or another one: nothing would keep the folder.
    """
    if not pointers or not set(pointers) <= {BEST, LAST}:
        raise ValueError(f"pointers must be {LAST!r}, {BEST!r} or both. Received: {pointers}")
    root = Path(root)
    target = root / folder_name(step)
    if not target.exists():
        with files.atomic_folder(target) as temporary:
            write(temporary)
    for pointer in pointers:
        content = {"folder": target.name, "step": step, "metrics": dict(metrics or {})}
        files.write_json(root / f"{pointer}.json", content)
    _remove_unnamed(root)
    return target


def pointer(root: str | Path, name: str) -> dict[str, Any] | None:
    """What ``best`` or ``last`` says, None where there is none yet.

    Raises:
      ValueError: the file is there and names no checkpoint.
    """
    path = Path(root) / f"{name}.json"
    if not path.exists():
        return None
    content = files.read_json(path)
    folder = content.get("folder") if isinstance(content, dict) else None
    if not isinstance(folder, str) or not _STEP_FOLDER.fullmatch(folder):
        raise ValueError(
            f"{path} must name a checkpoint as 'folder': 'step-00000001' or a later one. "
            f"Received: {content!r}"
        )
    return content


def resolve(path: str | Path, prefer: str = BEST) -> Path:
    """The checkpoint folder that ``path`` means: itself, or what the preferred pointer names.

    Raises:
      FileNotFoundError: there is none; the message says what was looked for.
    """
    path = Path(path)
    if (path / SPEC).exists():
        return path
    for name in (prefer, LAST, BEST):
        found = pointer(path, name)
        if found is not None:
            folder = path / str(found["folder"])
            if not folder.is_dir():
                raise FileNotFoundError(f"{path}/{name}.json names a folder that is gone: {folder.name}")
            return folder
    raise FileNotFoundError(
        f"No checkpoint: neither {SPEC} nor {BEST}.json nor {LAST}.json. Received: {path}"
    )


def _remove_unnamed(root: Path) -> None:
    named = {str(p["folder"]) for n in (BEST, LAST) if (p := pointer(root, n)) is not None}
    for folder in root.glob("step-*"):
        if _STEP_FOLDER.fullmatch(folder.name) and folder.is_dir() and folder.name not in named:
            shutil.rmtree(folder)
