"""Drawn predictions stand where the parameters say."""

import numpy as np
import pytest

from rt1.drawing import PREDICTED_COLOUR, TRUE_COLOUR, draw_parameters, prediction_grid

BLACK = np.zeros((100, 200, 3), np.uint8)


def near(image, x, y, colour):
    """Whether the pixel at the fractions (x, y) has about that colour."""
    return np.abs(image[round(y * image.shape[0]), round(x * image.shape[1])].astype(int) - colour).max() < 40


def test_arrow_goes_from_the_first_point_to_the_second():
    image = draw_parameters(BLACK, np.array([0.1, 0.5, 0.9, 0.5]), (255, 0, 0))
    for x in (0.11, 0.3, 0.5, 0.88):
        assert near(image, x, 0.5, (255, 0, 0))
    assert not near(image, 0.95, 0.5, (255, 0, 0)) and not near(image, 0.05, 0.5, (255, 0, 0))
    # The tip is at the second point: it is wide there and not at the first.
    wide = (image[..., 0] > 100).sum(axis=0)
    assert wide[150:180].max() > 2 * wide[20:50].max()
    assert not BLACK.any()


@pytest.mark.parametrize("parameters", [[-9, -9, 20, 20], [1e9, 0, -1e9, 1], [0.5] * 4])
def test_points_outside_the_image_do_no_harm(parameters):
    assert draw_parameters(BLACK, np.array(parameters), (255, 0, 0)).shape == BLACK.shape


def test_grid_has_both_arrows_and_a_caption():
    images = np.zeros((5, 20, 20, 3), np.float32)
    true = np.tile([0.1, 0.2, 0.9, 0.2], (5, 1))
    predicted = np.tile([0.1, 0.8, 0.9, 0.8], (5, 1))
    grid = prediction_grid(images, predicted, true, ["skewering_banana"] * 5, columns=3, tile=64)
    assert grid.dtype == np.uint8 and grid.shape == (2 * (64 + 22), 3 * 64, 3)
    for column in range(3):
        tile = grid[:64, 64 * column : 64 * (column + 1)]
        assert near(tile, 0.4, 0.2, TRUE_COLOUR) and near(tile, 0.4, 0.8, PREDICTED_COLOUR)
    assert (grid[64:86, :64].max(axis=(0, 1)) > 200).all()
    last = grid[86:, 128:]  # The sixth tile does not exist.
    assert np.ptp(last) == 0


def test_grid_keeps_the_aspect_ratio_and_the_pixels():
    images = np.full((1, 10, 20, 3), 7, np.uint8)
    grid = prediction_grid(images, np.array([[0.5, 0.5, 0.5, 0.5]]), columns=4, tile=40)
    assert grid.shape == (20, 40, 3)
    assert (grid[0, 0] == 7).all()


def test_long_captions_stay_inside_their_tile():
    images = np.zeros((2, 20, 20, 3), np.uint8)
    parameters = np.full((2, 4), 0.5)
    grid = prediction_grid(images, parameters, texts=["w" * 200, ""], columns=2, tile=64)
    assert np.ptp(grid[64:, 64:]) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"predicted": np.zeros((1, 4))},
        {"true": np.zeros((3, 4))},
        {"texts": ["a"]},
        {"images": np.zeros((0, 4, 4, 3)), "predicted": np.zeros((0, 4))},
        {"predicted": np.full((2, 4), np.nan)},
        {"predicted": np.zeros((2, 5))},
    ],
)
def test_wrong_arguments(wrong):
    arguments = {"images": np.zeros((2, 4, 4, 3), np.uint8), "predicted": np.zeros((2, 4)), **wrong}
    with pytest.raises(ValueError, match="Received"):
        prediction_grid(**arguments)


def test_wrong_image():
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        draw_parameters(np.zeros((4, 4, 3), np.float32), np.zeros(4), (1, 2, 3))
