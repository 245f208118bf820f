"""The checkpoints of a run: begin, publish, resume, branch off.

A checkpoint folder (``core.checkpoint_folder``) appears whole and under its final name; pointers move
after it. Whatever moment the process is killed at, a resume finds a whole checkpoint and clears away
what the killed run left.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import gin
from absl import logging

from core import checkpoint_folder, files
from core.checkpoint_folder import BEST, LAST
from training import metrics_csv, train_state
from training.train_state import TrainState

# What core.files calls a file or folder until it is complete.
_TEMPORARY = re.compile(r"\.(step-\d+|best|last|metrics|curves|loss)\.[0-9a-f]{32}(\.\w+)?")


def begin(root: Path) -> None:
    """Makes sure that a new run may write into ``root``.

    Raises:
      ValueError: an earlier run has checkpoints or metrics there.
    """
    earlier = [n for n in (f"{LAST}.json", f"{BEST}.json", metrics_csv.NAME) if (root / n).exists()]
    earlier += [folder.name for folder in _step_folders(root)]
    if earlier:
        raise ValueError(
            f"checkpoint_dir holds an earlier run ({', '.join(earlier)}), which is never overwritten. Pass "
            f"resume_checkpoint={root} to continue it, or another checkpoint_dir. Received: {root}"
        )
    _clear_temporaries(root)


def publish(
    root: Path,
    state: TrainState,
    save: Callable[[Path], None],
    versions: Mapping[str, object],
    pointers: tuple[str, ...] = (LAST,),
    metrics: Mapping[str, float] | None = None,
) -> Path:
    """Writes the checkpoint of ``state.step`` and moves the pointers to it.

    Where the folder of that step is there already (interrupted after the last batch of an epoch, then
    resumed and validated) the weights are the same and only its train state is replaced.

    Args:
      root: the run's folder.
      state: where the run stands.
      save: ``Trainable.save``.
      versions: of the libraries and of the project (``training.versions``).
      pointers: in the order in which they move. With ``last`` first a resume after a kill between them
        loses nothing, and puts ``best`` right.
      metrics: written into the pointers.

    Returns:
      The published folder.
    """

    def write(folder: Path) -> None:
        save(folder)
        config = folder / checkpoint_folder.CONFIG
        if not config.exists():
            files.write_text(config, gin.operative_config_str())
        files.write_json(folder / checkpoint_folder.VERSIONS, dict(versions))
        files.write_json(folder / checkpoint_folder.TRAIN_STATE, state.to_json())

    existing = root / checkpoint_folder.folder_name(state.step)
    if existing.exists():
        files.write_json(existing / checkpoint_folder.TRAIN_STATE, state.to_json())
    return checkpoint_folder.publish(root, state.step, write, pointers=pointers, metrics=metrics)


def find(path: Path) -> Path:
    """The checkpoint folder to resume from: ``path`` itself, or the last one of the run in ``path``.

    Raises:
      FileNotFoundError: there is none.
    """
    if (path / checkpoint_folder.TRAIN_STATE).exists():
        return path
    # Those that a kill left half removed lack it, or their pointer is there.
    folders = [p for p in _step_folders(path) if (p / checkpoint_folder.TRAIN_STATE).exists()]
    if folders and checkpoint_folder.pointer(path, LAST) is None:
        # Killed between the first folder and its pointer. The folder is whole: it has its final name.
        return folders[-1]
    return checkpoint_folder.resolve(path, prefer=LAST)


def resume(root: Path, folder: Path) -> TrainState:
    """Makes ``root`` a run that stands at the checkpoint ``folder``, and reads its state.

    The last checkpoint of ``root`` continues in place. A checkpoint of another folder branches off: it
    and the best one beside it are copied into ``root``, which must hold no run yet.

    Raises:
      FileNotFoundError: ``folder`` has no train state.
      ValueError: ``root`` holds another run, or ``folder`` is not the last checkpoint of ``root``.
    """
    state = train_state.load(folder)
    if folder.resolve().parent != root.resolve():
        begin(root)
        _copy(root, folder, state)
    elif folder.resolve() != find(root).resolve():
        raise ValueError(
            f"Only the last checkpoint of a run continues in its own folder: {find(root).name} and what "
            f"came after {folder.name} would be lost. Pass another checkpoint_dir to branch off from "
            f"{folder.name}. Received: checkpoint_dir={root}"
        )
    _clear_temporaries(root)
    _repair_pointers(root, state)
    if state.history:
        metrics_csv.write(root / metrics_csv.NAME, state.history)
    return state


def _copy(root: Path, folder: Path, state: TrainState) -> None:
    def copy_of(source: Path) -> Callable[[Path], None]:
        return lambda target: _copy_tree(source, target)

    if state.best is not None and state.best.step != state.step:
        best = folder.parent / checkpoint_folder.folder_name(state.best.step)
        if best.is_dir():
            checkpoint_folder.publish(root, state.best.step, copy_of(best), pointers=(BEST,))
    checkpoint_folder.publish(root, state.step, copy_of(folder), pointers=(LAST,))


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _repair_pointers(root: Path, state: TrainState) -> None:
    """Points ``last`` and ``best`` to what ``state`` says, and removes the folders that nothing names.

    A killed run may have moved ``last`` and not ``best``, or neither to a folder that it had written.
    """
    steps = {LAST: state.step}
    if state.best is not None:
        folder = checkpoint_folder.folder_name(state.best.step)
        if (root / folder).is_dir():
            steps[BEST] = state.best.step
        else:
            logging.warning(
                "The best checkpoint so far (%s, %s=%g) is gone; the best of what follows will be kept.",
                folder,
                state.best.metric,
                state.best.value,
            )
            state.best = None
    for name, step in steps.items():
        metrics = next((_validation(row) for row in state.history if row["step"] == step), {})
        content = {"folder": checkpoint_folder.folder_name(step), "step": step, "metrics": metrics}
        if checkpoint_folder.pointer(root, name) != content:
            files.write_json(root / f"{name}.json", content)
    if BEST not in steps:
        (root / f"{BEST}.json").unlink(missing_ok=True)
    named = {checkpoint_folder.folder_name(step) for step in steps.values()}
    for path in _step_folders(root):
        if path.name not in named:
            shutil.rmtree(path)


def _validation(row: Mapping[str, float]) -> dict[str, float]:
    return {k.removeprefix("validation/"): v for k, v in row.items() if k.startswith("validation/")}


def _step_folders(root: Path) -> list[Path]:
    """Checkpoint folders, oldest first. A user's own ``step-00000100-keep`` is none."""
    found = {}
    for path in root.glob("step-*"):
        step = path.name.removeprefix("step-")
        if step.isdecimal() and path.name == checkpoint_folder.folder_name(int(step)) and path.is_dir():
            found[int(step)] = path
    return [found[step] for step in sorted(found)]


def _clear_temporaries(root: Path) -> None:
    """Removes what a killed run had begun to write and not finished."""
    for path in root.glob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
