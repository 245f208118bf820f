"""Copies even out the classes, and a pass stays about as long."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_tf.rt.class_balance import copies_per_class, draw_copies


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=20).filter(any),
    st.floats(0, 1),
    st.sampled_from([1.0, 2.5, 10.0, np.inf]),
)
def test_a_pass_stays_as_long(counts, power, maximum):
    counts = np.array(counts)
    copies = copies_per_class(counts, power, maximum)
    assert copies.max() <= maximum * (1 + 1e-6)
    assert (copies * counts).sum() == pytest.approx(counts.sum(), rel=1e-4)
    assert (copies[counts == 0] == 0).all()


def test_full_balance_and_none():
    counts = np.array([1, 10, 0, 100])
    np.testing.assert_allclose((copies_per_class(counts, 1.0, 1000) * counts)[[0, 1, 3]], 37.0, rtol=1e-5)
    np.testing.assert_allclose(copies_per_class(counts, 0.0)[[0, 1, 3]], 1.0)
    assert copies_per_class(counts, 1.0, 10).max() == 10


@pytest.mark.parametrize(
    ("counts", "power", "maximum"),
    [([], 0, 10), ([0, 0], 0, 10), ([-1, 2], 0, 10), ([1], 2, 10), ([1], 0, 0.5)],
)
def test_wrong_arguments(counts, power, maximum):
    with pytest.raises(ValueError, match="Received"):
        copies_per_class(np.array(counts, np.int64), power, maximum)


@pytest.mark.parametrize("expected", [0.0, 0.3, 1.0, 2.75])
def test_draws_have_the_expected_mean(expected):
    draw = tf.function(lambda i: draw_copies(tf.constant(expected), tf.stack([i, 7])))
    drawn = [int(draw(tf.constant(i))) for i in range(400)]
    assert set(drawn) <= {int(expected), int(expected) + 1}
    assert np.mean(drawn) == pytest.approx(expected, abs=0.1)
