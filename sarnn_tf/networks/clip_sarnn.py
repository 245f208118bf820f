"""CLIP-SARNN: a SARNN that looks through several cameras and is told in words where to look.

Every image modality (colour, depth, GelSight of the left and of the right finger) has its own attention
points, features and decoders; one recurrent net joins them with the joints. The colour image's points can
come from CLIP's patch map, gated by the instruction. A modality that is not listed is off.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from sarnn_tf.image_modality import IMAGE, ImageModality
from sarnn_tf.layers.initializers import dense
from sarnn_tf.layers.leaky_relu import leaky_relu
from sarnn_tf.layers.lstm_cell import LstmCell, LstmState
from sarnn_tf.networks.attention_stream import AttentionStream
from sarnn_tf.networks.sarnn import by_time

CLIP_FEATURES = 512


class Observations(NamedTuple):
    """What is seen; for a single step without the axis t.

    Attributes:
      images: modality -> [b, t, h, w, channels] float32 in [0, 1]; modalities may differ in size.
      joints: [b, t, joint_dim] float32, normalised.
      patches: [b, t, rows, columns, features] of the colour images by the frozen CLIP; None without CLIP.
      text: [b, features], the instruction's embedding of unit length; None for none.
    """

    images: Mapping[str, tf.Tensor]
    joints: tf.Tensor
    patches: tf.Tensor | None = None
    text: tf.Tensor | None = None


class ClipSarnnOutput(NamedTuple):
    """Predictions for the step after the one seen, by modality; for a single step without the axis t.

    Attributes:
      images: modality -> [b, t, h, w, channels].
      joints: [b, t, joint_dim].
      encoder_points: modality -> [b, t, 2 k] of the step seen: x0, y0, x1, …, in [0, 1].
      decoder_points: modality -> [b, t, 2 k], where they are expected next.
    """

    images: dict[str, tf.Tensor]
    joints: tf.Tensor
    encoder_points: dict[str, tf.Tensor]
    decoder_points: dict[str, tf.Tensor]


class ClipSarnn(tf.keras.layers.Layer):
    """The multimodal SARNN, with CLIP or without."""

    def __init__(
        self,
        joint_dim: int,
        modalities: Sequence[ImageModality] = (ImageModality(IMAGE),),
        *,
        rec_dim: int = 128,
        temperature: float = 5e-5,
        heatmap_size: float = 0.1,
        use_clip: bool = True,
        clip_features: int = CLIP_FEATURES,
        text_units: int = 0,
        transpose_heatmap: bool = False,
        seed: int | None = None,
    ) -> None:
        """Makes the variables. They start as EIPL's do, not as the published code's, by PyTorch's defaults.

        Args:
          joint_dim: number of joints.
          modalities: the image modalities that are on; the order is that of the recurrent net's input.
          rec_dim: size of the recurrent state.
          temperature: of the spatial softmaxes.
          heatmap_size: of the bumps around the predicted points.
          use_clip: the colour image's points come from CLIP; else from convolutions.
          clip_features: size of a patch's and of the instruction's embedding.
          text_units: the recurrent net is also told this many linear functions of the instruction; 0 for
            none, as published: then words reach the model only as the gate.
          transpose_heatmap: the published orientation, in which the decoder's attention is mirrored
            against the points; square images only.
          seed: of the weights; None draws afresh.

        Raises:
          ValueError: no modality, two of one name, or CLIP without the colour image.
        """
        super().__init__(name="clip_sarnn")
        names = [m.name for m in modalities]
        if not names or len(set(names)) != len(names) or (use_clip and IMAGE not in names):
            raise ValueError(
                f"There must be a modality, none twice, and {IMAGE!r} for CLIP. Received: {names}"
            )
        self.modalities, self.joint_dim, self.rec_dim = tuple(modalities), joint_dim, rec_dim
        self.use_clip = use_clip
        self.streams = {
            m.name: AttentionStream(
                m.channels,
                m.k_dim,
                rec_dim,
                temperature=temperature,
                heatmap_size=heatmap_size,
                clip_features=clip_features if use_clip and m.name == IMAGE else None,
                transpose_heatmap=transpose_heatmap,
                seed=seed,
                name=m.name,
            )
            for m in modalities
        }
        self.text_encoder = dense(clip_features, text_units, seed, "text") if text_units else None
        inputs = sum(2 * m.k_dim for m in modalities) + joint_dim + text_units
        self.rec = LstmCell(inputs, rec_dim, seed, name="rec")
        self.decoder_joint = dense(rec_dim, joint_dim, seed, "decoder_joint")

    def initial_state(self, batch: int | tf.Tensor) -> LstmState:
        """The recurrent state before the first step: zeros [batch, rec_dim]."""
        return self.rec.initial_state(batch)

    def step(
        self, observations: Observations, state: LstmState | None = None
    ) -> tuple[ClipSarnnOutput, LstmState, dict[str, tf.Tensor]]:
        """One step, as on the robot.

        Args:
          observations: without the axis t.
          state: of the step before; None for the first.

        Returns:
          The predictions without the axis t, the next state, and the intermediates of ``call`` without it.

        Raises:
          ValueError: images of other modalities than the model's, or missing patches or text.
        """
        images, joints, patches, text = observations
        with_time = Observations(
            {name: x[:, None] for name, x in images.items()},
            joints[:, None],
            None if patches is None else patches[:, None],
            text,
        )
        # A single step of ``rec`` instead of its unrolled operation, which exporters do not know.
        output, state, aux = self._predict(with_time, state, unrolled=False)
        return tf.nest.map_structure(lambda x: x[:, 0], output), state, {k: v[:, 0] for k, v in aux.items()}

    def call(
        self, observations: Observations, state: LstmState | None = None
    ) -> tuple[ClipSarnnOutput, LstmState, dict[str, tf.Tensor]]:
        """All steps of sequences whose observations are known.

        Args:
          observations: with the axis t.
          state: before the first step; None for zeros.

        Returns:
          The predictions of every step, the state after the last one, and intermediates: ``h`` and ``c``
          [b, t, rec_dim]; of each modality ``attention/<name>``, ``features/<name>``, ``heatmap/<name>``
          [b, t, rows, columns, k].

        Raises:
          ValueError: images of other modalities than the model's, or missing patches or text.
        """
        return self._predict(observations, state, unrolled=True)

    def _predict(
        self, observations: Observations, state: LstmState | None, *, unrolled: bool
    ) -> tuple[ClipSarnnOutput, LstmState, dict[str, tf.Tensor]]:
        self.check(observations)
        images, joints, patches, text = observations
        shape = tf.shape(joints)[:2]
        points, features, aux = {}, {}, {}
        for name, stream in self.streams.items():
            flat, gate = None, None
            if stream.uses_clip and patches is not None:
                flat = tf.reshape(patches, [-1, *patches.shape[2:]])
                gate = None if text is None else tf.repeat(text, shape[1], axis=0)
            frames = tf.reshape(images[name], [-1, *images[name].shape[2:]])
            found, features[name], attention = stream.encode(frames, flat, gate)
            points[name] = by_time(found, shape)
            aux[f"attention/{name}"] = by_time(attention, shape)
        if unrolled:
            (h, c), last = self.recur(points, joints, text, state)
        else:
            last = self.rec(self._recurrent_input(points, joints, text)[:, 0], state)
            h, c = last.h[:, None], last.c[:, None]
        hidden = tf.reshape(h, [-1, self.rec_dim])
        next_images, next_points = {}, {}
        for name, stream in self.streams.items():
            image, expected, heatmap = stream.decode(hidden, features[name])
            next_images[name], next_points[name] = by_time(image, shape), by_time(expected, shape)
            aux[f"features/{name}"] = by_time(features[name], shape)
            aux[f"heatmap/{name}"] = by_time(heatmap, shape)
        output = ClipSarnnOutput(next_images, self.expect_joints(h), points, next_points)
        return output, last, aux | {"h": h, "c": c}

    def recur(
        self,
        points: Mapping[str, tf.Tensor],
        joints: tf.Tensor,
        text: tf.Tensor | None = None,
        state: LstmState | None = None,
    ) -> tuple[LstmState, LstmState]:
        """The recurrent net alone.

        Args:
          points: modality -> [b, t, 2 k] of the steps seen.
          joints: [b, t, joint_dim].
          text: [b, features]; needed where the model has ``text_units``.
          state: before the first step; None for zeros.

        Returns:
          h and c of every step, [b, t, rec_dim] each, and the state after the last one.
        """
        return self.rec.unroll(self._recurrent_input(points, joints, text), state)

    def expect_joints(self, hidden: tf.Tensor) -> tf.Tensor:
        """The next joints: [..., rec_dim] to [..., joint_dim]."""
        return leaky_relu(self.decoder_joint(hidden))

    def _recurrent_input(
        self, points: Mapping[str, tf.Tensor], joints: tf.Tensor, text: tf.Tensor | None
    ) -> tf.Tensor:
        inputs = [*(points[name] for name in self.streams), joints]
        if self.text_encoder is not None:
            words = self.text_encoder(text)
            inputs.append(tf.tile(words[:, None], [1, tf.shape(joints)[1], 1]))
        return tf.concat(inputs, axis=-1)

    def check(self, observations: Observations) -> None:
        """Raises ValueError where observations do not fit the model."""
        if set(observations.images) != set(self.streams):
            raise ValueError(
                f"images must be those of {sorted(self.streams)}. Received: {sorted(observations.images)}"
            )
        if self.use_clip and observations.patches is None:
            raise ValueError("A model with CLIP needs patches of the colour images. Received: None")
        if self.text_encoder is not None and observations.text is None:
            raise ValueError("A model with text_units needs the instruction's embedding. Received: None")
