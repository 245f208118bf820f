"""A robot's control step of CLIP-SARNN: preparing the images, CLIP's patches, the network, the joints in rad.

The weights are random, which does not change the time. Colour, depth and two GelSight images; CLIP is
ViT-B/32. A control step at 10 Hz has 100 ms.

    python -m benchmarks.sarnn_policy [--json] [--repeats 50] [--sizes 64,128] [--batch 1]
"""

import argparse
import json
import sys
import time
from typing import Any

from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)

# isort: split
import numpy as np

from sarnn_tf.description import INSTRUCTION, JOINTS, SarnnDescription
from sarnn_tf.frozen_clip import FrozenClip, random_frozen_clip
from sarnn_tf.image_modality import ImageModality
from sarnn_tf.networks.clip_sarnn import CLIP_FEATURES
from sarnn_tf.serving_policy import SarnnPolicy

_JOINTS = 8
_CAMERA = (480, 640)
_TOWER = "ViT-B-32-quickgelu"


def make_policy(side: int, clip: FrozenClip | None, model: str = "clip_sarnn") -> SarnnPolicy:
    """A policy of square images; ``sarnn`` sees the colour image alone."""
    size = (side, side)
    modalities = [ImageModality("image", size=size)]
    if model == "clip_sarnn":
        depth = ImageModality("depth", 1, size=size, full_scale=2000.0, interpolation="nearest")
        touch = [ImageModality(f"gelsight_{s}", size=size) for s in ("left", "right")]
        modalities += [depth, *touch]
    description = SarnnDescription(
        model=model,
        modalities=tuple(modalities),
        joint_names=tuple(f"joint_{i}" for i in range(_JOINTS)),
        joint_bounds=((-1.0,) * _JOINTS, (1.0,) * _JOINTS),
        use_clip=clip is not None,
        clip_features=clip.features if clip else CLIP_FEATURES,
        clip_fingerprint="random" if clip else "",
    )
    return SarnnPolicy(description.make_model(seed=0), description, clip, input_param=0.9)


def observe(policy: SarnnPolicy, n: int) -> dict[str, np.ndarray]:
    """What n robots see, as their cameras give it."""
    rng = np.random.default_rng(0)
    seen: dict[str, np.ndarray] = {JOINTS: rng.uniform(-1, 1, (n, _JOINTS)).astype(np.float32)}
    for m in policy.description.modalities:
        shape, top = ((n, *_CAMERA, 3), 256) if m.channels == 3 else ((n, *_CAMERA), 3000)
        seen[m.name] = rng.integers(0, top, shape).astype(np.uint8 if m.channels == 3 else np.uint16)
    if policy.description.uses_text:
        seen[INSTRUCTION] = np.full((n,), "grasp the black cable")
    return seen


def measure(policy: SarnnPolicy, n: int, repeats: int) -> dict[str, float]:
    """Milliseconds of a step of n clients, after the first two."""
    seen, state, times = observe(policy, n), policy.initial_state(n), []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        _, state = policy.infer(seen, state)
        times.append(1000 * (time.perf_counter() - began))
    warm = np.sort(times[2:])
    return {
        "median_ms": round(float(np.median(warm)), 2),
        "p95_ms": round(float(np.quantile(warm, 0.95)), 2),
        "first_ms": round(times[0], 1),
    }


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of sentences")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--sizes", default="64,128", help="sides of the images")
    parser.add_argument("--batch", type=int, default=1, help="clients in one call")
    options = parser.parse_args()
    clip = random_frozen_clip(_TOWER)
    kinds = {"clip_sarnn": clip, "clip_sarnn --no_clip": None, "sarnn": None}
    found: dict[str, Any] = {}
    for side in map(int, options.sizes.split(",")):
        for kind, towers in kinds.items():
            policy = make_policy(side, towers, kind.split()[0])
            found[f"{kind} {side}x{side}"] = measure(policy, options.batch, options.repeats)
    if options.json:
        sys.stdout.write(json.dumps({"batch": options.batch, "repeats": options.repeats, **found}) + "\n")
        return
    for name, times in found.items():
        sys.stdout.write(
            f"{name}: median {times['median_ms']} ms, 95% within {times['p95_ms']} ms "
            f"(first step {times['first_ms']} ms)\n"
        )


if __name__ == "__main__":
    main()
