"""From the command line and gin to a SARNN that can be trained."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gin
import tensorflow as tf
from absl import logging

from core import checkpoint_folder, files
from core.load_report import LoadReport
from core.train_options import TrainOptions
from sarnn_tf.data import make_parts, make_prepared, make_source
from sarnn_tf.description import SARNN, SarnnDescription, make_description, read_description
from sarnn_tf.frozen_clip import FrozenClip, open_frozen_clip, random_frozen_clip
from sarnn_tf.image_modality import ImageModality
from sarnn_tf.learning.loss_scheduler import make_loss_scheduler
from sarnn_tf.learning.losses import LossWeights
from sarnn_tf.learning.optimizer import TorchAdam, make_adam
from sarnn_tf.networks.clip_sarnn import ClipSarnn
from sarnn_tf.networks.sarnn import Sarnn
from sarnn_tf.pytorch.torch_checkpoint import read_pth
from sarnn_tf.pytorch.torch_layout import load_torch
from sarnn_tf.train_flags import PREPARED
from sarnn_tf.trainable import Noise, SarnnTrainable, make_loss_weights, make_noise
from sarnn_tf.weights_file import WEIGHTS, load_weights

ARGUMENTS, CLIP = "args.json", "clip"
_TORCH = (".pth", ".pt", ".ckpt")
_LENGTH = ("epoch", "num_epochs", "max_steps")
"""Arguments that a resume may change; its fingerprint holds it to the others."""


@gin.configurable(module="sarnn_tf", denylist=["resumed"])
def make_frozen_clip(
    resumed: Path | None = None,
    *,
    folder: str | None = None,
    stand_in: Mapping[str, Any] | str | None = None,
    seed: int = 0,
) -> FrozenClip:
    """The frozen CLIP of a run.

    Args:
      resumed: that of the run that is resumed, used where no other is named.
      folder: of ``clip_tf.convert``.
      stand_in: a configuration in OpenCLIP's JSON layout, or its name: towers with random weights, to which
        words mean nothing, for tests and trials.
      seed: of the stand-in's weights.

    Raises:
      FileNotFoundError, ValueError: the folder is not there or damaged; nothing is named.
    """
    if folder is not None:
        return open_frozen_clip(folder)
    if resumed is not None and resumed.is_dir():
        return open_frozen_clip(resumed)
    if stand_in is not None:
        return random_frozen_clip(stand_in, seed)
    raise ValueError(
        "CLIP-SARNN looks with a frozen CLIP. Convert OpenAI's ViT-B/32 (ViT-B-32.pt, or an OpenCLIP file of "
        "it) by `python -m clip_tf.convert ViT-B-32.pt --config ViT-B-32-quickgelu --out clip_vit_b32`, and "
        "pass --clip_checkpoint=clip_vit_b32; or train without it by --no_clip, and text_units = 0. "
        "Received: neither"
    )


@gin.configurable(module="sarnn_tf", denylist=["options", "strategy"])
def make_trainable(
    options: TrainOptions,
    strategy: tf.distribute.Strategy,
    *,
    optimizer: Callable[..., TorchAdam] = make_adam,
    gradient_clip_norm: float | None = None,
    max_lengths: int = 4,
    picture_every_epochs: int = 10,
    prepared_dir: str | None = None,
    new_ok: Sequence[str] = (),
) -> SarnnTrainable:
    """Builds data, model and optimiser, and loads the pretrained weights.

    Once it runs, its folder gets ``args.json`` and, of a model with CLIP, the frozen towers. A resumed run
    keeps its ``args.json``, but for how long it is to train.

    Args:
      options: what to train on and how.
      strategy: within which the variables are made; of one replica.
      optimizer: makes one of the model's variables: ``make_adam`` or ``make_adamw``.
      gradient_clip_norm, max_lengths, picture_every_epochs: see ``SarnnTrainable``.
      prepared_dir: where the data are kept as the model sees them, CLIP's features among them; None for
        ``prepared`` beside the run's folder, so that all runs share it.
      new_ok: regular expressions for names of variables that a pretrained checkpoint need not have, or may
        have in another shape.

    Raises:
      FileNotFoundError, ValueError: what the parts raise.
    """
    _check(options, strategy)
    asked = _asked_description(options.model)
    _warn_of_bindings_without_effect(asked.modalities)
    run = None if options.resume_checkpoint is None else _run_of(options.resume_checkpoint)
    clip = make_frozen_clip(None if run is None else run / CLIP) if asked.uses_text else None
    prepared = make_prepared(
        make_source(options.data_dir),
        asked.modalities,
        clip,
        prepared_dir or options.checkpoint_dir.parent / PREPARED,
        patches=asked.use_clip,
    )
    parts = make_parts(prepared)
    logging.info("%d episodes train, %d are held out: %s", len(parts.train), len(parts.test), parts.rule)
    low, high = prepared.joint_bounds.tolist()
    description = dataclasses.replace(
        asked,
        joint_names=prepared.joint_names,
        joint_bounds=(tuple(low), tuple(high)),
        instructions=tuple(dict.fromkeys(text for text in prepared.instructions if text)),
        rate_hz=prepared.rate_hz,
        clip_features=asked.clip_features if clip is None else clip.features,
        clip_fingerprint="" if clip is None else clip.fingerprint,
    )
    if len(description.instructions) > 1 and not description.uses_text:
        logging.warning(
            "The data have %d instructions, and the model hears none: without CLIP's points words count only "
            "where sarnn_tf.make_description.text_units is above 0.",
            len(description.instructions),
        )
    with strategy.scope():
        model = description.make_model(options.seed)
        if options.pretrained_checkpoint is not None:
            report = load_pretrained(model, description, options.pretrained_checkpoint, new_ok=new_ok)
            logging.info("Pretrained %s: %s", options.pretrained_checkpoint, report.summary())
        optimiser = optimizer(model.trainable_variables)
    weights, noise = make_loss_weights(), make_noise()
    arguments = dict(options.arguments) | effective_arguments(description, weights, noise)

    def write_run_files(root: Path) -> None:
        goes_on = run is not None and run.resolve() == root.resolve()
        if clip is not None:
            _keep_clip(clip, root / CLIP, goes_on)
        _keep_arguments(root / ARGUMENTS, arguments, goes_on)

    return SarnnTrainable(
        model,
        description,
        prepared,
        parts,
        optimiser,
        strategy,
        batch_size=options.batch_size,
        scheduler=make_loss_scheduler(),
        weights=weights,
        noise=noise,
        gradient_clip_norm=gradient_clip_norm,
        max_lengths=max_lengths,
        picture_every_epochs=picture_every_epochs,
        seed=options.seed,
        write_run_files=write_run_files,
    )


def load_pretrained(
    model: Sarnn | ClipSarnn, description: SarnnDescription, path: Path, *, new_ok: Sequence[str] = ()
) -> LoadReport:
    """Sets a model's weights.

    Args:
      model: to set.
      description: of the model.
      path: a checkpoint or run folder of ours, or a PyTorch file (``SARNN.pth``, ``CLIP_SARNN.pth``).
      new_ok: names that may be new: ours, or PyTorch's for such a file.

    Returns:
      What was loaded.

    Raises:
      FileNotFoundError: there is nothing of the kind.
      ValueError: the weights do not fit, or belong to another frozen CLIP.
    """
    if path.is_file() or path.suffix in _TORCH:
        return load_torch(model, read_pth(path).state, new_ok=new_ok)
    folder = checkpoint_folder.resolve(path)
    before = read_description(folder)
    if before.use_clip and description.use_clip and before.clip_fingerprint != description.clip_fingerprint:
        raise ValueError(
            f"{folder} was trained with another frozen CLIP, whose features mean something else. "
            f"Received: {description.clip_fingerprint[:16]}, not {before.clip_fingerprint[:16]}"
        )
    same = ("joint_names", "joint_bounds", "vmin", "vmax")
    if any(getattr(before, name) != getattr(description, name) for name in same):
        logging.warning(
            "%s was trained with other joints, bounds or ranges: its joints mean something else until they "
            "are learnt anew.",
            folder,
        )
    return load_weights(model, folder / WEIGHTS, new_ok=new_ok)


def effective_arguments(
    description: SarnnDescription, weights: LossWeights, noise: Noise
) -> dict[str, float | int | bool | dict[str, int]]:
    """What the published flags stand for in a run, whether given or left to the configuration."""
    points = {m.name: m.k_dim for m in description.modalities}
    return {
        "no_clip": not description.use_clip,
        "k_dim": points if len(set(points.values())) > 1 else next(iter(points.values())),
        "rec_dim": description.rec_dim,
        "img_loss": weights.image,
        "joint_loss": weights.joint,
        "pt_loss": weights.point,
        "heatmap_size": description.heatmap_size,
        "temperature": description.temperature,
        "stdev": noise.joints if description.model == SARNN else noise.images,
        "vmin": description.vmin,
        "vmax": description.vmax,
    }


def _check(options: TrainOptions, strategy: tf.distribute.Strategy) -> None:
    """Refuses what SARNN cannot be trained with."""
    if options.data_dir is None or options.dataset_file is not None:
        raise ValueError(
            "SARNN is trained on --data_dir: RLDS TFRecords, NPZ episodes, or EIPL's arrays. "
            f"Received: data_dir={options.data_dir}, dataset_file={options.dataset_file}"
        )
    for path in (options.resume_checkpoint, options.pretrained_checkpoint):
        # Data may take hours to prepare: what is missing is better said before.
        if path is not None and not path.exists():
            raise FileNotFoundError(f"There is no such run or checkpoint. Received: {path}")
        if path is not None and path.is_dir() and not _has_checkpoints(path):
            checkpoint_folder.resolve(path)
    if options.frozen:
        raise ValueError(f"SARNN has no parts to freeze. Received: {options.frozen}")
    mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)
    if mirrored or strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "SARNN trains on one device: a batch has few episodes, and they differ in length. Use "
            f"make_strategy.name = 'default' or one device. Received: {type(strategy).__name__} of "
            f"{strategy.num_replicas_in_sync} replicas"
        )


def _asked_description(model: str) -> SarnnDescription:
    """What gin configures, with joints and bounds that the data will replace."""
    fixed = {"use_clip": False} if model == SARNN else {}
    return make_description(("joint",), [[0.0], [1.0]], model=model, **fixed)


def _warn_of_bindings_without_effect(modalities: Sequence[ImageModality]) -> None:
    """A value for all kinds of images gives way to those that the configuration has for each of them."""
    for name, value in gin.get_bindings("sarnn_tf.ImageModality").items():
        common = tuple(value) if isinstance(value, list) else value
        if all(getattr(modality, name) != common for modality in modalities):
            logging.warning(
                "sarnn_tf.ImageModality.%s = %r has no effect: each kind of image has its own. Bind it with "
                "its scope, e.g. colour/sarnn_tf.ImageModality.%s. Received: %s",
                name,
                value,
                name,
                {modality.name: getattr(modality, name) for modality in modalities},
            )


def _has_checkpoints(folder: Path) -> bool:
    return any(folder.glob("step-*"))


def _run_of(path: Path) -> Path:
    """The run that a checkpoint belongs to."""
    return path.parent if (path / checkpoint_folder.SPEC).exists() else path


def _keep_clip(clip: FrozenClip, folder: Path, goes_on: bool) -> None:
    """Writes the frozen towers into the run, once: every checkpoint of it needs them."""
    if folder.exists():
        if open_frozen_clip(folder).fingerprint == clip.fingerprint:
            return
        if goes_on:
            raise ValueError(f"A resumed run has the frozen CLIP that it began with. Received: not {folder}")
        shutil.rmtree(folder)  # Of a run that ended before its first checkpoint.
    clip.save(folder)


def _keep_arguments(path: Path, values: Mapping[str, Any], goes_on: bool) -> None:
    """Writes ``args.json`` into the run's folder; of a run that goes on only how long it is to train."""
    if goes_on and path.exists():
        before = files.read_json(path)
        if not isinstance(before, dict):
            raise ValueError(f"{path} must hold an object. Received: {type(before).__name__}")
        values = before | {name: values[name] for name in _LENGTH if name in values}
    files.write_text(path, _json(values))


def _json(values: Mapping[str, Any]) -> str:
    """As the originals write it."""
    return json.dumps(values, indent=4, sort_keys=True, default=str) + "\n"
