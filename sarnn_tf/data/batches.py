"""Batches of prepared episodes: normalised, padded, with noise on what the network sees.

The clean images and joints are the targets. Noise and augmentation touch the inputs alone, and not the
patches, which the frozen CLIP has computed once from the clean images.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from episodes.windows import epoch_seed
from sarnn_tf.data.batch import Batch
from sarnn_tf.data.input_noise import JOINTS, InputNoise
from sarnn_tf.data.prepared import PreparedData, PreparedEpisode
from sarnn_tf.description import SarnnDescription
from sarnn_tf.image_modality import ImageModality
from sarnn_tf.learning.padding import pad_sequences
from sarnn_tf.networks.clip_sarnn import Observations
from sarnn_tf.normalization import normalize
from sarnn_tf.preparation import to_unit


def num_batches(part: Sequence[int] | np.ndarray, batch_size: int) -> int:
    """Batches of one pass; the last one may be smaller.

    Raises:
      ValueError: a size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1. Received: {batch_size}")
    return -(-len(part) // batch_size)


def batches(
    prepared: PreparedData,
    description: SarnnDescription,
    part: Sequence[int] | np.ndarray,
    batch_size: int,
    *,
    seed: int | None,
    epoch: int = 0,
    skip: int = 0,
    stdev: float = 0.0,
    joint_stdev: float = 0.0,
    augment: bool = False,
    max_lengths: int = 4,
) -> tf.data.Dataset:
    """One pass over some episodes as a ``tf.data.Dataset`` of ``Batch``.

    The same arguments give the same batches. What an episode's noise is depends on seed, epoch, episode and
    modality, and not on what else is in its batch. EIPL's rule is ``stdev=0.02``, ``augment=True`` and its
    ``--stdev`` times (vmax - vmin) as ``joint_stdev``; the published CLIP-SARNN's is its ``--stdev`` as
    ``stdev`` and nothing else. Noise may leave [0, 1].

    Args:
      prepared: the episodes.
      description: names the modalities and says how they, and the joints, are scaled; whether there are
        patches and text.
      part: numbers of episodes, e.g. ``make_parts(prepared).train``.
      batch_size: episodes in a batch; the last may have fewer.
      seed: of order, noise and augmentation; None keeps the order of ``part`` and the inputs clean, for
        validation.
      epoch: from 0.
      skip: batches to leave out at the beginning, for an epoch that is resumed.
      stdev: of the normal noise on input images, which are in [0, 1].
      joint_stdev: of the normal noise on input joints, as they are normalised.
      augment: EIPL's augmentation of the input colour images; depth and touch mean what they say and are
        left alone.
      max_lengths: batches are padded to one of at most so many lengths, so that a traced training step is
        used again; the longest episode of ``part`` has one of them.

    Raises:
      ValueError: an argument is out of range, or the data are not prepared for this description.
    """
    _check(prepared, description, part)
    for name, value, least in (
        ("epoch", epoch, 0),
        ("skip", skip, 0),
        ("stdev", stdev, 0),
        ("joint_stdev", joint_stdev, 0),
        ("max_lengths", max_lengths, 1),
    ):
        if not value >= least:
            raise ValueError(f"{name} must be at least {least}. Received: {value}")
    numbers = np.asarray(part, np.int64)
    noise = None
    if seed is not None:
        drawn = epoch_seed(seed, epoch)
        numbers = np.random.default_rng(drawn).permutation(numbers)
        noise = InputNoise(drawn, stdev, joint_stdev, augment)
    chunks = [
        numbers[i * batch_size : (i + 1) * batch_size] for i in range(skip, num_batches(numbers, batch_size))
    ]
    lengths = _lengths(int(prepared.lengths[numbers].max()), max_lengths)

    def generate() -> Iterator[dict[str, Any]]:
        for chunk in chunks:
            longest = int(prepared.lengths[chunk].max())
            length = next(n for n in lengths if n >= longest)
            yield _arrays(prepared, description, chunk.tolist(), length, noise)

    dataset = tf.data.Dataset.from_generator(
        generate, output_signature=_signature(prepared, description, noise)
    )
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(chunks)))
    return dataset.map(_batch).prefetch(1)


