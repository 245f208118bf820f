"""How data sets of Open X-Embodiment store images, instructions and actions.

The data sets are those that CLIP-RT was pre-trained on (Kang et al., RSS 2025); the layouts are what the
authors of Octo and OpenVLA found in them. A move of ``bridge_orig`` is the difference of the poses that were
reached, not what was commanded, and its first step, which is all zeros, is left out. A gripper that changes
labels the step before, as published.
"""

import dataclasses

from clip_tf.rt import oxe_adjustments
from clip_tf.rt.action_layout import NO_ROTATION, QUATERNION, RELATIVE, SETTLED, ActionLayout
from clip_tf.rt.dominant_axis import NEXT_STEP

IMAGE_KEY, INSTRUCTION_KEY = "observation/image", "language_instruction"
_IN_OBSERVATION = "observation/natural_language_instruction"
_DELTA = "action/rotation_delta"
_CLOSEDNESS = "action/gripper_closedness_action"


@dataclasses.dataclass(frozen=True)
class OxeDataSet:
    """Where one data set keeps what CLIP-RT reads.

    Attributes:
      layout: of its actions, with its units and axes.
      image_key, instruction_key: paths in a step.
    """

    layout: ActionLayout
    image_key: str = IMAGE_KEY
    instruction_key: str = INSTRUCTION_KEY


def _worded(layout: ActionLayout, image_key: str = IMAGE_KEY) -> OxeDataSet:
    return OxeDataSet(layout, image_key, _IN_OBSERVATION)


def _in_two(gripper_path: str | None = None, **fields: object) -> ActionLayout:
    """Position and rotation in columns of their own."""
    names = {"path": "action/world_vector", "rotation_path": _DELTA, "gripper_path": gripper_path}
    return ActionLayout(**{"gripper_index": 0, **names, **fields})  # type: ignore[arg-type]


_CHANGES = _in_two(_CLOSEDNESS, gripper=RELATIVE)
# Stored as 1 for closed.
_CLOSED_IN_TWO = _in_two(_CLOSEDNESS, gripper_scale=-1.0, gripper_offset=1.0, gripper_clip=True)
_CLOSED = ActionLayout(gripper_index=-1, gripper_scale=-1.0, gripper_offset=1.0)
_CLOSED_CLIPPED = dataclasses.replace(_CLOSED, gripper_clip=True)
_CONVERTED = "_converted_externally_to_rlds"

_LAYOUTS = {
    "fractal20220817_data": _worded(_CHANGES),
    "kuka": _worded(_CHANGES),
    "bridge_orig": OxeDataSet(
        ActionLayout("observation/state", poses=True, first_step=1, gripper_index=-1, gripper=SETTLED),
        "observation/image_0",
    ),
    "taco_play": _worded(
        ActionLayout(
            "action/rel_actions_world",
            gripper_path="action/rel_actions_world",
            gripper_index=-1,
            gripper_clip=True,
        ),
        "observation/rgb_static",
    ),
    "jaco_play": _worded(dataclasses.replace(_CHANGES, rotation=NO_ROTATION, rotation_path=None)),
    "berkeley_cable_routing": _worded(_in_two()),
    "roboturk": _worded(_CLOSED_IN_TWO, "observation/front_rgb"),
    "viola": _worded(_CLOSED_IN_TWO, "observation/agentview_rgb"),
    "berkeley_autolab_ur5": _worded(_CHANGES),
    "toto": _worded(_in_two("action/open_gripper")),
    "language_table": OxeDataSet(
        ActionLayout(position_size=2, rotation=NO_ROTATION, gripper_path=None),
        "observation/rgb",
        "observation/instruction",
    ),
    f"stanford_hydra_dataset{_CONVERTED}": OxeDataSet(_CLOSED),
    f"austin_buds_dataset{_CONVERTED}": OxeDataSet(_CLOSED_CLIPPED),
    # Joint velocities come first.
    f"nyu_franka_play_dataset{_CONVERTED}": OxeDataSet(
        ActionLayout(start=-8, gripper_index=-2, gripper_clip=True)
    ),
    f"furniture_bench_dataset{_CONVERTED}": OxeDataSet(
        dataclasses.replace(_CLOSED_CLIPPED, rotation=QUATERNION)
    ),
    f"ucsd_kitchen_dataset{_CONVERTED}": OxeDataSet(ActionLayout()),
    f"austin_sailor_dataset{_CONVERTED}": OxeDataSet(_CLOSED_CLIPPED),
    f"austin_sirius_dataset{_CONVERTED}": OxeDataSet(_CLOSED_CLIPPED),
    f"dlr_edan_shared_control{_CONVERTED}": OxeDataSet(_CLOSED),
    f"iamlab_cmu_pickup_insert{_CONVERTED}": OxeDataSet(ActionLayout(rotation=QUATERNION, gripper_index=7)),
    "utaustin_mutex": OxeDataSet(_CLOSED_CLIPPED),
    "cmu_stretch": OxeDataSet(ActionLayout()),
    "bc_z": _worded(
        ActionLayout(
            "action/future/xyz_residual",
            rotation_path="action/future/axis_angle_residual",
            gripper_path="action/future/target_close",
            gripper_index=0,
            gripper_scale=-1.0,
            gripper_offset=1.0,
        )
    ),
    "fmb_dataset": OxeDataSet(ActionLayout(), "observation/image_side_1"),
}

OXE = {
    name: dataclasses.replace(
        found,
        layout=dataclasses.replace(
            found.layout, adjustment=oxe_adjustments.adjustment(name), gripper_change=NEXT_STEP
        ),
    )
    for name, found in _LAYOUTS.items()
}
"""By the names that TFDS and OpenVLA give them."""


def oxe_data_set(name: str | None) -> OxeDataSet:
    """The data set of that name; None for one that has seven numbers a step in ``action``.

    Those are metres, radians and a gripper of 1 for open, x forward, y left, z up.

    Raises:
      ValueError: the table has no such data set.
    """
    if name is None:
        return OxeDataSet(ActionLayout())
    if name not in OXE:
        raise ValueError(
            f"oxe_name must be one of {sorted(OXE)}. For any other state the layout of its actions by "
            f"fields of clip_tf.rt.action_layout.ActionLayout: in the entry of a mixture, such as "
            f'"path": "action/xyz", or in gin, such as clip_rt.make_action_layout.path = \'action/xyz\'. '
            f"Received: {name!r}"
        )
    return OXE[name]
