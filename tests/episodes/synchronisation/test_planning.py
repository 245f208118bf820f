"""Recordings with known offsets, rates, drop-outs and clocks: what is reported is true, and what is taken is
in step; the rules of published converters, beside it, are not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from episodes.episode import ACTION, GELSIGHT_LEFT, IMAGE, JOINT_POSITIONS
from episodes.synchronisation import actions
from episodes.synchronisation.planning import plan_episodes
from episodes.synchronisation.report import SyncError
from episodes.synchronisation.settings import SyncSettings
from tests.episodes.synchronisation.synthetic_recordings import (
    MS,
    START_NS,
    S,
    arm,
    camera,
    every,
    joint_messages,
    marks,
    recording,
    vectors,
)

AMPLITUDE, OMEGA = 0.8, 2 * np.pi * 0.7
WIDE = {GELSIGHT_LEFT: 10.0, IMAGE: 10.0, JOINT_POSITIONS: 10.0}


def swing(seconds):
    """Two joints; the second derivative is at most AMPLITUDE * OMEGA^2."""
    return np.stack([AMPLITUDE * np.sin(OMEGA * seconds), AMPLITUDE * np.cos(OMEGA * seconds)])


def usual(**changes):
    """10 s: images at 10 Hz, tactile ones at 30 Hz from 7 ms on, joints at 125 Hz from 20 ms before."""
    parts = {
        "image": camera(every(100 * MS, 101)),
        "gelsight": camera(every(33 * MS, 304, 7 * MS), "/gelsight1"),
        "joints": arm(every(8 * MS, 1260, -20 * MS), swing),
    }
    return recording(**{**parts, **changes})


def planned(of, **options):
    (plan,) = plan_episodes(of, SyncSettings(**options)).episodes
    return plan


def without(times, *cut):
    """Leaves out slices of messages."""
    keep = np.ones(len(times.stamp_ns), bool)
    for part in cut:
        keep[part] = False
    return camera(times.stamp_ns[keep], times.topic)


class TestTheReportedSkewIsTheTrueOne:
    @pytest.mark.parametrize("rate", [None, 10.0, 7.3])
    def test_to_the_nanosecond(self, rate):
        of = usual()
        plan = planned(of, rate_hz=rate, tolerance_s=WIDE)
        for field, frames in of.frames.items():
            distance = np.abs(frames.stamp_ns[:, None] - plan.times_ns)
            truth = distance.min(axis=0)
            got = plan.report[field]
            assert got.skew_max_ms == truth.max() / 1e6
            assert got.skew_median_ms == pytest.approx(np.median(truth) / 1e6, abs=1e-9)
            assert got.skew_95_ms == pytest.approx(np.quantile(truth, 0.95) / 1e6, abs=1e-9)
            np.testing.assert_array_equal(np.abs(frames.stamp_ns[plan.frames[field]] - plan.times_ns), truth)

    def test_with_offsets_worked_out_by_hand(self):
        # Messages 40 ms apart from 13 ms on, steps 100 ms apart: 13, 7, 13, 7 … ms away.
        of = usual(gelsight=camera(every(40 * MS, 260, 13 * MS), "/gelsight1"))
        plan = planned(of)
        assert len(plan.times_ns) == 100  # 101 images, and the last has no next joint positions.
        got = plan.report[GELSIGHT_LEFT]
        assert (got.skew_max_ms, got.skew_median_ms) == (13.0, 10.0)
        assert (got.rate_hz, got.tolerance_ms, got.out_of_tolerance) == (25.0, 50.0, 0)
        assert plan.report[IMAGE].skew_max_ms == 0
        # Samples at -20, -12, -4, 4 … ms; steps are a multiple of 4 ms off the grid of 8 ms.
        assert plan.report[JOINT_POSITIONS].skew_max_ms == 4.0
        assert plan.report[JOINT_POSITIONS].longest_bracket_ms == 8.0

    def test_of_the_worst_joint_where_publishers_differ(self):
        messages = [(t * MS, ("a",), [0.0], "/arm") for t in range(0, 1001, 10)]
        messages += [(t * MS + 3 * MS, ("b",), [0.0], "/hand") for t in range(-10, 1001, 10)]
        of = usual(image=camera(every(100 * MS, 10)), gelsight=None, joints=joint_messages(sorted(messages)))
        plan = planned(of, joint_names=("a", "b"))
        assert plan.report[JOINT_POSITIONS].skew_max_ms == 3.0
        assert plan.report[JOINT_POSITIONS].gaps == 0


class TestTheReportedGapsAreTheTrueOnes:
    def test_of_a_camera_that_drops(self):
        of = usual()
        dropped = without(of.frames[GELSIGHT_LEFT], slice(10, 11), slice(100, 104), slice(200, 220))
        plan = planned(usual(gelsight=dropped), out_of_tolerance="keep")
        got = plan.report[GELSIGHT_LEFT]
        assert (got.gaps, got.missing) == (3, 1 + 4 + 20)
        # Message k is at 7 ms + 33 ms k; message 199 is the last before the longest gap.
        assert got.longest_gaps == ((6.574, 0.693), (3.274, 0.165), (0.304, 0.066))
        assert got.longest_interval_ms == 693.0
        # Its middle: the step at 6.9 s is 326 ms after message 199 and 367 ms before the next.
        assert got.skew_max_ms == 326.0
        assert "has 3 gaps, about 25 messages missing; the longest is 0.693 s" in " ".join(
            plan.report.warnings
        )
        steps = np.flatnonzero(np.abs(dropped.stamp_ns[:, None] - plan.times_ns).min(axis=0) > 50 * MS)
        assert got.out_of_tolerance == len(steps) > 0
        assert got.first_out_s == steps[0] / 10

    def test_of_joints_over_which_nothing_may_be_interpolated(self):
        stamps = every(8 * MS, 1260, -20 * MS)
        joints = arm(np.delete(stamps, slice(500, 520)), swing)
        with pytest.raises(SyncError, match=r"/joint_states .*: 2 of 100 steps lie between samples more"):
            plan_episodes(usual(joints=joints), SyncSettings())
        plan = planned(usual(joints=joints), out_of_tolerance="keep")
        got = plan.report[JOINT_POSITIONS]
        assert (got.gaps, got.missing, got.longest_bracket_ms) == (1, 20, 168.0)
        assert got.out_of_tolerance == 2  # 499 is at 3.972 s, 520 at 4.140 s: the steps at 4.0 and 4.1 s.

    def test_of_the_clock_itself(self):
        silent = without(usual().frames[IMAGE], slice(30, 50))
        with pytest.raises(
            SyncError, match="as the clock it leaves 1 of 80 steps without a next one in time"
        ):
            plan_episodes(usual(image=silent), SyncSettings())
        report = planned(usual(image=silent), out_of_tolerance="keep").report
        assert (report[IMAGE].missing, report[IMAGE].first_out_s, report.step_max_ms) == (20, 2.9, 2100.0)

    def test_where_only_the_action_of_the_last_step_lies_in_it(self):
        stamps = every(8 * MS, 1252, -16 * MS)
        silent = (stamps > START_NS + 9950 * MS) & (stamps < START_NS + 9999 * MS)
        joints = arm(
            np.append(stamps[~silent & (stamps < START_NS + 9999 * MS)], START_NS + 10_060 * MS), swing
        )
        report = planned(usual(joints=joints), out_of_tolerance="keep").report
        assert report[JOINT_POSITIONS].longest_bracket_ms == 116.0  # From 9.944 s; the last step is at 9.9 s.
        assert (report[JOINT_POSITIONS].out_of_tolerance, report[JOINT_POSITIONS].first_out_s) == (1, 9.9)

    def test_a_single_missing_frame_of_a_slow_clock_is_not(self):
        with pytest.raises(SyncError, match="the longest interval is 200.0 ms"):
            plan_episodes(usual(image=without(usual().frames[IMAGE], slice(50, 51))), SyncSettings())

    def test_a_single_missing_frame_of_a_fast_clock_is_within_tolerance(self):
        image = without(camera(every(33 * MS, 300)), slice(50, 51))
        assert planned(usual(image=image)).report[IMAGE].missing == 1


class TestClocks:
    @pytest.mark.parametrize("drift", [1.2e-3, -3e-4, 0.05])
    def test_a_warped_topic_shows_its_drift(self, drift):
        log = every(33 * MS, 304, 7 * MS)
        stamps = log + np.rint((log - log[0]) * drift).astype(np.int64)
        gelsight = replace(camera(stamps, "/gelsight1"), log_ns=log)
        report = planned(usual(gelsight=gelsight), tolerance_s=WIDE, default_tolerance_s=0.01).report
        assert report[GELSIGHT_LEFT].drift == pytest.approx(drift, abs=1e-9)
        assert report[GELSIGHT_LEFT].drift_total_ms == pytest.approx(drift * 9999, abs=1e-5)
        assert report[IMAGE].drift == 0 and report[JOINT_POSITIONS].drift == 0

    def test_drift_is_told_in_words_and_found_under_late_arrivals(self):
        random = np.random.default_rng(0)
        taken = every(33 * MS, 304, 7 * MS)
        log = taken + random.exponential(4 * MS, 304).astype(np.int64)  # Networks are only ever late.
        log[::30] += 300 * MS
        stamps = taken + ((taken - START_NS) * 2e-3).astype(np.int64)
        report = planned(usual(gelsight=replace(camera(stamps, "/gelsight1"), log_ns=log))).report
        assert report[GELSIGHT_LEFT].drift == pytest.approx(2e-3, abs=2e-4)
        assert any(
            w.startswith("the clock of /gelsight1 (observation/gelsight_left) drifts 2")
            for w in report.warnings
        )

    def test_late_arrivals_alone_are_no_drift(self):
        random = np.random.default_rng(1)
        gelsight = camera(
            every(33 * MS, 304, 7 * MS), delay_ns=random.exponential(30 * MS, 304).astype(np.int64)
        )
        assert not any("drift" in warning for warning in planned(usual(gelsight=gelsight)).report.warnings)

    def test_a_clock_that_is_set_wrong_is_seen_and_can_be_passed_over(self):
        true = every(33 * MS, 334, 7 * MS - S)
        gelsight = replace(camera(true - 1240 * MS, "/gelsight1"), log_ns=true)
        with pytest.raises(SyncError, match="ends 1.2.. s before .* is stamped 1.240 s before its log time"):
            plan_episodes(usual(gelsight=gelsight), SyncSettings())
        plan = planned(usual(gelsight=gelsight), log_time=(GELSIGHT_LEFT,))
        got = plan.report[GELSIGHT_LEFT]
        assert got.skew_max_ms <= 16.5 and got.by_log_time
        assert (got.offset_median_ms, got.offset_min_ms, got.offset_max_ms) == (-1240.0,) * 3
        np.testing.assert_array_equal(
            np.abs(true[plan.frames[GELSIGHT_LEFT]] - plan.times_ns),
            np.abs(true[:, None] - plan.times_ns).min(axis=0),
        )

    @pytest.mark.parametrize("step_ms", [1000, 300])
    @pytest.mark.parametrize("field", [IMAGE, GELSIGHT_LEFT, JOINT_POSITIONS])
    def test_a_clock_that_is_set_back_amid_the_recording(self, field, step_ms):
        of = usual()

        def set_back(times):
            late = times.log_ns >= START_NS + 2 * S
            return replace(times, stamp_ns=times.stamp_ns - late * step_ms * MS)

        parts = {IMAGE: "image", GELSIGHT_LEFT: "gelsight", JOINT_POSITIONS: "joints"}
        topics = {**of.frames, JOINT_POSITIONS: of.joints}
        of = usual(**{parts[field]: set_back(topics[field])})
        with pytest.raises(SyncError, match=rf"\({field}\): in the order of log times .*clock was set back"):
            plan_episodes(of, SyncSettings())
        interval_ms = {IMAGE: 100, GELSIGHT_LEFT: 33, JOINT_POSITIONS: 8}[field]
        report = planned(of, out_of_tolerance="keep").report
        assert report[field].largest_step_back_ms == step_ms - interval_ms
        assert [t.field for t in report.topics if t.largest_step_back_ms] == [field]
        assert any("clock was set back" in violation for violation in report.violations)
        by_log = planned(of, log_time=(field,))
        assert by_log.report[field].largest_step_back_ms == 0 and len(by_log.times_ns) == 100

    @pytest.mark.parametrize("hours", [-3, 3])
    @pytest.mark.parametrize("options", [{}, {"rate_hz": 10.0}, {"out_of_tolerance": "keep"}])
    def test_a_clock_that_is_hours_wrong_is_named_with_the_remedy(self, hours, options):
        true = usual().frames[IMAGE]
        of = usual(image=replace(true, stamp_ns=true.stamp_ns + hours * 3600 * S))
        side = "ahead of" if hours > 0 else "behind"
        words = (
            rf"the stamps of /camera \(observation/image\) are 10800.000 s {side}"
            r" its log times, those of \S+ \S+ 0.000 s behind theirs; "
            r"synchronisation.log_time = \('observation/image',\) takes log times instead$"
        )
        with pytest.raises(SyncError, match=words):
            plan_episodes(of, SyncSettings(**options))
        assert len(planned(of, log_time=(IMAGE,)).times_ns) == 100

    def test_a_clock_that_is_not_simulated_as_the_others_are(self):
        """The remedy names the topics that are off the log times, the sentence the odd one."""
        of = usual()

        def simulated(times):
            return replace(times, stamp_ns=times.stamp_ns - 40 * 3600 * S)

        gelsight, joints = simulated(of.frames[GELSIGHT_LEFT]), simulated(of.joints)
        of = usual(gelsight=gelsight, joints=joints)
        with pytest.raises(
            SyncError, match=r"the stamps of /camera .* 0.000 s behind .*144000.000"
        ) as refused:
            plan_episodes(of, SyncSettings())
        remedy = (GELSIGHT_LEFT, JOINT_POSITIONS)
        assert f"synchronisation.log_time = {remedy} takes" in str(refused.value)
        assert len(planned(of, log_time=remedy).times_ns) == 100

    def test_topics_that_never_meet_by_clocks_that_agree_blame_no_clock(self):
        late = camera(every(33 * MS, 10, 60 * S), "/gelsight1")
        with pytest.raises(SyncError, match="0 steps") as refused:
            plan_episodes(usual(gelsight=late), SyncSettings())
        assert "log_time" not in str(refused.value)

    def test_one_broken_stamp_among_the_topics_is_named(self):
        stamps = every(8 * MS, 1260, -20 * MS)
        stamps[700] = 17
        with pytest.raises(SyncError, match=r"of one recording.*Received: .*joint_states.*: 0.000 to 17"):
            plan_episodes(usual(joints=arm(stamps)), SyncSettings())


class TestBeginAndEnd:
    def test_a_late_topic_refuses_the_episode(self):
        late = camera(every(33 * MS, 234, 2300 * MS), "/gelsight1")
        with pytest.raises(SyncError) as refused:
            plan_episodes(usual(gelsight=late), SyncSettings())
        # The recording begins with the joints, 20 ms before START_NS.
        assert "/gelsight1 (observation/gelsight_left) starts 2.320 s after the episode begins" in str(
            refused.value
        )
        report = refused.value.report
        assert report.trimmed_start_s == 2.3035  # Half an interval less.
        assert report.trimmed_start_topic == "/gelsight1 (observation/gelsight_left)"
        assert report[GELSIGHT_LEFT].starts_late_s == 2.32
        assert report[IMAGE].starts_late_s == 0.02

    @pytest.mark.parametrize("options", [{"maximum_trim_s": 2.4}, {"out_of_tolerance": "keep"}])
    def test_a_late_topic_is_cut_off_on_demand(self, options):
        late = camera(every(33 * MS, 234, 2300 * MS), "/gelsight1")
        plan = planned(usual(gelsight=late), **options)
        assert plan.times_ns[0] == START_NS + 2300 * MS
        assert plan.report[IMAGE].outside == 23 + 1
        assert any("starts 2.320 s after" in warning for warning in plan.report.warnings)
        assert bool(plan.report.violations) == ("out_of_tolerance" in options)

    def test_the_last_joint_to_begin_and_the_first_to_end_count(self):
        messages = [(t * MS, ("a",), [0.0], "") for t in range(-20, 1041, 10)]
        messages += [(t * MS, ("g",), [0.0], "") for t in range(150, 851, 10)]
        of = usual(image=camera(every(100 * MS, 11)), gelsight=None, joints=joint_messages(sorted(messages)))
        plan = planned(of, joint_names=("a", "g"))
        assert ((plan.times_ns[[0, -1]] - START_NS) // MS).tolist() == [200, 700]
        assert plan.report[JOINT_POSITIONS].starts_late_s == 0.17
        assert plan.report[JOINT_POSITIONS].ends_early_s == 0.19

    def test_a_topic_that_ends_early(self):
        of = usual(joints=arm(every(8 * MS, 600, -20 * MS), swing))
        with pytest.raises(SyncError, match=r"/joint_states .* ends 5.234 s before the episode does"):
            plan_episodes(of, SyncSettings())
        plan = planned(of, maximum_trim_s=6.0)
        assert plan.report.trimmed_end_topic == "/joint_states (observation/joint_positions)"
        assert plan.report.trimmed_end_s == 5.234
        assert plan.times_ns[-1] == START_NS + 4600 * MS  # Joints last to 4.772 s; 4.7 s is the next step.

    @pytest.mark.parametrize(("publisher", "label"), [("/arm", "/arm"), ("", "an unknown publisher")])
    def test_joints_that_are_renamed_amid_the_recording(self, publisher, label):
        messages = [(t * 8 * MS, ("a", "b" if t < 600 else "c"), [0, 0], publisher) for t in range(1252)]
        with pytest.raises(SyncError, match=r"/joint_states .* ends 5.2") as refused:
            plan_episodes(usual(joints=joint_messages(messages)), SyncSettings(joint_names=("a", "b")))
        assert f"joint_names = ('a', 'b') by {label} (600 messages, 0.000 to 4.792 s)" in str(refused.value)
        assert f"joint_names = ('a', 'c') by {label} (652 messages, 4.800 to 10.008 s)" in str(refused.value)

    def test_topics_that_never_meet(self):
        late = camera(every(33 * MS, 10, 60 * S), "/gelsight1")
        with pytest.raises(
            SyncError, match=r"Received: 0 steps; /camera .* /gelsight1 .* from 60.020 to 60.317"
        ):
            plan_episodes(usual(gelsight=late), SyncSettings(out_of_tolerance="keep"))

    def test_a_fixed_rate_begins_with_the_last_topic(self):
        plan = planned(usual(), rate_hz=20.0)
        assert plan.times_ns[0] == START_NS + 7 * MS
        assert set(np.diff(plan.times_ns).tolist()) == {50 * MS}


class TestAccounting:
    def test_of_duplicates_disorder_freezes_and_stampless_messages(self):
        stamps = every(33 * MS, 304, 7 * MS)
        stamps[50] = stamps[49]
        stamps[[80, 81]] = stamps[[81, 80]]
        checksum = np.arange(304)
        checksum[100:105] = 100
        checksum[200] = 199
        gelsight = camera(stamps, "/gelsight1", checksum=checksum, zero_stamps=3, undecodable=(4, 9))
        report = planned(usual(gelsight=gelsight)).report
        got = report[GELSIGHT_LEFT]
        assert (got.duplicate_stamps, got.out_of_order, got.gaps) == (1, 1, 1)
        assert (got.frozen, got.longest_freeze_s) == (5, 0.132)
        assert (got.zero_stamps, got.undecodable) == (3, 2)
        words = " ".join(report.warnings)
        for told in (
            "3 messages without a stamp",
            "2 messages without a whole image",
            "1 message out of order",
        ):
            assert told in words
        assert "repeats the same image 5 times, at most 0.132 s long" in words

    def test_of_a_slow_camera_whose_images_serve_several_steps(self):
        plan = planned(usual(), rate_hz=40.0, tolerance_s=WIDE)
        got = plan.report[IMAGE]
        assert got.repeats == len(plan.times_ns) - got.used > 0
        assert got.used == len(set(plan.frames[IMAGE].tolist()))

    def test_of_joint_messages_that_do_not_count(self):
        messages = [(t * 10 * MS, ("a",), [t / 100], "/arm") for t in range(-1, 102)]
        messages += [(t * 10 * MS, ("g",), [0.0], "/hand") for t in range(20)]
        messages += [(t * 10 * MS, ("a",), [], "/arm") for t in range(5)]
        of = usual(image=camera(every(100 * MS, 11)), gelsight=None, joints=joint_messages(messages))
        got = planned(of, joint_names=("a",)).report[JOINT_POSITIONS]
        assert (got.messages, got.left_out, got.outside) == (128, 25, 2)
        assert got.used == 11  # Steps at 0, 0.1 … 1.0 s are all stamps of /arm.

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_every_message_is_accounted_for_once(self, data):
        plan = planned(random_recording(data), **data.draw(st.sampled_from(FREE)))
        for got in plan.report.topics:
            assert got.messages == got.used + got.between + got.outside + got.left_out
            if got.field in plan.frames:
                assert got.used == len(np.unique(plan.frames[got.field]))
        json.dumps(plan.report.to_json(), allow_nan=False)


FREE = [
    {"out_of_tolerance": "keep"},
    {"out_of_tolerance": "keep", "rate_hz": 12.0},
    {"out_of_tolerance": "keep", "clock": GELSIGHT_LEFT, "action": "joint_difference"},
]


def random_recording(data, *, unique=True):
    """Jittered, dropped and shuffled messages of three topics that overlap for a second and more."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))

    def stamps(interval, count):
        ideal = every(interval, count, int(random.integers(-200, 200)) * MS)
        found = ideal + random.integers(-interval // 3, interval // 3, count)
        found = found[random.random(count) > 0.1]
        return np.unique(found) if unique else found

    image, gelsight, joints = stamps(100 * MS, 25), stamps(33 * MS, 75), stamps(20 * MS, 125)
    delays = random.integers(0, 30 * MS, len(gelsight))
    return recording(
        camera(image), camera(gelsight, "/gelsight1", delay_ns=delays), arm(joints, swing, delay_ns=MS)
    )


class TestWhatDoesNotMatter:
    @settings(deadline=None, max_examples=40)
    @given(st.data())
    def test_the_order_of_messages(self, data):
        of, options = random_recording(data), data.draw(st.sampled_from(FREE))
        random = np.random.default_rng(data.draw(st.integers(0, 99)))

        def shuffled(times):
            order = random.permutation(len(times.stamp_ns))
            changes = {"stamp_ns": times.stamp_ns[order], "log_ns": times.log_ns[order]}
            if times is of.joints:
                for name in ("names", "positions", "publisher"):
                    changes[name] = tuple(getattr(times, name)[i] for i in order)
            else:
                changes["checksum"] = times.checksum[order]
            return replace(times, **changes)

        mixed = replace(of, frames={f: shuffled(t) for f, t in of.frames.items()}, joints=shuffled(of.joints))
        one, other = planned(of, **options), planned(mixed, **options)
        np.testing.assert_array_equal(one.times_ns, other.times_ns)
        for field in of.frames:
            np.testing.assert_array_equal(
                of.frames[field].stamp_ns[one.frames[field]],
                mixed.frames[field].stamp_ns[other.frames[field]],
            )
        for name, column in one.columns.items():
            np.testing.assert_array_equal(column, other.columns[name])
        tell = [
            [replace(topic, out_of_order=0) for topic in report.topics]
            for report in (one.report, other.report)
        ]
        assert tell[0] == tell[1]

    @settings(deadline=None, max_examples=40)
    @given(st.data(), st.integers(-START_NS, 2**62 - START_NS))
    def test_when_it_was_recorded(self, data, shift):
        of, options = random_recording(data), data.draw(st.sampled_from(FREE))
        assume(abs(shift) < 2**62)

        def shifted(times):
            return replace(times, stamp_ns=times.stamp_ns + shift, log_ns=times.log_ns + shift)

        moved = replace(of, frames={f: shifted(t) for f, t in of.frames.items()}, joints=shifted(of.joints))
        one, other = planned(of, **options), planned(moved, **options)
        np.testing.assert_array_equal(one.times_ns + shift, other.times_ns)
        for name, column in one.columns.items():
            np.testing.assert_array_equal(column, other.columns[name])
        for field in of.frames:
            np.testing.assert_array_equal(one.frames[field], other.frames[field])
        assert replace(one.report, start_ns=0) == replace(other.report, start_ns=0)


def eipl_rule(of, rate_hz):
    """EIPL's converter: for each tick of 1 / rate, of each topic the first message logged at or after it."""
    logs = [times.log_ns for times in (*of.frames.values(), of.joints)]
    ticks = np.arange(min(log[0] for log in logs), max(log[-1] for log in logs), round(S / rate_hz))
    picks = []
    for tick in ticks:
        found = [np.flatnonzero(log >= tick) for log in logs]
        if not all(len(later) for later in found):
            break  # The shortest topic ends the episode.
        picks.append([later[0] for later in found])
    image, gelsight, joints = np.array(picks).T
    return image, gelsight, joints


def index_rule(of):
    """CLIP-SARNN's converter: the k-th image with the k-th message of each other topic."""
    count = min(len(times.stamp_ns) for times in (*of.frames.values(), of.joints))
    return (np.arange(count),) * 3


class TestBesidePublishedRules:
    """A camera that takes 30 ms to arrive, a tactile one 60 ms, joints at once, all with some drop-outs."""

    @pytest.fixture(scope="class")
    def of(self):
        random = np.random.default_rng(7)
        image = every(100 * MS, 200, 3 * MS) + random.integers(-2 * MS, 2 * MS, 200)
        gelsight = np.delete(every(33 * MS, 600) + random.integers(-2 * MS, 2 * MS, 600), [90, 300, 301])
        joints = np.delete(every(20 * MS, 1002, -10 * MS), [200, 500, 700])
        return recording(
            camera(image, delay_ns=30 * MS),
            camera(gelsight, "/gelsight1", delay_ns=60 * MS),
            arm(joints, swing, delay_ns=MS),
        )

    @staticmethod
    def errors(of, image, gelsight, joints):
        """Of joint positions (rad) and of tactile images (ns), against the time that the image was taken."""
        taken = of.frames[IMAGE].stamp_ns[image]
        return (
            np.abs(joints - swing((taken - START_NS) / 1e9).T).max(),
            np.abs(of.frames[GELSIGHT_LEFT].stamp_ns[gelsight] - taken).max(),
        )

    def ours(self, of):
        plan = planned(of)
        # float32 of the contract costs up to 6e-8 rad.
        return self.errors(of, plan.frames[IMAGE], plan.frames[GELSIGHT_LEFT], plan.columns[JOINT_POSITIONS])

    def test_joints_are_within_the_interpolation_error(self, of):
        report = planned(of).report
        assert report[JOINT_POSITIONS].longest_bracket_ms == 40.0
        bound = (0.04**2) / 8 * AMPLITUDE * OMEGA**2
        error, skew = self.ours(of)
        assert error <= bound + 1e-7
        assert skew == report[GELSIGHT_LEFT].skew_max_ms * MS

    def test_joints_at_every_step_are_within_their_own_bracket_s_error(self, of):
        plan = planned(of)
        stamps = of.joints.stamp_ns
        after = np.searchsorted(stamps, plan.times_ns)
        width = (stamps[after] - stamps[after - 1]) / 1e9
        truth = swing((plan.times_ns - START_NS) / 1e9).T
        error = np.abs(plan.columns[JOINT_POSITIONS] - truth).max(axis=1)
        assert (error <= width**2 / 8 * AMPLITUDE * OMEGA**2 + 1e-7).all()

    def test_eipl_s_rule_is_visibly_worse(self, of):
        image, gelsight, messages = eipl_rule(of, 10.0)
        theirs = self.errors(of, image, gelsight, np.array(of.joints.positions)[messages])
        error, skew = self.ours(of)
        assert theirs[0] > 20 * error and theirs[0] > 0.05
        assert theirs[1] > 1.5 * skew and theirs[1] > 50 * MS

    def test_index_pairing_is_visibly_worse(self, of):
        image, gelsight, messages = index_rule(of)
        theirs = self.errors(of, image, gelsight, np.array(of.joints.positions)[messages])
        error, skew = self.ours(of)
        assert theirs[0] > 100 * error and theirs[0] > AMPLITUDE
        assert theirs[1] > 100 * skew and theirs[1] > 10 * S

    def test_a_topic_that_ends_early_shortens_eipl_silently_and_is_refused_here(self, of):
        short = replace(of, joints=arm(of.joints.stamp_ns[:300], swing))
        assert len(eipl_rule(short, 10.0)[0]) < 65 < len(eipl_rule(of, 10.0)[0])
        with pytest.raises(SyncError, match="/joint_states .* ends"):
            plan_episodes(short, SyncSettings())


class TestActions:
    def test_next_joint_positions_are_those_of_the_next_step(self):
        plan = planned(usual())
        action, joints = plan.columns[ACTION], plan.columns[JOINT_POSITIONS]
        assert action.dtype == joints.dtype == np.float32
        assert action.shape == joints.shape == (len(plan.times_ns), 2)
        np.testing.assert_array_equal(action[:-1], joints[1:])
        truth = swing((plan.times_ns + 100 * MS - START_NS) / 1e9).T
        np.testing.assert_allclose(action, truth, atol=2e-4)
        assert plan.joint_names == ("joint_1", "joint_2")
        assert plan.action_names == ("joint_1 [rad]", "joint_2 [rad]")

    def test_differences_add_up(self):
        plan = planned(usual(), action="joint_difference")
        joints = plan.columns[JOINT_POSITIONS]
        np.testing.assert_allclose(joints[:-1] + plan.columns[ACTION][:-1], joints[1:], atol=1e-6)
        assert plan.action_names[0] == "joint_1 difference [rad]"

    def test_a_command_is_the_last_one_sent(self):
        stamps = every(40 * MS, 250, -10 * MS)
        command = vectors(stamps, np.stack([np.arange(250.0)] * 2, axis=1), ("x [m/s]", "y [m/s]"))
        plan = planned(usual(command=command), action="command", tolerance_s={ACTION: 0.06})
        sent = np.minimum((plan.times_ns - START_NS + 10 * MS) // (40 * MS), 249)
        np.testing.assert_array_equal(plan.columns[ACTION], np.stack([sent, sent], axis=1))
        # The last command, at 9.95 s, holds for 60 ms: the last image, at 10 s, has one. No step is dropped.
        assert len(plan.times_ns) == 101
        assert plan.report[ACTION].skew_max_ms == 50.0
        assert plan.action_names == ("x [m/s]", "y [m/s]")

    def test_commands_need_no_joints(self):
        command = vectors(every(40 * MS, 260), np.zeros((260, 1)), ("command_0",))
        plan = planned(usual(joints=None, command=command), action="command")
        assert set(plan.columns) == {ACTION} and plan.joint_names == ()

    def test_pose_differences_with_a_gripper(self):
        stamps = every(10 * MS, 1010, -10 * MS)
        seconds = (stamps - START_NS) / 1e9
        turn = 0.3 * seconds / 2  # About z at 0.3 rad/s, while x grows by 0.2 m/s.
        poses = np.zeros((1010, 7))
        poses[:, 0], poses[:, 5], poses[:, 6] = 0.2 * seconds, np.sin(turn), np.cos(turn)
        of = usual(pose=vectors(stamps, poses, tuple("xyzXYZW")))
        plan = planned(of, action="pose_difference", gripper_joint="joint_2", joint_names=("joint_1",))
        assert plan.columns[JOINT_POSITIONS].shape[1] == 1
        expected = np.tile([0.02, 0, 0, 0, 0, 0.03], (100, 1))
        np.testing.assert_allclose(plan.columns[ACTION][:, :6], expected, atol=1e-7)
        truth = swing((plan.times_ns + 100 * MS - START_NS) / 1e9)[1]
        np.testing.assert_allclose(plan.columns[ACTION][:, 6], truth, atol=2e-4)
        assert plan.action_names == (*actions.POSE_DIFFERENCE_NAMES, "joint_2 [rad]")

    def test_a_pose_without_a_rotation(self):
        pose = vectors(every(10 * MS, 1010), np.zeros((1010, 7)), tuple("xyzXYZW"))
        with pytest.raises(SyncError, match="/vectors .action.: A pose needs a quaternion"):
            plan_episodes(usual(pose=pose), SyncSettings(action="pose_difference"))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"action": "command"}, "needs a topic of its own"),
            ({"action": "pose_difference"}, "needs a topic of its own"),
            ({"gripper_joint": "joint_1"}, "must not be among the observed joints"),
            (
                {"gripper_joint": "finger"},
                "^demo.bag: /joint_states must publish the joints .'finger'.*joint_1",
            ),
            ({"clock": "observation/depth"}, "the clock must be a recorded field"),
            ({"start_marks": ("go",)}, "needs a topic of marks"),
        ],
    )
    def test_what_is_not_recorded(self, options, message):
        with pytest.raises(SyncError, match=message):
            plan_episodes(usual(), SyncSettings(**options))

    @pytest.mark.parametrize("options", [{}, {"gripper_joint": "g"}, {"idle": "trim"}])
    def test_joints_that_are_not_recorded(self, options):
        with pytest.raises(SyncError, match="needs a joint topic"):
            plan_episodes(usual(joints=None), SyncSettings(**options))

    def test_a_topic_without_messages(self):
        with pytest.raises(SyncError, match="none on .*/gelsight1"):
            plan_episodes(usual(gelsight=camera(every(1, 0), "/gelsight1")), SyncSettings())


