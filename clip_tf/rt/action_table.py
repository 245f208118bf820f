"""The two published action tables, built from their rule: one move along one axis for each class.

The order is axis by axis, and on each axis from the largest step backwards to the largest forwards; the
gripper comes last. The fine-tuning table has 58 classes of eight numbers, the pre-training table on Open
X-Embodiment 50 classes of seven, without the rotation of the gripper. Source: the ``docs`` tables of
CLIP-RT (Kang et al., RSS 2025).
"""

import dataclasses
import math

from core.spec import ArraySpec

POSITION, ROTATION = "position", "rotation"
CLOSE, OPEN = 0.0, 1.0

_METRES = (
    (0.01, "one centimeter"),
    (0.05, "five centimeters"),
    (0.1, "ten centimeters"),
    (0.2, "twenty centimeters"),
)
# "fourty" is how the released models were taught to read it.
_DEGREES = ((5, "five"), (15, "fifteen"), (45, "fourty five"), (90, "ninety"))
# The pre-training table stores these, not the exact angles.
_ROUNDED_RADIANS = {5: 0.08727, 15: 0.2618, 45: 0.7854, 90: 1.5708}


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of an action.

    Attributes:
      name: e.g. ``x``.
      kind: ``position`` (metres) or ``rotation`` (radians).
      negative, positive: the phrase of a move in that direction, with ``{}`` for its size.
    """

    name: str
    kind: str
    negative: str
    positive: str


AXES = (
    Axis("x", POSITION, "move the arm back by {}", "move the arm forward by {}"),
    Axis("y", POSITION, "move the arm to the right by {}", "move the arm to the left by {}"),
    Axis("z", POSITION, "lower the arm by {}", "raise the arm up by {}"),
    Axis("roll", ROTATION, "roll arm {} degrees counterclockwise", "roll arm {} degrees clockwise"),
    Axis("pitch", ROTATION, "tilt arm up {} degrees", "tilt arm down {} degrees"),
    Axis("yaw", ROTATION, "yaw arm {} degrees counterclockwise", "yaw arm {} degrees clockwise"),
)
GRIPPER_ROTATION = Axis(
    "gripper_rotation",
    ROTATION,
    "rotate the gripper {} degrees counterclockwise",
    "rotate the gripper {} degrees clockwise",
)
CLOSE_PHRASE, OPEN_PHRASE = "close the gripper", "open the gripper"

FRAME = "robot base: x forward, y left, z up; relative to the current pose"


@dataclasses.dataclass(frozen=True)
class Move:
    """What one class means.

    Attributes:
      phrase: the language action.
      action: its low-level action, see ``action_specs``.
      axis: index of the axis that moves, None for the gripper's opening and closing.
    """

    phrase: str
    action: tuple[float, ...]
    axis: int | None


def finetuning_table() -> tuple[Move, ...]:
    """The 58 classes of [dx, dy, dz, droll, dpitch, dyaw, gripper rotation, gripper]; moves keep it open."""
    radians = {degrees: math.radians(degrees) for degrees, _ in _DEGREES}
    return _table((*AXES, GRIPPER_ROTATION), radians)


def pretraining_table() -> tuple[Move, ...]:
    """The 50 classes of [dx, dy, dz, droll, dpitch, dyaw, gripper], with angles rounded as published."""
    return _table(AXES, _ROUNDED_RADIANS)


def _table(axes: tuple[Axis, ...], radians: dict[int, float]) -> tuple[Move, ...]:
    moves = []
    for index, axis in enumerate(axes):
        if axis.kind == POSITION:
            sizes = list(_METRES)
        else:
            sizes = [(radians[degrees], words) for degrees, words in _DEGREES]
        signed = [(-value, axis.negative.format(words)) for value, words in reversed(sizes)]
        signed += [(value, axis.positive.format(words)) for value, words in sizes]
        for value, phrase in signed:
            action = [0.0] * len(axes)
            action[index] = value
            moves.append(Move(phrase, (*action, OPEN), index))
    still = (0.0,) * len(axes)
    return (*moves, Move(CLOSE_PHRASE, (*still, CLOSE), None), Move(OPEN_PHRASE, (*still, OPEN), None))


def action_specs(size: int) -> tuple[ArraySpec, ...]:
    """Names, units and frame of a low-level action of 7 or 8 numbers; bounds are the tables' largest moves.

    Raises:
      ValueError: another size.
    """
    quarter = _ROUNDED_RADIANS[90]  # A hair above a quarter turn.
    specs = [
        ArraySpec(
            "world_vector", (3,), "float32", -0.2, 0.2, "m", FRAME, "Move of the arm: forward, left, up."
        ),
        ArraySpec("rotation_delta", (3,), "float32", -quarter, quarter, "rad", FRAME, "Roll, pitch and yaw."),
        ArraySpec(
            "gripper_rotation", (1,), "float32", -quarter, quarter, "rad", "gripper", "Turn of the gripper."
        ),
        ArraySpec("gripper_open", (1,), "float32", 0.0, 1.0, "", "", "1 opens the gripper, 0 closes it."),
    ]
    if size == 7:
        del specs[2]
    elif size != 8:
        raise ValueError(f"A low-level action has 7 or 8 numbers. Received: {size}")
    return tuple(specs)
