"""What a training step changes, what it leaves, and what it does not see."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory as trajectory_lib

from rt1 import losses
from rt1.sequence_agent import SequenceAgent
from rt1.transformer_network import DropoutRates, TransformerNetwork
from tests.rt1.tiny_rt1 import WINDOW, experience, tiny_agent, tiny_network, values_of
from tests.shared_data import ROOT

FRAMES = WINDOW
STEP_TOKENS = 4 + 11


@pytest.fixture(scope="module")
def network() -> TransformerNetwork:
    """For tests that do not train."""
    return tiny_network()


@pytest.fixture(scope="module")
def agent(network: TransformerNetwork) -> SequenceAgent:
    return tiny_agent(network)


@pytest.fixture(scope="module")
def loss_of(agent: SequenceAgent) -> Callable[..., tf.Tensor]:
    return lambda e, w: agent.loss(e, weights=w).loss


def _weights(values: list[list[float]]) -> tf.Tensor:
    return tf.constant(values, tf.float32)


ALL = [[1.0] * FRAMES] * 2


def _other_actions(batch: trajectory_lib.Trajectory, step: int) -> trajectory_lib.Trajectory:
    """The batch with other actions at one step of its first window."""
    here = np.zeros((2, FRAMES, 1), bool)
    here[0, step] = True
    actions = {
        k: tf.where(here, v[:, ::-1] * 0 + (1 - v) if v.dtype.is_integer else -v, v)
        for k, v in batch.action.items()
    }
    return batch._replace(action=actions)


def test_the_loss_of_a_batch(agent: SequenceAgent, network: TransformerNetwork, loss_of) -> None:
    """RT-1's scale, from the scores, in numpy."""
    batch = experience(network)
    scores, _ = network.forward(batch.observation)
    tokens = network.action_tokenizer.tokenize(batch.action).numpy()
    log_p = tf.nn.log_softmax(scores).numpy()
    each = -np.take_along_axis(log_p, tokens[..., None], -1)[..., 0].mean(-1)
    expected = each.sum() / (2 * FRAMES) / (2 * FRAMES * STEP_TOKENS)
    np.testing.assert_allclose(loss_of(batch, _weights(ALL)), expected, rtol=1e-4)
    extra = agent.loss(batch).extra
    np.testing.assert_allclose(extra["unscaled_step_losses"], each, rtol=1e-4)
    np.testing.assert_array_equal(extra["targets"], tokens)


