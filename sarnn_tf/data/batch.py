"""What one training step of a SARNN sees."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from sarnn_tf.networks.clip_sarnn import Observations


class Batch(NamedTuple):
    """Whole episodes side by side; the shorter ones repeat their last step.

    Attributes:
      inputs: what the model sees: images, with noise where asked for, float32 [b, t, h, w, channels]; joints,
        normalised, with noise where asked for, float32 [b, t, joint_dim]; patches float32
        [b, t, rows, columns, features] of the images without noise, None without CLIP; text float32
        [b, features], None without.
      images: modality -> float32 [b, t, h, w, channels] in [0, 1], without noise: the targets.
      joints: float32 [b, t, joint_dim], normalised, without noise.
      real: bool [b, t], False for padding.
      episodes: string [b], the episodes' ids.
    """

    inputs: Observations
    images: Mapping[str, tf.Tensor]
    joints: tf.Tensor
    real: tf.Tensor
    episodes: tf.Tensor
