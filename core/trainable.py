"""What a model gives the training loop: the small interface between ``training`` and the models."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What one validation pass found.

    Attributes:
      scalars: name -> finite number, e.g. ``centroid_mae``; names with a slash group in TensorBoard
        and in the curves (``token_accuracy/world_vector_0``).
      histograms: name -> values of any shape.
      images: name -> uint8 [n, h, w, 3] RGB, e.g. frames with predicted and true parameters drawn in.
    """

    scalars: Mapping[str, float]
    histograms: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    images: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


class Trainable(Protocol):
    """A model with its data and optimiser, as the loop sees it.

    All randomness is derived from (seed, epoch, step): a resumed run repeats an uninterrupted one.
    """

    @property
    def best_metric(self) -> str:
        """The name among ``Evaluation.scalars`` that picks the best checkpoint; smaller is better."""
        ...

    @property
    def step(self) -> int:
        """Optimiser steps done so far. The loop asks it only before a save: it may read from a device."""
        ...

    def batches(self, epoch: int, skip: int = 0) -> Iterable[Any]:
        """The batches of one pass over the training data, without the first ``skip``.

        The same (epoch, skip) gives the same batches; another epoch another order and augmentation.
        None are left where ``skip`` is the number of batches.
        """
        ...

    def num_batches(self) -> int | None:
        """Batches in one pass, None where it is not known before the first pass."""
        ...

    def train_step(self, batch: Any) -> Mapping[str, Any]:
        """One optimiser step.

        Returns:
          Finite scalars by name (Python numbers or scalar tensors), ``loss`` among them; the names
          ``epoch`` and ``step`` are the loop's. ``weight``, where it is given, is how much the batch
          counts in the means of its epoch (its examples, or its steps that are not padding);
          without it every batch counts 1.
        """
        ...

    def describe(self, batch: Any) -> str:
        """Where a batch came from (indices, episode names), for error messages."""
        ...

    def evaluate(self, epoch: int) -> Evaluation:
        """One pass over the validation data. It changes nothing that ``save`` writes.

        The loop may abort it with a KeyboardInterrupt when the run is told to stop.

        Raises:
          ValueError: there is no validation data, or a result is not finite.
        """
        ...

    def save(self, folder: Path) -> None:
        """Writes weights, optimiser slots and counters, ``spec.json`` and, where there are any,
        ``dataset_statistics.json`` into an existing empty folder. The loop adds ``train_state.json``,
        ``versions.json`` and, unless it is there already, ``config.gin``.

        Raises:
          ValueError: a weight is not finite. The loop then publishes nothing and stops: a finite loss
            does not show that the update after it was finite.
        """
        ...

    def restore(self, folder: Path) -> None:
        """Reads what ``save`` wrote: weights, optimiser slots, counters. ValueError where it does not fit."""
        ...


@runtime_checkable
class Fingerprinted(Protocol):
    """What a Trainable may offer beside, so that a resume on other data or batches is refused."""

    def fingerprint(self) -> Mapping[str, Any]:
        """What the order and content of the batches depend on, as JSON values by name.

        E.g. ``{"data": "sha256:…", "batch_size": 16}``. A resumed run must have the same.
        """
        ...


@runtime_checkable
class KeepsRunFiles(Protocol):
    """What a Trainable may offer beside: files of the whole run, which checkpoints do not repeat."""

    def write_run_files(self, root: Path) -> None:
        """Writes them into the run's folder.

        Called once, when the folder is locked and it is certain that the run may begin or go on there, before
        its first step.
        """
        ...
