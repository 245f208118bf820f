"""Answers of policies that move a robot: named actions with units and bounds, the terminate flag."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.spec import ArraySpec, PolicySpec
from serving.errors import invalid_field, unknown_instruction

TERMINATE = "terminate_episode"
INSTRUCTION = "natural_language_instruction"
POINTS = "attention_points"


def named_actions(spec: PolicySpec, actions: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Action name -> values (nested lists), unit, minimum, maximum (the shape of values) and frame."""
    return {a.name: _described(a, actions[a.name]) for a in spec.actions}


def language_actions(info: Mapping[str, np.ndarray]) -> list[dict[str, Any]] | None:
    """The phrases that a policy names beside its action, best first, each with label and probability.

    None where its ``info`` has no ``phrases``, ``phrase_labels`` and ``phrase_probabilities`` [k].
    """
    names = ("phrases", "phrase_labels", "phrase_probabilities")
    if not all(name in info for name in names):
        return None
    rows = zip(*(np.asarray(info[name]).tolist() for name in names), strict=True)
    return [{"phrase": p, "label": label, "probability": probability} for p, label, probability in rows]


def check_attention_points(spec: PolicySpec, asked: bool) -> None:
    """Refuses the wish for attention points of a policy that has none, before its step is taken.

    Raises:
      ApiError: 422 on ``attention_points``.
    """
    if asked and POINTS not in spec.details:
        raise invalid_field("The policy has no attention points.", POINTS)


def attention_points(
    spec: PolicySpec, info: Mapping[str, np.ndarray]
) -> dict[str, dict[str, list[list[float]]]]:
    """Where a policy looks: image -> ``encoder`` and ``decoder`` points, k times [x, y].

    Args:
      spec: its ``details`` have ``attention_points``: image -> k.
      info: the answer's, with ``encoder_points/<image>`` and ``decoder_points/<image>`` [2 k].
    """
    return {
        name: {kind: info[f"{kind}_points/{name}"].reshape(k, 2).tolist() for kind in ("encoder", "decoder")}
        for name, k in spec.details[POINTS].items()
    }


def _described(spec: ArraySpec, values: np.ndarray) -> dict[str, Any]:
    low = high = None
    if spec.minimum is not None:
        low, high = (bound.tolist() for bound in spec.bounds())
    unit, frame = spec.unit, spec.frame
    return {
        "values": np.asarray(values).tolist(),
        "unit": unit,
        "minimum": low,
        "maximum": high,
        "frame": frame,
    }


def terminate(actions: Mapping[str, np.ndarray]) -> bool | None:
    """Whether the policy says that the episode is over; None where it has no such action.

    RT-1's ``terminate_episode`` is one-hot of three, its first element meaning terminate.
    """
    flag = actions.get(TERMINATE)
    return None if flag is None or np.shape(flag) != (3,) else bool(np.argmax(flag) == 0)


def instruction(spec: PolicySpec, text: str | None) -> str | None:
    """The text to ask the policy for; None where it takes no instruction.

    Raises:
      ApiError: 422 on ``text``: it is missing, not known to a policy without free text, or given to a
        policy that takes none.
    """
    text = (text or "").strip()
    if all(o.name != INSTRUCTION for o in spec.observations):
        if text:
            raise unknown_instruction("The policy takes no instruction.", "text")
        return None
    if not text:
        raise unknown_instruction("An instruction is needed. Received: none.", "text")
    if spec.instructions and not spec.free_text and text not in spec.instructions:
        raise unknown_instruction(f"The policy knows {', '.join(spec.instructions)}.", "text")
    return text
