"""A checkpoint in EIPL's format gives the recorded outputs, and comes back key for key.

The tests write the file, with the recordings' stand-in weights under EIPL's names and grids made with numpy
as EIPL makes them; it is converted, loaded as a run, asked, and exported.
"""

import collections
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from clip_tf.weights.torch_writer import write_torch_file
from sarnn_tf.convert import convert, export
from sarnn_tf.frozen_clip import random_frozen_clip
from sarnn_tf.image_modality import IMAGE
from sarnn_tf.networks.clip_sarnn import ClipSarnn, Observations
from sarnn_tf.networks.sarnn import Sarnn
from sarnn_tf.policy_folder import load_checkpoint
from sarnn_tf.prediction import predict
from sarnn_tf.pytorch.torch_checkpoint import read_pth
from tests.sarnn_tf.sarnn_goldens import Recording, cases_of, cases_with, compare, images, load, stand_in
from tests.sarnn_tf.test_golden_sarnn import passes
from tests.sarnn_tf.torch_files import assert_same_file

BOUNDS = (-1.0, 1.0)
TINY_CLIP = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 8, "patch_size": 4, "width": 4, "layers": 1, "head_width": 4},
    "text_cfg": {"width": 4, "heads": 1, "layers": 1},
}
PARTS = ("pos_encoder", "im_encoder", "rec", "decoder_joint", "decoder_point", "issm", "decoder_image")

published = pytest.mark.parametrize(("path", "case"), cases_with("clip_sarnn_golden*.npz", "enc_pts"))


def ask(folder: Path, observations: Observations, recorded: Recording, y_image: str = "y_image") -> None:
    """Holds the predictions of a converted run against a recording."""
    output, _, aux = predict(load_checkpoint(folder).model, observations)
    compare(output, aux["h"], aux["c"], recorded, y_image)


def grid(height: int, width: int) -> np.ndarray:
    """x and y of every pixel, float32 [2, height, width]."""
    x, y = np.meshgrid(np.linspace(0.0, 1.0, width), np.linspace(0.0, 1.0, height))
    return np.stack([x, y]).astype(np.float32)


def state_of(model: Sarnn | ClipSarnn, height: int, width: int) -> collections.OrderedDict[str, np.ndarray]:
    """The state_dict of the original, in its order."""
    use_clip = isinstance(model, ClipSarnn) and model.use_clip
    state = stand_in(model)
    points = grid(7, 7) if use_clip else grid(height - 6, width - 6)
    softmax = "ss" if use_clip else "6"
    state[f"pos_encoder.{softmax}.pos_x"] = points[0].reshape(-1)
    state[f"pos_encoder.{softmax}.pos_y"] = points[1].reshape(-1)
    state["issm.pos_xy"] = grid(height - 6, width - 6)
    if use_clip:
        mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        statistics = {"pos_encoder.mean": mean, "pos_encoder.std": std}
        first = {k: np.array(v, np.float32).reshape(1, 3, 1, 1) for k, v in statistics.items()}
        state = first | state
    return collections.OrderedDict(sorted(state.items(), key=lambda item: PARTS.index(item[0].split(".")[0])))


def write(folder: Path, state: dict[str, np.ndarray], arguments: dict[str, float], *, compiled: bool) -> Path:
    """A training's folder as EIPL's trainer leaves it."""
    folder.mkdir()
    prefix = "_orig_mod." if compiled else ""
    named = collections.OrderedDict((prefix + name, value) for name, value in state.items())
    content = {"epoch": 9, "model_state_dict": named, "train_loss": 0.25, "test_loss": 0.5}
    write_torch_file(folder / "SARNN.pth", content)
    (folder / "args.json").write_text(json.dumps(arguments))
    return folder / "SARNN.pth"


def there_and_back(path: Path, folder: Path) -> None:
    """Exports a converted run and holds the file against what it was converted from."""
    assert read_pth(path).epoch == 9
    assert_same_file(export(folder, folder.with_name("back")), path)


@pytest.mark.parametrize("compiled", [False, True])
@passes
def test_golden_sarnn_checkpoint(path: Path, case: str, compiled: bool, tmp_path: Path) -> None:
    recorded, config = load(path).part(case), cases_of(path)[case]
    frames = images(recorded["images_u8"])
    model = Sarnn(config["joint_dim"], rec_dim=config["rec_dim"], k_dim=config["k_dim"])
    arguments = {name: config[name] for name in ("temperature", "heatmap_size")}
    state = state_of(model, *frames.shape[2:4])
    assert len(state) == 29
    file = write(tmp_path / "log", state, arguments, compiled=compiled)
    bounds = tuple((b,) * config["joint_dim"] for b in BOUNDS)
    description = convert(file, tmp_path / "run", joint_bounds=bounds)
    assert description.modalities[0].size == tuple(frames.shape[2:4])
    ask(tmp_path / "run", Observations({IMAGE: frames}, tf.constant(recorded["joints"])), recorded)
    there_and_back(file, tmp_path / "run")


@pytest.mark.parametrize("transposed", [True, False])
@published
def test_golden_clip_sarnn_checkpoint(path: Path, case: str, transposed: bool, tmp_path: Path) -> None:
    recorded, config = load(path).part(case), cases_of(path)["all cases"]
    frames, joints = images(recorded["images_u8"]), tf.constant(recorded["joints"])
    use_clip = "feature_maps" in recorded
    model = ClipSarnn(config["joint_dim"], rec_dim=config["rec_dim"], use_clip=use_clip)
    temperature = float(recorded["temperature"]) if "temperature" in recorded else 5e-5
    arguments = {"temperature": temperature, "heatmap_size": config["heatmap_size"]}
    state = state_of(model, *frames.shape[2:4])
    file = write(tmp_path / "log", state, arguments, compiled=False)
    clip = {}
    if use_clip:
        random_frozen_clip(TINY_CLIP).save(tmp_path / "clip")
        clip = {"clip": tmp_path / "clip"}
    convert(file, tmp_path / "run", raw_joints=True, transpose_heatmap=transposed, **clip)
    observations = Observations({IMAGE: frames}, joints)
    if use_clip:
        patches, text = (tf.constant(recorded[name]) for name in ("feature_maps", "text"))
        observations = Observations({IMAGE: frames}, joints, patches, text)
    ask(tmp_path / "run", observations, recorded, "y_image" if transposed else "y_image_untransposed")
    there_and_back(file, tmp_path / "run")
