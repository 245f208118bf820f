"""Frames to tokens."""

import numpy as np
import pytest
import tensorflow as tf

from tokenizers.image_tokenizer import RT1ImageTokenizer

B, T, SIZE, CONTEXT = 2, 3, 32, 5


@pytest.fixture(scope="module")
def inputs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(B, T, SIZE, SIZE, 3)).astype(np.float32)
    return image, rng.normal(size=(B, T, CONTEXT)).astype(np.float32)


def _make(inputs: tuple[np.ndarray, np.ndarray], **arguments) -> RT1ImageTokenizer:
    tokenizer = RT1ImageTokenizer(16, variant="tiny", image_size=SIZE, drop_connect_rate=0.0, **arguments)
    tokenizer(*inputs)
    rng = np.random.default_rng(1)
    for variable in tokenizer.trainable_variables:
        if "_projection" in variable.name or "dense" in variable.name:
            variable.assign(rng.normal(0, 0.3, variable.shape).astype(np.float32))
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer(inputs: tuple[np.ndarray, np.ndarray]) -> RT1ImageTokenizer:
    return _make(inputs, num_tokens=3)


def test_shapes_and_intermediates(tokenizer: RT1ImageTokenizer, inputs) -> None:
    tokens, aux = tokenizer(*inputs)
    assert tokens.shape == (B, T, 3, 16)
    assert aux["token_learner_weights"].shape == (B * T, 3, 4, 4)
    assert aux["prepared_image"].shape == (B * T, SIZE, SIZE, 3)
    assert aux["features"].shape == (B * T, 4, 4, 16)
    np.testing.assert_allclose(np.sum(aux["token_learner_weights"], axis=(2, 3)), 1.0, atol=1e-5)


def test_every_frame_is_by_itself(tokenizer: RT1ImageTokenizer, inputs) -> None:
    """Batch and time are one axis to the trunk, and none is mixed up on the way back."""
    image, context = inputs
    tokens, _ = tokenizer(image, context)
    for b in range(B):
        for t in range(T):
            alone, _ = tokenizer(image[b : b + 1, t : t + 1], context[b : b + 1, t : t + 1])
            np.testing.assert_allclose(alone[0, 0], tokens[b, t], atol=1e-4)


def test_the_tokens_are_the_weighted_means_of_the_features(tokenizer: RT1ImageTokenizer, inputs) -> None:
    tokens, aux = tokenizer(*inputs)
    weights, features = aux["token_learner_weights"].numpy(), aux["features"].numpy()
    expected = np.einsum("nkhw,nhwc->nkc", weights, features).reshape(B, T, 3, 16)
    np.testing.assert_allclose(tokens, expected, atol=1e-4)


def test_the_instruction_conditions_the_tokens(tokenizer: RT1ImageTokenizer, inputs) -> None:
    image, context = inputs
    tokens, _ = tokenizer(image, context)
    other, _ = tokenizer(image, -context)
    assert np.abs(tokens - other).max() > 1e-2


def test_without_token_learner_every_position_is_a_token(inputs) -> None:
    tokenizer = _make(inputs, use_token_learner=False)
    tokens, aux = tokenizer(*inputs)
    assert tokenizer.token_learner is None
    assert tokens.shape == (B, T, 16, 16)
    assert "token_learner_weights" not in aux
    np.testing.assert_array_equal(tokens, tf.reshape(aux["features"], (B, T, 16, 16)))


def test_compiled_with_unknown_batch_and_time(tokenizer: RT1ImageTokenizer, inputs) -> None:
    signature = [
        tf.TensorSpec((None, None, SIZE, SIZE, 3), tf.float32),
        tf.TensorSpec((None, None, CONTEXT), tf.float32),
    ]
    compiled = tf.function(lambda i, c: tokenizer(i, c)[0], input_signature=signature)
    np.testing.assert_allclose(compiled(*inputs), tokenizer(*inputs)[0], atol=1e-4)
