"""Turns PyTorch's SARNN and CLIP-SARNN into checkpoints of ours, and back, without PyTorch.

python -m sarnn_tf.convert log/run/SARNN.pth --joint_bounds data/joint_bounds.npy --out converted
python -m sarnn_tf.convert log/run/CLIP_SARNN.pth --raw_joints --transpose_heatmap --out converted
python -m sarnn_tf.convert converted --to_torch --out log/exported

A converted folder is laid out as a run's: one checkpoint, and the frozen CLIP where the model uses one. What
an ``args.json`` beside the ``.pth`` says of the training is taken from there. An exported folder is laid out
as EIPL's: ``SARNN.pth`` or ``CLIP_SARNN.pth`` with its ``args.json``; EIPL's key names, order and types.
"""

import argparse
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from core import checkpoint_folder, files
from sarnn_tf.description import CLIP_SARNN, SARNN, SarnnDescription, read_description, write_description
from sarnn_tf.frozen_clip import open_frozen_clip
from sarnn_tf.image_modality import IMAGE
from sarnn_tf.networks.clip_sarnn import ClipSarnn
from sarnn_tf.networks.sarnn import Sarnn
from sarnn_tf.policy_folder import CLIP
from sarnn_tf.pytorch.torch_checkpoint import TEST_LOSS, TRAIN_LOSS, TorchCheckpoint, read_pth, write_pth
from sarnn_tf.pytorch.torch_description import describe, setting, training_arguments
from sarnn_tf.pytorch.torch_layout import is_compiled, load_torch, to_torch
from sarnn_tf.pytorch.torch_tower import read_tower, save_tower
from sarnn_tf.weights_file import WEIGHTS, load_weights, save_weights

ARGUMENTS, ORIGIN = "args.json", "torch.json"
"""EIPL's record of a training; ours, in a checkpoint, of the file that it was converted from."""
FILE_NAMES = {SARNN: "SARNN.pth"}
_CLIP_SARNN_FILE = "CLIP_SARNN.pth"


def convert(
    path: str | Path,
    out: str | Path,
    *,
    raw_joints: bool = False,
    clip: str | Path | None = None,
    **given: Any,
) -> SarnnDescription:
    """Reads a ``.pth`` file and writes a folder that ``policy_folder.load_checkpoint`` takes.

    Args:
      path: of the file; what its ``args.json`` says is used where one lies beside it.
      out: the folder to make.
      raw_joints: joints were not normalised, as the published CLIP-SARNN trains.
      clip: a folder of ``clip_tf.convert``, for a model with CLIP; None for the tower in the file.
      **given: fields of ``SarnnDescription`` that the file does not tell, see ``torch_description.describe``;
        ``joint_bounds``, or ``raw_joints``, is needed.

    Returns:
      The description of the model.

    Raises:
      FileNotFoundError: a file is not there.
      FileExistsError: ``out`` exists.
      ValueError: the file is damaged or hostile, its weights are not finite or not a SARNN's, or something
        is not known.
    """
    path, out = Path(path), Path(out)
    if out.exists():
        raise FileExistsError(f"The folder to write exists already. Received: {out}")
    if path.is_dir():
        raise ValueError(f"A .pth file is read; a checkpoint's folder goes --to_torch. Received: {path}")
    checkpoint = read_pth(path)
    arguments = _read_object(path.parent / ARGUMENTS)
    if raw_joints:
        if "joint_bounds" in given:
            raise ValueError("Joints have bounds or are raw. Received: joint_bounds and raw_joints")
        given["joint_bounds"] = _unit_bounds(checkpoint.state, arguments | given)
    with files.atomic_folder(out) as temporary:
        fingerprint = ""
        if _needs_clip(checkpoint.state):
            if clip is None:
                save_tower(temporary / CLIP, path)
            else:
                shutil.copytree(clip, temporary / CLIP)
            fingerprint = open_frozen_clip(temporary / CLIP).fingerprint
        elif clip is not None:
            raise ValueError(f"{path}: this model uses no CLIP. Received: {clip}")
        description = describe(checkpoint.state, arguments, given, fingerprint)
        model = description.make_model()
        load_torch(model, checkpoint.state)
        _publish(temporary, model, description, checkpoint, arguments)
    return description


def export(path: str | Path, out: str | Path, *, with_clip: bool = False) -> Path:
    """Writes a checkpoint of ours as EIPL's trainer would have; warns of what the original does otherwise.

    Args:
      path: a checkpoint folder, or a run's.
      out: the folder to make.
      with_clip: put the run's frozen CLIP into the file, as the published CLIP-SARNN has it.

    Returns:
      The ``.pth`` file.

    Raises:
      FileNotFoundError: a file is not there.
      FileExistsError: ``out`` exists.
      ValueError: the checkpoint is damaged, or has no CLIP to put in or no colour image.
    """
    folder, out = checkpoint_folder.resolve(path), Path(out)
    description = read_description(folder)
    images = {m.name: m for m in description.modalities}
    if IMAGE not in images:
        raise ValueError(f"Only a model that sees {IMAGE!r} has a PyTorch original. Received: {list(images)}")
    if with_clip and not description.use_clip:
        raise ValueError(f"{folder}: this model uses no CLIP. Received: with_clip")
    for difference in _differences(description):
        logging.warning("%s: the published CLIP-SARNN %s.", folder, difference)
    tower = read_tower(folder.resolve().parent / CLIP, description.clip_fingerprint) if with_clip else None
    model = description.make_model()
    load_weights(model, folder / WEIGHTS)
    origin = _read_object(folder / ORIGIN) or _read_object(folder / checkpoint_folder.TRAIN_STATE)
    state = to_torch(model, *images[IMAGE].size, compiled=bool(origin.get("compiled")))
    with files.atomic_folder(out) as temporary:
        name = FILE_NAMES.get(description.model, _CLIP_SARNN_FILE)
        write_pth(
            temporary / name,
            state,
            epoch=int(origin.get("epoch") or 0),
            train_loss=_loss(origin.get(TRAIN_LOSS)),
            test_loss=_loss(origin.get(TEST_LOSS)),
            tower=tower,
        )
        arguments = training_arguments(description, origin.get("args", {}))
        files.write_json(temporary / ARGUMENTS, arguments)
    return out / name


