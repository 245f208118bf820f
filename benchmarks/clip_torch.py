"""The other side of ``clip.py``: open_clip on PyTorch, on the weights of a converted folder.

Run by ``clip.py`` with a Python that has torch; it imports nothing of this project. It answers every name of
a case on its input with the seconds of one call and its result.
"""

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file


def make_cases(name: str, folder: Path, weights: str) -> dict[str, Callable[[], torch.Tensor]]:
    """Name -> one call, as open_clip is meant to be used."""
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.load_state_dict(load_file(folder / weights))
    model.eval()
    tokenizer = open_clip.get_tokenizer(name)
    arrays = np.load(folder / "inputs.npz")
    texts = json.loads((folder / "texts.json").read_text())
    images = torch.from_numpy(arrays["images"].transpose(0, 3, 1, 2).copy())
    picture = Image.fromarray(arrays["picture"])
    normalize = torch.nn.functional.normalize
    kept = normalize(model.encode_text(tokenizer(texts["phrases"])), dim=-1)

    def step(actions: torch.Tensor) -> torch.Tensor:
        image = model.encode_image(preprocess(picture)[None])
        instruction = model.encode_text(tokenizer([texts["prompt"]]))
        return (normalize(image, dim=-1) + normalize(instruction, dim=-1)) @ actions.T

    cases: dict[str, Callable[[], torch.Tensor]] = {
        "step": lambda: step(kept),
        "step_58_phrases": lambda: step(normalize(model.encode_text(tokenizer(texts["phrases"])), dim=-1)),
    }
    for n in (1, 32):
        cases[f"image_{n}"] = functools.partial(lambda n: model.encode_image(images[:n]), n)
        cases[f"text_{n}"] = functools.partial(
            lambda n: model.encode_text(tokenizer(texts["phrases"][:n])), n
        )
    return cases


def main() -> None:
    """Reads the names of cases until the input ends."""
    name, folder, weights = sys.argv[1:]
    with torch.inference_mode():
        cases = make_cases(name, Path(folder), weights)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for line in sys.stdin:
            begin = time.perf_counter()
            result = cases[line.strip()]()
            seconds = time.perf_counter() - begin
            sys.stdout.write(json.dumps({"seconds": seconds, "result": result.tolist()}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
