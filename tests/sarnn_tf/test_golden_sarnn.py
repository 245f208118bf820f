"""SARNN against the recordings of EIPL's: predictions, losses, gradients, steps of Adam.

Tolerances are those that the recordings' README gives for TensorFlow in float32.
"""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.named_variables import named_variables
from sarnn_tf.data.batch import Batch
from sarnn_tf.learning.loss_scheduler import LossScheduler
from sarnn_tf.learning.losses import LossWeights, sequence_losses, total_loss
from sarnn_tf.learning.optimizer import make_adam
from sarnn_tf.learning.training_step import losses_and_gradients
from sarnn_tf.networks.clip_sarnn import Observations
from sarnn_tf.networks.sarnn import Sarnn, SarnnOutput
from sarnn_tf.pytorch.torch_layout import table
from tests.golden_files import recordings
from tests.sarnn_tf.sarnn_goldens import PIXEL, VALUE, cases_of, compare, filled, images, last_channels, load

LOSS, GRADIENT, PARAMETER = 1e-7, 3e-5, 2e-5
SOFT = 1e-2
"""Temperature from which on the recordings are comparable beyond the first step, as their README says."""
HARD_GRADIENT = 5e-3
"""Below it the points hardly move with the features: of their encoder's gradient torch itself has, in
float32, three digits."""
NOISE = "pos_encoder.4.bias"
"""Its gradient is 0 but for rounding: a softmax does not change with what is added to all its inputs."""


def cases(pattern: str, *, training: bool) -> list[object]:
    """Every case of every recording: those with a loss, or those without."""
    return [
        pytest.param(found.values[0], name, id=f"{found.id}-{name}")
        for found in recordings(pattern)
        for name, config in cases_of(found.values[0]).items()
        # A configuration may stand there without a recording.
        if ("loss_weights" in config) == training and has_case(found.values[0], name)
    ]


def has_case(path: Path, name: str) -> bool:
    return any(key.startswith(f"{name}.") for key in load(path))


passes = pytest.mark.parametrize(("path", "case"), cases("sarnn_golden*.npz", training=False))
trainings = pytest.mark.parametrize(
    ("path", "case", "calls"),
    [
        pytest.param(*c.values, calls, id=f"{c.id}-c{calls}")
        for c in cases("sarnn_golden*.npz", training=True)
        for calls in cases_of(c.values[0])[c.values[1]]["scheduler_calls_before"]
    ],
)


def model_of(config: dict) -> Sarnn:
    """The network of a case, with the recordings' weights."""
    names = ("rec_dim", "k_dim", "temperature", "heatmap_size")
    return filled(Sarnn(config["joint_dim"], **{k: config[k] for k in names}))


@passes
def test_golden_sequences(path: Path, case: str) -> None:
    recorded = load(path).part(case)
    model = model_of(cases_of(path)[case])
    output, last, aux = model(images(recorded["images_u8"]), tf.constant(recorded["joints"]))
    compare(output, aux["h"], aux["c"], recorded)
    np.testing.assert_allclose(last.h, recorded["h"][:, -1], atol=VALUE)
    np.testing.assert_allclose(last.c, recorded["c"][:, -1], atol=VALUE)
    if "im_hid_t0" in recorded:
        corner = last_channels(recorded["im_hid_t0"])
        np.testing.assert_allclose(aux["features"][:, 0, :8, :8], corner, atol=PIXEL)


@passes
def test_golden_attention_maps(path: Path, case: str) -> None:
    """The maps before the spatial softmax, and by how many temperatures their largest value stands out."""
    recorded, config = load(path).part(case), cases_of(path)[case]
    if "pos_feat_t0" not in recorded:
        pytest.skip(f"{path.name} has no maps of {case}")
    frames = images(recorded["images_u8"])
    b, t, k = *frames.shape[:2], config["k_dim"]
    maps = model_of(config).stream.pos_encoder.stack(tf.reshape(frames, [b * t, *frames.shape[2:]])).numpy()
    corner = maps.reshape(b, t, *maps.shape[1:])[:, 0, :8, :8]
    np.testing.assert_allclose(corner, last_channels(recorded["pos_feat_t0"]), atol=PIXEL, rtol=0)
    second, first = np.moveaxis(np.sort(maps.reshape(b, t, -1, k), axis=2)[:, :, -2:], 2, 0)
    margin = (first - second) / config["temperature"]
    np.testing.assert_allclose(margin, recorded["margin_over_T"], atol=PIXEL / config["temperature"], rtol=0)


@passes
def test_golden_steps(path: Path, case: str) -> None:
    recorded = load(path).part(case)
    model = model_of(cases_of(path)[case])
    frames, joints = images(recorded["images_u8"]), tf.constant(recorded["joints"])
    state, outputs, states = None, [], []
    for t in range(frames.shape[1]):
        output, state, _ = model.step(frames[:, t], joints[:, t], state)
        outputs.append(output)
        states.append(state)
    by_time = SarnnOutput(*(tf.stack(x, axis=1) for x in zip(*outputs, strict=True)))
    h, c = (tf.stack(x, axis=1) for x in zip(*states, strict=True))
    compare(by_time, h, c, recorded)


