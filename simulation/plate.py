"""A plate of food as a description: what lies where, in which light, and what is asked for.

Everything is in normalised image coordinates: x to the right and y down, fractions of the width and
height of a square image; angles in radians from the x axis towards the y axis. Pixels appear only in
``simulation.renderer``, so that a scene turned by ``turned`` and then drawn is the turned picture.
"""

import dataclasses
import math
from typing import TypeVar

import numpy as np

from core import food
from simulation import foods

_QUARTER = math.pi / 2.0
# Items stay within this fraction of the dish's radius, off its rim.
_INSIDE = 0.88


@dataclasses.dataclass(frozen=True)
class Item:
    """A portion of one food.

    Attributes:
      food: one of ``core.food.FOODS``.
      x, y: its centre.
      angle: the direction of its major axis.
      size: half the length of its major axis; half the minor axis is ``size * aspect`` of the food.
      variation: seed of the arrangement of its pieces.
    """

    food: str
    x: float
    y: float
    angle: float
    size: float
    variation: int

    @property
    def half_minor(self) -> float:
        return self.size * foods.LOOKS[self.food].aspect


@dataclasses.dataclass(frozen=True)
class Dish:
    """The plate itself: centre, radius, RGB in [0, 1] of its body and of the line on its rim."""

    x: float
    y: float
    radius: float
    colour: tuple[float, float, float]
    line: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Light:
    """One lamp and the room's light.

    Attributes:
      azimuth: the direction towards the lamp, in the image plane.
      elevation: its height above the table, radians.
      warmth: -1 (bluish) to 1 (reddish).
      brightness: factor on everything.
      shadow: how dark shadows are, 0 (none) to 1 (black).
      falloff: how much brighter the lamp's side of the table is than the other.
    """

    azimuth: float
    elevation: float
    warmth: float
    brightness: float
    shadow: float
    falloff: float


@dataclasses.dataclass(frozen=True)
class Table:
    """The table's surface: ``plain``, ``wood``, ``checks`` or ``stone``, its colours and their period."""

    pattern: str
    angle: float
    colour: tuple[float, float, float]
    second: tuple[float, float, float]
    period: float
    variation: int


@dataclasses.dataclass(frozen=True)
class Clutter:
    """A thing that nobody asks for: a kind of ``foods.CLUTTER``, posed as an item is."""

    kind: str
    x: float
    y: float
    angle: float
    size: float
    variation: int


@dataclasses.dataclass(frozen=True)
class Plate:
    """The whole scene and its instruction: do ``action`` with ``items[target]``."""

    dish: Dish
    items: tuple[Item, ...]
    light: Light
    table: Table
    clutter: tuple[Clutter, ...]
    action: str
    target: int

    @property
    def combination(self) -> str:
        return food.combination(self.action, self.items[self.target].food)


@dataclasses.dataclass(frozen=True)
class PlateSettings:
    """What the sampler may do.

    Attributes:
      min_items, max_items: portions on a plate, all of different foods, 1 to 5. To a
        network that regresses, a crowded plate gives no first hint, for its items' mean place says
        nothing: plates of one item among those of three teach it sooner than plates of three alone.
      min_size, max_size: half-length of an item's major axis, fractions of the image.
      clutter: 0 (plain table, clean plate) to 1 (cutlery, napkin, patterned table, crumbs).
      lighting: 0 (one even light) to 1 (any direction, warmth and strength of shadows).
      tie_margin: an item's axes keep at least this angle (radians, below pi / 4) from being square to
        the line to the plate's centre, where the label's direction would be a matter of chance.
    """

    min_items: int = 1
    max_items: int = 3
    min_size: float = 0.10
    max_size: float = 0.14
    clutter: float = 1.0
    lighting: float = 1.0
    tie_margin: float = math.radians(15.0)

    def __post_init__(self) -> None:
        if not 1 <= self.min_items <= self.max_items <= 5:
            raise ValueError(
                "items must satisfy 1 <= min_items <= max_items <= 5. "
                f"Received: min_items={self.min_items}, max_items={self.max_items}"
            )
        if not 0.04 <= self.min_size <= self.max_size <= 0.15:
            raise ValueError(
                "sizes must satisfy 0.04 <= min_size <= max_size <= 0.15, or items do not fit on the plate. "
                f"Received: min_size={self.min_size}, max_size={self.max_size}"
            )
        for name in ("clutter", "lighting"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1]. Received: {getattr(self, name)}")
        if not 0.0 < self.tie_margin < math.pi / 4.0:
            raise ValueError(f"tie_margin must be in (0, pi / 4) radians. Received: {self.tie_margin}")


