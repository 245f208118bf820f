"""Finding out what a folder of recorded episodes holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import gin

from episodes import eipl_arrays
from episodes.tasks import load_table
from sarnn_tf.data import converted
from sarnn_tf.data.eipl_source import EiplSource
from sarnn_tf.data.npz_source import NpzSource
from sarnn_tf.data.recorded_episode import TRAIN, EpisodeSource, RecordedEpisode
from sarnn_tf.data.rlds_source import RldsSource

__all__ = ["EpisodeSource", "RecordedEpisode", "make_source", "open_source"]

_ARRAYS = "data"  # Where ``episodes.convert`` and EIPL's downloads have the arrays.


def open_source(
    path: str | Path,
    *,
    instruction: str = "",
    task_table: str | Path | None = None,
    tasks_by_thirds: Sequence[str] = (),
    fields: Mapping[str, str] | None = None,
    trim_repeats: bool = True,
    channel_order: str = eipl_arrays.BGR,
) -> EpisodeSource:
    """Opens a folder of episodes; what it holds is found out.

    Args:
      path: a folder that ``episodes.convert`` wrote, in any of its formats; or one of RLDS TFRecords
        (``dataset_info.json``), of EIPL's arrays (``train/joints.npy``), or of NPZ files, one episode each.
      instruction: of every episode, in place of the data set's own.
      task_table: NPZ files only: CSV or JSON of file -> instruction, see ``episodes.tasks``.
      tasks_by_thirds: NPZ files only: the instructions of the first, second … part of the sorted files, as
        the published CLIP-SARNN takes them.
      fields: RLDS only: modality, ``joints`` or ``instruction`` -> path of the step's feature, for data sets
        of others, e.g. ``{"image": "observation/image_0", "joints": "observation/state"}``. Modalities may
        have names of their own, such as ``wrist``.
      trim_repeats: EIPL's arrays without ``lengths.npy`` only: steps at the end that repeat the joints and
        all images of the step before are taken for padding, and left out.
      channel_order: EIPL's arrays only: ``bgr``, or ``rgb``, as EIPL's robosuite data are.

    Raises:
      FileNotFoundError: there is no such folder, or none of the three in it.
      ValueError: it is damaged, or an argument does not belong to its kind.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no such folder of episodes. Received: {folder}")
    only_npz = {"task_table": task_table, "tasks_by_thirds": tasks_by_thirds}
    folder = converted.version_folder(folder)
    for place in (folder, folder / _ARRAYS):
        if any((place / part / "joints.npy").exists() for part in eipl_arrays.SPLITS):
            _refuse(place, "EIPL's arrays", {**only_npz, "fields": fields})
            return EiplSource(
                place, instruction=instruction, trim_repeats=trim_repeats, channel_order=channel_order
            )
    if (folder / "dataset_info.json").exists():
        _refuse(folder, "an RLDS data set", only_npz)
        return RldsSource(folder, instruction=instruction, fields=fields)
    if any(folder.glob("*.npz")) or any((folder / TRAIN).glob("*.npz")):
        _refuse(folder, "NPZ files", {"fields": fields})
        table = None if task_table is None else load_table(task_table)
        return NpzSource(
            folder, instruction=instruction, task_table=table, tasks_by_thirds=tuple(tasks_by_thirds)
        )
    below = _data_sets_below(folder)
    hint = f"Below it there are data sets; name one: {', '.join(map(str, below[:10]))}. " if below else ""
    content = sorted(p.name for p in folder.iterdir())
    raise FileNotFoundError(
        f"{folder} must hold dataset_info.json (RLDS), train/joints.npy (EIPL) or *.npz (an episode each). "
        f"{hint}Received a folder of: {content[:20]}"
    )


make_source = gin.external_configurable(open_source, "make_source", module="sarnn_tf.data")


def _data_sets_below(folder: Path) -> list[Path]:
    """Folders that could be meant; hidden ones are not."""
    signs = ("dataset_info.json", f"{TRAIN}/joints.npy", "*.npz")
    found = {
        file.parent.parent if sign.startswith(TRAIN) else file.parent
        for depth in ("*", "*/*")
        for sign in signs
        for file in folder.glob(f"{depth}/{sign}")
    }
    return sorted(p for p in found if not any(x.startswith(".") for x in p.relative_to(folder).parts))


def _refuse(folder: Path, kind: str, options: Mapping[str, object]) -> None:
    given = [name for name, value in options.items() if value]
    if given:
        raise ValueError(f"{folder} holds {kind}, which know no such option. Received: {given}")
