"""Reads and writes safetensors, one tensor at a time."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors

from clip_tf.weights.stored_tensor import StoredTensor, Tensors, WeightFileError
from core.files import atomic_path
from core.load_report import Shape

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


@contextlib.contextmanager
def open_safetensors(path: str | Path) -> Iterator[Tensors]:
    """The tensors of a file.

    Yields:
      name -> tensor; they can be read until the context ends.

    Raises:
      WeightFileError: the file is damaged or holds a type that is not read here.
    """
    with _open(path) as file:
        yield {name: _stored(file, name, path) for name in file.keys()}  # noqa: SIM118  (no mapping)


def read_metadata(path: str | Path) -> Mapping[str, str]:
    """The texts that were stored beside the tensors.

    Raises:
      WeightFileError: the file is damaged.
    """
    with _open(path) as file:
        return dict(file.metadata() or {})


@contextlib.contextmanager
def _open(path: str | Path) -> Iterator[safetensors.safe_open]:
    try:
        file = safetensors.safe_open(str(path), framework="numpy")
    except safetensors.SafetensorError as error:
        raise WeightFileError(f"{path} is no whole safetensors file: {error}") from error
    with file:
        yield file


def _stored(file: safetensors.safe_open, name: str, path: str | Path) -> StoredTensor:
    part = file.get_slice(name)
    if part.get_dtype() not in _DTYPES:
        raise WeightFileError(
            f"{path}: {name} must be one of {sorted(_DTYPES)}. Received: {part.get_dtype()}"
        )
    return StoredTensor(tuple(part.get_shape()), _DTYPES[part.get_dtype()], lambda: file.get_tensor(name))


@dataclasses.dataclass(frozen=True)
class Entry:
    """A tensor to write; ``read`` is asked for its values when their turn comes."""

    name: str
    shape: Shape
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def write_safetensors(path: str | Path, entries: Sequence[Entry], metadata: Mapping[str, str]) -> None:
    """Writes a file, atomically, with one tensor in memory at a time (the library's writer wants all).

    Args:
      path: of the file.
      entries: in the order of the file.
      metadata: texts for its header.

    Raises:
      ValueError: values are not of the shape or type that their entry names.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for entry in entries:
        begin, end = end, end + math.prod(entry.shape) * entry.dtype.itemsize
        header[entry.name] = {
            "dtype": _CODES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            values = entry.read()
            if values.shape != entry.shape or values.dtype != entry.dtype:
                raise ValueError(
                    f"{entry.name} must be {entry.dtype} {entry.shape}. "
                    f"Received: {values.dtype} {values.shape}"
                )
            file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
