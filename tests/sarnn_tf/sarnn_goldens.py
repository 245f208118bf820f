"""The recipe of SARNN's recordings: stand-in weights by PyTorch name, configurations from cases.json."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from core.named_variables import named_variables
from sarnn_tf.clip_sarnn import ClipSarnn
from sarnn_tf.sarnn import Sarnn
from sarnn_tf.torch_layout import load_torch, table
from tests.golden.golden_weights import fill


def cases_of(recording: Path) -> dict[str, dict]:
    """The configurations beside a recording, by case; of a stem that is not listed those of its beginning."""
    listed = json.loads((recording.parent / "cases.json").read_text())
    names = [name for name in listed if recording.stem.startswith(name)]
    if not names:
        raise KeyError(f"cases.json has no configuration of {recording.name}. Received: {sorted(listed)}")
    return listed[max(names, key=len)]


def stand_in(model: Sarnn | ClipSarnn) -> dict[str, np.ndarray]:
    """The recordings' weights for a model, by PyTorch name."""
    variables = named_variables(model)
    shapes = {
        k: e.to_torch(np.empty(variables[e.variable].shape, np.float32)).shape
        for k, e in table(model).items()
    }
    return {name: fill(name, shape) for name, shape in shapes.items()}


def filled(model: Sarnn | ClipSarnn) -> Sarnn | ClipSarnn:
    """The model with the recordings' weights."""
    load_torch(model, stand_in(model))
    return model


def images(recorded: np.ndarray) -> tf.Tensor:
    """Recorded uint8 frames as the model takes them."""
    return tf.constant(recorded.astype(np.float32) / 255)


def last_channels(recorded: np.ndarray) -> np.ndarray:
    """[..., c, h, w] as [..., h, w, c]."""
    return np.moveaxis(recorded, -3, -1)


def every_nth(image: np.ndarray, recorded_height: int) -> np.ndarray:
    """The pixels of [..., h, w, c] that a recording of that height kept."""
    n = image.shape[-3] // recorded_height
    return image[..., ::n, ::n, :]


def prefixed(recording: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """What a recording has under ``prefix`` and a dot, by the rest of the name."""
    return {k.removeprefix(prefix + "."): recording[k] for k in recording if k.startswith(prefix + ".")}
