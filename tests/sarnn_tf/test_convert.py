"""From EIPL's files to checkpoints of ours and back: what is taken over, and what must be said."""

import json
from pathlib import Path

import numpy as np
import pytest

from clip_tf.model_config import ClipConfig
from clip_tf.weights.layout import openclip_shapes
from clip_tf.weights.stored_tensor import StoredTensor
from core import checkpoint_folder
from sarnn_tf.convert import convert, export, main
from sarnn_tf.description import SarnnDescription, read_description, write_description
from sarnn_tf.frozen_clip import FrozenClip, random_frozen_clip
from sarnn_tf.image_modality import ImageModality
from sarnn_tf.networks.clip_sarnn import ClipSarnn
from sarnn_tf.networks.sarnn import Sarnn
from sarnn_tf.policy_folder import load_checkpoint
from sarnn_tf.pytorch.torch_checkpoint import read_pth, write_pth
from sarnn_tf.pytorch.torch_layout import to_torch
from sarnn_tf.pytorch.torch_tower import known_config, read_tower, save_tower
from sarnn_tf.weights_file import WEIGHTS, save_weights
from tests.golden_files import manifest
from tests.sarnn_tf.torch_files import assert_same_file

TORCH_FILE = manifest("torch_sarnn_compiled.pth")
BOUNDS = ((-1.0, -2.0), (1.0, 0.5))
CLIP = {
    "embed_dim": 6,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 8, "layers": 1, "head_width": 4},
    "text_cfg": {"width": 8, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def clip() -> FrozenClip:
    return random_frozen_clip(CLIP, seed=1)


def small_file(path: Path, model: Sarnn | ClipSarnn | None = None, **arguments: object) -> Path:
    """A ``.pth`` file of two joints and images of 12 x 16, and its ``args.json`` if there are arguments."""
    write_pth(path, to_torch(model or Sarnn(2, rec_dim=4, k_dim=3, seed=1), 12, 16), epoch=5, test_loss=0.5)
    if arguments:
        (path.parent / "args.json").write_text(json.dumps(arguments))
    return path


def test_a_file_of_pytorch_there_and_back(tmp_path, caplog):
    description = convert(TORCH_FILE, tmp_path / "run", joint_bounds=((-1.0,), (1.0,)), temperature=1e-3)
    assert description == SarnnDescription(
        "sarnn",
        (ImageModality("image", 3, 1, (10, 12), interpolation="linear"),),
        ("joint_1",),
        ((-1.0,), (1.0,)),
        rec_dim=2,
        temperature=1e-3,
        use_clip=False,
    )
    loaded = load_checkpoint(tmp_path / "run")
    assert loaded.description == description and loaded.clip is None
    assert checkpoint_folder.pointer(tmp_path / "run", "best")["metrics"]["test_loss"] == 0.25
    assert export(tmp_path / "run", tmp_path / "back") == tmp_path / "back" / "SARNN.pth"
    assert_same_file(tmp_path / "back" / "SARNN.pth", TORCH_FILE)
    assert "published" not in caplog.text


def test_an_exported_model_needs_no_more_words(tmp_path):
    given = {"joint_bounds": BOUNDS, "joint_names": ("a", "b"), "rate_hz": 10.0, "heatmap_size": 0.05}
    first = convert(small_file(tmp_path / "SARNN.pth", batch_size=5), tmp_path / "run", **given)
    path = export(tmp_path / "run", tmp_path / "back")
    arguments = json.loads((path.parent / "args.json").read_text())
    assert arguments["heatmap_size"] == 0.05 and arguments["batch_size"] == 5  # EIPL's scripts read these.
    assert convert(path, tmp_path / "again") == first
    changed = convert(path, tmp_path / "changed", rate_hz=5.0, joint_names=("c", "d"))
    assert (changed.rate_hz, changed.joint_names, changed.heatmap_size) == (5.0, ("c", "d"), 0.05)


def test_settings_come_from_the_training_unless_said(tmp_path):
    path = small_file(tmp_path / "SARNN.pth", temperature=2e-4, vmin=-1, vmax=2.0, rec_dim=99)
    description = convert(path, tmp_path / "a", joint_bounds=BOUNDS, vmax=3.0)
    found = (description.temperature, description.vmin, description.vmax, description.heatmap_size)
    assert found == (2e-4, -1.0, 3.0, 0.1)
    assert description.rec_dim == 4


@pytest.mark.parametrize("text_units", [0, 2])
def test_clip_sarnn_with_its_tower_in_the_file(tmp_path, clip, text_units, caplog):
    model = ClipSarnn(2, [ImageModality("image", k_dim=3)], rec_dim=4, clip_features=6, text_units=text_units)
    clip.save(tmp_path / "clip")
    tower = read_tower(tmp_path / "clip", clip.fingerprint)
    path = tmp_path / "CLIP_SARNN.pth"
    write_pth(path, to_torch(model, 12, 16), tower=tower, epoch=3, test_loss=0.25)
    assert any(b"pos_encoder.clip_model." in line for line in path.open("rb"))
    save_tower(tmp_path / "extracted", path, clip.config)
    description = convert(
        path, tmp_path / "run", clip=tmp_path / "extracted", raw_joints=True, transpose_heatmap=True
    )
    assert (description.clip_features, description.text_units, description.transpose_heatmap) == (
        6,
        text_units,
        True,
    )
    assert description.joint_bounds == ((0.0, 0.0), (1.0, 1.0))
    loaded = load_checkpoint(tmp_path / "run")
    assert loaded.clip is not None and loaded.clip.fingerprint == clip.fingerprint
    assert_same_file(export(tmp_path / "run", tmp_path / "whole", with_clip=True), path)
    assert ("words" in caplog.text) == (text_units > 0)
    assert "mirrors" not in caplog.text and "raw joints" not in caplog.text  # As published.
    slim = export(tmp_path / "run", tmp_path / "slim")
    assert slim.name == "CLIP_SARNN.pth" and not read_pth(slim, tower=True).tower
    assert list(read_pth(slim).state) == list(read_pth(path).state)


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-L-14"])
def test_a_published_tower_is_known_by_its_shapes(name):
    config = ClipConfig.from_name(f"{name}-quickgelu")
    tensors = {k: StoredTensor(s, np.dtype(np.float16), list) for k, s in openclip_shapes(config).items()}
    assert known_config(tensors) == config


def test_a_model_of_several_modalities_there_and_back(tmp_path, caplog):
    modalities = (
        ImageModality("depth", 1, 2, (9, 9), 2000.0, "nearest"),
        ImageModality("image", 3, 3, (12, 16)),
    )
    description = SarnnDescription("clip_sarnn", modalities, ("a", "b"), BOUNDS, rec_dim=4, use_clip=False)
    model = description.make_model(seed=1)
    folder = tmp_path / "trained"
    folder.mkdir()
    write_description(folder, description)
    save_weights(model, folder / WEIGHTS)
    path = export(folder, tmp_path / "back")
    assert all(text in caplog.text for text in ("does not see depth", "mirrors", "raw joints"))
    assert convert(path, tmp_path / "again") == description
    found = to_torch(load_checkpoint(tmp_path / "again").model, 12, 16)
    for name, value in to_torch(model, 12, 16).items():
        np.testing.assert_array_equal(found[name], value, name)
    (path.parent / "args.json").unlink()
    with pytest.raises(ValueError, match="several modalities"):
        convert(path, tmp_path / "blind", joint_bounds=BOUNDS, transpose_heatmap=False)


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def test_command_line(tmp_path, capsys):
    np.save(tmp_path / "bounds.npy", np.array(BOUNDS))
    path = small_file(tmp_path / "SARNN.pth")
    flags = ["--joint_bounds", tmp_path / "bounds.npy", "--joint_names", "a, b", "--temperature", 0.01]
    assert run(path, "--out", tmp_path / "run", *flags) == 0
    assert "2 joints, images (12, 16), temperature 0.01" in capsys.readouterr().out
    description = read_description(checkpoint_folder.resolve(tmp_path / "run"))
    assert (description.joint_names, description.joint_bounds) == (("a", "b"), BOUNDS)
    assert run(tmp_path / "run", "--to_torch", "--out", tmp_path / "back") == 0
    assert_same_file(tmp_path / "back" / "SARNN.pth", path)
    assert run(path, "--out", tmp_path / "run", *flags) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["x.pth"],
        ["x.pth", "--out", "y", "--with_clip"],
        ["run", "--out", "y", "--to_torch", "--rate_hz", "10"],
        ["x.pth", "--out", "y", "--joint_bounds", "no such file.npy"],
        ["x.pth", "--out", "y", "--temperature", "hot"],
    ],
)
def test_wrong_usage(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_a_folder_is_told_where_it_goes(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "a checkpoint's folder goes --to_torch" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no array", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."])
def test_bounds_that_are_no_array_are_refused(tmp_path, content):
    (tmp_path / "bounds.npy").write_bytes(content)
    with pytest.raises(SystemExit):
        run(tmp_path / "x.pth", "--out", tmp_path / "y", "--joint_bounds", tmp_path / "bounds.npy")


