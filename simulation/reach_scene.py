"""The scene of the sample bags: the arm, coloured objects on a table, the camera's view of them, and what the
fingers feel."""

import dataclasses
import math

import cv2
import numpy as np

from simulation import arm
from simulation.ray_caster import Body, Box, Camera, Capsule, Colour, render

COLOURS: dict[str, Colour] = {
    "red": (0.85, 0.14, 0.12),
    "green": (0.16, 0.62, 0.24),
    "blue": (0.15, 0.30, 0.80),
    "yellow": (0.92, 0.76, 0.12),
}
CUBE, BALL = "cube", "ball"
SHAPES = (CUBE, BALL)
# Objects stand in this part of the table (distance from the base, and angle to either side), apart.
NEAREST, FARTHEST, WIDEST, APART = 0.22, 0.34, 0.75, 0.11
_HALF_SIZE = 0.02
_TABLE, _BACKDROP = (0.80, 0.77, 0.72), (0.42, 0.47, 0.52)
_LINK_RADII = (0.045, 0.030, 0.026, 0.022, 0.020, 0.018)
_LINK_COLOURS: tuple[Colour, ...] = (
    (0.25, 0.26, 0.30),
    (0.88, 0.88, 0.90),
    (0.95, 0.55, 0.15),
    (0.30, 0.32, 0.36),
    (0.30, 0.32, 0.36),
    (0.88, 0.88, 0.90),
)
_FINGER_RADIUS, _FINGER_COLOUR = 0.007, (0.12, 0.12, 0.14)
# How far the gel is pressed in when the gripper is closed on an object, m.
FULL_PRESS = 0.004
# Lamps of the gel: direction in its plane (radians) and colour.
_GEL_LAMPS = ((0.5, (1.0, 0.1, 0.1)), (2.6, (0.1, 1.0, 0.1)), (4.7, (0.1, 0.1, 1.0)))
_GEL_WIDTH = 0.024


@dataclasses.dataclass(frozen=True)
class Thing:
    """An object on the table.

    Attributes:
      colour: one of ``COLOURS``.
      shape: ``cube`` or ``ball``.
      x, y: of its middle, m.
      yaw: by which it is turned, radians.
    """

    colour: str
    shape: str
    x: float
    y: float
    yaw: float

    @property
    def name(self) -> str:
        """E.g. ``red cube``."""
        return f"{self.colour} {self.shape}"

    @property
    def middle(self) -> np.ndarray:
        """float64 [3]."""
        return np.array([self.x, self.y, _HALF_SIZE])

    @property
    def width(self) -> float:
        """Between the fingers, m."""
        return 2 * _HALF_SIZE

    def body(self) -> Body:
        if self.shape == BALL:
            return Capsule(self.middle, self.middle, _HALF_SIZE, COLOURS[self.colour])
        return Box(self.middle, np.full(3, _HALF_SIZE), self.yaw, COLOURS[self.colour])


def make_camera(height: int, width: int) -> Camera:
    """The camera beside the table, which sees the arm's whole reach."""
    return Camera((0.86, -0.46, 0.58), (0.16, -0.01, 0.165), 0.58, height, width)


def see(camera: Camera, joints: np.ndarray, things: tuple[Thing, ...]) -> tuple[np.ndarray, np.ndarray]:
    """What the camera sees.

    Args:
      camera: of the picture's size.
      joints: float [7], see ``simulation.arm``.
      things: on the table.

    Returns:
      (uint8 [h, w, 3] RGB, uint16 [h, w] depth in millimetres, 0 at the backdrop).
    """
    fine = dataclasses.replace(camera, height=2 * camera.height, width=2 * camera.width)
    bodies = [*_arm_bodies(joints), *(thing.body() for thing in things)]
    image, depth = render(fine, bodies, _TABLE, _BACKDROP)
    image = image.reshape(camera.height, 2, camera.width, 2, 3).mean(axis=(1, 3))
    # Depth is taken, not averaged: between near and far there is nothing.
    metres = depth[::2, ::2]
    millimetres = np.where(np.isfinite(metres), np.rint(metres * 1000.0), 0.0)
    return np.rint(image * 255.0).astype(np.uint8), millimetres.astype(np.uint16)


def feel(thing: Thing, press: float, offset: float, height: int, width: int, *, right: bool) -> np.ndarray:
    """What the camera behind a fingertip's gel sees: three lamps' light, and a dent where it is pressed.

    Args:
      thing: that is touched.
      press: how deep it is pressed in, m; 0 without contact.
      offset: of the thing along the finger, m.
      height, width: of the picture in pixels.
      right: for the right finger, which sees the thing from the other side.

    Returns:
      uint8 [h, w, 3] RGB.
    """
    metres = _GEL_WIDTH / width
    x = (np.arange(width) + 0.5 - width / 2) * metres
    y = (np.arange(height) + 0.5 - height / 2) * metres - offset
    u, v = np.meshgrid(-x if right else x, y)
    if thing.shape == BALL:
        depth = press - (u * u + v * v) / (2 * _HALF_SIZE)
    else:
        edge = np.maximum(np.abs(u) - 0.006, np.abs(v) - 0.007)
        depth = press * np.clip(1.0 - edge / 0.0015, 0.0, 1.0)
    dent = cv2.GaussianBlur(np.maximum(depth, 0.0), (0, 0), 1.2)
    down, across = np.gradient(dent, metres)
    picture = np.full((height, width, 3), 0.32)
    for angle, colour in _GEL_LAMPS:
        cos, sin = math.cos(angle), math.sin(angle)
        # Each lamp lights its own side of the gel more, and the slopes that face it.
        near = 0.12 * (u * cos + (v + offset) * sin) / _GEL_WIDTH
        slope = -0.18 * (across * (-cos if right else cos) + down * sin)
        picture += (near + slope)[..., None] * np.array(colour)
    return np.rint(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)


def sample_things(random: np.random.Generator, target: str, others: int) -> tuple[Thing, ...]:
    """Draws the objects of one scene; the first is the target.

    Args:
      random: the only source of randomness.
      target: such as ``red cube``.
      others: how many more, of other colours.
    """
    colour, shape = target.split()
    colours = [colour, *random.permutation([c for c in COLOURS if c != colour])[:others]]
    shapes = [shape, *random.choice(SHAPES, others)]
    while True:
        reach = random.uniform(NEAREST, FARTHEST, len(colours))
        angle = random.uniform(-WIDEST, WIDEST, len(colours))
        yaws = random.uniform(-math.pi / 4, math.pi / 4, len(colours))
        x, y = reach * np.cos(angle), reach * np.sin(angle)
        gaps = np.hypot(x[:, None] - x, y[:, None] - y)[~np.eye(len(x), dtype=bool)]
        if (gaps > APART).all():
            return tuple(
                Thing(str(c), str(s), float(px), float(py), float(yaw))
                for c, s, px, py, yaw in zip(colours, shapes, x, y, yaws, strict=True)
            )


def _arm_bodies(joints: np.ndarray) -> list[Body]:
    pose = arm.forward(joints)
    hand = pose.knuckles.mean(axis=0)  # The last link without the fingers.
    ends = zip(pose.points[:-1], [*pose.points[1:-1], hand], strict=True)
    bodies: list[Body] = [
        Capsule(a, b, radius, colour)
        for (a, b), radius, colour in zip(ends, _LINK_RADII, _LINK_COLOURS, strict=True)
    ]
    for knuckle, tip in zip(pose.knuckles, pose.fingertips, strict=True):
        bodies.append(Capsule(knuckle, tip, _FINGER_RADIUS, _FINGER_COLOUR))
    return bodies
