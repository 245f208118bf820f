"""From samples to the batches that the towers take.

A batch is

::

    image        float32 [b, size, size, 3], preprocessed
    instruction  int32 [b, context], token ids of the instruction in the prompt
    supervision  int32 [b, context], token ids of the supervision, which has no prompt
    label        int64 [b]
    id           string [b]
"""

import dataclasses
import io
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from clip_tf.image_preprocessing import Preprocessing, check_mode, preprocess
from clip_tf.image_preprocessing_graph import training_crop
from clip_tf.rt import samples
from clip_tf.rt.class_balance import copies_per_class, draw_copies
from clip_tf.rt.prompt import apply_prompt
from clip_tf.rt.samples import SampleSource
from episodes import windows

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
Tokenize = Callable[[Sequence[str]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """How samples become what a model takes.

    Attributes:
      preprocessing: of the model's images.
      context_length: of its text tower.
      prompt: around instructions.
      tokenize: texts -> int32 [n, context_length].
    """

    preprocessing: Preprocessing
    context_length: int
    prompt: str
    tokenize: Tokenize


def batches(
    source: SampleSource,
    part: str,
    batch_size: int,
    inputs: Inputs,
    *,
    seed: int | None,
    epoch: int = 0,
    skip: int = 0,
    augment: bool = False,
    balance: float = 0.0,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """One pass of batches as the module says; the same arguments give the same batches.

    Args:
      source: of the samples.
      part: ``train`` or ``val``.
      batch_size: samples in a batch; the last may have fewer.
      inputs: what the model takes.
      seed: of order, wordings, crops and balancing; None keeps the data's order, for validation.
      epoch: another epoch is another draw.
      skip: batches to leave out at the beginning.
      augment: crops at random, as OpenCLIP does in training.
      balance: power of ``class_balance.copies_per_class``; 0 leaves the classes as they are.
      drop_remainder: leaves out the last batch where it is smaller.

    Raises:
      ValueError: arguments out of range, or a draw without a seed.
    """
    if batch_size < 1 or skip < 0:
        raise ValueError(
            f"batch_size must be >= 1 and skip >= 0. Received: batch_size={batch_size}, skip={skip}"
        )
    if seed is None and (augment or balance):
        raise ValueError(f"A seed is needed to augment or balance. Received: {augment=}, {balance=}")
    dataset = source.samples(part, seed=seed, epoch=epoch)
    epoch_seed = 0 if seed is None else windows.epoch_seed(seed, epoch)
    if balance:
        dataset = _balanced(dataset, copies_per_class(source.counts(part), balance), epoch_seed)
    dataset = dataset.skip(skip * batch_size)
    dataset = dataset.map(
        lambda sample: _prepare(sample, inputs, epoch_seed if augment else None),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return dataset.batch(batch_size, drop_remainder=drop_remainder).prefetch(tf.data.AUTOTUNE)


def _balanced(dataset: tf.data.Dataset, copies: np.ndarray, epoch_seed: int) -> tf.data.Dataset:
    expected = tf.constant(copies)

    @tf.autograph.experimental.do_not_convert
    def repeat(sample: dict[str, tf.Tensor]) -> tf.data.Dataset:
        draw = tf.cast(tf.strings.to_hash_bucket_fast(sample[samples.ID], 2**31 - 1), tf.int32)
        n = draw_copies(tf.gather(expected, sample[samples.LABEL]), tf.stack([epoch_seed, draw]))

        def named(copy: tf.Tensor, one: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            # Another name is another crop.
            name = tf.strings.join([one[samples.ID], "#", tf.strings.as_string(copy)])
            return {**one, samples.ID: name}

        return tf.data.Dataset.from_tensors(sample).repeat(n).enumerate().map(named)

    # Copies would be neighbours; the buffer holds encoded images.
    return dataset.flat_map(repeat).shuffle(1024, epoch_seed, reshuffle_each_iteration=False)


@tf.autograph.experimental.do_not_convert
def _prepare(sample: dict[str, tf.Tensor], inputs: Inputs, crop_seed: int | None) -> dict[str, tf.Tensor]:
    how, context = inputs.preprocessing, inputs.context_length

    def whole_image(image: bytes | np.ndarray, name: bytes) -> np.ndarray:
        return preprocess(decode_rgb(image, name.decode()), how)

    def pixels_of(image: bytes | np.ndarray, name: bytes) -> np.ndarray:
        return decode_rgb(image, name.decode())

    given = [sample[samples.IMAGE], sample[samples.ID]]
    if crop_seed is None:
        image = tf.numpy_function(whole_image, given, tf.float32, stateful=False)
    else:
        pixels = tf.numpy_function(pixels_of, given, tf.uint8, stateful=False)
        draw = tf.cast(tf.strings.to_hash_bucket_fast(sample[samples.ID], 2**31 - 1), tf.int32)
        seed = tf.stack([crop_seed, draw])
        image = training_crop(tf.ensure_shape(pixels, [None, None, 3]), how, seed)

    def ids_of(instruction: bytes, supervision: bytes) -> np.ndarray:
        asked = apply_prompt(instruction.decode(), inputs.prompt)
        return np.asarray(inputs.tokenize([asked, supervision.decode()]), np.int32)

    ids = tf.numpy_function(
        ids_of, [sample[samples.INSTRUCTION], sample[samples.SUPERVISION]], tf.int32, stateful=False
    )
    ids = tf.ensure_shape(ids, [2, context])
    return {
        samples.IMAGE: tf.ensure_shape(image, [how.size, how.size, 3]),
        samples.INSTRUCTION: ids[0],
        samples.SUPERVISION: ids[1],
        samples.LABEL: sample[samples.LABEL],
        samples.ID: sample[samples.ID],
    }


def decode_rgb(image: bytes | np.ndarray, name: str) -> np.ndarray:
    """Decodes a PNG, JPEG, WEBP or BMP file to uint8 [H, W, 3] RGB; an array passes through.

    Raises:
      ValueError: it is of another format, of more than 8 bits a channel, or cut off; the message names the
        sample.
    """
    if isinstance(image, np.ndarray):
        return image
    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            check_mode(opened)
            return np.asarray(opened.convert("RGB"))
    except UnidentifiedImageError as error:
        begins = bytes(image[:8])
        raise ValueError(f"{name}: an image must be one of {FORMATS}. Received: {begins!r} …") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: the image cannot be read. Received: {error}") from error
