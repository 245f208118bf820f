"""Made episodes that show whether a policy uses a modality: one camera alone says where the joints go next.

Every modality shows a mark that wanders over its picture, each on a way of its own: a coloured disc, a near
thing before the depth camera, a dent in the gel. The joints follow the mark of one modality, the cue, a step
later. Their own past tells them only where the mark was; how far it has moved since is in the cue's picture
and nowhere else, and the other pictures look as if they told it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from episodes.eipl_arrays import write_eipl
from episodes.episode import ACTION, DEPTH, GELSIGHT_LEFT, IMAGE, JOINT_POSITIONS
from episodes.npz import step_columns

CUES = {"image": IMAGE, "depth": DEPTH, "gelsight_left": GELSIGHT_LEFT}
"""Name of a modality -> its field."""
INSTRUCTION = "follow the mark"
LARGEST_STEP = 0.25
"""Of a mark in each direction and step, in parts of the way that it has; uniformly drawn."""
JOINT_RANGE = np.array([[-0.8, 0.2], [0.8, 1.4]])
"""The two joints when the mark is at the top left, and when it is at the bottom right, rad."""
FAR_MM, NEAR_MM = 1200, 500

_SMALLEST = 16
_RADIUS, _EDGE = 3.0, 0.6
_MARGIN = 6.0  # Pixels that a mark's middle keeps from the border.
_TABLE, _DISC = np.array([150, 140, 125]), np.array([200, 60, 50])
_GEL = np.array([110, 115, 120])
# Each lamp of the gel has a colour, and lights the slope that faces it.
_LAMPS = ((0.5, (70, 0, 0)), (2.6, (0, 70, 0)), (4.7, (0, 0, 70)))
_NOISE = 2.0


def make_episode(cue: str, steps: int, *, seed: int, size: int = 24) -> dict[str, np.ndarray]:
    """One episode, as columns of the contract.

    Args:
      cue: the modality that the joints follow: ``image``, ``depth`` or ``gelsight_left``.
      steps: T.
      seed: the same seed gives the same episode.
      size: height and width of all pictures, in pixels.

    Returns:
      field path -> [T, ...]: three pictures, two joints, the action (the next joints), and the rest.

    Raises:
      ValueError: an argument is out of range.
    """
    if cue not in CUES:
        raise ValueError(f"cue must be one of {tuple(CUES)}. Received: {cue!r}")
    if steps < 1 or size < _SMALLEST:
        raise ValueError(
            f"An episode needs a step, and pictures of {_SMALLEST} pixels. "
            f"Received: steps={steps}, size={size}"
        )
    random = np.random.default_rng(seed)
    # A place before the first picture, which the first joints follow.
    ways = {name: _way(steps + 1, random) for name in CUES}
    low, high = JOINT_RANGE
    joints = (low + ways[cue] * (high - low)).astype(np.float32)
    return {
        **step_columns(steps, np.full(steps, INSTRUCTION)),
        IMAGE: _colour(_heights(ways["image"][1:], size), random),
        DEPTH: _depth(_heights(ways["depth"][1:], size), random),
        GELSIGHT_LEFT: _gel(_heights(ways["gelsight_left"][1:], size), random),
        JOINT_POSITIONS: joints[:-1],
        ACTION: joints[1:],
    }


def write_episodes(
    folder: str | Path,
    cue: str,
    *,
    train: int = 16,
    test: int = 4,
    steps: int = 20,
    seed: int = 0,
    size: int = 24,
) -> None:
    """Writes a data set in EIPL's arrays (``episodes.eipl_arrays``), atomically.

    Args:
      folder: to write; it must not exist.
      cue: see ``make_episode``.
      train, test: episodes of each part; 0 for none of it.
      steps: of the longest episodes; others are one or two steps shorter.
      seed: of everything; other seeds, other episodes.
      size: see ``make_episode``.

    Raises:
      FileExistsError: the folder exists.
      ValueError: an argument is out of range.
    """
    if steps < 3:
        raise ValueError(f"steps must be at least 3. Received: {steps}")

    def episodes() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        for i in range(train + test):
            drawn = int(np.random.SeedSequence([seed, i]).generate_state(1)[0])
            yield "train" if i < train else "test", make_episode(cue, steps - i % 3, seed=drawn, size=size)

    write_eipl(folder, episodes(), {"0": INSTRUCTION})


def _way(steps: int, random: np.random.Generator) -> np.ndarray:
    """Places of a mark, x and y in [0, 1]: [steps, 2]. It bounces off the borders."""
    moves = random.uniform(-LARGEST_STEP, LARGEST_STEP, (steps, 2))
    moves[0] = random.uniform(0.0, 1.0, 2)
    # Reflection of a straight way: unfolded, the borders repeat with a period of 2.
    return 1.0 - np.abs(np.cumsum(moves, axis=0) % 2.0 - 1.0)


def _heights(way: np.ndarray, size: int) -> np.ndarray:
    """How much of the mark each pixel sees, in [0, 1]: [T, size, size]."""
    middle = _MARGIN + way * (size - 1 - 2 * _MARGIN)
    rows, columns = np.mgrid[:size, :size]
    distance = np.hypot(columns - middle[:, None, None, 0], rows - middle[:, None, None, 1])
    return 1.0 / (1.0 + np.exp((distance - _RADIUS) / _EDGE))


def _colour(heights: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return _uint8(_TABLE + heights[..., None] * (_DISC - _TABLE), random)


def _depth(heights: np.ndarray, random: np.random.Generator) -> np.ndarray:
    distances = FAR_MM + heights * (NEAR_MM - FAR_MM) + random.normal(0.0, _NOISE, heights.shape)
    return np.rint(distances).astype(np.uint16)


def _gel(heights: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The dent's slopes shine in the colour of the lamp that they face; its flat middle is darker."""
    down, right = np.gradient(heights, axis=(1, 2))
    picture = _GEL - 25.0 * heights[..., None]
    for angle, colour in _LAMPS:
        facing = np.maximum(np.cos(angle) * right + np.sin(angle) * down, 0.0)
        picture = picture + facing[..., None] * 3.0 * np.array(colour)
    return _uint8(picture, random)


def _uint8(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    noisy = picture + random.normal(0.0, _NOISE, picture.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
