"""Small data sets in the layouts that the shipped configurations name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from core import food
from episodes.conversion import conversion
from episodes.food_npz import write_food_npz
from episodes.settings import make_conversion_settings, make_sync_settings
from episodes.tasks import Tasks
from episodes.topics import make_topic_map, with_topics
from language import make_text_encoder
from tests.episodes.demonstration_bag import write_demonstration
from tests.episodes.tiny_rlds import write_rlds

_ACTIONS = {
    "terminate_episode": (3, np.int32),
    "world_vector": (3, np.float32),
    "rotation_delta": (3, np.float32),
    "gripper_closedness_action": (1, np.float32),
    "base_displacement_vertical_rotation": (1, np.float32),
    "base_displacement_vector": (2, np.float32),
}


def write_food(path: Path, n: int = 24, size: int = 32, seed: int = 0) -> Path:
    """Plates of one bright spot; the label is the line through it."""
    rng = np.random.default_rng(seed)
    encoder = make_text_encoder()
    names = [food.combinations()[i] for i in rng.integers(0, 66, n)]
    centres = rng.uniform(0.3, 0.7, (n, 2))
    y, x = np.mgrid[0:size, 0:size] / size
    spots = np.exp(-((x[None] - centres[:, :1, None]) ** 2 + (y[None] - centres[:, 1:, None]) ** 2) / 0.01)
    images = (255 * np.repeat(spots[..., None], 3, axis=-1)).astype(np.uint8)
    labels = np.concatenate([centres - 0.1, centres + 0.1], axis=1).astype(np.float32)
    vectors = encoder.encode([food.sentence(*food.split_combination(name)) for name in names])
    write_food_npz(path, images, labels, vectors, encoder.identity, names)
    return path


def write_fractal(folder: Path) -> Path:
    """Episodes with the keys of fractal20220817_data."""
    actions = {
        name: tfds.features.Tensor(shape=(size,), dtype=dtype) for name, (size, dtype) in _ACTIONS.items()
    }
    observation = {
        "image": tfds.features.Image(shape=(64, 80, 3), dtype=np.uint8),
        "natural_language_instruction": tfds.features.Text(),
    }

    def step(rng: np.random.Generator) -> dict[str, Any]:
        values = {n: rng.uniform(-1, 1, s).astype(d) for n, (s, d) in _ACTIONS.items()}
        values["terminate_episode"] = np.array([0, 1, 0], np.int32)
        return {"action": values, "observation": {"natural_language_instruction": "pick up the apple"}}

    return _write(folder, {"action": actions, "observation": observation}, step, (64, 80))


def write_bridge(folder: Path) -> Path:
    """Episodes with the keys of BridgeData as Octo stores it."""
    observation = {"image_0": tfds.features.Image(shape=(64, 64, 3), dtype=np.uint8)}
    spec = {
        "action": tfds.features.Tensor(shape=(7,), dtype=np.float32),
        "observation": observation,
        "language_instruction": tfds.features.Text(),
    }

    def step(rng: np.random.Generator) -> dict[str, Any]:
        action = rng.uniform(-1, 1, 7).astype(np.float32)
        return {"action": action, "observation": {}, "language_instruction": "put the cup into the sink"}

    return _write(folder, spec, step, (64, 64))


def write_from_bags(folder: Path, end_effector: bool) -> Path:
    """Eight bags of five steps, converted: to joint positions, or to the motion of the tool."""
    sync = {"action": "pose_difference", "gripper_joint": "wrist"} if end_effector else {}
    topics = ["pose=/tool_pose"] if end_effector else []
    bags = [
        # What differs makes the content, and so the split, differ.
        write_demonstration(folder / "bags" / f"{i}.bag", offset_ms=(i, 7, 11), shape=(64, 80), poses=True)
        for i in range(8)
    ]
    settings = make_conversion_settings(
        with_topics(make_topic_map(), topics),
        make_sync_settings(**sync),
        Tasks("open the drawer"),
        fractions={"train": 0.5, "val": 0.5},
    )
    report = conversion.convert(bags, settings, folder, "demonstrations", workers=0)
    assert report.exit_code == 0
    return folder / "demonstrations"


def _write(folder: Path, spec: Mapping[str, Any], step: Any, size: tuple[int, int]) -> Path:
    rng = np.random.default_rng(0)
    spec = {**spec, "is_first": np.bool_, "is_last": np.bool_}
    (camera,) = [n for n, f in spec["observation"].items() if isinstance(f, tfds.features.Image)]
    episodes = []
    for e in range(8):
        steps = []
        for t in range(4):
            one = step(rng)
            one["observation"][camera] = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            steps.append({**one, "is_first": t == 0, "is_last": t == 3})
        episodes.append({"steps": steps, "episode_metadata": {"file_path": f"episode {e}"}})
    features = tfds.features.FeaturesDict(
        {"steps": tfds.features.Dataset(spec), "episode_metadata": {"file_path": tfds.features.Text()}}
    )
    return write_rlds(folder, {"train": episodes}, spec=features)
