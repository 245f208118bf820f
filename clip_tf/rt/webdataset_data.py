"""Samples of WebDataset shards: tar files of {jpg, txt, sup, cls}, the published layout for pre-training.

``txt`` is the instruction, ``sup`` the wording of the supervision, ``cls`` the label. Keys are
``EPISODE-STEP``, as ``preprocess_oxe`` writes them, and whole episodes are held out: what a key has before
its last dash is the episode. Samples whose keys have no dash are held out one by one.
"""

import hashlib
import itertools
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import gin
import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm
from webdataset.tariterators import group_by_keys, tar_file_iterator

from clip_tf.rt import samples, shard_index
from clip_tf.rt.vocabulary import Vocabulary, load_vocabulary
from core import files
from episodes import splits, windows

MIXTURE = "mixture.json"
"""Beside the folders of shards: ``{"weights": {folder: weight}}``."""
VOCABULARY = "vocabulary.json"
"""Beside them as well: what their labels mean."""

_WITHOUT_CONTENT = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE)

FIELDS = ("txt", "sup", "cls")
IMAGES = ("jpg", "jpeg", "png")
_MAX_WEIGHT = 1000


class WebDatasetSamples:
    """Samples of shards, read one after another."""

    def __init__(
        self,
        shards: Sequence[Path],
        weights: Sequence[float],
        num_classes: int,
        fraction: float,
        salt: str,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """Takes what ``open_webdataset`` found; ``weights`` are of the shards."""
        self._shards = tuple(shards)
        self._weights = tuple(weights)
        self._num_classes = num_classes
        self._fraction = fraction
        self._salt = salt
        self._vocabulary = vocabulary
        self._contents: dict[Path, str] = {}
        counts = {part: np.zeros(num_classes) for part in samples.PARTS}
        digest = hashlib.sha256(repr((self._weights, fraction, salt)).encode())
        found = _contents_of(self._shards, num_classes)
        for (shard, content), weight in zip(found, self._weights, strict=True):
            self._contents[shard] = content.fingerprint
            digest.update(f"{shard.parent.name}/{shard.name} {content.fingerprint}\n".encode())
            for episode, labels in content.episodes.items():
                part = self._part(episode)
                for label, count in labels.items():
                    counts[part][label] += count * (weight if part == samples.TRAIN else 1)
        self._counts = {part: np.rint(mean).astype(np.int64) for part, mean in counts.items()}
        self._fingerprint = digest.hexdigest()

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def is_fixed(self) -> bool:
        return all(float(weight).is_integer() for weight in self._weights)

    def counts(self, part: str) -> np.ndarray:
        samples.check_part(part)
        return self._counts[part].copy()

    def samples(self, part: str, *, seed: int | None, epoch: int) -> tf.data.Dataset:
        samples.check_part(part)
        shards = list(zip(self._shards, self._weights, strict=True))
        if seed is not None:
            order = np.random.default_rng([seed, epoch]).permutation(len(shards))
            shards = [shards[i] for i in order]

        def generate() -> Iterator[dict[str, Any]]:
            for shard, weight in shards:
                tally = shard_index.Tally()
                for sample in read_shard(shard, self._num_classes, self._vocabulary):
                    _add(tally, sample)
                    if self._part(shard_index.episode_of(sample["__key__"])) != part:
                        continue
                    name = f"{shard.parent.name}/{shard.name}:{sample['__key__']}"
                    copies = _copies(weight, f"{seed}/{epoch}/{name}") if part == samples.TRAIN else 1
                    for copy in range(copies):
                        yield {
                            samples.IMAGE: sample["image"],
                            samples.INSTRUCTION: sample["txt"],
                            samples.SUPERVISION: sample["sup"],
                            samples.LABEL: sample["cls"],
                            samples.ID: f"{name}:{copy}",
                        }
                if tally.content.fingerprint != self._contents[shard]:
                    raise ValueError(
                        f"{shard} must hold what {shard_index.NAME} says, or what it held when it was "
                        f"opened. Remove {shard_index.NAME} where it is out of date, and begin a new run. "
                        f"Received: other labels, texts or images"
                    )

        dataset = tf.data.Dataset.from_generator(generate, output_signature=dict(samples.spec()))
        if seed is not None:  # Neighbours in a shard are of one episode.
            dataset = dataset.shuffle(2048, windows.epoch_seed(seed, epoch), reshuffle_each_iteration=False)
        return dataset

    def _part(self, episode: str) -> str:
        fractions = {samples.VALIDATION: self._fraction, samples.TRAIN: 1 - self._fraction}
        return splits.split_by_hash(episode, fractions, self._salt)


def check_same_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    """Raises:
    ValueError: the file holds another vocabulary.
    """
    stored = load_vocabulary(path)
    if stored.to_json() != vocabulary.to_json():
        raise ValueError(
            f"{path}: these labels are of a vocabulary of {len(stored)} classes, {stored.phrases[:2]}…, "
            f"and mean something else in another. Set clip_rt.make_vocabulary.source to this file, or to the "
            f"preset that it is. Received: a vocabulary of {len(vocabulary)}, {vocabulary.phrases[:2]}…"
        )


def _contents_of(shards: Sequence[Path], num_classes: int) -> Iterator[tuple[Path, shard_index.ShardContent]]:
    """What the shards hold, by their folders' indices or else by reading them."""
    with tqdm(desc="counting classes", total=len(shards), unit="shard") as progress:
        for folder, group in itertools.groupby(shards, lambda shard: shard.parent):
            known = shard_index.read_index(folder)
            for label in {n for c in known.values() for labels in c.episodes.values() for n in labels}:
                samples.check_label(label, num_classes, f"{folder / shard_index.NAME}")
            for shard in group:
                yield shard, known.get(shard.name) or _read_content(shard, num_classes)
                progress.update()


def _read_content(shard: Path, num_classes: int) -> shard_index.ShardContent:
    tally = shard_index.Tally()
    for sample in read_shard(shard, num_classes):
        _add(tally, sample)
    return tally.content


def _add(tally: shard_index.Tally, sample: dict[str, Any]) -> None:
    tally.add(sample["__key__"], sample["image"], sample["txt"], sample["sup"], sample["cls"])


def _copies(weight: float, key: str) -> int:
    """A whole number whose mean over keys is the weight."""
    return int(weight) + (splits.hash_fraction(key) < weight % 1)


def read_shard(
    shard: Path, num_classes: int, vocabulary: Vocabulary | None = None
) -> Iterator[dict[str, Any]]:
    """The samples of one tar file: ``__key__``, ``image`` (bytes), ``txt``, ``sup`` (str), ``cls`` (int).

    Raises:
      ValueError: the file is not a whole tar file, or a sample lacks a field or has a wrong one, or a phrase
        of the vocabulary with another label; the message names both.
    """
    with shard.open("rb") as file:
        _check_whole(file, shard)
        for sample in _grouped(file, shard):
            checked = _checked(sample, shard, num_classes)
            if vocabulary is not None:
                where = f"{shard}, sample {checked['__key__']!r}"
                vocabulary.check_label(checked["sup"], checked["cls"], where)
            yield checked


def _grouped(file: BinaryIO, shard: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from group_by_keys({**entry, "__url__": str(shard)} for entry in tar_file_iterator(file))
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{shard} must be a whole tar file. Received: {error.args[0]}") from error
    except ValueError as error:  # Of two files of one name; the library adds what it was reading.
        raise ValueError(f"{shard} must have each file once. Received: {error.args[0]}") from error


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _named(shards: list[Path], weights: dict[str, Any], root: Path) -> list[Path]:
    """The shards of folders that a mixture names; another was taken out of it."""
    kept = [shard for shard in shards if shard.parent.relative_to(root).as_posix() in weights]
    left_out = {shard.parent.name for shard in shards} - {shard.parent.name for shard in kept}
    if left_out:
        logging.warning("%s: %s does not name %s; left out.", root, MIXTURE, sorted(left_out))
    return kept


def _check_whole(file: BinaryIO, shard: Path) -> None:
    """Walks the headers to the end mark: tar readers stop quietly where one is damaged or missing."""
    offset = 0
    while True:
        file.seek(offset)
        header = file.read(tarfile.BLOCKSIZE)
        if offset and header == bytes(tarfile.BLOCKSIZE):
            break
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ValueError(
                f"{shard} must be a whole tar file. Received: at byte {offset}: {error}"
            ) from error
        size = 0 if info.type in _WITHOUT_CONTENT else info.size
        offset += tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE))
    if file.read().strip(b"\0"):
        raise ValueError(f"{shard} must be a whole tar file. Received: more after its end at byte {offset}")
    file.seek(0)