def _differences(description: SarnnDescription) -> list[str]:
    """What the published CLIP-SARNN does otherwise with the same weights; of plain SARNN nothing."""
    if description.model == SARNN:
        return []
    raw = tuple((v,) * description.joint_dim for v in (description.vmin, description.vmax))
    others = [m.name for m in description.modalities if m.name != IMAGE]
    found = {
        "mirrors the decoder's heatmap, and predicts other images": not description.transpose_heatmap,
        "takes raw joints, where these weights want them normalised": description.joint_bounds != raw,
        f"does not see {', '.join(others)}": bool(others),
        "does not tell its recurrent net the words": description.text_units > 0,
    }
    return [text for text, so in found.items() if so]


def _publish(
    out: Path,
    model: Sarnn | ClipSarnn,
    description: SarnnDescription,
    checkpoint: TorchCheckpoint,
    arguments: Mapping[str, Any],
) -> None:
    losses = {TRAIN_LOSS: checkpoint.train_loss, TEST_LOSS: checkpoint.test_loss}
    finite = {name: x for name, x in losses.items() if x is not None and math.isfinite(x)}
    origin = {"epoch": checkpoint.epoch, **finite, "compiled": is_compiled(checkpoint.state)}

    def write(folder: Path) -> None:
        write_description(folder, description)
        save_weights(model, folder / WEIGHTS)
        files.write_json(folder / ORIGIN, origin | {"args": dict(arguments)})

    both = (checkpoint_folder.LAST, checkpoint_folder.BEST)
    checkpoint_folder.publish(out, 0, write, pointers=both, metrics=finite)


def _needs_clip(state: Mapping[str, np.ndarray]) -> bool:
    return any(name.endswith(("pos_encoder.adapter_conv.weight", "text_encoder.weight")) for name in state)


def _unit_bounds(
    state: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Bounds under which normalising changes nothing."""
    joints = next((len(v) for k, v in state.items() if k.endswith("decoder_joint.weight") and v.ndim), 0)
    if not joints:
        raise ValueError("Only the published CLIP-SARNN trains on raw joints. Received: raw_joints")
    low, high = (setting(settings, name, CLIP_SARNN) for name in ("vmin", "vmax"))
    return (low,) * joints, (high,) * joints


def _read_object(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where there is none."""
    if not path.is_file():
        return {}
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object. Received: {type(value).__name__}")
    return value


def _loss(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 converted, 1 refused, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m sarnn_tf.convert", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("path", metavar="IN", type=Path, help=".pth file; with --to_torch a checkpoint")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    parser.add_argument("--to_torch", action="store_true", help="export instead")
    parser.add_argument("--with_clip", action="store_true", help="export the frozen CLIP in the file too")
    parser.add_argument("--joint_bounds", type=_bounds, help="joint_bounds.npy of the training data, [2, P]")
    parser.add_argument("--raw_joints", action="store_true", default=None, help="joints were not normalised")
    parser.add_argument("--joint_names", type=_names, help="separated by commas; else joint_1, …")
    parser.add_argument("--instruction", action="append", dest="instructions", help="of the training data")
    parser.add_argument("--rate_hz", type=float, help="steps a second of the training data")
    parser.add_argument("--transpose_heatmap", action=argparse.BooleanOptionalAction, help="of a CLIP-SARNN")
    parser.add_argument("--clip", type=Path, help="folder of clip_tf.convert; else the tower in the file")
    for name in ("temperature", "heatmap_size", "vmin", "vmax"):
        parser.add_argument(f"--{name}", type=float, help="else of args.json, or as published")
    options = vars(parser.parse_args(arguments))
    exported, with_clip = options.pop("to_torch"), options.pop("with_clip")
    given = {name: value for name, value in options.items() if value is not None}
    if with_clip and not exported:
        parser.error("--with_clip belongs to --to_torch")
    if exported and given.keys() != {"path", "out"}:
        parser.error(
            f"--to_torch takes what the checkpoint says, no {sorted(given.keys() - {'path', 'out'})}"
        )
    try:
        sys.stdout.write(_run(given, exported, with_clip) + "\n")
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _run(given: dict[str, Any], exported: bool, with_clip: bool) -> str:
    if exported:
        return str(export(**given, with_clip=with_clip))
    out = given["out"]
    description = convert(**given)
    return (
        f"{out}: {description.model}, {description.joint_dim} joints, images "
        f"{description.modalities[0].size}, temperature {description.temperature}, heatmap_size "
        f"{description.heatmap_size}"
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _bounds(path: str) -> tuple[tuple[float, ...], ...]:
    try:
        bounds = np.load(path, allow_pickle=False)
        return tuple(tuple(row) for row in np.asarray(bounds, np.float64).tolist())
    except (OSError, EOFError, TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path} is no array of bounds [2, P]: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
