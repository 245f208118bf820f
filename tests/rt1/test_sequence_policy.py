"""Step by step is the whole window; an export is the policy."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.policies import actor_policy, py_tf_eager_policy
from tf_agents.trajectories import time_step as ts

from core import checkpoint_folder, files
from core.spec import PolicySpec
from rt1 import export, specs
from rt1.checkpoints.load import inspect, load_weights
from rt1.checkpoints.save import save_checkpoint
from rt1.policy_folder import PolicyDescription, write_description
from rt1.sequence_policy import SequencePolicy
from rt1.transformer_network import EMBEDDING, IMAGE, TransformerNetwork
from tests.rt1 import tiny_rt1
from tests.rt1.tiny_rt1 import SIZE, WINDOW, tiny_agent, tiny_network, tiny_policy

STEPS = WINDOW + 2
EMBEDDING_SIZE = 512


def observations(b: int, t: int, seed: int = 0) -> dict[str, np.ndarray]:
    return tiny_rt1.observations(b, t, embedding_size=EMBEDDING_SIZE, seed=seed)


@pytest.fixture(scope="module")
def network() -> TransformerNetwork:
    return tiny_network(embedding_size=EMBEDDING_SIZE)


@pytest.fixture(scope="module")
def step(network: TransformerNetwork):
    return tf.function(network.step, reduce_retracing=True)


def _state(network: TransformerNetwork, b: int) -> dict[str, tf.Tensor]:
    return {k: tf.zeros([b, *s.shape], s.dtype) for k, s in network.state_spec.items()}


def _frame(episodes: Mapping[str, np.ndarray], t: int) -> dict[str, tf.Tensor]:
    return {k: tf.constant(v[:, t]) for k, v in episodes.items()}


def test_rollout_is_the_same_as_passes_over_windows(network: TransformerNetwork, step) -> None:
    episodes = observations(2, STEPS)
    state = _state(network, 2)
    for t in range(STEPS):
        scores, state, _ = step(_frame(episodes, t), state)
        first = max(0, t + 1 - WINDOW)
        window = {k: v[:, first : t + 1] for k, v in episodes.items()}
        expected, _ = network.forward(window)
        np.testing.assert_allclose(scores, expected[:, -1], atol=2e-4)
        assert np.all(state["seq_idx"].numpy() == min(t + 1, WINDOW))
        row = min(t, WINDOW - 1)
        np.testing.assert_array_equal(state["action_tokens"][:, row, :, 0, 0], network.tokens(scores))
    # The frames before the window are forgotten, those in it are not.
    for begin, same in ((0, True), (STEPS - WINDOW, False)):
        other = {k: v.copy() for k, v in episodes.items()}
        other[IMAGE][:, begin] = 255 - other[IMAGE][:, begin]
        state = _state(network, 2)
        for t in range(STEPS):
            changed, state, _ = step(_frame(other, t), state)
        assert np.allclose(changed, scores, atol=1e-5) == same


def test_clients_of_different_ages_share_a_batch(network: TransformerNetwork, step) -> None:
    episodes = observations(3, STEPS, seed=1)
    ages = (0, 2, STEPS - 1)  # A fresh one, one that has not filled its window, one beyond it.
    alone, states = [], []
    for i, age in enumerate(ages):
        mine = {k: v[i : i + 1] for k, v in episodes.items()}
        state = _state(network, 1)
        for t in range(age):
            _, state, _ = step(_frame(mine, t), state)
        states.append(state)
        alone.append(step(_frame(mine, age), state)[:2])
    together = {k: tf.concat([s[k] for s in states], 0) for k in states[0]}
    frames = {k: tf.constant(np.stack([v[i, a] for i, a in enumerate(ages)])) for k, v in episodes.items()}
    scores, next_state, _ = step(frames, together)
    for i, (expected, expected_state) in enumerate(alone):
        np.testing.assert_allclose(scores[i], expected[0], atol=2e-4)  # Logits of ±40.
        for name, value in expected_state.items():
            np.testing.assert_allclose(next_state[name][i], value[0], atol=1e-4, err_msg=name)


def test_call_takes_steps_and_windows(network: TransformerNetwork) -> None:
    episodes = observations(2, WINDOW)
    before = _state(network, 2)
    actions, state = network(episodes, network_state=before)
    assert state is before
    expected = network.actions(network.forward(episodes)[0])
    for name, value in expected.items():
        np.testing.assert_array_equal(actions[name], value)
    # An empty state begins an episode.
    first, state = network(_frame(episodes, 0), network_state=())
    for name, value in expected.items():
        np.testing.assert_allclose(first[name], value[:, 0], atol=1e-5)
    assert np.all(state["seq_idx"].numpy() == 1)


@pytest.mark.parametrize("head", ["cross_entropy", "regression"])
def test_step_of_a_window_of_one_frame(head: str) -> None:
    network = tiny_network(head, time_sequence_length=1, num_layers=1, embedding_size=EMBEDDING_SIZE)
    episodes = observations(2, 1)
    scores, state, _ = network.step(_frame(episodes, 0), _state(network, 2))
    np.testing.assert_allclose(scores, network.forward(episodes)[0][:, 0], atol=1e-5)
    again, _, _ = network.step(_frame(episodes, 0), state)
    np.testing.assert_allclose(again, scores, atol=1e-5)  # Nothing is remembered.


def test_intermediates(network: TransformerNetwork) -> None:
    _, aux = network.forward(observations(2, WINDOW))
    n = WINDOW * network.tokens_per_step
    assert [a.shape for a in aux["attention"]] == [(2, 2, n, n)] * 2
    assert aux["transformer_output"].shape == (2, n, 32)
    assert aux["image_tokens"].shape == (2, WINDOW, 4, 16)
    assert aux["token_learner_weights"].shape == (2 * WINDOW, 4, 4, 4)
    for attention in aux["attention"]:
        np.testing.assert_allclose(np.sum(attention, -1), 1.0, atol=1e-5)
        assert np.all(attention.numpy()[:, :, ~network._mask] == 0)


# === The policy ===


@pytest.fixture(scope="module")
def exported(network: TransformerNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By the command, from a run's best checkpoint."""
    run = tmp_path_factory.mktemp("run")
    described = PolicyDescription(
        network=network.arguments(),
        image_size=(SIZE, SIZE),
        image_dtype="uint8",
        loss_type="cross_entropy",
        encoder_source="embedded",
        spec=PolicySpec("rt1", "manipulation", (), specs.OFFICIAL_ACTIONS),
    )

    def write(folder: Path) -> None:
        save_checkpoint(tiny_agent(network), folder)
        write_description(folder, described)
        files.write_json(folder / checkpoint_folder.TRAIN_STATE, {"step": 17})

    checkpoint_folder.publish(run, 17, write, pointers=("last", "best"))
    out = run / "policy"
    assert export.main(["--checkpoint", str(run), "--out", str(out)]) == 0
    return out


