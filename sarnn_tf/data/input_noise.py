"""Noise and augmentation of what the network sees; targets stay clean."""

import dataclasses
import zlib

import numpy as np

from sarnn_tf.data.augmentation import augment, draw_augmentation
from sarnn_tf.image_modality import IMAGE

JOINTS = "joints"


@dataclasses.dataclass(frozen=True)
class InputNoise:
    """What is done to the inputs of one epoch.

    Draws depend on ``seed``, the episode's number and the modality, and on nothing else.

    Attributes:
      seed: of the epoch.
      stdev: of the normal noise on images.
      joint_stdev: of the normal noise on joints.
      augment: whether colour images get EIPL's augmentation, before their noise.
    """

    seed: int
    stdev: float = 0.0
    joint_stdev: float = 0.0
    augment: bool = False

    def touches(self, what: str) -> bool:
        """Whether a modality, or ``joints``, is changed at all."""
        if what == JOINTS:
            return self.joint_stdev > 0
        return self.stdev > 0 or (self.augment and what == IMAGE)

    def images(self, clean: np.ndarray, modality: str, episode: int) -> np.ndarray:
        """The images of one episode, float32 [T, h, w, c] in [0, 1], with noise: it may leave the range."""
        random = self._random(modality, episode)
        if self.augment and modality == IMAGE:
            clean = augment(clean, draw_augmentation(random, *clean.shape[1:3]))
        return _with_noise(clean, self.stdev, random) if self.stdev else clean

    def joints(self, clean: np.ndarray, episode: int) -> np.ndarray:
        """The joints of one episode, float32 [T, P], with noise."""
        return _with_noise(clean, self.joint_stdev, self._random(JOINTS, episode))

    def _random(self, what: str, episode: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, episode, zlib.crc32(what.encode())])


def _with_noise(clean: np.ndarray, stdev: float, random: np.random.Generator) -> np.ndarray:
    noisy = random.standard_normal(clean.shape, np.float32)
    noisy *= np.float32(stdev)
    noisy += clean
    return noisy
