"""Other wordings of the language actions, for training: a grammar of our own.

Every wording says the size of its move, so that no wording means two classes. A class that
moves has 11 to 18: six ways to name the move, two or three to write its size. One of the gripper has 10.
"""

import functools
import hashlib
import math

from clip_tf.rt import action_table
from clip_tf.rt.vocabulary import Vocabulary

_WAYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "x": (
        (
            "move back {}",
            "move the arm {} backward",
            "pull the arm back by {}",
            "bring the arm {} closer to the base",
            "retract the arm by {}",
        ),
        (
            "move forward {}",
            "move the arm {} ahead",
            "push the arm forward by {}",
            "extend the arm by {}",
            "reach {} further forward",
        ),
    ),
    "y": (
        (
            "move right {}",
            "move the arm {} rightward",
            "shift the arm to the right by {}",
            "slide the arm {} right",
            "go {} to the right",
        ),
        (
            "move left {}",
            "move the arm {} leftward",
            "shift the arm to the left by {}",
            "slide the arm {} left",
            "go {} to the left",
        ),
    ),
    "z": (
        (
            "move down {}",
            "move the arm {} downward",
            "bring the arm down by {}",
            "descend {}",
            "let the arm sink by {}",
        ),
        (
            "move up {}",
            "move the arm {} upward",
            "lift the arm by {}",
            "ascend {}",
            "bring the arm up by {}",
        ),
    ),
    "roll": (
        (
            "roll the arm counterclockwise by {}",
            "roll {} counterclockwise",
            "roll counterclockwise {}",
            "turn the arm {} counterclockwise about the forward axis",
            "roll the arm {} to the left",
        ),
        (
            "roll the arm clockwise by {}",
            "roll {} clockwise",
            "roll clockwise {}",
            "turn the arm {} clockwise about the forward axis",
            "roll the arm {} to the right",
        ),
    ),
    "pitch": (
        (
            "tilt the arm up by {}",
            "tilt {} upward",
            "pitch the arm up by {}",
            "pitch up {}",
            "incline the arm {} upward",
        ),
        (
            "tilt the arm down by {}",
            "tilt {} downward",
            "pitch the arm down by {}",
            "pitch down {}",
            "incline the arm {} downward",
        ),
    ),
    "yaw": (
        (
            "yaw the arm counterclockwise by {}",
            "yaw {} counterclockwise",
            "yaw counterclockwise {}",
            "turn the arm {} counterclockwise about the vertical axis",
            "swivel the arm counterclockwise by {}",
        ),
        (
            "yaw the arm clockwise by {}",
            "yaw {} clockwise",
            "yaw clockwise {}",
            "turn the arm {} clockwise about the vertical axis",
            "swivel the arm clockwise by {}",
        ),
    ),
    "gripper_rotation": (
        (
            "rotate the gripper counterclockwise by {}",
            "turn the gripper {} counterclockwise",
            "spin the gripper counterclockwise by {}",
            "twist the gripper {} counterclockwise",
            "rotate the hand {} counterclockwise",
        ),
        (
            "rotate the gripper clockwise by {}",
            "turn the gripper {} clockwise",
            "spin the gripper clockwise by {}",
            "twist the gripper {} clockwise",
            "rotate the hand {} clockwise",
        ),
    ),
}
_SIZES = {
    1: ("one centimeter", "1 centimeter", "1 cm"),
    5: ("five centimeters", "5 centimeters", "5 cm"),
    10: ("ten centimeters", "10 centimeters", "10 cm"),
    20: ("twenty centimeters", "20 centimeters", "20 cm"),
}
_ANGLES = {
    5: ("five degrees", "5 degrees"),
    15: ("fifteen degrees", "15 degrees"),
    45: ("forty-five degrees", "45 degrees", "fourty five degrees"),
    90: ("ninety degrees", "90 degrees", "a quarter turn"),
}
_GRIPPER = {
    action_table.CLOSE_PHRASE: (
        "close gripper",
        "shut the gripper",
        "close the fingers",
        "close the hand",
        "bring the fingers together",
        "squeeze the gripper shut",
        "clamp the gripper",
        "tighten the gripper",
        "grasp with the gripper",
    ),
    action_table.OPEN_PHRASE: (
        "open gripper",
        "open up the gripper",
        "open the fingers",
        "open the hand",
        "spread the fingers",
        "let go with the gripper",
        "release the gripper",
        "loosen the gripper",
        "widen the gripper",
    ),
}


@functools.cache
def all_wordings() -> dict[str, tuple[str, ...]]:
    """Phrase of the published tables -> its wordings, the phrase itself first; no wording is there twice."""
    found: dict[str, tuple[str, ...]] = {}
    for move in action_table.finetuning_table():
        if move.axis is None:
            found[move.phrase] = (move.phrase, *_GRIPPER[move.phrase])
            continue
        axis = (*action_table.AXES, action_table.GRIPPER_ROTATION)[move.axis]
        value = move.action[move.axis]
        ways = _WAYS[axis.name][value > 0]
        if axis.kind == action_table.POSITION:
            sizes: tuple[str, ...] = _SIZES[round(abs(value) * 100)]
            ways = ((axis.positive if value > 0 else axis.negative), *ways)
        else:
            sizes = _ANGLES[round(math.degrees(abs(value)))]
        wordings = [way.format(size) for way in ways for size in sizes]
        found[move.phrase] = tuple(dict.fromkeys([move.phrase, *wordings]))
    return found


def wordings_of(vocabulary: Vocabulary) -> tuple[tuple[str, ...], ...]:
    """The wordings of each class, its phrase first; a phrase outside the published tables has only itself."""
    known = all_wordings()
    return tuple(known.get(phrase, (phrase,)) for phrase in vocabulary.phrases)


def draw_wording(wordings: tuple[str, ...], key: str) -> str:
    """One of the wordings, the same for the same key on every machine.

    Args:
      wordings: of a class.
      key: names the draw, e.g. seed, epoch, episode and step.
    """
    digest = hashlib.sha256(key.encode()).digest()
    return wordings[int.from_bytes(digest[:8], "big") % len(wordings)]
