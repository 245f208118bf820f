"""Statistics of a data set's arrays: what normalisation and action tokenisation ask.

They live beside the data and inside every checkpoint as ``dataset_statistics.json``.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core import files

LOW_QUANTILE, HIGH_QUANTILE = 0.01, 0.99
# Rows kept of each array for its quantiles; up to as many rows the quantiles are exact.
MAXIMUM_ROWS = 2_000_000


@dataclasses.dataclass(frozen=True)
class ArrayStatistics:
    """Per-element statistics of one array over all steps; every tuple has one number an element.

    Attributes:
      count: steps seen.
      mean, std: std divides by the count.
      minimum, maximum: of all steps.
      low, high: the 1 % and the 99 % quantile (linear interpolation).
      exact: whether the quantiles are of all steps, or of a random sample of ``MAXIMUM_ROWS`` of them.
    """

    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    exact: bool

    def near_constant(self, tolerance: float = 1e-6) -> tuple[int, ...]:
        """Elements whose quantiles lie within ``tolerance`` of each other: nothing can be learnt there."""
        return tuple(
            i
            for i, (low, high) in enumerate(zip(self.low, self.high, strict=True))
            if high - low <= tolerance
        )


@dataclasses.dataclass(frozen=True)
class DatasetStatistics:
    """Statistics of a data set.

    Attributes:
      arrays: name -> statistics.
      episodes, steps: how many were seen.
      fingerprint: hexadecimal digest of the episodes' ids and values, whatever their order.
    """

    arrays: Mapping[str, ArrayStatistics]
    episodes: int
    steps: int
    fingerprint: str

    def __getitem__(self, name: str) -> ArrayStatistics:
        """The statistics of one array.

        Raises:
          ValueError: there are none for it.
        """
        if name not in self.arrays:
            raise ValueError(f"There are statistics of {sorted(self.arrays)}. Received: {name!r}")
        return self.arrays[name]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "DatasetStatistics":
        """The inverse of ``to_json``.

        Raises:
          ValueError: a field is missing, unknown or of another length.
        """
        try:
            arrays = {name: _array_from_json(array) for name, array in value["arrays"].items()}
            return cls(**{**value, "arrays": arrays})
        except (KeyError, TypeError, AttributeError) as error:
            received = sorted(value) if isinstance(value, Mapping) else type(value).__name__
            raise ValueError(f"Not data set statistics: {error}. Received: {received}") from error

    def save(self, path: str | Path) -> None:
        files.write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "DatasetStatistics":
        """Reads what ``save`` wrote.

        Raises:
          FileNotFoundError: there is no such file; statistics are never made up.
          ValueError: the file is something else.
        """
        return cls.from_json(files.read_json(path))


def compute_statistics(
    episodes: Iterable[tuple[str, Mapping[str, np.ndarray]]],
    *,
    maximum_rows: int = MAXIMUM_ROWS,
    seed: int = 0,
) -> DatasetStatistics:
    """Reads episodes once, holding at most ``maximum_rows`` rows of each array.

    Args:
      episodes: (episode id, name -> array [steps, *shape]) pairs; all with the same names and shapes.
        Booleans and integers count as numbers.
      maximum_rows: above it, quantiles come from a seeded uniform sample of so many rows.
      seed: of that sample.

    Raises:
      ValueError: no episode, or names, shapes or lengths that differ, or a value that is not finite; the
        message names the episode.
    """
    accumulators: dict[str, _Accumulator] = {}
    count, steps, digest_sum = 0, 0, 0
    for episode_id, arrays in episodes:
        if count == 0:
            accumulators = {name: _Accumulator(maximum_rows, seed) for name in arrays}
        if set(arrays) != set(accumulators):
            raise ValueError(
                f"Episode {episode_id!r} must have the arrays {sorted(accumulators)}. "
                f"Received: {sorted(arrays)}"
            )
        lengths = {len(array) for array in arrays.values()}
        if len(lengths) != 1:
            raise ValueError(f"Episode {episode_id!r} has arrays of different lengths. Received: {lengths}")
        digest = hashlib.sha256(episode_id.encode())
        for name in sorted(arrays):
            rows = accumulators[name].add(np.asarray(arrays[name]), f"episode {episode_id!r}, {name}")
            digest.update(f"\0{name}\0".encode() + np.ascontiguousarray(rows).tobytes())
        # A sum does not depend on the order in which shards are read.
        digest_sum = (digest_sum + int.from_bytes(digest.digest(), "big")) % 2**256
        count, steps = count + 1, steps + lengths.pop()
    if steps == 0:
        raise ValueError(f"Statistics need at least one step. Received: {count} episodes without any")
    return DatasetStatistics(
        {name: accumulator.result() for name, accumulator in accumulators.items()},
        count,
        steps,
        f"{digest_sum:064x}",
    )


class _Accumulator:
    """Mean and variance by Chan et al.'s pairwise update; a reservoir of rows for the quantiles."""

    def __init__(self, maximum_rows: int, seed: int) -> None:
        self._maximum_rows = maximum_rows
        self._random = np.random.default_rng(seed)
        self._count = 0
        self._mean = self._squares = np.zeros(0)
        self._minimum = self._maximum = np.zeros(0)
        self._rows: list[np.ndarray] = []
        self._reservoir: np.ndarray | None = None

    def add(self, array: np.ndarray, what: str) -> np.ndarray:
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{what} must hold numbers. Received: dtype={array.dtype}")
        rows = array.reshape(len(array), int(np.prod(array.shape[1:]))).astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if wrong.size:
            raise ValueError(f"{what} must be finite. Received: {array[wrong[0]]} at step {wrong[0]}")
        if self._count and rows.shape[1] != self._mean.size:
            raise ValueError(f"{what} must have {self._mean.size} elements a step. Received: {rows.shape[1]}")
        if len(rows):
            self._sample(rows)
            self._update(rows)
        return rows

    def _update(self, rows: np.ndarray) -> None:
        mean, squares = rows.mean(axis=0), ((rows - rows.mean(axis=0)) ** 2).sum(axis=0)
        if self._count == 0:
            self._count, self._mean, self._squares = len(rows), mean, squares
            self._minimum, self._maximum = rows.min(axis=0), rows.max(axis=0)
            return
        total = self._count + len(rows)
        delta = mean - self._mean
        self._squares = self._squares + squares + delta**2 * (self._count * len(rows) / total)
        self._mean = self._mean + delta * (len(rows) / total)
        self._minimum = np.minimum(self._minimum, rows.min(axis=0))
        self._maximum = np.maximum(self._maximum, rows.max(axis=0))
        self._count = total

    def _sample(self, rows: np.ndarray) -> None:
        if self._reservoir is None:
            if self._count + len(rows) <= self._maximum_rows:
                self._rows.append(rows)
                return
            room = self._maximum_rows - self._count
            self._reservoir = np.concatenate([*self._rows, rows[:room]])
            self._rows = []
            seen, rows = self._maximum_rows, rows[room:]
        else:
            seen = self._count
        # Algorithm R (Vitter, 1985): the k-th row takes a random place with probability rows kept / k.
        places = self._random.integers(0, np.arange(seen + 1, seen + 1 + len(rows)))
        kept = places < self._maximum_rows
        self._reservoir[places[kept]] = rows[kept]  # Of two rows for one place, the later stays.

    def result(self) -> ArrayStatistics:
        rows = np.concatenate(self._rows) if self._reservoir is None else self._reservoir
        quantiles = np.quantile(rows, (LOW_QUANTILE, HIGH_QUANTILE), axis=0)
        std = np.sqrt(self._squares / self._count)
        mean, deviation, minimum, maximum, low, high = (
            tuple(float(v) for v in values)
            for values in (self._mean, std, self._minimum, self._maximum, *quantiles)
        )
        exact = self._reservoir is None
        return ArrayStatistics(self._count, mean, deviation, minimum, maximum, low, high, exact)


def _array_from_json(value: Mapping[str, Any]) -> ArrayStatistics:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in value.items()}
    array = ArrayStatistics(**fields)
    sizes = {len(getattr(array, name)) for name in ("mean", "std", "minimum", "maximum", "low", "high")}
    if len(sizes) != 1:
        raise TypeError(f"lists of different lengths {sorted(sizes)}")
    return array
