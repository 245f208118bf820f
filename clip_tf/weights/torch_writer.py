"""Writes what ``torch.save`` writes, without PyTorch: a zip archive of a pickle and raw numbers.

The pickle is written opcode by opcode: Python's own pickler would look for the classes that it names.
``torch.load`` reads the file with ``weights_only=True``, the reader of ``torch_file`` too.
"""

import collections
import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clip_tf.weights.safe_unpickler import STORAGE_TYPES
from core.files import atomic_path

_STORAGES = {dtype: name for name, dtype in STORAGE_TYPES.items()}
_ROOT = "archive/"
# Of the archive's layout, since PyTorch 1.6.
_VERSION = b"3\n"
_ALIGNMENT = 64
_PADDING_TAG = 0x4246
_ZIP_HEADER = 30
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def write_torch_file(path: str | Path, content: Mapping[str, Any]) -> None:
    """Writes a file, atomically; the same content gives the same bytes.

    Args:
      path: of the file.
      content: names to numpy arrays, numbers, texts, None, and mappings of these. An ``OrderedDict`` stays
        one, other mappings become ``dict``.

    Raises:
      ValueError: a value is of another kind, or an array of a type that PyTorch does not have.
    """
    pickler = _Pickler()
    program = pickler.program(content)
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        _add(archive, file, "data.pkl", program)
        _add(archive, file, "byteorder", b"little")
        for key, array in enumerate(pickler.storages):
            _add(archive, file, f"data/{key}", array.reshape(-1).view(np.uint8).data)
        _add(archive, file, "version", _VERSION)


def _add(archive: zipfile.ZipFile, file: BinaryIO, name: str, content: bytes | memoryview) -> None:
    """Adds a member whose content begins at a multiple of 64 bytes, so that it can be mapped."""
    info = zipfile.ZipInfo(_ROOT + name, _LONG_AGO)
    begin = file.tell() + _ZIP_HEADER + len(info.filename)
    filling = -(begin + 4) % _ALIGNMENT
    info.extra = struct.pack("<HH", _PADDING_TAG, filling) + bytes(filling)
    archive.writestr(info, content)


class _Pickler:
    """Collects the arrays on the way."""

    def __init__(self) -> None:
        self.storages: list[np.ndarray] = []

    def program(self, content: Mapping[str, Any]) -> bytes:
        return pickle.PROTO + b"\x02" + self._value(content) + pickle.STOP

    def _value(self, value: Any) -> bytes:
        if value is None:
            return pickle.NONE
        if isinstance(value, bool):
            return pickle.NEWTRUE if value else pickle.NEWFALSE
        if isinstance(value, int):
            return _integer(value)
        if isinstance(value, float):
            return pickle.BINFLOAT + struct.pack(">d", value)
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, np.ndarray):
            return self._tensor(value)
        if isinstance(value, Mapping):
            ordered = isinstance(value, collections.OrderedDict)
            items = b"".join(self._value(k) + self._value(v) for k, v in value.items())
            return (_ORDERED_DICT if ordered else pickle.EMPTY_DICT) + pickle.MARK + items + pickle.SETITEMS
        raise ValueError(
            f"Values must be arrays, numbers, texts, None or mappings. Received: {type(value).__name__}"
        )

    def _tensor(self, array: np.ndarray) -> bytes:
        if array.dtype not in _STORAGES:
            raise ValueError(
                f"Arrays must be one of {sorted(map(str, _STORAGES))}, little-endian. Received: {array.dtype}"
            )
        key = str(len(self.storages))
        self.storages.append(np.ascontiguousarray(array))
        storage = _tuple(
            _text("storage"),
            _global("torch", _STORAGES[array.dtype]),
            _text(key),
            _text("cpu"),
            _integer(array.size),
        )
        strides = [math.prod(array.shape[i + 1 :]) for i in range(array.ndim)]
        arguments = _tuple(
            storage + pickle.BINPERSID,
            _integer(0),
            _tuple(*map(_integer, array.shape)),
            _tuple(*map(_integer, strides)),
            pickle.NEWFALSE,
            _ORDERED_DICT,
        )
        return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(value: str) -> bytes:
    encoded = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _integer(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return pickle.BININT + struct.pack("<i", value)
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + struct.pack("<B", len(encoded)) + encoded


def _tuple(*values: bytes) -> bytes:
    return pickle.MARK + b"".join(values) + pickle.TUPLE


_ORDERED_DICT = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
