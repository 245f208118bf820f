"""Samples of a CSV ``filepath, caption, supervision, label``: the published layout for fine-tuning.

The caption is the instruction, in the prompt or not; file paths are relative to the CSV's folder.
"""

import csv
import dataclasses
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import gin
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from clip_tf.rt import samples
from clip_tf.rt.vocabulary import Vocabulary
from core import files
from episodes import splits

COLUMNS = ("filepath", "caption", "supervision", "label")


@dataclasses.dataclass(frozen=True)
class Row:
    """One example.

    Attributes:
      filepath: of the image.
      caption: the instruction.
      supervision: the wording of its language action.
      label: the class.
    """

    filepath: Path
    caption: str
    supervision: str
    label: int


class CsvSamples:
    """Samples of one CSV, or of one for each part."""

    def __init__(self, rows: dict[str, list[Row]], root: Path, num_classes: int, fingerprint: str) -> None:
        """Takes checked rows, see ``open_csv``; samples are named by their paths from ``root``."""
        self._rows = rows
        self._root = root
        self._num_classes = num_classes
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def rows(self, part: str) -> list[Row]:
        """The examples of a part, in the file's order."""
        samples.check_part(part)
        return self._rows[part]

    @property
    def is_fixed(self) -> bool:
        return True

    def counts(self, part: str) -> np.ndarray:
        return np.bincount([row.label for row in self.rows(part)], minlength=self._num_classes)

    def samples(self, part: str, *, seed: int | None, epoch: int) -> tf.data.Dataset:
        rows = self.rows(part)
        order = np.arange(len(rows))
        if seed is not None:
            order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        rows = [rows[i] for i in order]
        columns = {
            samples.IMAGE: np.array([str(row.filepath) for row in rows], object),
            samples.INSTRUCTION: np.array([row.caption for row in rows], object),
            samples.SUPERVISION: np.array([row.supervision for row in rows], object),
            samples.LABEL: np.array([row.label for row in rows], np.int64),
            samples.ID: np.array([_name(row.filepath, self._root) for row in rows], object),
        }
        # The image stays a path until the sample is used, so that skipping and shuffling read nothing.
        return tf.data.Dataset.from_tensor_slices(columns).map(
            lambda sample: {**sample, samples.IMAGE: tf.io.read_file(sample[samples.IMAGE])},
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )


@gin.configurable(module="clip_rt", denylist=["path", "num_classes", "vocabulary"])
def open_csv(
    path: str | Path,
    num_classes: int,
    *,
    vocabulary: Vocabulary | None = None,
    validation_file: str | Path | None = None,
    validation_fraction: float = 0.1,
    salt: str = "",
) -> CsvSamples:
    """Reads and checks a CSV and sees to it that its images are there.

    Args:
      path: of the CSV.
      num_classes: of the vocabulary.
      vocabulary: whose phrases must have the labels that it gives them; None asks for nothing.
      validation_file: a CSV of held-out examples. None holds a share of ``path`` out, by the hash of the
        images' folder where there are several (an episode's frames lie together), else of the image.
      validation_fraction: that share; 0 only with a ``validation_file``.
      salt: another salt holds others out.

    Raises:
      FileNotFoundError: the CSV or an image is missing.
      ValueError: a column is missing, a row is not valid, a part is empty, or an image is in both parts.
    """
    root = Path(path).parent
    samples.check_fraction(validation_fraction)
    train = read_rows(path, num_classes, vocabulary)
    digest = hashlib.sha256(Path(path).read_bytes())
    if validation_file is not None:
        held_out = read_rows(validation_file, num_classes, vocabulary)
        digest.update(Path(validation_file).read_bytes())
    else:
        # One file may be named in several ways: a/0.png, ../data/a/0.png.
        folders = {os.path.relpath(row.filepath.parent, root) for row in train}

        def part_of(row: Row) -> str:
            group = row.filepath.parent if len(folders) > 1 else row.filepath
            name = Path(os.path.relpath(group, root)).as_posix()
            fractions = {samples.VALIDATION: validation_fraction, samples.TRAIN: 1 - validation_fraction}
            return splits.split_by_hash(name, fractions, salt)

        parts = [part_of(row) for row in train]
        held_out = [r for r, part in zip(train, parts, strict=True) if part == samples.VALIDATION]
        train = [r for r, part in zip(train, parts, strict=True) if part == samples.TRAIN]
    for name, part in ((samples.TRAIN, train), (samples.VALIDATION, held_out)):
        if not part:
            raise ValueError(
                f"{path}: the part {name!r} must have examples. Name a validation_file, or another "
                f"validation_fraction. Received: none of {len(train) + len(held_out)}"
            )
    both = [{row.filepath.resolve() for row in part} for part in (train, held_out)]
    if both[0] & both[1]:
        raise ValueError(
            f"{validation_file or path}: an image must be in one part only. Received: "
            f"{len(both[0] & both[1])} in both, e.g. {sorted(both[0] & both[1])[0]}"
        )
    digest.update(repr((validation_file is None, validation_fraction, salt)).encode())
    digest.update(_digest_of_images(row.filepath for row in [*train, *held_out]))
    rows = {samples.TRAIN: train, samples.VALIDATION: held_out}
    return CsvSamples(rows, root, num_classes, digest.hexdigest())


def read_rows(path: str | Path, num_classes: int, vocabulary: Vocabulary | None = None) -> list[Row]:
    """The rows of a CSV, checked; arguments as for ``open_csv``.

    Raises:
      FileNotFoundError: the CSV or an image is missing.
      ValueError: a column is missing or a row is not valid; the message names the line.
    """
    path = Path(path)
    try:
        return _read_rows(path, num_classes, vocabulary)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8. Save it so. Received: {error}") from error
    except csv.Error as error:  # A quote that is never closed, mostly.
        raise ValueError(f"{path} must be a CSV. Received: {error}") from error


def _read_rows(path: Path, num_classes: int, vocabulary: Vocabulary | None) -> list[Row]:
    rows = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        given = reader.fieldnames or []
        missing = [name for name in COLUMNS if name not in given]
        if missing:
            raise ValueError(f"{path} must have the columns {list(COLUMNS)}. Received: {list(given)}")
        for fields in reader:
            where = f"{path}, line {reader.line_num}"
            texts = [(fields[name] or "").strip() for name in COLUMNS]
            if None in fields or not all(texts):
                raise ValueError(f"{where} must have a value for each column. Received: {fields}")
            image = path.parent / fields[COLUMNS[0]]  # A file's name may begin or end with a blank.
            image = image if image.is_file() else path.parent / texts[0]
            if not image.is_file():
                raise FileNotFoundError(f"{where}: there is no such image. Received: {image}")
            label = samples.check_label(texts[3], num_classes, where)
            if vocabulary is not None:
                vocabulary.check_label(texts[2], label, where)
            rows.append(Row(image, texts[1], texts[2], label))
    return rows


def _digest_of_images(paths: Iterable[Path]) -> bytes:
    digest = hashlib.sha256()
    for path in tqdm(list(dict.fromkeys(paths)), desc="reading images", unit="image", leave=False):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.digest()


def write_rows(path: str | Path, rows: list[Row]) -> None:
    """Writes a CSV, atomically; paths below its folder become relative to it."""
    path = Path(path)
    with files.atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            name = _name(row.filepath, path.parent)
            writer.writerow([name, row.caption, row.supervision, row.label])


def _name(path: Path, root: Path) -> str:
    """The path from ``root`` where it lies below it."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
