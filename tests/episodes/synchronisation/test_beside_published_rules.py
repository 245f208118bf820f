"""What is taken is in step; the rules of published converters, beside it, are not."""

from dataclasses import replace

import numpy as np
import pytest

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
    recording,
)
from tests.episodes.synchronisation.usual_recording import AMPLITUDE, OMEGA, planned, swing


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
