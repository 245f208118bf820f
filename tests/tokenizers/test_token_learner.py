"""TokenLearner against its definition in numpy."""

import numpy as np
import pytest
import tensorflow as tf

from tokenizers.token_learner import TokenLearnerModule

POSITIONS, SIZE, TOKENS = 9, 12, 4


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(3.0, 2.0, (2, POSITIONS, SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def learner(features: np.ndarray) -> TokenLearnerModule:
    module = TokenLearnerModule(TOKENS, bottleneck_size=6, dropout_rate=0.5)
    module(features)
    rng = np.random.default_rng(1)
    for variable in module.variables:
        variable.assign(rng.normal(size=variable.shape).astype(np.float32))
    return module


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def test_definition(learner: TokenLearnerModule, features: np.ndarray) -> None:
    """LayerNorm, Dense, tanh-GELU, Dense, softmax over positions; the mean is of the raw features."""
    mean = features.mean(-1, keepdims=True)
    normal = (features - mean) / np.sqrt(features.var(-1, keepdims=True) + 1e-6)
    normal = normal * learner.layernorm.gamma.numpy() + learner.layernorm.beta.numpy()
    hidden = _gelu(normal @ learner.mlp._hidden_layer.kernel.numpy() + learner.mlp._hidden_layer.bias.numpy())
    logits = hidden @ learner.mlp._output_layer.kernel.numpy() + learner.mlp._output_layer.bias.numpy()
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights = (weights / weights.sum(1, keepdims=True)).transpose(0, 2, 1)

    tokens, found = learner(features)
    np.testing.assert_allclose(found, weights, atol=1e-5)
    np.testing.assert_allclose(np.sum(found, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(tokens, weights @ features, atol=1e-4)


def test_order_of_the_positions_does_not_matter(learner: TokenLearnerModule, features: np.ndarray) -> None:
    tokens, weights = learner(features)
    shuffled, shuffled_weights = learner(features[:, ::-1])
    np.testing.assert_allclose(shuffled, tokens, atol=1e-5)
    np.testing.assert_allclose(shuffled_weights[..., ::-1], weights, atol=1e-6)


def test_constant_features_are_their_own_tokens(learner: TokenLearnerModule) -> None:
    constant = np.broadcast_to(np.arange(SIZE, dtype=np.float32), (1, POSITIONS, SIZE))
    tokens, weights = learner(constant)
    np.testing.assert_allclose(weights, 1 / POSITIONS, atol=1e-6)
    np.testing.assert_allclose(tokens, constant[:, :TOKENS], atol=1e-5)


def test_dropout_follows_its_seed_alone(learner: TokenLearnerModule, features: np.ndarray) -> None:
    plain, _ = learner(features)
    first, _ = learner(features, dropout_seed=tf.constant([1, 2]))
    again, _ = learner(features, dropout_seed=tf.constant([1, 2]))
    other, _ = learner(features, dropout_seed=tf.constant([1, 3]))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, plain)
    assert not np.allclose(first, other)
