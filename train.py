"""Trains a policy: ``python train.py --model rt1 --dataset_file food.npz --checkpoint_dir runs/food``."""

import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gin
from absl import app, flags, logging

from clip_tf.rt import train_flags as clip_rt_flags
from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)
from core.train_options import TrainOptions
from sarnn_tf import train_flags as sarnn_flags
from training.console import USER_ERRORS, message_of, quiet_libraries
from training.loop import LoopSettings, run
from training.strategy import make_strategy


class Model(NamedTuple):
    """Module with make_trainable(options, strategy), default configuration, default batch size."""

    module: str
    config: str
    batch_size: int


MODELS = {
    "rt1": Model("rt1.experiment", "configs/transformer_mixin.gin", 16),
    "clip_rt": Model("clip_tf.rt.experiment", "configs/clip_rt_finetune.gin", 16),
    "sarnn": Model("sarnn_tf.experiment", "configs/sarnn.gin", 5),
    "clip_sarnn": Model("sarnn_tf.experiment", "configs/clip_sarnn.gin", 4),
}
LOSS_TYPES = ("cross_entropy", "l1", "smooth_l1")
FREEZABLE = ("efficientnet", "tokenlearner", "transformer", "image_tower", "text_tower", "logit_scale")

FLAGS = flags.FLAGS
flags.DEFINE_enum("model", "rt1", sorted(MODELS), "What to train.")
flags.DEFINE_string("config_file", None, "gin file; the default follows --model.")
flags.DEFINE_multi_string("gin_bindings", [], "gin bindings, after the file: 'LearningRate.peak = 3e-4'.")
flags.DEFINE_string("checkpoint_dir", None, "Folder of this run; default: runs/MODEL; SARNN LOG_DIR/TAG.")
flags.DEFINE_string("pretrained_checkpoint", None, "Weights to begin with, of any dialect.")
flags.DEFINE_string("resume_checkpoint", None, "Run or checkpoint folder to continue.")
flags.DEFINE_integer(
    "batch_size", None, "Examples, windows or episodes in a step (16; sarnn 5, clip_sarnn 4).", lower_bound=1
)
flags.DEFINE_integer("num_epochs", None, "Epochs in all; the default is gin's, else 30.", lower_bound=1)
flags.DEFINE_integer("max_steps", None, "Optimiser steps in all, where that is fewer.", lower_bound=1)
flags.DEFINE_enum("loss_type", "smooth_l1", LOSS_TYPES, "Loss of RT-1; it decides its head.")
for _part in FREEZABLE:
    flags.DEFINE_bool(f"freeze_{_part}", False, f"Keeps the {_part}'s weights.")
flags.DEFINE_string("dataset_file", None, "The food data set (NPZ), or CLIP-RT's CSV.")
flags.DEFINE_string("data_dir", None, "Folder of RLDS TFRecords, or of WebDataset shards.")
flags.DEFINE_string("split_file", None, "train_idx and val_idx (NPZ); absent: a seeded 80/20 split.")
flags.DEFINE_integer("image_size", 236, "To which the food images are brought, in pixels.", lower_bound=8)
flags.DEFINE_integer("seed", 0, "Of everything that is drawn.", lower_bound=0)
sarnn_flags.define(FLAGS)
flags.adopt_module_key_flags(sarnn_flags)  # --help shows them.


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)


def main(arguments: list[str]) -> None:
    """Reads the flags and gin, and trains."""
    if len(arguments) > 1:
        raise app.UsageError(f"Everything is a flag. Received: {arguments[1:]}")
    quiet_libraries()
    sarnn_flags.check(FLAGS)
    clip_rt_flags.check(FLAGS)
    model, epochs = MODELS[FLAGS.model], sarnn_flags.num_epochs(FLAGS)
    checkpoint_dir = sarnn_flags.run_folder(FLAGS) or Path(f"runs/{FLAGS.model}")
    experiment = importlib.import_module(model.module)  # Registers what gin configures.
    root, config = Path(__file__).resolve().parent, FLAGS.config_file or model.config
    if not any(candidate.is_file() for candidate in (Path(config), root / config)):
        raise FileNotFoundError(f"There is no such --config_file, here or in {root}. Received: {config}")
    # They look into Python packages and fail at a folder that is none; no public way takes them out.
    del gin.config._FILE_READERS[1:]
    gin.add_config_file_search_path(str(root))
    # A schedule that ends with the run asks for the macro too.
    macros = [] if epochs is None else [f"NUM_EPOCHS = {epochs}"]
    bindings = [*FLAGS.gin_bindings, *macros, *sarnn_flags.bindings(FLAGS)]
    gin.parse_config_files_and_bindings([config], bindings)
    num_epochs: dict[str, Any] = {} if epochs is None else {"num_epochs": epochs}
    settings = LoopSettings(checkpoint_dir, max_steps=FLAGS.max_steps, seed=FLAGS.seed, **num_epochs)
    batch_size = FLAGS.batch_size or model.batch_size
    options = TrainOptions(
        checkpoint_dir=checkpoint_dir,
        dataset_file=_path(FLAGS.dataset_file),
        data_dir=_path(FLAGS.data_dir),
        split_file=_path(FLAGS.split_file) or checkpoint_dir / "split.npz",
        batch_size=batch_size,
        image_size=FLAGS.image_size,
        loss_type=FLAGS.loss_type,
        pretrained_checkpoint=_path(FLAGS.pretrained_checkpoint),
        frozen=tuple(part for part in FREEZABLE if FLAGS[f"freeze_{part}"].value),
        seed=FLAGS.seed,
        model=FLAGS.model,
        resume_checkpoint=_path(FLAGS.resume_checkpoint),
        arguments=sarnn_flags.arguments(FLAGS, arguments[0], settings.num_epochs, batch_size, checkpoint_dir),
    )
    trainable = experiment.make_trainable(options, make_strategy())
    result = run(trainable, settings, FLAGS.resume_checkpoint)
    best = result.best and f"{result.best.metric} {result.best.value:.5g} at {result.best_folder}"
    logging.info("Best: %s; last at %s.", best or "nothing was validated", result.last_folder)


def report_errors(arguments: list[str]) -> None:
    """Runs ``main``; what a user can put right is a message and status 1, not a traceback."""
    try:
        main(arguments)
    except USER_ERRORS as error:
        logging.debug("The error came from here:", exc_info=True)  # --verbosity=1 shows it.
        sys.exit(message_of(error))


if __name__ == "__main__":
    app.run(report_errors)