def test_steps_of_type_last_and_padding_do_not_count(network: TransformerNetwork, loss_of) -> None:
    types = np.full((2, FRAMES), ts.StepType.MID)
    types[0, -1] = ts.StepType.LAST
    batch = experience(network, step_type=types)
    padded = _weights([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    found = loss_of(batch, padded)
    for step, counts in ((0, False), (1, True), (2, False)):
        other = loss_of(_other_actions(batch, step), padded)
        assert (float(other) != float(found)) == counts, step
    # RT-1 counts them in the denominator all the same.
    everything = experience(network)
    step_losses = tf.reshape(
        [loss_of(everything, tf.reshape(tf.one_hot(i, 2 * FRAMES), (2, FRAMES))) for i in range(2 * FRAMES)],
        (2, FRAMES),
    )
    np.testing.assert_allclose(found, np.sum(step_losses) - step_losses[0, 0] - step_losses[0, -1], rtol=1e-4)


def test_with_the_plain_mean_only_steps_that_count_are_counted(network: TransformerNetwork) -> None:
    agent = tiny_agent(network, loss_scale=losses.MEAN_SCALE)
    batch = experience(network)
    each = agent.loss(batch).extra["unscaled_step_losses"].numpy()
    weights = np.array([[0, 1, 1], [0, 0, 1]], np.float32)
    found = agent.loss(batch, weights=tf.constant(weights)).loss
    np.testing.assert_allclose(found, each[weights == 1].mean(), rtol=1e-5)
    np.testing.assert_allclose(agent.loss(batch).loss, each.mean(), rtol=1e-5)


@pytest.mark.parametrize("loss_type", ["l1", "smooth_l1"])
def test_regression_losses(loss_type: str) -> None:
    network = tiny_network("regression", time_sequence_length=1)
    agent = tiny_agent(network, loss_type=loss_type, loss_scale="mean")
    batch = experience(network)
    values, _ = network.forward(batch.observation)
    error = np.abs(values - batch.action["bbox"])
    expected = error if loss_type == "l1" else np.where(error <= 1, error**2 / 2, error - 0.5)
    np.testing.assert_allclose(agent.loss(batch).loss, expected.mean(), rtol=1e-4)


def test_gaussian_targets_are_used(network: TransformerNetwork) -> None:
    agent = tiny_agent(network, gaussian_std=2.0, gaussian_truncate=3.0, loss_scale="mean")
    batch = experience(network)
    info = agent.loss(batch)
    expected = losses.smoothed_cross_entropy(info.extra["scores"], info.extra["targets"], 2.0, 3.0)
    np.testing.assert_allclose(info.loss, tf.reduce_mean(expected), rtol=1e-5)
    assert float(info.loss) != pytest.approx(float(tiny_agent(network, loss_scale="mean").loss(batch).loss))


# === Training steps ===


def _changed(network: TransformerNetwork, before: list[np.ndarray]) -> set[int]:
    return {
        id(v) for v, old in zip(network.variables, before, strict=True) if not np.array_equal(v.numpy(), old)
    }


@pytest.mark.parametrize("frozen", [(), ("efficientnet",), ("tokenlearner", "transformer")], ids=str)
def test_frozen_parts_do_not_change_and_the_others_do(frozen: tuple[str, ...]) -> None:
    network = tiny_network()
    agent = tiny_agent(network, frozen=frozen)
    before = values_of(network)
    agent.train(experience(network))
    changed = _changed(network, before)
    parts = network.components()
    assert set(parts) == {"efficientnet", "tokenlearner", "transformer"}
    for name, part in parts.items():
        if name in frozen:
            assert not any(id(v) in changed for v in part.variables), name  # Batch statistics included.
        else:
            # A key's bias adds the same to all scores of a row, a bias before a softmax over positions
            # likewise, one before batch statistics is taken away again: rounding noise, zero or not.
            still = [v.name for v in part.trainable_variables if id(v) not in changed]
            assert all("bias" in n or "position" in n for n in still), still
    statistics = [v for v in parts["efficientnet"].variables if "moving_" in v.name]
    assert statistics
    assert all((id(v) in changed) == ("efficientnet" not in frozen) for v in statistics)
    # The input normalisation is never trained, the embedding of action tokens never used.
    still = {id(v) for v in network.unused_variables}
    still |= {id(v) for v in parts["efficientnet"].net.layer("normalization").variables}
    assert len(still) == 5
    assert not still & changed
    # Slots for every trainable variable, frozen or not: a checkpoint's keys do not depend on it.
    slots = [v for v in agent._actor_optimizer.variables if v.shape.rank]
    assert [v.shape for v in slots] == [v.shape for v in network.trainable_variables for _ in range(2)]
    assert int(agent.train_step_counter) == 1


class _Poisoned(SequenceAgent):
    """The gradient of the first output bias is NaN, everything else as it is."""

    def _loss(self, *args, **kwargs):
        bias = self.actor_network._transformer._output_tokens.bias

        @tf.custom_gradient
        def nothing(x):
            def gradient(upstream):
                poison = tf.one_hot(0, x.shape[0], on_value=np.nan, off_value=0.0)
                return upstream * poison

            return tf.zeros([]), gradient

        info = super()._loss(*args, **kwargs)
        return info._replace(loss=info.loss + nothing(tf.convert_to_tensor(bias)))


def _poisoned(network: TransformerNetwork, **arguments: object) -> SequenceAgent:
    agent = tiny_agent(network, tf.keras.optimizers.SGD(1.0), loss_scale="mean", **arguments)
    agent.__class__ = _Poisoned
    agent._train_fn = agent._train
    return agent


def test_nonfinite_gradients_are_zeroed_element_by_element_and_counted() -> None:
    network, healthy = tiny_network(), tiny_network()
    batch = experience(network)
    start = network._transformer._output_tokens.bias.numpy()
    info = _poisoned(network).train(batch)
    assert int(info.extra["nonfinite_gradients"]) == 1
    agent = tiny_agent(healthy, tf.keras.optimizers.SGD(1.0), loss_scale="mean")
    assert int(agent.train(batch).extra["nonfinite_gradients"]) == 0

    found = network._transformer._output_tokens.bias.numpy()
    expected = healthy._transformer._output_tokens.bias.numpy()
    assert found[0] == start[0] != expected[0]
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-5)
    assert np.isfinite(float(info.extra["gradient_norm"]))


def test_nonfinite_gradients_can_be_let_through() -> None:
    network = tiny_network()
    agent = _poisoned(network, zero_nonfinite_gradients=False)
    info = agent.train(experience(network))
    assert int(info.extra["nonfinite_gradients"]) == 1
    assert np.isnan(network._transformer._output_tokens.bias.numpy()[0])


@pytest.mark.parametrize("limit", [None, 0.01])
def test_gradient_clip(limit: float | None) -> None:
    network = tiny_network()
    sgd = tf.keras.optimizers.SGD(1.0)
    agent = tiny_agent(network, sgd, loss_scale="mean", gradient_clip_norm=limit, frozen=("efficientnet",))
    before = [v.numpy() for v in agent.trained_variables]
    info = agent.train(experience(network))
    moved = [v.numpy() - old for v, old in zip(agent.trained_variables, before, strict=True)]
    norm = np.sqrt(sum(np.sum(np.square(m, dtype=np.float64)) for m in moved))
    reported = float(info.extra["gradient_norm"])
    assert reported > 0.05
    np.testing.assert_allclose(norm, limit or reported, rtol=1e-3)


# === What is drawn ===


def test_dropout_differs_by_step_and_is_repeatable() -> None:
    rates = DropoutRates(embedding=0.3)
    networks = [tiny_network(rates=rates, num_layers=1) for _ in range(2)]
    batch = experience(networks[0])
    draws = []
    for network in networks:
        agent = tiny_agent(network, seed=5, frozen=("efficientnet",))
        found = []
        for step in (0, 0, 1, 2):
            agent.train_step_counter.assign(step)
            found.append(float(agent._loss(batch, training=True).loss))
        draws.append(found)
        assert found[0] == found[1]  # The same step.
        assert len(set(found)) == 3
        # Outside training nothing is dropped.
        assert float(agent.loss(batch).loss) == float(agent.loss(batch).loss)
        assert float(agent.loss(batch).loss) not in found
    # An agent that restored the step draws the same (sums on several threads differ in the last bits).
    np.testing.assert_allclose(draws[0], draws[1], rtol=1e-5)
    assert len(np.unique(np.round(draws[0], 5))) == 3


def test_seeds_by_seed_step_and_purpose(network: TransformerNetwork) -> None:
    agents = [tiny_agent(network, seed=seed) for seed in (0, 1)]
    seeds = set()
    for agent in agents:
        for step in (0, 1):
            agent.train_step_counter.assign(step)
            seeds |= {tuple(agent.step_seed(purpose).numpy()) for purpose in (0, 1)}
    assert len(seeds) == 8


def test_the_random_shift_is_of_training_only() -> None:
    network = tiny_network(height=256, width=64)
    zeros = tf.zeros((1, FRAMES), tf.float32)
    rng = np.random.default_rng(0)
    batch = experience(network, 1)._replace(
        observation={
            "image": tf.constant(rng.integers(0, 256, (1, FRAMES, 256, 64, 3)), tf.uint8),
            "natural_language_embedding": tf.ones((1, FRAMES, 8)),
        },
        reward=zeros,
    )
    plain = float(tiny_agent(network).loss(batch).loss)
    shifted = tiny_agent(network, random_shift=True, frozen=("efficientnet",))  # No batch statistics.
    still = tiny_agent(network, random_shift=False, frozen=("efficientnet",))
    assert float(shifted.loss(batch).loss) == plain
    assert float(still._loss(batch, training=True).loss) == plain
    assert float(shifted._loss(batch, training=True).loss) != plain


# === Learning ===


@pytest.mark.parametrize("head", ["cross_entropy", "regression"])
def test_the_loss_falls_on_a_few_examples(head: str) -> None:
    network = tiny_network(head, time_sequence_length=1, num_layers=1)
    # The trunk is frozen because compiling its gradient takes longer than all the rest.
    agent = tiny_agent(network, loss_scale="mean", frozen=("efficientnet",))
    batch = experience(network, 4)
    train = tf.function(agent.train)
    found = [float(train(batch).loss) for _ in range(60)]
    assert np.mean(found[-3:]) < 0.3 * found[0], found


# === Several replicas ===

_TWO_DEVICES = """
from core import legacy_keras
import json, pathlib, sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from rt1.checkpoints.load import load_weights
from rt1.checkpoints.save import save_checkpoint
from tests.rt1.tiny_rt1 import *

def make(scale):
    network = tiny_network(time_sequence_length=2, num_layers=1)
    return tiny_agent(network, tf.keras.optimizers.SGD(1.0), loss_scale=scale,
                      frozen=("efficientnet",),  # Batch statistics are each replica's own.
                      gradient_clip_norm=0.5 if scale == "mean" else None)

def differences(scale, batch, weights):
    alone = make(scale)
    before = values_of(alone.actor_network)
    expected = alone.train(batch, weights)
    strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
    with strategy.scope():
        agent = make(scale)

    def replica_step(batch, weights):
        i = tf.distribute.get_replica_context().replica_id_in_sync_group
        part = lambda x: x[2 * i : 2 * i + 2]
        info = agent.train(tf.nest.map_structure(part, batch), part(weights))
        return info.loss, info.extra["gradient_norm"]

    @tf.function
    def step(batch, weights):
        results = strategy.run(replica_step, args=(batch, weights))
        return [strategy.reduce(tf.distribute.ReduceOp.MEAN, r, axis=None) for r in results]

    loss, norm = step(batch, weights)
    prefix = save_checkpoint(agent, pathlib.Path(sys.argv[1]) / scale)
    restored = tiny_network(time_sequence_length=2, num_layers=1, seed=9)
    assert load_weights(restored, prefix).ok
    after, moved = values_of(restored), values_of(alone.actor_network)
    return {
        "loss": [float(loss), float(expected.loss)],
        "norm": [float(norm), float(expected.extra["gradient_norm"])],
        "difference": max(float(np.abs(a - b).max()) for a, b in zip(after, moved)),
        "moved": max(float(np.abs(a - b).max()) for a, b in zip(before, moved)),
        "checkpoint": prefix.name,
    }

batch = experience(tiny_network(time_sequence_length=2, num_layers=1), 4)
# The two halves differ, and so does how much of them counts.
weights = tf.constant([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
found = {scale: differences(scale, batch, weights) for scale in ("rt1", "mean")}
sys.stdout.write(json.dumps(found))
"""


@pytest.mark.heavy
def test_two_devices_do_what_one_does(tmp_path: Path) -> None:
    for name in ("rt1", "mean"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _TWO_DEVICES, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, found in json.loads(done.stdout).items():
        assert found["loss"][0] == pytest.approx(found["loss"][1], rel=1e-4), name
        assert found["norm"][0] == pytest.approx(found["norm"][1], rel=1e-3), name
        assert found["moved"] > 1e-4, name
        assert found["difference"] < 1e-3 * found["moved"], (name, found)
        assert found["checkpoint"] == "ckpt-1", name


# === What the constructor refuses ===


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss_type": "huber"}, r"loss_type must be one of .*Received: 'huber'"),
        ({"loss_type": "l1"}, "'l1' needs a network with the head 'regression'. Received: 'cross_entropy'"),
        ({"loss_scale": "sum"}, "loss_scale must be one of .*Received: 'sum'"),
        ({"frozen": ("head",)}, r"\['efficientnet', 'tokenlearner', 'transformer'\]. Received: \['head'\]"),
        ({"frozen": ("efficientnet", "tokenlearner", "transformer")}, "Nothing is left to train"),
    ],
)
def test_what_the_agent_refuses(network: TransformerNetwork, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_agent(network, **arguments)


def test_a_gaussian_goes_with_cross_entropy_only() -> None:
    network = tiny_network("regression", time_sequence_length=1)
    with pytest.raises(ValueError, match="gaussian_std goes with cross_entropy only"):
        tiny_agent(network, gaussian_std=2.0)


def test_a_regression_head_alone_can_be_trained() -> None:
    network = tiny_network("regression", time_sequence_length=1)
    agent = tiny_agent(network, frozen=("efficientnet", "tokenlearner", "transformer"))
    assert {v.shape.as_list()[0] for v in agent.trained_variables} == {32, 1}
