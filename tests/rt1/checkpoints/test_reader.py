"""Every way to name a checkpoint, and a message for everything that goes wrong in practice."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core import checkpoint_folder
from rt1.checkpoints import dialects
from rt1.checkpoints.load import inspect, load_weights
from rt1.checkpoints.reader import CheckpointError, find_prefix, open_checkpoint
from rt1.transformer_network import TransformerNetwork
from tests.rt1.checkpoints.stored_checkpoints import SUFFIX, run, untouched, write
from tests.rt1.tiny_rt1 import values_of


def test_every_way_to_name_a_checkpoint(folder: Path) -> None:
    prefix = folder / "ckpt-0"
    for path in (folder, prefix, folder / "ckpt-0.index", folder / "ckpt-0.data-00000-of-00001", str(folder)):
        assert find_prefix(path) == prefix
    (folder / "checkpoint").unlink()  # One checkpoint alone needs no file that names it.
    assert find_prefix(folder) == prefix
    for file in folder.glob("ckpt-0.*"):
        shutil.copy(file, folder / file.name.replace("ckpt-0", "ckpt-9"))
    with pytest.raises(CheckpointError, match=r"several checkpoints; name one of \['ckpt-0', 'ckpt-9'\]"):
        find_prefix(folder)
    (folder / "checkpoint").write_text('model_checkpoint_path: "ckpt-9"\n')
    assert find_prefix(folder) == folder / "ckpt-9"
    # A file that names what is not there does not decide.
    (folder / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/ckpt-7"\n')
    with pytest.raises(CheckpointError, match="several checkpoints"):
        find_prefix(folder)


def test_a_run_means_its_best_checkpoint(saved: Path, tmp_path: Path) -> None:
    for step, pointers in ((1, ("last", "best")), (2, ("last",))):
        checkpoint_folder.publish(
            tmp_path, step, lambda f: shutil.copytree(saved, f, dirs_exist_ok=True), pointers=pointers
        )
    assert find_prefix(tmp_path) == tmp_path / "step-00000001" / "ckpt-0"
    shutil.rmtree(tmp_path / "step-00000001")
    with pytest.raises(CheckpointError, match="best.json names a folder that is gone"):
        find_prefix(tmp_path)


def test_a_name_with_brackets_is_told_apart_from_damage(folder: Path) -> None:
    for file in list(folder.glob("ckpt-0.*")):
        file.rename(folder / file.name.replace("ckpt-0", "ckpt-[0]"))
    with pytest.raises(CheckpointError, match="takes a path with '.' for a pattern; rename it"):
        open_checkpoint(folder / "ckpt-[0]")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 141378892\n"

DATA, INDEX = "ckpt-0.data-00000-of-00001", "ckpt-0.index"


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(folder: Path) -> None:
    """Changes one bit of a weight."""
    value = tf.train.load_variable(
        str(folder / "ckpt-0"), f"{dialects.NETWORK}/_transformer/_output_tokens/kernel{SUFFIX}"
    )
    content = bytearray((folder / DATA).read_bytes())
    content[content.index(value.tobytes()) + 1] ^= 1
    (folder / DATA).write_bytes(bytes(content))


def _second_checkpoint(folder: Path) -> None:
    (folder / "checkpoint").unlink()
    for name in (DATA, INDEX):
        shutil.copy(folder / name, folder / name.replace("ckpt-0", "ckpt-1"))


def _nothing(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def _foreign(folder: Path) -> None:
    _nothing(folder)
    write(folder / "model", {"layer/kernel": np.zeros(3, np.float32)})


DAMAGES = {
    "index is a pointer": (lambda f: (f / INDEX).write_bytes(POINTER), r"ckpt-0.index is a git-lfs pointer"),
    "data is a pointer": (
        lambda f: (f / DATA).write_bytes(POINTER),
        r"00001 is a git-lfs pointer.*git lfs pull",
    ),
    "no data": (lambda f: (f / DATA).unlink(), r"no .data-…-of-… file beside the index"),
    "a missing shard": (
        lambda f: (f / DATA).rename(f / "ckpt-0.data-00001-of-00002"),
        r"1 of 2 shards are missing: \['ckpt-0.data-00000-of-00002'\]",
    ),
    "no index": (lambda f: (f / INDEX).unlink(), r"but no .index file beside it"),
    "truncated data": (lambda f: _half(f / DATA), "data file is truncated or damaged"),
    "a flipped bit": (_flip, "data file is truncated or damaged"),
    "truncated index": (lambda f: _half(f / INDEX), "index is damaged or truncated"),
    "empty index": (lambda f: (f / INDEX).write_bytes(b""), "ckpt-0.index is empty"),
    "empty data": (lambda f: (f / DATA).write_bytes(b""), "00001 is empty"),
    "several checkpoints": (_second_checkpoint, "several checkpoints; name one of"),
    "no checkpoint": (_nothing, r"has no checkpoint \(no .index file\)"),
    "not RT-1": (_foreign, r"not one of RT-1: no key begins with.*\['layer/kernel'\]"),
    "a damaged pointer": (lambda f: (f / "best.json").write_text("{"), "best.json is not valid JSON"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_has_its_own_message(
    damage: str, folder: Path, fresh: TransformerNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks, message = DAMAGES[damage]
    breaks(folder)
    before = values_of(fresh)
    with pytest.raises(ValueError, match=message):
        load_weights(fresh, folder)
    untouched(fresh, before)
    status, out, err = run(capsys, folder)
    assert (status, out) == (1, "")
    assert re.search(message, err)
    assert err.count("\n") == 1  # A message, not a traceback.
    status, out, err = run(capsys, folder, "--json")
    assert status == 1
    assert json.loads(out) == {"error": err.strip()}
    assert re.search(message, err)


def test_the_index_is_missing_where_the_prefix_is_named(folder: Path) -> None:
    (folder / INDEX).unlink()
    for path in (folder / "ckpt-0", folder / DATA):
        with pytest.raises(CheckpointError, match="ckpt-0.index is missing beside ckpt-0.data-00000"):
            open_checkpoint(path)


def test_paths_that_are_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    for path, message in (
        (tmp_path / "notes.txt", "is not a checkpoint: give the prefix"),
        (tmp_path / "nowhere" / "ckpt-1", "No checkpoint there. Received"),
    ):
        assert run(capsys, path)[0] == 1
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(path)


def test_an_index_cut_anywhere_is_an_error_and_no_crash(folder: Path) -> None:
    content = (folder / INDEX).read_bytes()
    for length in np.linspace(1, len(content) - 1, 40).astype(int):
        (folder / INDEX).write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="damaged or truncated"):
            open_checkpoint(folder)


def test_data_cut_anywhere_is_an_error_and_no_crash(folder: Path) -> None:
    """Also where only optimiser slots or the object graph are cut: such a file could not be resumed."""
    content = (folder / DATA).read_bytes()
    for length in (len(content) - 1, len(content) // 3, 1):
        (folder / DATA).write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            inspect(folder)
