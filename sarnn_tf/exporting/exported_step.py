"""What ``export`` writes: one step, the transforms inside, the state outside, as a TensorFlow function.

It takes what a robot has, images in the model's size and joints in rad, and answers joints in rad. It is the
step of ``SarnnPolicy`` with the numpy parts as operations of the graph; ``export`` compares the two.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from sarnn_tf.description import JOINTS, SarnnDescription
from sarnn_tf.frozen_clip import FrozenClip
from sarnn_tf.image_modality import IMAGE, ImageModality
from sarnn_tf.layers.lstm_cell import LstmState
from sarnn_tf.networks.clip_sarnn import Observations
from sarnn_tf.normalization import moving
from sarnn_tf.policy_folder import LoadedSarnn
from sarnn_tf.prediction import predict_step
from sarnn_tf.serving_policy import INPUT_PARAM, STEP

PATCHES, TEXT = "patches", "text"
Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Array:
    """One input or output.

    Attributes:
      name: of it.
      shape: without the axis of the clients.
      dtype: a numpy type name.
      meaning: a sentence.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    meaning: str


@dataclasses.dataclass(frozen=True)
class StepSignature:
    """The arrays of an exported step.

    Attributes:
      inputs: what is new in every step.
      outputs: what is answered.
      state: what comes out of one step and goes into the next one under the same names; zeros before the
        first step.
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    state: tuple[Array, ...]


def signature_of(description: SarnnDescription, clip: FrozenClip | None, with_clip: bool) -> StepSignature:
    """The arrays of a model's step.

    Args:
      description: of the model.
      clip: the frozen CLIP; None where the model uses none.
      with_clip: CLIP's image tower is part of the step; else its patches are an input.

    Raises:
      ValueError: a modality's name cannot be that of an input, or there is no tower to take in.
    """
    odd = [m.name for m in description.modalities if not m.name.isidentifier()]
    if odd:
        raise ValueError(f"Names of exported modalities must be identifiers. Received: {odd}")
    if with_clip and not description.use_clip:
        raise ValueError("This model does not look through CLIP: there is no tower to export. Received: none")
    count = description.joint_dim
    order = ", ".join(description.joint_names)
    inputs = [
        Array(m.name, (*m.size, m.channels), raw_type(m), _image_meaning(m)) for m in description.modalities
    ]
    inputs.append(Array(JOINTS, (count,), "float32", f"measured, rad: {order}"))
    if description.use_clip and not with_clip and clip is not None:
        shape = (clip.grid, clip.grid, description.clip_features)
        text = f"CLIP's patch map of the {IMAGE!r} as the model sees it, that is, after the mixing"
        inputs.append(Array(PATCHES, shape, "float32", text))
    if description.uses_text:
        text = "CLIP's embedding of the instruction, of unit length"
        inputs.append(Array(TEXT, (description.clip_features,), "float32", text))
    text = f"share of what is measured in what is seen, 0 to 1, the rest was predicted; 1 while {STEP} is 0"
    inputs.append(Array(INPUT_PARAM, (), "float32", text))
    outputs = [Array(JOINTS, (count,), "float32", f"for the next step, rad: {order}")]
    for m in description.modalities:
        text = "of (x, y), 0 at the left or top, 1 at the right or bottom"
        outputs.append(Array(f"encoder_points_{m.name}", (m.k_dim, 2), "float32", f"looked at, {text}"))
        outputs.append(Array(f"decoder_points_{m.name}", (m.k_dim, 2), "float32", f"expected next, {text}"))
    state = [Array(name, (description.rec_dim,), "float32", "recurrent state") for name in ("h", "c")]
    for m in description.modalities:
        text = "predicted for the next step, trained towards 0 to 1"
        state.append(Array(f"predicted_{m.name}", (*m.size, m.channels), "float32", text))
    text = "predicted for the next step, normalised"
    state.append(Array(f"predicted_{JOINTS}", (count,), "float32", text))
    state.append(Array(STEP, (), "int32", "steps that were answered"))
    return StepSignature(tuple(inputs), tuple(outputs), tuple(state))


def frozen_step(
    loaded: LoadedSarnn, signature: StepSignature, batch: int | None
) -> tf.types.experimental.ConcreteFunction:
    """The step as a function of named tensors, with the weights as constants: it needs no object beside it.

    Args:
      loaded: the model.
      signature: of ``signature_of`` the model.
      batch: number of clients; None for any.

    Returns:
      A concrete function of the inputs and the state by name, with a dictionary of outputs and state.
    """
    arrays = (*signature.inputs, *signature.state)
    specs = {a.name: tf.TensorSpec([batch, *a.shape], tf.as_dtype(a.dtype), a.name) for a in arrays}
    traced = tf.function(_step(loaded, signature)).get_concrete_function(**specs)
    names = sorted(traced.structured_outputs)  # As TensorFlow flattens a dictionary.
    constant = convert_variables_to_constants_v2(traced)
    graph = constant.graph.as_graph_def()
    for node in graph.node:
        # Left by functions with a gradient of their own; whoever loads the file would be warned about it.
        node.attr.pop("_gradient_op_type", None)
    imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    order = [tensor.op.name for tensor in constant.inputs]
    pruned = imported.prune(
        [imported.graph.get_tensor_by_name(tensor.name) for tensor in constant.inputs],
        [imported.graph.get_tensor_by_name(tensor.name) for tensor in constant.outputs],
    )
    shapes = {a.name: [batch, *a.shape] for a in (*signature.outputs, *signature.state)}

    def named(**tensors: tf.Tensor) -> Tensors:
        answers = pruned(*[tensors[name] for name in order])
        return {name: tf.ensure_shape(x, shapes[name]) for name, x in zip(names, answers, strict=True)}

    return tf.function(named).get_concrete_function(**specs)


def _step(loaded: LoadedSarnn, signature: StepSignature) -> Callable[..., Tensors]:
    description = loaded.description
    low, high = description.bounds
    # A joint that never moves keeps its distance from the bound, see ``normalization``.
    moves = moving(description.bounds)
    span = np.float32(description.vmax - description.vmin)
    scale = np.where(moves, span / np.where(moves, high - low, 1), 1).astype(np.float32)
    vmin = np.float32(description.vmin)
    eye = None
    if description.use_clip and PATCHES not in {a.name for a in signature.inputs}:
        eye = loaded.clip

    def step(**tensors: tf.Tensor) -> Tensors:
        share = tf.where(tensors[STEP] > 0, tensors[INPUT_PARAM], 1.0)

        def mixed(measured: tf.Tensor, name: str) -> tf.Tensor:
            p = tf.reshape(share, [-1] + [1] * (len(measured.shape) - 1))
            return p * measured + (1.0 - p) * tensors[f"predicted_{name}"]

        seen = {m.name: mixed(_unit(tensors[m.name], m), m.name) for m in description.modalities}
        joints = mixed((tensors[JOINTS] - low) * scale + vmin, JOINTS)
        patches = tensors.get(PATCHES) if eye is None else eye.encode_images(seen[IMAGE])
        output, state, _ = predict_step(
            loaded.model,
            Observations(seen, joints, patches, tensors.get(TEXT)),
            LstmState(tensors["h"], tensors["c"]),
        )
        answers = {JOINTS: (output.joints - vmin) / scale + low, "h": state.h, "c": state.c}
        for m in description.modalities:
            answers[f"predicted_{m.name}"] = output.images[m.name]
            for kind, points in (("encoder", output.encoder_points), ("decoder", output.decoder_points)):
                answers[f"{kind}_points_{m.name}"] = tf.reshape(points[m.name], [-1, m.k_dim, 2])
        return answers | {f"predicted_{JOINTS}": output.joints, STEP: tensors[STEP] + 1}

    return step


def _unit(raw: tf.Tensor, modality: ImageModality) -> tf.Tensor:
    """``preparation.to_unit`` as operations; TFLite casts uint16 to int32 only."""
    return tf.minimum(tf.cast(tf.cast(raw, tf.int32), tf.float32) / modality.full_scale, 1.0)


def raw_type(modality: ImageModality) -> str:
    """Type of a modality's images as they are recorded."""
    return "uint8" if modality.full_scale <= 255 else "uint16"


def _image_meaning(modality: ImageModality) -> str:
    kind = "RGB" if modality.channels == 3 else "one channel"
    return f"{kind}, resized by OpenCV; {modality.full_scale:g} and beyond is seen as 1"


def zeros(arrays: tuple[Array, ...], batch: int) -> Mapping[str, np.ndarray]:
    """The state of clients before their first step."""
    return {a.name: np.zeros((batch, *a.shape), a.dtype) for a in arrays}
