"""What the 22 foods (and the things that lie about) look like: shapes, colours, surfaces.

Each look is drawn in its item's local frame: the unit is half the major axis, which lies along u; v is
90 degrees further (downwards where u points right). A portion is a list of parts painted one over the
other, so the last part is nearest the eye.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from simulation.shapes import Arc, Box, Capsule, Ellipse, Ruffle, Shape, Triangle

Colour = tuple[float, float, float]
_TURN = 2.0 * math.pi


@dataclasses.dataclass(frozen=True)
class Part:
    """One piece.

    Attributes:
      shape: its outline, local frame.
      colour: RGB, 0 to 255.
      dome: height of its round top over its outline, local units; 0 is flat.
      round: how far from the outline, inwards, its top is reached; local units.
      lift: height of its outline over the dish, local units.
      gloss: strength of the highlight, 0 to 1.
      rim: how much darker its outline is than its middle, 0 to 1.
      texture: how much of the look's texture it shows, 0 to 1.
    """

    shape: Shape
    colour: Colour
    dome: float = 0.2
    round: float = 0.2
    lift: float = 0.1
    gloss: float = 0.0
    rim: float = 0.25
    texture: float = 1.0


@dataclasses.dataclass(frozen=True)
class Texture:
    """Grain of a surface: waves per local unit, strength in brightness and in height."""

    waves: float = 6.0
    tone: float = 0.0
    bump: float = 0.0


@dataclasses.dataclass(frozen=True)
class Look:
    """How a food looks.

    Attributes:
      aspect: minor over major axis, clearly below 1, so that an item's direction can be seen.
      parts: draws a portion's parts; the generator varies their arrangement.
      texture: of all parts.
      thickness: height from which a portion casts its shadow, local units.
    """

    aspect: float
    parts: Callable[[np.random.Generator], list[Part]]
    texture: Texture = Texture()
    thickness: float = 0.35


def _vary(rng: np.random.Generator, colour: Colour, by: float = 10.0) -> Colour:
    """The colour, a little lighter or darker, and a little off its hue."""
    tone = by * rng.uniform(-1.0, 1.0)
    red, green, blue = (tone + channel + 0.4 * by * rng.uniform(-1.0, 1.0) for channel in colour)
    return float(red), float(green), float(blue)


def _darker(colour: Colour) -> Colour:
    red, green, blue = colour
    return 0.8 * red, 0.8 * green, 0.8 * blue


def _scatter(rng: np.random.Generator, count: int, a: float, b: float) -> list[tuple[float, float]]:
    """Points spread evenly over an ellipse with semi-axes a, b (a sunflower's), shaken, in any order."""
    index = np.arange(count) + 0.5
    reach = np.sqrt(index / count)
    turn = index * (math.pi * (3.0 - math.sqrt(5.0))) + rng.uniform(0.0, _TURN)
    shaken = np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=1)
    shaken += rng.uniform(-0.35, 0.35, (count, 2)) / math.sqrt(count)
    points = rng.permutation(shaken * (a, b))
    return [(float(x), float(y)) for x, y in points]


def _angle(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.0, _TURN))


