"""What the command line of ``train.py`` says, for whichever model is trained."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """The flags that concern a model and its data; the loop's own are not among them.

    Attributes:
      checkpoint_dir: of the run.
      dataset_file: a single file of examples (the food NPZ), or None.
      data_dir: a folder of RLDS TFRecords, or None.
      split_file: which examples are held out; made where it is absent.
      batch_size: examples or windows.
      image_size: to which a single file's images are brought, in pixels.
      loss_type: e.g. ``smooth_l1``.
      pretrained_checkpoint: weights to begin with, or None.
      frozen: parts of the model that are not trained.
      seed: of everything drawn.
      model: which one, as the command line names it, where one experiment makes several.
      resume_checkpoint: the run or checkpoint that is continued, or None.
      arguments: every flag by name, as JSON values, for a model that keeps them with the run.
    """

    checkpoint_dir: Path
    dataset_file: Path | None
    data_dir: Path | None
    split_file: Path
    batch_size: int
    image_size: int
    loss_type: str
    pretrained_checkpoint: Path | None
    frozen: tuple[str, ...]
    seed: int
    model: str = ""
    resume_checkpoint: Path | None = None
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
