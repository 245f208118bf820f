"""Small data sets of each kind: the colour of an image says the class."""

import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from clip_tf.clip_model import ClipModel
from clip_tf.model_config import ClipConfig
from clip_tf.rt.csv_data import Row, write_rows
from clip_tf.rt.vocabulary import Vocabulary
from tests.episodes.tiny_rlds import write_rlds

VOCABULARY = Vocabulary(
    ("close the gripper", "go ahead", "go up", "turn"),
    [[0] * 7, [0.1, 0, 0, 0, 0, 0, 1], [0, 0, 0.1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0.8, 1]],
)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 200, 0))


def picture(label: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """uint8 [size, size, 3] of the class's colour with some noise."""
    noise = np.random.default_rng(seed).integers(-20, 20, (size, size, 3))
    return np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png")
    return buffer.getvalue()


def write_csv(folder: Path, n: int = 40, name: str = "train") -> Path:
    """Four classes in turns, images in five folders as if of episodes."""
    rows = []
    for i in range(n):
        label = i % 4
        path = folder / f"{name}_{i % 5}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture(label, seed=i)))
        rows.append(Row(path, "do it", VOCABULARY.phrases[label], label))
    write_rows(folder / f"{name}.csv", rows)
    return folder / f"{name}.csv"


def rlds_actions(labels: list[int]) -> np.ndarray:
    """Actions float32 [n + 1, 7] whose steps say the labels, and one that says nothing."""
    actions = np.zeros((len(labels) + 1, 7), np.float32)
    actions[:, 6] = 1
    for step, label in enumerate(labels):
        actions[step, :6] = VOCABULARY.actions[label][:6]
        if label == 0:
            actions[step:, 6] = 0
    return actions


def write_episodes(folder: Path, episodes: int = 8, size: int = 16, instruction: str = "task") -> Path:
    """RLDS episodes of five steps: ahead, up, turn, close, and one that says nothing."""
    spec = tfds.features.FeaturesDict(
        {
            "steps": tfds.features.Dataset(
                {
                    "observation": {
                        "image": tfds.features.Image(
                            shape=(size, size, 3), dtype=np.uint8, encoding_format="png"
                        )
                    },
                    "action": tfds.features.Tensor(shape=(7,), dtype=np.float32),
                    "language_instruction": tfds.features.Text(),
                    "is_first": np.bool_,
                    "is_last": np.bool_,
                }
            ),
            "episode_metadata": {"file_path": tfds.features.Text()},
        }
    )
    labels = [1, 2, 3, 0]
    written = []
    for e in range(episodes):
        steps = [
            {
                "observation": {"image": picture(labels[t] if t < 4 else 0, size, seed=10 * e + t)},
                "action": action,
                "language_instruction": f"{instruction} {e % 2}",
                "is_first": t == 0,
                "is_last": t == 4,
            }
            for t, action in enumerate(rlds_actions(labels))
        ]
        written.append({"steps": steps, "episode_metadata": {"file_path": f"e{e}"}})
    return write_rlds(folder, {"train": written}, spec=spec)


TINY_CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def tiny_clip(seed: int = 0) -> ClipModel:
    """A CLIP of 16 pixels and one block a tower."""
    return ClipModel(ClipConfig.from_json(TINY_CONFIG), seed=seed)
