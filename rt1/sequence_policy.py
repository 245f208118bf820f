"""RT-1 as a TF-Agents policy: one step at a time, the frames so far in the policy state."""

from typing import Any

import gin
import tensorflow as tf
from tf_agents.policies import actor_policy
from tf_agents.trajectories import time_step as ts

from rt1.transformer_network import TransformerNetwork


@gin.configurable
class SequencePolicy(actor_policy.ActorPolicy):
    """Answers the likeliest action of every step.

    The policy state is the network's: ``context_image_tokens``, ``action_tokens`` and ``seq_idx``.
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: Any,
        actor_network: TransformerNetwork,
        *,
        clip: bool = True,
        name: str = "SequencePolicy",
        **kwargs: Any,
    ) -> None:
        """Wraps a network.

        Args:
          time_step_spec: of single steps; observations as in ``TransformerNetwork``.
          action_spec: name -> bounded spec.
          actor_network: the network.
          clip: whether actions of the regression head are clipped to their bounds.
          name: of the policy.
          **kwargs: of ``ActorPolicy``.
        """
        super().__init__(
            time_step_spec, action_spec, actor_network, clip=clip, training=False, name=name, **kwargs
        )

    def _apply_actor_network(
        self,
        observation: Any,
        step_type: tf.Tensor,
        policy_state: Any,
        mask: Any = None,
    ) -> tuple[dict[str, tf.Tensor], Any]:
        if mask is not None:
            raise ValueError("RT-1 has no action constraints. Received: a mask")
        return self._actor_network(
            observation, step_type=step_type, network_state=policy_state, training=False
        )
