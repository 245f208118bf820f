"""Reading RLDS data sets (TFRecords that TFDS describes), whoever wrote them.

Episodes are streamed: images stay encoded until a step that needs them is decoded, nothing is cached,
and no episode beyond those in flight is held in memory. An episode is

::

    {"episode_id": string [],
     "columns": {"observation/image_0": string [steps] (encoded), "action": float32 [steps, A], …}}
"""

import dataclasses
import difflib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

EPISODE_ID, COLUMNS = "episode_id", "columns"
STEPS, METADATA = "steps", "episode_metadata"
# What OXE's and rlds_dataset_builder's data sets write; neither need be unique alone.
ID_FIELDS = ("file_path", EPISODE_ID)
# So many episodes are looked at to see whether their metadata tells them apart.
_EPISODES_PROBED = 32
# Shards read at once in a shuffled pass; each holds one serialised episode in memory.
_SHARDS_AT_ONCE = 4

_FILES = ("dataset_info.json", "features.json")


@dataclasses.dataclass(frozen=True, eq=False)
class RldsSplit:
    """One split of an RLDS data set, opened by ``open_rlds``.

    Attributes:
      name: e.g. ``bridge_dataset/1.0.0``.
      split: as given, ``train`` or a part such as ``train[:90%]``.
      num_episodes: how many episodes the split has.
      id_fields: fields of ``episode_metadata`` that make an episode's id; empty where the id is a digest
        of the episode's content.
      features: path -> TFDS feature of a step.
      fingerprint: hexadecimal digest of the names and sizes of the split's files.
    """

    name: str
    split: str
    num_episodes: int
    id_fields: tuple[str, ...]
    features: dict[str, Any]
    fingerprint: str
    builder: Any

    def feature(self, path: str) -> Any:
        """The TFDS feature of a step at ``path``, e.g. ``observation/image_0``.

        Raises:
          ValueError: there is none; the message names near ones, or all.
        """
        if path not in self.features:
            near = difflib.get_close_matches(path, self.features, n=3)
            hint = f"Near: {near}" if near else f"There are {sorted(self.features)}"
            raise ValueError(f"{self.name} has no step feature of that path. {hint}. Received: {path!r}")
        return self.features[path]

    def is_image(self, path: str) -> bool:
        """Whether the feature is stored as an encoded image."""
        return isinstance(self.feature(path), tfds.features.Image)

    def episodes(self, paths: Sequence[str], *, shuffle_seed: int | None = None) -> tf.data.Dataset:
        """Streams episodes as the module says, with only the columns of ``paths``.

        Images stay encoded; everything else is decoded.

        Args:
          paths: of step features.
          shuffle_seed: reads the shards in an order drawn from it; None reads them in their own order.
            (TensorFlow mixes its global seed into every such draw.)

        Raises:
          ValueError: a path is unknown.
        """
        wanted = {path: self.feature(path) for path in paths}

        def select(example: dict[str, Any]) -> dict[str, Any]:
            columns = _flat(example[STEPS])
            kept = {
                path: columns[path]
                if isinstance(feature, tfds.features.Image)
                else feature.decode_batch_example(columns[path])
                for path, feature in wanted.items()
            }
            return {EPISODE_ID: self._episode_id(example), COLUMNS: kept}

        return self._examples(shuffle_seed).map(select, num_parallel_calls=tf.data.AUTOTUNE)

    def decode_images(self, path: str, encoded: tf.Tensor) -> tf.Tensor:
        """Decodes a column, or part of one.

        Args:
          path: of an image feature; a feature that is stored as plain numbers passes through.
          encoded: string [n].

        Returns:
          [n, H, W, C] in the feature's own type (uint8; uint16 for depth).
        """
        feature = self.feature(path)
        if not isinstance(feature, tfds.features.Image):
            return encoded
        # Some writers mark an absent image by an empty string.
        present = tf.debugging.assert_none_equal(
            tf.strings.length(encoded), 0, message=f"{self.name}: {path} has an empty image"
        )
        with tf.control_dependencies([] if present is None else [present]):
            images = tf.map_fn(feature.decode_example, encoded, fn_output_signature=feature.tf_dtype)
        return tf.ensure_shape(images, [None, *feature.shape])

    def read(
        self, paths: Sequence[str], *, decode: bool = True
    ) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Iterates over (episode id, path -> numpy column); images decoded where ``decode`` is true.

        Raises:
          ValueError: a path is unknown.
        """
        dataset = self.episodes(paths)
        if decode:
            dataset = dataset.map(
                lambda e: {
                    **e,
                    COLUMNS: {
                        p: self.decode_images(p, c) if self.is_image(p) else c for p, c in e[COLUMNS].items()
                    },
                },
                num_parallel_calls=tf.data.AUTOTUNE,
            )
        for episode in dataset.prefetch(1).as_numpy_iterator():
            yield episode[EPISODE_ID].decode(), episode[COLUMNS]

    def _examples(self, shuffle_seed: int | None) -> tf.data.Dataset:
        config = tfds.ReadConfig(
            try_autocache=False,  # TFDS would keep a small data set in memory.
            shuffle_seed=shuffle_seed,
            shuffle_reshuffle_each_iteration=False,
            interleave_cycle_length=_SHARDS_AT_ONCE if shuffle_seed is not None else 1,
            interleave_block_length=1,
        )
        dataset = self.builder.as_dataset(
            split=self.split,
            shuffle_files=shuffle_seed is not None,
            decoders={STEPS: tfds.decode.SkipDecoding()},
            read_config=config,
        )
        options = tf.data.Options()
        options.deterministic = True
        return dataset.with_options(options)

    def _episode_id(self, example: dict[str, Any]) -> tf.Tensor:
        if self.id_fields:
            parts = [tf.strings.as_string(example[METADATA][field]) for field in self.id_fields]
            return tf.strings.join(parts, separator=":")
        columns = _flat(example[STEPS])
        paths = sorted(columns)
        values = [columns[p][:1] if self.is_image(p) else columns[p] for p in paths]
        digest = tf.numpy_function(_digest_function(paths), values, tf.string, stateful=False)
        return tf.ensure_shape(digest, [])


def open_rlds(
    directory: str | Path, split: str = "train", *, id_fields: Sequence[str] | None = None
) -> RldsSplit:
    """Opens one split of a data set on disk; no code of its writer is needed.

    Args:
      directory: the version's folder (it holds ``dataset_info.json`` and ``features.json``), or its
        parent where that has one version only.
      split: a split's name, or a part of one as TFDS writes it (``train[:90%]``).
      id_fields: fields of ``episode_metadata`` whose values, joined, are an episode's id; an empty
        sequence asks for a digest of the episode's content (every field, and the first image of each
        camera). None takes ``file_path`` and ``episode_id``, those there are, if they tell the first 32
        episodes apart, and the digest otherwise.

    Raises:
      FileNotFoundError: there is no such directory or no data set in it.
      ValueError: several versions, no such split, an empty one, a data set without ``steps``, or
        metadata without one of ``id_fields``. The message names what there is.
    """
    folder = _version_folder(Path(directory))
    builder = tfds.builder_from_directory(str(folder))
    available = {name: info.num_examples for name, info in builder.info.splits.items()}
    try:
        info = builder.info.splits[split]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{folder} has the splits {available}. Received: split={split!r}") from error
    if not info.num_examples:
        raise ValueError(f"{folder}: the split has no episodes, of {available}. Received: split={split!r}")
    top = builder.info.features
    if STEPS not in top or not isinstance(top[STEPS], (tfds.features.Dataset, tfds.features.Sequence)):
        raise ValueError(
            f"{folder} is not an RLDS data set: its examples have no {STEPS!r}. Received: {sorted(top)}"
        )
    opened = RldsSplit(
        name=builder.info.full_name,
        split=split,
        num_episodes=int(info.num_examples),
        id_fields=(),
        features=_flat_features(top[STEPS].feature),
        fingerprint=_fingerprint(info.filenames, folder),
        builder=builder,
    )
    metadata = sorted(top[METADATA]) if METADATA in top else []
    unknown = [field for field in id_fields or () if field not in metadata]
    if unknown:
        raise ValueError(f"{folder}: {METADATA} has the fields {metadata}. Received: id_fields={id_fields}")
    if id_fields is None:
        named = dataclasses.replace(opened, id_fields=tuple(f for f in ID_FIELDS if f in metadata))
        return named if named.id_fields and _tells_apart(named) else opened
    return dataclasses.replace(opened, id_fields=tuple(id_fields))


def _version_folder(directory: Path) -> Path:
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no such data set directory. Received: {directory}")
    if all((directory / name).exists() for name in _FILES):
        return directory
    versions = sorted(f.parent for f in directory.glob(f"*/{_FILES[1]}") if (f.parent / _FILES[0]).exists())
    if not versions:
        content = sorted(p.name for p in directory.iterdir())
        raise FileNotFoundError(
            f"Neither {directory} nor a folder in it holds {' and '.join(_FILES)}, which TFDS writes beside "
            f"the TFRecords. Received a directory of: {content[:20]}"
        )
    if len(versions) > 1:
        raise ValueError(f"Name one version of the data set. Received: {[str(v) for v in versions]}")
    return versions[0]


def _tells_apart(opened: RldsSplit) -> bool:
    ids = [episode_id for episode_id, _ in _take(opened.read(()), _EPISODES_PROBED)]
    if len(set(ids)) == len(ids):
        return True
    logging.warning(
        "%s: %s of the metadata do not tell episodes apart (%d different among %d); ids are digests of the "
        "content instead.",
        opened.name,
        " and ".join(opened.id_fields),
        len(set(ids)),
        len(ids),
    )
    return False


def _take(items: Iterator[Any], n: int) -> Iterator[Any]:
    for _, item in zip(range(n), items, strict=False):
        yield item


def _fingerprint(filenames: Sequence[str], folder: Path) -> str:
    digest = hashlib.sha256()
    for filename in sorted(filenames):
        digest.update(f"{filename} {(folder / filename).stat().st_size}\n".encode())
    return digest.hexdigest()


def _flat_features(feature: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(feature, tfds.features.FeaturesDict):
        return {prefix: feature}
    flat: dict[str, Any] = {}
    for name in feature:
        flat.update(_flat_features(feature[name], f"{prefix}/{name}" if prefix else name))
    return flat


def _flat(columns: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in columns.items():
        path = f"{prefix}/{name}" if prefix else name
        flat.update(_flat(value, path) if isinstance(value, dict) else {path: value})
    return flat


def _digest_function(paths: Sequence[str]) -> Callable[..., bytes]:
    def digest_of(*values: np.ndarray) -> bytes:
        digest = hashlib.sha256()
        for path, value in zip(paths, values, strict=True):
            digest.update(f"\0{path} {value.shape} {value.dtype.kind}\0".encode())
            if value.dtype == object:
                for item in value.reshape(-1):
                    digest.update(len(item).to_bytes(8, "big") + item)
            else:
                digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest().encode()

    return digest_of
