"""Plane shapes as signed distance functions: what the pieces of a food are made of.

A shape lives in the local frame of its item, whose unit is half the item's major axis. Its
``distance`` is negative inside, positive outside and, near the outline, the distance to it, so that
coverage at any resolution is a clamp of it. The formulas are the usual ones of the field
(https://iquilezles.org/articles/distfunctions2d/ lists them).

The fields of a shape are numbers, or arrays [k, 1, 1] for k shapes of a kind at once (``stacked``): a
picture has some hundred small pieces, and evaluating them one by one costs mostly Python.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class Shape(Protocol):
    """A plane shape: a signed distance and a circle around it."""

    def distance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The signed distance at float32 points (u, v) [..., h, w], in local units."""
        ...

    def circle(self) -> tuple[float, float, float]:
        """Centre u, centre v and radius of a circle that holds the (one) shape."""
        ...


def stacked(shapes: Sequence[Any]) -> Any:
    """One shape with fields float32 [k, 1, 1] for k shapes of one class."""
    fields = zip(*(vars(shape).values() for shape in shapes), strict=True)
    return type(shapes[0])(*(np.array(values, np.float32)[:, None, None] for values in fields))


def _turned(u: np.ndarray, v: np.ndarray, x: float, y: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The points as seen from a frame at (x, y) turned by ``angle`` radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = u - x, v - y
    return cos * u + sin * v, cos * v - sin * u


@dataclasses.dataclass(frozen=True)
class Ellipse:
    """An ellipse with semi-axes a, b."""

    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0

    def distance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        u, v = _turned(u, v, self.x, self.y, self.angle)
        return self._from_level(u / self.a, v / self.b, 1.0)

    def _from_level(self, u: np.ndarray, v: np.ndarray, edge: float | np.ndarray) -> np.ndarray:
        # First-order distance: how far the level is from the edge's, over the length of its gradient.
        level = np.sqrt(u * u + v * v) + 1e-6
        u, v = u / self.a, v / self.b
        return (level - edge) * level / (np.sqrt(u * u + v * v) + 1e-6)

    def circle(self) -> tuple[float, float, float]:
        return self.x, self.y, max(self.a, self.b)


@dataclasses.dataclass(frozen=True)
class Ruffle(Ellipse):
    """An ellipse whose outline waves by the fraction ``depth``, ``waves`` times around it."""

    depth: float = 0.1
    waves: int = 6

    def distance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        u, v = _turned(u, v, self.x, self.y, self.angle)
        u, v = u / self.a, v / self.b
        return self._from_level(u, v, 1.0 + self.depth * np.sin(self.waves * np.arctan2(v, u)))

    def circle(self) -> tuple[float, float, float]:
        return self.x, self.y, max(self.a, self.b) * (1.0 + self.depth)


@dataclasses.dataclass(frozen=True)
class Capsule:
    """A rounded stroke from (x1, y1) to (x2, y2) whose radius goes from r1 to r2."""

    x1: float
    y1: float
    x2: float
    y2: float
    r1: float
    r2: float

    def distance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        du, dv = self.x2 - self.x1, self.y2 - self.y1
        u, v = u - self.x1, v - self.y1
        along = np.clip((u * du + v * dv) / (du * du + dv * dv), 0.0, 1.0)
        u, v = u - along * du, v - along * dv
        return np.sqrt(u * u + v * v) - (self.r1 + along * (self.r2 - self.r1))

    def circle(self) -> tuple[float, float, float]:
        half = 0.5 * math.hypot(self.x2 - self.x1, self.y2 - self.y1)
        return 0.5 * (self.x1 + self.x2), 0.5 * (self.y1 + self.y2), half + max(self.r1, self.r2)


@dataclasses.dataclass(frozen=True)
class Arc:
    """A bent stroke of half-width r on a circle of ``radius`` about (x, y).

    It reaches ``opening`` radians to both sides of ``angle``; ``taper`` is the fraction of its width
    lost at its ends.
    """

    x: float
    y: float
    radius: float
    angle: float
    opening: float
    r: float
    taper: float = 0.0

    def distance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        u, v = _turned(u, v, self.x, self.y, self.angle)
        v = np.abs(v)
        turn = np.arctan2(v, u)
        end_u, end_v = self.radius * np.cos(self.opening), self.radius * np.sin(self.opening)
        from_line = np.abs(np.sqrt(u * u + v * v) - self.radius)
        from_end = np.sqrt((u - end_u) ** 2 + (v - end_v) ** 2)
        width = self.r * (1.0 - self.taper * np.minimum(turn / self.opening, 1.0) ** 2)
        return np.where(turn <= self.opening, from_line, from_end) - width

    def circle(self) -> tuple[float, float, float]:
        if self.opening >= math.pi / 2:
            return self.x, self.y, self.radius + self.r
        # The circle around the chord's ends and the crown, centred on the chord's middle.
        middle = self.radius * math.cos(self.opening)
        reach = max(self.radius * math.sin(self.opening), self.radius - middle)
        x, y = self.x + middle * math.cos(self.angle), self.y + middle * math.sin(self.angle)
        return x, y, reach + self.r


@dataclasses.dataclass(frozen=True)
class Box:
    """A box with half-sides a, b and corners rounded by ``corner``."""

    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0
    corner: float = 0.05

    def distance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        u, v = _turned(u, v, self.x, self.y, self.angle)
        u, v = np.abs(u) - (self.a - self.corner), np.abs(v) - (self.b - self.corner)
        outside = np.sqrt(np.maximum(u, 0.0) ** 2 + np.maximum(v, 0.0) ** 2)
        return outside + np.minimum(np.maximum(u, v), 0.0) - self.corner

    def circle(self) -> tuple[float, float, float]:
        return self.x, self.y, math.hypot(self.a, self.b)


@dataclasses.dataclass(frozen=True)
class Triangle:
    """A triangle; its corners in the order in which one turns from u to v."""

    x1: float
    y1: float
    x2: float
    y2: float
    x3: float
    y3: float

    def distance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        corners = ((self.x1, self.y1), (self.x2, self.y2), (self.x3, self.y3))
        sides = []
        for (x1, y1), (x2, y2) in zip(corners, (*corners[1:], corners[0]), strict=True):
            length = np.hypot(x2 - x1, y2 - y1)
            sides.append((u - x1) * ((y2 - y1) / length) - (v - y1) * ((x2 - x1) / length))
        return np.maximum(np.maximum(sides[0], sides[1]), sides[2])

    def circle(self) -> tuple[float, float, float]:
        x, y = (self.x1 + self.x2 + self.x3) / 3.0, (self.y1 + self.y2 + self.y3) / 3.0
        corners = ((self.x1, self.y1), (self.x2, self.y2), (self.x3, self.y3))
        return x, y, max(math.hypot(u - x, v - y) for u, v in corners)
