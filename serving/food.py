"""The food task's answers: execution parameters, skewer point, direction, statistics of the draws."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from core import food
from core.spec import PolicySpec
from serving.errors import unknown_instruction


def parameters(spec: PolicySpec, actions: Mapping[str, np.ndarray]) -> np.ndarray:
    """The four numbers x1, y1, x2, y2 of a food policy's answer.

    Args:
      spec: its actions, in their order, hold four numbers in all: one array of four, or four of one.
      actions: action name -> [..., *shape].

    Returns:
      [..., 4] float64, fractions of the image's width and height, y down.

    Raises:
      ValueError: the actions do not hold four numbers.
    """
    arrays = [np.asarray(actions[a.name], np.float64) for a in spec.actions]
    flat = [
        x.reshape(*x.shape[: x.ndim - len(a.shape)], -1) for a, x in zip(spec.actions, arrays, strict=True)
    ]
    joined = np.concatenate(flat, axis=-1)
    if joined.shape[-1] != len(food.PARAMETERS):
        raise ValueError(
            f"A food policy's actions must hold {list(food.PARAMETERS)}. "
            f"Received: {joined.shape[-1]} numbers in {[a.name for a in spec.actions]}"
        )
    return joined


def prediction(box: Sequence[float] | np.ndarray) -> dict[str, float]:
    """The answer's fields for one x1, y1, x2, y2.

    The skewer point is the midpoint. The direction is that from start to end in image coordinates:
    0 points to the right, 90 down; degrees in (-180, 180].
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    return {
        "start_x": x1,
        "start_y": y1,
        "end_x": x2,
        "end_y": y2,
        "skewer_x": (x1 + x2) / 2,
        "skewer_y": (y1 + y2) / 2,
        "direction_degrees": math.degrees(math.atan2(y2 - y1, x2 - x1)),
    }


def statistics(boxes: np.ndarray) -> dict[str, float | int | list[float]]:
    """How far draws of one prediction lie apart (population variances, as the published server).

    Args:
      boxes: [n, 4] x1, y1, x2, y2.

    Returns:
      mean, std: of each of the four; total_variance: the sum of the four variances;
      centroid_variance: of the midpoint, x and y summed; size_variance: of (x2 - x1, y2 - y1),
      summed; distance_variance: of the Euclidean norm of the four numbers; num_samples: n.
    """
    boxes = np.asarray(boxes, np.float64)
    start, end = boxes[:, :2], boxes[:, 2:]
    return {
        "mean": boxes.mean(axis=0).tolist(),
        "std": boxes.std(axis=0).tolist(),
        "total_variance": float(boxes.var(axis=0).sum()),
        "centroid_variance": float(((start + end) / 2).var(axis=0).sum()),
        "size_variance": float((end - start).var(axis=0).sum()),
        "distance_variance": float(np.linalg.norm(boxes, axis=1).var()),
        "num_samples": len(boxes),
    }


def instruction(spec: PolicySpec, action: str | None, food_type: str | None, text: str | None) -> str:
    """What to ask the policy for: the combination's name, or the free text.

    action and food_type together choose the combination (text is then only echoed); without both,
    the text is the instruction.

    Raises:
      ApiError: 422 naming the field: one of action and food_type is missing, a word or a combination
        is unknown, no instruction is given, or the policy takes no free text.
    """
    action, food_type, text = (action or "").strip(), (food_type or "").strip(), (text or "").strip()
    if not (action or food_type):
        return _free_text(spec, text)
    if not (action and food_type):
        missing = "food_type" if action else "action"
        raise unknown_instruction("action and food_type are given together or not at all.", missing)
    try:
        action = food.canonical_action(action)
    except ValueError as error:
        raise unknown_instruction(str(error), "action") from error
    try:
        food_type = food.canonical_food(food_type)
    except ValueError as error:
        raise unknown_instruction(str(error), "food_type") from error
    if not spec.instructions:
        return food.sentence(action, food_type)
    name = food.combination(action, food_type)
    if name not in spec.instructions:
        raise unknown_instruction(
            f"The policy does not know {name}; it knows {', '.join(spec.instructions)}.", "food_type"
        )
    return name


def _free_text(spec: PolicySpec, text: str) -> str:
    if not text:
        raise unknown_instruction("action and food_type, or text, are needed. Received: none.", "action")
    if spec.free_text or text in spec.instructions:
        return text
    raise unknown_instruction(
        f"The policy takes no free text; action and food_type it knows: {', '.join(spec.instructions)}.",
        "text",
    )


def known_combinations(spec: PolicySpec) -> list[dict[str, str]]:
    """The combinations a policy knows, in its order; all 66 where any text is taken."""
    names = spec.instructions or food.combinations()
    return [dict(zip(("action", "food_type"), food.split_combination(n), strict=True)) for n in names]
