"""The food task's data set: one NPZ of images, skewering parameters and sentence embeddings.

::

    images        uint8 [N, H, W, 3] RGB, or float in [0, 1]; published files have H = W = 236
    actions       float [N, 4]: x1, y1, x2, y2 in [0, 1], x to the right, y down
    embeddings    float [N, 512], unit norm
    encoder       string: identity of the sentence encoder of ``embeddings``   (ours; optional)
    instructions  string [N]: combination names such as ``skewering_banana``   (ours; optional)
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from core import files, food
from episodes.npz.members import open_members
from language import check_embeddings

IMAGES, ACTIONS, EMBEDDINGS = "images", "actions", "embeddings"
ENCODER, INSTRUCTIONS = "encoder", "instructions"
EMBEDDING_SIZE = 512

_REQUIRED = (IMAGES, ACTIONS, EMBEDDINGS)
_CHECK_BYTES = 64 << 20  # Images are range-checked in pieces of about this size.


@dataclasses.dataclass(frozen=True, eq=False)
class FoodData:
    """N examples of the food task, validated.

    Attributes:
      images: uint8 or float [N, H, W, 3] RGB; a read-only memory map where the file allows it.
      actions: float32 [N, 4], x1, y1, x2, y2 in [0, 1].
      embeddings: float32 [N, 512], unit norm.
      encoder: identity of the sentence encoder that made ``embeddings``.
      instructions: N combination names, or None where the file does not say them.
      fingerprint: hexadecimal digest of the file's content, whatever its name and compression.
    """

    images: np.ndarray
    actions: np.ndarray
    embeddings: np.ndarray
    encoder: str
    instructions: tuple[str, ...] | None
    fingerprint: str

    def __len__(self) -> int:
        return len(self.actions)


def write_food_npz(
    path: str | Path,
    images: np.ndarray,
    actions: np.ndarray,
    embeddings: np.ndarray,
    encoder: str,
    instructions: Sequence[str],
) -> None:
    """Writes a food data set, atomically and uncompressed (so that reading can memory-map it).

    Args:
      path: the file to write; its name must end in ``.npz``.
      images: uint8 [N, H, W, 3] RGB.
      actions: float32 [N, 4], x1, y1, x2, y2 in [0, 1].
      embeddings: float32 [N, 512], unit norm.
      encoder: identity of the sentence encoder, as ``language.TextEncoder.identity`` gives it.
      instructions: N combination names; synonyms are taken and written canonically.

    Raises:
      ValueError: an argument is not as above; nothing is written.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"The name of a food data set must end in .npz. Received: {path}")
    if not encoder:
        raise ValueError(f"encoder must name the sentence encoder of the embeddings. Received: {encoder!r}")
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise ValueError(f"{IMAGES} must be uint8 to be written. Received: dtype={images.dtype}")
    actions, embeddings = _checked(images, np.asarray(actions), np.asarray(embeddings), path)
    names = _canonical_instructions(instructions, len(actions), path)
    with files.atomic_path(path) as temporary:
        np.savez(
            temporary,
            images=images,
            actions=actions,
            embeddings=embeddings,
            encoder=np.asarray(encoder),
            instructions=np.asarray(names),
        )