def _banana(rng: np.random.Generator) -> list[Part]:
    bend = float(rng.uniform(0.95, 1.1))
    radius = 0.90 / math.sin(bend)
    y = -0.5 * radius * (1.0 + math.cos(bend))
    body = Arc(0.0, y, radius, math.pi / 2.0, bend, 0.27, taper=0.55)
    ridge = Arc(0.0, y, radius + 0.02, math.pi / 2.0, bend * 0.85, 0.022, taper=0.5)
    ends = [
        (radius * math.cos(math.pi / 2.0 + side * bend), y + radius * math.sin(math.pi / 2.0 + side * bend))
        for side in (-1.0, 1.0)
    ]
    stem = (ends[0][0] + 0.12, ends[0][1] - 0.20)
    parts = [
        Part(Capsule(*ends[0], *stem, 0.10, 0.06), (150, 140, 50), dome=0.1, round=0.08),
        Part(body, _vary(rng, (250, 214, 50)), dome=0.24, round=0.25, gloss=0.15, rim=0.35),
        Part(ridge, (216, 172, 36), dome=0.0, lift=0.34, rim=0.0),
        Part(Ellipse(*ends[1], 0.11, 0.09), (84, 62, 32), dome=0.05, lift=0.2),
        Part(Ellipse(*stem, 0.07, 0.06), (70, 56, 30), dome=0.05, lift=0.2),
    ]
    for turn in rng.uniform(-0.7, 0.7, 4):
        spot = math.pi / 2.0 + float(turn) * bend
        reach = radius + float(rng.uniform(-0.12, 0.12))
        at = (reach * math.cos(spot), y + reach * math.sin(spot))
        parts.append(Part(Ellipse(*at, 0.035, 0.02, spot), (150, 104, 36), dome=0.0, lift=0.34, rim=0.0))
    return parts


def _blueberry(rng: np.random.Generator) -> list[Part]:
    parts = []
    for x, y in _scatter(rng, 11, 0.80, 0.42):
        r = float(rng.uniform(0.19, 0.23))
        tint = _vary(rng, (52, 66, 138), 14)
        crown = (x + 0.05 * float(rng.uniform(-1, 1)), y + 0.05 * float(rng.uniform(-1, 1)))
        parts.append(Part(Ellipse(x, y, r, r), tint, dome=0.2, round=0.2, gloss=0.3, rim=0.55))
        parts.append(Part(Ruffle(*crown, 0.085, 0.085, 0.0, 0.25, 5), (104, 116, 176), dome=0.0, lift=0.3))
        parts.append(Part(Ellipse(*crown, 0.05, 0.05), (26, 30, 70), dome=0.0, lift=0.3, rim=0.0))
    return parts


def _broccoli(rng: np.random.Generator) -> list[Part]:
    parts = []
    for x, y, spread in ((-0.52, -0.16, 0.44), (0.5, -0.06, 0.46), (0.0, -0.11, 0.44)):
        x, y = x + 0.06 * float(rng.uniform(-1, 1)), y + 0.05 * float(rng.uniform(-1, 1))
        lean = math.pi / 2.0 + float(rng.uniform(-0.5, 0.5))
        foot = (x + 0.62 * math.cos(lean), y + 0.62 * math.sin(lean))
        parts.append(Part(Capsule(x, y, *foot, 0.17, 0.13), (168, 196, 108), dome=0.12, round=0.12))
        head = y - 0.14
        parts.append(Part(Ruffle(x, head, spread, 0.36, 0.0, 0.06, 9), _vary(rng, (44, 104, 40)), rim=0.5))
        for bx, by in _scatter(rng, 9, spread * 0.85, 0.30):
            tint = _vary(rng, (64, 136, 52), 16)
            bud = Ruffle(x + bx, head + by, 0.13, 0.12, _angle(rng), 0.16, 6)
            parts.append(Part(bud, tint, dome=0.12, round=0.12, lift=0.25, rim=0.45))
    return parts


def _brownie(rng: np.random.Generator) -> list[Part]:
    parts = [
        Part(Box(0, 0, 0.94, 0.66, 0.0, 0.06), (58, 32, 20), dome=0.25, round=0.06, lift=0.3, rim=0.3),
        Part(
            Box(0, 0, 0.88, 0.60, 0.0, 0.06),
            _vary(rng, (92, 54, 34)),
            dome=0.04,
            round=0.1,
            lift=0.55,
            gloss=0.1,
        ),
    ]
    for x, y in _scatter(rng, 5, 0.7, 0.45):
        lean = _angle(rng)
        crack = Capsule(x, y, x + 0.26 * math.cos(lean), y + 0.26 * math.sin(lean), 0.025, 0.01)
        parts.append(Part(crack, (52, 27, 16), dome=-0.03, round=0.03, lift=0.55, rim=0.0))
    for x, y in _scatter(rng, 7, 0.75, 0.48):
        parts.append(
            Part(Ellipse(x, y, 0.06, 0.045, _angle(rng)), (38, 19, 12), dome=0.05, round=0.05, lift=0.56)
        )
    return parts


