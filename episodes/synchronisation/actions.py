"""Actions from what was recorded: the next joint positions, their difference, a command, or the motion of the
end effector. Poses are float64 [.., 7]: x, y, z in m, then the unit quaternion x, y, z, w."""

import numpy as np

from episodes.synchronisation.settings import JOINT_DIFFERENCE, NEXT_JOINT_POSITIONS

POSE_DIFFERENCE_NAMES = ("dx [m]", "dy [m]", "dz [m]", "rx [rad]", "ry [rad]", "rz [rad]")
# Below it a quaternion has no direction that could be trusted; drivers publish zeros for "unknown".
_SMALLEST_NORM = 1e-3


def joint_actions(
    positions: np.ndarray, names: tuple[str, ...], kind: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Actions from joint positions.

    Args:
      positions: float64 [T + 1, P].
      names: of the P joints.
      kind: ``next_joint_positions``: action t is where the joints are at step t + 1; ``joint_difference``:
        how far they move until then.

    Returns:
      float64 [T, P], and P names with units. Differences of a continuous joint are not wrapped.

    Raises:
      ValueError: another kind.
    """
    if kind == NEXT_JOINT_POSITIONS:
        return positions[1:], tuple(f"{name} [rad]" for name in names)
    if kind == JOINT_DIFFERENCE:
        return np.diff(positions, axis=0), tuple(f"{name} difference [rad]" for name in names)
    raise ValueError(f"Joint actions are {NEXT_JOINT_POSITIONS} and {JOINT_DIFFERENCE}. Received: {kind!r}")


def pose_differences(poses: np.ndarray) -> np.ndarray:
    """Motion from each pose to the next, in the base frame (the one that the poses are given in).

    Args:
      poses: [T + 1, 7].

    Returns:
      float64 [T, 6]: translation in m, then the rotation vector r in rad: its direction is the axis and its
      length the angle in [0, pi] of the rotation that turns pose t into pose t + 1, R[t+1] = exp(r) R[t].

    Raises:
      ValueError: a quaternion near zero.
    """
    turns = unit_quaternions(poses[:, 3:])
    relative = _product(turns[1:], turns[:-1] * (-1, -1, -1, 1))
    return np.concatenate([np.diff(poses[:, :3], axis=0), rotation_vectors(relative)], axis=1)


def interpolate_poses(
    poses: np.ndarray, before: np.ndarray, after: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Poses between samples: linear in position, spherical linear (Shoemake, 1985) in rotation.

    Args:
      poses: [n, 7].
      before, after: int64 [T], samples on both sides of each step.
      weight: float64 [T] in [0, 1], of ``after``.

    Returns:
      float64 [T, 7]; the quaternions are of unit length, of either sign.

    Raises:
      ValueError: a quaternion near zero.
    """
    first, second = poses[before], poses[after]
    weight = weight[:, None]
    position = first[:, :3] + weight * (second[:, :3] - first[:, :3])
    start, end = unit_quaternions(first[:, 3:]), unit_quaternions(second[:, 3:])
    relative = _product(end, start * (-1, -1, -1, 1))
    turned = _product(_from_rotation_vectors(weight * rotation_vectors(relative)), start)
    return np.concatenate([position, turned], axis=1)


def unit_quaternions(quaternions: np.ndarray) -> np.ndarray:
    """Quaternions [n, 4] brought to unit length.

    Raises:
      ValueError: one near zero.
    """
    norms = np.linalg.norm(quaternions, axis=1, keepdims=True)
    wrong = np.flatnonzero(~(norms[:, 0] > _SMALLEST_NORM))
    if wrong.size:
        raise ValueError(
            f"A pose needs a quaternion x, y, z, w of length 1. Received: {quaternions[wrong[0]].tolist()}"
        )
    return np.asarray(quaternions / norms)


def rotation_vectors(quaternions: np.ndarray) -> np.ndarray:
    """Rotation vectors [n, 3] in rad, of length at most pi, of unit quaternions [n, 4]."""
    # A quaternion and its negative are the same rotation; the one with w >= 0 is the shorter way.
    shorter = np.where(quaternions[:, 3:] < 0, -quaternions, quaternions)
    sine = np.linalg.norm(shorter[:, :3], axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, shorter[:, 3:])
    factor = np.divide(angle, sine, out=np.full_like(angle, 2.0), where=sine > 1e-12)
    return np.asarray(shorter[:, :3] * factor)


def _from_rotation_vectors(vectors: np.ndarray) -> np.ndarray:
    half = np.linalg.norm(vectors, axis=1, keepdims=True) / 2
    # sin(x) / x is numpy's sinc of x / pi, and 1 at 0.
    return np.concatenate([vectors / 2 * np.sinc(half / np.pi), np.cos(half)], axis=1)


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Hamilton's product of quaternions [n, 4], x, y, z, w: the right rotation first, then the left."""
    a, b = left[:, :3], right[:, :3]
    p, q = left[:, 3:], right[:, 3:]
    vector = p * b + q * a + np.cross(a, b)
    scalar = p * q - (a * b).sum(axis=1, keepdims=True)
    return np.concatenate([vector, scalar], axis=1)
