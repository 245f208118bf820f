"""What every source of training data gives: samples of image, instruction, supervision and label.

A sample is

::

    image        string [], an encoded image file, or uint8 [H, W, 3] RGB
    instruction  string [], with or without the prompt
    supervision  string [], the wording of the language action
    label        int64 [], its class; equal for wordings of one low-level action
    id           string [], names the sample in messages and draws
"""

import re
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from episodes import splits

TRAIN, VALIDATION = splits.TRAIN, splits.VALIDATION
PARTS = (TRAIN, VALIDATION)

IMAGE, INSTRUCTION, SUPERVISION, LABEL, ID = "image", "instruction", "supervision", "label", "id"


class SampleSource(Protocol):
    """A data set of samples, part of which is held out."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of what the samples are made of."""
        ...

    def counts(self, part: str) -> np.ndarray:
        """Samples of each class in a part (``train`` or ``val``), int64 [classes]; where the number differs
        between passes, about so many."""
        ...

    @property
    def is_fixed(self) -> bool:
        """Whether every pass has as many samples as ``counts`` says."""
        ...

    def samples(self, part: str, *, seed: int | None, epoch: int) -> tf.data.Dataset:
        """The samples of a part, the same for the same arguments.

        Args:
          part: ``train`` or ``val``.
          seed: of the order and of wordings that are drawn; None keeps the order and takes the phrases as
            they are, for validation.
          epoch: another epoch is another draw.
        """
        ...


_DIGITS = re.compile(r"-?[0-9]{1,9}")


def check_part(part: str) -> None:
    """Raises:
    ValueError: no such part.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {PARTS}. Received: {part!r}")


def check_fraction(value: float) -> None:
    """Raises:
    ValueError: no share of a whole.
    """
    if not 0 <= value <= 1:  # NaN is neither.
        raise ValueError(f"validation_fraction must be in [0, 1]. Received: {value!r}")


def check_label(value: Any, num_classes: int, what: str) -> int:
    """A label as an integer.

    Raises:
      ValueError: it is none, or outside the vocabulary.
    """
    is_number = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_number and not (isinstance(value, str) and _DIGITS.fullmatch(value)):
        raise ValueError(f"{what}: the label must be an integer. Received: {value!r:.80}")
    label = int(value)
    if not 0 <= label < num_classes:
        raise ValueError(
            f"{what}: the label must be in [0, {num_classes}), the vocabulary's classes. Received: {label}"
        )
    return label


def spec() -> Mapping[str, tf.TensorSpec]:
    """Of a sample whose image is encoded."""
    types = {IMAGE: tf.string, INSTRUCTION: tf.string, SUPERVISION: tf.string, LABEL: tf.int64, ID: tf.string}
    return {name: tf.TensorSpec([], dtype) for name, dtype in types.items()}
