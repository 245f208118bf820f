"""CLIP-RT behind the ``Policy`` protocol: what serving, evaluation and simulation use.

The published inference in this interface::

    from core.policy import Session
    from clip_tf.rt.serving_policy import load_policy
    policy = load_policy("clip_rt_finetuned")
    result = Session(policy).step({"image": rgb, "natural_language_instruction": "close the laptop"})
    print(result.info["phrases"], result.info["phrase_probabilities"], result.actions)
"""

import collections
import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from clip_tf.clip_model import ClipModel
from clip_tf.converted_folder import load_clip, load_preprocessing
from clip_tf.converted_folder import read_description as read_config
from clip_tf.image_preprocessing import Preprocessing, preprocess
from clip_tf.rt.action_scores import action_logits
from clip_tf.rt.objective import unit_length
from clip_tf.rt.policy_folder import (
    CLIP,
    DESCRIPTION,
    IMAGE,
    INSTRUCTION,
    PolicyDescription,
    read_description,
)
from clip_tf.rt.prompt import apply_prompt
from clip_tf.tokenizer import check_vocab_size, tokenize
from core import checkpoint_folder
from core.policy import Observations, PolicyResult, State
from core.spec import PolicySpec

GRIPPER = "gripper_open"
_CACHED_INSTRUCTIONS = 256
_TEXTS_AT_ONCE = 32


class ClipRtPolicy:
    """A CLIP with a vocabulary of language actions.

    The features of the actions are computed once, those of the last instructions are kept. A client's state
    is the gripper that it was last sent: an action that moves the arm leaves the gripper as it is, which the
    published tables, whose moves all say "open", cannot. It begins open, so that a single answer is the
    table's.
    """

    def __init__(
        self, model: ClipModel, description: PolicyDescription, preprocessing: Preprocessing | None = None
    ) -> None:
        """Encodes the vocabulary.

        Args:
          model: with its weights.
          description: of the policy.
          preprocessing: of the model's images; None for OpenAI's.

        Raises:
          ValueError: the text tower has fewer rows than the tokenizer has ids.
        """
        check_vocab_size(model.config.text.vocab_size)
        self._model = model
        self._description = description
        self._spec = description.spec
        self._answers = description.answers
        self._moves = np.any(description.vocabulary.actions[:, :-1] != 0, axis=1)
        self._preprocessing = preprocessing or Preprocessing(model.config.vision.image_size)
        # No Python condition here is on a tensor, and to look for one takes seconds (autograph).
        compiled = functools.partial(tf.function, reduce_retracing=True, autograph=False)
        self._encode_text = compiled(lambda ids: model.encode_text(ids)[0])
        self._score = compiled(self._logits)
        self._actions = unit_length(self._text_features(description.vocabulary.phrases))
        self._instructions: collections.OrderedDict[str, np.ndarray] = collections.OrderedDict()

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    @property
    def model(self) -> ClipModel:
        return self._model

    @property
    def description(self) -> PolicyDescription:
        return self._description

    def initial_state(self, n: int) -> dict[str, np.ndarray]:
        """``gripper_open`` float32 [n, 1]: open."""
        return {GRIPPER: np.ones((n, 1), np.float32)}

    def infer(
        self,
        observations: Observations,
        state: State,
        *,
        num_samples: int = 0,
        seed: int | None = None,
    ) -> tuple[PolicyResult, dict[str, np.ndarray]]:
        """Answers n clients, see ``core.policy.Policy``.

        Args:
          observations: ``image`` uint8 [n, h, w, 3] RGB of any size, and ``natural_language_instruction``
            [n] text, with or without the prompt.
          state: of ``initial_state`` or of the last call; empty for clients that begin.
          num_samples: must be 0, for CLIP has no dropout.
          seed: not used.

        Returns:
          The action of the best class among those that may be answered. In ``info``: ``logits`` and
          ``class_probabilities`` float32 [n, classes] in the order of the vocabulary, and of the best
          ``top_k`` classes, best first,
          ``phrases`` (text), ``phrase_probabilities`` float32 and ``phrase_labels`` int64, each [n, k].

        Raises:
          ValueError: an observation is missing or of another shape, the state is not of n clients or not in
            [0, 1], ``num_samples`` is not 0, or the scores are not finite.
        """
        if num_samples:
            raise ValueError(f"CLIP-RT has no dropout: num_samples must be 0. Received: {num_samples}")
        images, texts = self._check(observations)
        gripper = self._check_state(state, len(texts))
        frames = tf.constant(np.stack([preprocess(image, self._preprocessing) for image in images]))
        logits = self._score(frames, tf.constant(self._instruction_features(texts))).numpy()
        if not np.isfinite(logits).all():
            raise ValueError(
                "The model's scores must be finite: its weights are damaged, or overflow their type. "
                f"Received: {int((~np.isfinite(logits)).sum())} of {logits.size} that are not"
            )
        ranked = self._answers[np.argsort(-logits[:, self._answers], axis=1, kind="stable")]
        chosen = ranked[:, 0]
        actions = self._description.vocabulary.actions[chosen].copy()
        actions[:, -1:] = np.where(self._moves[chosen][:, None], gripper, actions[:, -1:])
        probabilities = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
        best = ranked[:, : self._spec.details["top_k"]]
        info = {
            "logits": logits,
            "class_probabilities": probabilities.astype(np.float32),
            "phrases": np.array(self._description.vocabulary.phrases)[best],
            "phrase_probabilities": np.take_along_axis(probabilities, best, axis=1).astype(np.float32),
            "phrase_labels": best.astype(np.int64),
        }
        return PolicyResult(self._named(actions), None, info), {GRIPPER: actions[:, -1:].copy()}

    def _named(self, actions: np.ndarray) -> dict[str, np.ndarray]:
        """Splits [n, 7 or 8] into the specification's arrays."""
        named, start = {}, 0
        for spec in self._spec.actions:
            named[spec.name] = actions[:, start : start + spec.size]
            start += spec.size
        return named

    def _logits(self, frames: tf.Tensor, instructions: tf.Tensor) -> tf.Tensor:
        image, _ = self._model.encode_image(frames)
        scale, fusion = self._model.logit_scale, self._description.fusion
        return action_logits(image, instructions, self._actions, scale, fusion)

    def _text_features(self, texts: Sequence[str]) -> np.ndarray:
        """Features as the tower gives them, float32 [n, d]."""
        found = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            context = self._model.config.text.context_length
            ids = tokenize(texts[start : start + _TEXTS_AT_ONCE], context_length=context)
            found.append(tf.cast(self._encode_text(tf.constant(ids)), tf.float32).numpy())
        return np.concatenate(found)

    def _instruction_features(self, texts: Sequence[str]) -> np.ndarray:
        asked = [apply_prompt(text, self._description.prompt) for text in texts]
        new = [text for text in dict.fromkeys(asked) if text not in self._instructions]
        if new:
            self._instructions.update(zip(new, self._text_features(new), strict=True))
        found = np.stack([self._instructions[text] for text in asked])
        for text in dict.fromkeys(asked):
            self._instructions.move_to_end(text)
        while len(self._instructions) > _CACHED_INSTRUCTIONS:
            self._instructions.popitem(last=False)
        return found

    def _check(self, observations: Observations) -> tuple[np.ndarray, list[str]]:
        for name in (IMAGE, INSTRUCTION):
            if name not in observations:
                raise ValueError(f"Observation {name!r} is missing. Received: {sorted(observations)}")
        images = np.asarray(observations[IMAGE])
        texts = np.asarray(observations[INSTRUCTION]).ravel().tolist()
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{INSTRUCTION} must be text [n]. Received: {texts}")
        is_image = images.ndim == 4 and images.shape[-1] == 3 and images.dtype == np.uint8 and images.size
        if not is_image or len(images) != len(texts):
            raise ValueError(
                f"{IMAGE} must be uint8 [n, h, w, 3] with one instruction each. "
                f"Received: {images.dtype} {images.shape} and {len(texts)} instructions"
            )
        return images, texts

    def _check_state(self, state: State, n: int) -> np.ndarray:
        if not state:
            return self.initial_state(n)[GRIPPER]
        shapes = {name: np.shape(value) for name, value in state.items()}
        if shapes != {GRIPPER: (n, 1)}:
            raise ValueError(f"state must be {GRIPPER} [{n}, 1]. Received: {shapes}")
        gripper = np.asarray(state[GRIPPER], np.float32)
        if not ((gripper >= 0) & (gripper <= 1)).all():
            raise ValueError(f"state's {GRIPPER} must be in [0, 1]. Received: {gripper.ravel()}")
        return gripper


