"""Draws a plate description: uint8 RGB at any size, without a graphics library.

Every pixel is a function of its place in the scene (shapes are distance functions, textures sums of
waves), so nothing depends on the pixel grid's direction and a turned scene gives the turned picture.
The picture is computed at ``supersampling`` times the size and averaged; outlines are smoothed before
that by their distance. The shading is Lambert's with a Blinn-Phong highlight over a height field.
"""

import math

import numpy as np

from simulation import foods
from simulation.foods import Look
from simulation.plate import Clutter, Dish, Item, Light, Plate, Table
from simulation.portion import REACH, coverage, local_frame, rasterise

_STEEPEST = 1.4  # Slopes are cut here: outlines are cliffs, and a cliff has no useful normal.


def render(plate: Plate, image_size: int, supersampling: int = 2) -> np.ndarray:
    """Draws a plate.

    Args:
      plate: the scene.
      image_size: H = W in pixels, at least 16.
      supersampling: computed pixels per pixel and axis.

    Returns:
      uint8 [image_size, image_size, 3], RGB.

    Raises:
      ValueError: a size below the smallest one.
    """
    if image_size < 16 or supersampling < 1:
        raise ValueError(
            "image_size must be at least 16 and supersampling at least 1. "
            f"Received: image_size={image_size}, supersampling={supersampling}"
        )
    n = image_size * supersampling
    steps = ((np.arange(n) + 0.5) / n).astype(np.float32)
    x, y = np.meshgrid(steps, steps)
    canvas = _table(plate.table, x, y)
    on_table = [thing for thing in plate.clutter if thing.kind != "crumbs"]
    on_dish = [thing for thing in plate.clutter if thing.kind == "crumbs"]
    for thing in on_table:
        _paint(canvas, foods.CLUTTER[thing.kind], thing, plate.light)
    _paint_dish(canvas, plate.dish, plate.light, x, y)
    for thing in on_dish:
        _paint(canvas, foods.CLUTTER[thing.kind], thing, plate.light)
    for item in plate.items:
        _paint(canvas, foods.LOOKS[item.food], item, plate.light)
    _light_up(canvas, plate.light, x, y)
    corners = [
        canvas[:, row::supersampling, column::supersampling]
        for row in range(supersampling)
        for column in range(supersampling)
    ]
    small = sum(corners[1:], corners[0]) / len(corners)
    return np.ascontiguousarray((_unit(small) * 255.0 + 0.5).astype(np.uint8).transpose(1, 2, 0))


def _unit(values: np.ndarray) -> np.ndarray:
    """The values cut to [0, 1]; numpy.clip costs three times as much on small arrays."""
    return np.minimum(np.maximum(values, 0.0), 1.0)


def _rgb(colour: foods.Colour) -> np.ndarray:
    return np.array(colour, np.float32)[:, None, None]


