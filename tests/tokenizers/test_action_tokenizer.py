"""Actions to tokens and back."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st
from tf_agents.specs import tensor_spec

from rt1 import specs
from tests.rt1.rt1_goldens import official_manifest
from tokenizers.action_tokenizer import RT1ActionTokenizer


def _float(
    low: float | list[float], high: float | list[float], size: int = 1, name: str = "x"
) -> tensor_spec.BoundedTensorSpec:
    return tensor_spec.BoundedTensorSpec((size,), tf.float32, low, high, name)


def _integer(size: int = 3) -> tensor_spec.BoundedTensorSpec:
    return tensor_spec.BoundedTensorSpec((size,), tf.int32, 0, 1)


def _accepted(low: float, high: float, vocab_size: int) -> RT1ActionTokenizer:
    try:
        return RT1ActionTokenizer({"x": _float(low, high)}, vocab_size)
    except ValueError:
        reject()


any_float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
bounds = st.one_of(
    st.tuples(any_float32, any_float32),
    # Near each other, and near each other far from zero: where float32 loses tokens.
    st.builds(
        lambda centre, exponent: (centre, centre + abs(centre) * 2.0**-exponent),
        st.floats(-1e6, 1e6, width=32),
        st.integers(0, 24),
    ),
)
vocabularies = st.one_of(st.just(256), st.integers(2, 4096))


@settings(max_examples=150, deadline=None)
@given(bounds, vocabularies)
@example((-1.0, 1.0), 256)
@example((-np.pi / 2, np.pi / 2), 256)
@example((0.0, 1e-38), 256)
@example((-3e38, 3e38), 256)
@example((1e6, 1e6 + 1), 256)
def test_tokens_survive_the_detour_over_values(bounds: tuple[float, float], vocab_size: int) -> None:
    tokenizer = _accepted(*bounds, vocab_size)
    tokens = np.arange(vocab_size, dtype=np.int32)[:, None]
    actions = tokenizer.detokenize(tf.constant(tokens))
    np.testing.assert_array_equal(tokenizer.tokenize(actions), tokens)


@settings(max_examples=150, deadline=None)
@given(bounds, vocabularies, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_values_survive_the_detour_over_tokens_within_a_bin(
    bounds: tuple[float, float], vocab_size: int, fractions: list[float]
) -> None:
    tokenizer = _accepted(*bounds, vocab_size)
    low, high = np.float64(np.float32(bounds))
    values = (low + (high - low) * np.array(fractions)).astype(np.float32)[:, None]
    found = tokenizer.detokenize(tokenizer.tokenize({"x": values}))["x"].numpy()
    one_bin = (high - low) / (vocab_size - 1)
    rounding = 4 * np.finfo(np.float32).eps * max(abs(low), abs(high))
    assert np.all(np.abs(found.astype(np.float64) - values) <= 1.001 * one_bin + rounding)
    # Truncation: the value that a token stands for is never above what it was taken from by more than
    # the margin of a quarter of a bin.
    assert np.all(found.astype(np.float64) - values <= 0.26 * one_bin + rounding)


def test_ordinary_bounds_are_accepted() -> None:
    for low, high in ((-1, 1), (0, 1), (-0.05, 0.05), (1e-6, 2e-6), (-180, 180), (1000, 1001)):
        RT1ActionTokenizer({"x": _float(low, high)}, 256)


def test_known_values() -> None:
    """The published rule: clip, scale to [0, 1], times 255, cut off."""
    tokenizer = RT1ActionTokenizer({"x": _float(-1.0, 1.0)}, 256)
    values = np.array([-2, -1, -0.9922, -0.9921, 0, 0.9999, 1, 7, np.inf, -np.inf], np.float32)
    tokens = tokenizer.tokenize({"x": values[:, None]})
    np.testing.assert_array_equal(tokens[:, 0], [0, 0, 0, 1, 127, 254, 255, 255, 255, 0])
    np.testing.assert_allclose(
        tokenizer.detokenize(tf.constant([[0], [51], [255]]))["x"], [[-1], [-0.6], [1]], atol=1e-7
    )


def test_bounds_of_each_element() -> None:
    tokenizer = RT1ActionTokenizer({"x": _float([0.0, -4.0], [1.0, 4.0], size=2)}, 5)
    np.testing.assert_array_equal(tokenizer.tokenize({"x": [[0.5, 2.0]]}), [[2, 3]])
    np.testing.assert_array_equal(tokenizer.detokenize(tf.constant([[2, 3]]))["x"], [[0.5, 2.0]])


@given(st.permutations(["a", "b", "c"]))
@settings(max_examples=10, deadline=None)
def test_order_of_the_tokens(order: list[str]) -> None:
    spec = {"a": _float(0, 3, 2), "b": _integer(), "c": _float(0, 3)}
    tokenizer = RT1ActionTokenizer(spec, 4, order)
    tokens_of = {"a": [1, 2], "b": [1], "c": [3]}
    expected = [t for name in order for t in tokens_of[name]]
    actions = {"a": [[1.0, 2.0]], "b": [[0, 1, 0]], "c": [[3.0]]}
    assert tokenizer.tokens_per_action == 4
    np.testing.assert_array_equal(tokenizer.tokenize(actions), [expected])
    found = tokenizer.detokenize(tf.constant([expected]))
    for name, value in actions.items():
        np.testing.assert_array_equal(found[name], value)


def test_names_of_the_tokens() -> None:
    tokenizer = RT1ActionTokenizer({"a": _float(0, 1, 2), "b": _integer(), "c": _float(0, 1)}, 4)
    assert tokenizer.action_order == ("a", "b", "c")
    assert tokenizer.token_names == ("a_0", "a_1", "b", "c")


def test_integers_are_one_hot() -> None:
    tokenizer = RT1ActionTokenizer({"terminate": _integer()}, 256)
    one_hot = np.eye(3, dtype=np.int32)
    np.testing.assert_array_equal(tokenizer.tokenize({"terminate": one_hot}), [[0], [1], [2]])
    back = tokenizer.detokenize(tf.constant([[0], [1], [2]]))["terminate"]
    assert back.dtype == tf.int32
    np.testing.assert_array_equal(back, one_hot)


@pytest.mark.parametrize("token", [3, 255, -1])
def test_an_integer_token_outside_becomes_0(token: int) -> None:
    tokenizer = RT1ActionTokenizer({"terminate": _integer()}, 256)
    np.testing.assert_array_equal(tokenizer.detokenize(tf.constant([[token]]))["terminate"], [[1, 0, 0]])


def test_leading_axes_are_kept() -> None:
    tokenizer = RT1ActionTokenizer(specs.action_spec(specs.OFFICIAL_ACTIONS), 256)
    tokens = np.random.default_rng(0).integers(0, 3, (2, 5, 11)).astype(np.int32)
    actions = tokenizer.detokenize(tf.constant(tokens))
    assert {k: tuple(v.shape) for k, v in actions.items()} == {
        k: (2, 5, *v.shape) for k, v in tokenizer.action_spec.items()
    }
    np.testing.assert_array_equal(tokenizer.tokenize(actions), tokens)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3))
def test_fractions_are_a_line_and_its_inverse(values: list[float]) -> None:
    tokenizer = RT1ActionTokenizer({"a": _float(-2, 2, 2), "b": _float(0, 10)}, 256)
    actions = {"a": tf.constant([values[:2]]), "b": tf.constant([values[2:]])}
    fractions = tokenizer.to_fractions(actions).numpy()
    expected = [(values[0] + 2) / 4, (values[1] + 2) / 4, values[2] / 10]  # Not clipped.
    np.testing.assert_allclose(fractions, [expected], atol=1e-6)
    back = tokenizer.from_fractions(tf.constant(fractions))
    for name, value in actions.items():
        np.testing.assert_allclose(back[name], value, atol=2e-6)


def test_the_official_actions_are_those_of_the_released_policies() -> None:
    manifest = official_manifest()
    actions = specs.action_spec(specs.OFFICIAL_ACTIONS)
    recorded = manifest["policy_specs"]["action"]
    assert set(actions) == set(recorded)
    for name, spec in actions.items():
        assert list(spec.shape) == recorded[name]["shape"], name
        assert spec.dtype.name == recorded[name]["dtype"], name
        np.testing.assert_array_equal(
            spec.minimum, np.full(spec.shape, recorded[name]["minimum"], np.float32)
        )
        np.testing.assert_array_equal(
            spec.maximum, np.full(spec.shape, recorded[name]["maximum"], np.float32)
        )
    assert list(actions) == manifest["action_order"]["order"]
    tokenizer = RT1ActionTokenizer(actions, 256)
    expected = manifest["action_order"]["tokens"]
    assert tokenizer.tokens_per_action == len(expected)
    # A token's name is its action's, with the element's number where there are several.
    for token, action in zip(tokenizer.token_names, expected, strict=True):
        assert token == action or token.rpartition("_")[0] == action


_GOOD = _float(0, 1)


@pytest.mark.parametrize(
    ("spec", "vocab_size", "order", "message"),
    [
        ({"x": _GOOD}, 256, ["y"], "name every action once"),
        ({"x": _GOOD}, 256, ["x", "x"], "name every action once"),
        ({"x": _GOOD, "y": _GOOD}, 256, ["x"], "name every action once"),
        ({"x": _GOOD}, 1, None, "vocab_size must be at least 2"),
        ({"x": _float(0, 1, size=0)}, 256, None, r"'x' must have the shape \[k\]"),
        (
            {"x": tensor_spec.BoundedTensorSpec((2, 2), tf.float32, 0, 1)},
            256,
            None,
            r"'x' must have the shape \[k\]",
        ),
        ({"x": tensor_spec.BoundedTensorSpec((), tf.float32, 0, 1)}, 256, None, r"must have the shape \[k\]"),
        ({"x": tensor_spec.TensorSpec((1,), tf.float32)}, 256, None, "'x' needs bounds"),
        ({"x": tensor_spec.BoundedTensorSpec((1,), tf.float64, 0, 1)}, 256, None, "float32 or integer"),
        ({"x": _float(1, 1)}, 256, None, "minimum < maximum"),
        ({"x": _float(0, np.inf)}, 256, None, "finite in float32"),
        ({"x": _float(np.nan, 1)}, 256, None, "finite in float32"),
        ({"x": _float(-3e38, 3e38)}, 256, None, "distance float32 can hold"),
        ({"x": _float(0, 1e-38)}, 256, None, "distance float32 can hold"),
        ({"x": _float(1e6, 1e6 + 1)}, 256, None, "too close together for 256 tokens"),
        ({"x": _integer(3)}, 2, None, "more elements than the vocabulary has tokens"),
    ],
)
def test_what_the_constructor_refuses(spec, vocab_size, order, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RT1ActionTokenizer(spec, vocab_size, order)


def test_what_tokenize_refuses() -> None:
    tokenizer = RT1ActionTokenizer({"x": _float(0, 1, 2)}, 256)
    with pytest.raises(ValueError, match="'x' is missing.*Received: .'y'."):
        tokenizer.tokenize({"y": [[0.0, 0.0]]})
    with pytest.raises(ValueError, match=r"must have the shape \[\.\.\., 2\]"):
        tokenizer.tokenize({"x": [[0.0, 0.0, 0.0]]})
    with pytest.raises(ValueError, match=r"must have the shape \[\.\.\., 2\]"):
        tokenizer.tokenize({"x": 0.0})