def sample_plate(
    rng: np.random.Generator, settings: PlateSettings, action: str | None = None, target: str | None = None
) -> Plate:
    """Draws a plate.

    Args:
      rng: the only source of randomness.
      settings: see ``PlateSettings``.
      action, target: the instruction's action and food (synonyms are taken); drawn where None.

    Raises:
      ValueError: an unknown action or food.
    """
    action = food.canonical_action(action) if action else str(rng.choice(food.ACTIONS))
    wanted = food.canonical_food(target) if target else str(rng.choice(food.FOODS))
    others = rng.permutation([name for name in food.FOODS if name != wanted])
    num_items = int(rng.integers(settings.min_items, settings.max_items + 1))
    names = [wanted, *(str(name) for name in others[: num_items - 1])]
    dish = _sample_dish(rng)
    items = _sample_items(rng, dish, names, settings)
    order = rng.permutation(len(items))
    return Plate(
        dish=dish,
        items=tuple(items[index] for index in order),
        light=_sample_light(rng, settings.lighting),
        table=_sample_table(rng, settings.clutter),
        clutter=_sample_clutter(rng, dish, settings.clutter),
        action=action,
        target=int(np.flatnonzero(order == 0)[0]),
    )


def turned(plate: Plate, quarter_turns: int) -> Plate:
    """The scene turned as ``numpy.rot90(image, quarter_turns)`` turns its picture (counter-clockwise)."""
    for _ in range(quarter_turns % 4):
        plate = dataclasses.replace(
            plate,
            dish=dataclasses.replace(plate.dish, x=plate.dish.y, y=1.0 - plate.dish.x),
            items=tuple(_turn(item) for item in plate.items),
            light=dataclasses.replace(plate.light, azimuth=plate.light.azimuth - _QUARTER),
            table=dataclasses.replace(plate.table, angle=plate.table.angle - _QUARTER),
            clutter=tuple(_turn(thing) for thing in plate.clutter),
        )
    return plate


def turned_label(label: np.ndarray, quarter_turns: int) -> np.ndarray:
    """The label of the picture turned by ``numpy.rot90``: float32 [..., 4] -> float32 [..., 4]."""
    x1, y1, x2, y2 = np.moveaxis(np.asarray(label, np.float32), -1, 0)
    for _ in range(quarter_turns % 4):
        x1, y1, x2, y2 = y1, 1.0 - x1, y2, 1.0 - x2
    return np.stack([x1, y1, x2, y2], axis=-1)


_Posed = TypeVar("_Posed", Item, Clutter)


def _turn(thing: _Posed) -> _Posed:
    return dataclasses.replace(thing, x=thing.y, y=1.0 - thing.x, angle=thing.angle - _QUARTER)


def _sample_items(
    rng: np.random.Generator, dish: Dish, names: list[str], settings: PlateSettings
) -> list[Item]:
    """Items that do not touch: circles of their sizes are apart and inside the dish."""
    sizes = rng.uniform(settings.min_size, settings.max_size, len(names))
    centres = _place(rng, sizes, dish.radius * _INSIDE)
    while centres is None:  # Too many or too large for this dish: smaller portions.
        sizes = sizes * 0.96
        centres = _place(rng, sizes, dish.radius * _INSIDE)
    items = []
    for name, size, (x, y) in zip(names, sizes, centres, strict=True):
        # Between tie_margin and its complement from the radial direction, on either side of it, head or
        # tail first: any direction but the ties.
        lean = rng.uniform(settings.tie_margin, _QUARTER - settings.tie_margin) * rng.choice((-1.0, 1.0))
        angle = math.atan2(y, x) + lean + math.pi * rng.integers(2)
        variation = int(rng.integers(2**31))
        items.append(Item(name, dish.x + float(x), dish.y + float(y), float(angle), float(size), variation))
    return items


