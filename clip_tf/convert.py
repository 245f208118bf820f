"""Turns CLIP weights of PyTorch into a folder of ours: ``python -m clip_tf.convert IN --out DIR``.

It reads OpenCLIP's training checkpoints and state dictionaries, OpenAI's files (TorchScript too), Hugging
Face's names, and safetensors of any of these. PyTorch is not needed, and no code in a file is run. One tensor
is in memory at a time.
"""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
from tqdm import tqdm

from clip_tf.converted_folder import check, write_folder
from clip_tf.image_preprocessing import SHORTEST, SQUASH
from clip_tf.model_config import ClipConfig
from clip_tf.position_embedding import resize_image_positions, resize_text_positions
from clip_tf.weights.find_config import find_config, find_preprocessing
from clip_tf.weights.layout import IMAGE_POSITIONS, LOGIT_SCALE, TEXT_POSITIONS, openclip_shapes
from clip_tf.weights.name_maps import detect, to_openclip
from clip_tf.weights.safetensors_file import Entry, open_safetensors
from clip_tf.weights.stored_tensor import StoredTensor, Tensors, WeightFileError
from clip_tf.weights.torch_file import open_torch_file
from core.load_report import LoadReport

DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
_ZIP = b"PK\x03\x04"


def convert(
    path: str | Path,
    out: str | Path,
    *,
    config: ClipConfig | None = None,
    image_size: int | None = None,
    context_length: int | None = None,
    resize_mode: str | None = None,
    dtype: str = "float32",
) -> LoadReport:
    """Reads a file of weights and writes a converted folder.

    Args:
      path: a file, or a folder as the Hugging Face hub has them.
      out: the folder to make.
      config: of the model; None looks beside the file, then at its shapes and layout.
      image_size, context_length: other ones than the weights are of; position embeddings are resized.
      resize_mode: of the preprocessing; None looks beside the file, then scales the shorter side.
      dtype: ``float32``, ``bfloat16`` or ``float16`` for matrices; vectors stay in float32.

    Returns:
      The report; it is ``ok``.

    Raises:
      FileNotFoundError: there is no such file.
      FileExistsError: ``out`` exists.
      WeightFileError: the file is damaged or hostile.
      ValueError: the configuration is not certain, or the weights do not fit it or are not finite.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {sorted(DTYPES)}. Received: {dtype!r}")
    path = find_file(Path(path))
    if Path(out).exists():
        raise FileExistsError(f"The folder to write exists already. Received: {out}")
    with open_weights(path) as stored:
        tensors, unknown = to_openclip(stored)
        config = config or find_config(path, tensors, detect(stored))
        report = check(tensors, config, unknown)
        report.raise_unless_ok(str(path))
        how = find_preprocessing(path, config.vision.image_size)
        how = dataclasses.replace(how, resize_mode=resize_mode or how.resize_mode)
        if image_size is not None:
            vision = dataclasses.replace(config.vision, image_size=image_size)
            config = dataclasses.replace(config, vision=vision)
            how = dataclasses.replace(how, size=image_size)
        if context_length is not None:
            text = dataclasses.replace(config.text, context_length=context_length)
            config = dataclasses.replace(config, text=text)
        tensors = _with_resized_positions(tensors, config)
        entries = [_entry(key, tensors[key], dtype) for key in openclip_shapes(config)]
        with tqdm(total=len(entries), desc="weights", unit="tensor", disable=None) as bar:
            write_folder(out, config, how, [_counted(entry, bar) for entry in entries])
    return report


def find_file(path: Path) -> Path:
    """The file of weights itself, or the one of a folder by its usual name.

    Raises:
      FileNotFoundError: there is none.
    """
    if path.is_dir():
        found = [path / name for name in _FILES if (path / name).is_file()]
        if not found:
            raise FileNotFoundError(f"The folder must have one of {_FILES}. Received: {path}")
        return found[0]
    if not path.is_file():
        raise FileNotFoundError(f"There is no such file. Received: {path}")
    return path


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[Tensors]:
    """The tensors of a file of either kind, told apart by its first bytes.

    Raises:
      WeightFileError: it is of neither kind, or damaged.
    """
    with path.open("rb") as file:
        begins = file.read(9)
    if begins[:4] == _ZIP:
        with open_torch_file(path) as tensors:
            yield tensors
    elif begins[8:] == b"{":
        with open_safetensors(path) as tensors:
            yield tensors
    else:
        raise WeightFileError(
            f"{path} must be a zip archive of PyTorch 1.6 or later, or safetensors. Received: {begins!r}"
        )


def _with_resized_positions(tensors: dict[str, StoredTensor], config: ClipConfig) -> dict[str, StoredTensor]:
    """Position embeddings of other sizes fitted to the configuration."""
    shapes = openclip_shapes(config)
    resized = dict(tensors)
    for key, change, size in (
        (IMAGE_POSITIONS, resize_image_positions, config.vision.grid),
        (TEXT_POSITIONS, resize_text_positions, config.text.context_length),
    ):
        tensor = tensors[key]
        if tensor.shape != shapes[key]:
            resized[key] = tensor.map(lambda value, f=change, n=size: f(value, n), shapes[key])  # type: ignore[misc]
    return resized


def _entry(key: str, tensor: StoredTensor, dtype: str) -> Entry:
    kind = DTYPES["float32"] if len(tensor.shape) < 2 or key == LOGIT_SCALE else DTYPES[dtype]

    def read() -> np.ndarray:
        with np.errstate(over="ignore"):  # What overflows is not finite, and refused below.
            value = tensor.read().astype(kind)
        if not np.isfinite(value).all():
            raise ValueError(f"Weights must be finite as {kind}. Received: {key}")
        return value

    return Entry(key, tensor.shape, kind, read)


def _counted(entry: Entry, bar: tqdm) -> Entry:
    def read() -> np.ndarray:
        bar.update()
        return entry.read()

    return dataclasses.replace(entry, read=read)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 converted, 1 refused, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m clip_tf.convert", description="Converts CLIP weights.")
    parser.add_argument("path", metavar="IN", type=Path, help=".pt, .bin or .safetensors, or their folder")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    parser.add_argument("--config", help="OpenCLIP's name, e.g. ViT-H-14-378-quickgelu, or a JSON file")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float32", help="of matrices")
    parser.add_argument(
        "--resize_mode", choices=(SHORTEST, SQUASH), help="of images; else as beside the file, or shortest"
    )
    parser.add_argument("--image_size", type=int, help="another image size; resizes position embeddings")
    parser.add_argument("--context_length", type=int, help="another text length; resizes as well")
    options = parser.parse_args(arguments)
    try:
        report = _run(options)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{options.out}: {report.summary()}\n")
    return 0


def _run(options: argparse.Namespace) -> LoadReport:
    config = None
    if options.config is not None:
        is_file = options.config.endswith(".json")
        config = (ClipConfig.from_json if is_file else ClipConfig.from_name)(options.config)
    return convert(
        options.path,
        options.out,
        config=config,
        image_size=options.image_size,
        context_length=options.context_length,
        resize_mode=options.resize_mode,
        dtype=options.dtype,
    )


if __name__ == "__main__":
    sys.exit(main())