def clip_sarnn(**options: object) -> ClipSarnn:
    return ClipSarnn(2, rec_dim=4, seed=1, **{"use_clip": False, **options})


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (None, {}, "Joints need their bounds"),
        (None, {"joint_bounds": ((0.0,), (1.0,))}, "joint_bounds must be"),
        (None, {"joint_bounds": BOUNDS[::-1]}, "no minimum"),
        (None, {"joint_bounds": BOUNDS, "raw_joints": True}, "or are raw"),
        (None, {"raw_joints": True}, "raw joints"),
        (None, {"joint_bounds": BOUNDS, "joint_names": ("a",)}, r"\[2\]\[1\]"),
        (None, {"joint_bounds": BOUNDS, "clip": "somewhere"}, "uses no CLIP"),
        (None, {"joint_bounds": BOUNDS, "temperature": 0.0}, "temperature"),
        (clip_sarnn(), {"joint_bounds": BOUNDS}, "transpose_heatmap"),
        (
            clip_sarnn(use_clip=True),
            {"joint_bounds": BOUNDS, "transpose_heatmap": False},
            "needs its frozen CLIP",
        ),
    ],
)
def test_what_is_not_known_is_asked_for(tmp_path, model, given, message):
    path = small_file(tmp_path / "x.pth", model)
    with pytest.raises(ValueError, match=message):
        convert(path, tmp_path / "run", **given)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rec.weight_hh", np.full((16, 4), np.nan, np.float32), "NaN or infinity"),
        ("rec.bias_ih", np.full(16, np.inf, np.float32), "NaN or infinity"),
        ("rec.weight_hh", np.zeros((16, 5), np.float32), "rec.weight_hh"),
        ("decoder_joint.0.weight", np.zeros(4, np.float32), "decoder_joint.0.weight of rank 2"),
        ("decoder_joint.0.weight", np.zeros((0, 4), np.float32), "decoder_joint.0.weight"),
        ("decoder_point.0.weight", np.zeros((5, 4), np.float32), "decoder_point"),
        ("issm.pos_xy", None, "issm.pos_xy"),
        ("rec.bias_hh", None, "missing: rec.bias_hh"),
        ("backdoor", np.zeros(1, np.float32), "unexpected: backdoor"),
        ("_orig_mod.rec.bias_hh", np.zeros(16, np.float32), "_orig_mod."),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, name, value, message):
    state = to_torch(Sarnn(2, rec_dim=4, k_dim=3, seed=1), 12, 16)
    if value is None:
        del state[name]
    else:
        state[name] = value
    write_pth(tmp_path / "x.pth", state)
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "x.pth", tmp_path / "run", joint_bounds=BOUNDS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["[1]", "not JSON", '{"temperature": "hot"}', '{"sarnn_tf": {"model": 1}}'])
def test_wrong_arguments_beside_the_file_are_refused(tmp_path, text):
    path = small_file(tmp_path / "SARNN.pth")
    (tmp_path / "args.json").write_text(text)
    with pytest.raises(ValueError, match="Received|not valid JSON"):
        convert(path, tmp_path / "run", joint_bounds=BOUNDS)