def _place(rng: np.random.Generator, sizes: np.ndarray, radius: float) -> np.ndarray | None:
    """Centres [n, 2] relative to the dish's, None where 40 tries find none."""
    for _ in range(40):
        # Uniform over the disc, but not so near its centre that the way to the centre has no direction.
        reach = np.sqrt(rng.uniform(0.09**2, (radius - sizes) ** 2))
        turn = rng.uniform(0.0, 2.0 * math.pi, len(sizes))
        centres = np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=1)
        gaps = np.linalg.norm(centres[:, None] - centres[None], axis=-1) - (sizes[:, None] + sizes[None])
        if (gaps[~np.eye(len(sizes), dtype=bool)] > 0.0).all():
            return centres
    return None


_Colour = tuple[float, float, float]
_BODIES: tuple[_Colour, ...] = (
    (0.95, 0.95, 0.94),
    (0.93, 0.91, 0.86),
    (0.84, 0.87, 0.90),
    (0.90, 0.93, 0.92),
)
_LINES: tuple[_Colour, ...] = ((0.30, 0.42, 0.66), (0.62, 0.60, 0.58), (0.30, 0.50, 0.46), (0.66, 0.50, 0.30))
# Two colours of each table: surface and grain, check or vein.
_TABLES: dict[str, tuple[tuple[_Colour, _Colour], ...]] = {
    "wood": (((0.55, 0.38, 0.24), (0.40, 0.26, 0.15)), ((0.74, 0.60, 0.44), (0.62, 0.47, 0.32))),
    "checks": (((0.86, 0.84, 0.80), (0.48, 0.56, 0.68)), ((0.86, 0.85, 0.82), (0.72, 0.42, 0.40))),
    "stone": (((0.45, 0.46, 0.48), (0.32, 0.33, 0.35)), ((0.70, 0.69, 0.66), (0.58, 0.57, 0.55))),
    "plain": (((0.46, 0.50, 0.54), (0.46, 0.50, 0.54)), ((0.35, 0.42, 0.44), (0.35, 0.42, 0.44))),
}


def _sample_dish(rng: np.random.Generator) -> Dish:
    x, y = rng.uniform(0.49, 0.51, 2)
    radius = rng.uniform(0.42, 0.46)
    body, line = _BODIES[rng.integers(len(_BODIES))], _LINES[rng.integers(len(_LINES))]
    return Dish(float(x), float(y), float(radius), body, line)


def _sample_light(rng: np.random.Generator, strength: float) -> Light:
    even = Light(azimuth=-2.2, elevation=0.95, warmth=0.0, brightness=1.0, shadow=0.35, falloff=0.1)
    turn, height, warmth, brightness, shadow, falloff = rng.uniform(-1.0, 1.0, 6)
    return Light(
        azimuth=float(even.azimuth + strength * math.pi * turn),
        elevation=float(even.elevation + strength * 0.25 * height),
        warmth=float(strength * warmth),
        brightness=float(1.0 + strength * 0.15 * brightness),
        shadow=float(even.shadow + strength * 0.2 * shadow),
        falloff=float(even.falloff + strength * 0.1 * falloff),
    )


def _sample_table(rng: np.random.Generator, clutter: float) -> Table:
    patterned = rng.uniform() < clutter
    pattern = str(rng.choice(("wood", "checks", "stone", "plain"))) if patterned else "plain"
    colours = _TABLES[pattern]
    colour, second = colours[rng.integers(len(colours))]
    angle, period = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.10, 0.18)
    return Table(pattern, float(angle), colour, second, float(period), int(rng.integers(2**31)))


def _sample_clutter(rng: np.random.Generator, dish: Dish, clutter: float) -> tuple[Clutter, ...]:
    """Napkin and cutlery beside the dish, crumbs on it; the further down the list, the nearer the eye."""
    things = []
    for kind in foods.CLUTTER:
        on_dish = kind == "crumbs"
        for _ in range(2 if on_dish else 1):
            if rng.uniform() >= 0.6 * clutter:
                continue
            turn = rng.uniform(0.0, 2.0 * math.pi)
            if on_dish:
                reach, angle, size = dish.radius * rng.uniform(0.2, 0.7), turn, rng.uniform(0.04, 0.08)
            else:
                reach, size = dish.radius + rng.uniform(0.05, 0.10), rng.uniform(0.26, 0.32)
                angle = turn + _QUARTER + rng.uniform(-0.15, 0.15)
            x, y = dish.x + reach * math.cos(turn), dish.y + reach * math.sin(turn)
            variation = int(rng.integers(2**31))
            things.append(Clutter(kind, float(x), float(y), float(angle), float(size), variation))
    return tuple(things)
