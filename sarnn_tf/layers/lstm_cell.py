"""A long short-term memory cell with PyTorch's two biases (Hochreiter and Schmidhuber 1997)."""

from typing import NamedTuple

import tensorflow as tf

from sarnn_tf.layers.initializers import glorot_uniform, orthogonal


class LstmState(NamedTuple):
    """Output h and memory c, each [b, units]."""

    h: tf.Tensor
    c: tf.Tensor


class LstmCell(tf.keras.layers.Layer):
    """Gates in the order input, forget, candidate, output.

    The biases of input and recurrence are separate variables: only their sum matters to the output, but
    under Adam that sum moves twice as fast as a single bias would.
    """

    def __init__(self, inputs: int, units: int, seed: int | None = None, name: str | None = None) -> None:
        """Glorot for the input's weights, orthogonal for the recurrent ones, biases zero (EIPL)."""
        super().__init__(name=name)
        self.units = units
        weights = {
            "kernel": ([inputs, 4 * units], glorot_uniform(seed, "lstm/kernel")),
            "recurrent_kernel": ([units, 4 * units], orthogonal(seed, "lstm/recurrent_kernel")),
            "bias_input": ([4 * units], "zeros"),
            "bias_recurrent": ([4 * units], "zeros"),
        }
        for variable, (shape, initializer) in weights.items():
            setattr(self, variable, self.add_weight(variable, shape, initializer=initializer))

    def initial_state(self, batch: int | tf.Tensor) -> LstmState:
        """Zeros."""
        return LstmState(tf.zeros([batch, self.units]), tf.zeros([batch, self.units]))

    def call(self, x: tf.Tensor, state: LstmState | None = None) -> LstmState:
        """One step: x [b, inputs], the state of the step before (None: zeros) to the next state."""
        state = self.initial_state(tf.shape(x)[0]) if state is None else state
        return self._next(state, self._from_input(x))

    def unroll(self, x: tf.Tensor, state: LstmState | None = None) -> tuple[LstmState, LstmState]:
        """All steps of sequences whose inputs are known: what the input adds is one product for all.

        TensorFlow's fused BlockLSTMV2 agrees in the forward pass, but its gradient is off by some percent.

        Args:
          x: [b, t, inputs], t at least 1.
          state: before the first step; None for zeros.

        Returns:
          h and c of every step, [b, t, units] each, and the state after the last one.
        """
        state = self.initial_state(tf.shape(x)[0]) if state is None else state
        h, c = tf.scan(self._next, tf.transpose(self._from_input(x), [1, 0, 2]), state)
        last = LstmState(h[-1], c[-1])
        return LstmState(tf.transpose(h, [1, 0, 2]), tf.transpose(c, [1, 0, 2])), last

    def _from_input(self, x: tf.Tensor) -> tf.Tensor:
        """What the input adds to the gates: [..., inputs] to [..., 4 units]."""
        return tf.linalg.matmul(x, self.kernel) + (self.bias_input + self.bias_recurrent)

    def _next(self, state: LstmState, from_input: tf.Tensor) -> LstmState:
        """The next state, given what the input [b, 4 units] adds to the gates."""
        h, c = state
        write, keep, candidate, read = tf.split(from_input + h @ self.recurrent_kernel, 4, axis=-1)
        c = tf.sigmoid(keep) * c + tf.sigmoid(write) * tf.tanh(candidate)
        return LstmState(tf.sigmoid(read) * tf.tanh(c), c)