def _check(prepared: PreparedData, description: SarnnDescription, part: Sequence[int] | np.ndarray) -> None:
    numbers = np.asarray(part)
    if numbers.ndim != 1 or not numbers.size or numbers.min() < 0 or numbers.max() >= len(prepared):
        raise ValueError(
            f"part must be numbers of the {len(prepared)} episodes, one at least. "
            f"Received: {numbers.tolist()}"
        )
    for modality in description.modalities:
        there = prepared.modalities.get(modality.name)
        if there is None or _stored(there) != _stored(modality):
            raise ValueError(
                f"{prepared.name} must be prepared for {modality}. Received: data prepared for {there}"
            )
    if description.joint_names != prepared.joint_names:
        raise ValueError(
            f"The joints of {prepared.name} must be {list(description.joint_names)}. "
            f"Received: {list(prepared.joint_names)}"
        )
    lacks = description.use_clip and prepared.patches is None
    lacks = lacks or (description.uses_text and prepared.text_of_instruction is None)
    if lacks or (description.uses_text and description.clip_fingerprint != prepared.clip_fingerprint):
        raise ValueError(
            f"{prepared.name} must be prepared with the CLIP of the description, "
            f"{description.clip_fingerprint[:12]!r}…. Received: {prepared.clip_fingerprint[:12]!r}…, "
            f"patches: {prepared.patches is not None}"
        )


def _stored(modality: ImageModality) -> tuple[Any, ...]:
    return modality.channels, modality.size, modality.interpolation


def _lengths(longest: int, count: int) -> list[int]:
    """At most ``count`` lengths, ascending and equally far apart, up to ``longest``."""
    step = -(-longest // count)
    return list(range(longest, 0, -step))[::-1]


def _arrays(
    prepared: PreparedData,
    description: SarnnDescription,
    chunk: Sequence[int],
    length: int,
    noise: InputNoise | None,
) -> dict[str, Any]:
    """The arrays of a batch, as ``_signature`` says."""
    episodes = [prepared.episode(i) for i in chunk]
    images, noisy = {}, {}
    for modality in description.modalities:
        name = modality.name
        padded, _ = pad_sequences([e.images[name] for e in episodes], length)
        images[name] = to_unit(padded, modality)
        if noise is not None and noise.touches(name):
            noisy[name] = np.empty_like(images[name])
            for row, clean, i, e in zip(noisy[name], images[name], chunk, episodes, strict=True):
                steps = len(e.joints)
                row[:steps] = noise.images(clean[:steps], name, i)
                row[steps:] = row[steps - 1]
    bounds, vmin, vmax = description.bounds, description.vmin, description.vmax
    clean_joints = [normalize(e.joints, bounds, vmin, vmax) for e in episodes]
    joints, real = pad_sequences(clean_joints, length)
    found: dict[str, Any] = {
        "images": images,
        "noisy_images": noisy,
        "joints": joints,
        "real": real,
        "episodes": np.array([e.id.encode() for e in episodes], object),
    }
    if noise is not None and noise.touches(JOINTS):
        pairs = zip(clean_joints, chunk, strict=True)
        found["noisy_joints"], _ = pad_sequences([noise.joints(j, i) for j, i in pairs], length)
    if description.use_clip:
        found["patches"], _ = pad_sequences([_present(e.patches, e) for e in episodes], length)
    if description.uses_text:
        found["text"] = np.stack([_present(e.text, e) for e in episodes])
    return found


def _present(array: np.ndarray | None, episode: PreparedEpisode) -> np.ndarray:
    if array is None:
        raise ValueError(f"Episode {episode.id!r} must be prepared with CLIP. Received: no features")
    return array


def _signature(
    prepared: PreparedData, description: SarnnDescription, noise: InputNoise | None
) -> dict[str, Any]:
    def spec(*shape: int, dtype: tf.DType = tf.float32) -> tf.TensorSpec:
        return tf.TensorSpec([None, None, *shape], dtype)

    images = {m.name: spec(*m.size, m.channels) for m in description.modalities}
    touched = {name for name in (*images, JOINTS) if noise is not None and noise.touches(name)}
    found: dict[str, Any] = {
        "images": images,
        "noisy_images": {name: s for name, s in images.items() if name in touched},
        "joints": spec(description.joint_dim),
        "real": spec(dtype=tf.bool),
        "episodes": tf.TensorSpec([None], tf.string),
    }
    if JOINTS in touched:
        found["noisy_joints"] = spec(description.joint_dim)
    if description.use_clip and prepared.patches is not None:
        found["patches"] = spec(*prepared.patches.shape[1:])
    if description.uses_text and prepared.text_of_instruction is not None:
        size = next(iter(prepared.text_of_instruction.values())).shape
        found["text"] = tf.TensorSpec([None, *size], tf.float32)
    return found


def _batch(arrays: Mapping[str, Any]) -> Batch:
    # What has no noise is the same tensor twice, and takes memory once.
    inputs = Observations(
        images={**arrays["images"], **arrays["noisy_images"]},
        joints=arrays.get("noisy_joints", arrays["joints"]),
        patches=arrays.get("patches"),
        text=arrays.get("text"),
    )
    return Batch(inputs, arrays["images"], arrays["joints"], arrays["real"], arrays["episodes"])
