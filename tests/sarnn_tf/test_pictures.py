"""What pictures of predictions show, and where."""

import numpy as np
import pytest

from sarnn_tf.image_modality import ImageModality
from sarnn_tf.pictures import BLUE, RED, border_of, draw_points, draw_prediction, to_rgb


def is_drawn(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(picture.astype(int) - np.array(colour)).max(axis=-1) < 60


def centre_of(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Row and column of the midst of what has about that colour."""
    rows, columns = np.nonzero(is_drawn(picture, colour))
    assert len(rows)
    return rows.mean(), columns.mean()


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (1.0, 0.0), (0.25, 0.75), (0.5, 1.0)])
def test_points_are_where_their_pixel_is(x: float, y: float) -> None:
    """A point that runs over the map behind the convolutions: three pixels in from the edge."""
    image = np.full((48, 64, 3), 90, np.uint8)
    picture = draw_points(image, np.array([x, y]), np.array([1 - x, 1 - y]))
    scale = picture.shape[0] // 48
    assert picture.shape == (48 * scale, 64 * scale, 3) and scale == 4
    for colour, (px, py) in ((BLUE, (x, y)), (RED, (1 - x, 1 - y))):
        row, column = centre_of(picture, colour)
        assert row == pytest.approx((3 + py * 41 + 0.5) * scale - 0.5, abs=1.0)
        assert column == pytest.approx((3 + px * 57 + 0.5) * scale - 0.5, abs=1.0)


def test_points_on_clips_patches_are_in_their_midst() -> None:
    border = border_of(ImageModality("image", size=(70, 140)), grid=7)
    picture = draw_points(
        np.zeros((70, 140, 3), np.uint8), np.array([1.0, 0.0]), np.array([0.5, 0.5]), border
    )
    scale = picture.shape[0] // 70
    row, column = centre_of(picture, BLUE)
    assert (row / scale, column / scale) == pytest.approx((5, 130), abs=0.6)


def test_points_beyond_the_image_are_at_its_edge() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    picture = draw_points(image, np.array([-9.0, 9.0, -np.inf, 0.5]), np.array([np.inf, 0.5]))
    assert is_drawn(picture, BLUE)[-8:, :8].any() and is_drawn(picture, BLUE)[90:100, :8].any()
    assert is_drawn(picture, RED)[90:100, -8:].any()
    assert not image.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_three_images_stand_side_by_side(channels: int) -> None:
    seen, predicted, truth = (np.full((50, 40, channels), v, np.float32) for v in (0.2, 1.7, 0.6))
    picture = draw_prediction(seen, predicted, truth, np.array([0.5, 0.5]), np.array([0.1, 0.1]))
    assert picture.dtype == np.uint8 and picture.shape == (250, 600, 3)
    assert (
        (picture[-1, 0] == 51).all()
        and (picture[:, 200:400] == 255).all()
        and (picture[:, 400:] == 153).all()
    )


def test_pixels_are_rounded_and_cut_off() -> None:
    found = to_rgb(np.array([[[-0.1], [0.5], [2.0]]], np.float32))
    np.testing.assert_array_equal(found, np.repeat([[[0], [128], [255]]], 3, axis=-1))
