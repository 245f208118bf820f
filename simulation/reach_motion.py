"""How the arm of the sample bags moves: from rest to above an object, down to it, and the gripper closes."""

import dataclasses
import math

import numpy as np

from simulation import arm
from simulation.reach_scene import FULL_PRESS, Thing

# Seconds of the rest before, the way above the object, the way down, the grasp and the rest after.
PHASES_S = (0.3, 1.5, 0.9, 0.6, 0.5)
DURATION_S = sum(PHASES_S)
OPEN = 0.45
_HOME = np.array([0.0, -0.25, 1.75, 1.35, 0.0, 0.0])
_HOME_SPREAD = np.array([0.30, 0.12, 0.12, 0.12, 0.08, 0.30])
_ABOVE = 0.09
# Objects at the side are grasped with the hand leaning, by this share of their angle.
_LEAN = 0.4


@dataclasses.dataclass(frozen=True, eq=False)
class Reach:
    """One demonstration.

    Attributes:
      target: what is reached for.
      keys: float64 [6, 7]: joints at the beginning and at the end of each phase.
      offset: how far along the finger the target is touched, m.
    """

    target: Thing
    keys: np.ndarray
    offset: float

    def joints(self, seconds: float) -> np.ndarray:
        """float64 [7] at a time since the beginning, on paths of least jerk (Flash and Hogan, 1985)."""
        return self._at(seconds)[0]

    def velocities(self, seconds: float) -> np.ndarray:
        """float64 [7], rad/s."""
        return self._at(seconds)[1]

    def press(self, seconds: float) -> float:
        """How deep the target is pressed into each gel, m; 0 before contact."""
        opening = arm.opening(self.joints(seconds)[6])
        return min(max((self.target.width - opening) / 2, 0.0), FULL_PRESS)

    def _at(self, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        ends = np.cumsum(PHASES_S)
        phase = min(int(np.searchsorted(ends, seconds, side="right")), len(PHASES_S) - 1)
        length = PHASES_S[phase]
        u = min(max((seconds - (ends[phase] - length)) / length, 0.0), 1.0)
        way = self.keys[phase + 1] - self.keys[phase]
        share = u**3 * (10 - 15 * u + 6 * u**2)
        speed = 30 * u**2 * (1 - u) ** 2 / length
        return self.keys[phase] + share * way, speed * way


def sample_reach(random: np.random.Generator, target: Thing) -> Reach:
    """Draws a demonstration of reaching for an object."""
    home = _HOME + random.uniform(-1.0, 1.0, 6) * _HOME_SPREAD
    offset = float(random.uniform(-0.003, 0.003))
    side = math.atan2(target.y, target.x)
    hand = arm.downward(target.yaw, _LEAN * side)
    guess = np.array([side, 0.4, 1.7, 1.0, 0.0, side - target.yaw])
    at = arm.solve(target.middle + [0.0, 0.0, offset], hand, guess)
    above = arm.solve(target.middle + [0.0, 0.0, _ABOVE], hand, at)
    closed = arm.gripper_angle(target.width - 2 * FULL_PRESS)
    poses = ((home, OPEN), (home, OPEN), (above, OPEN), (at, OPEN), (at, closed), (at, closed))
    return Reach(target, np.stack([np.append(pose, gripper) for pose, gripper in poses]), offset)
