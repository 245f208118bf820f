"""The rule from a plate and its instruction to the action's parameters x1, y1, x2, y2.

With c the centre of the named item, a half its major axis, b half its minor axis, u and v the unit
vectors along them:

========== ======================== ============================================================
action     stroke                   what it stands for
========== ======================== ============================================================
skewering  c - b v  to  c + b v      the line of the fork's tines, across the item's minor axis
scooping   c - 1.2 a u  to  c + 0.8 a u  the sweep along the major axis, begun behind the item
twirling   c - b/2 u  to  c + b/2 u  where the fork turns, in the middle, along the major axis
========== ======================== ============================================================

An axis has no head and no tail, a stroke has. Strokes run inwards: of the two directions of its axis
each takes the one towards the dish's centre (positive scalar product with the way from c to that
centre). This turns with the picture, unlike an order by x or y, so that a label may be rotated together
with its image. It jumps only where an axis is square to the way inwards; ``simulation.plate`` samples no
item nearer to that than ``PlateSettings.tie_margin``.
"""

import math

import numpy as np

from simulation.plate import Plate

_BEHIND, _BEYOND = 1.2, 0.8


def food_label(plate: Plate) -> np.ndarray:
    """The parameters of the plate's instruction.

    Returns:
      float32 [4]: x1, y1, x2, y2 in [0, 1], x to the right, y down.

    Raises:
      ValueError: the stroke leaves the image (never for plates of ``sample_plate``).
    """
    item = plate.items[plate.target]
    across = plate.action == "skewering"
    angle = item.angle + (math.pi / 2.0 if across else 0.0)
    du, dv = math.cos(angle), math.sin(angle)
    if du * (plate.dish.x - item.x) + dv * (plate.dish.y - item.y) < 0.0:
        du, dv = -du, -dv
    before, after = {
        "skewering": (item.half_minor, item.half_minor),
        "scooping": (_BEHIND * item.size, _BEYOND * item.size),
        "twirling": (0.5 * item.half_minor, 0.5 * item.half_minor),
    }[plate.action]
    label = np.array(
        [item.x - before * du, item.y - before * dv, item.x + after * du, item.y + after * dv], np.float32
    )
    if not ((label >= 0.0) & (label <= 1.0)).all():
        raise ValueError(f"The stroke must lie inside the image. Received: {label.tolist()} for {item}")
    return label
