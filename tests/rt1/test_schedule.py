"""The learning rate by step."""

import numpy as np
import pytest

from rt1.schedule import LearningRate


def _rates(schedule: LearningRate, steps: list[int]) -> list[float]:
    return [float(schedule.at(np.int64(step))) for step in steps]


def test_constant_as_rt1() -> None:
    np.testing.assert_allclose(_rates(LearningRate(), [0, 1, 10**6]), 1e-4)


def test_warm_up_is_linear_and_never_zero() -> None:
    np.testing.assert_allclose(
        _rates(LearningRate(1.0, warmup_steps=4), [0, 1, 3, 4, 100]), [0.25, 0.5, 1, 1, 1]
    )


def test_cosine_decay_begins_after_the_warm_up_and_stays_at_its_end() -> None:
    schedule = LearningRate(2.0, warmup_steps=10, decay_steps=30, final=0.1)
    np.testing.assert_allclose(_rates(schedule, [9, 10, 20, 30, 1000]), [2, 2, 1.1, 0.2, 0.2], rtol=1e-5)
    falling = _rates(schedule, list(range(10, 31)))
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(
    "arguments",
    [{"peak": 0.0}, {"warmup_steps": -1}, {"final": 1.5}, {"warmup_steps": 5, "decay_steps": 5}],
    ids=str,
)
def test_schedules_that_are_none(arguments: dict) -> None:
    with pytest.raises(ValueError, match="Received: LearningRate"):
        LearningRate(**arguments)
