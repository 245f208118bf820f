"""What CLIP-RT reads of the steps of an RLDS data set, besides the actions: images and instructions."""

import re

import numpy as np
from absl import logging

from clip_tf.rt.action_layout import EULER, ActionLayout
from clip_tf.rt.oxe_adjustments import Adjustment
from episodes.rlds import RldsSplit

# How our conversion of bags names the numbers of an action, in the feature's description.
_NAME = re.compile(r"[^,\[\]]+ \[([^\[\]]+)\]")
_HINT = (
    "For a data set of Open X-Embodiment say which by oxe_name: in a mixture's entry, as --oxe_name, or in "
    "gin as clip_rt.open_rlds_samples.oxe_name; for others see clip_tf.rt.action_layout"
)


def check_paths(source: RldsSplit, layout: ActionLayout, image_key: str, instruction_key: str) -> None:
    """Raises:
    ValueError: the data set has no such image, instruction or action, or its description says that the action
      is not the end effector's; the message says how to name others.
    """
    for what, paths in (
        ("image_key", [image_key]),
        ("instruction_key", [instruction_key]),
        ("the action layout", layout.columns),
    ):
        for path in paths:
            try:
                source.feature(path)
            except ValueError as error:
                images = [p for p in source.features if source.is_image(p)] if path == image_key else ""
                raise ValueError(f"{what} does not fit the data set. {_HINT}: {error} {images}") from error
    shape, dtype = tuple(source.feature(image_key).shape), np.dtype(source.feature(image_key).np_dtype)
    if len(shape) != 3 or shape[-1] != 3 or dtype != np.uint8:
        raise ValueError(f"{source.name}: {image_key} must be uint8 [H, W, 3]. Received: {dtype} {shape}")
    _check_units(source, layout)


def _check_units(source: RldsSplit, layout: ActionLayout) -> None:
    """Joint positions look like moves of the arm; where the numbers are named, their units tell."""
    units = _units(source, layout.path)
    first = layout.start % len(units) if units else 0
    wanted = ["m"] * layout.position_size
    if layout.rotation == EULER and layout.rotation_path is None:
        wanted += ["rad"] * 3
    if units and units[first : first + len(wanted)] != wanted and layout.adjustment == Adjustment():
        raise ValueError(
            f"{source.name}: {layout.path} must hold moves of the end effector, {wanted}, from number "
            f"{layout.start} on. Bags are converted so by python -m episodes.convert with --action "
            f"pose_difference and --topic pose=TOPIC. Received: {source.feature(layout.path).doc.desc}"
        )
    units = _units(source, layout.gripper_path) if layout.gripper_path is not None else []
    as_stored = layout.gripper_scale == 1 and layout.gripper_offset == 0
    if units and units[layout.gripper_index % len(units)] in ("rad", "m") and as_stored:
        logging.warning(
            "%s: the gripper's number is a joint's, in %s. It is taken as growing when the gripper opens, by "
            "more than half of 1. Say otherwise by gripper_scale and gripper_offset of the action layout.",
            source.name,
            units[layout.gripper_index % len(units)],
        )


def _units(source: RldsSplit, path: str) -> list[str]:
    """The units of a column's numbers, where its description names each of them."""
    feature = source.feature(path)
    matches = [_NAME.fullmatch(name.strip()) for name in feature.doc.desc.split(",")]
    named = [match[1] for match in matches if match]
    return named if feature.shape == (len(named),) and len(named) == len(matches) else []


def instruction_texts(column: np.ndarray) -> list[str]:
    """The instructions of an episode's steps, without space around them.

    Args:
      column: UTF-8 [n], or Unicode code points [n, length] with zeros after the end, as Language Table has.

    Raises:
      ValueError: another array, or bytes that are not UTF-8.
    """
    column = np.asarray(column)
    if column.ndim == 2 and column.dtype.kind in "iu":
        return ["".join(map(chr, row)).partition("\0")[0].strip() for row in column.tolist()]
    if column.ndim != 1 or column.dtype.kind not in "OS":
        raise ValueError(
            f"Instructions must be text, or code points [n, length]. Received: {column.dtype} {column.shape}"
        )
    try:
        return [text.decode().strip() for text in column.tolist()]
    except UnicodeDecodeError as error:
        raise ValueError(f"Instructions must be UTF-8. Received: {error}") from error
