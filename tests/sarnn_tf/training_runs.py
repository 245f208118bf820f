"""Tiny data and trainables for the tests of SARNN's training."""

import os
import subprocess
import sys
from pathlib import Path

import gin
import numpy as np
import tensorflow as tf

from core.train_options import TrainOptions
from episodes.eipl_arrays import write_eipl
from episodes.episode import ACTION, DEPTH, GELSIGHT_LEFT, GELSIGHT_RIGHT, IMAGE, JOINT_POSITIONS
from episodes.npz import step_columns
from sarnn_tf import experiment
from sarnn_tf.trainable import SarnnTrainable
from training import loop as _loop  # noqa: F401  (registers LoopSettings)
from training import strategy as _strategy  # noqa: F401  (registers make_strategy)

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGS = ROOT / "configs"
INSTRUCTIONS = ("grasp the black cable", "put it down")
ALL_MODALITIES = "sarnn_tf.make_description.modalities = %ALL_MODALITIES"
# A tower that costs nothing, instead of the one of clip_sarnn_tiny.gin.
STAND_IN = {
    "embed_dim": 8,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 8, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


def write_data(folder: Path, lengths: tuple[int, ...] = (6, 4, 5, 3), held_out: int = 1) -> Path:
    """Episodes in EIPL's layout, once: a bright square wanders with the joints."""
    if folder.exists():
        return folder
    rng = np.random.default_rng(0)

    def episode(i: int, steps: int) -> dict[str, np.ndarray]:
        t = np.linspace(0.0, 1.0, steps)
        images = rng.integers(0, 60, (4, steps, 24, 20, 3), np.uint8)
        for step, place in enumerate((t * 12).astype(int)):
            images[:, step, place : place + 6, 4 * i : 4 * i + 6] = 230
        joints = np.stack([t, np.sin(t + i), np.full(steps, 0.5)], axis=1).astype(np.float32)
        return {
            IMAGE: images[0],
            DEPTH: images[1, ..., 0].astype(np.uint16) * 8,
            GELSIGHT_LEFT: images[2],
            GELSIGHT_RIGHT: images[3],
            JOINT_POSITIONS: joints,
            ACTION: joints,
            **step_columns(steps, np.full(steps, INSTRUCTIONS[i % 2])),
        }

    parts = ["train"] * (len(lengths) - held_out) + ["test"] * held_out
    columns = ((part, episode(i, n)) for i, (part, n) in enumerate(zip(parts, lengths, strict=True)))
    write_eipl(folder, columns, {str(i): text for i, text in enumerate(INSTRUCTIONS)})
    return folder


def options(folder: Path, model: str = "sarnn", **changes: object) -> TrainOptions:
    values = {
        "checkpoint_dir": folder / "log" / "run",
        "dataset_file": None,
        "data_dir": write_data(folder / "data"),
        "split_file": folder / "split.npz",
        "batch_size": 2,
        "image_size": 236,
        "loss_type": "smooth_l1",
        "pretrained_checkpoint": None,
        "frozen": (),
        "seed": 0,
        "model": model,
    }
    return TrainOptions(**{**values, **changes})  # type: ignore[arg-type]


def configure(config: str, *bindings: str, stand_in: bool = True) -> None:
    """Reads a shipped configuration, with images that cost little."""
    gin.clear_config()
    small = [
        *(f"{scope}/sarnn_tf.ImageModality.size = (16, 12)" for scope in ("depth", "gelsight_left")),
        "gelsight_right/sarnn_tf.ImageModality.size = (16, 12)",
        "colour/sarnn_tf.ImageModality.size = (16, 16)",
        "sarnn_tf.make_description.rec_dim = 6",
    ]
    gin.add_config_file_search_path(str(ROOT))
    gin.parse_config_files_and_bindings(
        [str(CONFIGS / f"{config}.gin")], [*small, *bindings], finalize_config=False
    )
    if stand_in:
        gin.bind_parameter("sarnn_tf.make_frozen_clip.stand_in", STAND_IN)


def make(
    folder: Path,
    *bindings: str,
    config: str | None = None,
    strategy: tf.distribute.Strategy | None = None,
    **changes: object,
) -> SarnnTrainable:
    """A trainable of a shipped configuration on the tiny data."""
    asked = options(folder, **changes)
    configure(config or asked.model, *bindings)
    return experiment.make_trainable(asked, strategy or tf.distribute.get_strategy())


def train(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """train.py in a process of its own, in ``folder``."""
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *flags],
        cwd=folder,
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
