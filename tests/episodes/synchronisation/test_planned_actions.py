"""Actions of the planned steps: the next joints, differences, commands, poses."""

import numpy as np
import pytest

from episodes.episode import ACTION, JOINT_POSITIONS
from episodes.synchronisation import actions
from episodes.synchronisation.planning import plan_episodes
from episodes.synchronisation.report import SyncError
from episodes.synchronisation.settings import SyncSettings
from tests.episodes.synchronisation.synthetic_recordings import MS, START_NS, camera, every, vectors
from tests.episodes.synchronisation.usual_recording import planned, swing, usual


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
