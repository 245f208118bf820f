"""The recipe of SARNN's recordings: stand-in weights by PyTorch name, configurations from cases.json.

``load`` notes which arrays are read, so that a test can tell which ones nobody compares.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.named_variables import named_variables
from sarnn_tf.image_modality import IMAGE
from sarnn_tf.networks.clip_sarnn import ClipSarnn, ClipSarnnOutput
from sarnn_tf.networks.sarnn import Sarnn, SarnnOutput
from sarnn_tf.pytorch.torch_layout import load_torch, table
from tests.golden.golden_weights import fill
from tests.golden_files import recordings

PIXEL, VALUE, POINT = 4e-7, 4e-6, 1.6e-5
"""Tolerances of predictions that the recordings' README gives for TensorFlow in float32."""

_READ: dict[Path, set[str]] = {}


class Recording(Mapping[str, np.ndarray]):
    """The arrays of a recording whose names begin with a prefix, by the rest of the name.

    An array is read when it is asked for.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self._path, self._prefix = path, prefix
        self._names = [n.removeprefix(prefix) for n in _open(path).files if n.startswith(prefix)]

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(f"{self._path.name} has no {self._prefix}{name}")
        _READ.setdefault(self._path, set()).add(self._prefix + name)
        return _open(self._path)[self._prefix + name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def part(self, name: str) -> "Recording":
        """What begins with ``name`` and a dot."""
        return Recording(self._path, f"{self._prefix}{name}.")


@functools.cache
def _open(path: Path) -> np.lib.npyio.NpzFile:
    return np.load(path, allow_pickle=False)


def load(path: Path) -> Recording:
    """A recording."""
    return Recording(path)


def recordings_with(pattern: str, part: str) -> list[object]:
    """Parameters for every recording that has a part of that name, see ``golden_files.recordings``."""
    return [found for found in recordings(pattern) if load(found.values[0]).part(part)]


def cases_with(pattern: str, array: str) -> list[object]:
    """Parameters, path and case, for every case that has an array of that name."""
    return [
        pytest.param(found.values[0], case, id=f"{found.id}-{case}")
        for found in recordings(pattern)
        for case, _, rest in (key.partition(".") for key in load(found.values[0]))
        if rest == array
    ]


def never_read(path: Path) -> set[str]:
    """The arrays of a recording that no test has asked for so far."""
    return set(load(path)) - _READ.get(path, set())


def cases_of(recording: Path) -> dict[str, dict]:
    """The configurations beside a recording, by case; of a stem that is not listed those of its beginning."""
    listed = json.loads((recording.parent / "cases.json").read_text())
    names = [name for name in listed if recording.stem.startswith(name)]
    if not names:
        raise KeyError(f"cases.json has no configuration of {recording.name}. Received: {sorted(listed)}")
    return listed[max(names, key=len)]


def stand_in(model: Sarnn | ClipSarnn) -> dict[str, np.ndarray]:
    """The recordings' weights for a model, by PyTorch name."""
    variables = named_variables(model)
    shapes = {
        k: e.to_torch(np.empty(variables[e.variable].shape, np.float32)).shape
        for k, e in table(model).items()
    }
    return {name: fill(name, shape) for name, shape in shapes.items()}


def filled(model: Sarnn | ClipSarnn) -> Sarnn | ClipSarnn:
    """The model with the recordings' weights."""
    load_torch(model, stand_in(model))
    return model


def images(recorded: np.ndarray) -> tf.Tensor:
    """Recorded uint8 frames as the model takes them."""
    return tf.constant(recorded.astype(np.float32) / 255)


def last_channels(recorded: np.ndarray) -> np.ndarray:
    """[..., c, h, w] as [..., h, w, c]."""
    return np.moveaxis(recorded, -3, -1)


def every_nth(image: np.ndarray, recorded_height: int) -> np.ndarray:
    """The pixels of [..., h, w, c] that a recording of that height kept."""
    n = image.shape[-3] // recorded_height
    return image[..., ::n, ::n, :]


def compare(
    output: SarnnOutput | ClipSarnnOutput,
    h: tf.Tensor,
    c: tf.Tensor,
    recorded: Recording,
    y_image: str = "y_image",
) -> None:
    """Holds predictions [b, t, ...] of the colour image against a recording, whose image has that name."""
    if isinstance(output, ClipSarnnOutput):
        output = SarnnOutput(*(x[IMAGE] if isinstance(x, dict) else x for x in output))
    expected = last_channels(recorded[y_image])
    found = every_nth(output.image.numpy(), expected.shape[2])
    np.testing.assert_allclose(found, expected, atol=PIXEL, rtol=0)
    np.testing.assert_allclose(output.encoder_points, recorded["enc_pts"], atol=POINT, rtol=0)
    for value, name in ((output.joints, "y_joint"), (output.decoder_points, "dec_pts"), (h, "h"), (c, "c")):
        np.testing.assert_allclose(value, recorded[name], atol=VALUE, rtol=0, err_msg=name)
