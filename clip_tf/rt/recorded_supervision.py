"""From the columns of a recorded episode to the class that each step says, and its wording."""

import dataclasses
from collections.abc import Mapping

import gin
import numpy as np

from clip_tf.rt import action_table, oxe_adjustments
from clip_tf.rt.dominant_axis import (
    CLOSE_LABEL,
    NONE,
    OPEN_LABEL,
    THIS_STEP,
    derive_supervision,
    to_finetuning_labels,
)
from clip_tf.rt.oxe_adjustments import Adjustment
from clip_tf.rt.paraphrases import draw_wording, wordings_of
from clip_tf.rt.vocabulary import Vocabulary, make_vocabulary


@dataclasses.dataclass(frozen=True)
class ActionLayout:
    """Where the moves of the arm and the gripper are in the steps of a data set.

    Attributes:
      path: of the column with the six moves, position first.
      start: its first number that is one of them.
      gripper_path: of the gripper's column.
      gripper_index: which of its numbers.
      gripper_scale, gripper_offset: gripper = stored · scale + offset must be 1 for open, 0 for closed.
      adjustment: its units and axes.
      gripper_change: see ``dominant_axis``.
      last_step_has_action: RLDS leaves the last step's action undefined; many data sets fill it all the same,
        and the published preprocessing takes it.
    """

    path: str = "action"
    start: int = 0
    gripper_path: str = "action"
    gripper_index: int = 6
    gripper_scale: float = 1.0
    gripper_offset: float = 0.0
    adjustment: Adjustment = dataclasses.field(default_factory=Adjustment)
    gripper_change: str = THIS_STEP
    last_step_has_action: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The paths that are read."""
        return tuple(dict.fromkeys([self.path, self.gripper_path]))


@gin.configurable(module="clip_rt")
def make_action_layout(oxe_name: str | None = None, **fields: object) -> ActionLayout:
    """A layout by name of an Open X-Embodiment data set, and fields of ``ActionLayout``.

    Raises:
      ValueError: the name is unknown.
    """
    return ActionLayout(adjustment=oxe_adjustments.adjustment(oxe_name), **fields)  # type: ignore[arg-type]


class RecordedSupervision:
    """Derives labels and wordings of recorded episodes, by the dominant-axis rule.

    A vocabulary that is not one of the published tables takes the class nearest to the dominant move.
    """

    def __init__(self, layout: ActionLayout, vocabulary: Vocabulary) -> None:
        self.layout = layout
        self.vocabulary = vocabulary
        self._wordings = wordings_of(vocabulary)
        self._table = next(
            (
                name
                for name in ("finetuned", "pretrained")
                if make_vocabulary(name).phrases == vocabulary.phrases
            ),
            None,
        )

    def low_level_actions(self, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Actions float64 [m, 7] in our convention, and the steps int64 [m] that they belong to.

        Raises:
          ValueError: a column is too narrow or holds no numbers.
        """
        layout = self.layout
        moves = _numbers(columns, layout.path, layout.start + 6)[:, layout.start : layout.start + 6]
        gripper = _numbers(columns, layout.gripper_path, layout.gripper_index + 1)
        gripper = gripper[:, layout.gripper_index] * layout.gripper_scale + layout.gripper_offset
        if not layout.last_step_has_action:
            moves, gripper = moves[:-1], gripper[:-1]
        return oxe_adjustments.adjust(np.concatenate([moves, gripper[:, None]], axis=1), layout.adjustment)

    def labels(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The class of every step, int64 [n]; ``dominant_axis.NONE`` where a step says nothing.

        Args:
          columns: path -> array [n, …] of one episode.

        Raises:
          ValueError: see ``low_level_actions`` and ``derive_supervision``.
        """
        actions, steps = self.low_level_actions(columns)
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
        if label in (CLOSE_LABEL, OPEN_LABEL):
            opens = label == OPEN_LABEL
            return self.vocabulary.nearest(action, (1.0 if opens else -1.0) * action_table.OPEN)
        action[axis] = value
        return self.vocabulary.nearest(action)


def _numbers(columns: Mapping[str, np.ndarray], path: str, width: int) -> np.ndarray:
    column = np.asarray(columns[path])
    if column.ndim != 2 or column.shape[1] < width or column.dtype.kind not in "fiu":
        raise ValueError(
            f"{path} must hold at least {width} numbers a step. Received: {column.dtype} {list(column.shape)}"
        )
    return column.astype(np.float64)