def _melon_slices(rng: np.random.Generator, flesh: Colour, inner: Colour, rind: Colour) -> list[Part]:
    """Two crescents of melon, rind outside."""
    parts = []
    for y in (-0.31, 0.29):
        lean = math.pi / 2.0 + float(rng.uniform(-0.06, 0.06))
        at = (0.0, y - 0.80)
        flesh_tint = _vary(rng, flesh, 8)
        rind_part = Arc(*at, 0.98, lean, 1.0, 0.23, 0.70)
        flesh_part = Arc(*at, 0.94, lean, 0.97, 0.21, 0.70)
        parts += [
            Part(rind_part, rind, dome=0.1, round=0.08, rim=0.2),
            Part(flesh_part, flesh_tint, dome=0.08, round=0.1, lift=0.2, gloss=0.2, rim=0.1),
            Part(Arc(*at, 0.81, lean, 0.75, 0.05, 0.8), inner, dome=0.0, lift=0.28, rim=0.0),
        ]
    return parts


def _cantaloupe(rng: np.random.Generator) -> list[Part]:
    return _melon_slices(rng, (250, 160, 82), (255, 192, 120), (176, 166, 108))


def _cubes(rng: np.random.Generator, colour: Colour, count: int) -> list[Part]:
    parts = []
    for x, y in _scatter(rng, count, 0.72, 0.40):
        lean = _angle(rng)
        parts.append(Part(Box(x, y, 0.27, 0.25, lean, 0.04), _darker(colour), dome=0.2, round=0.05))
        parts.append(
            Part(
                Box(x, y, 0.22, 0.20, lean, 0.04),
                _vary(rng, colour, 8),
                dome=0.03,
                round=0.1,
                lift=0.35,
                gloss=0.3,
                rim=0.1,
            )
        )
    return parts


def _honeydew(rng: np.random.Generator) -> list[Part]:
    return _cubes(rng, (196, 224, 140), 9)


def _cherry_tomato(rng: np.random.Generator) -> list[Part]:
    parts = []
    for x, y in ((-0.60, 0.08), (0.60, 0.06), (0.0, -0.10)):
        x, y = x + 0.04 * float(rng.uniform(-1, 1)), y + 0.06 * float(rng.uniform(-1, 1))
        parts.append(
            Part(
                Ellipse(x, y, 0.39, 0.38),
                _vary(rng, (216, 34, 26)),
                dome=0.38,
                round=0.38,
                gloss=0.9,
                rim=0.4,
            )
        )
        turn = _angle(rng)
        for leaf in range(5):
            way = turn + leaf * _TURN / 5.0
            tip = (x + 0.20 * math.cos(way), y + 0.20 * math.sin(way))
            parts.append(
                Part(Capsule(x, y, *tip, 0.05, 0.015), (58, 128, 44), dome=0.03, round=0.04, lift=0.5)
            )
    return parts


def _chicken(rng: np.random.Generator) -> list[Part]:
    skin = _vary(rng, (196, 122, 52))
    bone = (238, 226, 204)
    parts = [
        Part(Capsule(0.3, 0.0, 0.80, 0.0, 0.10, 0.09), bone, dome=0.1, round=0.1),
        Part(Ellipse(0.86, -0.10, 0.13, 0.12), bone, dome=0.1, round=0.12),
        Part(Ellipse(0.86, 0.10, 0.13, 0.12), bone, dome=0.1, round=0.12),
        Part(Capsule(-0.42, 0.0, 0.42, 0.0, 0.54, 0.16), skin, dome=0.45, round=0.5, gloss=0.45, rim=0.45),
    ]
    for x, y in _scatter(rng, 7, 0.42, 0.34):
        tint = (142, 76, 28)
        parts.append(
            Part(Ruffle(x - 0.38, y, 0.10, 0.06, _angle(rng), 0.2, 4), tint, dome=0.02, lift=0.5, rim=0.0)
        )
    return parts


