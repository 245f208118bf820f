"""From any RLDS data set to RT-1's training windows: actions mapped, instructions encoded anew, episodes
held out.

A batch is

::

    observation  image                       uint8 [b, T, H, W, 3] RGB
                 natural_language_embedding  float32 [b, T, 512]
    action       name -> float32 [b, T, k], or int32 [b, T, 3] one-hot for the terminate flag
    step_type    int32 [b, T]: 0 first, 1 mid, 2 last (as TF-Agents; last steps bear no loss)
    is_padding   bool [b, T]: steps before the episode began; they must bear no loss either
    info         episode_id string [b], step_index int64 [b]: of the step that the window is for
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gin
import numpy as np
import tensorflow as tf
from absl import logging

from core.spec import ArraySpec
from episodes import splits, windows
from episodes.rlds import COLUMNS, EPISODE_ID, RldsSplit, open_rlds
from episodes.statistics import DatasetStatistics, compute_statistics
from language import TextEncoder, require_same_encoder
from rt1 import augmentation as augmentation_lib
from rt1.action_mapping import ActionSource, action_specs, map_actions
from rt1.augmentation import Augmentation
from rt1.image_preparation import resize_image, to_uint8

FIRST, MID, LAST = 0, 1, 2
TRAIN, VALIDATION = splits.TRAIN, splits.VALIDATION


@dataclasses.dataclass(frozen=True, eq=False)
class RldsTrainingData:
    """An RLDS data set made ready for RT-1 by ``open_training_data``, whose arguments name the settings.

    Attributes:
      statistics: of the mapped actions over the training episodes; an epoch has ``statistics.steps``
        windows.
      action_specs: the actions, with bounds, in the order of their tokens.
      encoder_identity: of the encoder whose embeddings the batches hold.
    """

    statistics: DatasetStatistics
    action_specs: tuple[ArraySpec, ...]
    encoder_identity: str
    _train: RldsSplit
    _validation: RldsSplit
    _membership: Callable[[str], str] | None
    _settings: "_Settings"
    _encode: "_CachedEncoder"

    @property
    def window(self) -> int:
        """T, frames of a window."""
        return self._settings.window

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the batches' images."""
        if self._settings.image_size is not None:
            return self._settings.image_size
        height, width, _ = self._train.feature(self._settings.image_key).shape
        return int(height), int(width)

    def episode_ids(self, part: str) -> list[str]:
        """The ids of one part's episodes; reads the whole split."""
        return [episode_id for episode_id, _ in _numpy(self._episodes(part, ()))]

    def read_episodes(self, part: str) -> Iterator[dict[str, Any]]:
        """Iterates over whole episodes in numpy, for open-loop evaluation.

        Each has ``episode_id`` str, ``image`` uint8 [steps, H, W, 3], ``instruction`` list of str,
        ``natural_language_embedding`` float32 [steps, 512], ``action`` name -> [steps, k] and
        ``step_type`` int32 [steps].
        """
        s = self._settings
        for episode_id, columns in _numpy(self._episodes(part, s.columns)):
            tensors = {path: tf.constant(column) for path, column in columns.items()}
            prepared = self._prepare(tensors, None)
            steps = tf.range(len(columns[s.instruction_key]))
            is_first, is_last = steps == 0, steps == len(columns[s.instruction_key]) - 1
            yield {
                "episode_id": episode_id,
                "image": prepared["image"].numpy(),
                "instruction": [text.decode() for text in columns[s.instruction_key]],
                "natural_language_embedding": prepared["embedding"].numpy(),
                "action": {name: a.numpy() for name, a in map_actions(tensors, s.mapping).items()},
                "step_type": self._step_type(tensors, is_first, is_last).numpy(),
            }

    def batches(
        self,
        part: str,
        batch_size: int,
        *,
        seed: int | None,
        epoch: int = 0,
        skip: int = 0,
        augment: Augmentation | None = None,
        drop_remainder: bool = False,
        shard: tuple[int, int] = (1, 0),
        shuffle_buffer: int = 2048,
        episodes_at_once: int = 16,
    ) -> tf.data.Dataset:
        """One epoch of batches as the module says; the same arguments give the same batches.

        Args:
          part: ``train`` or ``val``.
          batch_size: windows in a batch; the last may have fewer.
          seed: of order and augmentation; None keeps the data set's order, for validation.
          epoch: from 0.
          skip: batches to leave out at the beginning, for an epoch that is resumed.
          augment: of the images; all frames of a window alike. Rotation is refused, because actions would
            not turn with it.
          drop_remainder: leaves out the last batch if it is smaller.
          shard: (n, i) for the i-th of n workers, by episode.
          shuffle_buffer, episodes_at_once: see ``episodes.windows.make_windows``.

        Raises:
          ValueError: an unknown part, or arguments out of range.
        """
        augment = augment or Augmentation()
        if seed is None and not augment.is_off:
            raise ValueError("Augmentation needs a seed. Received: seed=None")
        if batch_size < 1 or skip < 0:
            raise ValueError(
                f"batch_size must be >= 1 and skip >= 0. Received: batch_size={batch_size}, skip={skip}"
            )
        s = self._settings
        shuffle_seed = None if seed is None else windows.epoch_seed(seed, epoch)
        dataset = windows.make_windows(
            self._episodes(part, s.columns, shuffle_seed),
            s.window,
            padding=s.padding,
            seed=seed,
            epoch=epoch,
            shuffle_buffer=shuffle_buffer,
            episodes_at_once=episodes_at_once,
            shard=shard,
            skip=skip * batch_size,
        )

        def example(window: dict[str, Any]) -> dict[str, Any]:
            columns, draw = window[COLUMNS], None
            if not augment.is_off:
                draw = augmentation_lib.example_seed(seed or 0, epoch, window[windows.STEP_INDEX])
                name = tf.strings.to_hash_bucket_fast(window[EPISODE_ID], 2**62)
                draw = tf.random.fold_in(draw, name)
            prepared = self._prepare(columns, draw, augment)
            return {
                "observation": {
                    "image": prepared["image"],
                    "natural_language_embedding": prepared["embedding"],
                },
                "action": map_actions(columns, s.mapping),
                "step_type": self._step_type(columns, window[windows.IS_FIRST], window[windows.IS_LAST]),
                "is_padding": window[windows.IS_PADDING],
                "info": {
                    "episode_id": window[EPISODE_ID],
                    "step_index": window[windows.STEP_INDEX],
                },
            }

        dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return dataset.batch(batch_size, drop_remainder=drop_remainder).prefetch(tf.data.AUTOTUNE)

    def _episodes(self, part: str, paths: Sequence[str], shuffle_seed: int | None = None) -> tf.data.Dataset:
        if part not in (TRAIN, VALIDATION):
            raise ValueError(f"part must be {TRAIN!r} or {VALIDATION!r}. Received: {part!r}")
        source = self._train if part == TRAIN else self._validation
        return _select(source, paths, self._settings, self._membership, part, shuffle_seed)

    def _prepare(
        self, columns: Mapping[str, tf.Tensor], draw: tf.Tensor | None, augment: Augmentation | None = None
    ) -> dict[str, tf.Tensor]:
        """Images uint8 [n, H, W, 3] and embeddings float32 [n, 512] of n steps."""
        s = self._settings
        image = self._train.decode_images(s.image_key, columns[s.image_key])
        if s.image_size is not None and image.shape[1:3] != s.image_size:
            image = to_uint8(resize_image(image, s.image_size))
        if draw is not None and augment is not None:
            changed, _ = augmentation_lib.augment(
                tf.image.convert_image_dtype(image, tf.float32), None, draw, augment
            )
            image = to_uint8(changed)
        if s.embedding_key is not None:
            embedding = columns[s.embedding_key]
        else:
            embedding = tf.numpy_function(
                self._encode, [columns[s.instruction_key]], tf.float32, stateful=False
            )
        size = self._encode.encoder.size
        return {"image": image, "embedding": tf.ensure_shape(embedding, [image.shape[0], size])}

    def _step_type(
        self, columns: Mapping[str, tf.Tensor], is_first: tf.Tensor, is_last: tf.Tensor
    ) -> tf.Tensor:
        s = self._settings
        if s.last_step_has_action:
            is_last = tf.zeros_like(is_last)
        elif s.is_last_key is not None:
            is_last = columns[s.is_last_key]
        step_type = tf.where(is_first, FIRST, MID)
        return tf.where(is_last, LAST, step_type)


