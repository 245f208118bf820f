"""Augmentation moves the label with the image, and off means untouched."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rt1 import augmentation
from rt1.augmentation import Augmentation

SIZE = 24
EVERYTHING = Augmentation(
    shift=(0.2, 0.2), rotate_90=True, brightness=0.2, contrast=0.3, saturation=0.4, sharpness=0.5
)


def seed(number):
    return tf.constant([number, 0], tf.int64)


def picture(number=0, size=SIZE):
    return tf.constant(np.random.default_rng(number).random((size, size, 3), np.float32))


def dots(points, size=SIZE):
    """A black image with one bright pixel for each point, each of its own colour."""
    image = np.zeros((size, size, 3), np.float32)
    for channel, (x, y) in enumerate(points):
        image[int(y * size), int(x * size), channel] = 1
    return tf.constant(image)


def found(image):
    """Where the bright pixel of each of the first two channels is, in fractions (of pixel centres)."""
    points = []
    for channel in range(2):
        rows, columns = np.nonzero(image.numpy()[..., channel])
        assert len(rows) == 1
        points += [(columns[0] + 0.5) / image.shape[1], (rows[0] + 0.5) / image.shape[0]]
    return np.array(points)


CELL = st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1))


def centres(cells):
    return [((x + 0.5) / SIZE, (y + 0.5) / SIZE) for x, y in cells]


@given(CELL, CELL, st.integers(-5, 9))
@settings(max_examples=40, deadline=None)
def test_rotating_image_and_label_commutes_with_drawing(first, second, turns):
    points = centres([first, second])
    image, label = augmentation.rotate_90(dots(points), tf.constant(np.ravel(points), tf.float32), turns)
    np.testing.assert_allclose(found(image), label.numpy(), atol=1e-6)
    np.testing.assert_array_equal(image, np.rot90(dots(points), turns % 4))


@given(CELL, st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_four_quarter_turns_are_none(cell, turns):
    label = tf.constant(np.ravel(centres([cell, (3, 4)])), tf.float32)
    image = picture()
    once = augmentation.rotate_90(image, label, turns)
    back = augmentation.rotate_90(*once, 4 - turns)
    np.testing.assert_array_equal(back[0], image)
    np.testing.assert_allclose(back[1], label, atol=1e-6)


@given(st.tuples(st.integers(8, 15), st.integers(8, 15)), st.integers(-8, 8), st.integers(-8, 8))
@settings(max_examples=40, deadline=None)
def test_shifting_image_and_label_commutes_with_drawing(cell, down, right):
    points = centres([cell, (12, 9)])
    label = tf.constant(np.ravel(points), tf.float32)
    image, label = augmentation.shift(dots(points), label, tf.constant([down, right]))
    np.testing.assert_allclose(found(image), label.numpy(), atol=1e-6)


@pytest.mark.parametrize("frames", [None, 3])
def test_shift_is_padding_with_zeros_and_cropping_back(frames):
    image = picture() if frames is None else tf.stack([picture(i) for i in range(frames)])
    down, right = -3, 5
    pads = [(8, 8), (8, 8), (0, 0)]
    padded = np.pad(image, pads if frames is None else [(0, 0), *pads])
    wanted = padded[..., 8 - down : 8 - down + SIZE, 8 - right : 8 - right + SIZE, :]
    got, label = augmentation.shift(image, None, tf.constant([down, right]))
    np.testing.assert_array_equal(got, wanted)
    assert label is None


@given(st.integers(0, 2**31), st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4))
@settings(max_examples=40, deadline=None)
def test_labels_stay_inside(number, label):
    on = dataclasses.replace(EVERYTHING, shift=(0.5, 0.5))
    image, moved = augmentation.augment(picture(), tf.constant(label, tf.float32), seed(number), on)
    assert (moved.numpy() >= -1e-6).all() and (moved.numpy() <= 1 + 1e-6).all()
    assert (image.numpy() >= 0).all() and (image.numpy() <= 1).all()


def test_drawn_shifts_cover_their_range_and_no_more():
    on = Augmentation(shift=(0.25, 0.125), keep_labels_inside=False)
    drawn = np.array([augmentation.draw_shift(seed(i), (SIZE, SIZE), None, on) for i in range(300)])
    assert sorted(set(drawn[:, 0])) == list(range(-6, 7))
    assert sorted(set(drawn[:, 1])) == list(range(-3, 4))
    # A label at the upper left corner leaves only shifts down and right.
    on = Augmentation(shift=(0.25, 0.125))
    label = tf.constant([0.01, 0.01, 0.5, 0.5])
    drawn = np.array([augmentation.draw_shift(seed(i), (SIZE, SIZE), label, on) for i in range(200)])
    assert sorted(set(drawn[:, 0])) == list(range(7))
    assert sorted(set(drawn[:, 1])) == list(range(4))


def test_official_shift_is_20_rows_and_50_columns():
    on = Augmentation(shift=augmentation.RT1_SHIFT)
    drawn = np.array([augmentation.draw_shift(seed(i), (256, 320), None, on) for i in range(1500)])
    np.testing.assert_array_equal(np.abs(drawn).max(axis=0), [20, 50])


def test_off_is_the_identity_bit_for_bit():
    image, label = picture(), tf.constant([0.1, 0.2, 0.3, 0.4])
    assert Augmentation().is_off
    got, moved = augmentation.augment(image, label, seed(1), Augmentation())
    np.testing.assert_array_equal(got, image)
    np.testing.assert_array_equal(moved, label)


@pytest.mark.parametrize(
    ("function", "neutral"),
    [("brightness", 0.0), ("contrast", 1.0), ("saturation", 1.0), ("sharpness", 1.0)],
)
def test_light_effects(function, neutral):
    adjust = getattr(augmentation, f"adjust_{function}")
    image = picture() * 0.5 + 0.25
    np.testing.assert_allclose(adjust(image, tf.constant(neutral)), image, atol=1e-6)
    changed = adjust(image, tf.constant(neutral - 0.2))
    assert np.abs(changed - image).max() > 0.01
    wild = adjust(image, tf.constant(neutral + 9.0)).numpy()
    assert wild.min() >= 0 and wild.max() <= 1


def test_what_light_effects_mean():
    image = picture() * 0.5 + 0.25
    np.testing.assert_allclose(augmentation.adjust_brightness(image, 0.1), image + 0.1, atol=1e-6)
    flat = augmentation.adjust_contrast(image, tf.constant(0.0)).numpy()
    assert np.ptp(flat) < 1e-5
    grey = augmentation.adjust_saturation(image, tf.constant(0.0)).numpy()
    assert np.ptp(grey, axis=-1).max() < 1e-6
    smooth = augmentation.adjust_sharpness(image, tf.constant(0.0)).numpy()
    weights = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]])[..., None] / 13
    np.testing.assert_allclose(smooth[5, 7], (image[4:7, 6:9] * weights).numpy().sum((0, 1)), atol=1e-6)
    np.testing.assert_allclose(smooth[0], image[0], atol=1e-6)


@pytest.mark.parametrize("effect", ["brightness", "contrast", "saturation", "sharpness"])
def test_light_leaves_the_label_alone(effect):
    label = tf.constant([0.1, 0.2, 0.3, 0.4])
    image, got = augmentation.augment(picture(), label, seed(3), Augmentation(**{effect: 0.5}))
    np.testing.assert_array_equal(got, label)
    assert np.abs(image - picture()).max() > 1e-3


def test_draws_follow_the_seed_alone():
    label = tf.constant([0.4, 0.4, 0.6, 0.6])
    tf.random.set_seed(1)
    one = augmentation.augment(picture(), label, seed(5), EVERYTHING)
    tf.random.set_seed(2)
    same = augmentation.augment(picture(), label, seed(5), EVERYTHING)
    other = augmentation.augment(picture(), label, seed(6), EVERYTHING)
    np.testing.assert_array_equal(one[0], same[0])
    assert np.abs(one[0] - other[0]).max() > 0.1


def test_an_effect_does_not_change_the_draws_of_another():
    label = tf.constant([0.4, 0.4, 0.6, 0.6])
    with_light = augmentation.augment(picture(), label, seed(5), EVERYTHING)
    alone = augmentation.augment(
        picture(), label, seed(5), Augmentation(shift=EVERYTHING.shift, rotate_90=True)
    )
    np.testing.assert_array_equal(with_light[1], alone[1])


def test_seeds_of_examples_and_epochs_differ():
    seeds = {
        tuple(augmentation.example_seed(s, e, tf.constant(i, tf.int64)).numpy())
        for s in range(3)
        for e in range(3)
        for i in range(10)
    }
    assert len(seeds) == 90


def test_frames_of_a_window_are_changed_alike():
    frames = tf.stack([picture()] * 3)
    settings_ = dataclasses.replace(EVERYTHING, rotate_90=False)
    image, label = augmentation.augment(frames, None, seed(4), settings_)
    assert label is None
    np.testing.assert_array_equal(image[0], image[2])
    assert np.abs(image - frames).max() > 0.1


def test_rotation_is_refused_where_it_would_be_wrong():
    with pytest.raises(ValueError, match="needs a label"):
        augmentation.augment(picture(), None, seed(0), EVERYTHING)
    with pytest.raises(ValueError, match="Only square images"):
        augmentation.augment(picture()[:10], tf.constant([0.1] * 4), seed(0), Augmentation(rotate_90=True))


@pytest.mark.parametrize(
    "wrong", [{"shift": (0.1,)}, {"shift": (1.0, 0)}, {"brightness": -0.1}, {"contrast": 1.5}]
)
def test_strengths_out_of_range(wrong):
    with pytest.raises(ValueError, match="Received"):
        Augmentation(**wrong)
