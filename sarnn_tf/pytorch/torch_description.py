"""What a SARNN of PyTorch is: sizes from its state dictionary, the rest from the training's ``args.json``.

The temperature, the heatmap's size and the bounds of the joints leave no trace in the weights.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from sarnn_tf.description import CLIP_SARNN, SARNN, SarnnDescription
from sarnn_tf.image_modality import IMAGE, ImageModality
from sarnn_tf.layers.conv_stack import BORDER
from sarnn_tf.networks.clip_sarnn import CLIP_FEATURES
from sarnn_tf.pytorch.torch_layout import COMPILED_PREFIX

OURS = "sarnn_tf"
"""Key of ``args.json`` under which an exported model has its whole description."""
_OF_TRAINING = ("vmin", "vmax", "temperature", "heatmap_size")
_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    SARNN: {"vmin": 0.0, "vmax": 1.0, "temperature": 1e-4, "heatmap_size": 0.1},
    CLIP_SARNN: {"vmin": 0.0, "vmax": 1.0, "temperature": 5e-5, "heatmap_size": 0.1},
}


def describe(
    state: Mapping[str, np.ndarray],
    arguments: Mapping[str, Any],
    given: Mapping[str, Any],
    clip_fingerprint: str = "",
) -> SarnnDescription:
    """A description of a PyTorch model.

    Args:
      state: torch name -> array.
      arguments: the training's ``args.json``: ``temperature``, ``heatmap_size``, ``vmin`` and ``vmax``, else
        the published defaults; of a model exported here all fields.
      given: fields of ``SarnnDescription`` that are known better: ``joint_bounds``; ``joint_names``, else
        ``joint_1``, …; ``transpose_heatmap``, which a CLIP-SARNN must say; ``instructions`` and so on.
      clip_fingerprint: of the frozen CLIP, where the model uses one.

    Raises:
      ValueError: the names or shapes are not a SARNN's, or something is not known.
    """
    if isinstance(arguments.get(OURS), Mapping):
        known = SarnnDescription.from_json(arguments[OURS])
        fingerprint = clip_fingerprint if known.uses_text else ""
        return dataclasses.replace(known, **given, clip_fingerprint=fingerprint)
    shapes = {name.removeprefix(COMPILED_PREFIX): np.shape(value) for name, value in state.items()}
    model = CLIP_SARNN if "decoder_joint.weight" in shapes else SARNN
    joints = _sizes(shapes, "decoder_joint.weight" if model == CLIP_SARNN else "decoder_joint.0.weight", 2)
    points = _sizes(shapes, "decoder_point.weight" if model == CLIP_SARNN else "decoder_point.0.weight", 2)
    grid = _sizes(shapes, "issm.pos_xy", 3)
    if any(name.startswith("streams.") for name in shapes):
        raise ValueError(
            "A model of several modalities needs the args.json it was exported with. "
            f"Received: {list(shapes)[:4]}"
        )
    if model == CLIP_SARNN and "transpose_heatmap" not in given:
        raise ValueError(
            "The file does not tell how the heatmap lies: say --transpose_heatmap for weights of the "
            "published training code, --no-transpose_heatmap otherwise. Received: neither"
        )
    if "joint_bounds" not in given:
        raise ValueError(
            "Joints need their bounds: --joint_bounds joint_bounds.npy of the training data, or --raw_joints "
            "as the published CLIP-SARNN trains. Received: neither"
        )
    use_clip = "pos_encoder.adapter_conv.weight" in shapes
    text = _sizes(shapes, "text_encoder.weight", 2) if "text_encoder.weight" in shapes else (0, CLIP_FEATURES)
    image = ImageModality(
        IMAGE,
        _sizes(shapes, "im_encoder.0.weight", 4)[1],
        points[0] // 2,
        (grid[1] + BORDER, grid[2] + BORDER),
        interpolation="area" if model == CLIP_SARNN else "linear",
    )
    fields: dict[str, Any] = {
        "model": model,
        "modalities": (image,),
        "joint_names": tuple(f"joint_{i + 1}" for i in range(joints[0])),
        "rec_dim": joints[1],
        "use_clip": use_clip,
        "clip_features": _sizes(shapes, "pos_encoder.adapter_conv.weight", 4)[1] if use_clip else text[1],
        "text_units": text[0],
        "clip_fingerprint": clip_fingerprint if use_clip or text[0] else "",
        **{name: setting(arguments, name, model) for name in _OF_TRAINING},
    }
    return SarnnDescription(**(fields | dict(given)))


def training_arguments(description: SarnnDescription, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An ``args.json`` as EIPL's scripts and ``describe`` read it.

    Args:
      description: of the model.
      arguments: those it came with, which are kept; empty for a model that was trained here.
    """
    named = {name: getattr(description, name) for name in (*_OF_TRAINING, "rec_dim")}
    named |= {"model": description.model, "k_dim": description.modalities[0].k_dim}
    return named | dict(arguments) | {OURS: dataclasses.asdict(description)}


def _sizes(shapes: Mapping[str, tuple[int, ...]], name: str, rank: int) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None or len(shape) != rank or 0 in shape:
        raise ValueError(
            f"The state dictionary of a SARNN must have {name} of rank {rank}. "
            f"Received: {shape if shape is not None else list(shapes)[:6]}"
        )
    return shape


def setting(arguments: Mapping[str, Any], name: str, model: str) -> float:
    """What a training's ``args.json`` says of ``vmin`` and so on, else the model's published default.

    Raises:
      ValueError: it is no number.
    """
    value = arguments.get(name, _DEFAULTS[model][name])
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} of the training's arguments must be a number. Received: {value!r}")
    return float(value)
