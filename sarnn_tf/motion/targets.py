"""What happens to the joints that a policy asks for before a robot gets them: a limit, and a smooth way."""

import math
from collections.abc import Sequence

import numpy as np

MAX_JUMP = math.radians(50)
"""What EIPL's robots refuse to move at once, in rad."""


class JumpError(RuntimeError):
    """A target is too far from where the joints are or were to go, or is no number."""


class JumpGuard:
    """Lets targets pass that are near the last one and near the joints."""

    def __init__(self, max_jump: float | Sequence[float] = MAX_JUMP) -> None:
        """``max_jump`` in rad, for all joints or for each; infinity for none.

        Raises:
          ValueError: it is not positive.
        """
        self._max_jump = np.asarray(max_jump, np.float64)
        if not (self._max_jump > 0).all():
            raise ValueError(f"max_jump must be > 0. Received: {max_jump}")
        self._last: np.ndarray | None = None

    def check(self, target: np.ndarray, measured: np.ndarray) -> None:
        """Remembers the target as the last one.

        Args:
          target: [P] rad.
          measured: the joints when the policy was asked, [P] rad.

        Raises:
          JumpError: the target is not finite, or further than the limit from ``measured`` or the last target.
          ValueError: another number of joints.
        """
        target, measured = np.asarray(target, np.float64), np.asarray(measured, np.float64)
        if target.shape != measured.shape or target.ndim != 1:
            raise ValueError(
                f"target and measured joints must be [P]. Received: {target.shape}, {measured.shape}"
            )
        if not np.isfinite(target).all():
            raise JumpError(f"A target must be finite. Received: {target.tolist()}")
        self._check_near(target, measured, "the joints")
        if self._last is not None:
            self._check_near(target, self._last, "the last target")
        self._last = target

    def _check_near(self, target: np.ndarray, reference: np.ndarray, what: str) -> None:
        jump = np.abs(target - reference)
        # Written so that a NaN is refused.
        if not (jump <= self._max_jump).all():
            worst = int(np.argmax(np.nan_to_num(jump, nan=np.inf) / self._max_jump))
            limit = np.broadcast_to(self._max_jump, jump.shape)[worst]
            raise JumpError(
                f"Joint {worst} must move by no more than {np.rad2deg(limit):.1f} degrees from {what}. "
                f"Received: {np.rad2deg(jump[worst]):.1f} degrees"
            )


class LinearInterpolation:
    """The way from target to target: each is reached one period after it was set, and held from then on."""

    def __init__(self, position: np.ndarray, period_s: float) -> None:
        """``position``: where the joints are before the first target, [P]."""
        self._from = self._to = np.asarray(position, np.float64)
        self._since, self._period_s = -math.inf, period_s

    def aim(self, target: np.ndarray, now: float) -> None:
        """Sets a new target [P]; the way to it begins where the joints are to be now."""
        self._from = self._at(now)
        self._to, self._since = np.asarray(target, np.float64), now

    def position(self, now: float) -> np.ndarray:
        """Where the joints are to be, float32 [P]."""
        return self._at(now).astype(np.float32)

    def _at(self, now: float) -> np.ndarray:
        share = min(1.0, max(0.0, (now - self._since) / self._period_s))
        return (1.0 - share) * self._from + share * self._to
