"""Samples of RLDS episodes, their supervision derived from the recorded actions."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import gin
import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from clip_tf.rt import samples
from clip_tf.rt.action_layout import ActionLayout
from clip_tf.rt.dominant_axis import NONE
from clip_tf.rt.oxe_layouts import oxe_data_set
from clip_tf.rt.recorded_supervision import RecordedSupervision, make_action_layout
from clip_tf.rt.rlds_steps import check_paths, instruction_texts
from clip_tf.rt.vocabulary import Vocabulary
from episodes import splits, windows
from episodes.rlds import COLUMNS, EPISODE_ID, RldsSplit, open_rlds

_EPISODES_AT_ONCE = 16
_SHUFFLE_BUFFER = 2048


class RldsSamples:
    """The steps of episodes whose action says a class."""

    def __init__(
        self,
        source: RldsSplit,
        hold_out: Callable[[list[str]], frozenset[str]],
        supervision: RecordedSupervision,
        image_key: str,
        instruction_key: str,
        paraphrases: bool,
    ) -> None:
        """Reads the actions of all episodes once; see ``open_rlds_samples``.

        ``hold_out`` says which of the episodes' ids are held out.
        """
        self._source = source
        self._supervision = supervision
        self._image_key = image_key
        self._instruction_key = instruction_key
        self._paraphrases = paraphrases
        classes = len(supervision.vocabulary)
        counts: list[tuple[str, np.ndarray]] = []
        steps, told = 0, hashlib.sha256()
        episodes = source.read(list(dict.fromkeys([instruction_key, *supervision.layout.columns])))
        for episode_id, columns in tqdm(
            episodes, desc="deriving supervision", total=source.num_episodes, unit="episode"
        ):
            try:
                labels = self._labels(columns)
            except ValueError as error:
                raise ValueError(f"{source.name}, episode {episode_id!r}: {error}") from error
            steps += len(labels)
            told.update(f"{episode_id!r} {labels.tolist()}".encode())
            told.update(repr(columns[instruction_key].tolist()).encode())
            counts.append((episode_id, np.bincount(labels[labels != NONE], minlength=classes)))
        self._held_out = hold_out([episode_id for episode_id, _ in counts])
        self._counts = {part: np.zeros(classes, np.int64) for part in samples.PARTS}
        for episode_id, found in counts:
            self._counts[self._part(episode_id)] += found
        total = sum(int(found.sum()) for found in self._counts.values())
        logging.info("%s: %d of %d steps say a class.", source.name, total, steps)
        # Images are not read for this: one that is replaced by another of its size goes unnoticed.
        data = (source.fingerprint, told.hexdigest(), sorted(self._held_out), image_key)
        how = (supervision.layout, supervision.vocabulary.phrases, paraphrases)
        self._fingerprint = hashlib.sha256(repr((*data, *how)).encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def held_out(self) -> frozenset[str]:
        """The ids of the episodes that are held out."""
        return self._held_out

    @property
    def is_fixed(self) -> bool:
        return True

    def counts(self, part: str) -> np.ndarray:
        samples.check_part(part)
        return self._counts[part].copy()

    def samples(self, part: str, *, seed: int | None, epoch: int) -> tf.data.Dataset:
        samples.check_part(part)
        shuffle_seed = None if seed is None else windows.epoch_seed(seed, epoch)
        paths = [self._image_key, self._instruction_key, *self._supervision.layout.columns]
        episodes = self._source.episodes(list(dict.fromkeys(paths)), shuffle_seed=shuffle_seed)

        def belongs(episode_id: bytes) -> bool:
            return self._part(episode_id.decode()) == part

        episodes = episodes.filter(
            lambda e: tf.ensure_shape(
                tf.numpy_function(belongs, [e[EPISODE_ID]], tf.bool, stateful=False), []
            )
        )
        draw = f"{seed}/{epoch}" if seed is not None and self._paraphrases else None

        def derive(episode_id: bytes, instructions: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
            named = dict(zip(self._supervision.layout.columns, columns, strict=True))
            labels = self._labels({**named, self._instruction_key: instructions})
            told = np.array(instruction_texts(instructions), object)
            kept = np.flatnonzero(labels != NONE)
            wordings = [
                self._supervision.wording(
                    labels[step], None if draw is None else f"{draw}/{episode_id.decode()}@{step}"
                )
                for step in kept
            ]
            texts = [told[kept].reshape(-1), np.array(wordings, object).reshape(-1)]
            return [kept.astype(np.int64), labels[kept], *texts]

        def of_episode(episode: dict) -> tf.data.Dataset:
            columns = episode[COLUMNS]
            given = [columns[path] for path in self._supervision.layout.columns]
            steps, labels, instructions, wordings = tf.numpy_function(
                derive,
                [episode[EPISODE_ID], columns[self._instruction_key], *given],
                [tf.int64, tf.int64, tf.string, tf.string],
                stateful=False,
            )
            steps = tf.ensure_shape(steps, [None])
            name = tf.strings.join([episode[EPISODE_ID], "@"])
            return tf.data.Dataset.from_tensor_slices(
                {
                    samples.IMAGE: tf.gather(columns[self._image_key], steps),
                    samples.INSTRUCTION: tf.ensure_shape(instructions, [None]),
                    samples.SUPERVISION: tf.ensure_shape(wordings, [None]),
                    samples.LABEL: tf.ensure_shape(labels, [None]),
                    samples.ID: tf.strings.join([name, tf.strings.as_string(steps)]),
                }
            )

        if seed is None:
            return episodes.flat_map(of_episode)
        dataset = episodes.interleave(of_episode, _EPISODES_AT_ONCE, block_length=1)
        return dataset.shuffle(_SHUFFLE_BUFFER, shuffle_seed, reshuffle_each_iteration=False)

    def _labels(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """Labels of an episode; a step without an instruction says nothing."""
        labels = self._supervision.labels(columns)
        told = [bool(text) for text in instruction_texts(columns[self._instruction_key])]
        return np.where(told, labels, NONE)

    def _part(self, episode_id: str) -> str:
        return samples.VALIDATION if episode_id in self._held_out else samples.TRAIN


@gin.configurable(module="clip_rt", denylist=["directory", "vocabulary"])
def open_rlds_samples(
    directory: str | Path,
    vocabulary: Vocabulary,
    *,
    split: str = "train",
    validation_episodes: int | None = None,
    validation_fraction: float = 0.1,
    salt: str = "",
    oxe_name: str | None = None,
    image_key: str | None = None,
    instruction_key: str | None = None,
    layout: ActionLayout | None = None,
    paraphrases: bool = True,
) -> RldsSamples:
    """Opens a data set, holds episodes out, and derives the labels of all steps once.

    Args:
      directory: see ``episodes.rlds.open_rlds``.
      vocabulary: whose classes are learnt.
      split: of the data set; episodes of it are held out by the hash of their ids.
      validation_episodes: exactly how many; None takes the share.
      validation_fraction: about which share of the episodes.
      salt: another salt holds others out.
      oxe_name: whose images, instructions and actions are where ``clip_tf.rt.oxe_layouts`` says; None for a
        data set with seven numbers in ``action``, or one whose layout is given or configured.
      image_key, instruction_key: paths in a step; None is the data set's.
      layout: where the actions are; None is ``make_action_layout``'s.
      paraphrases: whether training draws wordings, see ``clip_tf.rt.paraphrases``.

    Raises:
      FileNotFoundError, ValueError: see ``open_rlds``; an image that is not uint8 [H, W, 3]; actions that do
        not fit the layout; a part without a step that says a class.
    """
    samples.check_fraction(validation_fraction)
    source = open_rlds(directory, split)
    data_set = oxe_data_set(oxe_name)
    image_key = image_key or data_set.image_key
    instruction_key = instruction_key or data_set.instruction_key
    if layout is None:
        layout = make_action_layout() if oxe_name is None else make_action_layout(oxe_name)
    check_paths(source, layout, image_key, instruction_key)

    def hold_out(ids: list[str]) -> frozenset[str]:
        if validation_episodes is not None:
            return splits.hold_out_by_hash(ids, validation_episodes, salt)
        return frozenset(_held_out(ids, validation_fraction, salt))

    supervision = RecordedSupervision(layout, vocabulary)
    opened = RldsSamples(source, hold_out, supervision, image_key, instruction_key, paraphrases)
    for part in samples.PARTS:
        if not opened.counts(part).sum():
            raise ValueError(
                f"{source.name}: the part {part!r} must have a step that says a class. Hold other or more "
                f"episodes out, or look at the action layout. Received: none, {len(opened.held_out)} of "
                f"{source.num_episodes} episodes held out"
            )
    return opened


def _held_out(ids: list[str], fraction: float, salt: str) -> Iterator[str]:
    fractions = {samples.VALIDATION: fraction, samples.TRAIN: 1 - fraction}
    return (i for i in ids if splits.split_by_hash(i, fractions, salt) == samples.VALIDATION)
