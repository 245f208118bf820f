"""What a predictor that looks at nothing reaches."""

import numpy as np
import pytest

from rt1.baselines import constant_predictor_loss


def test_entropy_of_the_training_tokens() -> None:
    tokens = np.array([[0, 3], [0, 3], [1, 3], [1, 3]])
    found = constant_predictor_loss(tokens, tokens, 4, smoothing=1e-9)
    assert found == pytest.approx((np.log(2) + 0) / 2, abs=1e-6)


def test_no_other_constant_is_better_on_the_training_tokens() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.choice(8, (200, 1), p=rng.dirichlet(np.ones(8)))
    best = constant_predictor_loss(tokens, tokens, 8)
    for _ in range(50):
        guess = rng.dirichlet(np.ones(8) * 5)
        assert -np.log(guess[tokens]).mean() > best


def test_unseen_tokens_have_a_finite_loss() -> None:
    found = constant_predictor_loss(np.array([[0]]), np.array([[3]]), 4)
    assert found == pytest.approx(-np.log(1e-3 / 1.004), rel=1e-6)


@pytest.mark.parametrize(
    ("training", "tokens", "message"),
    [
        (np.zeros((0, 2), int), np.zeros((1, 2), int), "training_tokens must be"),
        (np.zeros((1, 2), int), np.zeros((1, 3), int), r"^tokens must be \[n, 2\]"),
        (np.zeros(3, int), np.zeros(3, int), "training_tokens must be"),
        (np.zeros((1, 2), int), np.full((1, 2), 4), r"^tokens must be in \[0, 4\)"),
        (np.full((1, 2), -1), np.zeros((1, 2), int), "training_tokens must be in"),
    ],
)
def test_what_is_refused(training: np.ndarray, tokens: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        constant_predictor_loss(training, tokens, 4)
