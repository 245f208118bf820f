"""From the columns of a recorded episode to the class that each step says, and its wording."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import gin
import numpy as np
from absl import logging

from clip_tf.rt import action_table
from clip_tf.rt.action_layout import ActionLayout
from clip_tf.rt.dominant_axis import (
    CLOSE_LABEL,
    NONE,
    OPEN_LABEL,
    derive_supervision,
    to_finetuning_labels,
)
from clip_tf.rt.oxe_layouts import oxe_data_set
from clip_tf.rt.paraphrases import draw_wording, wordings_of
from clip_tf.rt.vocabulary import GRIPPER_CHANGE, Vocabulary, make_vocabulary

# No step of an arm is so long, in metres.
_FAR = 0.5
_UNITS = ("axes", "position_scale", "rotation_scale")
LAYOUT_FIELDS = (*(f.name for f in dataclasses.fields(ActionLayout) if f.name != "adjustment"), *_UNITS)
"""What ``make_action_layout`` takes besides a name."""


@gin.configurable(module="clip_rt")
def make_action_layout(oxe_name: str | None = None, **fields: Any) -> ActionLayout:
    """A layout of recorded actions.

    Args:
      oxe_name: of an Open X-Embodiment data set; None for seven numbers in ``action``.
      **fields: what differs: fields of ``ActionLayout``, and ``axes``, ``position_scale`` and
        ``rotation_scale`` of ``oxe_adjustments.Adjustment``.

    Raises:
      ValueError: the name or a field is unknown, or a field is not valid.
    """
    unknown = sorted(set(fields) - set(LAYOUT_FIELDS))
    if unknown:
        raise ValueError(f"A layout of actions has the fields {LAYOUT_FIELDS}. Received: {unknown}")
    units = {name: fields.pop(name) for name in _UNITS if name in fields}
    layout = oxe_data_set(oxe_name).layout
    if "axes" in units:
        units["axes"] = tuple(units["axes"])
    adjustment = dataclasses.replace(layout.adjustment, **units)
    return dataclasses.replace(layout, adjustment=adjustment, **fields)


class RecordedSupervision:
    """Derives labels and wordings of recorded episodes, by the dominant-axis rule.

    A vocabulary that is not one of the published tables takes the class nearest to the dominant move; where
    that does not move that way, or no class opens or closes, the step says nothing.
    """

    def __init__(self, layout: ActionLayout, vocabulary: Vocabulary) -> None:
        self.layout = layout
        self.vocabulary = vocabulary
        self._wordings = wordings_of(vocabulary)
        self._table = next(
            (
                name
                for name in ("finetuned", "pretrained")
                if make_vocabulary(name).to_json() == vocabulary.to_json()
            ),
            None,
        )

    def labels(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The class of every step, int64 [n]; ``dominant_axis.NONE`` where a step says nothing.

        Args:
          columns: path -> array [n, …] of one episode.

        Raises:
          ValueError: see ``ActionLayout.low_level_actions`` and ``derive_supervision``.
        """
        actions, steps = self.layout.low_level_actions(columns)
        if len(actions) and np.abs(actions[:, :3]).max() > _FAR:
            logging.log_first_n(
                logging.WARNING,
                "A step moves the arm by %.3g m. Moves must be in metres and radians, not normalised: look "
                "at oxe_name, or position_scale and rotation_scale of the action layout.",
                1,
                float(np.abs(actions[:, :3]).max()),
            )
        derived = derive_supervision(actions, self.layout.gripper_change)
        found = derived.labels
        if self._table == "finetuned":
            found = to_finetuning_labels(found)
        elif self._table is None:
            found = np.array(
                [
                    self._nearest(label, axis, value)
                    for label, axis, value in zip(found, derived.axes, derived.values, strict=True)
                ],
                np.int64,
            )
        labels = np.full(len(columns[self.layout.path]), NONE, np.int64)
        labels[steps] = found
        return labels

    def wording(self, label: int, key: str | None) -> str:
        """What a class is called: its phrase, or with a key one of its wordings, drawn by the key."""
        group = self._wordings[label]
        return group[0] if key is None else draw_wording(group, key)

    def _nearest(self, label: int, axis: int, value: float) -> int:
        if label == NONE:
            return NONE
        action = np.zeros(self.vocabulary.actions.shape[1])
        actions = self.vocabulary.actions
        if label in (CLOSE_LABEL, OPEN_LABEL):
            target = action_table.OPEN if label == OPEN_LABEL else action_table.CLOSE
            still = ~actions[:, :-1].any(axis=1) & (np.abs(actions[:, -1] - target) < GRIPPER_CHANGE)
            return int(np.flatnonzero(still)[0]) if still.any() else NONE
        if not actions[:, :-1].any():
            return NONE
        action[axis] = value
        nearest = self.vocabulary.nearest(action)
        return nearest if actions[nearest, axis] * value > 0 else NONE
