"""RT-1's network: frames and an instruction to scores of action tokens, or to action values.

Token sequence of a window of t steps, 8 image and 11 action tokens a step::

    [image 0..7, action 0..10] [image 0..7, action 0..10] …
                ^ the score of action token k is read one position before it

Action tokens enter as zeros (the original computes their embedding, then zeroes it), so the scores of
all action tokens of a step come from one pass. The original runs one pass for each token.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import tensorflow as tf
from tf_agents.networks import network
from tf_agents.specs import tensor_spec
from tf_agents.utils import nest_utils

from core.stateless_dropout import Seed, dropout
from film_efficientnet import preprocessors
from rt1.attention_mask import attention_mask
from rt1.transformer import Transformer
from tokenizers.action_tokenizer import RT1ActionTokenizer
from tokenizers.image_tokenizer import RT1ImageTokenizer

IMAGE, EMBEDDING = "image", "natural_language_embedding"
CROSS_ENTROPY, REGRESSION = "cross_entropy", "regression"
HEADS = (CROSS_ENTROPY, REGRESSION)


@dataclasses.dataclass(frozen=True)
class DropoutRates:
    """Dropout rate of every site, each in [0, 1). The defaults are RT-1's.

    Attributes:
      backbone_spatial: whole channels of EfficientNet's top activation.
      backbone_top: single elements of the encoder's features, which TokenLearner sees.
      drop_connect: residual branches of the last MBConv block, proportionally less before.
      token_learner: hidden and output layer of TokenLearner's MLP.
      action_embedding: the embedded action tokens (zero in RT-1, so without effect there).
      embedding: the sum of token and position embedding.
      attention: attention weights.
      feed_forward: output of each transformer layer's dense layer.
    """

    backbone_spatial: float = 0.0
    backbone_top: float = 0.0
    drop_connect: float = 0.2
    token_learner: float = 0.0
    action_embedding: float = 0.0
    embedding: float = 0.0
    attention: float = 0.1
    feed_forward: float = 0.1

    @classmethod
    def none(cls) -> "DropoutRates":
        """All rates zero."""
        return cls(**{f.name: 0.0 for f in dataclasses.fields(cls)})


make_dropout_rates = gin.external_configurable(DropoutRates, "DropoutRates")


@gin.configurable
class TransformerNetwork(network.Network):
    """The actor network of ``SequenceAgent``."""

    def __init__(
        self,
        input_tensor_spec: Mapping[str, tensor_spec.TensorSpec],
        output_tensor_spec: Mapping[str, tensor_spec.BoundedTensorSpec],
        *,
        head: str = CROSS_ENTROPY,
        action_order: Sequence[str] | None = None,
        time_sequence_length: int = 6,
        vocab_size: int = 256,
        token_embedding_size: int = 512,
        num_layers: int = 8,
        layer_size: int = 128,
        num_heads: int = 8,
        feed_forward_size: int = 512,
        use_token_learner: bool = True,
        num_image_tokens: int = 8,
        efficientnet_variant: str = "b3",
        encoder_image_size: int | None = None,
        dropout_rates: DropoutRates | None = None,
        name: str = "TransformerNetwork",
    ) -> None:
        """Makes the network; ``create_variables`` makes its variables.

        Args:
          input_tensor_spec: ``image`` [h, w, 3] uint8, or float32 in [0, 1], and
            ``natural_language_embedding`` [size] float32, without batch and time axes.
          output_tensor_spec: name -> bounded action spec of rank 1.
          head: ``cross_entropy`` scores ``vocab_size`` tokens for every action dimension; ``regression``
            gives one number for each, the fraction of the way between its bounds, not clipped.
          action_order: order of the action tokens; None takes the spec's own.
          time_sequence_length: frames in a window.
          vocab_size: tokens of a float action dimension.
          token_embedding_size: size of an image token.
          num_layers, num_heads: of the transformer.
          layer_size: key dimension of an attention head.
          feed_forward_size: width of the transformer.
          use_token_learner: as in ``RT1ImageTokenizer``.
          num_image_tokens: of TokenLearner; without it, the encoder's positions (81 for 300 px).
          efficientnet_variant, encoder_image_size: as in ``EfficientNetEncoder``.
          dropout_rates: None takes the defaults of ``DropoutRates``.
          name: of the network.

        Raises:
          ValueError: an observation is missing, an unknown head, an action that does not fit the head.
        """
        for required in (IMAGE, EMBEDDING):
            if required not in input_tensor_spec:
                raise ValueError(
                    f"Observation {required!r} is missing. Received: {sorted(input_tensor_spec)}"
                )
        if head not in HEADS:
            raise ValueError(f"head must be one of {HEADS}. Received: {head!r}")
        if head == REGRESSION:
            integers = [k for k, v in output_tensor_spec.items() if v.dtype.is_integer]
            if integers:
                raise ValueError(f"The regression head needs float actions. Received integers: {integers}")

        rates = dropout_rates or DropoutRates()
        self._arguments = {
            "head": head,
            "action_order": None if action_order is None else list(action_order),
            "time_sequence_length": time_sequence_length,
            "vocab_size": vocab_size,
            "token_embedding_size": token_embedding_size,
            "num_layers": num_layers,
            "layer_size": layer_size,
            "num_heads": num_heads,
            "feed_forward_size": feed_forward_size,
            "use_token_learner": use_token_learner,
            "num_image_tokens": num_image_tokens,
            "efficientnet_variant": efficientnet_variant,
            "encoder_image_size": encoder_image_size,
        }
        action_tokenizer = RT1ActionTokenizer(output_tensor_spec, vocab_size, action_order)
        tokens_per_action = action_tokenizer.tokens_per_action
        state_spec = {
            "context_image_tokens": tf.TensorSpec(
                (time_sequence_length, num_image_tokens, 1, token_embedding_size),
                tf.float32,
                "context_image_tokens",
            ),
            "action_tokens": tf.TensorSpec(
                (time_sequence_length, tokens_per_action, 1, 1), tf.int32, "action_tokens"
            ),
            "seq_idx": tf.TensorSpec((1, 1, 1, 1), tf.int32, "seq_idx"),
        }
        super().__init__(input_tensor_spec=input_tensor_spec, state_spec=state_spec, name=name)
        self.head = head
        self.time_sequence_length = time_sequence_length
        self.num_image_tokens = num_image_tokens
        self.vocab_size = vocab_size
        self.dropout_rates = rates
        self.output_tensor_spec = output_tensor_spec
        self.action_tokenizer = action_tokenizer
        self._mask = attention_mask(time_sequence_length, num_image_tokens, tokens_per_action)

        # The order of creation is the order of the optimiser's slots in RT-1's checkpoints.
        self._transformer = Transformer(
            num_layers=num_layers,
            layer_size=layer_size,
            num_heads=num_heads,
            feed_forward_size=feed_forward_size,
            vocab_size=vocab_size,
            max_positions=time_sequence_length * self.tokens_per_step,
            attention_dropout_rate=rates.attention,
            feed_forward_dropout_rate=rates.feed_forward,
            embedding_dropout_rate=rates.embedding,
        )
        self._image_tokenizer = RT1ImageTokenizer(
            token_embedding_size,
            variant=efficientnet_variant,
            image_size=encoder_image_size,
            use_token_learner=use_token_learner,
            num_tokens=num_image_tokens,
            drop_connect_rate=rates.drop_connect,
            spatial_dropout_rate=rates.backbone_spatial,
            top_dropout_rate=rates.backbone_top,
            token_learner_dropout_rate=rates.token_learner,
        )
        self._token_embedding_size = token_embedding_size
        if head == CROSS_ENTROPY:
            self._action_token_emb = tf.keras.layers.Dense(token_embedding_size)
        else:
            self._regression_output = tf.keras.layers.Dense(1)

    def arguments(self) -> dict[str, Any]:
        """Every argument of the constructor beside the specs, as JSON values: it can be made again."""
        return {**self._arguments, "dropout_rates": dataclasses.asdict(self.dropout_rates)}

    @property
    def tokens_per_step(self) -> int:
        """Image and action tokens of one step."""
        return self.num_image_tokens + self.action_tokenizer.tokens_per_action

    @property
    def image_tokenizer(self) -> RT1ImageTokenizer:
        return self._image_tokenizer

    def components(self) -> dict[str, tf.keras.layers.Layer]:
        """The parts that fine-tuning can freeze, by name."""
        parts = {"efficientnet": self._image_tokenizer.encoder, "transformer": self._transformer}
        if self._image_tokenizer.token_learner is not None:
            parts["tokenlearner"] = self._image_tokenizer.token_learner
        return parts

    @property
    def unused_variables(self) -> list[tf.Variable]:
        """Variables without a gradient: the embedding of action tokens, which enter as zeros."""
        return self._action_token_emb.trainable_variables if self.head == CROSS_ENTROPY else []

    def create_variables(self, input_tensor_spec: Any = None, **kwargs: Any) -> Any:
        """Makes the variables by one call on zeros (sampling uint8 specs is wrong under NumPy 2)."""
        if not self.built:
            spec = self.input_tensor_spec if input_tensor_spec is None else input_tensor_spec
            observation = {k: tf.zeros([1, *spec[k].shape], spec[k].dtype) for k in (IMAGE, EMBEDDING)}
            state = tf.nest.map_structure(lambda s: tf.zeros([1, *s.shape], s.dtype), self.state_spec)
            self(observation, step_type=tf.zeros([1], tf.int32), network_state=state)
            if self.head == CROSS_ENTROPY and not self._action_token_emb.built:
                self._action_token_emb.build((None, self.vocab_size))
            self._network_output_spec = tf.nest.map_structure(
                lambda s: tf.TensorSpec(s.shape, s.dtype), dict(self.output_tensor_spec)
            )
        return self._network_output_spec

    # === Passes ===

    def tokenize_images(
        self,
        observation: Mapping[str, tf.Tensor],
        *,
        training: bool = False,
        dropout_seed: Seed = None,
        shift_seed: Seed = None,
    ) -> tuple[tf.Tensor, Mapping[str, Any]]:
        """Frames to image tokens.

        Args:
          observation: ``image`` [b, t, h, w, 3] and ``natural_language_embedding`` [b, t, size].
          training: batch statistics in the batch normalisation.
          dropout_seed: int32 [2], None for no dropout.
          shift_seed: int32 [2] for RT-1's random shift, None for none.

        Returns:
          [b, t, num_image_tokens, token_embedding_size] and named intermediates.

        Raises:
          ValueError: the encoder, without TokenLearner, has another number of positions.
        """
        image = preprocessors.to_float(observation[IMAGE])
        if shift_seed is not None:
            padding = preprocessors.shift_padding(image.shape[-3])
            image = preprocessors.random_shift(image, padding, shift_seed)
        tokens, aux = self._image_tokenizer(
            image, observation[EMBEDDING], training=training, dropout_seed=dropout_seed
        )
        if tokens.shape[2] != self.num_image_tokens:
            raise ValueError(
                f"Without TokenLearner num_image_tokens must be the encoder's {tokens.shape[2]} positions. "
                f"Received: {self.num_image_tokens}"
            )
        return tokens, aux

    def score(
        self, image_tokens: tf.Tensor, *, dropout_seed: Seed = None
    ) -> tuple[tf.Tensor, Mapping[str, Any]]:
        """Image tokens to the scores of every step's action tokens, in one transformer pass.

        Args:
          image_tokens: [b, t, num_image_tokens, token_embedding_size], t at most the window's length.
          dropout_seed: int32 [2], None for no dropout.

        Returns:
          Logits [b, t, tokens_per_action, vocab_size], or action values [b, t, tokens_per_action] of the
          regression head, and ``attention`` and ``transformer_output`` [b, t · tokens_per_step, vocab_size].
        """
        shape = tf.shape(image_tokens)
        b, t = shape[0], shape[1]
        actions = self.action_tokenizer.tokens_per_action
        zeros = tf.zeros([b, t, actions, self._token_embedding_size], image_tokens.dtype)
        zeros = dropout(zeros, self.dropout_rates.action_embedding, dropout_seed, "action_embedding")
        tokens = tf.concat([image_tokens, zeros], axis=2)
        n = t * self.tokens_per_step
        tokens = tf.reshape(tokens, [b, n, self._token_embedding_size])
        mask = tf.constant(self._mask)[:n, :n]
        output, aux = self._transformer(tokens, mask, dropout_seed=dropout_seed)
        by_step = tf.reshape(output, [b, t, self.tokens_per_step, self.vocab_size])
        first = self.num_image_tokens - 1
        scores = by_step[:, :, first : first + actions]
        if self.head == REGRESSION:
            scores = self._regression_output(scores)[..., 0]
        return scores, {**aux, "transformer_output": output}

    def forward(
        self,
        observation: Mapping[str, tf.Tensor],
        *,
        training: bool = False,
        dropout_seed: Seed = None,
        shift_seed: Seed = None,
    ) -> tuple[tf.Tensor, Mapping[str, Any]]:
        """Whole windows to scores: ``tokenize_images``, then ``score``; arguments and results as there.

        The intermediates of both come together, with ``image_tokens`` beside them.
        """
        image_tokens, image_aux = self.tokenize_images(
            observation, training=training, dropout_seed=dropout_seed, shift_seed=shift_seed
        )
        scores, aux = self.score(image_tokens, dropout_seed=dropout_seed)
        return scores, {**image_aux, **aux, "image_tokens": image_tokens}

    def step(
        self,
        observation: Mapping[str, tf.Tensor],
        state: Mapping[str, tf.Tensor],
        *,
        dropout_seed: Seed = None,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor], Mapping[str, Any]]:
        """One step of an episode, with the frames so far in the state.

        Args:
          observation: ``image`` [b, h, w, 3] and ``natural_language_embedding`` [b, size].
          state: as ``state_spec`` with a leading axis b. Every row has its own position, so episodes of
            different age can share a batch.
          dropout_seed: int32 [2], None for no dropout.

        Returns:
          The step's scores [b, tokens_per_action, vocab_size] (or [b, tokens_per_action] of the regression
          head), the next state, and named intermediates.
        """
        window = self.time_sequence_length
        frame = {k: observation[k][:, None] for k in (IMAGE, EMBEDDING)}
        new_tokens, image_aux = self.tokenize_images(frame, dropout_seed=dropout_seed)
        seq_idx = tf.reshape(state["seq_idx"], [-1])
        context = state["context_image_tokens"][:, :, :, 0, :]
        is_full = (seq_idx >= window)[:, None, None, None]
        context = tf.where(is_full, tf.roll(context, -1, axis=1), context)
        position = tf.minimum(seq_idx, window - 1)
        here = tf.one_hot(position, window, on_value=True, off_value=False, dtype=tf.bool)
        context = tf.where(here[:, :, None, None], new_tokens, context)

        # Later frames are not there yet and would not be seen: attention is causal.
        frames = tf.reduce_max(position) + 1
        scores, aux = self.score(context[:, :frames], dropout_seed=dropout_seed)
        scores = tf.gather(scores, position, axis=1, batch_dims=1)
        tokens = self.tokens(scores)
        action_tokens = tf.where(
            here[:, :, None, None, None], tokens[:, None, :, None, None], state["action_tokens"]
        )
        next_state = {
            "context_image_tokens": context[:, :, :, None, :],
            "action_tokens": action_tokens,
            "seq_idx": tf.reshape(tf.minimum(seq_idx + 1, window), [-1, 1, 1, 1, 1]),
        }
        return scores, next_state, {**image_aux, **aux, "image_tokens": new_tokens}

    def call(
        self,
        observation: Mapping[str, tf.Tensor],
        step_type: tf.Tensor | None = None,
        network_state: Any = (),
        training: bool = False,
    ) -> tuple[dict[str, tf.Tensor], Any]:
        """TF-Agents' interface: one step (outer axes [b]) or whole windows (outer axes [b, t]).

        Args:
          observation: as in ``step`` or ``forward``.
          step_type: not used.
          network_state: of a single step, as in ``step``; an empty one begins an episode.
          training: batch statistics in the batch normalisation, of windows only. There is no dropout here:
            ``SequenceAgent`` hands seeds to ``forward``.

        Returns:
          Actions by name with the same outer axes, and the next state (of windows: the state as it came).

        Raises:
          ValueError: other outer axes.
        """
        del step_type
        outer_rank = nest_utils.get_outer_rank(
            {k: observation[k] for k in (IMAGE, EMBEDDING)},
            {k: self.input_tensor_spec[k] for k in (IMAGE, EMBEDDING)},
        )
        if outer_rank == 2:
            scores, _ = self.forward(observation, training=training)
            return self.actions(scores), network_state
        if outer_rank != 1:
            raise ValueError(f"Observations need the outer axes [b] or [b, t]. Received rank: {outer_rank}")
        if not network_state:
            b = tf.shape(observation[IMAGE])[0]
            network_state = tf.nest.map_structure(
                lambda s: tf.zeros(tf.concat([[b], s.shape], 0), s.dtype), self.state_spec
            )
        scores, state, _ = self.step(observation, network_state)
        return self.actions(scores), state

    # === Actions ===

    def tokens(self, scores: tf.Tensor) -> tf.Tensor:
        """Scores to the likeliest tokens, int32; values of the regression head to the token they lie in."""
        if self.head == CROSS_ENTROPY:
            return tf.argmax(scores, axis=-1, output_type=tf.int32)
        return self.action_tokenizer.tokenize(self.actions(scores))

    def actions(self, scores: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores [..., tokens_per_action(, vocab_size)] to actions by name, [..., k] each."""
        if self.head == CROSS_ENTROPY:
            return self.action_tokenizer.detokenize(self.tokens(scores))
        return self.action_tokenizer.from_fractions(scores)

    def targets(self, actions: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Actions by name to what the head's loss compares: tokens, or fractions of the bounds."""
        if self.head == CROSS_ENTROPY:
            return self.action_tokenizer.tokenize(actions)
        return self.action_tokenizer.to_fractions(actions)
