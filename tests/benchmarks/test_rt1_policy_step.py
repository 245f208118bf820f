"""The benchmark compares what it says it compares."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import rt1_policy_step
from rt1.transformer_network import EMBEDDING, IMAGE, TransformerNetwork
from tests.rt1.tiny_rt1 import WINDOW, observations, tiny_network


@pytest.fixture(scope="module")
def network() -> TransformerNetwork:
    return tiny_network(num_layers=1)


@pytest.fixture(scope="module")
def episode() -> dict[str, tf.Tensor]:
    return {k: tf.constant(v) for k, v in observations(2, WINDOW + 1).items()}


@pytest.fixture(scope="module")
def passes(network: TransformerNetwork, episode: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Tokens and logits of the eleven passes with and without the zero, and of the one pass."""
    embedding = episode[EMBEDDING][:, 0]
    state = rt1_policy_step.full_window(network, episode[IMAGE][:, :-1], embedding)
    observation = {IMAGE: episode[IMAGE][:, -1], EMBEDDING: embedding}
    step = rt1_policy_step.make_original_step(network)
    logits, _, _ = network.step(observation, state)
    found = {"ours": (network.tokens(logits), logits)}
    for zero in (0.0, 1.0):
        found[str(zero)] = step(observation, state, tf.constant(zero))
    return {k: (tokens.numpy(), scores.numpy()) for k, (tokens, scores) in found.items()}


def test_eleven_passes_are_the_one_pass(passes: dict[str, tuple]) -> None:
    np.testing.assert_allclose(passes["0.0"][1], passes["ours"][1], atol=1e-4)
    np.testing.assert_array_equal(passes["0.0"][0], passes["ours"][0])


def test_every_pass_depends_on_the_one_before(passes: dict[str, tuple]) -> None:
    """Were the embeddings not zeroed, each would move the logits: so no pass can be left out.

    Logits of token k are read at the position of token k - 1, which the pass before has found. The first
    is read at an image token, which sees the action tokens of earlier steps.
    """
    difference = np.abs(passes["1.0"][1] - passes["0.0"][1]).max(axis=(0, 2))
    assert difference.shape == (11,)
    assert difference.min() > 1e-3


def test_all_passes_are_in_the_compiled_graph(network: TransformerNetwork, episode) -> None:
    """Each has its own softmax of the attention; none was merged with another or taken away."""
    embedding = episode[EMBEDDING][:, 0]
    state = rt1_policy_step.full_window(network, episode[IMAGE][:, :-1], embedding)
    observation = {IMAGE: episode[IMAGE][:, -1], EMBEDDING: embedding}
    step = rt1_policy_step.make_original_step(network)
    graph = step.get_concrete_function(observation, state, tf.zeros([])).graph
    softmaxes = [op for op in graph.get_operations() if op.type == "Softmax"]
    assert len(softmaxes) == 11 + 1  # And TokenLearner's.


def test_the_state_before_the_step_is_of_a_full_window(network: TransformerNetwork, episode) -> None:
    state = rt1_policy_step.full_window(network, episode[IMAGE][:, :-1], episode[EMBEDDING][:, 0])
    assert np.all(state["seq_idx"].numpy() == WINDOW)
    tokens, _ = network.tokenize_images({k: v[:, :WINDOW] for k, v in episode.items()})
    np.testing.assert_allclose(state["context_image_tokens"][:, :, :, 0], tokens, atol=1e-4)


def test_measure(network: TransformerNetwork) -> None:
    found = rt1_policy_step.measure(2, 1, network)
    assert found["tokens_equal"] is True
    assert found["largest_logit_difference"] < 1e-4
    assert found["ours_ms"] > 0
    assert found["original_ms"] > 0
    assert found["ratio"] == pytest.approx(found["original_ms"] / found["ours_ms"], rel=0.02)
    assert (found["repeats"], found["batch"]) == (2, 1)


def test_json(
    network: TransformerNetwork, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rt1_policy_step, "make_network", lambda: network)
    monkeypatch.setattr(sys, "argv", ["rt1_policy_step", "--json", "--repeats", "1"])
    rt1_policy_step.main()
    found = json.loads(capsys.readouterr().out)
    assert {"ours_ms", "original_ms", "ratio", "tokens_equal"} <= set(found)
    assert found["repeats"] == 1
