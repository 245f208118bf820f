"""Writes the embedded data set of the food task: plates drawn by rule, their labels and embeddings.

    python -m simulation.food_data --out plates.npz --plates 6000 --image_size 64 --seed 0 \\
        --embeddings embeddings

Plate i of a data set is a function of (seed, i) alone, so the file does not depend on the number of
worker processes, and a larger data set begins with the smaller one. Each block of 66 plates asks for each
combination of action and food once, in random order.
"""

import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np
from absl import app, flags
from tqdm import tqdm

from core import files, food
from simulation import food_labels, renderer
from simulation.plate import Plate, PlateSettings, sample_plate

EMBEDDING_SIZE = 512
_CHUNK = 48  # Plates a task: short enough for a smooth progress bar, long enough to hide its costs.
# Which stream of random numbers: of the order of combinations, of the plates.
_ORDER, _SCENE = 0, 1


def plate_at(index: int, seed: int, settings: PlateSettings) -> Plate:
    """Plate ``index`` of the data set with this seed."""
    combinations = food.combinations()
    block, place = divmod(index, len(combinations))
    order = np.random.default_rng([seed, _ORDER, block]).permutation(len(combinations))
    action, wanted = food.split_combination(combinations[order[place]])
    return sample_plate(np.random.default_rng([seed, _SCENE, index]), settings, action, wanted)


