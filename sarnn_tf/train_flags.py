"""SARNN's flags of ``train.py``: the published ones, as gin bindings.

A flag that is left alone leaves the value of the configuration. This module needs no TensorFlow.
"""

import datetime
import functools
from pathlib import Path
from typing import Any

from absl import flags

from core import checkpoint_folder

SARNN, CLIP_SARNN = "sarnn", "clip_sarnn"
PREPARED = "prepared"
"""Beside the runs: the data as models see them. No run may be called so."""

BINDINGS = {
    "k_dim": "sarnn_tf.ImageModality.k_dim",
    "rec_dim": "sarnn_tf.make_description.rec_dim",
    "img_loss": "sarnn_tf.make_loss_weights.image",
    "joint_loss": "sarnn_tf.make_loss_weights.joint",
    "pt_loss": "sarnn_tf.make_loss_weights.point",
    "heatmap_size": "sarnn_tf.make_description.heatmap_size",
    "temperature": "sarnn_tf.make_description.temperature",
    "vmin": "sarnn_tf.make_description.vmin",
    "vmax": "sarnn_tf.make_description.vmax",
    "clip_checkpoint": "sarnn_tf.make_frozen_clip.folder",
}
"""Flag -> the parameter that it sets; ``no_clip``, ``stdev`` and ``epoch`` need more than that."""
_STDEV = {SARNN: "sarnn_tf.make_noise.joints", CLIP_SARNN: "sarnn_tf.make_noise.images"}
_ONLY_CLIP = ("no_clip", "clip_checkpoint")
OURS = ("log_dir", "tag", "epoch", "stdev", "no_clip", *BINDINGS)
# Flags of train.py that SARNN has no use for -> what it has instead.
_OTHERS = {
    "dataset_file": "its data are a folder, --data_dir",
    "split_file": "held-out episodes are the data's own, or drawn by their content",
    "image_size": "each kind of image has its own in the configuration: colour/sarnn_tf.ImageModality.size",
    "loss_type": "its losses are weighted by --img_loss, --joint_loss and --pt_loss",
}


def define(values: flags.FlagValues) -> None:
    """Adds the flags to ``values``. The numbers in brackets are what sarnn.gin and clip_sarnn.gin have."""
    text = functools.partial(flags.DEFINE_string, flag_values=values)
    whole = functools.partial(flags.DEFINE_integer, flag_values=values)
    number = functools.partial(flags.DEFINE_float, flag_values=values)
    # absl has a flag of this name for log files, which nothing here writes.
    text("log_dir", "log", "SARNN: folder of the runs; this one is LOG_DIR/TAG.", allow_override=True)
    text("tag", None, "SARNN: name of the run. Default: the time, for a fixed name would stand in the way.")
    whole("epoch", None, "SARNN: passes over the data, as --num_epochs (10000; 6000).", lower_bound=1)
    flags.DEFINE_bool(
        "no_clip", False, "clip_sarnn: finds points by convolutions, not by CLIP.", flag_values=values
    )
    text("clip_checkpoint", None, "clip_sarnn: folder of the frozen CLIP, which clip_tf.convert made.")
    whole("k_dim", None, "SARNN: attention points in each kind of image (5; 5).", lower_bound=1)
    whole("rec_dim", None, "SARNN: size of the recurrent state (50; 128).", lower_bound=1)
    number("img_loss", None, "SARNN: weight of predicted images (0.1; 1.0).", lower_bound=0)
    number("joint_loss", None, "SARNN: weight of predicted joints (1.0; 1.1).", lower_bound=0)
    number("pt_loss", None, "SARNN: weight of predicted points (0.1; 1.0).", lower_bound=0)
    number("heatmap_size", None, "SARNN: of the bumps around predicted points (0.1; 0.1).", lower_bound=0)
    number("temperature", None, "SARNN: of the spatial softmax (1e-4; 5e-5).", lower_bound=0)
    number(
        "stdev",
        None,
        "sarnn: noise on the joints it sees, as a share of vmax - vmin (0.1). clip_sarnn: noise on the "
        "images it sees, whose values are 0 to 1 (0.02; the published 0.5 drowns them).",
        lower_bound=0,
    )
    number("vmin", None, "SARNN: what the smallest joint positions are mapped to (0.0; 0.0).")
    number("vmax", None, "SARNN: what the largest joint positions are mapped to (1.0; 1.0).")


