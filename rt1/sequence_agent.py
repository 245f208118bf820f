"""RT-1 as a TF-Agents agent: behavioural cloning on windows of episodes."""

from collections.abc import Mapping, Sequence
from typing import Any

import gin
import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory as trajectory_lib

from core.stateless_dropout import Seed
from rt1 import losses
from rt1.sequence_policy import SequencePolicy
from rt1.transformer_network import CROSS_ENTROPY, REGRESSION, TransformerNetwork

_DROPOUT, _SHIFT = 0, 1


@gin.configurable
class SequenceAgent(tf_agent.TFAgent):
    """Trains a ``TransformerNetwork`` to repeat the recorded actions.

    Attribute names are those of RT-1's agent, so that its checkpoints have the same keys.
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: Any,
        actor_network: TransformerNetwork,
        actor_optimizer: tf.keras.optimizers.Optimizer,
        *,
        loss_type: str = losses.CROSS_ENTROPY,
        loss_scale: str = losses.RT1_SCALE,
        gaussian_std: float | None = None,
        gaussian_truncate: float = 4.0,
        zero_nonfinite_gradients: bool = True,
        gradient_clip_norm: float | None = None,
        random_shift: bool = True,
        frozen: Sequence[str] = (),
        seed: int = 0,
        train_step_counter: tf.Variable | None = None,
        name: str = "SequenceAgent",
    ) -> None:
        """Puts the agent together and makes the network's and the optimiser's variables.

        Args:
          time_step_spec, action_spec: of single steps.
          actor_network: its head fits ``loss_type``.
          actor_optimizer: RT-1 takes Adam at 1e-4.
          loss_type: ``cross_entropy``, ``l1`` or ``smooth_l1``.
          loss_scale: ``rt1`` or ``mean``, see ``losses.step_losses``. With ``rt1``, masked steps count in
            the denominator, as in RT-1; with ``mean`` they do not.
          gaussian_std: cross-entropy against a Gaussian of this width in bins; None for the true bin alone.
          gaussian_truncate: where that Gaussian is cut off, in standard deviations.
          zero_nonfinite_gradients: NaN and infinite elements of gradients become 0, as in RT-1.
          gradient_clip_norm: largest global norm of the gradients, None for no limit.
          random_shift: RT-1's shift of the frames in training (for heights that have one).
          frozen: parts of the network that are not trained: ``efficientnet``, ``tokenlearner``,
            ``transformer``. A frozen EfficientNet keeps its batch statistics.
          seed: of dropout and shift, together with the step.
          train_step_counter: int64; None makes one. With several replicas, one that sums up nothing
            (``tf.VariableAggregation.ONLY_FIRST_REPLICA``).
          name: of the agent.

        Raises:
          ValueError: an unknown loss or scale, a head that does not fit the loss, an unknown part to
            freeze, or nothing that is not frozen.
        """
        if loss_type not in losses.LOSS_TYPES:
            raise ValueError(f"loss_type must be one of {losses.LOSS_TYPES}. Received: {loss_type!r}")
        head = CROSS_ENTROPY if loss_type == losses.CROSS_ENTROPY else REGRESSION
        if actor_network.head != head:
            raise ValueError(
                f"loss_type {loss_type!r} needs a network with the head {head!r}. "
                f"Received: {actor_network.head!r}"
            )
        if gaussian_std is not None and head != CROSS_ENTROPY:
            raise ValueError(f"gaussian_std goes with cross_entropy only. Received: loss_type={loss_type!r}")
        if loss_scale not in losses.SCALES:
            raise ValueError(f"loss_scale must be one of {losses.SCALES}. Received: {loss_scale!r}")
        unknown = set(frozen) - set(actor_network.components())
        if unknown:
            raise ValueError(
                f"Parts that can be frozen: {sorted(actor_network.components())}. Received: {sorted(unknown)}"
            )
        actor_network.create_variables()
        self._actor_network = actor_network
        self._actor_optimizer = actor_optimizer
        self._loss_type = loss_type
        self._loss_scale = loss_scale
        self._gaussian = None if gaussian_std is None else (gaussian_std, gaussian_truncate)
        self._zero_nonfinite_gradients = zero_nonfinite_gradients
        self._gradient_clip_norm = gradient_clip_norm
        self._random_shift = random_shift
        self._frozen = tuple(frozen)
        self._seed = seed

        if not self.trained_variables:
            raise ValueError(f"Nothing is left to train. Received: frozen={list(frozen)}")
        # Slots for frozen variables too: the keys of a checkpoint do not depend on what was frozen.
        actor_optimizer.build(actor_network.trainable_variables)

        if train_step_counter is None:
            train_step_counter = tf.Variable(
                0,
                dtype=tf.int64,
                trainable=False,
                name="global_step",
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
        policy = SequencePolicy(time_step_spec, action_spec, actor_network)
        super().__init__(
            time_step_spec,
            action_spec,
            policy,
            policy,
            train_sequence_length=actor_network.time_sequence_length,
            train_step_counter=train_step_counter,
        )

    @property
    def actor_network(self) -> TransformerNetwork:
        return self._actor_network

    @property
    def trained_variables(self) -> tuple[tf.Variable, ...]:
        """The variables that training changes by gradients.

        Found anew each time: an attribute that holds them would be a part of the checkpoint.
        """
        components = self._actor_network.components()
        fixed = {id(v) for part in self._frozen for v in components[part].trainable_variables}
        fixed |= {id(v) for v in self._actor_network.unused_variables}
        return tuple(v for v in self._actor_network.trainable_variables if id(v) not in fixed)

    def _initialize(self) -> None:
        """Nothing to do: the variables are made with the agent."""

    def step_seed(self, purpose: int) -> tf.Tensor:
        """int32 [2] from the agent's seed, the step, the replica and what the draw is for."""
        replica = tf.distribute.get_replica_context()
        replica_id = 0 if replica is None else replica.replica_id_in_sync_group
        step = tf.cast(self.train_step_counter, tf.int32)
        seed = tf.stack([tf.constant(self._seed, tf.int32), step])
        seed = tf.random.experimental.stateless_fold_in(seed, purpose)
        return tf.random.experimental.stateless_fold_in(seed, replica_id)

    def compute_loss(
        self,
        observation: Mapping[str, tf.Tensor],
        actions: Mapping[str, tf.Tensor],
        mask: tf.Tensor,
        *,
        training: bool = False,
        dropout_seed: Seed = None,
        shift_seed: Seed = None,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The loss of a batch of windows.

        Args:
          observation: ``image`` [b, t, h, w, 3] and ``natural_language_embedding`` [b, t, size].
          actions: name -> [b, t, k].
          mask: [b, t], 1 or True where a step counts.
          training: batch statistics in the batch normalisation (never in a frozen EfficientNet).
          dropout_seed, shift_seed: int32 [2], None for neither.

        Returns:
          A scalar, and ``step_losses`` [b, t], ``unscaled_step_losses`` [b, t] (the plain mean over each
          step's tokens), ``scores`` and ``targets`` as the head gives them.
        """
        network = self._actor_network
        scores, _ = network.forward(
            observation,
            training=training and "efficientnet" not in self._frozen,
            dropout_seed=dropout_seed,
            shift_seed=shift_seed,
        )
        targets = network.targets(actions)
        if self._loss_type == losses.CROSS_ENTROPY and self._gaussian is None:
            token_losses = losses.cross_entropy(scores, targets)
        elif self._gaussian is not None:
            token_losses = losses.smoothed_cross_entropy(scores, targets, *self._gaussian)
        elif self._loss_type == losses.L1:
            token_losses = losses.l1(scores, targets)
        else:
            token_losses = losses.smooth_l1(scores, targets)
        step_losses = losses.step_losses(token_losses, self._loss_scale, network.tokens_per_step)
        total = losses.masked_mean(step_losses, mask, count_masked=self._loss_scale == losses.RT1_SCALE)
        return total, {
            "step_losses": step_losses,
            "unscaled_step_losses": tf.reduce_mean(token_losses, axis=-1),
            "scores": scores,
            "targets": targets,
        }

    def _loss(
        self,
        experience: trajectory_lib.Trajectory,
        weights: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf_agent.LossInfo:
        mask = tf.cast(experience.step_type != ts.StepType.LAST, tf.float32)
        if weights is not None:
            mask *= tf.cast(weights, tf.float32)
        total, extra = self.compute_loss(
            experience.observation,
            experience.action,
            mask,
            training=training,
            dropout_seed=self.step_seed(_DROPOUT) if training else None,
            shift_seed=self.step_seed(_SHIFT) if training and self._random_shift else None,
        )
        return tf_agent.LossInfo(total * self._replica_weight(mask), extra)

    def _replica_weight(self, mask: tf.Tensor) -> tf.Tensor:
        """By what a replica's loss is multiplied, so that the replicas' mean is the whole batch's loss.

        The denominators of ``compute_loss`` count the steps of one replica; with the scale ``rt1`` twice.
        """
        replica = tf.distribute.get_replica_context()
        if replica is None or replica.num_replicas_in_sync == 1:
            return tf.ones([])
        is_rt1 = self._loss_scale == losses.RT1_SCALE
        steps = tf.cast(tf.size(mask), tf.float32) if is_rt1 else tf.reduce_sum(mask)
        share = steps / tf.maximum(replica.all_reduce(tf.distribute.ReduceOp.SUM, steps), 1.0)
        return replica.num_replicas_in_sync * (share**2 if is_rt1 else share)

    def _train(
        self, experience: trajectory_lib.Trajectory, weights: tf.Tensor | None = None
    ) -> tf_agent.LossInfo:
        """One optimiser step on a batch of windows.

        Args:
          experience: [b, t, ...]; steps of type LAST do not count, as in RT-1.
          weights: [b, t], 0 where a step is padding; None where all count.

        Returns:
          The loss before the step (of several replicas, their mean is the batch's), and beside what
          ``compute_loss`` gives, ``gradient_norm`` before clipping and how many elements of the
          gradients were not finite (``nonfinite_gradients``).
        """
        with tf.GradientTape() as tape:
            info = self._loss(experience, weights, training=True)
        trained = self.trained_variables
        gradients = tape.gradient(info.loss, trained)
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            # Here, not in the optimiser: what is filtered and clipped is the gradient of the whole batch.
            gradients = replica.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        nonfinite = tf.add_n([tf.math.count_nonzero(~tf.math.is_finite(g)) for g in gradients])
        if self._zero_nonfinite_gradients:
            gradients = [tf.where(tf.math.is_finite(g), g, tf.zeros_like(g)) for g in gradients]
        norm = tf.linalg.global_norm(gradients)
        if self._gradient_clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._gradient_clip_norm, norm)
        self._actor_optimizer.apply_gradients(
            zip(gradients, trained, strict=True), skip_gradients_aggregation=True
        )
        self.train_step_counter.assign_add(1)
        return tf_agent.LossInfo(
            info.loss, {**info.extra, "gradient_norm": norm, "nonfinite_gradients": nonfinite}
        )