class Training:
    """EIPL's training on the recorded batch."""

    def __init__(self, path: Path, case: str, calls: int) -> None:
        self.config = cases_of(path)[case]
        recording = load(path)
        self.recorded = recording.part(f"{case}.c{calls}")
        self.batch = recording.part("train")
        self.calls = calls
        self.model = model_of(self.config)
        self.weights = LossWeights(**self.config["loss_weights"])
        variables = named_variables(self.model)
        entries = table(self.model)
        self.names = [str(n) for n in self.recorded["param_names"]]
        assert set(self.names) == set(entries)
        self.entries = [entries[n] for n in self.names]
        self.variables = [variables[e.variable] for e in self.entries]
        self.optimizer = make_adam(self.variables)

    def is_rounding(self, name: str) -> bool:
        """Whether a variable's gradient is too small to be compared closely."""
        return name.startswith("pos_encoder.") and self.config["temperature"] < SOFT

    def loss(self, step: int) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        x, y = images(self.batch["x_img_u8"]), images(self.batch["y_img_u8"])
        output, _, _ = self.model(x[:, :-1], tf.constant(self.batch["x_joint"][:, :-1]))
        losses = sequence_losses(
            {"image": output.image},
            output.joints,
            {"image": output.encoder_points},
            {"image": output.decoder_points},
            {"image": y},
            tf.constant(self.batch["y_joint"]),
        )
        return total_loss(losses, self.weights, LossScheduler().at(self.calls + step)), losses

    def gradients(self, step: int) -> tuple[tf.Tensor, dict[str, tf.Tensor], list[tf.Tensor]]:
        """By the predictions of all steps and TensorFlow's own gradient."""
        with tf.GradientTape() as tape:
            loss, losses = self.loss(step)
        return loss, losses, tape.gradient(loss, self.variables)

    def step(self, step: int) -> tuple[tf.Tensor, dict[str, tf.Tensor], list[tf.Tensor]]:
        """As a training computes it."""
        x, y = ({"image": images(self.batch[f"{name}_img_u8"])} for name in ("x", "y"))
        inputs = Observations(x, tf.constant(self.batch["x_joint"]))
        joints = tf.constant(self.batch["y_joint"])
        real, episodes = tf.ones(joints.shape[:2], tf.bool), tf.fill(joints.shape[:1], "")
        batch = Batch(inputs, y, joints, real, episodes)
        share = LossScheduler().at(self.calls + step)
        losses, gradients = losses_and_gradients(self.model, batch, self.weights, share)
        of = {v.ref(): g for v, g in zip(self.model.trainable_variables, gradients, strict=True)}
        return losses["loss"], losses, [of[v.ref()] for v in self.variables]


@pytest.mark.parametrize("way", ["gradients", "step"])
@trainings
def test_golden_losses_and_gradients(path: Path, case: str, calls: int, way: str) -> None:
    training = Training(path, case, calls)
    recorded, weights = training.recorded, training.weights
    loss, losses, gradients = getattr(training, way)(0)
    share = float(LossScheduler().at(calls))
    if "loss_weights" in training.batch:
        expected = [weights.image, weights.joint, weights.point]
        np.testing.assert_array_equal(training.batch["loss_weights"], expected)
    assert weights.point * share == pytest.approx(float(recorded["pt_weight0"]), abs=1e-12)
    found = [float(losses[name]) for name in ("image", "joint", "point")] + [float(loss)]
    np.testing.assert_allclose(found, recorded["loss0_img_joint_pt_total"], atol=LOSS, rtol=0)
    for name, entry, gradient, norm, exact in zip(
        training.names,
        training.entries,
        gradients,
        recorded["grad_norm"],
        recorded["grad_norm_f64"],
        strict=True,
    ):
        if name == NOISE:
            continue
        tolerance = HARD_GRADIENT if training.is_rounding(name) else GRADIENT
        np.testing.assert_allclose(np.linalg.norm(gradient), norm, rtol=tolerance, err_msg=name)
        np.testing.assert_allclose(np.linalg.norm(gradient), exact, rtol=tolerance, err_msg=name)
        if f"grad.{name}" in recorded:
            whole = entry.to_torch(gradient.numpy())
            np.testing.assert_allclose(
                whole, recorded[f"grad.{name}"], atol=tolerance * norm, rtol=0, err_msg=name
            )


@trainings
def test_golden_adam(path: Path, case: str, calls: int) -> None:
    training = Training(path, case, calls)
    recorded, losses = training.recorded, []
    before = [v.numpy() for v in training.variables]
    steps = 3 if training.config["temperature"] >= SOFT else 1
    for step in range(steps):
        loss, _, gradients = training.step(step)
        losses.append(float(loss))
        training.optimizer.apply(gradients)
        for name, entry, variable in zip(training.names, training.entries, training.variables, strict=True):
            key = f"after{step + 1}.{name}"
            if key in recorded and name != NOISE and not training.is_rounding(name):
                found = entry.to_torch(variable.numpy())
                np.testing.assert_allclose(found, recorded[key], atol=PARAMETER, rtol=0, err_msg=key)
    for name in ("trainer_losses", "trainer_losses_f64"):
        np.testing.assert_allclose(losses, recorded[name][:steps], atol=2e-6, rtol=0, err_msg=name)
    if steps == 3:
        moved = [np.linalg.norm(v.numpy() - b) for v, b in zip(training.variables, before, strict=True)]
        kept = [i for i, name in enumerate(training.names) if name != NOISE]
        np.testing.assert_allclose(np.take(moved, kept), recorded["after3_delta_norm"][kept], atol=1e-4)
        after, _ = training.loss(3)
        np.testing.assert_allclose(after, recorded["eval_loss_after3"], atol=2e-6)
