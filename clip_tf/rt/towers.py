"""The CLIP towers as CLIP-RT's training sees them: three parts that can be frozen, one batch to encode."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from clip_tf import converted_folder
from clip_tf.clip_model import ClipModel, openclip_variables
from clip_tf.rt import samples
from clip_tf.rt.objective import Features, unit_length
from clip_tf.weights.safetensors_file import open_safetensors

LOG_SCALE = "logit_scale"
IMAGE_TOWER, TEXT_TOWER = "image_tower", "text_tower"
PARTS = (IMAGE_TOWER, TEXT_TOWER, LOG_SCALE)


def part_of(name: str) -> str:
    """The part of the model that an OpenCLIP parameter name belongs to."""
    if name == LOG_SCALE:
        return LOG_SCALE
    return IMAGE_TOWER if name.startswith("visual.") else TEXT_TOWER


def trained_parameters(model: ClipModel, frozen: Sequence[str]) -> dict[str, tf.Variable]:
    """OpenCLIP name -> variable of what is not frozen.

    Raises:
      ValueError: a part that there is not, or all of them frozen.
    """
    unknown = sorted(set(frozen) - set(PARTS))
    if unknown:
        raise ValueError(f"Parts of CLIP-RT that can be frozen: {PARTS}. Received: {unknown}")
    found = {n: v for n, v in openclip_variables(model).items() if part_of(n) not in frozen}
    if not found:
        raise ValueError(f"Something must be left to train. Received: frozen={list(frozen)}")
    return found


def encode_batch(model: ClipModel, batch: Mapping[str, tf.Tensor]) -> Features:
    """Unit-length features of a batch; both texts of an example go through the tower in one call."""
    image, _ = model.encode_image(batch[samples.IMAGE])
    texts = tf.concat([batch[samples.INSTRUCTION], batch[samples.SUPERVISION]], axis=0)
    both, _ = model.encode_text(texts)
    instruction, supervision = tf.split(unit_length(both), 2)
    return Features(unit_length(image), instruction, supervision)


def load_weights(model: ClipModel, folder: str | Path) -> None:
    """Sets every variable from a converted folder, one after another.

    Raises:
      FileNotFoundError: a file of the folder is missing.
      ValueError: the folder is of another configuration, or a weight does not fit.
    """
    config, _ = converted_folder.read_description(folder)
    if config != model.config:
        raise ValueError(
            f"The weights must be of the configuration {model.config}. Received: {config} in {folder}"
        )
    path = Path(folder) / converted_folder.WEIGHTS
    with open_safetensors(path) as tensors:
        converted_folder.check(tensors, config).raise_unless_ok(f"{path}")
        converted_folder.assign(model, tensors)
