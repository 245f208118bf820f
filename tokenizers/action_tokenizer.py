"""Actions to tokens and back (RT-1, section 5.1)."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec

Actions = Mapping[str, tf.Tensor]


class RT1ActionTokenizer:
    """Maps a nest of actions to ``tokens_per_action`` integers and back.

    A float action of shape [k] gives k tokens: each value is clipped to its bounds, scaled to [0, 1] and
    to [0, vocab_size - 1], and truncated. An integer action is one-hot over its elements and gives one
    token, the index of its largest element; a predicted index outside becomes 0.

    Truncation alone would not give a token back after a detour over its value in float32, so a value
    that lies within rounding error below an edge counts as on the edge.
    """

    def __init__(
        self,
        action_spec: Mapping[str, tensor_spec.BoundedTensorSpec],
        vocab_size: int,
        action_order: Sequence[str] | None = None,
    ) -> None:
        """Lays the tokens out.

        Args:
          action_spec: name -> bounded spec of rank 1.
          vocab_size: tokens a float dimension has.
          action_order: the order of the tokens; None takes the spec's own.

        Raises:
          ValueError: the order does not name every action once; the vocabulary is smaller than 2; an
            action is not of rank 1, is neither float32 nor integer, is unbounded, or its bounds are equal,
            too close together or too far apart for float32; an integer action has more elements than
            the vocabulary.
        """
        order = tuple(action_order) if action_order is not None else tuple(action_spec)
        if sorted(order) != sorted(action_spec):
            raise ValueError(
                f"action_order must name every action once: {sorted(action_spec)}. Received: {order}"
            )
        if vocab_size < 2:
            raise ValueError(f"vocab_size must be at least 2. Received: {vocab_size}")
        self.action_spec = dict(action_spec)
        self.action_order = order
        self.vocab_size = vocab_size
        self._low: dict[str, np.ndarray] = {}
        self._high: dict[str, np.ndarray] = {}
        self._margin: dict[str, np.ndarray] = {}
        names: list[str] = []
        for name in order:
            names += self._lay_out(name, action_spec[name])
        self.token_names: tuple[str, ...] = tuple(names)

    def _lay_out(self, name: str, spec: tensor_spec.BoundedTensorSpec) -> list[str]:
        """Checks one action and returns the names of its tokens."""
        if spec.shape.rank != 1 or not spec.shape[0]:
            raise ValueError(f"Action {name!r} must have the shape [k]. Received: {spec.shape}")
        size = int(spec.shape[0])
        if spec.dtype.is_integer:
            if size > self.vocab_size:
                raise ValueError(
                    f"Action {name!r} has more elements than the vocabulary has tokens "
                    f"({self.vocab_size}). Received: {size}"
                )
            return [name]
        if not isinstance(spec, tensor_spec.BoundedTensorSpec):
            raise ValueError(f"Action {name!r} needs bounds. Received: {spec}")
        if spec.dtype != tf.float32:
            raise ValueError(f"Action {name!r} must be float32 or integer. Received: {spec.dtype.name}")
        low = np.broadcast_to(np.asarray(spec.minimum, np.float64), (size,))
        high = np.broadcast_to(np.asarray(spec.maximum, np.float64), (size,))
        span = high - low
        # A span that overflows in float32, or whose bins TensorFlow would take for zero, is no span.
        narrowest, widest = np.finfo(np.float32).tiny * self.vocab_size, np.finfo(np.float32).max
        if not np.all((np.abs(low) <= widest) & (np.abs(high) <= widest)):
            raise ValueError(
                f"Action {name!r} needs bounds that are finite in float32. "
                f"Received: minimum={low.tolist()}, maximum={high.tolist()}"
            )
        if not np.all((span >= narrowest) & (span <= widest)):
            raise ValueError(
                f"Action {name!r} needs bounds with minimum < maximum, whose distance float32 can hold. "
                f"Received: minimum={low.tolist()}, maximum={high.tolist()}"
            )
        # Float32 arithmetic on values as large as the bounds, in units of tokens.
        epsilon = float(np.finfo(np.float32).eps)
        largest = np.maximum(np.maximum(np.abs(low), np.abs(high)), span)
        margin = 4.0 * epsilon * (self.vocab_size - 1) * (largest / span + 1.0)
        if np.any(margin > 0.25):
            raise ValueError(
                f"The bounds of action {name!r} are too close together for {self.vocab_size} tokens in "
                f"float32. Received: minimum={low.tolist()}, maximum={high.tolist()}"
            )
        self._low[name] = low.astype(np.float32)
        self._high[name] = high.astype(np.float32)
        self._margin[name] = margin.astype(np.float32)
        return [name if size == 1 else f"{name}_{i}" for i in range(size)]

    @property
    def tokens_per_action(self) -> int:
        """How many tokens one action has."""
        return len(self.token_names)

    def tokenize(self, actions: Actions) -> tf.Tensor:
        """Actions to tokens.

        Args:
          actions: name -> [..., k], float or integer as in the spec.

        Returns:
          int32 [..., tokens_per_action].

        Raises:
          ValueError: an action is missing or of the wrong size.
        """
        tokens = []
        for name in self.action_order:
            if name not in actions:
                raise ValueError(f"Action {name!r} is missing. Received: {sorted(actions)}")
            spec, action = self.action_spec[name], tf.convert_to_tensor(actions[name])
            if not action.shape.rank or action.shape[-1] != spec.shape[0]:
                raise ValueError(
                    f"Action {name!r} must have the shape [..., {spec.shape[0]}]. Received: {action.shape}"
                )
            if spec.dtype.is_integer:
                tokens.append(tf.argmax(action, axis=-1, output_type=tf.int32)[..., None])
            else:
                low, high = self._low[name], self._high[name]
                fraction = (tf.clip_by_value(tf.cast(action, tf.float32), low, high) - low) / (high - low)
                scaled = fraction * (self.vocab_size - 1) + self._margin[name]
                tokens.append(tf.minimum(tf.cast(scaled, tf.int32), self.vocab_size - 1))
        return tf.concat(tokens, axis=-1)

    def detokenize(self, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        """Tokens to actions.

        Args:
          tokens: int32 [..., tokens_per_action] in [0, vocab_size).

        Returns:
          name -> [..., k] in the spec's type; integer actions are one-hot.
        """
        actions, start = {}, 0
        for name in self.action_order:
            spec = self.action_spec[name]
            if spec.dtype.is_integer:
                token, size = tokens[..., start], int(spec.shape[0])
                token = tf.where((token >= 0) & (token < size), token, tf.zeros_like(token))
                actions[name] = tf.one_hot(token, size, dtype=spec.dtype)
                start += 1
            else:
                size = int(spec.shape[0])
                low, high = self._low[name], self._high[name]
                part = tf.cast(tokens[..., start : start + size], tf.float32) / (self.vocab_size - 1)
                actions[name] = part * (high - low) + low
                start += size
        return actions

    def to_fractions(self, actions: Actions) -> tf.Tensor:
        """Actions to fractions of the way between their bounds, not clipped; all must be float.

        Args:
          actions: name -> [..., k].

        Returns:
          float32 [..., tokens_per_action].
        """
        return tf.concat(
            [
                (tf.cast(actions[name], tf.float32) - self._low[name]) / (self._high[name] - self._low[name])
                for name in self.action_order
            ],
            axis=-1,
        )

    def from_fractions(self, fractions: tf.Tensor) -> dict[str, tf.Tensor]:
        """The inverse of ``to_fractions``."""
        actions, start = {}, 0
        for name in self.action_order:
            size = int(self.action_spec[name].shape[0])
            low, high = self._low[name], self._high[name]
            actions[name] = fractions[..., start : start + size] * (high - low) + low
            start += size
        return actions