def check(values: flags.FlagValues) -> None:
    """Refuses flags of another model than ``--model``, and those that contradict each other.

    Raises:
      ValueError: names the flags.
    """
    model = values["model"].value
    if model not in (SARNN, CLIP_SARNN):
        wrong = [name for name in OURS if values[name].present]
    else:
        wrong = [name for name in _ONLY_CLIP if model == SARNN and values[name].present]
        for name in values:
            if name in _OTHERS and values[name].present:
                raise ValueError(
                    f"--{name} is not for --model={model}: {_OTHERS[name]}. Received: {values[name].value!r}"
                )
            if name.startswith("freeze_") and values[name].value:
                wrong.append(name)
    if wrong:
        raise ValueError(
            f"These flags are not for --model={model}. Received: {', '.join('--' + name for name in wrong)}"
        )
    if values["no_clip"].value and values["clip_checkpoint"].value is not None:
        raise ValueError(
            f"Either --no_clip or --clip_checkpoint. Received: both, with {values['clip_checkpoint'].value!r}"
        )


def num_epochs(values: flags.FlagValues) -> int | None:
    """Passes over the data by ``--epoch`` or ``--num_epochs``; None where neither is given.

    Raises:
      ValueError: they differ.
    """
    ours, general = values["epoch"].value, values["num_epochs"].value
    if None not in (ours, general) and ours != general:
        raise ValueError(f"--epoch and --num_epochs mean the same. Received: {ours} and {general}")
    return general if ours is None else ours


def bindings(values: flags.FlagValues) -> list[str]:
    """The flags that were set, as gin bindings."""
    model, found = str(values["model"].value), []
    for name, parameter in BINDINGS.items():
        if values[name].value is not None:
            found.append(f"{parameter} = {values[name].value!r}")
    if values["no_clip"].present:
        found.append(f"sarnn_tf.make_description.use_clip = {not values['no_clip'].value}")
    if values["stdev"].value is not None:
        found.append(f"{_STDEV[model]} = {values['stdev'].value!r}")
    return found


def run_folder(values: flags.FlagValues, now: datetime.datetime | None = None) -> Path | None:
    """The folder of this run.

    It is ``--checkpoint_dir`` where that is given, else ``--log_dir``/``--tag``. Without a tag a resumed run
    goes on in its own folder, and a new one is called after the time.

    Args:
      values: the flags.
      now: the time; None asks the clock.

    Returns:
      The folder; for other models what ``--checkpoint_dir`` says, or None.

    Raises:
      ValueError: flags contradict each other, the tag is no folder's name, or the folder holds an earlier run
        that is not to be resumed.
    """
    model, given = values["model"].value, values["checkpoint_dir"].value
    if model not in (SARNN, CLIP_SARNN):
        return None if given is None else Path(given)
    resumed, tag = values["resume_checkpoint"].value, values["tag"].value
    if given is not None:
        named = [f"--{name}" for name in ("log_dir", "tag") if values[name].present]
        if named:
            raise ValueError(
                f"The run's folder is --checkpoint_dir, or --log_dir and --tag. Received: --checkpoint_dir "
                f"and {', '.join(named)}"
            )
        folder = Path(given)
    elif tag is None and resumed is not None:
        path = Path(resumed)
        folder = path.parent if (path / checkpoint_folder.TRAIN_STATE).exists() else path
    else:
        tag = (now or datetime.datetime.now()).strftime("%Y%m%d_%H%M_%S") if tag is None else tag
        if tag in ("", ".", "..", PREPARED) or Path(tag).name != tag:
            raise ValueError(f"--tag must be the name of a folder, other than {PREPARED}. Received: {tag!r}")
        folder = Path(str(values["log_dir"].value)) / tag
    found = [] if resumed is not None else _earlier_run(folder)
    if found:
        raise ValueError(
            f"{folder} holds an earlier run ({', '.join(found)}), which is never overwritten. Give this one "
            f"another --tag, or continue that one by --resume_checkpoint={folder}. Received: {tag or given!r}"
        )
    return folder


def arguments(
    values: flags.FlagValues, module: str, epochs: int, batch_size: int, folder: Path
) -> dict[str, Any]:
    """All flags of a command, for ``args.json``.

    Args:
      values: the flags.
      module: whose key flags they are, ``sys.argv[0]``.
      epochs, batch_size, folder: what a run has where the flags were left alone.

    Returns:
      Flag -> value.
    """
    given = {flag.name: flag.value for flag in values.get_key_flags_for_module(module)}
    named = {"epoch": epochs, "num_epochs": epochs, "batch_size": batch_size, "tag": folder.name}
    return given | named | {"checkpoint_dir": str(folder), "log_dir": str(folder.parent)}


def _earlier_run(folder: Path) -> list[str]:
    """What in the folder shows that a run was there: ours, or one of the PyTorch originals."""
    names = [f"{checkpoint_folder.LAST}.json", f"{checkpoint_folder.BEST}.json", "metrics.csv"]
    found = [name for name in names if (folder / name).exists()]
    return found + sorted(p.name for pattern in ("step-*", "*.pth") for p in folder.glob(pattern))
