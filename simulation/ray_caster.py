"""Colour and depth of a few simple bodies on a table, by casting one ray for each pixel.

Both come from the same rays, so depth is exactly that of what the picture shows. Metres; z is up and the
table is the plane z = 0.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

Colour = tuple[float, float, float]
_LIGHT = np.array([0.35, -0.45, 0.82])
_AMBIENT, _SHADOW = 0.45, 0.62
_NOWHERE = np.inf


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
      position, target: where it is, and the point in the middle of its picture.
      field_of_view: of the picture's height, radians.
      height, width: of the picture in pixels.
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    field_of_view: float
    height: int
    width: int

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return self.height / 2 / math.tan(self.field_of_view / 2)

    @property
    def axes(self) -> np.ndarray:
        """float64 [3, 3]: the picture's right, its down, and ahead, as rows."""
        ahead = np.subtract(self.target, self.position)
        ahead = ahead / np.linalg.norm(ahead)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        right = right / np.linalg.norm(right)
        return np.stack([right, np.cross(ahead, right), ahead])

    def rays(self) -> np.ndarray:
        """Directions, float64 [h, w, 3], of length 1 along the optical axis: lengths in them are depths."""
        x = (np.arange(self.width) + 0.5 - self.width / 2) / self.focal
        y = (np.arange(self.height) + 0.5 - self.height / 2) / self.focal
        grid = np.stack([*np.meshgrid(x, y), np.ones((self.height, self.width))], axis=-1)
        return grid @ self.axes

    def window(self, centre: np.ndarray, radius: float) -> tuple[slice, slice]:
        """Rows and columns outside of which a ball cannot be seen."""
        x, y, z = self.axes @ (centre - np.array(self.position))
        if z - radius < 0.01:
            return slice(None), slice(None)
        reach = (
            self.focal * radius / (z - radius)
            + 2
            + math.hypot(x, y) * self.focal * radius / (z * (z - radius))
        )
        row, column = self.height / 2 + self.focal * y / z, self.width / 2 + self.focal * x / z
        return _clipped(row, reach, self.height), _clipped(column, reach, self.width)


