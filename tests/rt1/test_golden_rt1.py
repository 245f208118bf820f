"""RT-1 against the recordings of the original code, on the same stand-in weights."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory as trajectory_lib

from core.named_variables import named_variables
from rt1 import losses, specs
from rt1.attention_mask import attention_mask
from rt1.checkpoints.dialects import NETWORK
from rt1.sequence_agent import SequenceAgent
from rt1.sequence_policy import SequencePolicy
from rt1.transformer_network import EMBEDDING, IMAGE, TransformerNetwork
from tests.golden_files import recordings
from tests.rt1.rt1_goldens import (
    config_of,
    embedding,
    fill_network,
    image,
    network_of,
    recorded_actions,
    windows,
)

LOGITS = 2e-4
BBOX = 1e-5
LOSS = 1e-5

passes = pytest.mark.parametrize("path", recordings("rt1_*.npz", exclude=["*_gradients.npz"]))
gradients = pytest.mark.parametrize("path", recordings("rt1_*_gradients.npz"))
food = pytest.mark.parametrize("path", recordings("hitl_*.npz"))


def _agent(network: TransformerNetwork, **arguments: object) -> SequenceAgent:
    return SequenceAgent(
        specs.time_step_spec(network.input_tensor_spec),
        network.output_tensor_spec,
        network,
        tf.keras.optimizers.Adam(1e-4),
        **arguments,
    )


def _experience(
    observation: dict[str, np.ndarray], actions: dict[str, np.ndarray], step_type: np.ndarray
) -> trajectory_lib.Trajectory:
    zeros = tf.zeros(step_type.shape, tf.float32)
    return trajectory_lib.Trajectory(
        step_type=tf.constant(step_type, tf.int32),
        observation={k: tf.constant(v) for k, v in observation.items()},
        action={k: tf.constant(v) for k, v in actions.items()},
        policy_info=(),
        next_step_type=tf.ones(step_type.shape, tf.int32),
        reward=zeros,
        discount=zeros,
    )


@pytest.fixture(scope="module")
def networks() -> dict[str, TransformerNetwork]:
    """Networks by recording, so that each is made once."""
    return {}


def _network(networks: dict[str, TransformerNetwork], path: Path) -> TransformerNetwork:
    if str(path) not in networks:
        networks[str(path)] = network_of(config_of(path))
    return networks[str(path)]


@passes
def test_golden_inputs_follow_the_recipe(path: Path) -> None:
    recording, config = np.load(path), config_of(path)
    first = config["first_image_seed"]
    crcs = [zlib.crc32(image(first + i).tobytes()) for i in range(len(recording["image_crc32"]))]
    np.testing.assert_array_equal(crcs, recording["image_crc32"])


@passes
def test_golden_mask(path: Path) -> None:
    recording, config = np.load(path), config_of(path)
    mask = attention_mask(config["time_sequence_length"], config["num_image_tokens"], 11)
    np.testing.assert_array_equal(mask, recording["mask"] == 1)


@passes
def test_golden_window_pass(path: Path, networks: dict[str, TransformerNetwork]) -> None:
    recording, config = np.load(path), config_of(path)
    network = _network(networks, path)
    observation = windows(config, 1, [config["embedding_seed"]])
    logits, aux = network.forward(observation)

    np.testing.assert_allclose(
        aux["prepared_image"][0, :4, :4], recording["d_prepared_image_crop"], atol=1e-4
    )
    blocks = [b.name for b in network.image_tokenizer.encoder.net.blocks]
    activations = [aux[name][0].numpy() for name in ("stem", *blocks, "top")]
    assert [a.shape for a in activations] == [tuple(s) for s in recording["d_block_shape"]]
    found = np.array([[a.mean(), a.std()] for a in activations])
    np.testing.assert_allclose(found, recording["d_block_mean_std"], atol=2e-5)
    np.testing.assert_allclose(aux["features"][0], recording["d_encoder_features"], atol=LOGITS)
    np.testing.assert_allclose(aux["image_tokens"], recording["a_image_tokens"], atol=LOGITS)
    np.testing.assert_allclose(logits, recording["a_logits"], atol=LOGITS)
    np.testing.assert_array_equal(network.tokens(logits), np.argmax(recording["a_logits"], -1))
    last = network.actions(logits[:, -1])
    for name, value in recorded_actions(recording, "a_out_").items():
        np.testing.assert_allclose(last[name], value, atol=1e-6)


@passes
def test_golden_other_instruction(path: Path, networks: dict[str, TransformerNetwork]) -> None:
    recording, config = np.load(path), config_of(path)
    network = _network(networks, path)
    logits, _ = network.forward(windows(config, 1, [config["other_embedding_seed"]]))
    np.testing.assert_allclose(logits, recording["a2_logits"], atol=LOGITS)


@passes
def test_golden_labels_and_losses(path: Path, networks: dict[str, TransformerNetwork]) -> None:
    recording, config = np.load(path), config_of(path)
    network = _network(networks, path)
    agent = _agent(network)
    observation = windows(config, 1, [config["embedding_seed"]])
    actions = recorded_actions(recording, "a_action_")
    t = config["time_sequence_length"]
    middle = np.full((1, t), ts.StepType.MID)
    ending = middle.copy()
    ending[0, -1] = ts.StepType.LAST

    info = agent.loss(_experience(observation, actions, middle))
    np.testing.assert_array_equal(info.extra["targets"], recording["a_labels"])
    np.testing.assert_allclose(info.extra["step_losses"], recording["a_loss_per_step"], atol=LOSS)
    masked = agent.loss(_experience(observation, actions, ending))
    np.testing.assert_allclose([info.loss, masked.loss], recording["a_agent_loss"], atol=LOSS)


@passes
def test_golden_rollout(path: Path, networks: dict[str, TransformerNetwork]) -> None:
    recording, config = np.load(path), config_of(path)
    network = _network(networks, path)
    policy = SequencePolicy(
        specs.time_step_spec(network.input_tensor_spec), network.output_tensor_spec, network
    )
    steps = len(recording["b_tokens"])
    step = tf.function(network.step)
    state = policy.get_initial_state(1)
    policy_state = policy.get_initial_state(1)
    for i in range(steps):
        observation = {
            IMAGE: tf.constant(image(config["first_image_seed"] + i)[None]),
            EMBEDDING: tf.constant(embedding(config["embedding_seed"])[None]),
        }
        logits, state, _ = step(observation, state)
        np.testing.assert_allclose(logits[0], recording["b_logits"][i], atol=LOGITS)
        np.testing.assert_array_equal(network.tokens(logits)[0], recording["b_tokens"][i])
        assert int(tf.squeeze(state["seq_idx"])) == recording["b_seq_idx_after"][i]

        time_step = ts.transition(observation, reward=tf.zeros([1])) if i else ts.restart(observation, 1)
        answer = policy.action(time_step, policy_state)
        policy_state = answer.state
        for name, value in recorded_actions(recording, "b_out_").items():
            np.testing.assert_allclose(answer.action[name][0], value[i], atol=1e-6)
    np.testing.assert_allclose(
        policy_state["context_image_tokens"][0, :, :, 0],
        recording["b_state_context_image_tokens"],
        atol=LOGITS,
    )
    np.testing.assert_array_equal(
        policy_state["action_tokens"][0, :, :, 0, 0], recording["b_state_action_tokens"]
    )


@gradients
def test_golden_gradients(path: Path) -> None:
    recording, config = np.load(path), config_of(path)
    network = network_of(config)
    agent = _agent(network)
    seeds = [config["embedding_seed"], config["other_embedding_seed"]]
    observation = windows(config, config["sequences"], seeds)
    actions = recorded_actions(recording, "action_")
    shape = (config["sequences"], config["time_sequence_length"])
    experience = _experience(observation, actions, np.full(shape, ts.StepType.MID))
    with tf.GradientTape() as tape:
        info = agent.loss(experience)
    np.testing.assert_allclose(info.loss, recording["loss"], atol=LOSS)

    variables = named_variables(network, NETWORK)
    names = [str(n) for n in recording["names"]]
    assert set(names) == {n for n, v in variables.items() if v.trainable}
    found = tape.gradient(info.loss, [variables[n] for n in names])
    for name, gradient, norm, head in zip(names, found, recording["norms"], recording["heads"], strict=True):
        if np.isnan(norm):
            assert gradient is None, name
            continue
        gradient = gradient.numpy()
        # Key biases and TokenLearner's output bias have only rounding noise.
        if name.endswith(("_key_dense/bias", "_output_layer/bias")):
            assert np.linalg.norm(gradient) < 1e-5, name
            continue
        np.testing.assert_allclose(np.linalg.norm(gradient), norm, rtol=2e-3, atol=1e-7, err_msg=name)
        size = min(8, gradient.size)
        np.testing.assert_allclose(
            gradient.ravel()[:size], head[:size], rtol=5e-3, atol=2e-3 * norm + 1e-8, err_msg=name
        )


@food
def test_golden_food(path: Path) -> None:
    recording = np.load(path)
    n = len(recording["labels_bbox"])
    is_regression = "inf_logits" not in recording.files
    loss_type = losses.SMOOTH_L1 if is_regression else losses.CROSS_ENTROPY
    network = fill_network(
        TransformerNetwork(
            specs.observation_spec(236, 236, "float32"),
            specs.action_spec(specs.FOOD_ACTIONS),
            head="regression" if is_regression else "cross_entropy",
            time_sequence_length=1,
        )
    )
    observation = {
        IMAGE: np.stack([image(20 + i, 236, 236) for i in range(n)])[:, None].astype(np.float32) / 255,
        EMBEDDING: np.stack([embedding(20 + i) for i in range(n)])[:, None],
    }
    scores, aux = network.forward(observation)
    np.testing.assert_allclose(aux["image_tokens"], recording["image_tokens"], atol=LOGITS)
    np.testing.assert_allclose(aux["transformer_output"], recording["inf_transformer_out"], atol=LOGITS)
    bbox = network.actions(scores)["bbox"][:, 0]
    np.testing.assert_allclose(bbox, recording["inf_bbox"], atol=BBOX)
    np.testing.assert_allclose(bbox, recording["train_bbox"], atol=BBOX)
    if not is_regression:
        np.testing.assert_allclose(scores[:, 0], recording["inf_logits"], atol=LOGITS)
        np.testing.assert_array_equal(network.tokens(scores), recording["train_predictions"])

    agent = _agent(network, loss_type=loss_type, loss_scale=losses.MEAN_SCALE)
    actions = {"bbox": recording["labels_bbox"].astype(np.float32)}
    info = agent.loss(_experience(observation, actions, np.full((n, 1), ts.StepType.MID)))
    np.testing.assert_allclose(np.squeeze(info.extra["targets"]), np.squeeze(recording["train_labels"]))
    np.testing.assert_allclose(info.loss, recording["train_loss"], atol=LOSS)
