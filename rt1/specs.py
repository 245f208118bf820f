"""What RT-1 policies take and answer: the official actions, the food task's, and TF-Agents' specs of them."""

from collections.abc import Iterable, Mapping

import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from core.food import PARAMETERS
from core.spec import ArraySpec
from rt1.transformer_network import EMBEDDING, IMAGE

_END_EFFECTOR = "end effector, relative to the current pose, in the robot's base frame"
_BASE = "mobile base, relative to the current pose"
_PI = 3.1415927410125732

# Names, order and bounds of the released policies (policy_specs.pbtxt and RT-1's action order).
OFFICIAL_ACTIONS: tuple[ArraySpec, ...] = (
    ArraySpec(
        "terminate_episode",
        (3,),
        "int32",
        0,
        1,
        description="one-hot; the first element ends the episode",
    ),
    ArraySpec("world_vector", (3,), "float32", -1.0, 1.0, "m", _END_EFFECTOR, "change of position x, y, z"),
    ArraySpec(
        "rotation_delta",
        (3,),
        "float32",
        -_PI / 2,
        _PI / 2,
        "rad",
        _END_EFFECTOR,
        "change of roll, pitch, yaw",
    ),
    ArraySpec(
        "gripper_closedness_action",
        (1,),
        "float32",
        -1.0,
        1.0,
        "",
        "gripper",
        "positive closes, negative opens",
    ),
    ArraySpec(
        "base_displacement_vertical_rotation",
        (1,),
        "float32",
        -_PI,
        _PI,
        "rad",
        _BASE,
        "turn about the vertical",
    ),
    ArraySpec("base_displacement_vector", (2,), "float32", -1.0, 1.0, "m", _BASE, "change of position x, y"),
)

FOOD_ACTION = "bbox"
FOOD_ACTIONS: tuple[ArraySpec, ...] = (
    ArraySpec(
        FOOD_ACTION,
        (4,),
        "float32",
        0.0,
        1.0,
        "fraction of the image's width (x) and height (y)",
        "image, x to the right, y down",
        "execution parameters " + ", ".join(PARAMETERS),
    ),
)


def action_spec(actions: Iterable[ArraySpec]) -> dict[str, tensor_spec.BoundedTensorSpec]:
    """TF-Agents' specs of the actions, in their order."""
    result = {}
    for a in actions:
        low, high = a.bounds()
        dtype = tf.as_dtype(a.dtype)
        shape = tuple(s for s in a.shape if s is not None)
        result[a.name] = tensor_spec.BoundedTensorSpec(
            shape, dtype, low.astype(dtype.as_numpy_dtype), high.astype(dtype.as_numpy_dtype), a.name
        )
    return result


def observation_spec(
    height: int = 256, width: int = 320, image_dtype: str = "uint8", embedding_size: int = 512
) -> dict[str, tf.TensorSpec]:
    """The observations of single steps; the defaults are the released policies'."""
    return {
        IMAGE: tf.TensorSpec((height, width, 3), tf.as_dtype(image_dtype), IMAGE),
        EMBEDDING: tf.TensorSpec((embedding_size,), tf.float32, EMBEDDING),
    }


def time_step_spec(observations: Mapping[str, tf.TensorSpec]) -> ts.TimeStep:
    """TF-Agents' time step of single steps."""
    return ts.time_step_spec(dict(observations))
