"""Writes small RLDS data sets for tests, by TFDS' own incremental writer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

Episode = Mapping[str, Any]


def features(size: int = 8, metadata: Mapping[str, Any] | None = None) -> tfds.features.FeaturesDict:
    step = {
        "observation": {
            "image": tfds.features.Image(shape=(size, size, 3), dtype=np.uint8, encoding_format="png"),
            "depth": tfds.features.Image(shape=(size, size, 1), dtype=np.uint16, encoding_format="png"),
        },
        "action": tfds.features.Tensor(shape=(4,), dtype=np.float32),
        "language_instruction": tfds.features.Text(),
        "language_embedding": tfds.features.Tensor(shape=(512,), dtype=np.float32),
        "is_first": np.bool_,
        "is_last": np.bool_,
        "is_terminal": np.bool_,
    }
    metadata = {"file_path": tfds.features.Text()} if metadata is None else metadata
    top = {"steps": tfds.features.Dataset(step)}
    return tfds.features.FeaturesDict({**top, "episode_metadata": metadata} if metadata else top)


def episode(
    number: int, length: int, *, size: int = 8, instruction: str = "pick up the cup", path: str | None = None
) -> Episode:
    """Step t of episode e: the image is e everywhere and its first pixel t; action (e, t, -t, t odd)."""
    steps = []
    for t in range(length):
        image = np.full((size, size, 3), number, np.uint8)
        image[0, 0] = t
        steps.append(
            {
                "observation": {"image": image, "depth": np.full((size, size, 1), 1000 + t, np.uint16)},
                "action": np.array([number, t, -t, t % 2], np.float32),
                "language_instruction": instruction,
                "language_embedding": np.eye(512, dtype=np.float32)[number],
                "is_first": t == 0,
                "is_last": t == length - 1,
                "is_terminal": t == length - 1,
            }
        )
    return {"steps": steps, "episode_metadata": {"file_path": f"e{number}" if path is None else path}}


def write_rlds(
    directory: Path,
    episodes: Mapping[str, Sequence[Episode]],
    *,
    per_shard: int = 3,
    spec: tfds.features.FeaturesDict | None = None,
    name: str = "tiny",
) -> Path:
    """Returns the version's folder, ``directory/name/1.0.0``."""
    folder = directory / name / "1.0.0"
    folder.mkdir(parents=True)
    identity = tfds.core.DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name="tests"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features() if spec is None else spec)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=per_shard, overwrite=False)
    writer.initialize_splits(list(episodes), fail_if_exists=False)
    writer.add_examples({split: list(e) for split, e in episodes.items()})
    writer.close_all()
    return folder
