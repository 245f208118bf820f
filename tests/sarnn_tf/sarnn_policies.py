"""Small SARNN policies and what they are asked with, for the tests of policies and of serving."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from core import files
from sarnn_tf.description import INSTRUCTION, JOINTS, SarnnDescription, write_description
from sarnn_tf.frozen_clip import FrozenClip, random_frozen_clip
from sarnn_tf.image_modality import ImageModality
from sarnn_tf.policy_folder import CLIP
from sarnn_tf.serving_policy import SarnnPolicy
from sarnn_tf.weights_file import WEIGHTS, save_weights

JOINT_NAMES = ("shoulder", "elbow", "wrist")
WORDS = ("grasp the black cable", "push the box", "let go")
MODALITIES = (
    ImageModality("image", k_dim=2, size=(14, 18)),
    ImageModality("depth", channels=1, k_dim=2, size=(9, 12), full_scale=2000.0, interpolation="nearest"),
    ImageModality("gelsight_left", k_dim=1, size=(8, 8)),
)
# Not a tower of any size: two layers of eight features, CLIP's vocabulary.
TINY_CLIP = {
    "model_cfg": {
        "embed_dim": 8,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 16, "layers": 2, "head_width": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2},
    }
}


@functools.cache
def tiny_clip(seed: int = 0) -> FrozenClip:
    return random_frozen_clip(TINY_CLIP, seed)


def describe(model: str = "clip_sarnn", **fields: Any) -> SarnnDescription:
    """A CLIP-SARNN of three modalities, told the words too; or a SARNN of one."""
    chosen: dict[str, Any] = {
        "model": model,
        "modalities": MODALITIES,
        "joint_names": JOINT_NAMES,
        "joint_bounds": ((-1.0, 0.5, 2.0), (1.0, 2.5, 2.0)),  # The wrist never moved.
        "vmin": 0.1,
        "vmax": 0.9,
        "rec_dim": 6,
        "temperature": 0.1,
        "clip_features": 8,
        "text_units": 4,
        "instructions": WORDS[:2],
        "rate_hz": 10.0,
    }
    if model == "sarnn":
        chosen |= {"modalities": MODALITIES[:1], "use_clip": False, "text_units": 0, "instructions": ()}
    chosen |= fields
    if chosen.get("use_clip", True) or chosen["text_units"]:
        chosen.setdefault("clip_fingerprint", tiny_clip().fingerprint)
    return SarnnDescription(**chosen)


def make_policy(
    model: str = "clip_sarnn", *, input_param: float = 1.0, seed: int = 1, **fields: Any
) -> SarnnPolicy:
    description = describe(model, **fields)
    clip = tiny_clip() if description.uses_text else None
    return SarnnPolicy(description.make_model(seed), description, clip, input_param)


def write_checkpoint(folder: Path, model: str = "clip_sarnn", *, seed: int = 1, **fields: Any) -> Path:
    """A checkpoint folder that is its run's best, with the CLIP beside it where the model uses one."""
    description = describe(model, **fields)
    folder.mkdir(parents=True)
    write_description(folder, description)
    save_weights(description.make_model(seed), folder / WEIGHTS)
    if description.uses_text and not (folder.parent / CLIP).exists():
        tiny_clip().save(folder.parent / CLIP)
    files.write_json(folder.parent / "best.json", {"folder": folder.name, "step": 1, "metrics": {}})
    return folder


def frames(
    description: SarnnDescription, n: int, seed: int = 0, size: tuple[int, int] = (24, 30)
) -> dict[str, np.ndarray]:
    """Observations of n clients, or n steps of one."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for m in description.modalities:
        if m.channels == 3:
            found[m.name] = rng.integers(0, 256, (n, *size, 3), np.uint8)
        else:
            found[m.name] = rng.integers(0, 3000, (n, *size), np.uint16)
    low, high = description.bounds
    found[JOINTS] = rng.uniform(low, high, (n, description.joint_dim)).astype(np.float32)
    if description.uses_text:
        found[INSTRUCTION] = np.array([WORDS[i % len(WORDS)] for i in range(n)])
    return found


def row(observations: dict[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    """The observations of one client, [1, ...]."""
    return {name: value[i : i + 1] for name, value in observations.items()}