def draw_plates(
    num_plates: int,
    image_size: int,
    seed: int,
    settings: PlateSettings | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draws a data set.

    Args:
      num_plates: N, at least 1.
      image_size: H = W in pixels.
      seed: not negative; another seed gives other plates.
      settings: what the sampler may do; the default is ``PlateSettings()``.
      workers: processes; None takes one a core of this process, 1 draws in this one.
      progress: shows a progress bar on stderr.

    Returns:
      images uint8 [N, H, W, 3] RGB, actions float32 [N, 4] in [0, 1] (``simulation.food_labels``) and N
      combination names.

    Raises:
      ValueError: an argument out of range.
    """
    for name, value, least in (("num_plates", num_plates, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}. Received: {value}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1. Received: {workers}")
    settings = settings or PlateSettings()
    images = np.empty((num_plates, image_size, image_size, 3), np.uint8)
    actions = np.empty((num_plates, 4), np.float32)
    names: list[str] = []
    tasks = [
        (start, min(start + _CHUNK, num_plates), image_size, seed, settings)
        for start in range(0, num_plates, _CHUNK)
    ]
    workers = min(workers or len(os.sched_getaffinity(0)), len(tasks))
    pause = 0.1 if sys.stderr.isatty() else 15.0  # A log file gets a line now and then.
    with tqdm(total=num_plates, unit="plate", desc="Drawing", disable=not progress, mininterval=pause) as bar:
        for drawn, labels, asked in _run(tasks, workers):
            start = len(names)
            names += asked
            images[start : len(names)], actions[start : len(names)] = drawn, labels
            bar.update(len(asked))
    return images, actions, names


def write_food_data(
    path: str | Path,
    num_plates: int,
    image_size: int,
    seed: int,
    encoder_identity: str,
    embeddings: Mapping[str, np.ndarray],
    settings: PlateSettings | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Draws a data set and writes it in the food NPZ's form (``episodes.food_npz``), atomically.

    Args:
      path: the file to write; its name must end in ``.npz``.
      num_plates, image_size, seed, settings, workers, progress: as for ``draw_plates``.
      encoder_identity: of the sentence encoder that made the embeddings.
      embeddings: combination name -> float32 [512] of unit norm, all 66 of them.

    Raises:
      ValueError: an argument is not as above; nothing is written.
    """
    missing = [name for name in food.combinations() if name not in embeddings]
    if missing:
        raise ValueError(f"embeddings must have all 66 combinations. Received: none for {missing}")
    # Imported here: the worker processes import this module and need no TensorFlow, which episodes brings.
    from episodes import food_npz

    images, actions, names = draw_plates(num_plates, image_size, seed, settings, workers, progress)
    vectors = np.stack([embeddings[name] for name in names])
    food_npz.write_food_npz(path, images, actions, vectors, encoder_identity, names)


def read_embeddings(folder: str | Path) -> tuple[str, dict[str, np.ndarray]]:
    """Reads the shipped embeddings: ``{action}_{food}.npy`` and ``encoder.json`` with its ``identity``.

    Returns:
      The encoder's identity and combination name -> float32 [512].

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: the identity is missing, or a vector is not float [512] of unit norm.
    """
    folder = Path(folder)
    identity = files.read_json(folder / "encoder.json").get("identity")
    if not identity or not isinstance(identity, str):
        raise ValueError(f"{folder}/encoder.json must name the encoder's identity. Received: {identity!r}")
    vectors = {}
    for name in food.combinations():
        vector = np.load(folder / f"{name}.npy", allow_pickle=False)
        if vector.shape != (EMBEDDING_SIZE,) or not np.issubdtype(vector.dtype, np.floating):
            raise ValueError(
                f"{folder}/{name}.npy must be float [{EMBEDDING_SIZE}]. "
                f"Received: shape={vector.shape}, dtype={vector.dtype}"
            )
        if not abs(float(np.linalg.norm(vector)) - 1.0) < 1e-3:
            raise ValueError(
                f"{folder}/{name}.npy must be of unit norm. Received: norm {np.linalg.norm(vector)}"
            )
        vectors[name] = vector.astype(np.float32)
    return identity, vectors


_Task = tuple[int, int, int, int, PlateSettings]
_Drawn = tuple[np.ndarray, np.ndarray, list[str]]


def _run(tasks: Sequence[_Task], workers: int) -> Iterator[_Drawn]:
    """The tasks' results in the tasks' order."""
    if workers == 1:
        yield from map(_draw, tasks)
        return
    # Spawned, not forked: the calling process may have TensorFlow's threads, which a fork breaks.
    context = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(_draw, tasks)


def _draw(task: _Task) -> _Drawn:
    start, stop, image_size, seed, settings = task
    plates = [plate_at(index, seed, settings) for index in range(start, stop)]
    images = np.stack([renderer.render(plate, image_size) for plate in plates])
    actions = np.stack([food_labels.food_label(plate) for plate in plates])
    return images, actions, [plate.combination for plate in plates]


def _define_flags() -> None:
    defaults = PlateSettings()
    flags.DEFINE_string("out", None, "The NPZ file to write.", required=True)
    flags.DEFINE_integer("plates", 6000, "Number of plates.", lower_bound=1)
    flags.DEFINE_integer("image_size", 64, "Height and width in pixels.", lower_bound=16)
    flags.DEFINE_integer("seed", 0, "Another seed gives other plates.", lower_bound=0)
    flags.DEFINE_string("embeddings", "embeddings", "Folder of {action}_{food}.npy and encoder.json.")
    flags.DEFINE_integer("min_items", defaults.min_items, "Foods on a plate, at least.", lower_bound=1)
    flags.DEFINE_integer("max_items", defaults.max_items, "Foods on a plate, at most.", upper_bound=5)
    flags.DEFINE_float("clutter", defaults.clutter, "0 (plain) to 1.", lower_bound=0, upper_bound=1)
    flags.DEFINE_float("lighting", defaults.lighting, "0 (even) to 1.", lower_bound=0, upper_bound=1)
    flags.DEFINE_integer("workers", None, "Processes; one a core by default.", lower_bound=1)


def _main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    values = flags.FLAGS
    identity, embeddings = read_embeddings(values.embeddings)
    settings = PlateSettings(
        min_items=values.min_items,
        max_items=values.max_items,
        clutter=values.clutter,
        lighting=values.lighting,
    )
    write_food_data(
        values.out,
        values.plates,
        values.image_size,
        values.seed,
        identity,
        embeddings,
        settings,
        values.workers,
        progress=True,
    )
    sys.stdout.write(f"{values.out}: {values.plates} plates of {values.image_size} pixels\n")


if __name__ == "__main__":
    _define_flags()
    app.run(_main)