def _rollout(policy, episode: Mapping[str, np.ndarray], batched: bool) -> list[dict[str, np.ndarray]]:
    """Actions of every step of one episode; TF-Agents' Python policies take steps without a batch axis."""
    state, found = policy.get_initial_state(1), []
    for t in range(STEPS):
        frame = {k: v[:, t] if batched else v[0, t] for k, v in episode.items()}
        if t == 0:
            time_step = ts.restart(frame, 1 if batched else None)
        else:
            time_step = ts.transition(frame, np.zeros([1] if batched else [], np.float32))
        answer = policy.action(time_step, state)
        state = answer.state
        found.append({k: np.squeeze(v, 0) if batched else np.asarray(v) for k, v in answer.action.items()})
    return found


def _same_actions(policy, folder: Path) -> None:
    loaded = py_tf_eager_policy.SavedModelPyTFEagerPolicy(str(folder), load_specs_from_pbtxt=True)
    assert loaded.get_train_step() == 17
    episode = observations(1, STEPS)
    expected = _rollout(policy, {k: tf.constant(v) for k, v in episode.items()}, batched=True)
    found = _rollout(loaded, episode, batched=False)
    for one, other in zip(found, expected, strict=True):
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_allclose(one[name], other[name], atol=1e-5, err_msg=name)
    actions = np.stack([np.concatenate([v.ravel() for v in a.values()]) for a in expected])
    assert np.ptp(actions, axis=0).max() > 0.01  # The rollout is not a constant.


def test_the_export_gives_the_same_actions(network: TransformerNetwork, exported: Path) -> None:
    """Loaded by TF-Agents alone, over more steps than the window has."""
    _same_actions(tiny_policy(network), exported)


