"""Unpickles what tensors need and nothing else.

A pickle is a program: it may call anything that it can name. Here it can name a few functions of this module
that make an ordered dictionary, describe a tensor or a number of numpy's, and empty classes; all else is
refused before it is called. It may change what it made only by giving a module its attributes. Python's own
loop reads it, and not the one in C, which reserves as much memory as a pickle claims to have memos.
"""

import collections
import dataclasses
import io
import pickle
import reprlib
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from clip_tf.weights.stored_tensor import WeightFileError

STORAGE_TYPES = {
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
"""PyTorch's names of storages."""
_NUMPY_TYPES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


@dataclasses.dataclass(frozen=True, slots=True)
class _StorageType:
    dtype: np.dtype


@dataclasses.dataclass(frozen=True, slots=True)
class StorageRef:
    """A run of numbers in the archive: the member ``data/{key}``, of ``count`` numbers."""

    key: str
    dtype: np.dtype
    count: int


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
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
            f"A tensor's storage, size or stride is of a wrong type. Received: {reprlib.repr((size, stride))}"
        )
    numbers, shape = (offset, *size, *stride), reprlib.repr((size, stride))
    if len(size) != len(stride) or len(size) > 8 or any(type(n) is not int or n < 0 for n in numbers):
        raise WeightFileError(f"A tensor's size or stride is no shape. Received: {shape}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.count:
        raise WeightFileError(f"A tensor reaches beyond its storage of {storage.count}. Received: {shape}")
    return TensorRef(storage, offset, size, stride)


def _ordered_dict() -> collections.OrderedDict[Any, Any]:
    """An empty one; what is in it comes after."""
    return collections.OrderedDict()


def _rebuild_parameter(data: Any, *rest: Any) -> Any:
    return data


class _NumpyType:
    """What numpy calls ``dtype``: of a plain number."""

    def __init__(self, code: Any, *rest: Any) -> None:
        if code not in _NUMPY_TYPES:
            raise WeightFileError(f"A number must be of a plain type. Received: {reprlib.repr(code)}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|"):
            raise WeightFileError(f"A number's type must be little-endian. Received: {reprlib.repr(state)}")


def _numpy_scalar(kind: Any, content: Any) -> Any:
    """What numpy calls ``multiarray.scalar``: a loss that was averaged with numpy, as a Python number."""
    if not isinstance(kind, _NumpyType) or not isinstance(content, bytes):
        raise WeightFileError("A number's type or bytes are of a wrong type; refused.")
    if len(content) != kind.dtype.itemsize:
        raise WeightFileError(f"A {kind.dtype} has {kind.dtype.itemsize} bytes. Received: {len(content)}")
    return np.frombuffer(content, kind.dtype)[0].item()


def _encode(text: Any, encoding: Any) -> bytes:
    """What Python 2's protocol calls ``_codecs.encode``: bytes written as Latin-1."""
    if not isinstance(text, str) or encoding != "latin1":
        raise WeightFileError(f"Bytes are written as latin1. Received: {reprlib.repr(encoding)}")
    return text.encode("latin1")


_ALLOWED = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _NumpyType,
    ("numpy.core.multiarray", "scalar"): _numpy_scalar,
    ("numpy._core.multiarray", "scalar"): _numpy_scalar,
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): _StorageType(dtype) for name, dtype in STORAGE_TYPES.items()},
}


_OPCODES = (
    *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP),
    *(pickle.MEMOIZE, pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2),
    *(pickle.LONG1, pickle.BINFLOAT, pickle.BINUNICODE, pickle.SHORT_BINUNICODE),
    *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1),
    *(pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT),
    *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BINPERSID),
)
_KEYS = (str, int, float, bool, bytes, type(None))


class _Unpickler(pickle._Unpickler):
    """Knows the opcodes that PyTorch writes."""

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def refuse(self) -> None:
        raise WeightFileError("The pickle has an instruction that PyTorch does not write; refused.")

    def set_items(self, pairs: list[Any]) -> None:
        """Keys are plain: a tuple may take for ever to hash."""
        target = self.stack[-1]
        if type(target) not in (dict, collections.OrderedDict):
            raise WeightFileError(f"A {type(target).__name__} takes no items; refused.")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in _KEYS:
                what = type(key).__name__
                raise WeightFileError(f"Keys must be text or numbers; refused. Received: {what}")
            target[key] = value

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def load_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if kind is not ScriptObject or arguments != ():
            raise WeightFileError("The pickle makes an object that no tensor needs; refused.")
        self.append(ScriptObject())

    def load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if isinstance(made, (ScriptObject, _NumpyType)):
            made.__setstate__(state)
        elif type(made) is not collections.OrderedDict:  # A state dictionary's notes on itself are not kept.
            raise WeightFileError(f"The pickle changes a {type(made).__name__}; refused.")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module.partition(".")[0] == "__torch__":
            return ScriptObject
        raise WeightFileError(f"The pickle asks for what no tensor needs; refused. Received: {module}.{name}")

    def persistent_load(self, pid: Any) -> StorageRef:
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise WeightFileError(
                f"The pickle refers to something that is no storage. Received: {reprlib.repr(pid)}"
            )
        _, kind, key, _, count = pid
        if (
            not isinstance(kind, _StorageType)
            or not isinstance(key, str)
            or type(count) is not int
            or count < 0
        ):
            raise WeightFileError(f"The pickle refers to a storage wrongly. Received: {reprlib.repr(pid)}")
        return StorageRef(key, kind.dtype, count)

    dispatch = {
        **dict.fromkeys(range(256), refuse),  # type: ignore[arg-type]
        **{code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES},
        pickle.SETITEM[0]: load_setitem,  # type: ignore[dict-item]
        pickle.SETITEMS[0]: load_setitems,  # type: ignore[dict-item]
        pickle.NEWOBJ[0]: load_newobj,  # type: ignore[dict-item]
        pickle.BUILD[0]: load_build,  # type: ignore[dict-item]
    }


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
