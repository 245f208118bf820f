"""What a plan reports of skews and gaps is true to the nanosecond."""

import numpy as np
import pytest

from episodes.episode import GELSIGHT_LEFT, IMAGE, JOINT_POSITIONS
from episodes.synchronisation.planning import plan_episodes
from episodes.synchronisation.report import SyncError
from episodes.synchronisation.settings import SyncSettings
from tests.episodes.synchronisation.synthetic_recordings import (
    MS,
    START_NS,
    arm,
    camera,
    every,
    joint_messages,
)
from tests.episodes.synchronisation.usual_recording import WIDE, planned, swing, usual, without


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