class TestClockOfSteps:
    def test_joints_may_be_the_clock(self):
        plan = planned(usual(), clock=JOINT_POSITIONS, tolerance_s=WIDE)
        assert set(np.diff(plan.times_ns).tolist()) == {8 * MS}
        truth = swing((plan.times_ns - START_NS) / 1e9).T
        np.testing.assert_allclose(plan.columns[JOINT_POSITIONS], truth, atol=1e-7)
        assert plan.report[JOINT_POSITIONS].pick == "clock"

    def test_a_stamp_that_comes_twice_is_one_step(self):
        stamps = every(100 * MS, 101)
        stamps[51] = stamps[50]
        plan = planned(usual(image=camera(stamps)), out_of_tolerance="keep")
        assert len(plan.times_ns) == 99 and (np.diff(plan.times_ns) > 0).all()
        assert 51 not in plan.frames[IMAGE]

    def test_a_tolerance_of_its_own(self):
        plan_episodes(usual(), SyncSettings(tolerance_s={GELSIGHT_LEFT: 0.0166}))
        with pytest.raises(
            SyncError, match="/gelsight1 .*out of tolerance, the farthest 16.0 ms from its near"
        ):
            plan_episodes(usual(), SyncSettings(tolerance_s={GELSIGHT_LEFT: 0.0159}))

    def test_every_topic_out_of_step_is_named_at_once(self):
        of = usual(
            gelsight=without(usual().frames[GELSIGHT_LEFT], slice(100, 120)),
            joints=arm(every(150 * MS, 69, -20 * MS), swing),
        )
        with pytest.raises(SyncError) as refused:
            plan_episodes(of, SyncSettings())
        assert len(refused.value.report.violations) == 2
        assert str(refused.value).startswith("demo.bag is out of step: /gelsight1 ")
        assert "; /joint_states" in str(refused.value)


