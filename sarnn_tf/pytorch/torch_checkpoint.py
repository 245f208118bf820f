"""EIPL's checkpoint files, ``SARNN.pth`` and ``CLIP_SARNN.pth``, read and written without PyTorch.

Such a file holds ``epoch``, ``model_state_dict``, ``train_loss`` and ``test_loss``. What the names of the
state dictionary mean is the business of ``torch_layout``.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clip_tf.weights.stored_tensor import StoredTensor, WeightFileError
from clip_tf.weights.torch_file import open_torch_checkpoint
from clip_tf.weights.torch_writer import write_torch_file
from sarnn_tf.pytorch.torch_layout import COMPILED_PREFIX

STATE, EPOCH, TRAIN_LOSS, TEST_LOSS = "model_state_dict", "epoch", "train_loss", "test_loss"
TOWER = "pos_encoder.clip_model."
"""Before the names of the frozen CLIP, which the published CLIP-SARNN stores with every checkpoint."""
_BEFORE_TOWER = ("pos_encoder.mean", "pos_encoder.std")


@dataclasses.dataclass(frozen=True)
class TorchCheckpoint:
    """What a ``.pth`` file holds.

    Attributes:
      state: torch name -> array, in the file's order, without the frozen CLIP; names of a compiled model
        begin with ``COMPILED_PREFIX``.
      tower: the frozen CLIP by OpenCLIP's keys; empty where the file has none or it was not asked for.
      epoch: of the training, None where the file does not say.
      train_loss, test_loss: of that epoch, None where the file does not say.
    """

    state: dict[str, np.ndarray]
    tower: dict[str, np.ndarray]
    epoch: int | None = None
    train_loss: float | None = None
    test_loss: float | None = None


def read_pth(path: str | Path, *, tower: bool = False) -> TorchCheckpoint:
    """Reads a checkpoint of EIPL's, or a bare state dictionary.

    No code in the file is run. Values beside those of ``TorchCheckpoint`` (an optimiser's state) are passed
    over.

    Args:
      path: of the file.
      tower: read the frozen CLIP too (600 MB for a ViT-B/32); else it is passed over.

    Raises:
      FileNotFoundError: there is no such file.
      WeightFileError: the file is damaged, in the format before PyTorch 1.6, asks for code, or holds no
        state dictionary. (It is a ``ValueError``.)
    """
    path = Path(path)
    state: dict[str, np.ndarray] = {}
    found_tower: dict[str, np.ndarray] = {}
    with open_torch_checkpoint(path, STATE) as (tensors, rest):
        # A view with strides of zero may name any size.
        size = sum(math.prod(t.shape) * t.dtype.itemsize for t in tensors.values())
        if size > path.stat().st_size:
            raise WeightFileError(f"{path}: its tensors must fit in the file. Received: {size} bytes")
        for name, tensor in tensors.items():
            bare = name.removeprefix(COMPILED_PREFIX)
            if not bare.startswith(TOWER):
                state[name] = np.array(tensor.read())
            elif tower:
                found_tower[bare.removeprefix(TOWER)] = np.array(tensor.read())
        epoch = _number(path, rest, EPOCH, int)
        losses = [_number(path, rest, name, float) for name in (TRAIN_LOSS, TEST_LOSS)]
    if not state:
        raise WeightFileError(f"{path} holds nothing but a frozen CLIP. Received: {list(tensors)[:4]}")
    return TorchCheckpoint(state, found_tower, epoch, *losses)


def write_pth(
    path: str | Path,
    state: Mapping[str, np.ndarray],
    *,
    epoch: int = 0,
    train_loss: float = math.nan,
    test_loss: float = math.nan,
    tower: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a checkpoint that EIPL's code and ``torch.load(weights_only=True)`` read.

    Args:
      path: of the file.
      state: torch name -> array, as ``torch_layout.to_torch`` gives it.
      epoch, train_loss, test_loss: of the training; not a number where they are not known.
      tower: the frozen CLIP by OpenCLIP's keys, which the published CLIP-SARNN needs; None for none.

    Raises:
      ValueError: nothing to write, or an array of a type that PyTorch does not have.
    """
    if not state:
        raise ValueError("A checkpoint must have variables. Received: none")
    compiled = all(name.startswith(COMPILED_PREFIX) for name in state)
    prefix = COMPILED_PREFIX if compiled else ""
    ordered: collections.OrderedDict[str, np.ndarray] = collections.OrderedDict()
    first = [name for name in state if name.removeprefix(prefix) in _BEFORE_TOWER]
    # The tower stands where the published class defines it: after its pixel statistics.
    for name in first if tower else ():
        ordered[name] = np.asarray(state[name])
    for name, value in (tower or {}).items():
        ordered[f"{prefix}{TOWER}{name}"] = np.asarray(value)
    for name, value in state.items():
        ordered.setdefault(name, np.asarray(value))
    content: dict[str, Any] = {
        EPOCH: int(epoch),
        STATE: ordered,
        TRAIN_LOSS: float(train_loss),
        TEST_LOSS: float(test_loss),
    }
    write_torch_file(path, content)


def _number(path: Path, rest: Mapping[str, Any], name: str, kind: type) -> Any:
    value = rest.get(name)
    if isinstance(value, StoredTensor) and math.prod(value.shape) == 1:
        value = value.read().item()
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise WeightFileError(f"{path}: {name} must be a number. Received: {type(value).__name__}")
    return kind(value)