def test_raw_joints_need_a_range_of_numbers(tmp_path):
    path = small_file(tmp_path / "CLIP_SARNN.pth", clip_sarnn(), vmin=None)
    with pytest.raises(ValueError, match="vmin of the training's arguments must be a number. Received: None"):
        convert(path, tmp_path / "run", raw_joints=True, transpose_heatmap=True)


def test_a_tower_that_is_damaged_or_unknown_is_refused(tmp_path, clip):
    clip.save(tmp_path / "clip")
    tower = read_tower(tmp_path / "clip", clip.fingerprint)
    state = to_torch(clip_sarnn(use_clip=True, clip_features=6), 12, 16)
    given = {"joint_bounds": BOUNDS, "transpose_heatmap": False}
    write_pth(tmp_path / "x.pth", state, tower=tower)
    with pytest.raises(ValueError, match="must be a known one"):
        convert(tmp_path / "x.pth", tmp_path / "run", **given)
    write_pth(tmp_path / "y.pth", state, tower={**tower, "visual.proj": tower["visual.proj"] * np.nan})
    with pytest.raises(ValueError, match=r"finite.*visual\.proj"):
        save_tower(tmp_path / "extracted", tmp_path / "y.pth", clip.config)
    with pytest.raises(ValueError, match="The CLIP must be"):
        read_tower(tmp_path / "clip", "another")
    assert not (tmp_path / "run").exists() and not (tmp_path / "extracted").exists()


def test_what_cannot_be_exported_is_refused(tmp_path):
    convert(small_file(tmp_path / "x.pth"), tmp_path / "run", joint_bounds=BOUNDS)
    with pytest.raises(ValueError, match="uses no CLIP"):
        export(tmp_path / "run", tmp_path / "back", with_clip=True)
    with pytest.raises(FileNotFoundError):
        export(tmp_path / "none", tmp_path / "back")
    depth = ImageModality("depth", 1, 2, (9, 9))
    folder = tmp_path / "depth"
    folder.mkdir()
    write_description(
        folder, SarnnDescription("clip_sarnn", (depth,), ("a",), ((0.0,), (1.0,)), use_clip=False)
    )
    with pytest.raises(ValueError, match="sees 'image'"):
        export(folder, tmp_path / "back")
    assert not (tmp_path / "back").exists()
