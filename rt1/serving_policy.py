"""RT-1 behind the ``Policy`` protocol: what serving, evaluation and simulation use."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from core.policy import Observations, PolicyResult, State
from core.spec import PolicySpec
from language import TextEncoder, make_text_encoder, require_same_encoder
from rt1.checkpoints.load import load_weights
from rt1.food_metrics import food_metrics
from rt1.image_preparation import resize_image, to_uint8
from rt1.policy_folder import PolicyDescription, read_description
from rt1.transformer_network import CROSS_ENTROPY, EMBEDDING, IMAGE, TransformerNetwork

INSTRUCTION = "natural_language_instruction"


class RT1Policy:
    """A network with its sentence encoder.

    The state of a client is the network's: image tokens of the last frames, and how many there are. A
    network with a window of one frame has none.

    Monte-Carlo dropout draws every dropout site from the request's seed and nothing else: batch
    statistics, augmentation and the variables are not touched. The draws are of the current step; the
    frames before it are remembered without dropout.
    """

    def __init__(
        self, network: TransformerNetwork, description: PolicyDescription, encoder: TextEncoder
    ) -> None:
        """Compiles nothing yet: the first call of each kind does.

        Args:
          network: with its weights.
          description: of the checkpoint.
          encoder: of the instructions.

        Raises:
          ValueError: the encoder is not the one that the policy was trained with.
        """
        require_same_encoder(description.spec.encoder, encoder.identity, "the policy's instructions")
        self._network = network
        self._description = description
        self._encoder = encoder
        self._has_window = network.time_sequence_length > 1
        self._step = tf.function(self._compute, reduce_retracing=True)

    @property
    def spec(self) -> PolicySpec:
        return self._description.spec

    @property
    def network(self) -> TransformerNetwork:
        return self._network

    @property
    def encoder(self) -> TextEncoder:
        return self._encoder

    def initial_state(self, n: int) -> dict[str, np.ndarray]:
        """Zeros, name -> [n, ...]; empty for a window of one frame."""
        return self._zero_state(n) if self._has_window else {}

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
          observations: ``image`` uint8 [n, h, w, 3] RGB of any size, and
            ``natural_language_instruction`` [n] text.
          state: name -> [n, ...].
          num_samples: draws for each client, all in one batched call.
          seed: of the draws, any integer; None draws afresh.

        Returns:
          Actions and draws clipped to their bounds; in ``info`` the ``tokens`` int32 [n, tokens] and, of
          the cross-entropy head, ``token_probability`` float32 [n, tokens] of the chosen ones.

        Raises:
          ValueError: an observation is missing or of another shape, an instruction cannot be encoded, the
            state is not of n clients, or ``num_samples`` is negative.
        """
        if num_samples < 0:
            raise ValueError(f"num_samples must not be negative. Received: {num_samples}")
        image, embedding = self._prepare(observations)
        n = len(embedding)
        tensors = {k: tf.constant(v) for k, v in self._check_state(state, n).items()}
        actions, info, next_state = self._step(image, embedding, tensors, None)
        samples = None
        if num_samples:
            if seed is None:
                seed = int(np.random.SeedSequence().generate_state(1)[0])
            seed_pair = tf.constant(np.random.SeedSequence(seed % 2**63).generate_state(2).view(np.int32))
            repeated = (tf.repeat(x, num_samples, axis=0) for x in (image, embedding))
            states = {k: tf.repeat(v, num_samples, axis=0) for k, v in tensors.items()}
            drawn, _, _ = self._step(*repeated, states, seed_pair)
            samples = {k: v.numpy().reshape(n, num_samples, *v.shape[1:]) for k, v in drawn.items()}
        return (
            PolicyResult(_numpy(actions), samples, _numpy(info)),
            _numpy(next_state) if self._has_window else {},
        )

    def _zero_state(self, n: int) -> dict[str, np.ndarray]:
        return {
            name: np.zeros([n, *spec.shape], spec.dtype.as_numpy_dtype)
            for name, spec in self._network.state_spec.items()
        }

    def _check_state(self, state: State, n: int) -> State:
        """The state, zeros for an empty one; TensorFlow would spread one client's state over all."""
        zeros = self._zero_state(n)
        if not state:
            return zeros
        if {k: np.shape(v) for k, v in state.items()} != {k: v.shape for k, v in zeros.items()}:
            raise ValueError(
                f"state must be of {n} clients: { ({k: v.shape for k, v in zeros.items()}) }. "
                f"Received: { ({k: np.shape(v) for k, v in state.items()}) }"
            )
        return state

    def _prepare(self, observations: Observations) -> tuple[tf.Tensor, tf.Tensor]:
        """Frames and embeddings as the network takes them."""
        for name in (IMAGE, INSTRUCTION):
            if name not in observations:
                raise ValueError(f"Observation {name!r} is missing. Received: {sorted(observations)}")
        image = np.asarray(observations[IMAGE])
        instructions = np.asarray(observations[INSTRUCTION]).ravel().tolist()
        texts = [t for t in instructions if isinstance(t, str)]  # Bytes would be encoded as "b'…'".
        if len(texts) != len(instructions):
            raise ValueError(f"{INSTRUCTION} must be text [n]. Received: {instructions}")
        is_image = image.ndim == 4 and image.shape[-1] == 3 and image.dtype == np.uint8 and image.size
        if not is_image or len(image) != len(texts):
            raise ValueError(
                f"{IMAGE} must be uint8 [n, h, w, 3] with one instruction each. "
                f"Received: {image.dtype} {image.shape} and {len(texts)} instructions"
            )
        frames = resize_image(image, self._description.image_size)
        if self._description.image_dtype == "uint8":
            frames = to_uint8(frames)
        return frames, tf.constant(self._encoder.encode(texts), tf.float32)

    def _compute(
        self,
        image: tf.Tensor,
        embedding: tf.Tensor,
        state: Mapping[str, tf.Tensor],
        dropout_seed: tf.Tensor | None,
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        scores, next_state, _ = self._network.step(
            {IMAGE: image, EMBEDDING: embedding}, state, dropout_seed=dropout_seed
        )
        actions = self._network.actions(scores)
        for spec in self.spec.actions:
            if actions[spec.name].dtype.is_floating:
                actions[spec.name] = tf.clip_by_value(actions[spec.name], *spec.bounds())
        info = {"tokens": self._network.tokens(scores)}
        if self._network.head == CROSS_ENTROPY:
            info["token_probability"] = tf.reduce_max(tf.nn.softmax(scores, axis=-1), axis=-1)
        return actions, info, next_state


def load_policy(folder: Path, encoder_source: str | None = None) -> RT1Policy:
    """Loads a checkpoint folder.

    Args:
      folder: one that training or ``rt1.checkpoints`` wrote.
      encoder_source: where to take the sentence encoder from, where it is not where it was in training;
        it must still be the same encoder.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: the folder, its weights or the encoder do not fit.
    """
    description = read_description(folder)
    network = description.build_network()
    load_weights(network, folder)
    return RT1Policy(network, description, make_text_encoder(encoder_source or description.encoder_source))


def evaluation_metrics(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """The food task's metrics of [n, 4] predictions; see ``rt1.food_metrics``."""
    return food_metrics(predicted, true)


def _numpy(tensors: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in tensors.items()}
