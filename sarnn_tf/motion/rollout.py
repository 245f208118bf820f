"""A recorded episode run through a SARNN, step by step, as EIPL's offline test does it.

What the model sees is a mixture of the recording and of its own last prediction,
x_t = p · recorded_t + (1 - p) · prediction_{t-1}, for images and joints alike, as the network sees them and
without clipping. With p = 1 every step sees the recording alone (open loop), with p = 0 only the first one
does, and the model dreams the rest.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from core.policy import State
from sarnn_tf.description import INSTRUCTION, JOINTS, SarnnDescription
from sarnn_tf.image_modality import IMAGE
from sarnn_tf.pictures import border_of
from sarnn_tf.policy_folder import LoadedSarnn
from sarnn_tf.preparation import prepare_images, to_unit
from sarnn_tf.serving_policy import INPUT_PARAM, SarnnPolicy

Images = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Rollout:
    """What a model made of one episode. Predictions at index t are those for step t + 1.

    Attributes:
      instruction: what was asked, "" where nothing was.
      input_param: p, the recording's share in what the model saw.
      recorded_images: modality -> [t, h, w, channels] float32 in [0, 1].
      recorded_joints: [t, joint_dim] float32, rad.
      seen_images: as ``recorded_images``, after the mixing; they may leave [0, 1].
      images: as ``recorded_images``, predicted; they may leave [0, 1].
      joints: [t, joint_dim] float32, rad, predicted.
      encoder_points: modality -> [t, k, 2] as (x, y) in [0, 1], x along columns.
      decoder_points: the same, where the points are expected next; they may leave [0, 1].
      point_borders: modality -> pixels, rows and columns, from the image's edges to the outermost places that
        the encoder's points can have; see ``pictures.border_of``.
      hidden: [t, rec_dim] float32, the recurrent state h after every step.
    """

    instruction: str
    input_param: float
    recorded_images: dict[str, np.ndarray]
    recorded_joints: np.ndarray
    seen_images: dict[str, np.ndarray]
    images: dict[str, np.ndarray]
    joints: np.ndarray
    encoder_points: dict[str, np.ndarray]
    decoder_points: dict[str, np.ndarray]
    point_borders: dict[str, tuple[float, float]]
    hidden: np.ndarray

    @property
    def steps(self) -> int:
        """t."""
        return len(self.joints)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingMean:
    """The mean of all steps of the training data: what one predicts who sees nothing.

    Attributes:
      images: modality -> [h, w, channels] float32 in [0, 1].
      joints: [joint_dim] float32, rad.
    """

    images: dict[str, np.ndarray]
    joints: np.ndarray


class Runner:
    """A loaded model, ready to be run over episodes by its ``Policy``; its step is compiled once."""

    def __init__(self, loaded: LoadedSarnn, predicted_joints: Sequence[str] = ()) -> None:
        """Takes what a checkpoint makes.

        Args:
          loaded: the model.
          predicted_joints: see ``SarnnPolicy``.

        Raises:
          ValueError: the model's parts do not fit each other, or there is no such joint.
        """
        self._description = loaded.description
        self._policy = SarnnPolicy(
            loaded.model, loaded.description, loaded.clip, predicted_joints=predicted_joints
        )
        self._grid = loaded.clip.grid if loaded.clip is not None and loaded.description.use_clip else None

    def run(
        self, images: Images, joints: np.ndarray, instruction: str = "", input_param: float = 1.0
    ) -> Rollout:
        """Runs one episode.

        Args:
          images: modality -> [t, H, W, 3] uint8 RGB, or [t, H, W] or [t, H, W, 1] uint16 or uint8, of any
            size. There may be more modalities than the model sees.
          joints: [t, joint_dim] float32, rad.
          instruction: what is asked; it matters to models with CLIP or words.
          input_param: p in [0, 1].

        Raises:
          ValueError: a modality is missing, lengths differ, there are fewer than 2 steps, joints of another
            number or not finite, or p is out of range.
        """
        d = self._description
        stored, positions = prepare_episode(images, joints, d)
        asked = {INPUT_PARAM: np.array([input_param])}
        if d.uses_text:
            asked[INSTRUCTION] = np.array([instruction])
        steps = len(positions)
        # Filled step by step: the states of all steps beside them would take half as much memory again.
        predicted = {m.name: np.empty((steps, *m.size, m.channels), np.float32) for m in d.modalities}
        points = {
            f"{kind}_points/{m.name}": np.empty((steps, m.k_dim, 2), np.float32)
            for m in d.modalities
            for kind in ("encoder", "decoder")
        }
        next_joints, hidden = np.empty_like(positions), np.empty((steps, d.rec_dim), np.float32)
        state: State = self._policy.initial_state(1)
        for t in range(steps):
            seen = {m.name: stored[m.name][t : t + 1] for m in d.modalities}
            seen |= {m.name: seen[m.name][..., 0] for m in d.modalities if m.channels == 1}
            result, state = self._policy.infer({**seen, JOINTS: positions[t : t + 1], **asked}, state)
            next_joints[t], hidden[t] = result.actions[JOINTS][0], state["h"][0]
            for name, frames in predicted.items():
                frames[t] = state[f"predicted/{name}"][0]
            for name, found in points.items():
                found[t] = result.info[name].reshape(-1, 2)
        recorded = {m.name: to_unit(stored[m.name], m) for m in d.modalities}
        return Rollout(
            instruction=instruction,
            input_param=float(input_param),
            recorded_images=recorded,
            recorded_joints=positions,
            seen_images={n: _mixed(x, predicted[n], input_param) for n, x in recorded.items()},
            images=predicted,
            joints=next_joints,
            encoder_points={m.name: points[f"encoder_points/{m.name}"] for m in d.modalities},
            decoder_points={m.name: points[f"decoder_points/{m.name}"] for m in d.modalities},
            point_borders={
                m.name: border_of(m, self._grid if m.name == IMAGE else None) for m in d.modalities
            },
            hidden=hidden,
        )


def _mixed(recorded: np.ndarray, predicted: np.ndarray, input_param: float) -> np.ndarray:
    """What the policy saw, given the predictions for the step after each."""
    if input_param == 1:
        return recorded
    seen = np.float32(input_param) * recorded[1:] + np.float32(1 - input_param) * predicted[:-1]
    return np.concatenate([recorded[:1], seen])


def prepare_episode(
    images: Images, joints: np.ndarray, description: SarnnDescription
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """An episode as the model's transforms take it.

    Args:
      images, joints: see ``Runner.run``.
      description: of the model.

    Returns:
      The model's modalities -> [t, h, w, channels] of the recorded type, in the model's sizes, and the joints
      [t, joint_dim] float32, rad.

    Raises:
      ValueError: see ``Runner.run``.
    """
    positions = np.asarray(joints, np.float32)
    if positions.ndim != 2 or positions.shape[1] != description.joint_dim or len(positions) < 2:
        raise ValueError(
            f"joints must be [t, {description.joint_dim}] with t of at least 2. "
            f"Received: {list(positions.shape)}"
        )
    if not np.isfinite(positions).all():
        raise ValueError("joints must be finite. Received: NaN or infinite ones")
    missing = [m.name for m in description.modalities if m.name not in images]
    if missing:
        raise ValueError(
            f"The model sees {[m.name for m in description.modalities]}, the episode lacks {missing}. "
            f"Received: {sorted(images)}"
        )
    lengths = {m.name: len(images[m.name]) for m in description.modalities}
    if set(lengths.values()) != {len(positions)}:
        raise ValueError(f"Images and {len(positions)} joints must be equally many. Received: {lengths}")
    return {m.name: prepare_images(images[m.name], m) for m in description.modalities}, positions


def training_mean(
    episodes: Iterable[tuple[Images, np.ndarray]], description: SarnnDescription
) -> TrainingMean:
    """The mean of all steps of episodes, with one of them in memory at a time.

    Args:
      episodes: images and joints, see ``Runner.run``.
      description: of the model.

    Raises:
      ValueError: there is no episode, or one does not fit the description.
    """
    steps = 0
    joint_sum = np.zeros(description.joint_dim, np.float64)
    sums = {m.name: np.zeros((*m.size, m.channels), np.float64) for m in description.modalities}
    for images, joints in episodes:
        stored, positions = prepare_episode(images, joints, description)
        for m in description.modalities:
            sums[m.name] += to_unit(stored[m.name], m).sum(axis=0, dtype=np.float64)
        joint_sum += positions.sum(axis=0, dtype=np.float64)
        steps += len(positions)
    if not steps:
        raise ValueError("A mean needs at least one episode. Received: none")
    return TrainingMean(
        {name: (x / steps).astype(np.float32) for name, x in sums.items()},
        (joint_sum / steps).astype(np.float32),
    )


def squared_errors(rollout: Rollout, mean: TrainingMean | None = None) -> dict[str, dict[str, Any]]:
    """Mean squared errors of the predictions, beside those of who predicts without a model.

    Args:
      rollout: of one episode.
      mean: of the training data; None leaves that baseline out.

    Returns:
      ``model``, ``repeat`` (the next step is as the recorded one) and ``mean`` (it is the training's mean),
      each ``joints`` -> [joint_dim] float64, rad², and ``images`` -> modality -> number, for values in
      [0, 1]; over the steps whose next one was recorded.
    """
    guesses: dict[str, tuple[Images, np.ndarray]] = {
        "model": ({n: x[:-1] for n, x in rollout.images.items()}, rollout.joints[:-1]),
        "repeat": ({n: x[:-1] for n, x in rollout.recorded_images.items()}, rollout.recorded_joints[:-1]),
    }
    if mean is not None:
        guesses["mean"] = (mean.images, mean.joints)
    next_joints = rollout.recorded_joints[1:]
    return {
        who: {
            "joints": np.square(next_joints - joints, dtype=np.float64).mean(axis=0),
            "images": {
                name: float(np.square(x[1:] - images[name]).mean(dtype=np.float64))
                for name, x in rollout.recorded_images.items()
            },
        }
        for who, (images, joints) in guesses.items()
    }
