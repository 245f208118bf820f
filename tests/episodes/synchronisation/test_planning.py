"""Which steps an episode has, when it begins and ends, and that every message is accounted for."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from episodes.episode import GELSIGHT_LEFT, IMAGE, JOINT_POSITIONS
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
    recording,
)
from tests.episodes.synchronisation.usual_recording import WIDE, planned, swing, usual, without


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
