"""The CLIP towers as CLIP-RT's training sees them: three parts that can be frozen, one batch to encode."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from clip_tf import converted_folder
from clip_tf.clip_model import ClipModel, openclip_variables
from clip_tf.model_config import ClipConfig
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


def check_config(config: ClipConfig, folder: str | Path) -> None:
    """Raises:
    FileNotFoundError: the folder is none of ``clip_tf.convert``.
    ValueError: it is of another configuration.
    """
    if not (Path(folder) / converted_folder.CONFIG).is_file():
        raise FileNotFoundError(
            f"Weights to begin with are a folder that clip_tf.convert wrote, or a run of CLIP-RT. "
            f"Received: {folder}"
        )
    stored, _ = converted_folder.read_description(folder)
    if stored != config:
        raise ValueError(
            f"The weights must be of the configuration {config}; another is named by --gin_bindings "
            f"\"clip_rt.make_model.name = 'ViT-B-32-quickgelu'\", or clip_rt.make_model.fields. "
            f"Received: {stored} in {folder}"
        )


def load_weights(model: ClipModel, folder: str | Path) -> None:
    """Sets every variable from a converted folder, one after another.

    Raises:
      FileNotFoundError: a file of the folder is missing.
      ValueError: the folder is of another configuration, or a weight does not fit.
    """
    check_config(model.config, folder)
    path = Path(folder) / converted_folder.WEIGHTS
    with open_safetensors(path) as tensors:
        converted_folder.check(tensors, model.config).raise_unless_ok(f"{path}")
        converted_folder.assign(model, tensors)
