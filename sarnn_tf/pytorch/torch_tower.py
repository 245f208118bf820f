"""The frozen CLIP inside a published CLIP-SARNN's checkpoint, out of it and into it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from clip_tf.converted_folder import WEIGHTS, write_folder
from clip_tf.converted_folder import check as check_tower
from clip_tf.image_preprocessing import Preprocessing
from clip_tf.model_config import QUICK_GELU_SUFFIX, ClipConfig, known_names
from clip_tf.weights.layout import openclip_shapes
from clip_tf.weights.name_maps import to_openclip
from clip_tf.weights.safetensors_file import Entry, open_safetensors
from clip_tf.weights.stored_tensor import StoredTensor
from clip_tf.weights.torch_file import open_torch_checkpoint
from sarnn_tf.frozen_clip import open_frozen_clip
from sarnn_tf.pytorch.torch_checkpoint import STATE, TOWER
from sarnn_tf.pytorch.torch_layout import COMPILED_PREFIX

_FLOAT = np.dtype(np.float32)


def save_tower(folder: str | Path, path: str | Path, config: ClipConfig | None = None) -> None:
    """Writes the frozen CLIP of a ``.pth`` file as a folder of ``clip_tf.convert``, one tensor at a time.

    Args:
      folder: to make.
      path: of the file.
      config: of the tower; None finds it by the shapes, with the QuickGELU of OpenAI's weights. What is in
        half precision becomes float32.

    Raises:
      ValueError: the file holds no whole CLIP, or one of unknown configuration.
    """
    with open_torch_checkpoint(path, STATE) as (tensors, _):
        found = {n.removeprefix(COMPILED_PREFIX): t for n, t in tensors.items()}
        found = {n.removeprefix(TOWER): t for n, t in found.items() if n.startswith(TOWER)}
        if not found:
            raise ValueError(
                "The model needs its frozen CLIP: name a folder of clip_tf.convert (--clip). "
                f"Received: none in {path}"
            )
        named, unknown = to_openclip(found)
        config = config or known_config(named)
        check_tower(named, config, unknown).raise_unless_ok(f"The frozen CLIP of {path}")
        entries = [_entry(key, named[key]) for key in openclip_shapes(config)]
        write_folder(folder, config, Preprocessing(config.vision.image_size), entries)


def known_config(tensors: Mapping[str, StoredTensor]) -> ClipConfig:
    """The configuration that tensors by OpenCLIP's keys have the shapes of, with QuickGELU.

    Raises:
      ValueError: none is known.
    """
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    for name in known_names():
        if openclip_shapes(ClipConfig.from_name(name)) == shapes:
            return ClipConfig.from_name(name + QUICK_GELU_SUFFIX)
    raise ValueError(
        "The frozen CLIP in the file must be a known one, else name a folder of clip_tf.convert (--clip). "
        f"Received: {len(shapes)} tensors"
    )


def read_tower(folder: str | Path, fingerprint: str) -> dict[str, np.ndarray]:
    """The tensors of a converted CLIP by OpenCLIP's keys, in the order of PyTorch's CLIP.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it is another CLIP than the one of that fingerprint.
    """
    clip = open_frozen_clip(folder)
    if clip.fingerprint != fingerprint:
        raise ValueError(f"The CLIP must be {fingerprint}. Received: {clip.fingerprint} in {folder}")
    with open_safetensors(Path(folder) / WEIGHTS) as tensors:
        return {key: np.array(tensors[key].read()) for key in openclip_shapes(clip.config)}


def _entry(key: str, tensor: StoredTensor) -> Entry:
    return Entry(key, tensor.shape, _FLOAT, _reader(key, tensor))


def _reader(key: str, tensor: StoredTensor) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        value = tensor.read().astype(_FLOAT)
        if not np.isfinite(value).all():
            raise ValueError(f"The frozen CLIP's weights must be finite. Received: {key}")
        return value

    return read
