"""The food task's input pipeline: from an NPZ (``episodes.food_npz``) to RT-1 batches.

A batch is

::

    image                       float32 [b, 1, H, W, 3] RGB in [0, 1]
    natural_language_embedding  float32 [b, 1, 512]
    label                       float32 [b, 4]: x1, y1, x2, y2
    index                       int64 [b]: of the examples in the NPZ
"""

import numpy as np
import tensorflow as tf

from episodes.food_npz import FoodData
from rt1 import augmentation as augmentation_lib
from rt1.augmentation import Augmentation
from rt1.image_preparation import resize_image


def epoch_order(indices: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits the examples; it depends on the arguments only."""
    return np.random.default_rng([seed, epoch]).permutation(np.asarray(indices, np.int64))


def food_batches(
    data: FoodData,
    indices: np.ndarray,
    batch_size: int,
    *,
    seed: int | None,
    epoch: int = 0,
    augment: Augmentation | None = None,
    image_size: int | tuple[int, int] = 236,
    skip: int = 0,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """One epoch of batches, repeatable: the same arguments give the same batches bit for bit.

    Images are read one by one (a memory-mapped file is never read whole), resized, then augmented. What is
    drawn for an example depends on seed, epoch and its index, so it is another in each epoch and the
    same after a resume.

    Args:
      data: the data set.
      indices: int64 [k], the examples of this split.
      batch_size: at least 1; the last batch may be smaller.
      seed: of order and augmentation; None keeps the order of ``indices``, for validation.
      epoch: from 0.
      augment: None for none.
      image_size: (height, width), or one number for both.
      skip: batches to leave out at the beginning, for an epoch that is resumed.
      drop_remainder: leaves out the last batch if it is smaller.

    Raises:
      ValueError: indices outside the data set or none, a batch size below 1, a negative skip, or
        augmentation without a seed.
    """
    indices = np.asarray(indices)
    if indices.ndim != 1 or indices.size == 0 or indices.dtype.kind not in "iu":
        raise ValueError(
            f"indices must be integers [k], k > 0. Received: {indices.dtype} {list(indices.shape)}"
        )
    if indices.min() < 0 or indices.max() >= len(data):
        raise ValueError(f"indices must be in [0, {len(data)}). Received: {indices.min()} to {indices.max()}")
    if batch_size < 1 or skip < 0:
        raise ValueError(
            f"batch_size must be >= 1 and skip >= 0. Received: batch_size={batch_size}, skip={skip}"
        )
    augment = augment or Augmentation()
    if seed is None and not augment.is_off:
        raise ValueError("Augmentation needs a seed. Received: seed=None")
    order = indices.astype(np.int64) if seed is None else epoch_order(indices, seed, epoch)
    image_type = tf.as_dtype(data.images.dtype)
    image_shape = data.images.shape[1:]

    def read(index: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(data.images[index])

    def example(index: tf.Tensor, embedding: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.ensure_shape(tf.numpy_function(read, [index], image_type, stateful=False), image_shape)
        image = resize_image(image, image_size)
        if seed is not None:
            draw = augmentation_lib.example_seed(seed, epoch, index)
            image, label = augmentation_lib.augment(image, label, draw, augment)
        return {
            "image": image[None],
            "natural_language_embedding": embedding[None],
            "label": label,
            "index": index,
        }

    order = order[skip * batch_size :]
    dataset = tf.data.Dataset.from_tensor_slices((order, data.embeddings[order], data.actions[order]))
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(batch_size, drop_remainder=drop_remainder).prefetch(tf.data.AUTOTUNE)


def food_batches_per_epoch(num_examples: int, batch_size: int, drop_remainder: bool = False) -> int:
    """How many batches ``food_batches`` gives without ``skip``."""
    return num_examples // batch_size if drop_remainder else -(-num_examples // batch_size)
