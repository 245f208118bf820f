"""CLIP-SARNN against the recordings of the published code, and of its corrected CLIP branch.

The frozen towers themselves are held against their recordings in ``test_golden_frozen_clip``.
"""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.named_variables import named_variables
from sarnn_tf.data.batch import Batch
from sarnn_tf.image_modality import IMAGE, ImageModality
from sarnn_tf.image_resize import resize
from sarnn_tf.layers.spatial_softmax import spatial_softmax
from sarnn_tf.learning.loss_scheduler import LossScheduler
from sarnn_tf.learning.losses import LossWeights
from sarnn_tf.learning.optimizer import make_adamw
from sarnn_tf.learning.training_step import losses_and_gradients
from sarnn_tf.networks.clip_keypoints import ClipKeypoints
from sarnn_tf.networks.clip_sarnn import ClipSarnn, Observations
from sarnn_tf.pytorch.torch_layout import table
from sarnn_tf.stratified_split import stratified_split, tasks_by_thirds
from tests.golden.golden_weights import fill
from tests.golden_files import recordings
from tests.sarnn_tf.sarnn_goldens import (
    POINT,
    cases_of,
    cases_with,
    compare,
    filled,
    images,
    load,
    recordings_with,
)

LOSS, PARAMETER = 1e-6, 2e-5
BRANCH_POINT = 3e-5
"""One point of the CLIP branch lies between two patches: in float64 it is 1.8e-5 from the recording."""

published = pytest.mark.parametrize(("path", "case"), cases_with("clip_sarnn_golden*.npz", "temperature"))
full, corrected, training = (
    pytest.mark.parametrize("path", recordings_with("clip_sarnn_golden*.npz", part))
    for part in ("full", "corr", "train")
)
data_sets = pytest.mark.parametrize("path", recordings("clip_dataset_golden*.npz"))


def model_of(path: Path, temperature: float, *, use_clip: bool, transposed: bool) -> ClipSarnn:
    """The recordings' network with their weights."""
    config = cases_of(path)["all cases"]
    model = ClipSarnn(
        config["joint_dim"],
        [ImageModality(IMAGE, 3, config["k_dim"])],
        rec_dim=config["rec_dim"],
        temperature=temperature,
        heatmap_size=config["heatmap_size"],
        use_clip=use_clip,
        transpose_heatmap=transposed,
    )
    return filled(model)


@pytest.mark.parametrize("transposed", [True, False])
@published
def test_golden_without_clip(path: Path, case: str, transposed: bool) -> None:
    recorded = load(path).part(case)
    model = model_of(path, float(recorded["temperature"]), use_clip=False, transposed=transposed)
    observations = Observations({IMAGE: images(recorded["images_u8"])}, tf.constant(recorded["joints"]))
    output, _, aux = model(observations)
    compare(output, aux["h"], aux["c"], recorded, "y_image" if transposed else "y_image_untransposed")


@pytest.mark.parametrize("transposed", [True, False])
@full
def test_golden_with_clip_map(path: Path, transposed: bool) -> None:
    recorded = load(path).part("full")
    model = model_of(path, 5e-5, use_clip=True, transposed=transposed)
    maps = recorded["feature_maps"]
    frames = images(recorded["images_u8"])
    observations = Observations(
        {IMAGE: frames}, tf.constant(recorded["joints"]), tf.constant(maps), tf.constant(recorded["text"])
    )
    output, _, aux = model(observations)
    compare(output, aux["h"], aux["c"], recorded, "y_image" if transposed else "y_image_untransposed")