class TestCutEpisodes:
    MARKS = marks((1.0, "start"), (3.0, "stop"), (4.0, "start"), (6.0, "stop"), (7.0, "start"), (9.0, "stop"))
    CUT = {"start_marks": ("start",), "stop_marks": ("stop",)}

    def test_each_is_planned_alone(self):
        plans = plan_episodes(usual(marks=self.MARKS), SyncSettings(**self.CUT))
        begins = [(plan.times_ns[[0, -1]] - START_NS).tolist() for plan in plans.episodes]
        # The last image of each, at 3, 6 and 9 s, has no next one within the marks.
        assert begins == [[1 * S, 2900 * MS], [4 * S, 5900 * MS], [7 * S, 8900 * MS]]
        assert [plan.report.begins_s for plan in plans.episodes] == [1.02, 4.02, 7.02]
        assert all(plan.report.span_s == 2.0 for plan in plans.episodes)
        assert not plans.refused

    def test_a_message_just_outside_of_the_marks_may_be_nearest(self):
        # The image at 1 s is nearest to the tactile one at 0.997 s.
        (plan,) = plan_episodes(
            usual(marks=marks((1.0, "start"), (3.0, "stop"))), SyncSettings(**self.CUT)
        ).episodes
        assert plan.report[GELSIGHT_LEFT].first_s == -0.003
        inside = np.sum(
            (every(33 * MS, 304, 7 * MS) >= START_NS + S) & (every(33 * MS, 304, 7 * MS) <= START_NS + 3 * S)
        )
        assert plan.report[GELSIGHT_LEFT].messages == inside + 1

    def test_one_out_of_step_does_not_cost_the_others(self):
        gelsight = without(usual().frames[GELSIGHT_LEFT], slice(130, 160))
        plans = plan_episodes(usual(marks=self.MARKS, gelsight=gelsight), SyncSettings(**self.CUT))
        assert [plan.report.begins_s for plan in plans.episodes] == [1.02, 7.02]
        (refused,) = plans.refused
        assert str(refused).startswith(
            "demo.bag, cut 2 of 3, which begins at 4.02 s is out of step: /gelsight1"
        )
        assert refused.report[GELSIGHT_LEFT].missing == 30
        assert [plan.report[GELSIGHT_LEFT].missing for plan in plans.episodes] == [0, 0]

    def test_all_out_of_step_are_named(self):
        with pytest.raises(SyncError, match="cut 1 of 3.*cut 2 of 3.*cut 3 of 3"):
            plan_episodes(
                usual(marks=self.MARKS), SyncSettings(**self.CUT, tolerance_s={GELSIGHT_LEFT: 0.001})
            )

    def test_marks_that_mark_nothing(self):
        with pytest.raises(SyncError, match="must mark an episode .* Received: .'start', 'stop'"):
            plan_episodes(usual(marks=self.MARKS), SyncSettings(start_marks=("begin",), stop_marks=("end",)))

    def test_rests_are_left_out(self):
        def moves_twice(seconds):
            return np.interp(seconds, [2, 4, 6, 8], [0.0, 1.0, 1.0, 0.0])

        of = usual(joints=arm(every(8 * MS, 1260, -20 * MS), moves_twice))
        (whole,) = plan_episodes(of, SyncSettings(idle="trim")).episodes
        halves = plan_episodes(of, SyncSettings(idle="split")).episodes
        bounds = [(plan.times_ns[[0, -1]] - START_NS) / 1e9 for plan in (whole, *halves)]
        # Tenths of seconds are looked at, and the last step has no next one.
        np.testing.assert_allclose(bounds, [[2, 8], [2, 4], [6, 8]], atol=0.21)
        assert whole.report.span_s == pytest.approx(6, abs=0.2)

    def test_a_robot_at_rest_gives_no_episode(self):
        with pytest.raises(SyncError, match="a joint must move faster.*at rest"):
            plan_episodes(usual(joints=arm(every(8 * MS, 1260, -20 * MS))), SyncSettings(idle="trim"))
