"""Which message belongs to a time: against brute force, and exactly, for any times."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.synchronisation import resampling
from tests.episodes.synchronisation.synthetic_recordings import START_NS

# Close together, so that ties and duplicates are common; since 1970, so that float64 would be too coarse.
STAMPS = st.lists(st.integers(0, 40), min_size=1, max_size=30).map(lambda v: START_NS + np.array(v, np.int64))
TIMES = st.lists(st.integers(-5, 45), min_size=1, max_size=30).map(lambda v: START_NS + np.array(v, np.int64))
RATES = st.one_of(st.sampled_from([10.0, 15.0, 29.97, 30.0, 60.0, 0.1, 1000 / 3]), st.floats(0.5, 500))


@settings(deadline=None)
@given(TIMES, STAMPS)
def test_nearest_is_that_of_brute_force(times, stamps):
    index, skew = resampling.nearest(times, stamps)
    for time, i, difference in zip(times.tolist(), index.tolist(), skew.tolist(), strict=True):
        # The nearer, then the earlier, then the first in the bag.
        best = min(range(len(stamps)), key=lambda j: (abs(int(stamps[j]) - time), stamps[j], j))
        assert (i, difference) == (best, int(stamps[best]) - time)


@settings(deadline=None)
@given(TIMES, STAMPS)
def test_last_before_is_that_of_brute_force(times, stamps):
    times = np.maximum(times, stamps.min())
    index, skew = resampling.last_before(times, stamps)
    for time, i, difference in zip(times.tolist(), index.tolist(), skew.tolist(), strict=True):
        sent = [j for j in range(len(stamps)) if stamps[j] <= time]
        best = max(sent, key=lambda j: (stamps[j], -j))
        assert (i, difference) == (best, int(stamps[best]) - time)


def test_before_the_first_message_there_is_no_last_one():
    with pytest.raises(ValueError, match="not be before the first message"):
        resampling.last_before(np.array([START_NS]), np.array([START_NS + 1]))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 10**12), min_size=2, max_size=50, unique=True),
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.floats(-10, 10),
    st.floats(-10, 10),
    st.randoms(use_true_random=False),
)
def test_linear_functions_are_interpolated_exactly(offsets, places, slope, constant, random):
    random.shuffle(offsets)
    stamps = START_NS + np.array(offsets, np.int64)
    first, last = int(stamps.min()), int(stamps.max())
    times = np.array([first + round(place * (last - first)) for place in places], np.int64)

    def line(at):
        return np.stack([constant + slope * ((at - START_NS) / 1e9), (at - START_NS) / 1e9], axis=-1)

    values, around = resampling.interpolate(times, stamps, line(stamps))
    np.testing.assert_allclose(values, line(times), rtol=1e-12, atol=1e-9)
    assert (stamps[around.before] <= times).all() and (times <= stamps[around.after]).all()
    np.testing.assert_array_equal(around.width_ns, stamps[around.after] - stamps[around.before])
    np.testing.assert_array_equal(np.abs(around.skew_ns), np.abs(times[:, None] - stamps).min(axis=1))


def test_a_time_that_has_a_sample_takes_it_alone():
    stamps = START_NS + np.array([30, 10, 20, 20])
    values, around = resampling.interpolate(
        np.array([START_NS + 10, START_NS + 20, START_NS + 30]), stamps, np.array([3.0, 1.0, 2.0, 99.0])
    )
    assert values.tolist() == [1, 2, 3]
    assert around.before.tolist() == around.after.tolist() == [1, 2, 0]
    assert around.width_ns.tolist() == [0, 0, 0]


@pytest.mark.parametrize("time", [-1, 101])
def test_nothing_is_extrapolated(time):
    with pytest.raises(ValueError, match="within the samples"):
        resampling.interpolate(np.array([START_NS + time]), START_NS + np.array([0, 100]), np.zeros(2))


def test_an_empty_topic_gives_nothing():
    with pytest.raises(ValueError, match="must have messages"):
        resampling.nearest(np.array([START_NS]), np.zeros(0, np.int64))


@settings(deadline=None)
@given(RATES, st.integers(0, 20 * 10**9))
def test_ticks_are_exactly_spaced(rate, duration):
    ticks = resampling.ticks(START_NS, START_NS + duration, rate)
    exact = 10**9 / Fraction(rate).limit_denominator(10**6)
    assert ticks[0] == START_NS and ticks.dtype == np.int64
    for k, tick in enumerate(ticks.tolist()):
        assert abs(tick - START_NS - k * exact) <= Fraction(1, 2)
    assert len(ticks) * exact > duration >= (len(ticks) - 1) * exact


def test_ticks_do_not_drift_over_hours():
    # 29.97 Hz is 2997 / 100: after 2997 ticks, exactly 100 s have passed.
    ticks = resampling.ticks(START_NS, START_NS + 10 * 3600 * 10**9, 29.97)
    np.testing.assert_array_equal(ticks[::2997], START_NS + np.arange(361) * 100 * 10**9)


def test_a_tick_at_the_very_end_is_taken():
    assert len(resampling.ticks(START_NS, START_NS + 10**9, 10.0)) == 11
    assert len(resampling.ticks(START_NS, START_NS + 10**9 - 1, 10.0)) == 10
    assert resampling.ticks(START_NS, START_NS, 10.0).tolist() == [START_NS]
