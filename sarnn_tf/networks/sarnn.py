"""SARNN: spatial attention with a recurrent neural network (Ichiwara et al. 2022; EIPL).

It looks at a few points of the image, and predicts from them and from the joints the next joints, the next
points and the next image.
"""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from sarnn_tf.image_modality import IMAGE
from sarnn_tf.layers.initializers import dense
from sarnn_tf.layers.leaky_relu import leaky_relu
from sarnn_tf.layers.lstm_cell import LstmCell, LstmState
from sarnn_tf.networks.attention_stream import AttentionStream

Aux = dict[str, tf.Tensor]


class SarnnOutput(NamedTuple):
    """Predictions for the step after the one seen; without the axis t for a single step.

    Attributes:
      image: [b, t, h, w, 3]; trained towards [0, 1], but it may leave it.
      joints: [b, t, joint_dim], normalised as the input.
      encoder_points: [b, t, 2 k] of the step seen: x0, y0, x1, y1, …, in [0, 1].
      decoder_points: [b, t, 2 k], where they are expected next; they may leave [0, 1].
    """

    image: tf.Tensor
    joints: tf.Tensor
    encoder_points: tf.Tensor
    decoder_points: tf.Tensor


class Sarnn(tf.keras.layers.Layer):
    """EIPL's SARNN: one camera, one task."""

    def __init__(
        self,
        joint_dim: int,
        *,
        rec_dim: int = 50,
        k_dim: int = 5,
        temperature: float = 1e-4,
        heatmap_size: float = 0.1,
        seed: int | None = None,
    ) -> None:
        """Makes the variables. Their number does not depend on the image's size.

        Args:
          joint_dim: number of joints.
          rec_dim: size of the recurrent state.
          k_dim: number of attention points.
          temperature: of the spatial softmax.
          heatmap_size: of the bumps around the predicted points.
          seed: of the weights; None draws afresh.
        """
        super().__init__(name="sarnn")
        self.joint_dim, self.rec_dim, self.k_dim = joint_dim, rec_dim, k_dim
        self.stream = AttentionStream(
            3, k_dim, rec_dim, temperature=temperature, heatmap_size=heatmap_size, seed=seed, name="image"
        )
        self.rec = LstmCell(2 * k_dim + joint_dim, rec_dim, seed, name="rec")
        self.decoder_joint = dense(rec_dim, joint_dim, seed, "decoder_joint")

    def initial_state(self, batch: int | tf.Tensor) -> LstmState:
        """The recurrent state before the first step: zeros [batch, rec_dim]."""
        return self.rec.initial_state(batch)

    def step(
        self, image: tf.Tensor, joints: tf.Tensor, state: LstmState | None = None
    ) -> tuple[SarnnOutput, LstmState, Aux]:
        """One step, as on the robot.

        Args:
          image: [b, h, w, 3] float32 in [0, 1], h and w static and more than 6.
          joints: [b, joint_dim] float32, normalised.
          state: of the step before; None for the first.

        Returns:
          The predictions without the axis t, the next state, and intermediates, [b, h - 6, w - 6, k] each:
          ``attention``, ``features`` and ``heatmap``.
        """
        points, features, attention = self.stream.encode(image)
        state = self.rec(tf.concat([points, joints], axis=-1), state)
        next_image, next_points, heatmap = self.stream.decode(state.h, features)
        output = SarnnOutput(next_image, self.expect_joints(state.h), points, next_points)
        return output, state, {"attention": attention, "features": features, "heatmap": heatmap}

    def call(
        self, images: tf.Tensor, joints: tf.Tensor, state: LstmState | None = None
    ) -> tuple[SarnnOutput, LstmState, Aux]:
        """All steps of sequences whose observations are known.

        Only the LSTM waits for the step before; every convolution sees all frames at once.

        Args:
          images: [b, t, h, w, 3] float32 in [0, 1].
          joints: [b, t, joint_dim] float32, normalised.
          state: before the first step; None for zeros.

        Returns:
          The predictions of every step, the state after the last one, and intermediates: ``h`` and ``c``
          [b, t, rec_dim]; ``attention``, ``features`` and ``heatmap`` [b, t, h - 6, w - 6, k].
        """
        shape = tf.shape(joints)[:2]
        points, features, attention = self.stream.encode(tf.reshape(images, [-1, *images.shape[2:]]))
        points = by_time(points, shape)
        every, last = self.recur({IMAGE: points}, joints, state=state)
        hidden = tf.reshape(every.h, [-1, self.rec_dim])
        image, next_points, heatmap = self.stream.decode(hidden, features)
        output = SarnnOutput(
            by_time(image, shape),
            self.expect_joints(every.h),
            points,
            by_time(next_points, shape),
        )
        maps = {"attention": attention, "features": features, "heatmap": heatmap}
        return output, last, {"h": every.h, "c": every.c} | {k: by_time(v, shape) for k, v in maps.items()}

    def recur(
        self,
        points: Mapping[str, tf.Tensor],
        joints: tf.Tensor,
        text: tf.Tensor | None = None,
        state: LstmState | None = None,
    ) -> tuple[LstmState, LstmState]:
        """The recurrent net alone.

        Args:
          points: ``image`` -> [b, t, 2 k] of the steps seen.
          joints: [b, t, joint_dim].
          text: not looked at: EIPL's SARNN hears no words.
          state: before the first step; None for zeros.

        Returns:
          h and c of every step, [b, t, rec_dim] each, and the state after the last one.
        """
        del text
        return self.rec.unroll(tf.concat([points[IMAGE], joints], axis=-1), state)

    def expect_joints(self, hidden: tf.Tensor) -> tf.Tensor:
        """The next joints: [..., rec_dim] to [..., joint_dim]."""
        return leaky_relu(self.decoder_joint(hidden))

    @property
    def streams(self) -> dict[str, AttentionStream]:
        """The one stream, by modality as ``ClipSarnn`` has them."""
        return {IMAGE: self.stream}


def by_time(x: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """[b · t, ...] as [b, t, ...], with ``shape`` the tensor of b and t."""
    return tf.reshape(x, tf.concat([shape, tf.shape(x)[1:]], axis=0))
