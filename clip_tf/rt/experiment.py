"""From the command line and gin to a CLIP-RT that can be trained."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gin
import numpy as np
import tensorflow as tf
from absl import logging

from clip_tf.clip_model import ClipModel
from clip_tf.converted_folder import load_preprocessing
from clip_tf.image_preprocessing import Preprocessing
from clip_tf.model_config import ClipConfig
from clip_tf.rt import samples
from clip_tf.rt.csv_data import open_csv
from clip_tf.rt.optimizer import make_optimizer, make_schedule
from clip_tf.rt.policy_folder import CLIP, PolicyDescription, make_description
from clip_tf.rt.rlds_data import open_rlds_samples
from clip_tf.rt.samples import SampleSource
from clip_tf.rt.towers import check_config, load_weights, trained_parameters
from clip_tf.rt.trainable import ClipRtTrainable
from clip_tf.rt.webdataset_data import open_webdataset
from clip_tf.tokenizer import check_vocab_size
from core import checkpoint_folder
from core.train_options import TrainOptions


@gin.configurable(module="clip_rt", allowlist=["name", "fields", "dtype"])
def make_model(
    pretrained: Path | None,
    *,
    name: str = "ViT-H-14-378-quickgelu",
    fields: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    seed: int = 0,
    resumed: bool = False,
) -> ClipModel:
    """The towers, with pretrained weights where there are any.

    Args:
      pretrained: a folder of ``clip_tf.convert``, or a checkpoint of CLIP-RT.
      name: of an OpenCLIP configuration; the pretrained one must have the same.
      fields: a configuration in OpenCLIP's JSON layout, instead of the name.
      dtype: a Keras policy that stores variables in float32: ``float32`` or ``mixed_bfloat16``.
      seed: of fresh weights.
      resumed: the weights will be those of a checkpoint; none are drawn or loaded here.

    Raises:
      FileNotFoundError, ValueError: the pretrained weights are not there, or of another configuration; the
        text tower has fewer rows than the tokenizer has ids.
    """
    config = ClipConfig.from_name(name) if fields is None else ClipConfig.from_json(dict(fields))
    check_vocab_size(config.text.vocab_size)
    if pretrained is not None:  # Before a model of a billion numbers is made.
        check_config(config, clip_folder(pretrained))
    model = ClipModel(config, dtype=dtype, seed=None if resumed else seed)
    if resumed:
        return model
    if pretrained is None:
        logging.warning(
            "CLIP-RT begins with random towers. The published ones begin with DFN5B's weights: convert them "
            "with clip_tf.convert and name the folder as --pretrained_checkpoint."
        )
    else:
        load_weights(model, clip_folder(pretrained))
    return model


def preprocessing_of(pretrained: Path | None, model: ClipModel) -> Preprocessing:
    """What the pretrained model's images went through, or OpenAI's preprocessing."""
    if pretrained is None:
        return Preprocessing(model.config.vision.image_size)
    return load_preprocessing(clip_folder(pretrained))


def clip_folder(path: Path) -> Path:
    """The converted CLIP that a path means: itself, or the one in a checkpoint or run of CLIP-RT."""
    try:
        return checkpoint_folder.resolve(path) / CLIP
    except FileNotFoundError:
        return path


def open_source(options: TrainOptions, description: PolicyDescription) -> SampleSource:
    """The data that the command line names.

    Raises:
      ValueError: not exactly one of dataset_file and data_dir; what the sources raise.
    """
    if (options.dataset_file is None) == (options.data_dir is None):
        raise ValueError(
            "Training needs either --dataset_file (a CSV of filepath, caption, supervision, label) or "
            "--data_dir (WebDataset shards, or RLDS TFRecords). "
            f"Received: dataset_file={options.dataset_file}, data_dir={options.data_dir}"
        )
    vocabulary = description.vocabulary
    if options.dataset_file is not None:
        return open_csv(options.dataset_file, len(vocabulary), vocabulary=vocabulary)
    folder = Path(options.data_dir or "")
    if any(folder.rglob("*.tar")):
        return open_webdataset(folder, len(vocabulary), vocabulary=vocabulary)
    return open_rlds_samples(folder, vocabulary)


@gin.configurable(module="clip_rt", denylist=["options", "strategy"])
def make_trainable(
    options: TrainOptions,
    strategy: tf.distribute.Strategy,
    *,
    chunks: int = 1,
    augment: bool = True,
    balance: float = 0.0,
    gradient_clip_norm: float | None = None,
    best_metric: str = "loss",
    answer_seen_classes: bool = False,
) -> ClipRtTrainable:
    """Builds data, towers and optimiser, and loads the pretrained weights.

    Args:
      options: what to train on and how; ``loss_type``, ``image_size`` and ``split_file`` are other models'.
      strategy: within which the variables are made.
      chunks, augment, balance, gradient_clip_norm, best_metric: see ``ClipRtTrainable``.
      answer_seen_classes: the policy answers only classes that the training data have, see
        ``PolicyDescription.classes``; for towers that begin at random.

    Raises:
      FileNotFoundError, ValueError: what the parts raise.
    """
    description = make_description()
    source = open_source(options, description)
    if answer_seen_classes:
        seen = tuple(int(i) for i in np.flatnonzero(source.counts(samples.TRAIN)))
        description = dataclasses.replace(description, classes=seen)
    whole, rest = divmod(int(source.counts(samples.TRAIN).sum()), options.batch_size)
    # A last batch that cannot be shared out among replicas and chunks is left out.
    steps = whole + (1 if rest and strategy.num_replicas_in_sync * chunks == 1 else 0)
    if not steps:
        raise ValueError(
            f"A batch of {options.batch_size} in {chunks} chunks needs as many samples. "
            f"Received: {rest} for training"
        )
    schedule = make_schedule(steps)
    with strategy.scope():
        resumed = options.resume_checkpoint is not None
        model = make_model(options.pretrained_checkpoint, seed=options.seed, resumed=resumed)
        optimizer = make_optimizer(trained_parameters(model, options.frozen))
    return ClipRtTrainable(
        model,
        preprocessing_of(options.pretrained_checkpoint, model),
        description,
        source,
        optimizer,
        schedule,
        strategy,
        batch_size=options.batch_size,
        frozen=options.frozen,
        chunks=chunks,
        augment=augment,
        balance=balance,
        gradient_clip_norm=gradient_clip_norm,
        best_metric=best_metric,
        seed=options.seed,
    )
