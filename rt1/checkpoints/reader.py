"""Opening TensorFlow checkpoint files, with a clear message for everything that goes wrong in practice."""

import dataclasses
import glob
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from core import checkpoint_folder

_LFS = b"version https://git-lfs"
_SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})$")
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class CheckpointFile:
    """An open checkpoint.

    Attributes:
      prefix: the path without ``.index``.
      shapes: key (without the ``VARIABLE_VALUE`` suffix) -> shape, strings and the object graph left out.
    """

    prefix: Path
    shapes: dict[str, tuple[int, ...]]
    _reader: Any
    _keys: dict[str, str]

    def read(self, name: str) -> np.ndarray:
        """The value of a key of ``shapes``.

        Raises:
          CheckpointError: the data is damaged or cut off.
        """
        return self._read(self._keys[name])

    def verify(self) -> None:
        """Reads every value, also those that are no variable of a network, and forgets it.

        A truncated or damaged data file shows only when its values are read; each has a checksum.

        Raises:
          CheckpointError: the data is damaged or cut off.
        """
        for key in sorted(self._reader.get_variable_to_shape_map()):
            self._read(key)

    def _read(self, key: str) -> np.ndarray:
        try:
            return self._reader.get_tensor(key)
        except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
            raise CheckpointError(
                f"{self.prefix}: the value of {key.removesuffix(_VALUE)!r} cannot be read; the data file "
                f"is truncated or damaged. Copy it again. ({_first_line(error)})"
            ) from error


def find_prefix(path: str | Path) -> Path:
    """The checkpoint prefix that ``path`` means.

    Args:
      path: a prefix (``…/ckpt-424760``), its ``.index`` or ``.data-…`` file, a folder with one
        checkpoint or a ``checkpoint`` file, an exported SavedModel, or one of our checkpoint folders.

    Raises:
      CheckpointError: there is none, or there are several to choose from.
    """
    path = Path(path)
    if path.is_dir():
        return _prefix_in_folder(path)
    if path.suffix == ".index" and path.exists():
        return path.with_suffix("")
    if _SHARD.search(path.name):
        return find_prefix(path.with_name(_SHARD.sub("", path.name)))
    if path.with_name(path.name + ".index").exists():
        return path
    shards = _shards(path)
    if shards:
        raise CheckpointError(
            f"{path}.index is missing beside {shards[0].name}: a checkpoint needs the index and all shards."
        )
    if path.is_file():
        raise CheckpointError(f"{path} is not a checkpoint: give the prefix, the .index file or the folder.")
    raise CheckpointError(f"No checkpoint there. Received: {path}")


def _prefix_in_folder(folder: Path) -> Path:
    pointers = [f"{name}.json" for name in (checkpoint_folder.BEST, checkpoint_folder.LAST)]
    if any((folder / name).exists() for name in pointers):  # One of our runs.
        try:
            folder = checkpoint_folder.resolve(folder)
        except FileNotFoundError as error:
            raise CheckpointError(str(error)) from error
    if (folder / "variables").is_dir():
        return find_prefix(folder / "variables" / "variables")
    state = folder / "checkpoint"
    if state.is_file():
        latest = tf.train.latest_checkpoint(str(folder))
        if latest is not None:
            return Path(latest)
    found = sorted(folder.glob("*.index"))
    if len(found) == 1:
        return found[0].with_suffix("")
    if found:
        names = [f.stem for f in found]
        raise CheckpointError(f"{folder} has several checkpoints; name one of {names}.")
    shards = sorted(folder.glob("*.data-*-of-*"))
    if shards:
        raise CheckpointError(f"{folder} has {shards[0].name} but no .index file beside it.")
    raise CheckpointError(f"{folder} has no checkpoint (no .index file).")


def open_checkpoint(path: str | Path) -> CheckpointFile:
    """Opens the checkpoint that ``path`` means (see ``find_prefix``) and lists its keys.

    Raises:
      CheckpointError: git-lfs pointers, missing shards, damaged or truncated files, no checkpoint.
    """
    prefix = find_prefix(path)
    if "[" in str(prefix):
        raise CheckpointError(f"{prefix}: TensorFlow takes a path with '[' for a pattern; rename it.")
    index = prefix.with_name(prefix.name + ".index")
    shards = _shards(prefix)
    for file in [index, *shards]:
        _refuse_pointer(file)
    if not shards:
        raise CheckpointError(f"{prefix}: there is no .data-…-of-… file beside the index.")
    match = _SHARD.search(shards[0].name)
    if match is None:
        raise CheckpointError(f"{shards[0]} is not named like a shard (.data-00000-of-00001).")
    declared = int(match.group(2))
    present = {s.name for s in shards}
    absent = [
        name
        for i in range(declared)
        if (name := f"{prefix.name}.data-{i:05d}-of-{declared:05d}") not in present
    ]
    if absent:
        raise CheckpointError(f"{prefix}: {len(absent)} of {declared} shards are missing: {absent}")
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shape_map = reader.get_variable_to_shape_map()
        dtype_map = reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{index} is damaged or truncated: it cannot be read as an index. ({_first_line(error)})"
        ) from error
    keys = {
        key.removesuffix(_VALUE): key
        for key in shape_map
        if key != _OBJECT_GRAPH and dtype_map[key] != tf.string
    }
    shapes = {name: tuple(shape_map[key]) for name, key in keys.items()}
    if not shapes:
        raise CheckpointError(f"{prefix} holds no variables.")
    return CheckpointFile(prefix, shapes, reader, keys)


def _shards(prefix: Path) -> list[Path]:
    return sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*-of-*"))


def _refuse_pointer(file: Path) -> None:
    with file.open("rb") as f:
        head = f.read(len(_LFS))
    if head == _LFS:
        raise CheckpointError(
            f"{file} is a git-lfs pointer, not the file itself: the repository was cloned without "
            "git-lfs. Run `git lfs install` and `git lfs pull` there, or download the file itself."
        )
    if not head:
        raise CheckpointError(f"{file} is empty.")


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]