@gin.configurable(denylist=["directory", "encoder", "statistics"])
def open_training_data(
    directory: str | Path,
    encoder: TextEncoder,
    *,
    mapping: Sequence[ActionSource],
    split: str = "train",
    validation_split: str | None = None,
    validation_fraction: float = 0.1,
    validation_episodes: int | None = None,
    salt: str = "",
    image_key: str = "observation/image",
    image_size: tuple[int, int] | None = None,
    instruction_key: str = "language_instruction",
    embedding_key: str | None = None,
    embedding_encoder: str | None = None,
    unlabelled: str = "error",
    last_step_has_action: bool = False,
    window: int = 6,
    padding: str = "start",
    statistics: DatasetStatistics | None = None,
) -> RldsTrainingData:
    """Opens a data set, holds episodes out, and takes the statistics of the rest.

    Reads all episodes once (twice with ``validation_episodes``), actions and instructions only, unless
    ``statistics`` are handed in. A data set too large for that: make the statistics once, keep them, and
    hold out by ``validation_split`` or ``validation_fraction``.

    Args:
      directory: see ``episodes.rlds.open_rlds``.
      encoder: makes the embeddings of the instructions, each different sentence once.
      mapping: where each action comes from, in the order of the action tokens.
      split: episodes to train on.
      validation_split: a split of the data set to validate on; an episode of it that is in ``split`` too
        is an error. None holds episodes of ``split`` out by the hash of their ids.
      validation_fraction: the share to hold out (each episode by itself, so about so many).
      validation_episodes: exactly how many to hold out, instead of the share.
      salt: another salt holds others out.
      image_key, instruction_key: paths in a step.
      image_size: (height, width) the images are brought to; None keeps them.
      embedding_key: path of stored embeddings to use instead of encoding the instructions; their encoder
        must then be named by ``embedding_encoder`` and be the one given.
      unlabelled: ``error`` for an episode with an empty instruction, or ``skip`` to leave it out.
      last_step_has_action: whether the last step's action was carried out. RLDS leaves it undefined, and
        steps marked ``is_last`` bear no loss; True lets them.
      window: T, frames of a window.
      padding: ``start`` or ``end``, see ``episodes.windows``.
      statistics: of the mapped actions, from an earlier call or a checkpoint. Nothing is read then, but the
        ids where ``validation_episodes`` are to be chosen; an instruction that cannot be encoded is found
        only when its batch comes.

    Raises:
      FileNotFoundError, ValueError: see ``open_rlds``; a path or a slice does not fit the data; one part
        has no episode; the splits share an episode; an instruction is empty or cannot be encoded; stored
        embeddings are of another encoder, or of an unknown one.
    """
    if unlabelled not in ("error", "skip"):
        raise ValueError(f"unlabelled must be 'error' or 'skip'. Received: {unlabelled!r}")
    train = open_rlds(directory, split)
    if embedding_key is not None:
        if embedding_encoder is None:
            raise ValueError(
                f"embedding_encoder must name the encoder that made {embedding_key!r}. Received: None"
            )
        require_same_encoder(encoder.identity, embedding_encoder, f"{train.name}: {embedding_key}")
        _check_embedding_feature(train, embedding_key, encoder.size)
    _check_image_feature(train, image_key, image_size)
    settings = _Settings(
        mapping=tuple(mapping),
        image_key=image_key,
        image_size=None if image_size is None else (int(image_size[0]), int(image_size[1])),
        instruction_key=instruction_key,
        embedding_key=embedding_key,
        is_last_key="is_last" if "is_last" in train.features else None,
        skip_unlabelled=unlabelled == "skip",
        last_step_has_action=last_step_has_action,
        window=window,
        padding=padding,
    )
    for path in settings.columns:
        train.feature(path)
    filled = {source.name: source.constant for source in mapping if source.path is None}
    if filled:
        logging.warning("%s does not have these actions; they are constant: %s", train.name, filled)
    encode = _CachedEncoder(encoder)
    if validation_split is not None:
        validation = open_rlds(directory, validation_split, id_fields=train.id_fields)
        membership = None
    else:
        validation = train
        membership = _membership(train, settings, validation_fraction, validation_episodes, salt)
    if statistics is None:
        statistics = _scan(train, validation, settings, membership, encode)
    return RldsTrainingData(
        statistics=statistics,
        action_specs=action_specs(mapping, statistics),
        encoder_identity=encoder.identity,
        _train=train,
        _validation=validation,
        _membership=membership,
        _settings=settings,
        _encode=encode,
    )


