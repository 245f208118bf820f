"""Dropout as a pure function of its seed."""

import numpy as np
import pytest
import tensorflow as tf

from core.stateless_dropout import dropout, site_seed

SEED = np.array([3, 5], np.int32)
ONES = tf.ones([200, 500])


def dropped(x: tf.Tensor) -> np.ndarray:
    return x.numpy() == 0.0


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
def test_elements_are_dropped_at_the_rate_and_the_mean_stays(rate: float) -> None:
    y = dropout(ONES, rate, SEED, "site")
    # Of 100000 draws the standard deviation of the share is at most 0.0016.
    assert abs(dropped(y).mean() - rate) < 0.008
    np.testing.assert_allclose(y.numpy()[~dropped(y)], 1.0 / (1.0 - rate), rtol=1e-6)
    assert abs(y.numpy().mean() - 1.0) < 0.008 / (1.0 - rate)


def test_no_position_is_favoured() -> None:
    share = dropped(dropout(ONES, 0.5, SEED, "site")).mean(axis=0)  # Of 200 draws for each of 500 positions.
    assert share.min() > 0.3
    assert share.max() < 0.7


@pytest.mark.parametrize(("rate", "seed"), [(0.5, None), (0.0, SEED), (0.0, None)])
def test_without_seed_or_rate_it_is_the_identity(rate: float, seed: np.ndarray | None) -> None:
    assert dropout(ONES, rate, seed, "site") is ONES


def test_one_seed_gives_the_same_draw_eagerly_and_in_a_graph() -> None:
    first = dropout(ONES, 0.5, SEED, "site")
    np.testing.assert_array_equal(first, dropout(ONES, 0.5, tf.constant(SEED), "site"))

    @tf.function
    def in_graph(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return dropout(x, 0.5, seed, "site")

    np.testing.assert_array_equal(first, in_graph(ONES, tf.constant(SEED)))
    open_shape = tf.function(
        in_graph.python_function, input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([2], tf.int32)]
    )
    np.testing.assert_array_equal(first, open_shape(ONES, tf.constant(SEED)))


def test_other_randomness_has_no_part_in_it() -> None:
    first = dropout(ONES, 0.5, SEED, "site")
    tf.random.set_seed(1)
    tf.random.uniform([3])
    np.testing.assert_array_equal(first, dropout(ONES, 0.5, SEED, "site"))


def agreement(a: tf.Tensor, b: tf.Tensor) -> float:
    return float((dropped(a) == dropped(b)).mean())


@pytest.mark.parametrize(
    ("seed", "site"),
    [((3, 6), "site"), ((4, 5), "site"), ((5, 3), "site"), ((3, 5), "site2"), ((3, 5), "etis")],
)
def test_other_seeds_and_sites_draw_independently(seed: tuple[int, int], site: str) -> None:
    # Independent halves agree in half of the places.
    other = dropout(ONES, 0.5, np.array(seed, np.int32), site)
    assert abs(agreement(dropout(ONES, 0.5, SEED, "site"), other) - 0.5) < 0.01


def test_a_sites_draw_does_not_depend_on_the_other_sites() -> None:
    alone = dropout(ONES, 0.5, SEED, "b")
    dropout(ONES, 0.5, SEED, "a")
    np.testing.assert_array_equal(alone, dropout(ONES, 0.5, SEED, "b"))


def test_seeds_of_sites_are_seeds_again() -> None:
    names = [f"layer_{i}/{kind}" for i in range(50) for kind in ("attention", "dense")]
    seeds = [site_seed(tf.constant(SEED), name) for name in names]
    assert {(s.dtype, tuple(s.shape)) for s in seeds} == {(tf.int32, (2,))}
    assert len({tuple(s.numpy()) for s in seeds}) == len(names)


def test_draws_stay_what_they_are_from_version_to_version() -> None:
    """Else a resumed run and a repeated request would draw otherwise than before."""
    assert site_seed(tf.constant(SEED), "site").numpy().tolist() == [-1045986709, 1766001124]
    y = dropout(tf.ones([8]), 0.5, SEED, "site").numpy()
    assert y.tolist() == [2.0, 2.0, 0.0, 2.0, 2.0, 2.0, 0.0, 0.0]


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
@pytest.mark.parametrize("seed", [None, SEED])
def test_a_rate_that_is_none_is_an_error(rate: float, seed: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match=r"dropout rate of the_site must be in \[0, 1\)\. Received: "):
        dropout(ONES, rate, seed, "the_site")


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
def test_the_type_stays_and_the_draw_is_the_same_in_each(dtype: tf.DType) -> None:
    y = dropout(tf.cast(ONES, dtype), 0.25, SEED, "site")
    assert y.dtype == dtype
    np.testing.assert_array_equal(
        tf.cast(y, tf.float32).numpy() == 0.0, dropped(dropout(ONES, 0.25, SEED, "site"))
    )


def test_gradients_pass_where_elements_were_kept() -> None:
    x = tf.Variable(ONES)
    with tf.GradientTape() as tape:
        y = dropout(x, 0.5, SEED, "site")
    np.testing.assert_array_equal(tape.gradient(y, x), y)


@pytest.mark.parametrize(
    ("axes", "drawn"), [((1, 2), (64, 1, 1, 8)), ((1, 2, 3), (64, 1, 1, 1)), ((0,), (1, 6, 7, 8))]
)
def test_one_draw_serves_all_elements_along_broadcast_axes(
    axes: tuple[int, ...], drawn: tuple[int, ...]
) -> None:
    y = dropped(dropout(tf.ones([64, 6, 7, 8]), 0.5, SEED, "site", broadcast_axes=axes))
    one = y[tuple(slice(0, size) for size in drawn)]
    np.testing.assert_array_equal(y, np.broadcast_to(one, y.shape))
    assert abs(one.mean() - 0.5) < 0.3
