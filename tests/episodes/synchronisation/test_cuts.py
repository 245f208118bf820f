"""Cuts at marks and rests: which spans come out, and that they lie apart within the recording."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.synchronisation import cuts
from episodes.synchronisation.cuts import Span
from episodes.synchronisation.joints import JointSeries
from tests.episodes.synchronisation.synthetic_recordings import START_NS, S, every, marks

WHOLE = Span(START_NS, START_NS + 20 * S)


def seconds(spans):
    return [(round((s.start_ns - START_NS) / 1e9, 6), round((s.end_ns - START_NS) / 1e9, 6)) for s in spans]


@pytest.mark.parametrize(
    ("events", "spans", "note"),
    [
        ([(1, "start"), (5, "stop"), (8, "start"), (9, "stop")], [(1, 5), (8, 9)], None),
        ([(1, "start"), (3, "start"), (5, "stop")], [(3, 5)], "starts anew at 3.00 s; the 2.00 s before"),
        ([(1, "stop"), (3, "start"), (5, "stop")], [(3, 5)], "stop mark at 1.00 s has no start"),
        ([(3, "start"), (5, "stop"), (6, "stop")], [(3, 5)], "stop mark at 6.00 s has no start"),
        ([(3, "start")], [(3, 20)], "no stop mark and lasts to the end"),
        ([(3, "hello"), (4, "restart"), (5, "Start")], [], None),
        ([(-3, "start"), (25, "stop")], [(0, 20)], None),
        ([(3, "start"), (3, "stop")], [], None),
        ([(5, "stop"), (1, "start")], [(1, 5)], None),  # Recorded the other way round.
    ],
)
def test_start_and_stop_marks(events, spans, note):
    got, notes = cuts.spans_from_marks(marks(*events), WHOLE, ("start",), ("stop",))
    assert seconds(got) == spans
    assert (note is None and not notes) or note in notes[0]


def test_starts_alone_end_the_episode_before():
    got, notes = cuts.spans_from_marks(marks((2, "demo 1"), (6, "demo 2")), WHOLE, ("demo *",), ())
    assert got == [Span(START_NS + 2 * S, START_NS + 6 * S - 1), Span(START_NS + 6 * S, WHOLE.end_ns)]
    assert not notes


def test_stops_alone_begin_the_next():
    got, notes = cuts.spans_from_marks(marks((2, "done"), (6, "done")), WHOLE, (), ("done",))
    assert got == [Span(START_NS, START_NS + 2 * S), Span(START_NS + 2 * S + 1, START_NS + 6 * S)]
    assert notes == ["the 14.00 s after the last stop mark are left out"]


def test_a_button_starts_and_stops_in_turn():
    got, notes = cuts.spans_from_marks(marks((2, ""), (6, ""), (7, ""), (9, "")), WHOLE, ("",), ("",))
    assert seconds(got) == [(2, 6), (7, 9)] and not notes


def test_bools():
    got, _ = cuts.spans_from_marks(marks((2, "true"), (6, "false")), WHOLE, ("true",), ("false",))
    assert seconds(got) == [(2, 6)]


EVENTS = st.lists(st.tuples(st.floats(-2, 22), st.sampled_from(["start", "stop", "both", "?"])), max_size=12)
PATTERNS = st.sampled_from(
    [(("start",), ("stop",)), (("start",), ()), ((), ("stop",)), (("both",), ("both",)), (("*",), ("s*",))]
)


@settings(deadline=None)
@given(EVENTS, PATTERNS)
def test_marked_spans_lie_apart_within_the_recording(events, patterns):
    got, _ = cuts.spans_from_marks(marks(*events), WHOLE, *patterns)
    check_apart(got, WHOLE)


def check_apart(spans, whole):
    for span in spans:
        assert whole.start_ns <= span.start_ns < span.end_ns <= whole.end_ns
    for before, after in zip(spans, spans[1:], strict=False):
        assert before.end_ns < after.start_ns


def series(times, positions):
    """Sampled at 100 Hz over 20 s, linear between the given points."""
    stamps = every(S // 100, 2001)
    values = np.interp((stamps - START_NS) / 1e9, times, positions)
    return JointSeries(stamps, values, np.arange(2001))


# Moves from 3 to 5 s, and from 8 to 8.5 s.
MOVES = series([3, 5, 8, 8.5], [0, 1, 1, 0])


@pytest.mark.parametrize(
    ("minimum", "split", "spans"),
    [
        (1.0, False, [(3, 8.5)]),
        (1.0, True, [(3, 5), (8, 8.5)]),
        (4.0, True, [(0, 8.5)]),  # The rests before and between are too short.
        (12.0, True, [(0, 20)]),
    ],
)
def test_rests(minimum, split, spans):
    got = cuts.moving_spans([MOVES], WHOLE, 0.01, minimum, split=split)
    np.testing.assert_allclose(seconds(got), spans, atol=0.1 + 1e-6)


def test_a_joint_that_moves_is_enough():
    other = series([12, 14], [0, 0.5])
    got = cuts.moving_spans([MOVES, other], WHOLE, 0.01, 1.0, split=False)
    np.testing.assert_allclose(seconds(got), [(3, 14)], atol=0.1 + 1e-6)


def test_slower_than_the_threshold_is_rest():
    assert cuts.moving_spans([MOVES], WHOLE, 3.0, 1.0, split=True) == []
    got = cuts.moving_spans([MOVES], WHOLE, 1.0, 1.0, split=False)  # 0.5 rad/s first, then 2 rad/s.
    np.testing.assert_allclose(seconds(got), [(8, 8.5)], atol=0.1 + 1e-6)


def test_a_noisy_sensor_at_rest_does_not_move():
    noise = np.random.default_rng(0).normal(0, 1e-4, 2001)
    noisy = JointSeries(MOVES.stamp_ns, MOVES.positions + noise, MOVES.message)
    assert np.abs(np.diff(noisy.positions) * 100).max() > 0.01  # From sample to sample it seems to.
    got = cuts.moving_spans([noisy], WHOLE, 0.01, 1.0, split=True)
    np.testing.assert_allclose(seconds(got), [(3, 5), (8, 8.5)], atol=0.1 + 1e-6)


def test_within_a_marked_span_only():
    got = cuts.moving_spans([MOVES], Span(START_NS + 4 * S, START_NS + 7 * S), 0.01, 1.0, split=True)
    np.testing.assert_allclose(seconds(got), [(4, 5)], atol=0.1 + 1e-6)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(0, 20), min_size=2, max_size=10, unique=True),
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=10, max_size=10),
    st.floats(0.2, 5),
    st.booleans(),
    st.floats(0, 9),
    st.floats(0.01, 11),
)
def test_moving_spans_lie_apart_and_lose_no_motion(times, positions, minimum, split, start, length):
    joint = series(sorted(times), positions[: len(times)])
    whole = Span(START_NS + round(start * 1e9), START_NS + round((start + length) * 1e9))
    got = cuts.moving_spans([joint], whole, 0.05, minimum, split=split)
    check_apart(got, whole)
    assert split or len(got) <= 1
    kept = np.zeros(len(joint.stamp_ns), bool)
    for span in got:
        kept |= (joint.stamp_ns >= span.start_ns) & (joint.stamp_ns <= span.end_ns)
    inside = (joint.stamp_ns >= whole.start_ns) & (joint.stamp_ns <= whole.end_ns)
    lost = joint.positions[inside & ~kept]
    # What is left out is a row of tenths at rest: no two of its samples within one are farther apart.
    at = joint.stamp_ns[inside & ~kept]
    close = np.diff(at) == S // 100
    assert (np.abs(np.diff(lost))[close] <= 0.05 * 0.1 + 1e-9).all()
