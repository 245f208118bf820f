"""SARNN's layers and utilities against the recordings of EIPL's."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.files import write_json
from core.trainable import Evaluation
from sarnn_tf.image_resize import resize
from sarnn_tf.layers.coord_conv import CoordConv2D, add_coordinates
from sarnn_tf.layers.grid_mask import grid_mask
from sarnn_tf.layers.inverse_spatial_softmax import inverse_spatial_softmax
from sarnn_tf.layers.mtrnn_cell import MtrnnCell
from sarnn_tf.layers.spatial_softmax import position_grid, spatial_softmax
from sarnn_tf.learning.loss_scheduler import CURVES, LossScheduler
from sarnn_tf.learning.padding import pad_sequences
from sarnn_tf.mean_bounds import as_bounds, mean_bounds
from sarnn_tf.motion.cosine_interpolation import cosine_interpolation
from sarnn_tf.networks.basic_rnn import BasicLstm, BasicMtrnn
from sarnn_tf.normalization import denormalize, normalize, to_uint8
from tests.golden.golden_weights import fill
from tests.golden_files import recordings
from tests.sarnn_tf.sarnn_goldens import last_channels, load
from training.loop import LoopSettings, run

layers = pytest.mark.parametrize("path", recordings("layers_*.npz"))


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


def fill_dense(layer: tf.keras.layers.Dense, name: str) -> None:
    """A linear layer's stand-in weights, by PyTorch's name and layout."""
    inputs, units = layer.kernel.shape
    layer.kernel.assign(fill(f"{name}.weight", (units, inputs)).T)
    if layer.use_bias:
        layer.bias.assign(fill(f"{name}.bias", (units,)))


def fill_mtrnn(cell: MtrnnCell, prefix: str) -> None:
    for name in ("i2f", "f2f", "f2s", "s2s", "s2f"):
        fill_dense(getattr(cell, name), f"{prefix}.{name}")


@layers
def test_golden_position_encoding(path: Path) -> None:
    recording = load(path)
    grid = position_grid(3, 4)
    np.testing.assert_allclose(grid, recording["posenc_3_4_last.pos_xy"])
    np.testing.assert_allclose(grid, last_channels(recording["posenc_3_4.pos_xy"]))
    np.testing.assert_allclose(grid[..., 0].ravel(), recording["posenc_3_4.pos_x"])
    np.testing.assert_allclose(grid[..., 1].ravel(), recording["posenc_3_4.pos_y"])
    pixels = position_grid(3, 4, normalized=False)
    np.testing.assert_allclose(pixels, last_channels(recording["posenc_3_4_unnorm.pos_xy"]))


@layers
def test_golden_spatial_softmax(path: Path) -> None:
    recording = load(path)
    names = [k.removesuffix(".x") for k in recording if k.startswith("ssm_") and k.endswith(".x")]
    assert len(names) >= 5
    for name in names:
        temperature = float(recording[f"{name}.temperature"]) if name != "ssm_peak" else 1e-4
        x = channels_last(recording[f"{name}.x"])
        points, attention = spatial_softmax(tf.constant(x), temperature)
        np.testing.assert_allclose(points, recording[f"{name}.keys"], atol=1e-6, err_msg=name)
        if name == "ssm_peak":
            continue
        np.testing.assert_allclose(attention, channels_last(recording[f"{name}.att"]), atol=1e-6)
        pixels, _ = spatial_softmax(tf.constant(x), temperature, normalized=False)
        np.testing.assert_allclose(pixels, recording[f"{name}.keys_unnorm"], atol=1e-5, err_msg=name)


@layers
@pytest.mark.parametrize(
    ("name", "heatmap_size", "scale", "options"),
    [
        ("issm_sq", 0.1, 1, {}),
        ("issm_ns", 0.1, 1, {}),
        ("issm_ns_small", 0.05, 1, {}),
        ("issm_ns_concave", 0.1, 1, {"convex": False}),
        ("issm_ns_unnorm", 0.1, 5, {"normalized": False}),
    ],
)
def test_golden_inverse_spatial_softmax(
    path: Path, name: str, heatmap_size: float, scale: float, options: dict
) -> None:
    recording = load(path)
    expected = channels_last(recording[f"{name}.heatmap"])
    points = tf.constant(recording["issm.keys"] * scale, tf.float32)
    heatmap = inverse_spatial_softmax(points, *expected.shape[1:3], heatmap_size, **options)
    np.testing.assert_allclose(heatmap, expected, atol=1e-6)


@layers
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("addcoords", {}),
        ("addcoords_r", {"with_radius": True}),
        ("addcoords_m1_r", {"with_radius": True, "minimum": -1.0}),
    ],
)
def test_golden_add_coordinates(path: Path, name: str, options: dict) -> None:
    recording = load(path)
    x = tf.constant(channels_last(recording["coord.x"]))
    expected = channels_last(recording[f"{name}.y"])
    np.testing.assert_allclose(add_coordinates(x, order="yx", **options), expected, atol=1e-6)
    by_xy = add_coordinates(x, **options)
    order = [0, 1, 2, 4, 3, *range(5, expected.shape[-1])]
    np.testing.assert_allclose(by_xy, expected[..., order], atol=1e-6)


@layers
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("coordconv", {}),
        ("coordconv_r_s2p1", {"with_radius": True, "stride": 2, "padding": 1, "minimum": -1}),
    ],
)
def test_golden_coord_conv(path: Path, name: str, options: dict) -> None:
    recording = load(path)
    layer = CoordConv2D(3, 4, 3, order="yx", **options)
    channels = 5 + int(options.get("with_radius", False))
    layer.conv.kernel.assign(fill("coordconv.conv.weight", (4, channels, 3, 3)).transpose(2, 3, 1, 0))
    layer.conv.bias.assign(fill("coordconv.conv.bias", (4,)))
    y = layer(tf.constant(channels_last(recording["coord.x"])))
    np.testing.assert_allclose(y, channels_last(recording[f"{name}.y"]), atol=2e-6)


@layers
@pytest.mark.parametrize(
    ("name", "activation", "options"),
    [
        ("tanh", tf.tanh, {}),
        ("tanh_bias", tf.tanh, {"use_bias": True}),
        ("relu", tf.nn.relu, {"rectify_potential": True}),
        ("lrelu", lambda x: tf.nn.leaky_relu(x, 0.01), {"rectify_potential": True}),
    ],
)
def test_golden_mtrnn(path: Path, name: str, activation: Callable, options: dict) -> None:
    recording = load(path)
    x = recording["mtrnn.x"]
    cell = MtrnnCell(6, 8, 3, 2, 12, activation=activation, **options)
    fill_mtrnn(cell, "mtrnn")
    state = None
    for t in range(len(x)):
        state = cell(tf.constant(x[t]), state)
        for part, value in state._asdict().items():
            np.testing.assert_allclose(value, recording[f"mtrnn_{name}.{part}"][t], atol=1e-6, err_msg=part)


@layers
def test_golden_mtrnn_parametric_bias(path: Path) -> None:
    recording = load(path)
    cell = MtrnnCell(6, 8, 3, 2, 12)
    fill_mtrnn(cell, "mtrnn")
    state = cell(tf.constant(recording["mtrnn.x"][0]), None, tf.constant(recording["mtrnn_pb.pb"]))
    for part, value in state._asdict().items():
        np.testing.assert_allclose(value, recording[f"mtrnn_pb.{part}"], atol=1e-6, err_msg=part)


@layers
@pytest.mark.parametrize("name", ["basiclstm", "basicmtrnn"])
def test_golden_basic_rnn(path: Path, name: str) -> None:
    recording = load(path)
    if name == "basiclstm":
        model = BasicLstm(6, 7, 5)
        model.rnn.kernel.assign(fill(f"{name}.rnn.weight_ih", (28, 6)).T)
        model.rnn.recurrent_kernel.assign(fill(f"{name}.rnn.weight_hh", (28, 7)).T)
        model.rnn.bias_input.assign(fill(f"{name}.rnn.bias_ih", (28,)))
        model.rnn.bias_recurrent.assign(fill(f"{name}.rnn.bias_hh", (28,)))
    else:
        model = BasicMtrnn(6, 8, 3, 2, 12, 5)
        fill_mtrnn(model.mtrnn, f"{name}.mtrnn")
    fill_dense(model.rnn_out, f"{name}.rnn_out.0")
    state = None
    for t, x in enumerate(recording["mtrnn.x"]):
        y, state = model(tf.constant(x), state)
        np.testing.assert_allclose(y, recording[f"{name}.y"][t], atol=1e-6)
    for i, part in enumerate(state):
        np.testing.assert_allclose(part, recording[f"{name}.state{i}_last"], atol=1e-6)


@layers
@pytest.mark.parametrize("name", ["gridmask_cf", "gridmask_cl", "gridmask_cf_b"])
def test_golden_grid_mask(path: Path, name: str) -> None:
    recording = load(path)
    d, dx, dy = (int(i) for i in recording[f"{name}.d_dx_dy"])
    recorded = recording[f"{name}.y"] if name.endswith("cl") else last_channels(recording[f"{name}.y"])
    mask = grid_mask(*recorded.shape[-3:-1], d, (dx, dy), 0.6)
    np.testing.assert_array_equal(np.broadcast_to(mask[..., None], recorded.shape), recorded)


@layers
@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(("decay_end", "weight"), [(1000, 0.1), (10, 1.0)])
def test_golden_loss_scheduler(path: Path, curve: str, decay_end: int, weight: float) -> None:
    recorded = load(path)[f"sched_{curve}_{decay_end}"]
    found = LossScheduler(decay_end, curve).at(np.arange(len(recorded)), weight)
    np.testing.assert_allclose(found, recorded, atol=1e-12)


class Judged:
    """What the training loop drives: given validation losses, and nothing to train."""

    best_metric = "loss"

    def __init__(self, losses: Sequence[float]) -> None:
        self.step, self._losses = 0, losses

    def batches(self, epoch: int, skip: int = 0) -> list[int]:
        return [epoch][skip:]

    def num_batches(self) -> int:
        return 1

    def train_step(self, batch: int) -> dict[str, float]:
        self.step += 1
        return {"loss": 1.0}

    def describe(self, batch: int) -> str:
        return str(batch)

    def evaluate(self, epoch: int) -> Evaluation:
        return Evaluation({"loss": self._losses[epoch]})

    def save(self, folder: Path) -> None:
        write_json(folder / "spec.json", {})

    def restore(self, folder: Path) -> None:
        raise NotImplementedError


@layers
def test_golden_early_stopping(path: Path, tmp_path: Path) -> None:
    """The training loop's best and end, after each of EIPL's recorded losses, one of them a tie."""
    recording = load(path)
    losses, save_stop = recording["earlystop.loss"].tolist(), recording["earlystop.save_stop"]
    for n, (saved, stopped) in enumerate(save_stop, 1):
        epochs = len(losses) if stopped else n
        settings = LoopSettings(
            tmp_path / str(n), num_epochs=epochs, early_stopping_patience=3, ties_improve=True
        )
        result = run(Judged(losses), settings)
        if stopped:
            assert (result.stopped_by, result.epoch) == ("early_stopping", n)
            break
        assert result.epoch == n and result.best is not None
        assert (result.best.epoch == n) == saved
    else:
        pytest.fail("The recording stops somewhere.")


@layers
def test_golden_normalization(path: Path) -> None:
    recording = load(path)
    bounds = recording["norm.bounds"]
    y = normalize(recording["norm.x"], bounds, 0.1, 0.9)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, recording["norm.y"], atol=1e-6)
    np.testing.assert_allclose(denormalize(y, bounds, 0.1, 0.9), recording["norm.back"], atol=2e-6)


@layers
def test_golden_to_uint8(path: Path) -> None:
    recording = load(path)
    x = recording["deproc.x"]
    before = x.copy()
    np.testing.assert_array_equal(to_uint8(x, 0.0, 1.0), recording["deproc.y_0_1"])
    np.testing.assert_array_equal(to_uint8(x), recording["deproc.y_default"])
    np.testing.assert_array_equal(x, before)


@layers
def test_golden_mean_bounds(path: Path) -> None:
    recording = load(path)
    data = recording["bounds.data"]
    np.testing.assert_allclose(mean_bounds(data), recording["bounds.mean_min_max"], atol=1e-12)
    widened = mean_bounds(data, clip=0.2, vmin=0.1, vmax=0.9)
    np.testing.assert_allclose(widened, recording["bounds.bounds"], atol=1e-12)
    normalised = normalize(data, as_bounds(widened), 0.1, 0.9)
    np.testing.assert_allclose(normalised, recording["bounds.norm"], atol=1e-12)


@layers
@pytest.mark.parametrize("name", ["pad", "pad_u8"])
def test_golden_padding(path: Path, name: str) -> None:
    recording = load(path)
    sequences = [recording[k] for k in recording if k.startswith(f"{name}.in")]
    padded, real = pad_sequences(sequences)
    assert padded.dtype == sequences[0].dtype
    np.testing.assert_array_equal(padded, recording[f"{name}.out"])
    np.testing.assert_array_equal(real.sum(axis=1), [len(s) for s in sequences])


@layers
@pytest.mark.parametrize(
    ("name", "signal", "step"),
    [
        ("cosint.y15", "cosint.x", 15),
        ("cosint.y20", "cosint.x", 20),
        ("cosint.y5_expand", "cosint.x", 5),
        ("cosint_overlap.y20", "cosint_overlap.x", 20),
    ],
)
def test_golden_cosine_interpolation(path: Path, name: str, signal: str, step: int) -> None:
    recording = load(path)
    expected = recording[name]
    found = cosine_interpolation(recording[signal].reshape(expected.shape), step)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@layers
def test_golden_resize(path: Path) -> None:
    recording = load(path)
    x = recording["resize.x"]
    np.testing.assert_array_equal(resize(x, 16, 24, "linear"), recording["resize.u8_24x16"])
    np.testing.assert_array_equal(resize(x, 64, 80, "linear"), recording["resize.up_80x64"])
    as_float = resize(x.astype(np.float32) / 255, 16, 24, "linear")
    np.testing.assert_allclose(as_float, recording["resize.f32_24x16"], atol=1e-6)
    np.testing.assert_array_equal(resize(np.stack([x, x[::-1]]), 16, 24, "linear"), recording["resize.u8_5d"])
