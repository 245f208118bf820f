"""Saving and resuming: every bit, or nothing."""

from pathlib import Path

import numpy as np
import pytest

from rt1.checkpoints.save import restore_checkpoint, save_checkpoint
from rt1.sequence_agent import SequenceAgent
from rt1.transformer_network import TransformerNetwork
from tests.rt1.tiny_rt1 import experience, tiny_agent, tiny_network, values_of


def test_resuming_restores_every_bit(tmp_path: Path) -> None:
    arguments = {"num_layers": 1, "time_sequence_length": 2}
    first = tiny_agent(tiny_network(**arguments), frozen=("efficientnet",))
    batch = experience(first.actor_network)
    for _ in range(2):
        first.train(batch)
    first._actor_optimizer.learning_rate.assign(0.0125)
    prefix = save_checkpoint(first, tmp_path)
    assert prefix.name == "ckpt-2"

    second = tiny_agent(tiny_network(**arguments, seed=7), frozen=("efficientnet",))
    restore_checkpoint(second, prefix)

    def everything(agent: SequenceAgent) -> list[np.ndarray]:
        return [*values_of(agent.actor_network), *(v.numpy() for v in agent._actor_optimizer.variables)]

    for one, other in zip(everything(first), everything(second), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(second.train_step_counter) == 2
    assert float(second._actor_optimizer.learning_rate) == pytest.approx(0.0125)
    assert int(second._actor_optimizer.iterations) == 2
    # And the next step is the same step.
    losses_ = [float(a.train(batch).loss) for a in (first, second)]
    assert losses_[0] == pytest.approx(losses_[1], rel=1e-6)
    for one, other in zip(everything(first), everything(second), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "arguments", [{"num_layers": 2}, {"feed_forward_size": 24}, {"time_sequence_length": 1}], ids=str
)
def test_resuming_another_network_is_refused(saved: Path, arguments: dict) -> None:
    other = tiny_agent(tiny_network(**{"num_layers": 1, "embedding_size": 512, **arguments}))
    with pytest.raises(ValueError, match="does not fit the agent to resume"):
        restore_checkpoint(other, saved / "ckpt-0")


def test_resuming_nothing_is_refused(agent: SequenceAgent, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit the agent to resume"):
        restore_checkpoint(agent, tmp_path / "ckpt-1")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_saved(
    agent: SequenceAgent, network: TransformerNetwork, tmp_path: Path, bad: float
) -> None:
    bias = network._transformer._output_tokens.bias
    kept = bias.numpy()
    bias.assign(np.where(np.arange(32) == 3, bad, kept))
    try:
        with pytest.raises(ValueError, match="NaN or infinity in .*/_output_tokens/bias"):
            save_checkpoint(agent, tmp_path)
    finally:
        bias.assign(kept)
    assert not list(tmp_path.iterdir())
