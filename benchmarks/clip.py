"""CLIP's towers and CLIP-RT's policy step, beside PyTorch's open_clip on the same weights.

Ours runs compiled in this process, open_clip in another (``clip_torch.py``), which may have a Python of its
own; the two take turns, case by case. Cases: the image and the text tower for 1 and 32 inputs, and a policy
step from a camera's picture and an instruction to the scores of 58 phrases: with the phrases' features kept
(``step``) and with all phrases encoded each time, as the published snippet does (``step_58_phrases``).

    python -m benchmarks.clip [--model ViT-B-32-quickgelu] [--repeats 20] [--torch_python PYTHON] [--json]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)

# isort: split
import numpy as np
import tensorflow as tf

from clip_tf.clip_model import ClipModel, normalize
from clip_tf.converted_folder import WEIGHTS, save_clip
from clip_tf.image_preprocessing import preprocess
from clip_tf.model_config import ClipConfig
from clip_tf.rt.action_table import finetuning_table
from clip_tf.rt.prompt import apply_prompt
from clip_tf.tokenizer import tokenize

BATCHES = (1, 32)
_TORCH_SCRIPT = Path(__file__).with_name("clip_torch.py")
_INSTRUCTION = "pick up the red cup and put it into the drawer"

Case = Callable[[], np.ndarray]


def make_inputs(config: ClipConfig) -> dict[str, Any]:
    """What both sides are given: normalised images, a camera's picture, texts."""
    rng = np.random.default_rng(0)
    size = config.vision.image_size
    phrases = [move.phrase for move in finetuning_table()]
    return {
        "images": rng.standard_normal((max(BATCHES), size, size, 3)).astype(np.float32),
        "picture": rng.integers(0, 256, (480, 640, 3), dtype=np.uint8),
        "prompt": apply_prompt(_INSTRUCTION),
        "phrases": phrases,
    }


def our_cases(model: ClipModel, inputs: dict[str, Any]) -> dict[str, Case]:
    """Name -> one call, which gives its features or scores."""
    encode_image = tf.function(lambda images: model.encode_image(images)[0], reduce_retracing=True)
    encode_text = tf.function(lambda ids: model.encode_text(ids)[0], reduce_retracing=True)
    phrases, size = inputs["phrases"], model.config.vision.image_size
    kept = normalize(encode_text(tf.constant(tokenize(phrases))))

    def step(actions: tf.Tensor) -> np.ndarray:
        image = normalize(encode_image(tf.constant(preprocess(inputs["picture"], size)[None])))
        instruction = normalize(encode_text(tf.constant(tokenize(inputs["prompt"]))))
        return tf.matmul(image + instruction, actions, transpose_b=True).numpy()

    def step_58_phrases() -> np.ndarray:
        return step(normalize(encode_text(tf.constant(tokenize(phrases)))))

    def image_case(n: int) -> Case:
        return lambda: encode_image(tf.constant(inputs["images"][:n])).numpy()

    def text_case(n: int) -> Case:
        return lambda: encode_text(tf.constant(tokenize(phrases[:n]))).numpy()

    return {
        **{f"image_{n}": image_case(n) for n in BATCHES},
        **{f"text_{n}": text_case(n) for n in BATCHES},
        "step": lambda: step(kept),
        "step_58_phrases": step_58_phrases,
    }


class TorchSide:
    """open_clip in another process; answers a case's name with its time and result."""

    def __init__(self, python: str, name: str, folder: Path, inputs: dict[str, Any]) -> None:
        """Starts it. ``folder`` has the weights; the inputs are written there.

        Raises:
          RuntimeError: it does not start.
        """
        np.savez(folder / "inputs.npz", images=inputs["images"], picture=inputs["picture"])
        (folder / "texts.json").write_text(json.dumps({k: inputs[k] for k in ("prompt", "phrases")}))
        command = [python, str(_TORCH_SCRIPT), name, str(folder), WEIGHTS]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._answer() != "ready":
            raise RuntimeError(f"torch and open_clip do not run there. Received: {python}")

    def run(self, case: str) -> tuple[float, np.ndarray]:
        """Seconds of one call, and its result."""
        stdin: IO[str] = self._process.stdin  # type: ignore[assignment]
        stdin.write(case + "\n")
        stdin.flush()
        answer = json.loads(self._answer())
        return answer["seconds"], np.asarray(answer["result"], np.float32)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def measure(
    config: ClipConfig, repeats: int, torch_name: str | None = None, torch_python: str = sys.executable
) -> dict[str, dict[str, float]]:
    """Times every case.

    Args:
      config: of the model; its weights are seeded.
      repeats: calls of each case, after one that is not counted.
      torch_name: the model's name in open_clip; None times ours alone.
      torch_python: a Python with torch, open_clip and safetensors.

    Returns:
      Case -> medians in milliseconds ``ours`` and, with torch, ``torch``, their quotient ``torch/ours``, and
      the largest ``difference`` of the results over the largest result.
    """
    model, inputs = ClipModel(config, seed=0), make_inputs(config)
    cases = our_cases(model, inputs)
    with tempfile.TemporaryDirectory() as temporary:
        other = None
        if torch_name is not None:
            save_clip(Path(temporary) / "clip", model)
            other = TorchSide(torch_python, torch_name, Path(temporary) / "clip", inputs)
        try:
            return {name: _measure_case(name, case, other, repeats) for name, case in cases.items()}
        finally:
            if other is not None:
                other.close()


def _measure_case(name: str, case: Case, other: TorchSide | None, repeats: int) -> dict[str, float]:
    ours, theirs = [], []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        result = case()
        ours.append(time.perf_counter() - begin)
        if other is not None:
            seconds, expected = other.run(name)
            theirs.append(seconds)
    found = {"ours": 1e3 * statistics.median(ours[1:])}
    if other is not None:
        found["torch"] = 1e3 * statistics.median(theirs[1:])
        found["torch/ours"] = found["torch"] / found["ours"]
        found["difference"] = float(np.abs(result - expected).max() / np.abs(expected).max())
    return found


def _has_torch(python: str) -> bool:
    command = [python, "-c", "import open_clip, safetensors, torch"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clip", description="Times CLIP.")
    parser.add_argument("--model", default="ViT-B-32-quickgelu", help="OpenCLIP's name")
    parser.add_argument("--repeats", type=int, default=20, help="calls of each case")
    parser.add_argument("--torch_python", default=sys.executable, help="a Python with torch and open_clip")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    with_torch = _has_torch(options.torch_python)
    config = ClipConfig.from_name(options.model)
    found = measure(config, options.repeats, options.model if with_torch else None, options.torch_python)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return 0
    if not with_torch:
        sys.stdout.write(f"torch and open_clip are not installed in {options.torch_python}; ours alone\n")
    for name, values in found.items():
        line = f"{name:16} ours {values['ours']:9.1f} ms"
        if with_torch:
            line += f"   torch {values['torch']:9.1f} ms   torch/ours {values['torch/ours']:5.2f}"
            line += f"   difference {values['difference']:.1e}"
        sys.stdout.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
