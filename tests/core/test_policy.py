"""The policy protocol's helpers: states of many clients, one client's session."""

from collections.abc import Mapping

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from core.policy import Policy, PolicyResult, Session, split_state, stack_states
from core.spec import ArraySpec, PolicySpec


class Counting:
    """Counts a client's steps in its state; a draw is the count plus the seed."""

    spec = PolicySpec("counting", "manipulation", (), (ArraySpec("count", (), "int64"),))

    def initial_state(self, n: int) -> dict[str, np.ndarray]:
        return {"steps": np.zeros([n, 1], np.int64)}

    def infer(
        self,
        observations: Mapping[str, np.ndarray],
        state: Mapping[str, np.ndarray],
        *,
        num_samples: int = 0,
        seed: int | None = None,
    ) -> tuple[PolicyResult, dict[str, np.ndarray]]:
        if observations["by"].dtype.kind != "i":
            raise ValueError("by must be an integer")
        steps = state["steps"] + observations["by"][:, None]
        count = steps[:, 0]
        samples = None
        if num_samples:
            samples = {"count": count[:, None] + np.arange(num_samples) + (seed or 0)}
        return PolicyResult({"count": count}, samples, {"n": np.full(len(count), len(count))}), {
            "steps": steps
        }


def test_the_protocol_is_checked_at_run_time() -> None:
    assert isinstance(Counting(), Policy)
    assert not isinstance(object(), Policy)


def test_a_session_owns_the_state_and_hides_the_batch_axis() -> None:
    session = Session(Counting())
    counts = [session.step({"by": by}).actions["count"] for by in (1, 2, 3)]
    assert [int(count) for count in counts] == [1, 3, 6]
    assert counts[0].shape == ()
    session.reset()
    assert session.step({"by": 5}).actions["count"] == 5


def test_a_session_gives_the_draws() -> None:
    result = Session(Counting()).step({"by": 1}, num_samples=3, seed=10)
    assert result.samples is not None
    assert result.samples["count"].tolist() == [11, 12, 13]
    assert result.info["n"] == 1
    assert Session(Counting()).step({"by": 1}).samples is None


def test_a_refused_step_leaves_the_state() -> None:
    session = Session(Counting())
    session.step({"by": 1})
    with pytest.raises(ValueError, match="by must be"):
        session.step({"by": 1.5})
    assert session.step({"by": 1}).actions["count"] == 2


def test_sessions_of_one_policy_never_mix() -> None:
    policy = Counting()
    first, second = Session(policy), Session(policy)
    first.step({"by": 7})
    assert second.step({"by": 1}).actions["count"] == 1


@settings(deadline=None)  # A busy machine is no failure.
@given(n=st.integers(1, 5), width=st.integers(0, 3), seed=st.integers(0, 99))
def test_states_come_apart_and_together(n: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    state = {"a": random.random([n, width]), "b": random.integers(9, size=[n]).astype(np.int32)}
    parts = split_state(state, n)
    assert len(parts) == n
    assert all(part["a"].shape == (1, width) for part in parts)
    again = stack_states(parts)
    for name, value in state.items():
        assert again[name].dtype == value.dtype
        np.testing.assert_array_equal(again[name], value)


def test_a_batch_answers_as_each_alone() -> None:
    policy = Counting()
    states = [policy.initial_state(1) for _ in range(3)]
    states[1] = {"steps": np.array([[40]])}
    result, after = policy.infer({"by": np.array([1, 2, 3])}, stack_states(states))
    assert result.actions["count"].tolist() == [1, 42, 3]
    assert [int(s["steps"].item()) for s in split_state(after, 3)] == [1, 42, 3]


def test_no_states_cannot_be_stacked() -> None:
    with pytest.raises(ValueError, match="at least one state"):
        stack_states([])


def test_the_empty_state_is_a_state() -> None:
    assert split_state({}, 3) == [{}, {}, {}]
    assert stack_states([{}, {}]) == {}
