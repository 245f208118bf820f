"""SARNN and CLIP-SARNN behind the ``Policy`` protocol: what serving and motion generation use.

::

    from core.policy import Session
    from sarnn_tf.serving_policy import load_policy
    session = Session(load_policy("log/clip_run1"))
    result = session.step(
        {"image": rgb, "joint_positions": q, "natural_language_instruction": "grasp the black cable"}
    )
    result.actions["joint_positions"]  # where the joints shall be at the next step, in rad
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from core.policy import Observations as NamedArrays
from core.policy import PolicyResult, State
from core.spec import PolicySpec
from sarnn_tf.description import INSTRUCTION, JOINTS, SarnnDescription
from sarnn_tf.frozen_clip import FrozenClip
from sarnn_tf.image_modality import IMAGE, ImageModality
from sarnn_tf.layers.lstm_cell import LstmState
from sarnn_tf.networks.clip_sarnn import ClipSarnn, ClipSarnnOutput, Observations
from sarnn_tf.networks.sarnn import Sarnn
from sarnn_tf.normalization import denormalize, normalize
from sarnn_tf.policy_folder import load_checkpoint
from sarnn_tf.prediction import predict_step
from sarnn_tf.preparation import from_unit, prepare_images, to_unit

INPUT_PARAM, PREDICTED_JOINTS, ATTENTION_POINTS = "input_param", "predicted_joints", "attention_points"
STEP = "step"
_CACHED_INSTRUCTIONS = 256
# So many times its range in the training, and at least that many rad, no joint leaves it by: it is of another
# unit, or of another robot.
_RANGES = 3.0
# Of what was trained on raw joints the range is not known; far larger numbers overflow within the network.
_LARGEST_JOINT = 1e6


class SarnnPolicy:
    """A network that answers with the joints of the next step.

    A client's state is the recurrent state and the last prediction: from the second step on the network's
    input is ``input_param`` times what is measured plus the rest times what it had predicted, images and
    normalised joints alike, not clipped (EIPL). 1 is the sensors alone, 0 a dream after the first step.
    ``predicted_joints`` are not measured after the first step, whatever ``input_param``: so EIPL's control of
    robosuite has the gripper.
    """

    def __init__(
        self,
        model: Sarnn | ClipSarnn,
        description: SarnnDescription,
        clip: FrozenClip | None = None,
        input_param: float = 1.0,
        predicted_joints: Sequence[str] = (),
    ) -> None:
        """Compiles nothing yet: the first call of each batch size does.

        Args:
          model: with its weights.
          description: of it.
          clip: the frozen CLIP; None where the model uses none.
          input_param: how much of the input is measured, in [0, 1], where a request does not say.
          predicted_joints: names of joints of which the model sees its own last prediction alone.

        Raises:
          ValueError: ``input_param`` out of range, a joint that there is not, or a CLIP that is missing or of
            another size.
        """
        if not 0.0 <= input_param <= 1.0:
            raise ValueError(f"{INPUT_PARAM} must be in [0, 1]. Received: {input_param}")
        if description.uses_text != (clip is not None):
            raise ValueError(
                f"{description.model} must {'have a' if description.uses_text else 'be without'} CLIP. "
                f"Received: {clip}"
            )
        if clip is not None and clip.features != description.clip_features:
            raise ValueError(
                f"CLIP must have {description.clip_features} features. Received: {clip.features}"
            )
        self._model, self._description, self._clip = model, description, clip
        self._input_param = float(input_param)
        unknown = [name for name in predicted_joints if name not in description.joint_names]
        if unknown:
            raise ValueError(
                f"{PREDICTED_JOINTS} must be of {list(description.joint_names)}. Received: {unknown}"
            )
        self._measured_joints = np.array(
            [name not in predicted_joints for name in description.joint_names], np.float32
        )
        self._bounds = description.bounds
        self._lowest, self._highest = _credible(description)
        spec = description.spec
        details = {
            **spec.details,
            INPUT_PARAM: self._input_param,
            PREDICTED_JOINTS: list(predicted_joints),
            ATTENTION_POINTS: {m.name: m.k_dim for m in description.modalities},
        }
        self._spec = dataclasses.replace(spec, details=details)
        # One for each batch size: with static shapes the convolutions are the fastest.
        self._programs: dict[int, Any] = {}
        self._text = functools.lru_cache(_CACHED_INSTRUCTIONS)(self._encode_text)

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    @property
    def model(self) -> Sarnn | ClipSarnn:
        return self._model

    @property
    def description(self) -> SarnnDescription:
        return self._description

    @property
    def programs(self) -> int:
        """How many programs were compiled: one for each batch size that was asked for."""
        return sum(program.experimental_get_tracing_count() for program in self._programs.values())

    def initial_state(self, n: int) -> dict[str, np.ndarray]:
        """Zeros.

        Returns:
          ``h`` and ``c`` [n, rec_dim]; the prediction for the next step, ``predicted/<modality>``
          [n, h, w, channels], trained towards [0, 1], and ``predicted/joint_positions`` [n, P], normalised,
          all float32; ``step`` [n] int64, how many steps were answered.
        """
        hidden = (n, self._description.rec_dim)
        images = {
            f"predicted/{m.name}": np.zeros((n, *m.size, m.channels), np.float32)
            for m in self._description.modalities
        }
        return {
            "h": np.zeros(hidden, np.float32),
            "c": np.zeros(hidden, np.float32),
            **images,
            f"predicted/{JOINTS}": np.zeros((n, self._description.joint_dim), np.float32),
            STEP: np.zeros((n,), np.int64),
        }

    def infer(
        self,
        observations: NamedArrays,
        state: State,
        *,
        num_samples: int = 0,
        seed: int | None = None,
    ) -> tuple[PolicyResult, dict[str, np.ndarray]]:
        """Answers n clients, see ``core.policy.Policy``.

        Args:
          observations: of each modality uint8 [n, h, w, 3] or, of one channel, [n, h, w], uint16 for depth
            in mm, of any size; ``joint_positions`` [n, P] rad; where the spec has it,
            ``natural_language_instruction`` [n] text; and, if wanted, ``input_param`` [n] in [0, 1].
          state: of ``initial_state`` or of the last call; empty for clients that begin.
          num_samples: must be 0, for the network has no dropout.
          seed: not used.

        Returns:
          ``joint_positions`` float32 [n, P]: the predicted joints of the next step, in rad. They are not
          clipped to the bounds of the spec, which are those of the training. In ``info``, of each modality:
          ``predicted/<name>`` the image expected next, uint8 or uint16 [n, h, w(, 3)] in the model's size;
          ``encoder_points/<name>`` and ``decoder_points/<name>`` float32 [n, 2 k], where the model looks now
          and expects to look next, as x0, y0, x1, … with 0 at the left or top and 1 at the right or bottom;
          and ``step`` int64 [n], from 1.

        Raises:
          ValueError: an observation is missing, of another shape or type, or not finite; a joint is so far
            from the training's range that it must be of another unit; the state is not of n clients; the
            answer is not finite; or ``num_samples`` is not 0.
        """
        if num_samples:
            raise ValueError(
                f"{self.spec.model} has no dropout: num_samples must be 0. Received: {num_samples}"
            )
        joints = self._joints(observations)
        n = len(joints)
        images = {m.name: self._images(observations, m, n) for m in self._description.modalities}
        d = self._description
        if n not in self._programs:
            self._programs[n] = tf.function(self._compute)
        output, next_state = self._programs[n](
            {name: tf.constant(image) for name, image in images.items()},
            tf.constant(normalize(joints, self._bounds, d.vmin, d.vmax)),
            self._texts(observations, n),
            tf.constant(self._shares(observations, n)),
            {name: tf.constant(value) for name, value in self._check_state(state, n).items()},
        )
        targets = denormalize(output.joints.numpy(), self._bounds, d.vmin, d.vmax)
        if not np.isfinite(targets).all():
            raise ValueError(
                "The predicted joints must be finite: the weights or the state are damaged. "
                f"Received: {targets.tolist()}"
            )
        after = {name: value.numpy() for name, value in next_state.items()}
        info = {STEP: after[STEP]}
        for m in self._description.modalities:
            predicted = from_unit(output.images[m.name].numpy(), m)
            info[f"predicted/{m.name}"] = predicted if m.channels == 3 else predicted[..., 0]
            info[f"encoder_points/{m.name}"] = output.encoder_points[m.name].numpy()
            info[f"decoder_points/{m.name}"] = output.decoder_points[m.name].numpy()
        return PolicyResult({JOINTS: targets}, None, info), after

    def _compute(
        self,
        images: Mapping[str, tf.Tensor],
        joints: tf.Tensor,
        text: tf.Tensor | None,
        measured: tf.Tensor,
        state: Mapping[str, tf.Tensor],
    ) -> tuple[ClipSarnnOutput, dict[str, tf.Tensor]]:
        def mixed(real: tf.Tensor, name: str, share: tf.Tensor | float = 1.0) -> tf.Tensor:
            by_client = [-1] + [1] * (len(real.shape) - 1)
            share = share * tf.reshape(measured, by_client)
            share = tf.where(tf.reshape(state[STEP], by_client) > 0, share, 1.0)
            return share * real + (1.0 - share) * state[f"predicted/{name}"]

        seen = {name: mixed(image, name) for name, image in images.items()}
        patches = None
        if self._clip is not None and self._description.use_clip:
            patches = self._clip.encode_images(seen[IMAGE])
        observations = Observations(seen, mixed(joints, JOINTS, self._measured_joints), patches, text)
        output, after, _ = predict_step(self._model, observations, LstmState(state["h"], state["c"]))
        return output, {
            "h": after.h,
            "c": after.c,
            **{f"predicted/{name}": image for name, image in output.images.items()},
            f"predicted/{JOINTS}": output.joints,
            STEP: state[STEP] + 1,
        }

    def _joints(self, observations: NamedArrays) -> np.ndarray:
        joints = np.asarray(_named(observations, JOINTS))
        count = self._description.joint_dim
        if joints.dtype.kind not in "fiu" or joints.ndim != 2 or joints.shape[1] != count or not len(joints):
            raise ValueError(
                f"{JOINTS} must be numbers [n, {count}] in the order {self._description.joint_names}. "
                f"Received: {joints.dtype} {list(joints.shape)}"
            )
        near = (joints >= self._lowest) & (joints <= self._highest)
        if not near.all():
            wrong = int(np.flatnonzero(~near.all(axis=0))[0])
            low, high = self._bounds
            raise ValueError(
                f"{JOINTS} must be finite, in rad (grippers in their own unit), and near the training's: "
                f"{self._description.joint_names[wrong]!r} was in [{low[wrong]:.4g}, {high[wrong]:.4g}]. "
                f"Received: {joints.tolist()}"
            )
        return joints.astype(np.float32)

    def _images(self, observations: NamedArrays, modality: ImageModality, n: int) -> np.ndarray:
        """Images as the network takes them: [n, h, w, channels] float32 in [0, 1]."""
        expected = self.spec.observation(modality.name)
        raw = np.asarray(_named(observations, modality.name))
        fits = raw.ndim == 1 + len(expected.shape) and raw.shape[3:] == expected.shape[2:]
        if raw.dtype != expected.dtype or not fits or not raw.size or len(raw) != n:
            shape = [n, "h", "w", *expected.shape[2:]]
            raise ValueError(
                f"{modality.name} must be {expected.dtype} {shape}. Received: {raw.dtype} {list(raw.shape)}"
            )
        raw = raw.reshape(*raw.shape[:3], modality.channels)
        return to_unit(prepare_images(raw, modality), modality)

    def _texts(self, observations: NamedArrays, n: int) -> tf.Tensor | None:
        if self._clip is None:
            return None
        texts = np.asarray(_named(observations, INSTRUCTION)).ravel().tolist()
        if len(texts) != n or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{INSTRUCTION} must be {n} texts. Received: {texts}")
        return tf.constant(np.stack([self._text(text) for text in texts]))

    def _encode_text(self, text: str) -> np.ndarray:
        assert self._clip is not None
        try:
            return self._clip.text([text])[0]
        except ValueError as error:
            raise ValueError(f"{INSTRUCTION}: {error}") from error

    def _shares(self, observations: NamedArrays, n: int) -> np.ndarray:
        if INPUT_PARAM not in observations:
            return np.full((n,), self._input_param, np.float32)
        shares = np.asarray(observations[INPUT_PARAM])
        valid = shares.dtype.kind in "fiu" and shares.shape == (n,)
        if not valid or not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"{INPUT_PARAM} must be {n} numbers in [0, 1]. Received: {shares.tolist()}")
        return shares.astype(np.float32)

    def _check_state(self, state: State, n: int) -> State:
        """The state, the initial one for an empty one; TensorFlow would spread one client's over all."""
        fresh = self.initial_state(n)
        if not state:
            return fresh
        wanted = {name: (value.shape, value.dtype) for name, value in fresh.items()}
        received = {name: (np.shape(value), np.asarray(value).dtype) for name, value in state.items()}
        if received != wanted:
            raise ValueError(f"state must be of {n} clients: {wanted}. Received: {received}")
        return state