@dataclasses.dataclass(frozen=True)
class _Settings:
    mapping: tuple[ActionSource, ...]
    image_key: str
    image_size: tuple[int, int] | None
    instruction_key: str
    embedding_key: str | None
    is_last_key: str | None
    skip_unlabelled: bool
    last_step_has_action: bool
    window: int
    padding: str

    @property
    def action_columns(self) -> tuple[str, ...]:
        """What the statistics need: no image."""
        paths = [source.path for source in self.mapping if source.path is not None]
        return tuple(dict.fromkeys([self.instruction_key, *paths]))

    @property
    def columns(self) -> tuple[str, ...]:
        rest = [self.image_key, self.embedding_key, self.is_last_key]
        return tuple(dict.fromkeys([*self.action_columns, *(p for p in rest if p is not None)]))


class _CachedEncoder:
    """Encodes each different sentence once."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self._cache: dict[bytes, np.ndarray] = {}

    def __call__(self, sentences: np.ndarray) -> np.ndarray:
        """bytes [n] -> float32 [n, size]."""
        new = [s for s in dict.fromkeys(sentences.tolist()) if s not in self._cache]
        if new:
            vectors = self.encoder.encode([s.decode() for s in new])
            self._cache.update(zip(new, np.asarray(vectors, np.float32), strict=True))
        return np.stack([self._cache[s] for s in sentences.tolist()])


def _select(
    source: RldsSplit,
    paths: Sequence[str],
    settings: _Settings,
    membership: Callable[[str], str] | None,
    part: str,
    shuffle_seed: int | None,
) -> tf.data.Dataset:
    """The episodes of one part, with the columns of ``paths``."""
    wanted = tuple(dict.fromkeys([*paths, settings.instruction_key]))
    episodes = source.episodes(wanted, shuffle_seed=shuffle_seed)
    if settings.skip_unlabelled:
        episodes = episodes.filter(
            lambda e: tf.reduce_all(
                tf.strings.length(tf.strings.strip(e[COLUMNS][settings.instruction_key])) > 0
            )
        )
    if membership is None:
        return episodes

    def belongs(episode_id: bytes) -> bool:
        return membership(episode_id.decode()) == part

    return episodes.filter(
        lambda e: tf.ensure_shape(tf.numpy_function(belongs, [e[EPISODE_ID]], tf.bool, stateful=False), [])
    )


def _membership(
    train: RldsSplit, settings: _Settings, fraction: float, count: int | None, salt: str
) -> Callable[[str], str]:
    if count is not None:
        ids = [i for i, _ in _numpy(_select(train, (), settings, None, TRAIN, None))]
        held_out = splits.hold_out_by_hash(ids, count, salt)
        return lambda episode_id: VALIDATION if episode_id in held_out else TRAIN
    fractions = {VALIDATION: fraction, TRAIN: 1 - fraction}
    splits.split_by_hash("", fractions)  # Complains about a fraction out of range.
    return lambda episode_id: splits.split_by_hash(episode_id, fractions, salt)


def _scan(
    train: RldsSplit,
    validation: RldsSplit,
    settings: _Settings,
    membership: Callable[[str], str] | None,
    encode: _CachedEncoder,
) -> DatasetStatistics:
    """Statistics of the mapped actions of the training episodes.

    Encodes every instruction of both parts, so that a bad one is found now, and sees to it that neither
    part is empty and no episode is in both.
    """
    train_ids: set[str] = set()
    held_out = 0

    def of_training() -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
        nonlocal held_out
        for episode_id, actions in _checked_episodes(train, settings, encode):
            if membership is not None and membership(episode_id) == VALIDATION:
                held_out += 1
                continue
            train_ids.add(episode_id)
            yield episode_id, actions

    statistics = compute_statistics(of_training())
    if membership is None:
        for episode_id, _ in _checked_episodes(validation, settings, encode):
            held_out += 1
            if episode_id in train_ids:
                raise ValueError(
                    f"{train.name}: an episode of the split {validation.split!r} is in {train.split!r} too, "
                    "so that it cannot show what was learnt. Leave validation_split out to hold episodes "
                    f"out. Received: {episode_id!r}"
                )
    if not held_out:
        raise ValueError(
            f"{train.name}: no episode is held out. Raise validation_fraction, or name validation_episodes. "
            "Received: an empty validation part"
        )
    logging.info(
        "%s: %d training episodes (%d steps), %d held out, %d left out for want of an instruction.",
        train.name,
        statistics.episodes,
        statistics.steps,
        held_out,
        train.num_episodes - statistics.episodes - (held_out if membership is not None else 0),
    )
    return statistics


def _checked_episodes(
    source: RldsSplit, settings: _Settings, encode: _CachedEncoder
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The mapped actions of every episode whose instructions can be encoded; an error names another."""
    key = settings.instruction_key
    dataset = _select(source, settings.action_columns, settings, None, TRAIN, None).map(
        lambda e: {
            EPISODE_ID: e[EPISODE_ID],
            COLUMNS: (map_actions(e[COLUMNS], settings.mapping), e[COLUMNS][key]),
        },
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    for episode_id, (actions, instructions) in _numpy(dataset):
        empty = [i for i, text in enumerate(instructions) if not text.strip()]
        if empty:
            raise ValueError(
                f"Episode {episode_id!r} has no instruction at step {empty[0]} ({key}). unlabelled='skip' "
                f"leaves such episodes out. Received: {instructions[empty[0]]!r}"
            )
        if settings.embedding_key is None:
            try:
                encode(instructions)
            except ValueError as error:
                raise ValueError(f"Episode {episode_id!r}: {error}") from error
        yield episode_id, actions


def _numpy(dataset: tf.data.Dataset) -> Iterator[tuple[str, Any]]:
    for episode in dataset.prefetch(1).as_numpy_iterator():
        yield episode[EPISODE_ID].decode(), episode[COLUMNS]


def _check_image_feature(train: RldsSplit, path: str, image_size: tuple[int, int] | None) -> None:
    feature = train.feature(path)
    shape, dtype = tuple(feature.shape), np.dtype(feature.np_dtype)
    if len(shape) != 3 or shape[-1] != 3 or dtype != np.uint8:
        raise ValueError(f"{train.name}: {path} must be uint8 [H, W, 3]. Received: {dtype} {list(shape)}")
    if None in shape and image_size is None:
        raise ValueError(
            f"{train.name}: images of {path} differ in size, so image_size must be given. Received: None"
        )


def _check_embedding_feature(train: RldsSplit, path: str, size: int) -> None:
    feature = train.feature(path)
    if tuple(feature.shape) != (size,) or np.dtype(feature.np_dtype) != np.float32:
        raise ValueError(
            f"{train.name}: {path} must be float32 [{size}]. Received: {feature.np_dtype} {feature.shape}"
        )
