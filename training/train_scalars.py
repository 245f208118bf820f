"""The scalars of train steps: read from the device in windows, checked, averaged over the epoch."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

LOSS, WEIGHT = "loss", "weight"
_RESERVED = ("epoch", "step")


class Position(NamedTuple):
    """Which train step: the epoch and the batch in it (both from 0), and the step's number (from 1)."""

    epoch: int
    batch: int
    step: int


class NonFiniteError(ValueError):
    """A train scalar is NaN or infinite.

    Attributes:
      position: the step it belongs to.
      name: of the scalar.
      value: of the scalar.
    """

    def __init__(self, position: Position, name: str, value: float, batch: str = "") -> None:
        self.position, self.name, self.value = position, name, value
        super().__init__(
            f"{name} must be finite; training stops and nothing is saved. Received: {name}={value} at step "
            f"{position.step}, epoch {position.epoch + 1}, batch {position.batch + 1}"
            + (f": {batch}" if batch else "")
        )


class ScalarWindow:
    """Train scalars that have not been read from the device yet.

    Reading a scalar waits for the device to finish the step. With a window of n steps it waits once in
    n steps and runs ahead otherwise; the values are still those of each step.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._pending: list[tuple[Position, Mapping[str, Any]]] = []

    @property
    def full(self) -> bool:
        return len(self._pending) >= self._size

    def add(self, position: Position, scalars: Mapping[str, Any]) -> None:
        self._pending.append((position, scalars))

    def read(self) -> Iterator[tuple[Position, dict[str, float]]]:
        """Empties the window, oldest step first.

        Raises:
          NonFiniteError: a value is NaN or infinite.
          ValueError: ``loss`` is missing, a name is reserved, a value is not a scalar, or the weight
            is not positive.
        """
        pending, self._pending = self._pending, []
        for position, scalars in pending:
            yield position, _checked(position, scalars)


def add_to_sums(sums: dict[str, tuple[float, float]], values: Mapping[str, float]) -> None:
    """Adds the values of one step to ``sums`` (name -> weighted sum, sum of weights), in place."""
    weight = values.get(WEIGHT, 1.0)
    for name, value in values.items():
        if name != WEIGHT:
            total, weights = sums.get(name, (0.0, 0.0))
            sums[name] = (total + weight * value, weights + weight)


def means(sums: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The weighted means of the epoch so far."""
    return {name: total / weights for name, (total, weights) in sums.items()}


def _checked(position: Position, scalars: Mapping[str, Any]) -> dict[str, float]:
    if LOSS not in scalars:
        raise ValueError(f"train_step must return {LOSS!r}. Received: {sorted(scalars)}")
    values = {}
    # The loss first: where several values are not finite, it is the one to name.
    for name in sorted(scalars, key=lambda n: (n != LOSS, n)):
        if name in _RESERVED:
            raise ValueError(f"train_step must not use the names {_RESERVED}. Received: {name!r}")
        array = np.asarray(scalars[name])
        if array.shape != ():
            raise ValueError(f"{name} of train_step must be a scalar. Received: shape {array.shape}")
        values[name] = float(array)
        if not math.isfinite(values[name]):
            raise NonFiniteError(position, name, values[name])
    if values.get(WEIGHT, 1.0) <= 0.0:
        raise ValueError(f"{WEIGHT} of train_step must be positive. Received: {values[WEIGHT]}")
    return values
