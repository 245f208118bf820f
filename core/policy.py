"""The one interface between a trained model and whoever asks it: server, evaluation, simulation.

A policy has no hidden state. Whoever asks holds the state of each client and hands it in, so that
requests of many clients can be answered in one batch and never mix.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from core.spec import PolicySpec

Observations = Mapping[str, np.ndarray]
State = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class PolicyResult:
    """The answer to n clients.

    Attributes:
      actions: action name -> [n, *shape], in the units and ranges of the policy's spec.
      samples: action name -> [n, num_samples, *shape] of the Monte-Carlo draws, None without them.
        With draws, ``actions`` is still the deterministic answer.
      info: anything else by name, each with a leading axis n (token logits, class probabilities,
        attention).
    """

    actions: Mapping[str, np.ndarray]
    samples: Mapping[str, np.ndarray] | None = None
    info: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@runtime_checkable
class Policy(Protocol):
    """A trained model, ready to answer.

    Observations are batched: name -> [n, *shape]. The instruction is an observation named
    ``natural_language_instruction`` (numpy strings, [n]).
    """

    @property
    def spec(self) -> PolicySpec:
        """What the policy takes and answers."""
        ...

    def initial_state(self, n: int) -> State:
        """The state of n clients before their first step: name -> [n, ...]. Empty where stateless."""
        ...

    def infer(
        self,
        observations: Observations,
        state: State,
        *,
        num_samples: int = 0,
        seed: int | None = None,
    ) -> tuple[PolicyResult, State]:
        """Answers n clients at once and returns their next states.

        Args:
          observations: name -> [n, *shape] as the spec says.
          state: what ``initial_state`` or the last ``infer`` gave for these clients.
          num_samples: Monte-Carlo dropout draws for each client, computed as one batch; 0 for none.
          seed: makes the draws repeatable; None draws afresh.

        Raises:
          ValueError: an observation is missing, of the wrong shape or type, or cannot be understood;
            the message names the field.
        """
        ...


def stack_states(states: Sequence[State]) -> dict[str, np.ndarray]:
    """Joins the states of single clients (each [1, ...]) to one of [n, ...]."""
    if not states:
        raise ValueError("stack_states needs at least one state. Received: none")
    return {name: np.concatenate([s[name] for s in states], axis=0) for name in states[0]}


def split_state(state: State, n: int) -> list[dict[str, np.ndarray]]:
    """The inverse of ``stack_states``: n states of one client each."""
    return [{name: value[i : i + 1] for name, value in state.items()} for i in range(n)]


class Session:
    """One client's episode with a policy: owns the state.

    Example:
      session = Session(policy)
      result = session.step({"image": frame, "natural_language_instruction": "pick up the apple"})
      session.reset()  # the next episode
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._state = policy.initial_state(1)

    def reset(self) -> None:
        """Forgets the episode so far."""
        self._state = self._policy.initial_state(1)

    def step(
        self, observation: Mapping[str, Any], *, num_samples: int = 0, seed: int | None = None
    ) -> PolicyResult:
        """One step: arrays without a batch axis in, arrays without a batch axis out."""
        batch = {name: np.asarray(value)[None] for name, value in observation.items()}
        result, self._state = self._policy.infer(batch, self._state, num_samples=num_samples, seed=seed)
        samples = result.samples
        return PolicyResult(
            {k: v[0] for k, v in result.actions.items()},
            None if samples is None else {k: v[0] for k, v in samples.items()},
            {k: v[0] for k, v in result.info.items()},
        )
