"""The specification of a policy: what it takes and what it answers, with ranges, units and frames.

The data pipeline, the network's action tokens, the server's answers and its documentation are
derived from it, and it travels inside every checkpoint folder as ``spec.json``.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core import files

Bound = float | tuple[float, ...] | None


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """One named array of an observation or an action, without its batch axis.

    Attributes:
      name: e.g. ``image`` or ``world_vector``.
      shape: without the batch axis; None where any size is taken.
      dtype: a numpy type name, or ``string``.
      minimum, maximum: per element in C order, or one number for all, or None where unbounded.
      unit: e.g. ``m``, ``rad``, ``px``, ``fraction of the image``; empty where there is none.
      frame: the frame of reference, e.g. ``end effector, relative to the current pose``.
      description: one sentence.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    minimum: Bound = None
    maximum: Bound = None
    unit: str = ""
    frame: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        # JSON gives lists; numbers come from gin as single floats.
        object.__setattr__(self, "shape", tuple(self.shape))
        for field in ("minimum", "maximum"):
            value = getattr(self, field)
            if value is not None:
                value = (value,) if isinstance(value, (int, float)) else value
                object.__setattr__(self, field, tuple(float(v) for v in value))
        if (self.minimum is None) != (self.maximum is None):
            raise ValueError(
                f"{self.name}: minimum and maximum are given together or not at all. "
                f"Received: minimum={self.minimum}, maximum={self.maximum}"
            )
        if self.minimum is not None and None not in self.shape:
            low, high = self.bounds()
            if not (low <= high).all():
                raise ValueError(
                    f"{self.name}: no minimum may lie above its maximum. "
                    f"Received: minimum={self.minimum}, maximum={self.maximum}"
                )

    @property
    def size(self) -> int:
        """How many numbers one element of the batch has.

        Raises:
          ValueError: the shape is not fully known.
        """
        if any(s is None for s in self.shape):
            raise ValueError(f"{self.name} has no fixed size. Received: shape={self.shape}")
        return int(np.prod([s for s in self.shape if s is not None], dtype=np.int64))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Minimum and maximum in float32, each of the full shape.

        Raises:
          ValueError: the array is unbounded or has no fixed size, or its bounds are of another size.
        """
        if self.minimum is None or self.maximum is None:
            raise ValueError(f"{self.name} has no bounds. Received: {self}")
        return self._full("minimum"), self._full("maximum")

    def _full(self, field: str) -> np.ndarray:
        value = np.asarray(getattr(self, field), np.float32)
        if value.size not in (1, self.size):
            raise ValueError(
                f"{self.name}: {field} must be one number or {self.size}. Received: {value.tolist()}"
            )
        return np.resize(value, tuple(s for s in self.shape if s is not None))


@dataclasses.dataclass(frozen=True)
class PolicySpec:
    """Everything a caller has to know about a policy.

    Attributes:
      model: ``rt1``, ``clip_rt`` or ``clip_sarnn``.
      task: ``food`` for execution parameters, else ``manipulation``.
      observations: what ``Policy.infer`` takes, without the batch axis.
      actions: what it answers, in the order of the action tokens.
      instructions: the instructions known by name (for the food task ``skewering_banana``…); empty
        where any text is taken.
      encoder: identity of the sentence encoder whose embeddings the policy was trained on, or "".
      free_text: whether instructions beside the known ones can be encoded.
      control_hz: how often a step was recorded in the training data, None where that has no meaning.
      details: anything else a user of the policy should see (e.g. the window's length).
    """

    model: str
    task: str
    observations: tuple[ArraySpec, ...]
    actions: tuple[ArraySpec, ...]
    instructions: tuple[str, ...] = ()
    encoder: str = ""
    free_text: bool = False
    control_hz: float | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def observation(self, name: str) -> ArraySpec:
        """The observation of that name; KeyError names those there are."""
        return _named(self.observations, name)

    def action(self, name: str) -> ArraySpec:
        """The action of that name; KeyError names those there are."""
        return _named(self.actions, name)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "PolicySpec":
        """The inverse of ``to_json``.

        Raises:
          ValueError: a field is missing or unknown.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"A policy specification is an object of named fields. Received: {value!r}")
        try:
            rest = dict(value)
            observations = tuple(ArraySpec(**a) for a in rest.pop("observations"))
            actions = tuple(ArraySpec(**a) for a in rest.pop("actions"))
            rest["instructions"] = tuple(rest.get("instructions", ()))
            return cls(observations=observations, actions=actions, **rest)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"Not a policy specification: {error}. Received keys: {sorted(value)}"
            ) from error

    def save(self, path: str | Path) -> None:
        files.write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "PolicySpec":
        return cls.from_json(files.read_json(path))


def _named(specs: tuple[ArraySpec, ...], name: str) -> ArraySpec:
    for spec in specs:
        if spec.name == name:
            return spec
    raise KeyError(f"{name!r} is not one of {[s.name for s in specs]}")
