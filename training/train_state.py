"""Where a run stands: the loop's own part of a checkpoint, ``train_state.json``."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import checkpoint_folder, files

_FORMAT = 1

Row = dict[str, float]
"""What is known at the end of an epoch: ``epoch`` (from 1), ``step``, ``train/…``, ``validation/…``."""


@dataclasses.dataclass(frozen=True)
class Best:
    """The best validation so far.

    Attributes:
      metric: its name, the trainable's ``best_metric``.
      value: smaller is better.
      epoch: counted from 1.
      step: optimiser steps done; names the checkpoint folder.
    """

    metric: str
    value: float
    epoch: int
    step: int


@dataclasses.dataclass
class TrainState:
    """Where a run stands.

    Attributes:
      seed: of the run.
      fingerprint: what the batches depend on (``core.trainable.Fingerprinted``), {} where it is not told.
      step: optimiser steps done.
      epoch: the epoch in progress, counted from 0.
      batch: batches of it that are done.
      sums: train scalar -> (weighted sum, sum of weights) over the done batches of the epoch.
      best: None before the first validation.
      validations_since_best: how many validations in a row did not improve.
      history: one row for each finished epoch, and for an epoch that ``max_steps`` cut short.
    """

    seed: int
    fingerprint: Mapping[str, Any]
    step: int
    epoch: int = 0
    batch: int = 0
    sums: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    best: Best | None = None
    validations_since_best: int = 0
    history: list[Row] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        # As JSON gives it back, so that a fingerprint with tuples equals itself after a resume.
        self.fingerprint = json.loads(json.dumps(dict(self.fingerprint), allow_nan=False))

    def to_json(self) -> dict[str, Any]:
        # Not asdict: it would copy every row of a long history.
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        best = None if self.best is None else dataclasses.asdict(self.best)
        return {"format": _FORMAT, **fields, "best": best}


def load(folder: Path) -> TrainState:
    """Reads the train state of a checkpoint folder.

    Raises:
      FileNotFoundError: the folder has none: it cannot be resumed, only loaded as pretrained.
      ValueError: it is not one of this format.
    """
    path = folder / checkpoint_folder.TRAIN_STATE
    if not path.exists():
        raise FileNotFoundError(
            f"Cannot resume: the checkpoint has no {path.name}. Its weights can still be loaded as a "
            f"pretrained checkpoint. Received: {folder}"
        )
    value = files.read_json(path)
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise ValueError(f"{path} must be a train state of format {_FORMAT}. Received: format {found!r}")
    fields = {k: v for k, v in value.items() if k != "format"}
    try:
        fields["sums"] = {name: (total, weight) for name, (total, weight) in fields["sums"].items()}
        fields["best"] = None if fields["best"] is None else Best(**fields["best"])
        return TrainState(**fields)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not a complete train state: {error!r}") from error
