"""From the parts of a portion to layers of pixels: coverage, colour, height, gloss.

Parts are painted one over the other in their order. What they cover is computed for many at once: parts
of one kind of shape and about one size share arrays [k, w, w] of windows around them. A portion has some
dozens of pieces of a few pixels each, and one array operation a piece would cost mostly Python.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from simulation import shapes
from simulation.foods import Part

# Beyond this distance (local units) from a portion its ``nearest`` is not computed and says this.
REACH = 0.08
# Parts lifted this high rest on others, whose outlines make the shadow: they need no reach of their own.
_RESTING = 0.3
_LAYERS = 6


class Pose(Protocol):
    """Where a portion lies: centre, direction of its u axis and half its major axis, normalised."""

    @property
    def x(self) -> float: ...
    @property
    def y(self) -> float: ...
    @property
    def angle(self) -> float: ...
    @property
    def size(self) -> float: ...


@dataclasses.dataclass(frozen=True)
class Portion:
    """The pixels of a portion, on a piece [h, w] of the picture's raster that reaches a little beyond it.

    Attributes:
      top, left: the picture's row and column of the piece's first pixel.
      colour: float32 [3, h, w], RGB in [0, 1] times the coverage.
      gloss, grain, height: float32 [h, w], times the coverage; grain is how much of the look's texture
        shows, height is in local units.
      nearest: float32 [h, w], signed distance to the portion's outline in local units, at most ``REACH``.
    """

    top: int
    left: int
    colour: np.ndarray
    gloss: np.ndarray
    grain: np.ndarray
    height: np.ndarray
    nearest: np.ndarray


def rasterise(parts: Sequence[Part], pose: Pose, n: int, margin: int) -> Portion | None:
    """Paints the parts of a portion at ``pose`` on a raster of n x n pixels for the whole picture.

    ``margin`` is how many pixels are kept free around them. Returns None for a portion of which no pixel
    is within ``margin`` of the picture.
    """
    windows = _windows(parts, pose, n)
    corner = np.maximum(windows[:, :2].min(axis=0), 0) - margin
    end = np.minimum((windows[:, :2] + windows[:, 2:]).max(axis=0), n) + margin
    height, width = (end - corner).tolist()
    if height <= 0 or width <= 0:
        return None
    layers = np.zeros((_LAYERS, height, width), np.float32)
    nearest = np.full((height, width), REACH, np.float32)
    painted: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for members in _groups(parts, windows):
        distance, keep, paint = _cover([parts[i] for i in members], windows[members], pose, n)
        for k, i in enumerate(members):
            painted[i] = distance[k], keep[k], paint[k]
    for index, (row, column, size) in enumerate((windows - (*corner, 0)).tolist()):
        distance, keep, paint = painted[index]
        # What of the window is on the piece: in the piece's count, and in the window's.
        top, left, bottom, right = (
            max(row, 0),
            max(column, 0),
            min(row + size, height),
            min(column + size, width),
        )
        if top >= bottom or left >= right:
            continue
        at = slice(top, bottom), slice(left, right)
        of = slice(top - row, bottom - row), slice(left - column, right - column)
        under = layers[:, *at]
        under *= keep[:, *of]
        under += paint[:, *of]
        np.minimum(nearest[at], distance[of], out=nearest[at])
    return Portion(int(corner[0]), int(corner[1]), layers[:3], layers[3], layers[4], layers[5], nearest)


def _windows(parts: Sequence[Part], pose: Pose, n: int) -> np.ndarray:
    """int [k, 3]: first row, first column and size of a square that holds each part and its reach."""
    circles = np.array([part.shape.circle() for part in parts])
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    x = (pose.x + pose.size * (cos * circles[:, 0] - sin * circles[:, 1])) * n
    y = (pose.y + pose.size * (sin * circles[:, 0] + cos * circles[:, 1])) * n
    reach = np.array([REACH if part.lift < _RESTING else 0.0 for part in parts])
    least = 2.0 * n * pose.size * (circles[:, 2] + reach) + 2.0
    # Sizes in steps of a quarter to a third, so that few groups take all.
    octave = np.exp2(np.floor(np.log2(least)))
    sizes = np.ceil(np.ceil(4.0 * least / octave) * octave / 4.0)
    corners = np.floor(np.stack([y, x], axis=1) - 0.5 * sizes[:, None])
    return np.concatenate([corners, sizes[:, None] + 1.0], axis=1).astype(int)


def _groups(parts: Sequence[Part], windows: np.ndarray) -> list[list[int]]:
    """The parts' indices, grouped by kind of shape and size of window."""
    groups: dict[tuple[type, int], list[int]] = {}
    for index, (part, size) in enumerate(zip(parts, windows[:, 2].tolist(), strict=True)):
        groups.setdefault((type(part.shape), size), []).append(index)
    return list(groups.values())


def _cover(
    parts: Sequence[Part], windows: np.ndarray, pose: Pose, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parts of one kind and window size w.

    Returns:
      distance [k, w, w], what is kept of the layers below [k, 1, w, w], what is added [k, 6, w, w].
    """
    size = int(windows[0, 2])
    u, v = local_frame(pose, n, windows[:, 0], windows[:, 1], size, size)
    distance = shapes.stacked([part.shape for part in parts]).distance(u, v)
    cover = coverage(distance, n * pose.size)
    surface = np.array(
        [
            (*part.colour, part.gloss, part.texture, part.lift, part.dome, part.rim, 1.0 / part.round)
            for part in parts
        ],
        np.float32,
    )[..., None, None]
    surface[:, :3] /= 255.0
    dome, rim, steepness = surface[:, 6], surface[:, 7], surface[:, 8]
    # 1 at the outline, 0 from ``round`` inwards; squared, so that the top is a quarter of an ellipse.
    outer = np.maximum(1.0 + np.minimum(distance, 0.0) * steepness, 0.0)
    outer *= outer
    paint = surface[:, :_LAYERS] * cover[:, None]
    paint[:, :3] *= (1.0 - rim * outer)[:, None]
    paint[:, 5] += cover * dome * np.sqrt(1.0 - outer)
    return distance, 1.0 - cover[:, None], paint


def coverage(distance: np.ndarray, pixels: float) -> np.ndarray:
    """How much of a pixel lies inside an outline at this distance; ``pixels`` to the unit."""
    return np.minimum(np.maximum(0.5 - distance * pixels, 0.0), 1.0)


def local_frame(
    pose: Pose, n: int, rows: np.ndarray, columns: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """u and v, float32 [k, height, width], of k windows of pixels given by first rows and columns [k]."""
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    down = ((rows[:, None] + np.arange(height) + 0.5) / n - pose.y) / pose.size
    right = ((columns[:, None] + np.arange(width) + 0.5) / n - pose.x) / pose.size
    dy, dx = down.astype(np.float32)[:, :, None], right.astype(np.float32)[:, None, :]
    return cos * dx + sin * dy, cos * dy - sin * dx
