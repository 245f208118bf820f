"""Weights as an NPZ file: exact, strict, and safe against what is not one."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.named_variables import named_variables
from sarnn_tf.networks.clip_sarnn import ClipSarnn
from sarnn_tf.networks.sarnn import Sarnn
from sarnn_tf.weights_file import load_variables, load_weights, save_variables, save_weights


def values_of(model: tf.Module) -> dict[str, np.ndarray]:
    return {name: v.numpy() for name, v in named_variables(model).items()}


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: Sarnn(3, rec_dim=8, seed=seed),
        lambda seed: ClipSarnn(3, rec_dim=8, seed=seed, text_units=2),
    ],
)
def test_every_weight_comes_back(make, tmp_path: Path) -> None:
    one, other = make(1), make(2)
    save_weights(one, tmp_path / "a.npz")
    save_weights(one, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    report = load_weights(other, tmp_path / "a.npz")
    assert set(report.loaded) == set(values_of(one)) and report.ok
    for name, value in values_of(one).items():
        np.testing.assert_array_equal(value, values_of(other)[name], err_msg=name)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as plain:
        assert set(plain.files) == set(values_of(one))


def test_types_are_kept(tmp_path: Path) -> None:
    step = tf.Variable(2**53 + 1, dtype=tf.int64)
    save_variables({"step": step}, tmp_path / "x.npz")
    again = tf.Variable(0, dtype=tf.int64)
    load_variables({"step": again}, tmp_path / "x.npz")
    assert int(again.numpy()) == 2**53 + 1
    with pytest.raises(ValueError, match="step must be float32. Received: int64"):
        load_variables({"step": tf.Variable(0.0)}, tmp_path / "x.npz")


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    save_weights(Sarnn(3, rec_dim=8, seed=1), tmp_path / "x.npz")
    model = Sarnn(4, rec_dim=8, seed=2)
    before = values_of(model)
    with pytest.raises(ValueError, match="decoder_joint/kernel"):
        load_weights(model, tmp_path / "x.npz")
    for name, value in before.items():
        np.testing.assert_array_equal(value, values_of(model)[name])
    report = load_weights(model, tmp_path / "x.npz", new_ok=("decoder_joint/.*", "rec/kernel"))
    assert set(report.allowed) == {"decoder_joint/kernel", "decoder_joint/bias", "rec/kernel"}
    np.testing.assert_array_equal(values_of(model)["decoder_joint/kernel"], before["decoder_joint/kernel"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_weights_are_not_saved(value: float, tmp_path: Path) -> None:
    model = Sarnn(3, rec_dim=8)
    model.rec.bias_input.assign(np.full(32, value, np.float32))
    with pytest.raises(ValueError, match="rec/bias_input"):
        save_weights(model, tmp_path / "x.npz")
    assert not list(tmp_path.iterdir())
    np.savez(tmp_path / "y.npz", v=np.array([1.0, value], np.float32))
    with pytest.raises(ValueError, match="must be finite"):
        load_variables({"v": tf.Variable([0.0, 0.0])}, tmp_path / "y.npz")


def _archive(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("v.npy", content)
    return file.getvalue()


def _array(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        _archive(b""),
        _archive(b"no array"),
        _archive(_array(np.array([print], object))),
        _archive(_header((10**9, 10**6))),
        _archive(_header((2,))),
        _archive(_array(np.zeros(2, np.float32)))[:-40],
        _archive(_array(np.zeros(2, np.float32))).replace(b"\0\0\0\0\0\0\0\0PK", b"\0\0\0\0\0\0\0\1PK"),
    ],
    ids=["empty", "text", "no header", "no array", "pickle", "huge", "short", "cut", "flipped"],
)
def test_what_is_no_file_of_weights(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    variable = tf.Variable([3.0, 4.0])
    with pytest.raises(ValueError, match=r"x\.npz"):
        load_variables({"v": variable}, tmp_path / "x.npz")
    np.testing.assert_array_equal(variable.numpy(), [3.0, 4.0])


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        load_variables({}, tmp_path / "x.npz")
