"""Small data sets of every kind that SARNNs are trained on, and stand-ins for what prepares them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from sarnn_tf.data.frames import ArrayFrames
from sarnn_tf.data.recorded_episode import RecordedEpisode, check_modalities
from sarnn_tf.image_modality import ImageModality
from tests.episodes import tiny_rlds

IMAGE = ImageModality("image", k_dim=2, size=(8, 10))
DEPTH = ImageModality("depth", channels=1, k_dim=1, size=(7, 9), full_scale=2000.0, interpolation="nearest")
TOUCH = ImageModality("gelsight_left", k_dim=1, size=(8, 8))


def arrays(steps: int, seed: int = 0, joints: int = 3) -> dict[str, np.ndarray]:
    """One episode as published NPZ files have it, colours BGR."""
    random = np.random.default_rng(seed)
    return {
        "color": random.integers(0, 256, (steps, 12, 14, 3), np.uint8),
        "depth": random.integers(0, 3000, (steps, 9, 11), np.uint16),
        "gelsight1": random.integers(0, 256, (steps, 10, 10, 3), np.uint8),
        "joints_state": random.normal(size=(steps, joints)).astype(np.float32),
        "actions": random.normal(size=(steps, joints)).astype(np.float32),
    }


def write_npz(folder: Path, name: str, content: Mapping[str, Any], *, compressed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(folder / f"{name}.npz", **content)
    return folder


def write_original_eipl(folder: Path, parts: Mapping[str, Sequence[Mapping[str, np.ndarray]]]) -> Path:
    """EIPL's own files: images and joints, padded to the longest by the last step."""
    longest = max(len(e["joints_state"]) for episodes in parts.values() for e in episodes)
    for part, episodes in parts.items():
        (folder / part).mkdir(parents=True)
        for name, key in (("images", "color"), ("joints", "joints_state")):
            padded = [
                np.pad(e[key], [(0, longest - len(e[key]))] + [(0, 0)] * (e[key].ndim - 1), "edge")
                for e in episodes
            ]
            np.save(folder / part / f"{name}.npy", np.stack(padded))
    joints = np.concatenate([e["joints_state"] for episodes in parts.values() for e in episodes])
    np.save(folder / "joint_bounds.npy", np.stack([joints.min(0), joints.max(0)]))
    return folder


def write_rlds(
    folder: Path, splits: Mapping[str, Sequence[Mapping[str, np.ndarray]]], instruction: Any = "push"
) -> Path:
    """A data set of somebody else: other names, one camera and depth; ``instruction`` may be one a step."""
    depth = tfds.features.Image(shape=(9, 11, 1), dtype=np.uint16, encoding_format="png")
    spec = tfds.features.FeaturesDict(
        {
            "steps": tfds.features.Dataset(
                {
                    "observation": {
                        "image_0": tfds.features.Image(shape=(12, 14, 3), encoding_format="png"),
                        "depth_0": depth,
                        "state": tfds.features.Tensor(shape=(3,), dtype=np.float64),
                    },
                    "language_instruction": tfds.features.Text(),
                }
            ),
            "episode_metadata": {"file_path": tfds.features.Text()},
        }
    )  # fmt: skip
    written: dict[str, list[dict[str, Any]]] = {}
    for split, episodes in splits.items():
        written[split] = [
            {
                "steps": [
                    {
                        "observation": {
                            "image_0": e["color"][t, ..., ::-1],
                            "depth_0": e["depth"][t][..., None],
                            "state": e["joints_state"][t].astype(np.float64),
                        },
                        "language_instruction": instruction
                        if isinstance(instruction, str)
                        else instruction[t],
                    }
                    for t in range(len(e["joints_state"]))
                ],
                "episode_metadata": {"file_path": f"{split} {i}"},
            }
            for i, e in enumerate(episodes)
        ]
    return tiny_rlds.write_rlds(folder, written, spec=spec)


FIELDS = {"image": "observation/image_0", "depth": "observation/depth_0", "joints": "observation/state"}


def episode(steps: int, name: str, *, seed: int = 0, **changed: Any) -> RecordedEpisode:
    """A recorded episode in memory; colours RGB."""
    content = arrays(steps, seed)
    made = RecordedEpisode(
        id=name,
        part=None,
        instruction="push the box",
        images={
            "image": ArrayFrames(content["color"]),
            "depth": ArrayFrames(content["depth"]),
            "gelsight_left": ArrayFrames(content["gelsight1"]),
        },
        joints=content["joints_state"],
    )
    return dataclasses.replace(made, **changed)


class MemorySource:
    """Episodes in memory as a source; counts how often it is read."""

    joint_names = ("shoulder", "elbow", "wrist")
    joint_bounds: np.ndarray | None = None
    rate_hz: float | None = 20.0
    name = "memory"

    def __init__(self, episodes: Sequence[RecordedEpisode], fingerprint: str = "one") -> None:
        self._episodes, self.fingerprint, self.passes = list(episodes), fingerprint, 0
        self.num_episodes = len(self._episodes)

    def episodes(self, modalities: Sequence[str]) -> Iterator[RecordedEpisode]:
        self.passes += 1
        for e in self._episodes:
            check_modalities(modalities, e.images, e.id)
            yield e


class CountingClip:
    """Stands for the frozen CLIP: patches are the image's corner pixels, text its length; counts both."""

    features = 3

    def __init__(self, fingerprint: str = "counting") -> None:
        self.fingerprint, self.frames, self.texts, self.most_texts = fingerprint, 0, 0, 0

    def patches(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
        self.frames += len(images)
        return images[:, :: images.shape[1] - 1, :: images.shape[2] - 1]

    def text(self, instructions: Sequence[str]) -> np.ndarray:
        self.texts += len(instructions)
        self.most_texts = max(self.most_texts, len(instructions))
        return np.array([[len(text), 0, 1] for text in instructions], np.float32)