def _checked(sample: dict[str, Any], shard: Path, num_classes: int) -> dict[str, Any]:
    where = f"{shard}, sample {sample['__key__']!r}"
    image = next((sample[suffix] for suffix in IMAGES if suffix in sample), None)
    missing = [name for name in FIELDS if name not in sample]
    if image is None or missing:
        fields = sorted(name for name in sample if not name.startswith("__"))
        raise ValueError(
            f"{where} must have jpg or png, txt, sup and cls; a sample's name ends at the first dot of its "
            f"files' names. Received: {fields}"
        )
    try:
        texts = {name: sample[name].decode("utf-8").strip() for name in FIELDS}
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: txt, sup and cls must be UTF-8. Received: {error}") from error
    if not all(texts.values()):
        raise ValueError(f"{where}: txt, sup and cls must not be empty. Received: {texts}")
    label = samples.check_label(texts["cls"], num_classes, where)
    return {"__key__": sample["__key__"], "image": image, **texts, "cls": label}


@gin.configurable(module="clip_rt", denylist=["directory", "num_classes", "vocabulary"])
def open_webdataset(
    directory: str | Path,
    num_classes: int,
    *,
    vocabulary: Vocabulary | None = None,
    weights: dict[str, float] | None = None,
    validation_fraction: float = 0.01,
    salt: str = "",
) -> WebDatasetSamples:
    """Opens the ``.tar`` files below a folder and counts their classes: by the index that ``preprocess_oxe``
    writes, where there is one, else by reading them once.

    Args:
      directory: with the shards, or with a folder of them for each data set.
      num_classes: of the vocabulary.
      vocabulary: must be the one of ``vocabulary.json``, which ``preprocess_oxe`` writes beside the shards,
        and its phrases must have its labels; None asks for nothing.
      weights: folder -> how often a pass takes its samples, 1 where it is not named; of a weight such as 0.3
        a pass takes the samples that a draw names, other ones in each epoch. None takes those of
        ``mixture.json``, where ``preprocess_oxe`` wrote one, and leaves out folders that it does not name.
      validation_fraction: the share of the episodes that is held out.
      salt: another salt holds others out.

    Raises:
      FileNotFoundError: there is no shard.
      ValueError: a weight, the share or a shard is not valid, a part has no sample, or the shards were made
        with another vocabulary.
    """
    root = Path(directory)
    samples.check_fraction(validation_fraction)
    # Hidden folders are what a run of preprocess_oxe that was killed left behind.
    shards = [p for p in sorted(root.rglob("*.tar")) if not _is_hidden(p.relative_to(root))]
    if not shards:
        raise FileNotFoundError(f"There must be .tar files below the folder. Received: {root}")
    if vocabulary is not None and (root / VOCABULARY).exists():
        check_same_vocabulary(root / VOCABULARY, vocabulary)
    if weights is None:
        path = root / MIXTURE
        found = files.read_json(path) if path.exists() else {"weights": {}}
        weights = found.get("weights") if isinstance(found, dict) else None
        if isinstance(weights, dict) and path.exists():
            shards = _named(shards, weights, root)
    folders = {shard.parent.relative_to(root).as_posix() for shard in shards}
    numbers = isinstance(weights, dict) and all(
        isinstance(w, (int, float)) and 0 <= w <= _MAX_WEIGHT for w in weights.values()
    )
    if weights is None or not numbers or not set(weights) <= folders:
        raise ValueError(
            f"weights must be numbers from 0 to {_MAX_WEIGHT} for folders of {sorted(folders)}. "
            f"Received: {weights}"
        )
    of_shards = [weights.get(shard.parent.relative_to(root).as_posix(), 1) for shard in shards]
    source = WebDatasetSamples(shards, of_shards, num_classes, validation_fraction, salt, vocabulary)
    for part in samples.PARTS:
        if not source.counts(part).sum():
            raise ValueError(
                f"{root}: the part {part!r} must have samples. Choose another share or salt, in gin as "
                f"clip_rt.open_webdataset.validation_fraction = 0.2; where keys have one and the same text "
                f"before their last dash, all are one episode. Received: {validation_fraction}"
            )
    return source