def _strands(
    rng: np.random.Generator, count: int, width: float, colours: tuple[Colour, Colour]
) -> list[Part]:
    """A nest of bent strands: arcs around the middle, in many directions."""
    parts = [Part(Ruffle(0, 0, 0.90, 0.58, 0.0, 0.03, 11), colours[1], dome=0.3, round=0.5, rim=0.3)]
    for index in range(count):
        spread = 1.0 - index / count
        turn = _angle(rng)
        x, y = 0.42 * spread * math.cos(turn), 0.22 * spread * math.sin(turn)
        # Within the nest's outline: what is left of the minor axis, or of the major one for flat arcs.
        radius = float(rng.uniform(0.20, 0.46)) - abs(y) * 0.3
        tint = _vary(rng, colours[0], 12)
        strand = Arc(x, y, radius, _angle(rng), float(rng.uniform(1.2, 2.9)), width)
        parts.append(Part(strand, tint, dome=width, round=width, lift=0.35, gloss=0.25, rim=0.4))
    for side in (-1.0, 1.0):  # Long strands along the nest, so that its direction shows.
        for reach in (0.36, 0.46):
            bend = Arc(0.0, side * (reach - 1.05), 1.05, side * math.pi / 2.0, 0.82, width)
            parts.insert(
                1,
                Part(
                    bend, _vary(rng, colours[0], 12), dome=width, round=width, lift=0.2, gloss=0.25, rim=0.4
                ),
            )
    return parts


def _fettucine(rng: np.random.Generator) -> list[Part]:
    parts = _strands(rng, 13, 0.075, ((246, 228, 172), (214, 188, 122)))
    for x, y in _scatter(rng, 9, 0.7, 0.42):
        parts.append(Part(Ellipse(x, y, 0.05, 0.03, _angle(rng)), (72, 124, 46), dome=0.0, lift=0.5, rim=0.0))
    return parts


def _spaghetti(rng: np.random.Generator) -> list[Part]:
    parts = _strands(rng, 20, 0.036, ((240, 204, 108), (190, 142, 60)))
    sauce = Ruffle(0.0, 0.0, 0.42, 0.27, 0.0, 0.12, 7)
    parts.append(Part(sauce, (178, 36, 18), dome=0.15, round=0.25, lift=0.4, gloss=0.5, rim=0.3))
    for x, y in _scatter(rng, 6, 0.30, 0.18):
        parts.append(
            Part(Ellipse(x, y, 0.07, 0.055, _angle(rng)), (112, 48, 26), dome=0.06, round=0.06, lift=0.55)
        )
    return parts


def _grape(rng: np.random.Generator) -> list[Part]:
    stem = Capsule(0.75, 0.0, 1.0, 0.06, 0.045, 0.03)
    parts = [Part(stem, (112, 98, 50), dome=0.04, round=0.04)]
    # A bunch: wide at its stem, narrow at its tip.
    for column, (x, count) in enumerate(((-0.80, 1), (-0.48, 2), (-0.14, 3), (0.22, 3), (0.56, 2))):
        for row in range(count):
            y = (row - 0.5 * (count - 1)) * 0.36 + 0.04 * float(rng.uniform(-1, 1))
            berry = Ellipse(
                x + 0.05 * float(rng.uniform(-1, 1)), y, 0.225, 0.20, float(rng.uniform(-0.4, 0.4))
            )
            tint = _vary(rng, (112, 30, 82), 12)
            parts.append(
                Part(berry, tint, dome=0.2, round=0.2, lift=0.1 + 0.02 * column, gloss=0.7, rim=0.45)
            )
    return parts


