"""A small RT-1 for tests: everything of the real one, at 32 pixels and a few thousand weights."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory as trajectory_lib

from core.named_variables import named_variables
from core.spec import ArraySpec
from rt1 import losses, specs
from rt1.sequence_agent import SequenceAgent
from rt1.sequence_policy import SequencePolicy
from rt1.transformer_network import EMBEDDING, IMAGE, DropoutRates, TransformerNetwork

SIZE, WINDOW, VOCABULARY = 32, 3, 32


def tiny_network(
    head: str = "cross_entropy",
    *,
    actions: Sequence[ArraySpec] | None = None,
    rates: DropoutRates | None = None,
    height: int = SIZE,
    width: int = SIZE,
    embedding_size: int = 8,
    seed: int = 0,
    **changes: object,
) -> TransformerNetwork:
    """A network with random weights in every variable, so that each of them matters to the output.

    Args:
      head, changes: arguments of ``TransformerNetwork``.
      actions: None takes RT-1's, or the food task's where the head is of regression.
      rates: None for no dropout at all.
      height, width, embedding_size: of the observations.
      seed: of the weights.
    """
    if actions is None:
        actions = specs.FOOD_ACTIONS if head == "regression" else specs.OFFICIAL_ACTIONS
    arguments = {
        "time_sequence_length": WINDOW,
        "vocab_size": VOCABULARY,
        "token_embedding_size": 16,
        "num_layers": 2,
        "layer_size": 8,
        "num_heads": 2,
        "feed_forward_size": 16,
        "num_image_tokens": 4,
        "efficientnet_variant": "tiny",
        "encoder_image_size": SIZE,
    }
    network = TransformerNetwork(
        specs.observation_spec(height, width, embedding_size=embedding_size),
        specs.action_spec(actions),
        head=head,
        dropout_rates=rates or DropoutRates.none(),
        **{**arguments, **changes},
    )
    network.create_variables()
    randomise(network, seed)
    return network


def randomise(network: TransformerNetwork, seed: int) -> None:
    """Moves every weight away from what it begins at; input normalisation and variances stay."""
    rng = np.random.default_rng(seed)
    for name, variable in named_variables(network).items():
        is_statistic = "layer_with_weights-0/" in name or name.endswith("moving_variance")
        if is_statistic or not variable.dtype.is_floating:
            continue
        shape = variable.shape.as_list()
        if len(shape) == 1:
            middle = 0.5 if "_regression_output" in name else 0.0
            variable.assign_add(middle + rng.normal(0.0, 0.1, shape).astype(np.float32))
            continue
        # About unit gain (swish and squeeze-excite shrink); positions are a table; FiLM's would drown the
        # image in the instruction; regressed values are to lie around the middle of their bounds.
        scale = {"_position_emb": 1.0, "_projection_add": 0.8, "_projection_mult": 0.3}
        scale["_regression_output"] = 0.02
        fan = np.prod(shape[:2] if name.endswith("depthwise_kernel") else shape[:-1])
        factor = scale.get(name.split("/")[-2], (1.5 if len(shape) == 4 else 1.3) / np.sqrt(fan))
        variable.assign(rng.normal(0.0, factor, shape).astype(np.float32))


def observations(
    b: int, t: int = WINDOW, *, size: int = SIZE, embedding_size: int = 8, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random frames of few colours, and one instruction a sequence: [b, t, …]."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (b, t, 4, 4, 3))
    image = blocks.repeat(size // 4, axis=2).repeat(size // 4, axis=3).astype(np.uint8)
    embedding = rng.normal(size=(b, 1, embedding_size)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=-1, keepdims=True)
    return {IMAGE: image, EMBEDDING: np.repeat(embedding, t, axis=1)}


def actions_of(network: TransformerNetwork, b: int, t: int = WINDOW, seed: int = 0) -> dict[str, np.ndarray]:
    """Random actions within their bounds: [b, t, k]."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, VOCABULARY, (b, t, network.action_tokenizer.tokens_per_action))
    found = network.action_tokenizer.detokenize(tf.constant(tokens, tf.int32))
    return {name: value.numpy() for name, value in found.items()}


def experience(
    network: TransformerNetwork,
    b: int = 2,
    *,
    seed: int = 0,
    step_type: np.ndarray | None = None,
    embedding_size: int = 8,
) -> trajectory_lib.Trajectory:
    """A batch of windows with random actions; all steps are in the middle unless said otherwise."""
    t = network.time_sequence_length
    types = np.full((b, t), ts.StepType.MID) if step_type is None else step_type
    zeros = tf.zeros((b, t), tf.float32)
    observation = observations(b, t, seed=seed, embedding_size=embedding_size)
    return trajectory_lib.Trajectory(
        step_type=tf.constant(types, tf.int32),
        observation={k: tf.constant(v) for k, v in observation.items()},
        action={k: tf.constant(v) for k, v in actions_of(network, b, t, seed).items()},
        policy_info=(),
        next_step_type=tf.constant(types, tf.int32),
        reward=zeros,
        discount=zeros,
    )


def tiny_agent(
    network: TransformerNetwork,
    optimizer: tf.keras.optimizers.Optimizer | None = None,
    **arguments: object,
) -> SequenceAgent:
    """An agent whose loss fits the network's head, unless said otherwise; Adam, no random shift."""
    loss_type = losses.CROSS_ENTROPY if network.head == "cross_entropy" else losses.SMOOTH_L1
    return SequenceAgent(
        specs.time_step_spec(network.input_tensor_spec),
        network.output_tensor_spec,
        network,
        optimizer or tf.keras.optimizers.Adam(1e-2),
        **{"loss_type": loss_type, "random_shift": False, **arguments},
    )


def tiny_policy(network: TransformerNetwork) -> SequencePolicy:
    return SequencePolicy(
        specs.time_step_spec(network.input_tensor_spec), network.output_tensor_spec, network
    )


def values_of(network: TransformerNetwork) -> list[np.ndarray]:
    """A copy of every variable."""
    return [v.numpy().copy() for v in network.variables]
