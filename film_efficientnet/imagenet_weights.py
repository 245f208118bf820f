"""ImageNet weights of EfficientNet from a local Keras ``.h5`` file without the classifier ("notop")."""

from pathlib import Path

import h5py
import numpy as np

from core.load_report import LoadReport, compare
from film_efficientnet.film_efficientnet_encoder import FilmEfficientNet

# The normalisation's numbers are constants of ours; Keras' files hold them or not, by release.
_CONSTANT_LAYERS = ("normalization", "rescaling")


def load_imagenet_weights(network: FilmEfficientNet, path: str | Path) -> LoadReport:
    """Sets the trunk's weights by Keras' layer names; FiLM layers stay as they are.

    Args:
      network: a built trunk.
      path: e.g. ``efficientnetb3_notop.h5``, as Keras Applications publishes it.

    Returns:
      The report, by ``layer/variable`` names.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: not an HDF5 weight file, or weights that do not fit; nothing is changed then.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No file of ImageNet weights. Received: {path}")
    try:
        with h5py.File(path, "r") as file:
            source = _read(file)
    except OSError as error:
        raise ValueError(f"{path} is not a readable HDF5 file: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error

    target = {
        f"{name}/{variable.name.split('/')[-1].split(':')[0]}": variable
        for name in network.layer_names()
        if not name.startswith(_CONSTANT_LAYERS) and not name.endswith("_film")
        for variable in network.layer(name).variables
    }
    report = compare({k: v.shape for k, v in source.items()}, {k: tuple(v.shape) for k, v in target.items()})
    report.raise_unless_ok(str(path))
    for name in report.loaded:
        target[name].assign(source[name])
    return report


def _read(file: h5py.File) -> dict[str, np.ndarray]:
    """``layer/variable`` -> value of a Keras weight file, without the constant layers."""
    root = file.get("model_weights", file)
    values: dict[str, np.ndarray] = {}
    for layer, group in root.items():
        if not isinstance(group, h5py.Group):
            raise ValueError(f"Not a Keras weight file: {layer!r} is not the group of a layer")
        if layer.startswith(_CONSTANT_LAYERS):
            continue
        names = [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs.get("weight_names", [])]
        for name in names:
            if name not in group:
                raise ValueError(f"Not a whole Keras weight file: {layer!r} has no {name!r}")
            variable = name.split("/")[-1].split(":")[0]
            values[f"{layer}/{variable}"] = np.asarray(group[name])
    if not values:
        raise ValueError("Not a Keras weight file: no layer has a weight_names attribute")
    return values
