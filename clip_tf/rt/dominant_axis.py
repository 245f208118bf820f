"""Language supervision out of recorded low-level actions: the axis that moves most says which class it is.

A step's action is the move of the arm over that step, with the gripper's position. A gripper that changes
comes first; else the largest of the six moves, 20 cm weighing as much as a quarter turn, is put into one of
eight bins; where it is too small the step says nothing. Source: the preprocessing of Open X-Embodiment for
CLIP-RT (Kang et al., RSS 2025).

Which step a changed gripper labels can be read in two ways. ``this_step``: the one whose action first asks
for the new position. ``next_step``: the one before it, as the published preprocessing has it, so that the
policy is taught to act a step early.
"""

import dataclasses

import numpy as np

from clip_tf.rt.vocabulary import GRIPPER_CHANGE, POSITION_WEIGHT

NONE = -1
"""The label of a step that says nothing."""

# A value on an edge belongs to the bin below it.
POSITION_EDGES = (-0.15, -0.075, -0.03, 0.0, 0.03, 0.075, 0.15)
ROTATION_EDGES = (-1.1781, -0.5236, -0.1746, 0.0, 0.1746, 0.5236, 1.1781)
POSITION_THRESHOLD, ROTATION_THRESHOLD = 0.01, 0.08727
BINS = 8
THIS_STEP, NEXT_STEP = "this_step", "next_step"
CLOSE_LABEL, OPEN_LABEL = 48, 49
"""Labels of the pre-training table; the classes before them are axis * 8 + bin."""
_FINETUNING_OFFSET = 8
"""The fine-tuning table has eight classes of the gripper's rotation before the last two."""


@dataclasses.dataclass(frozen=True, eq=False)
class Supervision:
    """What the rule makes of n steps.

    Attributes:
      labels: int64 [n] in the pre-training table, ``NONE`` where a step says nothing.
      axes: int64 [n], the dominant axis, whether or not it moves enough.
      values: float64 [n], the action on that axis, in metres or radians.
    """

    labels: np.ndarray
    axes: np.ndarray
    values: np.ndarray


def bins_of(axes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The bin 0 to 7 of each value [n] on its axis [n], from furthest backwards to furthest forwards."""
    positions = np.digitize(values, POSITION_EDGES, right=True)
    rotations = np.digitize(values, ROTATION_EDGES, right=True)
    return np.where(axes < 3, positions, rotations)


def derive_supervision(actions: np.ndarray, gripper_change: str = THIS_STEP) -> Supervision:
    """Labels the steps of one episode.

    Args:
      actions: [n, 7] numbers, ``[dx, dy, dz, droll, dpitch, dyaw, gripper]`` in the convention of
        ``vocabulary``, in metres and radians, the gripper 1 for open. They are not normalised.
      gripper_change: ``this_step`` or ``next_step``, see the module.

    Raises:
      ValueError: another shape, or a number that is not finite.
    """
    if gripper_change not in (THIS_STEP, NEXT_STEP):
        raise ValueError(
            f"gripper_change must be {THIS_STEP!r} or {NEXT_STEP!r}. Received: {gripper_change!r}"
        )
    actions = np.asarray(actions)
    if actions.ndim != 2 or actions.shape[1] != 7 or actions.dtype.kind not in "fiu":
        raise ValueError(f"actions must be numbers [n, 7]. Received: {actions.dtype} {actions.shape}")
    actions = actions.astype(np.float64)
    if not np.isfinite(actions).all():
        step = int(np.flatnonzero(~np.isfinite(actions).all(axis=1))[0])
        raise ValueError(f"actions must be finite. Received: {actions[step].tolist()} at step {step}")
    moves, gripper = actions[:, :6], actions[:, 6]
    weighted = np.abs(moves)
    weighted[:, :3] *= POSITION_WEIGHT
    axes = np.argmax(weighted, axis=1)
    values = moves[np.arange(len(moves)), axes]
    threshold = np.where(axes < 3, POSITION_THRESHOLD, ROTATION_THRESHOLD)
    labels = np.where(np.abs(values) > threshold, axes * BINS + bins_of(axes, values), NONE)
    if gripper_change == THIS_STEP:
        change = np.diff(gripper, prepend=gripper[:1])
    else:
        change = np.diff(gripper, append=gripper[-1:])
    labels = np.where(change > GRIPPER_CHANGE, OPEN_LABEL, labels)
    labels = np.where(change < -GRIPPER_CHANGE, CLOSE_LABEL, labels)
    return Supervision(labels, axes, values)


def to_finetuning_labels(labels: np.ndarray) -> np.ndarray:
    """The same classes in the 58-class table; ``NONE`` stays."""
    return np.where(labels >= CLOSE_LABEL, labels + _FINETUNING_OFFSET, labels)
