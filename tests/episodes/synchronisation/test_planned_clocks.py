"""Clocks that drift, are set wrong or set back: seen, named with the remedy, and passed over on demand."""

from dataclasses import replace

import numpy as np
import pytest

from episodes.episode import GELSIGHT_LEFT, IMAGE, JOINT_POSITIONS
from episodes.synchronisation.planning import plan_episodes
from episodes.synchronisation.report import SyncError
from episodes.synchronisation.settings import SyncSettings
from tests.episodes.synchronisation.synthetic_recordings import MS, START_NS, S, arm, camera, every
from tests.episodes.synchronisation.usual_recording import WIDE, planned, usual


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
