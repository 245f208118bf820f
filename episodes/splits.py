"""Which episodes or examples are trained on and which are held out, decided repeatably."""

import dataclasses
import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core import files

TRAIN, VALIDATION = "train", "val"
_FINGERPRINT = "data_fingerprint"


def hash_fraction(episode_id: str, salt: str = "") -> float:
    """A number in [0, 1) that depends on the id and the salt only (the first 53 bits of a SHA-256)."""
    digest = hashlib.sha256(f"{salt}\0{episode_id}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def split_by_hash(episode_id: str, fractions: Mapping[str, float], salt: str = "") -> str:
    """The split that an episode belongs to.

    It depends on nothing but the arguments, so that episodes recorded later never move earlier ones.

    Args:
      episode_id: anything that names the episode for good.
      fractions: split -> expected share; they add up to 1. Their order matters.
      salt: another salt gives another, independent split.

    Raises:
      ValueError: the fractions are negative or do not add up to 1.
    """
    if any(f < 0 for f in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ValueError(f"fractions must be >= 0 and add up to 1. Received: {dict(fractions)}")
    position, upper = hash_fraction(episode_id, salt), 0.0
    for name, fraction in fractions.items():
        upper += fraction
        if position < upper:
            return name
    # Rounding may leave the sum a hair below 1.
    return [name for name, fraction in fractions.items() if fraction > 0][-1]


def hold_out_by_hash(episode_ids: Iterable[str], count: int, salt: str = "") -> frozenset[str]:
    """Exactly ``count`` ids to hold out: those of the smallest hashes.

    Episodes added later may take the place of held-out ones, but an episode that was trained on is never
    held out afterwards.

    Raises:
      ValueError: fewer than ``count + 1`` different ids, or a negative count.
    """
    ids = sorted(set(episode_ids))
    if not 0 <= count < max(1, len(ids)):
        raise ValueError(f"Can hold out 0 to {len(ids) - 1} of {len(ids)} different ids. Received: {count}")
    return frozenset(sorted(ids, key=lambda i: (hash_fraction(i, salt), i))[:count])


@dataclasses.dataclass(frozen=True, eq=False)
class IndexSplit:
    """Two disjoint sets of example indices, each int64 and ascending."""

    train: np.ndarray
    val: np.ndarray


def random_split(n: int, seed: int, train_fraction: float = 0.8) -> IndexSplit:
    """A seeded random split of n examples, neither part empty.

    Raises:
      ValueError: n < 2 or a fraction outside (0, 1).
    """
    if n < 2 or not 0 < train_fraction < 1:
        raise ValueError(
            "A split needs at least 2 examples and a fraction in (0, 1). "
            f"Received: n={n}, train_fraction={train_fraction}"
        )
    train_size = min(max(round(n * train_fraction), 1), n - 1)
    order = np.random.default_rng(seed).permutation(n).astype(np.int64)
    return IndexSplit(np.sort(order[:train_size]), np.sort(order[train_size:]))


def save_split(path: str | Path, split: IndexSplit, fingerprint: str | None = None) -> None:
    """Writes ``train_idx`` and ``val_idx`` as the published split files have them, atomically.

    Args:
      path: of the file.
      split: what to write.
      fingerprint: of the data set it was made for, kept beside the indices.

    Raises:
      ValueError: the name does not end in ``.npz``.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"The name of a split file must end in .npz. Received: {path}")
    with files.atomic_path(path) as temporary:
        arrays: dict[str, Any] = {"train_idx": split.train, "val_idx": split.val}
        if fingerprint is not None:
            arrays[_FINGERPRINT] = np.asarray(fingerprint)
        np.savez(temporary, **arrays)


def load_split(path: str | Path, n: int, fingerprint: str | None = None) -> IndexSplit:
    """Reads a split file for a data set of n examples.

    Args:
      path: of the file.
      n: examples of the data set.
      fingerprint: of the data set; a file that names another one is refused, one that names none is not.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: not such a file, or indices that are not integers, out of range, repeated, in both parts,
        or none at all, or a split of another data set.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as content:
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            missing = [name for name in ("train_idx", "val_idx") if name not in content]
            if missing:
                raise ValueError(f"{missing} is missing among the keys {sorted(content)}")
            train, val = content["train_idx"], content["val_idx"]
            made_for = str(content[_FINGERPRINT]) if _FINGERPRINT in content else None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} must be an NPZ of train_idx and val_idx. Received: {error}") from error
    if fingerprint is not None and made_for is not None and made_for != fingerprint:
        raise ValueError(
            f"{path} was made for another data set; name another split file, or remove it. "
            f"Received: {made_for[:12]}…, the data's fingerprint is {fingerprint[:12]}…"
        )
    train, val = _checked(train, "train_idx", n, path), _checked(val, "val_idx", n, path)
    both = np.intersect1d(train, val)
    if both.size:
        raise ValueError(
            f"{path}: train_idx and val_idx must be disjoint. Received: {both.size} indices in both, "
            f"e.g. {both[0]}"
        )
    return IndexSplit(train, val)


def load_or_make_split(
    path: str | Path, n: int, seed: int, train_fraction: float = 0.8, fingerprint: str | None = None
) -> IndexSplit:
    """Reads the split file; where there is none, makes a seeded split and saves it there."""
    path = Path(path)
    if not path.exists():
        save_split(path, random_split(n, seed, train_fraction), fingerprint)
    return load_split(path, n, fingerprint)


def _checked(indices: np.ndarray, name: str, n: int, path: Path) -> np.ndarray:
    if indices.ndim != 1 or indices.dtype.kind not in "iu" or indices.size == 0:
        raise ValueError(
            f"{path}: {name} must be integers [k], k > 0. "
            f"Received: dtype={indices.dtype}, shape={indices.shape}"
        )
    if int(indices.min()) < 0 or int(indices.max()) >= n:
        raise ValueError(
            f"{path}: {name} must be in [0, {n}), the data set's number of examples. "
            f"Received: {indices.min()} to {indices.max()}"
        )
    unique = np.unique(indices).astype(np.int64)
    if unique.size != indices.size:
        raise ValueError(
            f"{path}: {name} must not repeat an index. Received: {indices.size - unique.size} repeated"
        )
    return unique