@corrected
def test_golden_corrected_branch(path: Path) -> None:
    recorded = load(path).part("corr")
    patches, text = tf.constant(recorded["feature_map"]), tf.constant(recorded["text"])
    features, k = patches.shape[-1], recorded["heatmap"].shape[1]
    temperatures = [n.removeprefix("keys_T") for n in recorded if n.startswith("keys_T")]
    assert len(temperatures) >= 3
    for temperature in temperatures:
        layer = ClipKeypoints(features, k, float(temperature))
        layer.adapter.kernel.assign(fill("pos_encoder.adapter_conv.weight", (k, features, 1, 1))[..., 0, 0].T)
        layer.adapter.bias.assign(fill("pos_encoder.adapter_conv.bias", (k,)))
        points, attention = layer(patches, text)
        np.testing.assert_allclose(points, recorded[f"keys_T{temperature}"], atol=BRANCH_POINT)
        by_channel = np.moveaxis(attention.numpy(), -1, 1)
        np.testing.assert_allclose(by_channel, recorded[f"prob_T{temperature}"], atol=1e-4)
        points, _ = layer(patches)
        np.testing.assert_allclose(points, recorded[f"keys_notext_T{temperature}"], atol=BRANCH_POINT)
        for found, name in (
            (layer.logits(patches, text), "heatmap"),
            (layer.logits(patches), "heatmap_notext"),
        ):
            np.testing.assert_allclose(np.moveaxis(found.numpy(), -1, 1), recorded[name], atol=1e-6)


@corrected
def test_golden_corrected_points_are_those_of_the_recorded_heatmap(path: Path) -> None:
    recorded = load(path).part("corr")
    for temperature in ("5e-05", "0.001", "0.01"):
        heatmap = tf.constant(np.moveaxis(recorded["heatmap"], 1, -1))
        points, _ = spatial_softmax(heatmap, float(temperature))
        np.testing.assert_allclose(points, recorded[f"keys_T{temperature}"], atol=POINT)


@training
def test_golden_training(path: Path) -> None:
    """Three steps of the published trainer: AdamW, the scheduler at its 500th call, the heatmap mirrored."""
    recorded = load(path).part("train")
    model = model_of(path, 1e-2, use_clip=False, transposed=True)
    entries, variables = table(model), named_variables(model)
    optimizer = make_adamw(model.trainable_variables)
    x, y = ({IMAGE: images(recorded[f"{name}_img_u8"])} for name in ("x", "y"))
    joints = tf.constant(recorded["joint"])
    real, episodes = tf.ones(joints.shape[:2], tf.bool), tf.fill(joints.shape[:1], "")
    batch = Batch(Observations(x, joints), y, joints, real, episodes)
    losses = []
    for step in range(3):
        share = LossScheduler().at(500 + step)
        losses_now, gradients = losses_and_gradients(model, batch, LossWeights(1.0, 1.1, 1.0), share)
        losses.append(float(losses_now["loss"]))
        optimizer.apply(gradients)
        after = recorded.part(f"after{step + 1}")
        for name, expected in after.items():
            found = entries[name].to_torch(variables[entries[name].variable].numpy())
            np.testing.assert_allclose(found, expected, atol=PARAMETER, rtol=0, err_msg=name)
    np.testing.assert_allclose(losses, recorded["losses"], atol=LOSS, rtol=0)


@data_sets
def test_golden_area_resize(path: Path) -> None:
    recording = load(path)
    x = recording["x"]
    np.testing.assert_array_equal(resize(x, 16, 24), recording["area_24x16"])
    np.testing.assert_array_equal(resize(x, 64, 80), recording["area_up"])
    np.testing.assert_array_equal(resize(recording["x_int"], 16, 24), recording["area_int"])
    np.testing.assert_allclose(resize(x.astype(np.float32) / 255, 16, 24), recording["area_f32"], atol=1e-6)
    np.testing.assert_array_equal(resize(x[..., 0], 16, 24), recording["gray_area"])


@data_sets
def test_golden_stratified_split(path: Path) -> None:
    recording = load(path)
    names = [n for n in recording if n.startswith("split")]
    assert len(names) >= 3
    for name in names:
        n = int(name.removeprefix("split").removesuffix("_test"))
        train, test = stratified_split(tasks_by_thirds(n))
        np.testing.assert_array_equal(test, recording[name])
        assert sorted([*train, *test]) == list(range(n))
