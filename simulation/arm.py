"""A small six-joint arm with a gripper: forward kinematics, and the joint angles that reach a pose.

Lengths in metres, angles in radians. The base stands at the origin; x points ahead of it, z up. With all
angles zero the arm stands upright.
"""

import dataclasses
import math

import numpy as np

JOINT_NAMES = ("joint_1", "joint_2", "joint_3", "joint_4", "joint_5", "joint_6", "gripper")
# The turning axis of each arm joint, and the link behind it along its own z.
_AXES = ("z", "y", "y", "y", "x", "z")
_LINKS = (0.10, 0.24, 0.21, 0.05, 0.0, 0.10)
FINGER_LENGTH, FINGER_BASE = 0.06, 0.02
_STEP, _DAMPING, _ITERATIONS = 1e-6, 1e-4, 100


@dataclasses.dataclass(frozen=True, eq=False)
class ArmPose:
    """Where the parts of the arm are.

    Attributes:
      points: float64 [7, 3]: the foot, then the end of each link; the last is between the fingertips.
      rotation: float64 [3, 3] of the hand; its z points to what is grasped, its x from finger to finger.
      knuckles, fingertips: float64 [2, 3], left and right.
    """

    points: np.ndarray
    rotation: np.ndarray
    knuckles: np.ndarray
    fingertips: np.ndarray


def forward(joints: np.ndarray) -> ArmPose:
    """Where the arm is.

    Args:
      joints: float [7] in the order of ``JOINT_NAMES``; the gripper's is the angle by which each finger
        leans outwards.
    """
    joints = np.asarray(joints, np.float64)
    points, turn = [np.zeros(3)], np.eye(3)
    for axis, length, angle in zip(_AXES, _LINKS, joints[:6], strict=True):
        turn = turn @ _rotation(axis, angle)
        points.append(points[-1] + turn[:, 2] * length)
    tip, sides = points[-1], np.array([-1.0, 1.0])
    hand = tip - turn[:, 2] * FINGER_LENGTH
    knuckles = np.stack([hand + turn[:, 0] * side * FINGER_BASE / 2 for side in sides])
    lean = [turn @ _rotation("y", side * joints[6])[:, 2] for side in sides]
    return ArmPose(np.stack(points), turn, knuckles, knuckles + np.stack(lean) * FINGER_LENGTH)


def gripper_angle(width: float) -> float:
    """The gripper's angle at which the fingertips are ``width`` metres apart."""
    return math.asin((width - FINGER_BASE) / 2 / FINGER_LENGTH)


def opening(angle: float) -> float:
    """How far the fingertips are apart at an angle of the gripper, m; the inverse of ``gripper_angle``."""
    return FINGER_BASE + 2 * FINGER_LENGTH * math.sin(angle)


def solve(tip: np.ndarray, rotation: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """The arm joints that bring the hand to a pose, by damped Newton steps from a guess.

    Args:
      tip: float [3], between the fingertips.
      rotation: float [3, 3] of the hand.
      guess: float [6].

    Returns:
      float64 [6].

    Raises:
      ValueError: the pose is out of reach.
    """
    joints = np.array(guess, np.float64)
    for _ in range(_ITERATIONS):
        residual = _residual(joints, tip, rotation)
        if np.abs(residual).max() < 1e-9:
            return joints
        moved = [_residual(joints + _STEP * unit, tip, rotation) for unit in np.eye(6)]
        jacobian = (np.stack(moved, axis=1) - residual[:, None]) / _STEP
        normal = jacobian.T @ jacobian + _DAMPING * float(residual @ residual) * np.eye(6)
        joints = joints - np.linalg.solve(normal, jacobian.T @ residual)
    raise ValueError(f"The hand must be able to reach the pose. Received: tip={tip.tolist()}")


def _residual(joints: np.ndarray, tip: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    pose = forward(np.append(joints, 0.0))
    return np.concatenate([pose.points[-1] - tip, 0.1 * (pose.rotation - rotation).ravel()])


def downward(yaw: float, lean: float = 0.0) -> np.ndarray:
    """A hand that points down, float64 [3, 3].

    Args:
      yaw: by which it is turned about the vertical.
      lean: by which it then leans to its side.
    """
    return _rotation("z", yaw) @ _rotation("y", math.pi) @ _rotation("x", lean)


def _rotation(axis: str, angle: float) -> np.ndarray:
    cos, sin = math.cos(angle), math.sin(angle)
    if axis == "x":
        return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    if axis == "y":
        return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
