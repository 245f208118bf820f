"""Weights as an NPZ file: one array for each variable, by ``core.named_variables`` names."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from core import files
from core.load_report import LoadReport, compare
from core.named_variables import named_variables

WEIGHTS = "weights.npz"
_SUFFIX, _VERSION = ".npy", (1, 0)


def save_weights(model: tf.Module, path: str | Path) -> None:
    """Writes all variables of a model, see ``save_variables``."""
    save_variables(named_variables(model), path)


def load_weights(model: tf.Module, path: str | Path, *, new_ok: Sequence[str] = ()) -> LoadReport:
    """Sets a model's variables, see ``load_variables``."""
    return load_variables(named_variables(model), path, new_ok=new_ok)


def save_variables(variables: Mapping[str, tf.Variable], path: str | Path) -> None:
    """Writes variables by name, atomically.

    Args:
      variables: name -> variable.
      path: ends in ``.npz``.

    Raises:
      ValueError: a value is not finite; nothing is written.
    """
    arrays = {name: variable.numpy() for name, variable in variables.items()}
    _require_finite(arrays, "nothing is saved")
    with files.atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted(arrays):
            # Members have a fixed time: the same weights are the same bytes.
            with archive.open(zipfile.ZipInfo(name + _SUFFIX), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, arrays[name], version=_VERSION, allow_pickle=False)


def load_variables(
    variables: Mapping[str, tf.Variable], path: str | Path, *, new_ok: Sequence[str] = ()
) -> LoadReport:
    """Sets variables from a file. Nothing is set, or read into memory, unless everything fits.

    Args:
      variables: name -> variable.
      path: what ``save_variables`` wrote.
      new_ok: regular expressions for whole names that may be missing, unexpected or of another shape; those
        variables keep their value.

    Returns:
      What was loaded.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, or something is missing, unexpected, of another shape or type, or not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of weights. Received: {path}")
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            headers = {name.removesuffix(_SUFFIX): _header(archive, name) for name in archive.namelist()}
            report = compare({name: shape for name, (shape, _) in headers.items()}, shapes, new_ok=new_ok)
            report.raise_unless_ok(str(path))
            for name in report.loaded:
                dtype = np.dtype(variables[name].dtype.as_numpy_dtype)
                if headers[name][1] != dtype:
                    raise ValueError(f"{path}: {name} must be {dtype}. Received: {headers[name][1]}")
                arrays[name] = _array(archive, name + _SUFFIX)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is not a whole file of weights: {error}") from error
    _require_finite(arrays, str(path))
    for name, array in arrays.items():
        variables[name].assign(array)
    return report


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array."""
    with archive.open(name) as file:
        try:
            if (version := np.lib.format.read_magic(file)) != _VERSION:
                raise ValueError(f"it is of the NPY format {version}, not {_VERSION}")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        except ValueError as error:
            raise ValueError(f"{archive.filename}: {name} is no plain array: {error}") from error
    return shape, dtype


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as file:
        try:
            return np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{archive.filename}: {name} is damaged: {error}") from error


def _require_finite(arrays: Mapping[str, np.ndarray], what: str) -> None:
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise ValueError(f"Weights must be finite; {what}. Received: NaN or infinity in {broken[:4]}")
