"""The report's measures against what was put in, and its words, JSON and table."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.episode import GELSIGHT_LEFT, IMAGE
from episodes.synchronisation.judgement import clock_warnings, find_violations, find_warnings
from episodes.synchronisation.measures import TopicUse, find_gaps, fit_drift, largest_step_back, measure_topic
from episodes.synchronisation.planning import plan_episodes
from episodes.synchronisation.report import EpisodeReport, SyncError
from episodes.synchronisation.settings import SyncSettings
from tests.episodes.synchronisation.synthetic_recordings import MS, START_NS, S, arm, camera, every, recording


def measured(times, **changes):
    """One topic of which the first message serves both steps."""
    use = TopicUse(
        field=GELSIGHT_LEFT,
        pick="nearest",
        times=times,
        stamp_ns=times.stamp_ns,
        groups=(np.arange(len(times.stamp_ns)),),
        reach_ns=(int(times.stamp_ns.min()), int(times.stamp_ns.max())),
        messages=np.array([0, 0]),
        skew_ns=np.array([0, -MS]),
        out=np.array([False, True]),
        tolerance_ns=50 * MS,
    )
    use = dataclasses.replace(use, **changes)
    return measure_topic(use, (START_NS, START_NS + 10 * S), every(MS, len(use.skew_ns), 20 * MS))


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=40), st.integers(1, 10**9), st.randoms())
def test_gaps_are_those_of_their_definition(intervals, unit, random):
    stamps = START_NS + np.cumsum([0, *intervals]) * unit
    median = float(np.median(intervals))
    long = [i for i in intervals if i > 1.5 * median]
    mixed = stamps.tolist()
    random.shuffle(mixed)
    gaps, missing = find_gaps([np.array(mixed)])
    assert [length for _, length in gaps] == sorted((i * unit for i in long), reverse=True)
    assert missing == sum(np.rint(i / median) - 1 for i in long) >= len(gaps)
    for start, length in gaps:
        assert start in stamps and start + length in stamps


def test_publishers_of_different_rates_have_no_gaps_between_them():
    fast, slow = every(10 * MS, 100), every(100 * MS, 10, 3 * MS)
    assert find_gaps([fast, slow]) == ([], 0)
    gaps, missing = find_gaps([np.delete(fast, [5, 6]), np.delete(slow, 4)])
    assert missing == 3 and gaps == [
        (START_NS + 303 * MS, 200 * MS),
        (START_NS + 40 * MS, 30 * MS),
    ]


@settings(deadline=None, max_examples=50)
@given(st.floats(-0.1, 0.1), st.integers(3, 1000), st.integers(10**6, 10**9), st.integers(-(10**12), 10**12))
def test_the_drift_of_a_steady_clock_is_exact(drift, count, interval, offset):
    log = every(interval, count)
    offsets = offset + np.rint((log - START_NS) * drift).astype(np.int64)
    slope, total, noise = fit_drift(log, offsets)
    # Offsets are whole nanoseconds.
    assert slope == pytest.approx(drift, abs=2 / interval)
    assert total == pytest.approx(drift * interval * (count - 1), abs=2 * count)
    assert noise <= 1 + count * 2 / 200


def test_a_quarter_of_wild_messages_does_not_move_the_drift():
    log = every(33 * MS, 400)
    offsets = np.rint((log - START_NS) * 1e-3).astype(np.int64)
    offsets[::4] -= np.random.default_rng(0).integers(0, S, 100)
    assert fit_drift(log, offsets)[0] == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize("log", [[], [1], [1, 2], [5, 5, 5, 5]])
def test_no_drift_without_time(log):
    assert fit_drift(np.array(log, np.int64), np.zeros(len(log), np.int64)) is None


def test_a_single_message():
    got = measured(camera(every(1, 1)))
    assert (got.rate_hz, got.longest_interval_ms, got.drift, got.gaps) == (None, None, None, 0)
    assert (got.messages, got.used, got.repeats, got.longest_freeze_s) == (1, 1, 1, 0)
    assert (got.starts_late_s, got.ends_early_s) == (0, 10)
    assert (got.first_s, got.last_s) == (-0.02, -0.02)
    assert (got.out_of_tolerance, got.first_out_s, got.skew_max_ms) == (1, 0.001, 1.0)
    json.dumps(dataclasses.asdict(got), allow_nan=False)


def test_messages_outside_the_span_do_not_count():
    got = measured(camera(every(S, 100, -50 * S)), messages=np.array([50, 60]))
    assert (got.messages, got.used, got.between, got.outside) == (11, 2, 9, 0)
    assert (got.starts_late_s, got.ends_early_s) == (0, 0)
    got = measured(camera(every(S, 100, -50 * S)), messages=np.array([52, 53]))
    assert (got.messages, got.used, got.between, got.outside) == (11, 2, 0, 9)


def test_stamp_against_log_time():
    delays = np.array([5, 1, 3, 2, 900]) * MS
    got = measured(camera(every(S, 5), delay_ns=delays))
    assert (got.offset_median_ms, got.offset_min_ms, got.offset_max_ms) == (-3, -900, -1)


@pytest.mark.parametrize(
    ("checksums", "frozen", "longest"),
    [
        ([1, 2, 3, 4, 5], 0, 0.0),
        ([1, 1, 2, 2, 2], 3, 2.0),
        ([7, 7, 7, 7, 7], 4, 4.0),
        ([1, 2, 1, 2, 1], 0, 0.0),
    ],
)
def test_frozen_frames(checksums, frozen, longest):
    got = measured(camera(every(S, 5), checksum=checksums))
    assert (got.frozen, got.longest_freeze_s) == (frozen, longest)
    # By stamp, not by the order of recording.
    order = [3, 1, 4, 0, 2]
    mixed = camera(every(S, 5)[order], checksum=np.array(checksums)[order])
    got = measured(mixed, messages=np.array([3, 3]))
    assert (got.frozen, got.longest_freeze_s) == (frozen, longest)


CLEAN = measured(camera(every(100 * MS, 101)), out=np.zeros(2, bool), messages=np.array([0, 1]))


def test_a_step_back_within_the_tolerance_is_no_violation():
    assert find_violations([dataclasses.replace(CLEAN, largest_step_back_ms=50.0)], 2, 1.0) == []


@settings(deadline=None, max_examples=50)
@given(st.integers(12, 200), st.data())
def test_late_messages_are_no_clock_that_is_set_back(count, data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    stamps = every(33 * MS, count)
    late = np.zeros(count, np.int64)
    late[random.integers(0, 8) : count - 2 : 9] = data.draw(st.integers(0, 8 * 33 * MS))
    assert largest_step_back(stamps + late, stamps) == 0
    at = data.draw(st.integers(1, count - 2))
    step = data.draw(st.integers(34, 5000)) * MS
    stepped = stamps - (np.arange(count) >= at) * step
    order = random.permutation(count)
    assert largest_step_back(stamps[order], stepped[order]) == step - 33 * MS


def test_nothing_is_said_of_what_is_fine():
    assert find_warnings([CLEAN], 2) == find_violations([CLEAN], 2, 1.0) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"starts_late_s": 2.3},
            "/camera (observation/gelsight_left) starts 2.300 s after the episode begins",
        ),
        ({"ends_early_s": 0.2}, "ends 0.200 s before the episode does"),
        ({"gaps": 1, "missing": 1, "longest_gaps": ((0.5, 0.2),)}, "has 1 gap, about 1 message missing"),
        ({"repeats": 1}, "gives 1 of 2 steps a message that an earlier step has too"),
        ({"out_of_order": 2}, "has 2 messages out of order"),
        ({"duplicate_stamps": 1}, "has 1 stamp twice"),
        (
            {"drift": 1.2e-3, "drift_total_ms": 12.0},
            "drifts 1.2 ms per s against its log time, 12.0 ms in all",
        ),
    ],
)
def test_warnings(changes, words):
    (sentence,) = find_warnings([dataclasses.replace(CLEAN, **changes)], 2)
    assert words in sentence


@pytest.mark.parametrize(
    "changes",
    [
        {"starts_late_s": 0.149},  # Within one and a half of its intervals.
        {"drift": 1e-3, "drift_total_ms": 9.9},  # A fifth of the tolerance.
        {"drift": 1e-3, "drift_total_ms": 50.0, "drift_noise_ms": 17.0},
        {"drift": 1e-3, "drift_total_ms": 50.0, "by_log_time": True},
        {"offset_median_ms": -900.0},  # There is no other topic to compare it with.
    ],
)
def test_what_is_no_reason_to_warn(changes):
    assert find_warnings([dataclasses.replace(CLEAN, **changes)], 2) == []


def test_the_clock_that_differs_is_named():
    other = dataclasses.replace(CLEAN, topic="/other", offset_median_ms=-1240.0)
    (sentence,) = clock_warnings([CLEAN, other])
    assert sentence.startswith("/other (observation/gelsight_left) is stamped 1.240 s before its log time")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"starts_late_s": 1.1}, "starts 1.100 s after the episode begins, of which 1 s may be lost"),
        ({"ends_early_s": 1.1}, "ends 1.100 s before the episode does, of which 1 s may be lost"),
        (
            {"largest_step_back_ms": 50.1},
            "its stamps step back by 50.1 ms, tolerance 50 ms; its clock was set",
        ),
        (
            {"out_of_tolerance": 1},
            "1 of 2 steps are out of tolerance, the farthest 1.0 ms from its nearest mes",
        ),
        ({"out_of_tolerance": 1, "pick": "last"}, "from its last message (a message each 100.0 ms)"),
        ({"out_of_tolerance": 1, "pick": "clock"}, "the longest interval is 100.0 ms"),
        (
            {"out_of_tolerance": 1, "pick": "linear", "longest_bracket_ms": 120.0},
            "1 of 2 steps lie between samples more than twice the tolerance apart, at most 120.0 ms",
        ),
    ],
)
def test_violations(changes, words):
    (sentence,) = find_violations([dataclasses.replace(CLEAN, first_out_s=0.0, **changes)], 2, 1.0)
    assert words in sentence


@pytest.fixture(scope="module")
def report() -> EpisodeReport:
    of = recording(
        camera(every(100 * MS, 101)),
        camera(every(33 * MS, 234, 2300 * MS), "/gelsight1"),
        arm(every(8 * MS, 1260, -20 * MS)),
    )
    return plan_episodes(of, SyncSettings(out_of_tolerance="keep")).episodes[0].report


def test_json_holds_everything_and_no_more_than_json_can(report):
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert value == report.to_json()
    assert list(value["topics"]) == [IMAGE, GELSIGHT_LEFT, "observation/joint_positions"]
    assert value["topics"][GELSIGHT_LEFT]["starts_late_s"] == 2.32
    fields = {f.name for f in dataclasses.fields(EpisodeReport)}
    assert set(value) == fields and value["violations"] == list(report.violations) != []


def test_the_table_is_aligned_and_says_all(report):
    head, *lines = report.to_text().splitlines()
    assert (
        head
        == "77 steps by observation/image, 10.07 s from 0.00 s on; steps 100.0 ms apart, at most 100.0 ms"
    )
    headings, *rows = lines[:4]
    for row, name in zip(rows, ("/camera", "/gelsight1", "/joint_states"), strict=True):
        assert row.index(name) == headings.index("topic")
        assert len(row) == len(headings)
    assert lines[4].startswith("  violation: /gelsight1")
    assert all(sentence in report.to_text() for sentence in (*report.violations, *report.warnings))


def test_a_field_that_takes_no_part(report):
    with pytest.raises(ValueError, match="Received: 'observation/depth'"):
        report["observation/depth"]
    assert SyncError("why", report).report is report and SyncError("why").report is None