def _green_bean(rng: np.random.Generator) -> list[Part]:
    parts = []
    for index, y in enumerate((-0.34, -0.17, 0.0, 0.17, 0.34)):
        lean = float(rng.uniform(-0.10, 0.10))
        shift = float(rng.uniform(-0.06, 0.06)) if index != 2 else 0.0
        long = 0.86 - abs(shift)
        bend = float(rng.choice((-1.0, 1.0))) * math.pi / 2.0
        radius = 2.4
        centre = (shift - radius * math.cos(bend + lean), y - radius * math.sin(bend + lean))
        bean = Arc(*centre, radius, bend + lean, math.asin(long / radius), 0.088, 0.35)
        parts.append(
            Part(bean, _vary(rng, (82, 152, 58), 16), dome=0.1, round=0.09, lift=0.15, gloss=0.35, rim=0.45)
        )
    return parts


def _lettuce(rng: np.random.Generator) -> list[Part]:
    waves = int(rng.integers(11, 15))
    outer = Ruffle(0.0, 0.0, 0.88, 0.62, 0.0, 0.09, waves)
    middle = Ruffle(-0.05, 0.0, 0.66, 0.44, 0.0, 0.09, waves - 2)
    heart = Ruffle(-0.12, 0.0, 0.44, 0.26, 0.0, 0.10, waves - 4)
    parts = [
        Part(outer, _vary(rng, (104, 178, 62)), dome=0.1, round=0.15, rim=0.3),
        Part(middle, _vary(rng, (148, 206, 88)), dome=0.1, round=0.12, lift=0.2, rim=0.3),
        Part(heart, _vary(rng, (196, 230, 138)), dome=0.1, round=0.12, lift=0.3, rim=0.25),
        Part(Capsule(-0.86, 0.0, 0.62, 0.0, 0.075, 0.015), (236, 244, 208), dome=0.05, round=0.06, lift=0.4),
    ]
    for x in (-0.45, -0.12, 0.2):
        for side in (-1.0, 1.0):
            vein = Capsule(x, 0.0, x + 0.30, side * 0.36, 0.03, 0.012)
            parts.append(Part(vein, (222, 238, 182), dome=0.02, round=0.03, lift=0.35, rim=0.0))
    return parts


def _mac_and_cheese(rng: np.random.Generator) -> list[Part]:
    base = Ruffle(0, 0, 0.90, 0.60, 0.0, 0.05, 9)
    parts = [Part(base, (236, 150, 26), dome=0.2, round=0.4, gloss=0.3, rim=0.3)]
    for x, y in _scatter(rng, 22, 0.74, 0.44):
        tint = _vary(rng, (255, 190, 52), 12)
        lean = _angle(rng)
        elbow = Arc(x - 0.07 * math.cos(lean), y - 0.07 * math.sin(lean), 0.13, lean, 1.25, 0.075)
        parts.append(Part(elbow, tint, dome=0.08, round=0.075, lift=0.3, gloss=0.5, rim=0.5))
    return parts


def _mound(rng: np.random.Generator, colour: Colour, ruffle: float) -> Part:
    outline = Ruffle(0.0, 0.0, 0.92, 0.62, 0.0, ruffle, int(rng.integers(5, 8)))
    return Part(outline, _vary(rng, colour, 5), dome=0.35, round=0.55, gloss=0.1, rim=0.25)


def _mashed_potato(rng: np.random.Generator) -> list[Part]:
    cream = (246, 232, 190)
    parts = [_mound(rng, cream, 0.05)]
    for size, lift in ((0.62, 0.35), (0.36, 0.5)):
        swirl = Ruffle(0.0, 0.0, size, size * 0.62, 0.0, 0.05, 5)
        parts.append(Part(swirl, _vary(rng, cream, 4), dome=0.12, round=0.14, lift=lift, rim=0.3))
    butter = Box(0.02, 0.0, 0.17, 0.12, float(rng.uniform(-0.3, 0.3)), 0.03)
    parts.append(Part(butter, (255, 208, 58), dome=0.08, round=0.04, lift=0.66, gloss=0.5, rim=0.25))
    return parts


