"""SARNN's layers beyond the recordings: sizes, seeds, gradients, what they refuse."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from sarnn_tf.layers.conv_stack import ConvStack, DeconvStack, convolve
from sarnn_tf.layers.coord_conv import CoordConv2D, add_coordinates
from sarnn_tf.layers.grid_mask import GridMask, grid_mask
from sarnn_tf.layers.inverse_spatial_softmax import inverse_spatial_softmax
from sarnn_tf.layers.leaky_relu import leaky_relu
from sarnn_tf.layers.lstm_cell import LstmCell, LstmState
from sarnn_tf.layers.mtrnn_cell import MtrnnCell
from sarnn_tf.layers.spatial_softmax import spatial_softmax
from sarnn_tf.networks.convolutional_keypoints import MAX_SHARE, NEGLIGIBLE, ConvolutionalKeypoints


def draws(seed: int, *shape: int) -> tf.Tensor:
    return tf.random.stateless_normal(shape, [seed, 0])


@settings(deadline=None, max_examples=30)
@given(st.data(), st.integers(1, 9), st.integers(1, 9))
def test_a_single_peak_is_found_and_lit_again(data: st.DataObject, height: int, width: int) -> None:
    """x is the column and y the row, on maps of any shape, in both directions."""
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    features = np.zeros((1, height, width, 1), np.float32)
    features[0, row, column, 0] = 1.0
    points, _ = spatial_softmax(tf.constant(features), 1e-3, normalized=False)
    np.testing.assert_allclose(points[0, 0], [column, row], atol=1e-5)
    points, _ = spatial_softmax(tf.constant(features), 1e-3)
    heatmap = inverse_spatial_softmax(points, height, width, 0.01).numpy()[0, :, :, 0]
    assert np.unravel_index(heatmap.argmax(), heatmap.shape) == (row, column)
    assert heatmap.max() == pytest.approx(1.0)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be > 0"):
        spatial_softmax(tf.zeros([1, 2, 2, 1]), temperature)


def test_a_transposed_heatmap_mirrors_and_must_be_square() -> None:
    points = tf.constant([[[0.75, 0.25]]])
    plain = inverse_spatial_softmax(points, 5, 5, 0.1)
    mirrored = inverse_spatial_softmax(points, 5, 5, 0.1, transposed=True)
    np.testing.assert_allclose(mirrored, tf.transpose(plain, [0, 2, 1, 3]), atol=1e-7)
    assert not np.allclose(mirrored, plain)
    with pytest.raises(ValueError, match="must be square"):
        inverse_spatial_softmax(points, 5, 6, 0.1, transposed=True)


def test_coordinates_of_images_that_are_not_square() -> None:
    y = add_coordinates(tf.zeros([2, 3, 5, 1]), minimum=-1.0).numpy()
    np.testing.assert_allclose(y[1, 2, :, 1], np.linspace(-1, 1, 5), atol=1e-6)
    np.testing.assert_allclose(y[1, :, 4, 2], np.linspace(-1, 1, 3), atol=1e-6)
    assert CoordConv2D(1, 2, 3, padding=1)(tf.zeros([2, 3, 5, 1])).shape == (2, 3, 5, 2)
    with pytest.raises(ValueError, match="order must be one of"):
        add_coordinates(tf.zeros([1, 2, 2, 1]), order="columns")


def test_grid_mask_of_large_images_that_are_not_square() -> None:
    """EIPL's wraps at 256 pixels and takes square images only."""
    mask = grid_mask(300, 500, 25, (3, 7), 0.6).numpy()
    rows, columns = np.mgrid[:300, :500]
    expected = 1 - (((rows + 3) % 25 < 10) & ((columns + 7) % 25 < 10))
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
def test_grid_mask_draws_by_seed_and_keeps_its_argument(dtype: tf.DType) -> None:
    images = tf.cast(tf.fill([2, 3, 40, 30, 3], 7), dtype)
    always = GridMask(probability=1.0)
    masked = always(images, tf.constant([1, 2]))
    assert masked.dtype == dtype
    np.testing.assert_array_equal(masked, always(images, tf.constant([1, 2])))
    assert not np.array_equal(masked, always(images, tf.constant([1, 3])))
    first = masked[0, 0, :, :, 0].numpy()
    assert 0 < (first == 0).mean() < 0.5
    assert (masked.numpy() == first[:, :, None]).all()
    assert (images.numpy() == 7).all()
    np.testing.assert_array_equal(GridMask(probability=0.0)(images, tf.constant([1, 2])), images)


@pytest.mark.parametrize("arguments", [{"probability": 1.5}, {"keep": -0.1}, {"spacings": (5, 5)}])
def test_grid_mask_refuses(arguments: dict) -> None:
    with pytest.raises(ValueError, match="Received"):
        GridMask(**arguments)


