"""Pictures of predictions: the true and the predicted arrow drawn into each image, as one grid."""

from collections.abc import Sequence

import cv2
import numpy as np

TRUE_COLOUR, PREDICTED_COLOUR = (40, 200, 80), (235, 60, 60)  # RGB
_TEXT_COLOUR, _BACKGROUND = (240, 240, 240), (28, 28, 28)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_parameters(
    image: np.ndarray, parameters: np.ndarray, colour: tuple[int, int, int], thickness: int = 2
) -> np.ndarray:
    """Draws the arrow from (x1, y1) to (x2, y2) and a dot at its middle, the skewer point.

    Args:
      image: uint8 [H, W, 3] RGB; it is not changed.
      parameters: float [4], fractions of width and height; they may lie outside the image.
      colour: RGB.
      thickness: of the line, in pixels.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: another shape or type, or parameters that are not finite.
    """
    image, parameters = np.array(image), np.asarray(parameters, np.float64)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"image must be uint8 [H, W, 3]. Received: {image.dtype} {list(image.shape)}")
    if parameters.shape != (4,) or not np.isfinite(parameters).all():
        raise ValueError(f"parameters must be 4 finite numbers. Received: {parameters}")
    height, width = image.shape[:2]
    # OpenCV overflows far outside the picture; nothing is lost by stopping a few widths away.
    points = np.clip(parameters, -4, 5).reshape(2, 2) * (width, height)
    start, end = (tuple(int(v) for v in np.rint(p)) for p in points)
    middle = tuple(int(v) for v in np.rint(points.mean(axis=0)))
    cv2.arrowedLine(image, start, end, colour, thickness, cv2.LINE_AA, tipLength=0.2)
    cv2.circle(image, middle, thickness + 1, colour, -1, cv2.LINE_AA)
    return image


def prediction_grid(
    images: np.ndarray,
    predicted: np.ndarray,
    true: np.ndarray | None = None,
    texts: Sequence[str] | None = None,
    *,
    columns: int = 4,
    tile: int = 256,
) -> np.ndarray:
    """A grid of images with the predicted (red) and the true (green) arrows, and a line of text below each.

    Args:
      images: [n, H, W, 3] RGB, uint8 or float in [0, 1], n > 0.
      predicted: float [n, 4].
      true: float [n, 4]; None where it is not known.
      texts: n instructions; None for no text.
      columns: tiles in a row, at most.
      tile: width of a tile in pixels; its height keeps the image's aspect ratio.

    Returns:
      uint8 [rows × tile height, columns × tile, 3] RGB.

    Raises:
      ValueError: the numbers of images, parameters and texts differ, or there is none.
    """
    images = np.asarray(images)
    n = len(images)
    counts = {len(predicted), n if true is None else len(true), n if texts is None else len(texts)}
    if n == 0 or counts != {n}:
        raise ValueError(f"There must be as many parameters and texts as images, {n} > 0. Received: {counts}")
    if images.dtype != np.uint8:
        images = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    tile_height = max(1, round(tile * images.shape[1] / images.shape[2]))
    tiles = []
    for i in range(n):
        picture = cv2.resize(images[i], (tile, tile_height), interpolation=cv2.INTER_AREA)
        if true is not None:
            picture = draw_parameters(picture, true[i], TRUE_COLOUR)
        picture = draw_parameters(picture, predicted[i], PREDICTED_COLOUR)
        if texts is not None:
            picture = np.concatenate([picture, _caption(texts[i], tile)])
        tiles.append(picture)
    columns = min(columns, n)
    blank = np.full_like(tiles[0], _BACKGROUND)
    tiles += [blank] * (-n % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def _caption(text: str, width: int) -> np.ndarray:
    strip = np.full((22, width, 3), _BACKGROUND, np.uint8)
    scale = 0.45
    (text_width, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    if text_width > width - 8:
        scale *= (width - 8) / text_width
    cv2.putText(strip, text, (4, 15), _FONT, scale, _TEXT_COLOUR, 1, cv2.LINE_AA)
    return strip
