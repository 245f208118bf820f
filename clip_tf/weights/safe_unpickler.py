"""Unpickles what tensors need and nothing else.

A pickle is a program: it may call anything that it can name. Here it can name an ordered dictionary, two
functions of this module that describe a tensor, and empty classes; all else is refused before it is called.
"""

import collections
import dataclasses
import io
import pickle
from typing import Any

import ml_dtypes
import numpy as np

from clip_tf.weights.stored_tensor import WeightFileError

_DTYPES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}


@dataclasses.dataclass(frozen=True)
class _StorageType:
    dtype: np.dtype


@dataclasses.dataclass(frozen=True)
class StorageRef:
    """A run of numbers in the archive: the member ``data/{key}``, of ``count`` numbers."""

    key: str
    dtype: np.dtype
    count: int


@dataclasses.dataclass(frozen=True, eq=False)
class TensorRef:
    """A view of a storage: ``offset``, ``size`` and ``stride`` count numbers."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class ScriptObject:
    """A module of a TorchScript archive, as OpenAI published its models: its attributes, no code."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _rebuild_tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = None,
    hooks: Any = None,
    *rest: Any,
) -> TensorRef:
    """What torch calls ``_rebuild_tensor_v2``."""
    if not isinstance(storage, StorageRef) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise WeightFileError(
            f"A tensor's storage, size or stride is of a wrong type. Received: {size!r}, {stride!r}"
        )
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > 8 or any(type(n) is not int or n < 0 for n in numbers):
        raise WeightFileError(f"A tensor's size or stride is no shape. Received: {size!r}, {stride!r}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.count:
        raise WeightFileError(
            f"A tensor reaches beyond its storage of {storage.count}. Received: {size}, {stride}"
        )
    return TensorRef(storage, offset, size, stride)


def _rebuild_parameter(data: Any, *rest: Any) -> Any:
    return data


_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): _StorageType(dtype) for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module.partition(".")[0] == "__torch__":
            return ScriptObject
        raise WeightFileError(f"The pickle asks for what no tensor needs; refused. Received: {module}.{name}")

    def persistent_load(self, pid: Any) -> StorageRef:
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise WeightFileError(
                f"The pickle refers to something that is no storage. Received: {str(pid)[:80]}"
            )
        _, kind, key, _, count = pid
        if (
            not isinstance(kind, _StorageType)
            or not isinstance(key, str)
            or type(count) is not int
            or count < 0
        ):
            raise WeightFileError(f"The pickle refers to a storage wrongly. Received: {str(pid)[:80]}")
        return StorageRef(key, kind.dtype, count)


def safe_unpickle(content: bytes) -> Any:
    """Unpickles with the allow-list of this module.

    Raises:
      WeightFileError: the pickle is damaged, or asks for anything else.
    """
    try:
        return _Unpickler(io.BytesIO(content)).load()
    except WeightFileError:
        raise
    # A damaged pickle may raise nearly anything: KeyError, IndexError, MemoryError, struct.error, ….
    except Exception as error:
        raise WeightFileError(f"The pickle is damaged: {type(error).__name__}: {error}") from error
