"""Pictures of a prediction: what was seen with the points looked at, what was expected next, what came."""

import cv2
import numpy as np

from sarnn_tf.image_modality import ImageModality
from sarnn_tf.layers.conv_stack import BORDER

BLUE, RED = (0, 0, 255), (255, 0, 0)
SHORTEST_SIDE = 192
"""Of a drawn image: points on 64 pixels would hide what they point at."""


def to_rgb(images: np.ndarray) -> np.ndarray:
    """Images of a network as pictures.

    Args:
      images: [..., h, w, 3 or 1] float32; what lies beyond [0, 1] is cut off.

    Returns:
      uint8 [..., h, w, 3]; one channel becomes grey.
    """
    pixels = np.rint(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def border_of(modality: ImageModality, grid: int | None = None) -> tuple[float, float]:
    """How far the outermost attention points are from the image's edges: rows and columns, in pixels.

    A point in [0, 1] runs over the map that it was found in, from the centre of its first cell to that of
    its last one.

    Args:
      modality: of the image.
      grid: rows and columns of CLIP's patch map; None for the map behind the convolutions.
    """
    height, width = modality.size
    if grid is None:
        return BORDER / 2, BORDER / 2
    return (height / grid - 1) / 2, (width / grid - 1) / 2


def draw_points(
    image: np.ndarray,
    found: np.ndarray,
    expected: np.ndarray,
    found_border: tuple[float, float] = (BORDER / 2, BORDER / 2),
) -> np.ndarray:
    """An image, enlarged, with the encoder's points (blue o) and the decoder's (red x).

    Args:
      image: uint8 [h, w, 3] RGB.
      found: [2 k] as x0, y0, x1, …, in [0, 1]: where the encoder looks.
      expected: [2 k]: where it will look next, by the decoder. Points beyond the image are drawn at its edge.
      found_border: ``border_of`` the encoder's map; the decoder's is always the one behind the convolutions.

    Returns:
      uint8 [H, W, 3] RGB, enlarged by a whole factor.
    """
    scale = max(1, -(-SHORTEST_SIDE // min(image.shape[:2])))
    height, width = image.shape[:2]
    picture = np.ascontiguousarray(np.repeat(np.repeat(image, scale, axis=0), scale, axis=1))
    size = max(5, min(picture.shape[:2]) // 32)
    width_of_line = max(2, size // 3)
    for x, y in _pixels(found, height, width, found_border, scale):
        cv2.circle(picture, (x, y), size, BLUE, width_of_line, cv2.LINE_AA)
    for x, y in _pixels(expected, height, width, (BORDER / 2, BORDER / 2), scale):
        cv2.line(picture, (x - size, y - size), (x + size, y + size), RED, width_of_line, cv2.LINE_AA)
        cv2.line(picture, (x - size, y + size), (x + size, y - size), RED, width_of_line, cv2.LINE_AA)
    return picture


def draw_prediction(
    seen: np.ndarray,
    predicted: np.ndarray,
    truth: np.ndarray,
    found: np.ndarray,
    expected: np.ndarray,
    found_border: tuple[float, float] = (BORDER / 2, BORDER / 2),
) -> np.ndarray:
    """Three images side by side: the one seen with its points, the predicted next one, the true next one.

    Args:
      seen, predicted, truth: [h, w, 3 or 1] float32, in [0, 1] but for errors.
      found, expected, found_border: see ``draw_points``.

    Returns:
      uint8 [H, 3 W, 3] RGB.
    """
    with_points = draw_points(to_rgb(seen), found, expected, found_border)
    scale = with_points.shape[0] // seen.shape[0]
    others = [np.repeat(np.repeat(to_rgb(x), scale, axis=0), scale, axis=1) for x in (predicted, truth)]
    return np.concatenate([with_points, *others], axis=1)


def _pixels(
    points: np.ndarray, height: int, width: int, border: tuple[float, float], scale: int
) -> list[tuple[int, int]]:
    """Points [2 k] as pixels (x, y) of an image of height and width that was enlarged."""
    size = np.array([width, height], np.float64)
    edge = np.array([border[1], border[0]], np.float64)
    # The centre of an enlarged pixel lies in the midst of its copies.
    places = (edge + points.reshape(-1, 2) * (size - 1 - 2 * edge)) * scale + (scale - 1) / 2
    places = np.clip(np.nan_to_num(places), 0, size * scale - 1)
    return [(round(x), round(y)) for x, y in places.tolist()]