def read_food_npz(path: str | Path, encoder: str | None = None) -> FoodData:
    """Reads and checks a food data set.

    An uncompressed ``images`` member is memory-mapped, so that a file larger than memory can be used.
    A compressed one cannot be and is read whole; a warning says so.

    Args:
      path: the ``.npz`` file.
      encoder: identity of the sentence encoder that made the embeddings. Needed for a file without the
        key ``encoder``; where both are there they must agree.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not an NPZ (a git-lfs pointer, truncated), a key is missing, a shape, type
        or value is not as the module says, or the encoder is unknown or another one.
    """
    path = Path(path)
    with open_members(path) as npz:
        missing = [name for name in _REQUIRED if name not in npz.members]
        if missing:
            raise ValueError(f"{path} lacks {missing}. Received keys: {sorted(npz.members)}")
        if npz.is_compressed(IMAGES):
            logging.warning(
                "%s is compressed, so its %s are read into memory whole (%.1f GB). np.savez writes files "
                "that need not be.",
                path,
                IMAGES,
                npz.members[IMAGES].file_size / 1e9,
            )
        images = npz.map_or_read(IMAGES)
        actions, embeddings = npz.read(ACTIONS), npz.read(EMBEDDINGS)
        stored = str(npz.read(ENCODER)) if ENCODER in npz.members else None
        names = npz.read(INSTRUCTIONS) if INSTRUCTIONS in npz.members else None
        fingerprint = npz.fingerprint()
    actions, embeddings = _checked(images, actions, embeddings, path)
    return FoodData(
        images=images,
        actions=actions,
        embeddings=embeddings,
        encoder=_agreed_encoder(stored, encoder, path),
        instructions=None if names is None else _canonical_instructions(names.tolist(), len(actions), path),
        fingerprint=fingerprint,
    )


def _agreed_encoder(stored: str | None, named: str | None, path: Path) -> str:
    if stored is None and not named:
        raise ValueError(
            f"{path} does not say which sentence encoder made its embeddings. Name it with the argument "
            "encoder (the identity of a language.TextEncoder, e.g. of the folder of .npy files they were "
            "taken from). Received: encoder=None"
        )
    if stored is not None and named and stored != named:
        raise ValueError(f"{path} holds embeddings of the encoder {stored!r}. Received: encoder={named!r}")
    return stored or str(named)


def _checked(
    images: np.ndarray, actions: np.ndarray, embeddings: np.ndarray, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Validates the three arrays; returns actions and embeddings as float32."""
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise ValueError(f"{path}: {IMAGES} must be [N, H, W, 3], N > 0. Received: shape={images.shape}")
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{path}: {IMAGES} must be uint8 or float. Received: dtype={images.dtype}")
    n = len(images)
    for name, array, shape in ((ACTIONS, actions, (n, 4)), (EMBEDDINGS, embeddings, (n, EMBEDDING_SIZE))):
        if array.shape != shape or not np.issubdtype(array.dtype, np.floating):
            raise ValueError(
                f"{path}: {name} must be float {list(shape)} for {n} images. "
                f"Received: shape={array.shape}, dtype={array.dtype}"
            )
    _check_unit_range(actions, f"{path}: {ACTIONS} (fractions of the image's width and height)")
    if images.dtype != np.uint8:
        for start, piece in _pieces(images):
            _check_unit_range(piece, f"{path}: float {IMAGES}", start)
    embeddings = check_embeddings(embeddings, [f"example {i}" for i in range(n)], f"{path}: {EMBEDDINGS}")
    return np.ascontiguousarray(actions, np.float32), embeddings


def _check_unit_range(values: np.ndarray, what: str, first_index: int = 0) -> None:
    wrong = ~((values >= 0) & (values <= 1))  # True for NaN too.
    if wrong.any():
        rows = np.flatnonzero(wrong.reshape(len(values), -1).any(axis=1))
        example = values[rows[0]].reshape(-1)[wrong[rows[0]].reshape(-1)][0]
        raise ValueError(
            f"{what} must be finite and in [0, 1]. Received: {example!r} in example "
            f"{first_index + int(rows[0])} ({len(rows)} of the {len(values)} examples looked at are wrong)"
        )


def _pieces(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    step = max(1, _CHECK_BYTES // max(1, images[0].nbytes))
    for start in range(0, len(images), step):
        yield start, np.asarray(images[start : start + step])


def _canonical_instructions(names: Sequence[str], n: int, path: Path) -> tuple[str, ...]:
    names = list(names)
    if len(names) != n:
        raise ValueError(f"{path}: {INSTRUCTIONS} must have one name for each image. Received: {len(names)}")
    canonical = {name: food.combination(*food.split_combination(name)) for name in set(names)}
    return tuple(canonical[name] for name in names)