@gin.configurable(module="sarnn_tf", denylist=["folder", "encoder_source"])
def load_policy(
    folder: str | Path,
    encoder_source: str | Path | None = None,
    input_param: float = 1.0,
    predicted_joints: Sequence[str] = (),
) -> SarnnPolicy:
    """Loads a checkpoint folder, or the best checkpoint of a run.

    Args:
      folder: as ``sarnn_tf.policy_folder`` says.
      encoder_source: where the frozen CLIP is, where it is not beside the checkpoint.
      input_param: how much of the network's input is measured, in [0, 1], see ``SarnnPolicy``.
      predicted_joints: names of joints that are never measured after the first step, see ``SarnnPolicy``.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: the files do not fit each other, ``input_param`` is out of range, or there is no such joint.
    """
    loaded = load_checkpoint(folder, encoder_source)
    return SarnnPolicy(loaded.model, loaded.description, loaded.clip, input_param, predicted_joints)


def _credible(description: SarnnDescription) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest joints [P] that may be meant."""
    low, high = np.asarray(description.joint_bounds, np.float64)
    reach = _RANGES * np.maximum(high - low, 1.0)
    if (low == description.vmin).all() and (high == description.vmax).all():
        reach = np.full_like(low, _LARGEST_JOINT)  # Trained on raw joints.
    return low - reach, high + reach


def _named(observations: NamedArrays, name: str) -> np.ndarray:
    if name not in observations:
        raise ValueError(f"Observation {name!r} is missing. Received: {sorted(observations)}")
    return observations[name]
