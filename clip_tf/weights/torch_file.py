"""Reads PyTorch's ``.pt``, ``.pth`` and ``.bin`` files: a zip archive of a pickle and raw numbers."""

import contextlib
import itertools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clip_tf.weights.safe_unpickler import ScriptObject, StorageRef, TensorRef, safe_unpickle
from clip_tf.weights.stored_tensor import StoredTensor, Tensors, WeightFileError

# The pickle of ViT-H with its optimiser is under 1 MB, and a TorchScript module of it has about 700 in it, of
# some ten attributes each.
_MAX_PICKLE = 8 << 20
_MAX_DEPTH, _MAX_ATTRIBUTES = 32, 200_000
STATE_DICT = "state_dict"
# The pickled magic number with which that format begins.
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"


@contextlib.contextmanager
def open_torch_file(path: str | Path) -> Iterator[Tensors]:
    """The tensors of a state dictionary, of a training checkpoint that holds one, or of a TorchScript module.

    Yields:
      name -> tensor; they can be read until the context ends.

    Raises:
      WeightFileError: the file is damaged, in the format before PyTorch 1.6, or its pickle asks for more
        than tensors need.
    """
    with open_torch_checkpoint(path) as (tensors, _):
        yield tensors


@contextlib.contextmanager
def open_torch_checkpoint(
    path: str | Path, key: str = STATE_DICT
) -> Iterator[tuple[Tensors, Mapping[str, Any]]]:
    """A state dictionary, and what a training checkpoint holds beside it.

    Args:
      path: of the file.
      key: under which a training checkpoint holds its state dictionary.

    Yields:
      name -> tensor, in the file's order, which can be read until the context ends; and the checkpoint's
      other values, tensors likewise, empty for a bare state dictionary or a TorchScript module.

    Raises:
      WeightFileError: as for ``open_torch_file``.
    """
    path = Path(path)
    with path.open("rb") as file:
        if file.read(len(_LEGACY)) == _LEGACY:
            raise WeightFileError(
                f"{path} is in the format before PyTorch 1.6; load it and save it again with a newer PyTorch."
            )
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise WeightFileError(
            f"{path} is no whole zip archive, as PyTorch writes since 1.6: {error}"
        ) from error
    with archive:
        reader = _Reader(archive, path)
        state, rest = _state_dict(reader.pickled(), path, key)
        beside = {k: reader.tensor(v) if isinstance(v, TensorRef) else v for k, v in rest.items()}
        yield {name: reader.tensor(ref) for name, ref in state.items()}, beside


class _Reader:
    """The members of an archive."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self._archive, self._path = archive, path
        pickles = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise WeightFileError(f"{path} must hold one data.pkl. Received: {archive.namelist()[:5]}")
        self._root = pickles[0].removesuffix("data.pkl")
        order = f"{self._root}byteorder"
        if order in archive.namelist() and self._member(order).strip() != b"little":
            raise WeightFileError(f"{path} must be little-endian. Received: {self._member(order)!r}")

    def pickled(self) -> Any:
        """The unpickled content."""
        return safe_unpickle(self._member(f"{self._root}data.pkl", _MAX_PICKLE))

    def tensor(self, ref: TensorRef) -> StoredTensor:
        """A tensor that reads its storage when asked."""
        self._check(ref.storage)
        return StoredTensor(ref.size, ref.storage.dtype, lambda: self._read(ref))

    def _read(self, ref: TensorRef) -> np.ndarray:
        storage = ref.storage
        numbers = np.frombuffer(self._member(self._name(storage)), storage.dtype, storage.count)[ref.offset :]
        steps = [s * storage.dtype.itemsize for s in ref.stride]
        # The reference was checked to stay within the storage.
        return np.lib.stride_tricks.as_strided(numbers, ref.size, steps, writeable=False)

    def _name(self, storage: StorageRef) -> str:
        return f"{self._root}data/{storage.key}"

    def _check(self, storage: StorageRef) -> None:
        name = self._name(storage)
        try:
            size = self._archive.getinfo(name).file_size
        except KeyError:
            raise WeightFileError(f"{self._path} lacks the numbers of a tensor: {name}") from None
        if size < storage.count * storage.dtype.itemsize:
            raise WeightFileError(
                f"{self._path}: {name} must hold {storage.count} numbers. Received: {size} bytes"
            )

    def _member(self, name: str, limit: int | None = None) -> bytes:
        info = self._archive.getinfo(name)
        # PyTorch never compresses; what is compressed may be far larger than the file.
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise WeightFileError(
                f"{self._path}: {name} must be stored as it is. Received: compressed or encrypted"
            )
        if limit is not None and info.file_size > limit:
            raise WeightFileError(
                f"{self._path}: {name} must have at most {limit} bytes. Received: {info.file_size}"
            )
        try:
            return self._archive.read(info)
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
            raise WeightFileError(f"{self._path}: {name} is damaged: {error}") from error


def _state_dict(content: Any, path: Path, key: str) -> tuple[dict[str, TensorRef], dict[str, Any]]:
    if isinstance(content, ScriptObject):
        found: dict[str, TensorRef] = {}
        _flatten(content, "", found, 0, itertools.count())
        return found, {}
    rest: dict[str, Any] = {}
    if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
        rest = {name: value for name, value in content.items() if name != key}
        content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise WeightFileError(f"{path} holds no state dictionary. Received: {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, TensorRef):
            raise WeightFileError(
                f"{path}: a state dictionary maps names to tensors. "
                f"Received: {str(name)[:80]!r} -> {type(value).__name__}"
            )
    return dict(content), rest


def _flatten(
    module: ScriptObject, prefix: str, found: dict[str, TensorRef], depth: int, attributes: Iterator[int]
) -> None:
    if depth > _MAX_DEPTH or not isinstance(module.state, Mapping):
        raise WeightFileError(
            f"A TorchScript module is nested too deeply or empty. Received: {prefix[:80]!r}"
        )
    for name, value in module.state.items():
        # A module may be reached in many ways, so that few of them make a tree of any size.
        if next(attributes) >= _MAX_ATTRIBUTES:
            raise WeightFileError(
                f"A TorchScript module must have at most {_MAX_ATTRIBUTES} attributes. Received: more"
            )
        if isinstance(value, TensorRef):
            found[f"{prefix}{name}"] = value
        elif isinstance(value, ScriptObject):
            _flatten(value, f"{prefix}{name}.", found, depth + 1, attributes)
