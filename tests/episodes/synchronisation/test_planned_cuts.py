"""A recording of several episodes: each is planned alone."""

import numpy as np
import pytest

from episodes.episode import GELSIGHT_LEFT
from episodes.synchronisation.planning import plan_episodes
from episodes.synchronisation.report import SyncError
from episodes.synchronisation.settings import SyncSettings
from tests.episodes.synchronisation.synthetic_recordings import MS, START_NS, S, arm, every, marks
from tests.episodes.synchronisation.usual_recording import usual, without


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
