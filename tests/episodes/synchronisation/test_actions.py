"""Actions: their shapes and names, and that playing them back leads where the recording went."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.synchronisation import actions

NUMBERS = st.floats(-3, 3)
POSES = st.lists(
    st.tuples(*[NUMBERS] * 7).filter(lambda p: np.linalg.norm(p[3:]) > 0.1), min_size=2, max_size=8
).map(np.array)


def matrix(quaternion):
    """Rotation matrix of x, y, z, w by its definition: v -> q v q*."""
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def turned_by(vector):
    """Rotation matrix of a rotation vector, by Rodrigues' formula."""
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def test_joint_actions():
    positions = np.array([[1.0, 2.0], [4.0, 8.0], [5.0, 5.0]])
    values, names = actions.joint_actions(positions, ("a", "b"), "next_joint_positions")
    assert values.tolist() == [[4, 8], [5, 5]] and names == ("a [rad]", "b [rad]")
    values, names = actions.joint_actions(positions, ("a", "b"), "joint_difference")
    assert values.tolist() == [[3, 6], [1, -3]] and names == ("a difference [rad]", "b difference [rad]")
    with pytest.raises(ValueError, match="Received: 'command'"):
        actions.joint_actions(positions, ("a", "b"), "command")


@settings(deadline=None)
@given(POSES)
def test_pose_differences_lead_from_pose_to_pose_in_the_base_frame(poses):
    differences = actions.pose_differences(poses)
    assert differences.shape == (len(poses) - 1, 6)
    assert (np.linalg.norm(differences[:, 3:], axis=1) <= np.pi + 1e-9).all()
    for before, after, difference in zip(poses[:-1], poses[1:], differences, strict=True):
        np.testing.assert_allclose(before[:3] + difference[:3], after[:3], atol=1e-12)
        reached = turned_by(difference[3:]) @ matrix(before[3:])
        np.testing.assert_allclose(reached, matrix(after[3:]), atol=1e-7)


def test_a_turn_about_an_axis_of_the_base_frame_is_told_in_that_frame():
    half = np.sqrt(0.5)
    poses = np.zeros((2, 7))
    poses[0, 3:] = [half, 0, 0, half]  # Turned 90 degrees about x already.
    # Then 90 degrees about the base's z: by Hamilton's product z-turn times x-turn.
    poses[1, 3:] = [0.5, 0.5, 0.5, 0.5]
    np.testing.assert_allclose(actions.pose_differences(poses)[0], [0, 0, 0, 0, 0, np.pi / 2], atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-13, 1e-9, 1e-4, 1.0, 3.0, np.pi])
def test_rotation_vectors_of_small_and_large_angles(angle):
    axis = np.array([2, -3, 6]) / 7
    quaternion = np.array([[*(axis * np.sin(angle / 2)), np.cos(angle / 2)]])
    np.testing.assert_allclose(actions.rotation_vectors(quaternion)[0], axis * angle, rtol=1e-9, atol=1e-15)


@settings(deadline=None)
@given(POSES)
def test_the_sign_of_a_quaternion_means_nothing(poses):
    flipped = poses * np.where(np.arange(len(poses)) % 2, -1, 1)[:, None] ** np.array([0, 0, 0, 1, 1, 1, 1])
    ours, theirs = actions.pose_differences(poses), actions.pose_differences(flipped)
    for one, other in zip(ours[:, 3:], theirs[:, 3:], strict=True):
        np.testing.assert_allclose(turned_by(one), turned_by(other), atol=1e-7)


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 0.99])
def test_interpolated_poses_turn_at_an_even_speed(weight):
    axis, angles = np.array([1, 2, 2]) / 3, (0.4, 2.6)
    poses = np.array([[t, 0, -t, *(axis * np.sin(a / 2)), np.cos(a / 2)] for t, a in enumerate(angles)])
    poses[1, 3:] *= -5  # Neither sign nor length matters.
    got = actions.interpolate_poses(poses, np.array([0]), np.array([1]), np.array([weight]))[0]
    np.testing.assert_allclose(got[:3], [weight, 0, -weight])
    angle = 0.4 + 2.2 * weight
    np.testing.assert_allclose(matrix(got[3:]), turned_by(axis * angle), atol=1e-12)


def test_a_quaternion_of_zeros_is_no_rotation():
    poses = np.ones((3, 7))
    poses[1, 3:] = 0
    with pytest.raises(ValueError, match=r"Received: \[0.0, 0.0, 0.0, 0.0\]"):
        actions.pose_differences(poses)
