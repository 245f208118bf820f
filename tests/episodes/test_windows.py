"""Windows of every length of episode hold the right steps, in an order that can be repeated and resumed."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.rlds import COLUMNS, EPISODE_ID
from episodes.windows import IS_FIRST, IS_LAST, IS_PADDING, STEP_INDEX, make_windows


def dataset(lengths):
    """Step t of episode e has the value 100 e + t."""
    data = tf.data.Dataset.from_tensor_slices((np.arange(len(lengths)), np.asarray(lengths)))
    return data.map(
        lambda e, n: {
            EPISODE_ID: tf.strings.as_string(e),
            COLUMNS: {"value": 100 * e + tf.range(n), "text": tf.strings.as_string(tf.range(n))},
        }
    )


def listed(lengths, length, **arguments):
    windows = make_windows(dataset(lengths), length, **arguments)
    return [
        (int(w[EPISODE_ID]), int(w[STEP_INDEX]), w[COLUMNS]["value"].tolist())
        for w in windows.as_numpy_iterator()
    ]


@pytest.mark.parametrize(
    ("padding", "steps", "is_padding"),
    [
        ("start", [0, 0, 0, 1], [True, True, False, False]),
        ("end", [0, 1, 1, 1], [False, False, True, True]),
    ],
)
def test_the_documented_example(padding, steps, is_padding):
    window = list(make_windows(dataset([3]), 4, padding=padding).as_numpy_iterator())[1]
    assert window[COLUMNS]["value"].tolist() == steps
    assert window[COLUMNS]["text"].tolist() == [str(s).encode() for s in steps]
    assert window[IS_PADDING].tolist() == is_padding
    assert window[IS_FIRST].tolist() == [s == 0 for s in steps]
    assert window[IS_LAST].tolist() == [s == 2 for s in steps]


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(LENGTHS, st.integers(1, 7), st.sampled_from(["start", "end"]))
@settings(max_examples=12, deadline=None)
def test_windows_of_any_lengths(lengths, length, padding):
    windows = list(make_windows(dataset(lengths), length, padding=padding).as_numpy_iterator())
    where = [(int(w[EPISODE_ID]), int(w[STEP_INDEX])) for w in windows]
    assert where == [(e, t) for e, n in enumerate(lengths) for t in range(n)]
    for (e, t), w in zip(where, windows, strict=True):
        values, is_padding = w[COLUMNS]["value"], w[IS_PADDING]
        assert values.shape == is_padding.shape == (length,)
        real = values[~is_padding] - 100 * e
        assert real.tolist() == list(range(max(0, t - length + 1), t + 1))
        # Padding stands at its end only, and repeats the step beside it.
        padded = np.flatnonzero(is_padding)
        at_start = padding == "start"
        assert padded.tolist() == (
            list(range(len(padded))) if at_start else list(range(length - len(padded), length))
        )
        assert (values[padded] == (100 * e if at_start else 100 * e + t)).all()
        np.testing.assert_array_equal(w[IS_FIRST], values == 100 * e)
        np.testing.assert_array_equal(w[IS_LAST], values == 100 * e + lengths[e] - 1)


@given(LENGTHS, st.integers(0, 99), st.integers(1, 20), st.integers(1, 4))
@settings(max_examples=8, deadline=None)
def test_shuffling_loses_and_repeats_nothing(lengths, seed, buffer, at_once):
    plain = listed(lengths, 3)
    shuffled = listed(lengths, 3, seed=seed, shuffle_buffer=buffer, episodes_at_once=at_once)
    assert sorted(shuffled) == sorted(plain)


def test_order_is_that_of_seed_and_epoch():
    def order(**arguments):
        return listed([5, 7, 6], 2, **arguments)

    assert order(seed=1, epoch=2) == order(seed=1, epoch=2)
    assert order(seed=1, epoch=2) != order(seed=1, epoch=3)
    assert order(seed=1, epoch=2) != order(seed=2, epoch=1)
    # Neighbours in the order are not neighbours in an episode.
    jumps = [b[1] - a[1] for a, b in zip(order(seed=1), order(seed=1)[1:], strict=False)]
    assert jumps.count(1) < len(jumps) / 2


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("skip", [0, 1, 10, 18, 30])
def test_a_resumed_epoch_goes_on_where_it_stopped(seed, skip):
    whole = listed([5, 7, 6], 2, seed=seed, epoch=1)
    assert listed([5, 7, 6], 2, seed=seed, epoch=1, skip=skip) == whole[skip:]


def test_shards_are_disjoint_and_complete():
    parts = [listed([5, 7, 6, 2, 3], 2, shard=(2, i)) for i in range(2)]
    assert {e for e, _, _ in parts[0]} == {0, 2, 4}
    assert sorted(parts[0] + parts[1]) == sorted(listed([5, 7, 6, 2, 3], 2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": 0},
        {"padding": "middle"},
        {"skip": -1},
        {"seed": 1, "shuffle_buffer": 0},
        {"seed": 1, "episodes_at_once": 0},
        {"shard": (2, 2)},
    ],
)
def test_arguments_out_of_range(wrong):
    with pytest.raises(ValueError, match="Received"):
        make_windows(dataset([3]), **{"length": 2, **wrong})
