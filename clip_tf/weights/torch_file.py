"""Reads PyTorch's ``.pt`` and ``.bin`` files: a zip archive of a pickle and raw numbers."""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clip_tf.weights.safe_unpickler import ScriptObject, StorageRef, TensorRef, safe_unpickle
from clip_tf.weights.stored_tensor import StoredTensor, Tensors, WeightFileError

# The pickle of ViT-H with its optimiser is under 1 MB.
_MAX_PICKLE = 64 << 20
_MAX_DEPTH = 32
STATE_DICT = "state_dict"


@contextlib.contextmanager
def open_torch_file(path: str | Path) -> Iterator[Tensors]:
    """The tensors of a state dictionary, of a training checkpoint that holds one, or of a TorchScript module.

    Yields:
      name -> tensor; they can be read until the context ends.

    Raises:
      WeightFileError: the file is damaged, in the format before PyTorch 1.6, or its pickle asks for more
        than tensors need.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise WeightFileError(
            f"{path} is no whole zip archive, as PyTorch writes since 1.6: {error}"
        ) from error
    with archive:
        reader = _Reader(archive, Path(path))
        yield {name: reader.tensor(ref) for name, ref in _state_dict(reader.pickled(), Path(path)).items()}


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


def _state_dict(content: Any, path: Path) -> dict[str, TensorRef]:
    if isinstance(content, ScriptObject):
        found: dict[str, TensorRef] = {}
        _flatten(content, "", found, 0)
        return found
    if isinstance(content, Mapping) and isinstance(content.get(STATE_DICT), Mapping):
        content = content[STATE_DICT]
    if not isinstance(content, Mapping) or not content:
        raise WeightFileError(f"{path} holds no state dictionary. Received: {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, TensorRef):
            raise WeightFileError(
                f"{path}: a state dictionary maps names to tensors. "
                f"Received: {str(name)[:80]!r} -> {type(value).__name__}"
            )
    return dict(content)


def _flatten(module: ScriptObject, prefix: str, found: dict[str, TensorRef], depth: int) -> None:
    if depth > _MAX_DEPTH or not isinstance(module.state, Mapping):
        raise WeightFileError(
            f"A TorchScript module is nested too deeply or empty. Received: {prefix[:80]!r}"
        )
    for name, value in module.state.items():
        if isinstance(value, TensorRef):
            found[f"{prefix}{name}"] = value
        elif isinstance(value, ScriptObject):
            _flatten(value, f"{prefix}{name}.", found, depth + 1)