def _meatball(rng: np.random.Generator) -> list[Part]:
    parts = [
        Part(
            Ruffle(0.0, 0.04, 0.92, 0.50, 0.0, 0.06, 7),
            (150, 30, 16),
            dome=0.06,
            round=0.1,
            lift=0.0,
            gloss=0.5,
        )
    ]
    for x, y in ((-0.56, 0.06), (0.56, -0.04), (0.0, 0.0)):
        y += 0.06 * float(rng.uniform(-1, 1))
        ball = Ruffle(x, y, 0.37, 0.36, _angle(rng), 0.03, 7)
        parts.append(
            Part(ball, _vary(rng, (122, 74, 44)), dome=0.36, round=0.36, lift=0.1, gloss=0.2, rim=0.45)
        )
    return parts


def _oatmeal(rng: np.random.Generator) -> list[Part]:
    parts = [_mound(rng, (190, 162, 122), 0.03)]
    for x, y in _scatter(rng, 26, 0.80, 0.50):
        flake = Ellipse(x, y, 0.11, 0.08, _angle(rng))
        parts.append(Part(flake, _vary(rng, (206, 180, 142), 18), dome=0.03, round=0.05, lift=0.38, rim=0.35))
    for x, y in _scatter(rng, 5, 0.55, 0.32):  # Raisins.
        parts.append(
            Part(
                Ruffle(x, y, 0.085, 0.065, _angle(rng), 0.12, 4),
                (58, 34, 40),
                dome=0.06,
                round=0.06,
                lift=0.45,
            )
        )
    return parts


def _pineapple(rng: np.random.Generator) -> list[Part]:
    """Two rings, one leaning on the other."""
    parts = []
    for x, lift in ((-0.40, 0.05), (0.40, 0.25)):
        turn = _angle(rng)
        ring = Arc(x, 0.0, 0.36, turn, math.pi, 0.22)
        parts.append(
            Part(ring, _vary(rng, (248, 204, 58), 6), dome=0.08, round=0.06, lift=lift, gloss=0.3, rim=0.25)
        )
        for spoke in range(10):
            way = turn + spoke * _TURN / 10.0
            cos, sin = math.cos(way), math.sin(way)
            fibre = Capsule(x + 0.24 * cos, 0.24 * sin, x + 0.53 * cos, 0.53 * sin, 0.012, 0.022)
            parts.append(Part(fibre, (214, 158, 32), dome=0.0, lift=lift + 0.08, rim=0.0))
    return parts


def _rice(rng: np.random.Generator) -> list[Part]:
    parts = [_mound(rng, (232, 229, 220), 0.03)]
    for x, y in _scatter(rng, 36, 0.84, 0.54):
        grain = Ellipse(x, y, 0.14, 0.05, _angle(rng))
        parts.append(Part(grain, _vary(rng, (253, 252, 247), 3), dome=0.05, round=0.04, lift=0.4, rim=0.3))
    return parts


def _sausage(rng: np.random.Generator) -> list[Part]:
    bend, radius = 0.62, 1.25
    y = -0.5 * radius * (1.0 + math.cos(bend))
    parts = [
        Part(
            Arc(0.0, y, radius, math.pi / 2.0, bend, 0.26, 0.1),
            _vary(rng, (160, 66, 36)),
            dome=0.28,
            round=0.26,
            gloss=0.7,
            rim=0.45,
        )
    ]
    for step in (-0.66, -0.33, 0.0, 0.33, 0.66):  # The grill's marks.
        way = math.pi / 2.0 + step * bend
        x1, y1 = (radius - 0.17) * math.cos(way - 0.06), y + (radius - 0.17) * math.sin(way - 0.06)
        x2, y2 = (radius + 0.17) * math.cos(way + 0.06), y + (radius + 0.17) * math.sin(way + 0.06)
        parts.append(Part(Capsule(x1, y1, x2, y2, 0.035, 0.035), (72, 26, 16), dome=0.0, lift=0.38, rim=0.0))
    return parts


