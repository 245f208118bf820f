"""Where a data set keeps its actions, and how they become seven numbers a step.

Data sets store moves in one column or in two, as Euler angles or quaternions, as moves or as poses, and the
gripper as a position, as a change, or not at all. A layout says which.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from clip_tf.rt.dominant_axis import THIS_STEP
from clip_tf.rt.oxe_adjustments import Adjustment, adjust

EULER, QUATERNION, NO_ROTATION = "euler", "quaternion", "none"
ROTATIONS = {EULER: 3, QUATERNION: 4, NO_ROTATION: 0}
ABSOLUTE, RELATIVE, SETTLED = "absolute", "relative", "settled"
GRIPPERS = (ABSOLUTE, RELATIVE, SETTLED)

# A gripper between these is on its way.
_CLOSED, _OPEN = 0.05, 0.95
_LEAST_CHANGE = 0.1


@dataclasses.dataclass(frozen=True)
class ActionLayout:
    """Where the moves of the arm and the gripper are in the steps of a data set.

    Attributes:
      path: of the column with the position, and with the rotation unless ``rotation_path`` names another.
      start: its first number that is one of them; negative counts from the end.
      position_size: numbers of the position, 1 to 3; those that are missing are zero.
      rotation: ``euler`` (angles about x, y, z), ``quaternion`` (x, y, z, w), or ``none``.
      rotation_path: of the column with the rotation; None for the numbers after the position.
      rotation_start: as ``start``, for ``rotation_path``.
      poses: the numbers are poses, and a move is the difference to the next step's; the last has none. A
        gripper beside poses that were reached has changed when its step begins: ``gripper_change`` must be
        ``next_step`` then.
      first_step: steps before it have no action.
      gripper_path: of the gripper's column; None for an arm without one, which stays open.
      gripper_index: which of its numbers; negative counts from the end.
      gripper: ``absolute``: a position; ``relative``: above 0 closes, below 0 opens, 0 leaves it as it is;
        ``settled``: a position, where on its way it counts as what it arrives at.
      gripper_scale, gripper_offset: gripper = stored · scale + offset must be 1 for open, 0 for closed.
      gripper_clip: keeps that within 0 and 1.
      adjustment: its units and axes.
      gripper_change: see ``dominant_axis``.
      last_step_has_action: RLDS leaves the last step's action undefined; many data sets fill it all the same,
        and the published preprocessing takes it.

    Raises:
      ValueError: a field is not valid.
    """

    path: str = "action"
    start: int = 0
    position_size: int = 3
    rotation: str = EULER
    rotation_path: str | None = None
    rotation_start: int = 0
    poses: bool = False
    first_step: int = 0
    gripper_path: str | None = "action"
    gripper_index: int = 6
    gripper: str = ABSOLUTE
    gripper_scale: float = 1.0
    gripper_offset: float = 0.0
    gripper_clip: bool = False
    adjustment: Adjustment = dataclasses.field(default_factory=Adjustment)
    gripper_change: str = THIS_STEP
    last_step_has_action: bool = True

    def __post_init__(self) -> None:
        numbers = (self.start, self.rotation_start, self.gripper_index, self.position_size, self.first_step)
        scales = (self.gripper_scale, self.gripper_offset)
        if not all(isinstance(n, int) for n in numbers):
            raise ValueError(f"Starts, sizes and indices must be integers. Received: {numbers}")
        if not all(isinstance(s, (int, float)) and math.isfinite(s) for s in scales) or not scales[0]:
            raise ValueError(
                f"gripper_scale and gripper_offset must be finite, the scale not 0. Received: {scales}"
            )
        if self.rotation not in ROTATIONS:
            raise ValueError(f"rotation must be one of {sorted(ROTATIONS)}. Received: {self.rotation!r}")
        if self.gripper not in GRIPPERS:
            raise ValueError(f"gripper must be one of {GRIPPERS}. Received: {self.gripper!r}")
        if self.position_size not in (1, 2, 3) or self.first_step < 0:
            raise ValueError(
                f"position_size must be 1, 2 or 3, and first_step at least 0. "
                f"Received: {self.position_size} and {self.first_step}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The paths that are read."""
        paths = (self.path, self.rotation_path, self.gripper_path)
        return tuple(dict.fromkeys(path for path in paths if path is not None))

    def low_level_actions(self, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """An episode's actions in our convention, and the steps that they belong to.

        Args:
          columns: path -> array [n, …].

        Returns:
          Actions float64 [m, 7] as ``dominant_axis`` takes them; steps int64 [m], m <= n.

        Raises:
          ValueError: a column is too narrow or holds no numbers.
        """
        moves = np.concatenate([self._position(columns), self._rotation(columns)], axis=1)
        gripper = self._gripper(columns)
        steps = np.arange(len(moves))
        if self.poses or self.adjustment.poses:
            # An angle that passes half a turn goes on from the other side: that is no move of a whole turn.
            period = 2 * math.pi / self.adjustment.rotation_scale
            moves[:, 3:] = np.unwrap(moves[:, 3:], axis=0, period=period)
        if self.poses:
            moves, gripper, steps = np.diff(moves, axis=0), gripper[:-1], steps[:-1]
        elif not self.last_step_has_action:
            moves, gripper, steps = moves[:-1], gripper[:-1], steps[:-1]
        actions = np.concatenate([moves, gripper[:, None]], axis=1)[self.first_step :]
        steps = steps[self.first_step :]
        adjusted, kept = adjust(actions, self.adjustment)
        return adjusted, steps[kept]

    def _position(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        found = _numbers(columns, self.path, self.start, self.position_size)
        return np.pad(found, ((0, 0), (0, 3 - self.position_size)))

    def _rotation(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        if self.rotation == NO_ROTATION:
            return np.zeros((len(columns[self.path]), 3))
        size = ROTATIONS[self.rotation]
        if self.rotation_path is None:
            together = _numbers(columns, self.path, self.start, self.position_size + size)
            found = together[:, self.position_size :]
        else:
            found = _numbers(columns, self.rotation_path, self.rotation_start, size)
        return found if self.rotation == EULER else euler_angles(found)

    def _gripper(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        if self.gripper_path is None:
            return np.ones(len(columns[self.path]))
        found = _numbers(columns, self.gripper_path, self.gripper_index, 1)[:, 0]
        if self.gripper_path == self.path:
            self._check_apart(np.shape(columns[self.path])[1])
        found = found * self.gripper_scale + self.gripper_offset
        if self.gripper == RELATIVE:
            return positions_of_changes(found)
        if self.gripper_clip:
            found = np.clip(found, 0, 1)
        return settled(found) if self.gripper == SETTLED else found

    def _check_apart(self, width: int) -> None:
        """The gripper must be none of the moves beside which it is stored."""
        together = ROTATIONS[self.rotation] if self.rotation_path is None else 0
        gripper, start = self.gripper_index % width, self.start % width
        if start <= gripper < start + self.position_size + together:
            raise ValueError(
                f"{self.path}: the gripper's number must be none of the moves', which begin at {start}. "
                f"Received: gripper_index {self.gripper_index} of {width}"
            )


def _numbers(columns: Mapping[str, np.ndarray], path: str, start: int, size: int) -> np.ndarray:
    column = np.asarray(columns[path])
    if column.ndim == 1:  # One number a step.
        column = column[:, None]
    first = start if start >= 0 or column.ndim != 2 else start + column.shape[1]
    is_numbers = column.ndim == 2 and column.dtype.kind in "fiub"
    if not is_numbers or first < 0 or first + size > column.shape[1]:
        received = np.asarray(columns[path])
        raise ValueError(
            f"{path} must hold at least {size if start < 0 else start + size} numbers a step, of which "
            f"{size} from number {start} on are read; other layouts of actions can be stated, see "
            f"clip_tf.rt.action_layout. Received: {received.dtype} {list(received.shape)}"
        )
    return column[:, first : first + size].astype(np.float64)


def euler_angles(quaternions: np.ndarray) -> np.ndarray:
    """Angles about the fixed axes x, then y, then z, float64 [n, 3], of quaternions x, y, z, w [n, 4].

    They need not be of unit length; zeros, as in steps that only pad, are no rotation.
    """
    length = np.linalg.norm(quaternions, axis=1, keepdims=True)
    x, y, z, w = (quaternions / np.where(length > 0, length, 1)).T
    roll = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = np.arcsin(np.clip(2 * (w * y - z * x), -1, 1))
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return np.stack([roll, pitch, yaw], axis=1)


def positions_of_changes(changes: np.ndarray) -> np.ndarray:
    """Positions [n], 1 open and 0 closed, of a gripper that is told to close (> 0) or to open (< 0).

    Before the first change it is what that change is from; without any it is open.
    """
    told = np.where(changes < -_LEAST_CHANGE, 1.0, np.where(changes > _LEAST_CHANGE, 0.0, np.nan))
    at = np.flatnonzero(~np.isnan(told))
    if not len(at):
        return np.ones(len(changes))
    last = np.searchsorted(at, np.arange(len(changes)), side="right") - 1
    return np.where(last < 0, 1 - told[at[0]], told[at[np.maximum(last, 0)]])


def settled(positions: np.ndarray) -> np.ndarray:
    """Positions [n] as 1 and 0; where the gripper is on its way, what it arrives at.

    Where it never arrives, what it was last.
    """
    at = np.flatnonzero((positions > _OPEN) | (positions < _CLOSED))
    arrived = np.append((positions[at] > _OPEN).astype(np.float64), positions[-1:])
    return arrived[np.searchsorted(at, np.arange(len(positions)))]
