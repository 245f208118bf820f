"""The frozen CLIP of CLIP-SARNN: a map of patch features for every image, an embedding for every instruction.

The map is CLIP's own embedding of every patch: all tokens go through the last layer norm and the projection,
the class token is dropped. Nothing here is trained, so features may be computed once and kept; they belong
to one ``fingerprint``.
"""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from clip_tf.clip_model import ClipModel, normalize, openclip_variables
from clip_tf.converted_folder import load_clip, load_preprocessing, save_clip
from clip_tf.image_preprocessing import Preprocessing
from clip_tf.model_config import ClipConfig
from clip_tf.tokenizer import VOCAB_SIZE, tokenize

_CHUNK = 32
"""Images at a time: the activations of a ViT-B/32 then need about 100 MB."""
_RULE = "bilinear, all tokens through ln_post and proj, class token dropped"
"""What features are besides configuration and weights; part of the fingerprint."""


class FrozenClip:
    """Towers that are only asked.

    Attributes:
      config: of the towers.
      preprocessing: its mean and deviation are used. Images are resized as the published CLIP-SARNN does,
        bilinearly and without regard to their proportions.
    """

    def __init__(self, model: ClipModel, preprocessing: Preprocessing | None = None) -> None:
        """``model`` has float32 variables; without ``preprocessing`` mean and deviation are OpenAI's."""
        self.config: ClipConfig = model.config
        self.preprocessing = preprocessing or Preprocessing(model.config.vision.image_size)
        self._model = model
        self._chunk = tf.function(
            self.encode_images, input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)]
        )

    @property
    def features(self) -> int:
        """Size of a patch's and of an instruction's embedding."""
        return self.config.embed_dim

    @property
    def grid(self) -> int:
        """Rows and columns of the patch map."""
        return self.config.vision.grid

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256, in hexadecimal, of all that the features depend on: configuration and weights."""
        how = {"mean": self.preprocessing.mean, "std": self.preprocessing.std, "rule": _RULE}
        digest = hashlib.sha256(json.dumps([self.config.to_json(), how], sort_keys=True).encode())
        for key, variable in sorted(openclip_variables(self._model).items()):
            digest.update(f"\n{key} {variable.shape}\n".encode())
            digest.update(np.ascontiguousarray(variable.numpy(), np.float32).data)
        return digest.hexdigest()

    def encode_images(self, images: tf.Tensor) -> tf.Tensor:
        """As ``patches``, of a tensor and at once, for graphs.

        Args:
          images: [n, h, w, 3] float32 RGB in [0, 1].

        Returns:
          [n, grid, grid, features] float32, not of unit length.
        """
        resized = resize_for_tower(images, self.config.vision.image_size)
        mean, std = (tf.constant(v, tf.float32) for v in (self.preprocessing.mean, self.preprocessing.std))
        _, intermediates = self._model.encode_image((resized - mean) / std)
        return intermediates["patch_map"]

    def patches(self, images: np.ndarray) -> np.ndarray:
        """The patch map of images.

        Args:
          images: [n, h, w, 3] float32 RGB in [0, 1], any size.

        Returns:
          [n, grid, grid, features] float32: rows from the top, columns from the left; not of unit length.

        Raises:
          ValueError: the images are of another shape or type.
        """
        images = np.asarray(images)
        if images.dtype != np.float32 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
            raise ValueError(
                f"images must be float32 [n, h, w, 3] in [0, 1]. Received: {images.dtype} {images.shape}"
            )
        found = np.empty((len(images), self.grid, self.grid, self.features), np.float32)
        for start in range(0, len(images), _CHUNK):
            part = slice(start, start + _CHUNK)
            found[part] = self._chunk(tf.constant(images[part])).numpy()
        return found

    def text(self, instructions: Sequence[str]) -> np.ndarray:
        """The embedding of instructions; one longer than the context is cut, as CLIP does.

        Args:
          instructions: n texts.

        Returns:
          [n, features] float32 of unit length.

        Raises:
          ValueError: a single text instead of several, one is no valid text, or the tower's vocabulary is
            not CLIP's.
        """
        if isinstance(instructions, str):
            raise ValueError(f"instructions must be a sequence of texts. Received: {instructions!r}")
        if self.config.text.vocab_size < VOCAB_SIZE:
            raise ValueError(
                f"A text tower must have CLIP's {VOCAB_SIZE} tokens. Received: {self.config.text.vocab_size}"
            )
        if not instructions:
            return np.zeros((0, self.features), np.float32)
        ids = tokenize(instructions, self.config.text.context_length)
        return normalize(self._model.encode_text(ids)[0]).numpy()

    def save(self, folder: str | Path) -> None:
        """Writes a new folder that ``open_frozen_clip`` and ``clip_tf`` read.

        Raises:
          FileExistsError: the folder exists.
        """
        save_clip(folder, self._model, self.preprocessing)


def resize_for_tower(images: tf.Tensor, size: int) -> tf.Tensor:
    """[n, h, w, c] to [n, size, size, c] float32: bilinear with half-pixel centres, not antialiased."""
    return tf.image.resize(images, [size, size], antialias=False)


def open_frozen_clip(folder: str | Path) -> FrozenClip:
    """Reads a folder that ``python -m clip_tf.convert`` or ``FrozenClip.save`` wrote.

    Raises:
      FileNotFoundError: there is no such folder, or a file in it is missing.
      ValueError: it is damaged, or its parts do not fit.
    """
    return FrozenClip(load_clip(folder), load_preprocessing(folder))


def random_frozen_clip(fields: Mapping[str, Any] | str, seed: int = 0) -> FrozenClip:
    """Towers with random weights, for tests and trials where no pretrained ones are at hand.

    Args:
      fields: a configuration in OpenCLIP's JSON layout, or its name, e.g. ``ViT-B-32-quickgelu``.
      seed: of the weights.

    Raises:
      ValueError: there is no such configuration.
    """
    logging.warning(
        "The frozen CLIP has random weights: words and patches mean nothing to it. Convert OpenAI's ViT-B/32 "
        "with clip_tf.convert and name the folder."
    )
    config = ClipConfig.from_name(fields) if isinstance(fields, str) else ClipConfig.from_json(dict(fields))
    return FrozenClip(ClipModel(config, seed=seed))
