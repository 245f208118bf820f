"""Units and axes of Open X-Embodiment's data sets, brought to metres, radians, x forward, y left, z up.

The table is what CLIP-RT's authors found by looking at each data set (Kang et al., RSS 2025), for actions in
OpenVLA's layout of seven numbers. Other than theirs, the gripper's column survives the change of units, and
where actions are poses to be differenced it stays the position that it is.
"""

import dataclasses
import math

import numpy as np

_CENTIMETRES, _MILLIMETRES, _DEGREES = 0.01, 0.001, math.pi / 180


@dataclasses.dataclass(frozen=True)
class Adjustment:
    """How one data set's actions become ours.

    Attributes:
      axes: for our x, y, z: which of its numbers, counted from 1, negative where the direction is opposite.
      position_scale: metres in its unit.
      rotation_scale: radians in its unit.
      poses: its actions are poses; the move is the difference to the next one, and the last step has none.
      delayed_above: in episodes of more steps than this an image belongs to the action stored one step before
        it, and the first step has none; None for no delay.
    """

    axes: tuple[int, int, int] = (1, 2, 3)
    position_scale: float = 1.0
    rotation_scale: float = 1.0
    poses: bool = False
    delayed_above: int | None = None

    def __post_init__(self) -> None:
        if sorted(abs(a) for a in self.axes) != [1, 2, 3]:
            raise ValueError(f"axes must be 1, 2, 3 in some order, with signs. Received: {self.axes}")
        if not (self.position_scale > 0 and self.rotation_scale > 0):
            raise ValueError(f"position_scale and rotation_scale must be > 0. Received: {self}")


_TURNED, _HALF_TURN = (2, -1, 3), (-1, -2, 3)

ADJUSTMENTS = {
    "fractal20220817_data": Adjustment(delayed_above=0),
    "kuka": Adjustment(delayed_above=8),
    "bridge_orig": Adjustment(),
    "taco_play": Adjustment((-1, 2, 3), _CENTIMETRES, _DEGREES),
    "jaco_play": Adjustment(_TURNED, _CENTIMETRES),
    "berkeley_cable_routing": Adjustment((2, -1, -3), _CENTIMETRES),
    "roboturk": Adjustment(_HALF_TURN),
    "viola": Adjustment(_TURNED, _CENTIMETRES, _DEGREES),
    "berkeley_autolab_ur5": Adjustment((2, 1, -3)),
    "toto": Adjustment((1, 2, 3), _CENTIMETRES, _DEGREES),
    "language_table": Adjustment(_HALF_TURN),
    "stanford_hydra_dataset_converted_externally_to_rlds": Adjustment(_HALF_TURN),
    "austin_buds_dataset_converted_externally_to_rlds": Adjustment(_HALF_TURN, _CENTIMETRES),
    "nyu_franka_play_dataset_converted_externally_to_rlds": Adjustment(),
    "furniture_bench_dataset_converted_externally_to_rlds": Adjustment(_HALF_TURN),
    "ucsd_kitchen_dataset_converted_externally_to_rlds": Adjustment(_TURNED, _MILLIMETRES, _DEGREES, True),
    "austin_sailor_dataset_converted_externally_to_rlds": Adjustment(_TURNED, _CENTIMETRES, _DEGREES),
    "austin_sirius_dataset_converted_externally_to_rlds": Adjustment(_HALF_TURN, _CENTIMETRES, _DEGREES),
    "dlr_edan_shared_control_converted_externally_to_rlds": Adjustment((-1, 2, 3)),
    "iamlab_cmu_pickup_insert_converted_externally_to_rlds": Adjustment(_TURNED, poses=True),
    "utaustin_mutex": Adjustment((1, 2, 3), _CENTIMETRES, _DEGREES),
    "cmu_stretch": Adjustment(),
    "bc_z": Adjustment(),
    "fmb_dataset": Adjustment(_TURNED, _CENTIMETRES, _DEGREES),
}


def adjustment(name: str | None) -> Adjustment:
    """The adjustment of a data set; None for one that needs none.

    Raises:
      ValueError: the table has no such data set.
    """
    if name is None:
        return Adjustment()
    if name not in ADJUSTMENTS:
        raise ValueError(f"oxe_name must be one of {sorted(ADJUSTMENTS)}, or None. Received: {name!r}")
    return ADJUSTMENTS[name]


def adjust(actions: np.ndarray, how: Adjustment) -> tuple[np.ndarray, np.ndarray]:
    """An episode's actions in our convention, and the step that each belongs to.

    Args:
      actions: [n, 7] in the data set's convention, not normalised.
      how: the data set's adjustment.

    Returns:
      actions: float64 [m, 7]; steps: int64 [m], m <= n.
    """
    n = len(actions)
    steps = np.arange(n)
    found = np.asarray(actions, np.float64).copy()
    gripper = found[:, 6:]
    if how.poses:
        found, gripper, steps = np.diff(found, axis=0), gripper[:-1], steps[:-1]
    order = [abs(axis) - 1 for axis in how.axes]
    position = found[:, order] * np.sign(how.axes) * how.position_scale
    found = np.concatenate([position, found[:, 3:6] * how.rotation_scale, gripper], axis=1)
    if how.delayed_above is not None and n > how.delayed_above:
        found, steps = found[:-1], steps[1:]
    return found, steps