@pytest.mark.parametrize("slope", [0.3, 0.01])
def test_the_gradient_of_leaky_relu(slope: float) -> None:
    x = tf.constant([-2.0, -1e-9, 1e-9, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = leaky_relu(x, slope)
    np.testing.assert_allclose(y, np.where(x > 0, x, slope * x))
    np.testing.assert_allclose(tape.gradient(y, x), [slope, slope, 1, 1])
    with pytest.raises(ValueError, match="slope must be > 0"):
        leaky_relu(x, 0.0)


def test_stacks_undo_each_others_sizes() -> None:
    x = tf.zeros([2, 9, 12, 3])
    small = ConvStack(3, 4)(x)
    assert small.shape == (2, 3, 6, 4)
    assert DeconvStack(4, 3)(small).shape == x.shape


def test_layers_of_one_seed_are_equal_and_unlike_each_other() -> None:
    first, again, other = ConvStack(3, 4, seed=1), ConvStack(3, 4, seed=1), ConvStack(3, 4, seed=1, name="b")
    np.testing.assert_array_equal(first.convs[1].kernel, again.convs[1].kernel)
    assert not np.array_equal(first.convs[1].kernel, other.convs[1].kernel)


def lstm() -> LstmCell:
    cell = LstmCell(3, 4, seed=1)
    cell.bias_input.assign(draws(1, 16))
    cell.bias_recurrent.assign(draws(2, 16))
    return cell


def test_an_unrolled_lstm_is_its_steps() -> None:
    cell, x = lstm(), draws(3, 2, 6, 3)
    start = LstmState(draws(4, 2, 4), draws(5, 2, 4))
    every, last = cell.unroll(x, start)
    state = start
    for t in range(6):
        state = cell(x[:, t], state)
        np.testing.assert_allclose(every.h[:, t], state.h, atol=1e-6)
        np.testing.assert_allclose(every.c[:, t], state.c, atol=1e-6)
    np.testing.assert_allclose(last.h, state.h, atol=1e-6)
    np.testing.assert_allclose(last.c, state.c, atol=1e-6)


def test_the_gradient_of_an_unrolled_lstm_is_that_of_its_steps() -> None:
    cell, x = lstm(), draws(3, 2, 6, 3)

    def by_steps() -> tf.Tensor:
        state, out = None, []
        for t in range(6):
            state = cell(x[:, t], state)
            out.append(state.h)
        return tf.stack(out, axis=1)

    gradients = []
    for forward in (lambda: cell.unroll(x)[0].h, by_steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(forward()) * draws(7, 2, 6, 4))
        gradients.append(tape.gradient(loss, cell.trainable_variables))
    assert len(gradients[0]) == 4
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_time_constants_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="fast_tau and slow_tau must be >= 1"):
        MtrnnCell(2, 3, 4, 0.5, 2)


def weighted(points: tf.Tensor, attention: tf.Tensor) -> tf.Tensor:
    """A loss of points and attention, in their type."""
    by_point = tf.cast(draws(8, *points.shape), points.dtype)
    by_pixel = tf.cast(draws(9, *attention.shape), attention.dtype)
    return tf.reduce_sum(points * by_point) + tf.reduce_sum(attention * by_pixel)


def keypoint_gradients(layer: ConvolutionalKeypoints, images: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Of the weights and the images, by the layer, and its attention."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        points, attention = layer(images)
        loss = weighted(points, attention)
    return tape.gradient(loss, [*layer.stack.kernels_and_biases, images]), attention


def exact_gradients(layer: ConvolutionalKeypoints, images: tf.Tensor, temperature: float) -> list[tf.Tensor]:
    """The same by autodiff through the textbook's formula in float64."""
    sources = [tf.cast(v, tf.float64) for v in (*layer.stack.kernels_and_biases, images)]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        maps = tf.transpose(convolve(sources[-1], sources[:-1]), [0, 3, 1, 2])
        n, k, height, width = maps.shape
        attention = tf.nn.softmax(tf.reshape(maps, [n, k, -1]) / temperature)
        grid = np.stack(np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height)), axis=-1)
        points = attention @ grid.reshape(-1, 2)
        by_pixel = tf.transpose(tf.reshape(attention, [n, k, height, width]), [0, 2, 3, 1])
        loss = weighted(points, by_pixel)
    return tape.gradient(loss, sources)


@pytest.mark.parametrize("temperature", [1e-3, 1e-1])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_gradient_of_keypoints(temperature: float, compiled: bool) -> None:
    """At the low temperature it is had from patches, at the high one from whole images."""
    layer = ConvolutionalKeypoints(3, 2, temperature, seed=1)
    images = tf.random.stateless_uniform([3, 24, 30, 3], [1, 1])
    found, attention = (tf.function(keypoint_gradients) if compiled else keypoint_gradients)(layer, images)
    share = np.mean(np.any(attention.numpy() > NEGLIGIBLE, axis=-1))
    assert (share <= MAX_SHARE) == (temperature == 1e-3)
    exact = exact_gradients(layer, images, temperature)
    # The rounding of features in float32, divided by the temperature, is 1e-3 of the attention.
    for i, (ours, truth) in enumerate(zip(found, exact, strict=True)):
        # The last bias shifts a whole map, which a softmax does not see: its gradient is rounding alone.
        scale = np.abs(exact[4] if i == 5 else truth).max()
        np.testing.assert_allclose(ours, truth, atol=5e-3 * scale, rtol=0, err_msg=str(i))