def _strawberry(rng: np.random.Generator) -> list[Part]:
    parts = [
        Part(
            Capsule(0.28, 0.0, -0.72, 0.0, 0.60, 0.20),
            _vary(rng, (222, 32, 44)),
            dome=0.4,
            round=0.45,
            gloss=0.5,
            rim=0.35,
        )
    ]
    for column, x in enumerate((-0.66, -0.42, -0.18, 0.06, 0.30)):
        wide = 0.14 + 0.40 * (x + 0.72)
        for row in np.linspace(-wide, wide, 2 + column // 2 + column % 2):
            seed = Ellipse(x + 0.03 * float(rng.uniform(-1, 1)), float(row) * 0.8, 0.042, 0.026)
            parts.append(Part(seed, (250, 216, 110), dome=0.0, lift=0.5, rim=0.0))
    for way in (-1.9, -1.15, -0.4, 0.4, 1.15, 1.9):
        tip = (0.66 - 0.34 * math.cos(way), 0.40 * math.sin(way))
        parts.append(
            Part(
                Capsule(0.70, 0.0, *tip, 0.10, 0.03),
                _vary(rng, (70, 150, 50)),
                dome=0.05,
                round=0.06,
                lift=0.5,
                rim=0.3,
            )
        )
    parts.append(
        Part(Capsule(0.70, 0.0, 0.95, 0.04, 0.05, 0.04), (96, 164, 70), dome=0.04, round=0.05, lift=0.6)
    )
    return parts


def _watermelon(rng: np.random.Generator) -> list[Part]:
    """A wedge: red triangle with seeds, the rind along its short side."""
    parts = [
        Part(Triangle(-0.95, 0.0, 0.98, -0.72, 0.98, 0.72), (46, 120, 52), dome=0.1, round=0.06, lift=0.2),
        Part(
            Triangle(-0.95, 0.0, 0.78, -0.68, 0.78, 0.68),
            (226, 240, 204),
            dome=0.02,
            round=0.06,
            lift=0.3,
            rim=0.0,
        ),
        Part(
            Triangle(-0.95, 0.0, 0.64, -0.625, 0.64, 0.625),
            _vary(rng, (236, 62, 68), 6),
            dome=0.03,
            round=0.06,
            lift=0.32,
            gloss=0.25,
            rim=0.1,
        ),
    ]
    for x, y in (
        (-0.30, -0.06),
        (-0.02, 0.18),
        (0.05, -0.18),
        (0.38, 0.0),
        (0.40, 0.36),
        (0.42, -0.36),
        (-0.5, 0.05),
    ):
        seed = Ellipse(x + 0.03 * float(rng.uniform(-1, 1)), y, 0.065, 0.038)
        parts.append(Part(seed, (34, 20, 18), dome=0.02, round=0.03, lift=0.36, rim=0.0))
    return parts


LOOKS: Mapping[str, Look] = {
    "banana": Look(0.50, _banana),
    "blueberry": Look(0.58, _blueberry),
    "broccoli": Look(0.68, _broccoli, Texture(9.0, 0.10, 0.03)),
    "brownie": Look(0.66, _brownie, Texture(8.0, 0.12, 0.02)),
    "cantaloupe": Look(0.66, _cantaloupe),
    "cherry_tomato": Look(0.48, _cherry_tomato),
    "chicken": Look(0.54, _chicken, Texture(4.0, 0.14, 0.02)),
    "fettucine": Look(0.60, _fettucine),
    "grape": Look(0.58, _grape),
    "green_bean": Look(0.46, _green_bean),
    "honeydew": Look(0.66, _honeydew),
    "lettuce": Look(0.66, _lettuce, Texture(6.0, 0.12, 0.03)),
    "mac_and_cheese": Look(0.62, _mac_and_cheese),
    "mashed_potato": Look(0.64, _mashed_potato, Texture(4.0, 0.02, 0.02)),
    "meatball": Look(0.50, _meatball, Texture(9.0, 0.16, 0.03)),
    "oatmeal": Look(0.63, _oatmeal),
    "pineapple": Look(0.58, _pineapple, Texture(7.0, 0.06, 0.01)),
    "rice": Look(0.63, _rice),
    "sausage": Look(0.38, _sausage),
    "spaghetti": Look(0.60, _spaghetti),
    "strawberry": Look(0.60, _strawberry),
    "watermelon": Look(0.71, _watermelon, Texture(7.0, 0.05, 0.0)),
}


_STEEL = (186, 190, 196)


def _napkin(rng: np.random.Generator) -> list[Part]:
    colours = ((206, 210, 214), (120, 146, 168), (186, 146, 132), (150, 170, 142))
    colour = colours[int(rng.integers(len(colours)))]
    parts = [Part(Box(0, 0, 0.95, 0.45, 0.0, 0.02), colour, dome=0.01, round=0.03, lift=0.0, rim=0.15)]
    for y in (-0.36, 0.36):
        hem = Capsule(-0.92, y, 0.92, y, 0.015, 0.015)
        parts.append(Part(hem, _darker(colour), dome=0.0, lift=0.02, rim=0.0))
    return parts


def _handle(width: float) -> Part:
    return Part(
        Capsule(-0.95, 0, 0.3, 0, width, 0.6 * width), _STEEL, dome=0.05, round=0.05, lift=0.05, gloss=0.6
    )


def _fork(rng: np.random.Generator) -> list[Part]:
    del rng
    head = Box(0.48, 0.0, 0.16, 0.115, 0.0, 0.08)
    parts = [_handle(0.055), Part(head, _STEEL, dome=0.04, round=0.05, lift=0.05, gloss=0.6)]
    for y in (-0.09, -0.03, 0.03, 0.09):
        tine = Capsule(0.55, y, 0.96, y, 0.018, 0.012)
        parts.append(Part(tine, _STEEL, dome=0.02, round=0.02, lift=0.06, gloss=0.6))
    return parts


def _knife(rng: np.random.Generator) -> list[Part]:
    del rng
    blade = Capsule(0.05, 0.0, 0.94, 0.02, 0.075, 0.03)
    return [Part(blade, (204, 208, 212), dome=0.02, round=0.05, lift=0.05, gloss=0.8), _handle(0.06)]


def _spoon(rng: np.random.Generator) -> list[Part]:
    del rng
    bowl = Ellipse(0.66, 0.0, 0.28, 0.17)
    return [_handle(0.055), Part(bowl, _STEEL, dome=-0.12, round=0.17, lift=0.12, gloss=0.8)]


def _crumbs(rng: np.random.Generator) -> list[Part]:
    colours = ((146, 98, 56), (90, 120, 60), (170, 60, 36))
    colour = colours[int(rng.integers(len(colours)))]
    parts = []
    for x, y in _scatter(rng, int(rng.integers(4, 9)), 0.9, 0.9):
        crumb = Ruffle(x, y, float(rng.uniform(0.05, 0.13)), 0.07, _angle(rng), 0.15, 3)
        parts.append(Part(crumb, _vary(rng, colour, 20), dome=0.05, round=0.06, lift=0.03))
    return parts


# In the order in which they are laid.
CLUTTER: Mapping[str, Look] = {
    "napkin": Look(0.5, _napkin, Texture(12.0, 0.04, 0.0), thickness=0.02),
    "fork": Look(0.1, _fork, thickness=0.06),
    "knife": Look(0.1, _knife, thickness=0.06),
    "spoon": Look(0.2, _spoon, thickness=0.08),
    "crumbs": Look(1.0, _crumbs, thickness=0.06),
}
