"""EIPL's checkpoint files: one that PyTorch wrote, ours, and hostile ones.

``torch_sarnn_compiled.pth`` was written by PyTorch 2.13: a compiled SARNN of 1 joint, 1 point and 2 units for
images of 10 x 12 with the recordings' stand-in weights, an optimiser's state, and losses that were averaged
with numpy, as EIPL's trainer saves them.
"""

import collections
import math
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from clip_tf.weights.stored_tensor import WeightFileError
from clip_tf.weights.torch_writer import write_torch_file
from sarnn_tf.networks.sarnn import Sarnn
from sarnn_tf.pytorch.torch_checkpoint import read_pth, write_pth
from sarnn_tf.pytorch.torch_layout import load_torch, to_torch
from tests.golden.golden_weights import fill
from tests.golden_files import manifest
from tests.sarnn_tf.torch_files import assert_same_file

TORCH_FILE = manifest("torch_sarnn_compiled.pth")
STATE = {"w": np.arange(3, dtype=np.float32), "b": np.array(2, np.float32)}
TOWER = {"visual.proj": np.ones((2, 3), np.float16), "logit_scale": np.array(4.6, np.float32)}


def test_a_file_of_pytorch_is_read():
    checkpoint = read_pth(TORCH_FILE)
    assert (checkpoint.epoch, checkpoint.train_loss, checkpoint.test_loss) == (41, 0.5, 0.25)
    assert len(checkpoint.state) == 29 and not checkpoint.tower
    for name, value in checkpoint.state.items():
        bare = name.removeprefix("_orig_mod.")
        assert bare != name and value.dtype == np.float32
        if "pos_" not in bare.rpartition(".")[2]:
            np.testing.assert_array_equal(value, fill(bare, value.shape), bare)


def test_a_file_of_pytorch_comes_back_key_for_key(tmp_path):
    checkpoint = read_pth(TORCH_FILE)
    model = Sarnn(1, rec_dim=2, k_dim=1)
    assert load_torch(model, checkpoint.state).ok
    written = to_torch(model, 10, 12, compiled=True)
    write_pth(tmp_path / "SARNN.pth", written, epoch=41, train_loss=0.5, test_loss=0.25)
    assert_same_file(tmp_path / "SARNN.pth", TORCH_FILE)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_frozen_tower_is_passed_over_unless_asked_for(tmp_path, compiled):
    prefix = "_orig_mod." if compiled else ""
    names = ("pos_encoder.mean", "pos_encoder.std", "pos_encoder.adapter_conv.weight")
    state = {prefix + name: np.ones(3, np.float32) for name in names}
    write_pth(tmp_path / "x.pth", state, tower=TOWER)
    assert list(read_pth(tmp_path / "x.pth").state) == list(state)
    assert not read_pth(tmp_path / "x.pth").tower
    found = read_pth(tmp_path / "x.pth", tower=True).tower
    assert list(found) == list(TOWER)
    for name, value in TOWER.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], value)
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        program = archive.read("archive/data.pkl")
    # Where the published class has it: after the pixel statistics, before the adapter.
    places = [program.index(name.encode()) for name in ("er.std", "clip_model.visual", "adapter_conv")]
    assert places == sorted(places)


def test_a_bare_state_dictionary_is_read(tmp_path):
    write_torch_file(tmp_path / "x.pth", STATE)
    found = read_pth(tmp_path / "x.pth")
    assert list(found.state) == list(STATE)
    assert (found.epoch, found.train_loss, found.test_loss) == (None, None, None)


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1.5, 2])
def test_losses_are_kept(tmp_path, loss):
    write_pth(tmp_path / "x.pth", STATE, train_loss=loss)
    np.testing.assert_equal(read_pth(tmp_path / "x.pth").train_loss, float(loss))


def test_a_loss_that_is_a_tensor_is_read(tmp_path):
    write_torch_file(tmp_path / "x.pth", {"model_state_dict": STATE, "test_loss": np.array(0.5, np.float32)})
    assert read_pth(tmp_path / "x.pth").test_loss == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_state_dict": STATE, "epoch": "four"}, "epoch must be a number"),
        ({"model_state_dict": STATE, "train_loss": {"a": 1}}, "train_loss must be a number"),
        ({"model_state_dict": STATE, "test_loss": np.zeros(2, np.float32)}, "test_loss must be a number"),
        ({"model_state_dict": {}}, "no state dictionary|maps names"),
        ({"model_state_dict": {"w": 1.0}}, "maps names to tensors"),
        ({"weights": {"w": STATE["w"]}}, "maps names to tensors"),
        ({"model_state_dict": {"pos_encoder.clip_model.proj": STATE["w"]}}, "nothing but a frozen CLIP"),
    ],
)
def test_wrong_content_is_refused(tmp_path, content, message):
    write_torch_file(tmp_path / "x.pth", content)
    with pytest.raises(WeightFileError, match=message):
        read_pth(tmp_path / "x.pth")


def archive(path: Path, program: bytes, numbers: bytes = bytes(8)) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", program)
        file.writestr("a/data/0", numbers)
    return path


class Attack:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


@pytest.mark.parametrize("where", ["state", "beside", "name"])
def test_code_is_refused_before_it_runs(tmp_path, where):
    attack = Attack(tmp_path / "victim")
    content = {
        "state": {"model_state_dict": {"w": attack}},
        "beside": {"model_state_dict": {}, "train_loss": attack},
        "name": collections.OrderedDict([(("a", attack), 1)]),
    }[where]
    path = archive(tmp_path / "x.pth", pickle.dumps(content, 2))
    with pytest.raises(WeightFileError, match="refused"):
        read_pth(path)
    assert not (tmp_path / "victim").exists()


def test_a_tensor_larger_than_its_file_is_refused(tmp_path):
    """A stride of zero makes any size of one number; copying it would fill the memory."""
    write_torch_file(tmp_path / "x.pth", {"model_state_dict": {"w": np.zeros(2, np.float32)}})
    with zipfile.ZipFile(tmp_path / "x.pth") as file:
        program = file.read("archive/data.pkl")
    one = b"(J\x02\x00\x00\x00t(J\x01\x00\x00\x00t"
    assert program.count(one) == 1
    huge = b"(J" + struct.pack("<i", 2**31 - 1) + b"J" + struct.pack("<i", 2**20) + b"t"
    program = program.replace(one, huge + b"(J\x00\x00\x00\x00J\x00\x00\x00\x00t")
    with pytest.raises(WeightFileError, match="must fit in the file"):
        read_pth(archive(tmp_path / "huge.pth", program))


@pytest.mark.parametrize("kept", [0, 1, 100, 5000, -1, -30, -3000])
def test_a_truncated_file_is_refused(tmp_path, kept):
    (tmp_path / "x.pth").write_bytes(TORCH_FILE.read_bytes()[:kept])
    with pytest.raises(WeightFileError):
        read_pth(tmp_path / "x.pth")


def test_the_format_before_zip_is_named(tmp_path):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    with pytest.raises(WeightFileError, match=r"before PyTorch 1\.6; load it and save it again"):
        read_pth(tmp_path / "x.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.pth"):
        read_pth(tmp_path / "x.pth")


def test_nothing_is_written_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="must have variables"):
        write_pth(tmp_path / "x.pth", {})
    assert list(tmp_path.iterdir()) == []