class Body(Protocol):
    """Something that rays hit."""

    @property
    def colour(self) -> Colour:
        """RGB in [0, 1] in full light."""

    def ball(self) -> tuple[np.ndarray, float]:
        """Centre and radius of a ball that holds it."""

    def hit(self, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """Lengths of the rays [..., 3] to it, infinite where they miss."""

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Unit normals at points [n, 3] on it."""

    def shades(self, points: np.ndarray) -> np.ndarray:
        """bool [...]: which points [..., 2] of the table are right below it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Capsule:
    """A round bar from a to b, float [3] each; a ball where they are the same."""

    a: np.ndarray
    b: np.ndarray
    radius: float
    colour: Colour

    def ball(self) -> tuple[np.ndarray, float]:
        return (self.a + self.b) / 2, float(np.linalg.norm(self.b - self.a)) / 2 + self.radius

    def hit(self, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
        caps = [_hit_ball(origin - end, rays, self.radius) for end in (self.a, self.b)]
        length = float(np.linalg.norm(self.b - self.a))
        if length == 0:
            return caps[0]
        axis = (self.b - self.a) / length
        along = rays @ axis
        start = origin - self.a
        start_along = start @ axis
        side = _hit_ball(start - start_along * axis, rays - along[..., None] * axis, self.radius)
        height = start_along + np.where(np.isfinite(side), side, 0.0) * along
        side = np.where((height >= 0) & (height <= length), side, _NOWHERE)
        return np.minimum(side, np.minimum(*caps))

    def normals(self, points: np.ndarray) -> np.ndarray:
        bar = self.b - self.a
        share = np.clip((points - self.a) @ bar / max(float(bar @ bar), 1e-12), 0.0, 1.0)
        return (points - self.a - share[:, None] * bar) / self.radius

    def shades(self, points: np.ndarray) -> np.ndarray:
        a, bar = self.a[:2], (self.b - self.a)[:2]
        share = np.clip((points - a) @ bar / max(float(bar @ bar), 1e-12), 0.0, 1.0)
        return ((points - a - share[..., None] * bar) ** 2).sum(axis=-1) < self.radius**2


@dataclasses.dataclass(frozen=True, eq=False)
class Box:
    """A box with centre float [3] and half its sizes float [3], turned about the vertical."""

    centre: np.ndarray
    half: np.ndarray
    yaw: float
    colour: Colour

    def ball(self) -> tuple[np.ndarray, float]:
        return self.centre, float(np.linalg.norm(self.half))

    def hit(self, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
        start, way = (origin - self.centre) @ self._turn(), rays @ self._turn()
        way = np.where(np.abs(way) < 1e-12, 1e-12, way)
        first, second = (-self.half - start) / way, (self.half - start) / way
        entry = np.minimum(first, second).max(axis=-1)
        leave = np.maximum(first, second).min(axis=-1)
        return np.where((entry <= leave) & (entry > 0), entry, _NOWHERE)

    def normals(self, points: np.ndarray) -> np.ndarray:
        local = (points - self.centre) @ self._turn() / self.half
        axis = np.abs(local).argmax(axis=1)
        sides = np.eye(3)[axis] * np.sign(local)
        return sides @ self._turn().T

    def shades(self, points: np.ndarray) -> np.ndarray:
        local = (points - self.centre[:2]) @ self._turn()[:2, :2]
        return (np.abs(local) < self.half[:2]).all(axis=-1)

    def _turn(self) -> np.ndarray:
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def render(
    camera: Camera, bodies: Sequence[Body], table: Colour, backdrop: Colour
) -> tuple[np.ndarray, np.ndarray]:
    """Draws bodies on a table.

    Args:
      camera: from where.
      bodies: what stands or hangs above the table.
      table, backdrop: RGB in [0, 1] of the table, and of what is beyond its horizon.

    Returns:
      (float64 [h, w, 3] RGB in [0, 1], float64 [h, w] depth in metres, infinite at the backdrop).
    """
    origin, rays = np.array(camera.position), camera.rays()
    down = np.minimum(rays[..., 2], -1e-9)
    depth = np.where(rays[..., 2] < -1e-9, -origin[2] / down, _NOWHERE)
    seen = np.isfinite(depth)
    ground = origin[:2] + np.where(seen, depth, 0.0)[..., None] * rays[..., :2]
    nearest = np.full(depth.shape, -1)
    dark = np.zeros(depth.shape, bool)
    for i, body in enumerate(bodies):
        centre, radius = body.ball()
        window = camera.window(centre, radius)
        length = body.hit(origin, rays[window])
        nearer = length < depth[window]
        depth[window] = np.where(nearer, length, depth[window])
        nearest[window] = np.where(nearer, i, nearest[window])
        window = camera.window(np.append(centre[:2], 0.0), radius)
        dark[window] |= body.shades(ground[window])
    image = np.where(seen[..., None], np.array(table), np.array(backdrop))
    image = image * np.where(dark & seen, _SHADOW, 1.0)[..., None]
    for i, body in enumerate(bodies):
        there = nearest == i
        points = origin + depth[there][:, None] * rays[there]
        facing = np.clip(body.normals(points) @ (_LIGHT / np.linalg.norm(_LIGHT)), 0.0, 1.0)
        image[there] = np.array(body.colour) * (_AMBIENT + (1 - _AMBIENT) * facing)[:, None]
    return image, depth


def _hit_ball(start: np.ndarray, rays: np.ndarray, radius: float) -> np.ndarray:
    """Lengths of rays from ``start`` to a ball around the origin; to a bar, one axis projected out."""
    a = np.maximum((rays * rays).sum(axis=-1), 1e-12)
    b = rays @ start
    discriminant = b * b - a * (start @ start - radius * radius)
    length = (-b - np.sqrt(np.maximum(discriminant, 0.0))) / a
    return np.where((discriminant >= 0) & (length > 0), length, _NOWHERE)


def _clipped(middle: float, reach: float, size: int) -> slice:
    start = min(max(math.floor(middle - reach), 0), size)
    return slice(start, min(max(math.ceil(middle + reach), start), size))
