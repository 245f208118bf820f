"""A folder with a CLIP model: weights, configuration, activation, epsilon and preprocessing.

::

    open_clip_config.json         model_cfg, preprocess_cfg
    open_clip_model.safetensors   OpenCLIP's keys and layout; the configuration again in its header

OpenCLIP can read the folder as well (``local-dir:``). The two copies of the configuration must agree: an
activation or a mean that was edited in one gives plausible, wrong features.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from clip_tf.clip_model import ClipModel, openclip_variables
from clip_tf.image_preprocessing import Preprocessing
from clip_tf.model_config import ClipConfig
from clip_tf.transformer import Policy
from clip_tf.weights.layout import from_openclip, openclip_shapes, to_openclip
from clip_tf.weights.safetensors_file import Entry, open_safetensors, read_metadata, write_safetensors
from clip_tf.weights.stored_tensor import Tensors
from core.files import atomic_folder, read_json, write_json
from core.load_report import LoadReport, compare

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_METADATA = "clip"


def save_clip(folder: str | Path, model: ClipModel, preprocessing: Preprocessing | None = None) -> None:
    """Writes a model as a new folder, its variables in their own type.

    Args:
      folder: to be made.
      model: the model.
      preprocessing: of its images; None for OpenAI's, at the model's size.

    Raises:
      FileExistsError: the folder exists.
      ValueError: the preprocessing is for another size.
    """
    variables = openclip_variables(model)

    def entry(key: str) -> Entry:
        variable = variables[key]
        shape = openclip_shapes(model.config)[key]
        dtype = np.dtype(variable.dtype.as_numpy_dtype)
        return Entry(key, shape, dtype, lambda: to_openclip(key, variable.numpy()))

    how = preprocessing or Preprocessing(model.config.vision.image_size)
    write_folder(folder, model.config, how, [entry(key) for key in openclip_shapes(model.config)])


def write_folder(
    folder: str | Path, config: ClipConfig, preprocessing: Preprocessing, entries: Sequence[Entry]
) -> None:
    """As ``save_clip``, from tensors in OpenCLIP's layout."""
    if preprocessing.size != config.vision.image_size:
        raise ValueError(
            f"The preprocessing must be for {config.vision.image_size} pixels. Received: {preprocessing}"
        )
    described = {"model_cfg": config.to_json(), "preprocess_cfg": preprocessing.to_json()}
    with atomic_folder(folder) as temporary:
        write_json(temporary / CONFIG, described)
        write_safetensors(temporary / WEIGHTS, entries, {_METADATA: json.dumps(described), "format": "pt"})


def load_clip(folder: str | Path, dtype: Policy = "float32") -> ClipModel:
    """Reads a folder that ``save_clip`` or ``python -m clip_tf.convert`` wrote.

    Args:
      folder: the folder.
      dtype: Keras policy, as for ``ClipModel``; the weights are cast to its variables' type.

    Raises:
      FileNotFoundError: there is no such folder, or a file in it is missing.
      ValueError: the configuration is not the one that the weights were written with, or a weight is
        missing, unexpected, of another shape or not finite.
    """
    config, _ = read_description(folder)
    with open_safetensors(Path(folder) / WEIGHTS) as tensors:
        report = check(tensors, config)
        report.raise_unless_ok(f"{Path(folder) / WEIGHTS}")
        model = ClipModel(config, dtype, seed=None)
        assign(model, tensors)
    return model


def load_preprocessing(folder: str | Path) -> Preprocessing:
    """What a converted model's images go through; errors as for ``load_clip``."""
    return read_description(folder)[1]


def read_description(folder: str | Path) -> tuple[ClipConfig, Preprocessing]:
    """Configuration and preprocessing of a folder; errors as for ``load_clip``."""
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"A converted CLIP must have {CONFIG}, as python -m clip_tf.convert writes it. Received: {folder}"
        )
    described = read_json(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"A converted CLIP must have {WEIGHTS}. Received: {folder}")
    stored = read_metadata(folder / WEIGHTS).get(_METADATA)
    if stored is None:
        raise ValueError(
            f"{folder / WEIGHTS} was not written by clip_tf.convert. Received: no configuration in it"
        )
    try:
        repeated = json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{folder / WEIGHTS}: its configuration must be JSON. Received: {error}") from error
    if repeated != described:
        raise ValueError(
            f"{folder / CONFIG} is not the configuration that its weights were written with. "
            f"Received: {_differences(repeated, described)}"
        )
    if not isinstance(described, dict) or not isinstance(described.get("preprocess_cfg"), dict):
        raise ValueError(
            f"{folder / CONFIG} must have model_cfg and preprocess_cfg. Received: {described!r:.200}"
        )
    config = ClipConfig.from_json(described)
    return config, Preprocessing.from_json(described["preprocess_cfg"], config.vision.image_size)


def check(tensors: Tensors, config: ClipConfig, unknown: Sequence[str] = ()) -> LoadReport:
    """Compares tensors, by OpenCLIP's keys and in its layout, with what a configuration needs.

    Args:
      tensors: key -> tensor.
      config: the configuration.
      unknown: names that no rule renamed.
    """
    return compare({k: t.shape for k, t in tensors.items()}, openclip_shapes(config), unmatched=unknown)


def assign(model: ClipModel, tensors: Tensors) -> None:
    """Sets every variable of a model, one by one, from tensors by OpenCLIP's keys and in its layout."""
    variables = openclip_variables(model)
    for key, variable in tqdm(variables.items(), desc="weights", unit="variable", disable=None):
        value = from_openclip(key, tensors[key].read())
        if not np.isfinite(value).all():
            raise ValueError(f"Weights must be finite. Received: {key}")
        variable.assign(tf.cast(value, variable.dtype))


def _differences(ours: Any, theirs: Any, prefix: str = "") -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted({*ours, *theirs})
        return [d for k in keys for d in _differences(ours.get(k), theirs.get(k), f"{prefix}{k}.")]
    return [] if ours == theirs else [f"{prefix[:-1]}: {ours!r} became {theirs!r}"]
