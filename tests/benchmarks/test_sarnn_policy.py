"""The benchmark of the control step measures steps of the policy that it names."""

import pytest

from benchmarks.sarnn_policy import make_policy, measure
from tests.sarnn_tf.sarnn_policies import tiny_clip


@pytest.mark.parametrize("model", ["sarnn", "clip_sarnn"])
def test_a_step_is_measured(model: str) -> None:
    policy = make_policy(16, None, model)
    times = measure(policy, 2, 3)
    assert policy.programs == 1
    assert 0 < times["median_ms"] <= times["p95_ms"]
    assert [o.name for o in policy.spec.observations][:1] == ["image"]
    assert len(policy.description.modalities) == (1 if model == "sarnn" else 4)


def test_clip_is_part_of_the_step() -> None:
    policy = make_policy(16, tiny_clip())
    assert policy.description.use_clip
    assert measure(policy, 1, 1)["first_ms"] > 0
