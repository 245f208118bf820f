"""From the command line and gin to an RT-1 that can be trained."""

from collections.abc import Sequence
from pathlib import Path

import gin
import tensorflow as tf
from absl import logging

from core import checkpoint_folder
from core.spec import PolicySpec
from core.train_options import TrainOptions
from film_efficientnet.imagenet_weights import load_imagenet_weights
from language import TextEncoder, make_text_encoder, require_same_encoder
from rt1.checkpoints.load import load_weights
from rt1.food_trainable import make_food_trainable
from rt1.rlds_trainable import make_rlds_trainable
from rt1.rt1_trainable import RT1Trainable


def _require_its_encoder(checkpoint: Path, encoder: TextEncoder) -> None:
    """A pretrained network understands the embeddings that it was trained on, and no others."""
    try:
        spec = checkpoint_folder.resolve(checkpoint) / checkpoint_folder.SPEC
    except FileNotFoundError:
        logging.warning(
            "%s does not say which sentence encoder it was trained with (RT-1: USE-large/5); here it is %s. "
            "With another one it has to learn the instructions anew, which a frozen trunk cannot.",
            checkpoint,
            encoder.identity,
        )
        return
    require_same_encoder(PolicySpec.load(spec).encoder, encoder.identity, f"the pretrained {checkpoint}")


@gin.configurable(module="rt1", denylist=["options", "strategy"])
def make_trainable(
    options: TrainOptions,
    strategy: tf.distribute.Strategy,
    *,
    encoder_source: str = "embedded",
    new_ok: Sequence[str] = (),
    imagenet_weights: str | None = None,
) -> RT1Trainable:
    """Builds data, network and agent, and loads the pretrained weights.

    Args:
      options: what to train on and how.
      strategy: within which the variables are made.
      encoder_source: of the sentence encoder, for ``language.make_text_encoder``.
      new_ok: regular expressions for the official names of variables that a pretrained checkpoint need not
        have, or may have in another shape: a fresh head.
      imagenet_weights: Keras ``.h5`` file of the trunk's EfficientNet without its classifier; a pretrained
        checkpoint comes after it.

    Raises:
      ValueError: not exactly one of dataset_file and data_dir; what the parts raise.
    """
    if (options.dataset_file is None) == (options.data_dir is None):
        raise ValueError(
            "Training needs either --dataset_file (the food NPZ) or --data_dir (RLDS TFRecords). "
            f"Received: dataset_file={options.dataset_file}, data_dir={options.data_dir}"
        )
    encoder = make_text_encoder(encoder_source)
    trainable: RT1Trainable
    if options.dataset_file is not None:
        trainable = make_food_trainable(
            options.dataset_file,
            options.split_file,
            encoder,
            encoder_source,
            batch_size=options.batch_size,
            image_size=options.image_size,
            loss_type=options.loss_type,
            frozen=options.frozen,
            seed=options.seed,
            strategy=strategy,
        )
    else:
        trainable = make_rlds_trainable(
            options.data_dir,
            encoder,
            encoder_source,
            batch_size=options.batch_size,
            loss_type=options.loss_type,
            frozen=options.frozen,
            seed=options.seed,
            strategy=strategy,
        )
    if imagenet_weights is not None:
        trunk = trainable.network.image_tokenizer.encoder.net
        report = load_imagenet_weights(trunk, imagenet_weights)
        logging.info("ImageNet weights %s: %s", imagenet_weights, report.summary())
    if options.pretrained_checkpoint is not None:
        _require_its_encoder(options.pretrained_checkpoint, encoder)
        report = load_weights(trainable.network, options.pretrained_checkpoint, new_ok=new_ok)
        logging.info("Pretrained %s: %s", options.pretrained_checkpoint, report.summary())
    return trainable
