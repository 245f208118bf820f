"""The largest released CLIP-RT, of stand-in weights, from a file of weights to answers: seconds and memory.

Each stage runs in a process of its own, so that its peak of memory is its own: the conversion of a file in
float32, then the policy, from loading to the first answer, which encodes the 58 phrases and compiles, to
later ones, which find features kept. Ways:

    float32          stored and computed in float32
    bfloat16         stored and computed in bfloat16
    mixed_bfloat16   stored in float32, computed in bfloat16
    stored_bfloat16  stored in bfloat16, computed in float32

    python -m benchmarks.clip_full_size [--ways bfloat16 …] [--model ViT-H-14-378-quickgelu] [--json]
"""

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)

# isort: split
import numpy as np

from clip_tf.model_config import ClipConfig
from clip_tf.rt.policy_folder import CLIP, PolicyDescription, write_description
from clip_tf.rt.vocabulary import make_vocabulary
from clip_tf.weights.layout import LOGIT_SCALE, openclip_shapes
from clip_tf.weights.safetensors_file import Entry, write_safetensors

MODEL = "ViT-H-14-378-quickgelu"


@dataclasses.dataclass(frozen=True)
class Way:
    """How a policy is stored and computed: ``dtype`` of ``convert``, and of ``load_policy``."""

    stored: str
    computed: str


WAYS = {
    "float32": Way("float32", "float32"),
    "bfloat16": Way("bfloat16", "bfloat16"),
    "mixed_bfloat16": Way("float32", "mixed_bfloat16"),
    "stored_bfloat16": Way("bfloat16", "float32"),
}


def write_standin(path: Path, name: str) -> None:
    """Writes seeded weights of a configuration, in float32, one tensor at a time."""
    float32 = np.dtype(np.float32)

    def entry(i: int, key: str, shape: tuple[int, ...]) -> Entry:
        def read() -> np.ndarray:
            if key == LOGIT_SCALE:
                return np.full(shape, np.log(1 / 0.07), np.float32)
            if key.endswith("weight") and len(shape) == 1:
                return np.ones(shape, np.float32)
            draw = np.random.default_rng(i).standard_normal(shape, dtype=np.float32)
            return draw * np.float32(max(shape[-1], 16) ** -0.5)

        return Entry(key, shape, float32, read)

    shapes = openclip_shapes(ClipConfig.from_name(name))
    write_safetensors(path, [entry(i, *item) for i, item in enumerate(shapes.items())], {})


def convert_stage(weights: Path, folder: Path, name: str, stored: str) -> dict[str, float]:
    """Converts the file into a policy folder of the fine-tuning vocabulary."""
    from clip_tf.convert import convert

    begin = time.perf_counter()
    folder.mkdir()
    report = convert(weights, folder / CLIP, config=ClipConfig.from_name(name), dtype=stored)
    write_description(folder, PolicyDescription(make_vocabulary("finetuned")))
    return {"convert_s": time.perf_counter() - begin, "tensors": len(report.loaded), "convert_gb": _peak_gb()}


def answer_stage(folder: Path, computed: str) -> dict[str, float | str]:
    """Loads the policy and asks it three times; the third image and instruction are the second's."""
    from clip_tf.rt.serving_policy import load_policy
    from core.policy import Session

    images = np.random.default_rng(0).integers(0, 256, (2, 480, 640, 3), dtype=np.uint8)
    begin = time.perf_counter()
    policy = load_policy(folder, dtype=computed)
    session, found = Session(policy), {"load_s": time.perf_counter() - begin}
    for what, image, text in (
        ("first_answer_s", images[0], "close the laptop"),
        ("new_instruction_s", images[1], "open the drawer"),
        ("cached_answer_s", images[1], "open the drawer"),
    ):
        begin = time.perf_counter()
        result = session.step({"image": image, "natural_language_instruction": text})
        found[what] = time.perf_counter() - begin
    probabilities = result.info["class_probabilities"]
    if not np.isfinite(probabilities).all() or np.ptp(probabilities) == 0:
        raise ValueError(f"The policy must tell actions apart. Received: {probabilities}")
    return {**found, "answer_gb": _peak_gb(), "phrase": str(result.info["phrases"][0])}


def measure(way: str, name: str = MODEL) -> dict[str, float | str]:
    """Both stages of one way, each in its own process.

    Returns:
      ``convert_s``, ``load_s`` (with the 58 phrases), ``first_answer_s`` (compiles), ``new_instruction_s``,
      ``cached_answer_s`` in seconds; ``convert_gb``, ``answer_gb``: the processes' peaks in 2^30 bytes;
      ``tensors``; ``phrase``, the answer.

    Raises:
      subprocess.CalledProcessError: a stage failed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_standin(root / "weights.safetensors", name)
        converted = _run("convert", way, name, root)
        (root / "weights.safetensors").unlink()
        return {**converted, **_run("answer", way, name, root)}


def _run(stage: str, way: str, name: str, root: Path) -> dict[str, float | str]:
    command = [sys.executable, "-m", "benchmarks.clip_full_size", "--stage", stage, "--ways", way]
    command += ["--model", name, "--folder", str(root)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float | str] = json.loads(done.stdout.splitlines()[-1])
    return found


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clip_full_size", description="Times the largest CLIP-RT."
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--model", default=MODEL, help="OpenCLIP's name")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--stage", choices=("convert", "answer"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.stage is not None:
        way, policy = WAYS[options.ways[0]], options.folder / "policy"
        found = (
            convert_stage(options.folder / "weights.safetensors", policy, options.model, way.stored)
            if options.stage == "convert"
            else answer_stage(policy, way.computed)
        )
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    results = {way: measure(way, options.model) for way in options.ways}
    if options.json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
        return 0
    for way, values in results.items():
        parts = [f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()]
        sys.stdout.write(f"{way:16} {', '.join(parts)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
