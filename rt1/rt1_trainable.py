"""RT-1 as the training loop sees it: what training on food and on robot episodes have in common."""

import abc
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gin
import tensorflow as tf
from tf_agents.trajectories import trajectory as trajectory_lib

from episodes.statistics import DatasetStatistics
from rt1 import specs
from rt1.checkpoints.reader import find_prefix
from rt1.checkpoints.save import restore_checkpoint, save_checkpoint
from rt1.policy_folder import PolicyDescription, write_description
from rt1.schedule import LearningRate
from rt1.sequence_agent import SequenceAgent
from rt1.transformer_network import TransformerNetwork


@gin.configurable
def make_optimizer(
    learning_rate: float = 1e-4, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7
) -> tf.keras.optimizers.Optimizer:
    """Adam, as RT-1 has it."""
    return tf.keras.optimizers.Adam(learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)


class RT1Trainable(abc.ABC):
    """An agent with its data; ``core.trainable.Trainable`` says what each method is for."""

    best_metric: str

    def __init__(
        self,
        agent: SequenceAgent,
        description: PolicyDescription,
        statistics: DatasetStatistics | None,
        schedule: LearningRate,
        strategy: tf.distribute.Strategy,
    ) -> None:
        """Compiles the step.

        Args:
          agent: made within ``strategy``'s scope.
          description: what is saved beside the weights.
          statistics: of the training data, None where nothing is normalised by them.
          schedule: learning rate by step.
          strategy: each replica takes an equal share of a batch.
        """
        self._agent = agent
        self._description = description
        self._statistics = statistics
        self._schedule = schedule
        self._strategy = strategy
        self._compiled_step = tf.function(self._step_on_all, reduce_retracing=True)

    @property
    def network(self) -> TransformerNetwork:
        return self._agent.actor_network

    @property
    def step(self) -> int:
        return int(self._agent.train_step_counter.numpy())

    def fingerprint(self) -> Mapping[str, Any]:
        """What a resumed run must have in common with the run before, beside its data."""
        description = self._description
        return {
            "network": dict(description.network),
            "image_size": list(description.image_size),
            "loss_type": description.loss_type,
            "encoder": description.spec.encoder,
        }

    @abc.abstractmethod
    def experience(self, batch: Any) -> tuple[trajectory_lib.Trajectory, tf.Tensor]:
        """A batch of the input pipeline as the agent takes it, and the weights [b, t] of its steps."""

    def train_step(self, batch: Any) -> Mapping[str, Any]:
        """One optimiser step; ``loss``, ``gradient_norm``, ``learning_rate`` and ``weight`` (examples)."""
        return self._compiled_step(batch)

    def _step_on_all(self, batch: Any) -> dict[str, tf.Tensor]:
        rate = self._schedule.at(self._agent.train_step_counter)
        # A variable of the optimiser, not a schedule object: the checkpoint keys stay the official ones.
        self._agent._actor_optimizer.learning_rate.assign(rate)
        per_replica = self._strategy.run(self._step_on_one, args=(batch,))
        mean = tf.distribute.ReduceOp.MEAN
        result = {k: self._strategy.reduce(mean, v, axis=None) for k, v in per_replica.items()}
        result["learning_rate"] = rate
        return result

    def _step_on_one(self, batch: Any) -> dict[str, tf.Tensor]:
        experience, weights = self.experience(batch)
        info = self._agent.train(experience, weights)
        return {
            "loss": info.loss,
            "gradient_norm": info.extra["gradient_norm"],
            "nonfinite_gradients": tf.cast(info.extra["nonfinite_gradients"], tf.float32),
            "weight": tf.cast(tf.shape(weights)[0], tf.float32),
        }

    def distribute(self, dataset: tf.data.Dataset) -> Iterable[Any]:
        """Batches as the strategy's replicas take them."""
        if self._strategy.num_replicas_in_sync == 1:
            return dataset
        return self._strategy.experimental_distribute_dataset(dataset)

    def save(self, folder: Path) -> None:
        save_checkpoint(self._agent, folder)
        write_description(folder, self._description, self._statistics)

    def restore(self, folder: Path) -> None:
        restore_checkpoint(self._agent, find_prefix(folder))


def make_trajectory(
    observation: Mapping[str, tf.Tensor], actions: Mapping[str, tf.Tensor], step_type: tf.Tensor
) -> trajectory_lib.Trajectory:
    """A trajectory of windows [b, t, …]; rewards and discounts, which cloning does not use, are zero."""
    zeros = tf.zeros_like(step_type, tf.float32)
    return trajectory_lib.Trajectory(
        step_type=step_type,
        observation=dict(observation),
        action=dict(actions),
        policy_info=(),
        next_step_type=step_type,
        reward=zeros,
        discount=zeros,
    )


def make_agent(
    network: TransformerNetwork,
    *,
    loss_type: str,
    frozen: Iterable[str],
    seed: int,
    **arguments: Any,
) -> SequenceAgent:
    """The agent of a network, with the optimiser that gin configures; further arguments are the agent's."""
    return SequenceAgent(
        specs.time_step_spec(network.input_tensor_spec),
        network.output_tensor_spec,
        network,
        make_optimizer(),
        loss_type=loss_type,
        frozen=tuple(frozen),
        seed=seed,
        **arguments,
    )