def load_policy(
    folder: str | Path, dtype: str = "float32", encoder_source: str | None = None
) -> ClipRtPolicy:
    """Loads a training run, a checkpoint folder, or one that ``clip_tf.rt.make_policy`` wrote.

    Args:
      folder: as ``clip_tf.rt.policy_folder`` says; of a training run the best checkpoint is meant.
      dtype: the towers compute in ``float32``, ``bfloat16`` or ``float16``; features are compared in float32.
      encoder_source: must be None: the text tower is the encoder, and is in the folder.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: the folder or its weights do not fit, the text tower is too small for the tokenizer, or an
        encoder is named.
    """
    if encoder_source is not None:
        raise ValueError(f"CLIP-RT encodes texts itself and takes no encoder. Received: {encoder_source!r}")
    folder = Path(folder)
    if not (folder / DESCRIPTION).is_file():
        with contextlib.suppress(FileNotFoundError):
            folder = checkpoint_folder.resolve(folder)
    if not (folder / DESCRIPTION).is_file():
        raise FileNotFoundError(
            f"A policy's folder must have {DESCRIPTION}. A folder of clip_tf.convert becomes one by "
            f"python -m clip_tf.rt.make_policy. Received: {folder}"
        )
    check_vocab_size(read_config(folder / CLIP)[0].text.vocab_size)
    model = load_clip(folder / CLIP, dtype=dtype)
    return ClipRtPolicy(model, read_description(folder), load_preprocessing(folder / CLIP))