def _table(table: Table, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The table's surface, float32 [3, n, n] in [0, 1]."""
    cos, sin = math.cos(table.angle), math.sin(table.angle)
    u = cos * (x - 0.5) + sin * (y - 0.5)
    v = cos * (y - 0.5) - sin * (x - 0.5)
    phases = np.random.default_rng(table.variation).uniform(0.0, 2.0 * math.pi, 8).tolist()
    wave = 2.0 * math.pi / table.period
    if table.pattern == "wood":
        bend = 0.35 * np.sin(5.0 * u + phases[0]) + 0.2 * np.sin(11.0 * u + 9.0 * v + phases[1])
        grain = 0.5 + 0.3 * np.sin(2.2 * wave * v + 3.0 * bend) + 0.2 * np.sin(7.0 * wave * v + 5.0 * bend)
        board = np.cos(0.5 * wave * v + phases[2])
        share = np.maximum(0.8 * grain, _unit(1.2 - 12.0 * np.abs(board)))
    elif table.pattern == "checks":
        across = _unit(0.5 + 6.0 * np.sin(wave * u + phases[0]))
        share = 0.5 * (across + _unit(0.5 + 6.0 * np.sin(wave * v + phases[1])))
    elif table.pattern == "stone":
        share = np.full_like(u, 0.5)
        for index, scale in enumerate((0.7, 1.1, 1.9, 3.1)):
            way = phases[index]
            share += (
                0.22
                / (1 + index)
                * np.sin(
                    scale * wave * (math.cos(way) * u + math.sin(way) * v) + phases[index + 4] + 2.0 * share
                )
            )
        share = _unit(share)
    elif table.pattern == "plain":
        share = np.zeros_like(u)
    else:
        raise ValueError(f"pattern must be plain, wood, checks or stone. Received: {table.pattern!r}")
    first, second = _rgb(table.colour), _rgb(table.second)
    return first + share * (second - first)


def _paint_dish(canvas: np.ndarray, dish: Dish, light: Light, x: np.ndarray, y: np.ndarray) -> None:
    """A shallow dish: rim, line, well, and its shadow on the table."""
    pixel = 1.0 / len(x)
    to_x, to_y = math.cos(light.azimuth), math.sin(light.azimuth)
    u, v = x - dish.x, y - dish.y
    reach = np.sqrt(u * u + v * v)
    drop = 0.035 / math.tan(light.elevation)
    shifted = np.sqrt((u + drop * to_x) ** 2 + (v + drop * to_y) ** 2)
    canvas *= 1.0 - light.shadow * _unit(0.5 - (shifted - dish.radius) / 0.03)
    # The slope's share of the light, towards the lamp on one side of rim and well and away on the other.
    facing = (u * to_x + v * to_y) / np.maximum(reach, 1e-3)
    along = reach / dish.radius
    slope = 0.12 * _bump((along - 0.80) / 0.12) - 0.10 * _bump((along - 1.0) / 0.07)
    body = _rgb(dish.colour) * (1.0 - slope * facing - 0.05 * _bump((along - 0.78) / 0.07))
    line = 0.8 * _unit(1.0 - (np.abs(reach - 0.94 * dish.radius) - 0.006) / pixel)
    body += line * (_rgb(dish.line) - body)
    canvas += _unit(0.5 - (reach - dish.radius) / pixel) * (body - canvas)


def _bump(t: np.ndarray) -> np.ndarray:
    """A smooth bell from -1 to 1 with height 1."""
    return np.maximum(1.0 - t * t, 0.0) ** 2


def _light_up(canvas: np.ndarray, light: Light, x: np.ndarray, y: np.ndarray) -> None:
    """The lamp's colour and the fall of its brightness across the table."""
    towards = (x - 0.5) * math.cos(light.azimuth) + (y - 0.5) * math.sin(light.azimuth)
    warm = _rgb((1.0 + 0.07 * light.warmth, 1.0, 1.0 - 0.10 * light.warmth))
    canvas *= (light.brightness * 0.95 * (1.0 + light.falloff * towards)) * warm


def _paint(canvas: np.ndarray, look: Look, pose: Item | Clutter, light: Light) -> None:
    """Paints one portion, its shading and its shadow over the canvas (float32 [3, n, n], in place)."""
    n = canvas.shape[-1]
    rng = np.random.default_rng(pose.variation)
    parts = look.parts(rng)
    drop = look.thickness / math.tan(light.elevation) * pose.size * n  # Length of the shadow, pixels.
    portion = rasterise(parts, pose, n, margin=math.ceil(drop) + 1)
    if portion is None:
        return
    colour, height = portion.colour, portion.height
    texture = look.texture
    if texture.tone or texture.bump:
        corner = np.array([portion.top]), np.array([portion.left])
        u, v = local_frame(pose, n, *corner, *height.shape)
        noise = _noise(u[0], v[0], texture.waves, rng) * portion.grain
        height = height + texture.bump * noise
        colour = colour * (1.0 + texture.tone * noise)
    shade, shine = _shading(height, 1.0 / (n * pose.size), light)
    colour = colour * shade + portion.gloss * shine
    soft = _unit(0.5 - _moved(portion.nearest, drop, light.azimuth) / (2.0 * REACH))
    keep = (1.0 - light.shadow * soft) * (1.0 - coverage(portion.nearest, n * pose.size))

    # Only the part of the portion that is in the picture.
    rows, below = _overlap(portion.top, keep.shape[0], n)
    columns, beside = _overlap(portion.left, keep.shape[1], n)
    region = canvas[:, below, beside]
    region *= keep[rows, columns]
    region += colour[:, rows, columns]


def _shading(height: np.ndarray, pixel: float, light: Light) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse factor (1 on the flat) and highlight of a height field, both float32 of its shape."""
    down, right = np.gradient(height, pixel)
    right, down = (np.minimum(np.maximum(slope, -_STEEPEST), _STEEPEST) for slope in (right, down))
    length = np.sqrt(right * right + down * down + 1.0)
    flat, up = math.cos(light.elevation), math.sin(light.elevation)
    to_x, to_y = flat * math.cos(light.azimuth), flat * math.sin(light.azimuth)
    lambert = np.maximum((up - right * to_x - down * to_y) / length, 0.0)
    # The eye is straight above, the half vector between it and the lamp.
    half = math.sqrt(2.0 + 2.0 * up)
    mirror = np.maximum(((1.0 + up) - right * to_x - down * to_y) / (length * half), 0.0)
    ambient = 0.55
    return ambient + (1.0 - ambient) * lambert / up, 0.6 * mirror**40


def _noise(u: np.ndarray, v: np.ndarray, waves: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of about unit amplitude: a sum of plane waves in random directions."""
    total = np.zeros_like(u)
    for way, phase, stretch in rng.uniform(0.0, 1.0, (5, 3)).tolist():
        k = waves * math.pi * (0.6 + stretch)
        way = 2.0 * math.pi * way
        total += np.sin(k * math.cos(way) * u + k * math.sin(way) * v + 2.0 * math.pi * phase)
    return total / 1.6


def _moved(field: np.ndarray, by: float, azimuth: float) -> np.ndarray:
    """The field moved ``by`` pixels away from the lamp, interpolated linearly; ``REACH`` moves in."""
    for axis, amount in ((0, -by * math.sin(azimuth)), (1, -by * math.cos(azimuth))):
        whole = math.floor(amount)
        part = amount - whole
        field = (1.0 - part) * _shifted(field, whole, axis) + part * _shifted(field, whole + 1, axis)
    return field


def _shifted(field: np.ndarray, by: int, axis: int) -> np.ndarray:
    """``numpy.roll`` that fills in ``REACH`` instead of the other side."""
    moved = np.full_like(field, REACH)
    length = field.shape[axis]
    source, goal = slice(max(-by, 0), length - max(by, 0)), slice(max(by, 0), length - max(-by, 0))
    if axis == 0:
        moved[goal] = field[source]
    else:
        moved[:, goal] = field[:, source]
    return moved


def _overlap(first: int, length: int, n: int) -> tuple[slice, slice]:
    """Of ``length`` pixels from ``first`` on, those in [0, n): counted from ``first``, and from 0."""
    start = min(max(first, 0), n)
    stop = max(min(first + length, n), start)
    return slice(start - first, stop - first), slice(start, stop)