def test_an_export_does_not_write_over_another(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main(["--checkpoint", str(exported.parent), "--out", str(exported)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert export.main(["--checkpoint", str(tmp_path), "--out", str(tmp_path / "policy")]) == 1
    assert "No checkpoint" in capsys.readouterr().err


@pytest.mark.heavy
def test_the_export_of_a_regression_head(tmp_path: Path) -> None:
    policy = tiny_policy(tiny_network("regression", embedding_size=EMBEDDING_SIZE))
    _same_actions(policy, export.export_policy(policy, tmp_path / "policy", train_step=17))


def test_the_weights_of_an_export_load_by_their_numbers(network: TransformerNetwork, exported: Path) -> None:
    found = inspect(exported)
    assert found.dialect == "saved_model"
    assert found.report.ok
    assert found.configuration.time_sequence_length == WINDOW
    assert found.configuration.tokens_per_action == 11
    assert found.preset is None
    fresh = tiny_network(seed=3, embedding_size=EMBEDDING_SIZE)
    report = load_weights(fresh, exported)
    assert len(report.loaded) == len(network.variables)
    for one, other in zip(fresh.variables, network.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.name)


def test_the_policy_is_an_actor_policy_whose_state_is_the_networks(network: TransformerNetwork) -> None:
    policy = tiny_policy(network)
    assert isinstance(policy, actor_policy.ActorPolicy)
    state = policy.get_initial_state(2)
    assert {k: v.shape[1:] for k, v in state.items()} == {k: v.shape for k, v in network.state_spec.items()}
    assert set(state) == {"context_image_tokens", "action_tokens", "seq_idx"}


@pytest.mark.parametrize("clip", [True, False])
def test_actions_of_the_regression_head_are_clipped(clip: bool) -> None:
    network = tiny_network("regression", time_sequence_length=1, num_layers=1, embedding_size=EMBEDDING_SIZE)
    network._regression_output.bias.assign([5.0])
    policy = SequencePolicy(
        specs.time_step_spec(network.input_tensor_spec), network.output_tensor_spec, network, clip=clip
    )
    episodes = {k: tf.constant(v[:, 0]) for k, v in observations(1, 1).items()}
    box = policy.action(ts.restart(episodes, 1), policy.get_initial_state(1)).action["bbox"].numpy()
    assert (box.max() == 1.0) if clip else (box.min() > 1.0)


# === What the network refuses ===


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "diffusion"}, "head must be one of .*Received: 'diffusion'"),
        ({"head": "regression", "actions": specs.OFFICIAL_ACTIONS}, "float actions.*'terminate_episode'"),
        ({"use_token_learner": False}, "must be the encoder's 16 positions. Received: 4"),
        ({"efficientnet_variant": "b17"}, "Received: 'b17'"),
    ],
)
def test_what_the_constructor_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_network(**arguments)


def test_without_token_learner_every_position_is_a_token() -> None:
    network = tiny_network(use_token_learner=False, num_image_tokens=16, num_layers=1)
    scores, _ = network.forward(tiny_rt1.observations(1, WINDOW))
    assert scores.shape == (1, WINDOW, 11, 32)
    assert "tokenlearner" not in network.components()


def test_observations_without_outer_axes_are_refused(network: TransformerNetwork) -> None:
    frame = {k: tf.constant(v[0, 0]) for k, v in observations(1, 1).items()}
    with pytest.raises(ValueError, match=r"\[b\] or \[b, t\]. Received rank: 0"):
        network(frame)


def test_a_missing_observation_is_named(network: TransformerNetwork) -> None:
    with pytest.raises(ValueError, match=f"'{EMBEDDING}' is missing"):
        TransformerNetwork({IMAGE: network.input_tensor_spec[IMAGE]}, network.output_tensor_spec)


def test_the_arguments_make_the_network_again(network: TransformerNetwork) -> None:
    arguments = network.arguments()
    rates = arguments.pop("dropout_rates")
    again = TransformerNetwork(
        network.input_tensor_spec,
        network.output_tensor_spec,
        **arguments,
        dropout_rates=type(network.dropout_rates)(**rates),
    )
    again.create_variables()
    assert [v.shape for v in again.variables] == [v.shape for v in network.variables]
    assert again.arguments() == network.arguments()
