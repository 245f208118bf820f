"""Which features of a data set become which RT-1 actions, and the bounds of their tokens."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import numpy as np
import tensorflow as tf
from absl import logging

from core.spec import ArraySpec
from episodes.statistics import DatasetStatistics
from rt1.specs import OFFICIAL_ACTIONS

_TERMINATE_ONE_HOT = ((0, 1, 0), (1, 0, 0))  # Going on; ending the episode.
# Half the width of the token range of a dimension that never changes in the training data.
_CONSTANT_HALF_WIDTH = 1e-3


@dataclasses.dataclass(frozen=True)
class ActionSource:
    """Where one RT-1 action comes from.

    Attributes:
      name: of the action, e.g. ``world_vector``.
      path: of a step's feature, e.g. ``action``; None for an action that the data set does not have, which
        then is ``constant`` at every step.
      start, stop: the part of the feature's last axis that is taken; None to its end.
      scale, offset: the action is scale × value + offset; one number, or one for each element.
      one_hot: the value is a flag, above ``threshold`` or not, and becomes [1, 0, 0] or [0, 1, 0] as
        RT-1's terminate_episode has it. A feature of three elements is taken for one-hot already.
      threshold: see ``one_hot``.
      constant: the values of an action without a path.
      minimum, maximum: bounds of the action tokens; None takes the 1 % and 99 % quantiles of the training
        episodes.
      unit, frame, description: as ``core.spec.ArraySpec``; None takes the official action's of that name.
    """

    name: str
    path: str | None = None
    start: int = 0
    stop: int | None = None
    scale: float | Sequence[float] = 1.0
    offset: float | Sequence[float] = 0.0
    one_hot: bool = False
    threshold: float = 0.5
    constant: tuple[float, ...] | None = None
    minimum: float | Sequence[float] | None = None
    maximum: float | Sequence[float] | None = None
    unit: str | None = None
    frame: str | None = None
    description: str | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.constant is None):
            raise ValueError(
                f"Action {self.name!r} needs either a path in the data or a constant. "
                f"Received: path={self.path!r}, constant={self.constant!r}"
            )
        if (self.minimum is None) != (self.maximum is None):
            raise ValueError(
                f"Action {self.name!r}: minimum and maximum are given together or not at all. "
                f"Received: minimum={self.minimum}, maximum={self.maximum}"
            )
        if self.one_hot and self.constant is not None and tuple(self.constant) not in _TERMINATE_ONE_HOT:
            raise ValueError(
                f"Action {self.name!r}: a one-hot constant is one of {_TERMINATE_ONE_HOT}. "
                f"Received: {self.constant}"
            )


@gin.configurable
def action_mapping(actions: Mapping[str, Mapping[str, Any]]) -> tuple[ActionSource, ...]:
    """Builds the mapping from plain dictionaries, as a gin file states them.

    Example (BridgeData as Octo stores it; its gripper is 1 for open)::

      action_mapping.actions = {
          'terminate_episode': {'path': 'is_terminal', 'one_hot': True},
          'world_vector': {'path': 'action', 'stop': 3},
          'rotation_delta': {'path': 'action', 'start': 3, 'stop': 6},
          'gripper_closedness_action': {'path': 'action', 'start': 6, 'scale': -2.0, 'offset': 1.0},
      }

    Args:
      actions: action name -> the fields of ``ActionSource`` that are not at their defaults, in the order
        of the action tokens.

    Raises:
      ValueError: no action, or fields that ``ActionSource`` does not have or allow.
    """
    if not actions:
        raise ValueError(f"The action mapping must name at least one action. Received: {actions}")
    known = {field.name for field in dataclasses.fields(ActionSource)} - {"name"}
    sources = []
    for name, fields in actions.items():
        unknown = sorted(set(fields) - known)
        if unknown:
            raise ValueError(f"Action {name!r} may have the fields {sorted(known)}. Received: {unknown}")
        sources.append(ActionSource(name, **fields))
    return tuple(sources)


def map_actions(columns: Mapping[str, tf.Tensor], mapping: Sequence[ActionSource]) -> dict[str, tf.Tensor]:
    """Makes RT-1 actions of an episode's columns.

    Args:
      columns: path -> [steps, ...] with every path of the mapping; at least one column.
      mapping: where each action comes from.

    Returns:
      name -> float32 [steps, k], or int32 [steps, 3] where one-hot.

    Raises:
      ValueError: a slice is empty or a scale does not fit.
    """
    steps = tf.shape(next(iter(columns.values())))[0]
    return {source.name: _map_action(columns, source, steps) for source in mapping}


def _map_action(columns: Mapping[str, tf.Tensor], source: ActionSource, steps: tf.Tensor) -> tf.Tensor:
    if source.path is None:
        constant = tf.constant(source.constant, tf.int32 if source.one_hot else tf.float32)
        return tf.tile(constant[None], [steps, 1])
    value = columns[source.path]
    if value.dtype == tf.string:
        raise ValueError(f"Action {source.name!r} must come from numbers. Received: {source.path!r}, strings")
    value = tf.cast(value, tf.float32)
    value = value[:, None] if value.shape.rank == 1 else value
    if value.shape.rank != 2 or value.shape[1] is None:
        raise ValueError(f"Action {source.name!r}: {source.path!r} must be [k]. Received: {value.shape[1:]}")
    whole = value.shape[1]
    value = value[:, source.start : source.stop]
    size = value.shape[1]
    if size == 0 or (source.stop is not None and source.stop > whole):
        raise ValueError(
            f"Action {source.name!r}: {source.path!r} has {whole} elements. "
            f"Received: start={source.start}, stop={source.stop}"
        )
    if source.one_hot:
        if size == 3:
            return tf.one_hot(tf.argmax(value, axis=1), 3, dtype=tf.int32)
        if size != 1:
            raise ValueError(f"Action {source.name!r}: a flag has 1 or 3 elements. Received: {size}")
        return tf.gather(tf.constant(_TERMINATE_ONE_HOT), tf.cast(value[:, 0] > source.threshold, tf.int32))
    factors = {"scale": source.scale, "offset": source.offset}
    for name, factor in factors.items():
        if np.shape(factor) not in ((), (size,)):
            raise ValueError(
                f"Action {source.name!r}: {name} must be 1 or {size} numbers. Received: {factor}"
            )
    return value * tf.constant(source.scale, tf.float32) + tf.constant(source.offset, tf.float32)


def action_specs(mapping: Sequence[ActionSource], statistics: DatasetStatistics) -> tuple[ArraySpec, ...]:
    """The actions with the bounds of their tokens: declared ones, else quantiles of the training episodes.

    A dimension that never changes has no quantile range to cut into tokens; it gets a narrow one around
    its value, and a warning names it.

    Args:
      mapping: where each action comes from.
      statistics: of the mapped actions, by name.

    Raises:
      ValueError: there are no statistics of an action, or declared bounds do not fit.
    """
    official = {spec.name: spec for spec in OFFICIAL_ACTIONS}
    specs = []
    for source in mapping:
        array = statistics[source.name]
        size = len(array.mean)
        if source.one_hot:
            low, high = np.zeros(size), np.ones(size)
        elif source.minimum is not None and source.maximum is not None:
            low, high = (_declared_bound(source, bound, size) for bound in (source.minimum, source.maximum))
        else:
            low, high = np.array(array.low), np.array(array.high)
            constant = list(array.near_constant())
            if constant:
                logging.warning(
                    "Action %s: dimensions %s never change in the training episodes (values %s); their "
                    "tokens span +-%g around that. Declare minimum and maximum for another range.",
                    source.name,
                    constant,
                    np.take(array.mean, constant).tolist(),
                    _CONSTANT_HALF_WIDTH,
                )
                low[constant] -= _CONSTANT_HALF_WIDTH
                high[constant] += _CONSTANT_HALF_WIDTH
        named = official.get(source.name)
        words = {
            field: getattr(source, field)
            if getattr(source, field) is not None
            else (getattr(named, field) if named else "")
            for field in ("unit", "frame", "description")
        }
        specs.append(
            ArraySpec(
                source.name,
                (size,),
                "int32" if source.one_hot else "float32",
                tuple(low.tolist()),
                tuple(high.tolist()),
                **words,
            )
        )
    return tuple(specs)


def _declared_bound(source: ActionSource, bound: float | Sequence[float], size: int) -> np.ndarray:
    if np.shape(bound) not in ((), (size,)):
        raise ValueError(f"Action {source.name!r}: bounds must be 1 or {size} numbers. Received: {bound}")
    return np.broadcast_to(np.asarray(bound, np.float64), (size,))
