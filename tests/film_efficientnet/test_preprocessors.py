"""Images to floats, and RT-1's random shift."""

import numpy as np
import pytest
import tensorflow as tf

from film_efficientnet.preprocessors import random_shift, shift_padding, to_float


def test_to_float() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = to_float(tf.constant(pixels))
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, pixels / 255.0, atol=1e-7)
    floats = tf.constant([0.25, 1.0])
    assert to_float(floats) is floats


@pytest.mark.parametrize("dtype", [tf.int32, tf.float64, tf.uint16])
def test_other_types_are_refused(dtype: tf.DType) -> None:
    with pytest.raises(ValueError, match=f"uint8 or float32.*{dtype.name}"):
        to_float(tf.zeros([2, 2, 3], dtype))


def test_padding_by_height() -> None:
    assert shift_padding(256) == (20, 50)
    assert shift_padding(512) == (40, 100)
    assert shift_padding(236) == (0, 0)


def _content() -> np.ndarray:
    """Every pixel's value names its place; none is zero."""
    rows, columns = np.mgrid[1:17, 1:21]
    return np.stack([rows, columns, rows + columns], axis=-1).astype(np.float32)


def _offset(shifted: np.ndarray, padding: tuple[int, int]) -> tuple[int, int]:
    """By how much the content moved (down, right): checked pixel by pixel, with zeros behind it."""
    content = _content()
    height, width, _ = content.shape
    rows, columns = padding
    for down in range(-rows, rows + 1):
        for right in range(-columns, columns + 1):
            expected = np.zeros_like(content)
            to_rows = slice(max(down, 0), height + min(down, 0))
            to_columns = slice(max(right, 0), width + min(right, 0))
            from_rows = slice(max(-down, 0), height + min(-down, 0))
            from_columns = slice(max(-right, 0), width + min(-right, 0))
            expected[to_rows, to_columns] = content[from_rows, from_columns]
            if np.array_equal(shifted, expected):
                return down, right
    raise AssertionError("not a shift of the content with zeros behind it")


def test_content_moves_and_zeros_come_in() -> None:
    padding = (3, 5)
    found = {_offset(random_shift(_tensor(), padding, _seed(i)).numpy(), padding) for i in range(120)}
    downs, rights = {d for d, _ in found}, {r for _, r in found}
    assert downs == set(range(-3, 4))  # Both ends are reached.
    assert rights == set(range(-5, 6))
    assert len(found) > 30


def test_the_two_axes_are_drawn_independently() -> None:
    """With equal padding one draw for both would leave the content on the diagonal."""
    found = [_offset(random_shift(_tensor(), (4, 4), _seed(i)).numpy(), (4, 4)) for i in range(20)]
    assert any(down != right for down, right in found)


def _tensor() -> tf.Tensor:
    return tf.constant(_content())


def _seed(i: int) -> tf.Tensor:
    return tf.constant([7, i])


def test_one_offset_for_the_whole_call() -> None:
    windows = tf.tile(_tensor()[None, None], [2, 3, 1, 1, 1])
    shifted = random_shift(windows, (3, 5), _seed(0)).numpy()
    assert _offset(shifted[0, 0], (3, 5)) != (0, 0)
    np.testing.assert_array_equal(shifted, np.broadcast_to(shifted[0, 0], shifted.shape))


def test_the_seed_decides() -> None:
    first, again = (random_shift(_tensor(), (3, 5), _seed(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert any(not np.array_equal(first, random_shift(_tensor(), (3, 5), _seed(i))) for i in range(2, 5))


def test_without_padding_the_image_stays() -> None:
    image = tf.ones([236, 236, 3])
    assert random_shift(image, shift_padding(236), _seed(0)) is image


def test_compiled_with_unknown_batch() -> None:
    compiled = tf.function(
        lambda x, s: random_shift(x, (3, 5), s),
        input_signature=[tf.TensorSpec((None, 16, 20, 3)), tf.TensorSpec((2,), tf.int32)],
    )
    found = compiled(_tensor()[None], _seed(4))
    np.testing.assert_array_equal(found[0], random_shift(_tensor(), (3, 5), _seed(4)))
    assert compiled.get_concrete_function().output_shapes == tf.TensorShape([None, 16, 20, 3])
