"""EIPL's smallest networks: a recurrent cell and a linear layer that predict joints."""

from collections.abc import Callable

import tensorflow as tf

from sarnn_tf.layers.initializers import dense
from sarnn_tf.layers.lstm_cell import LstmCell, LstmState
from sarnn_tf.layers.mtrnn_cell import MtrnnCell, MtrnnState


class BasicLstm(tf.keras.layers.Layer):
    """An LSTM cell and an output layer."""

    def __init__(
        self,
        inputs: int,
        units: int,
        outputs: int,
        *,
        activation: Callable[[tf.Tensor], tf.Tensor] = tf.tanh,
        seed: int | None = None,
    ) -> None:
        """``activation`` is the output's."""
        super().__init__()
        self._activation = activation
        self.rnn = LstmCell(inputs, units, seed)
        self.rnn_out = dense(units, outputs, seed, "rnn_out")

    def call(self, x: tf.Tensor, state: LstmState | None = None) -> tuple[tf.Tensor, LstmState]:
        """x [b, inputs] to the prediction [b, outputs] and the next state."""
        state = self.rnn(x, state)
        return self._activation(self.rnn_out(state.h)), state


class BasicMtrnn(tf.keras.layers.Layer):
    """A multiple-timescale cell and an output layer on its fast units."""

    def __init__(
        self,
        inputs: int,
        fast: int,
        slow: int,
        fast_tau: float,
        slow_tau: float,
        outputs: int,
        *,
        activation: Callable[[tf.Tensor], tf.Tensor] = tf.tanh,
        seed: int | None = None,
    ) -> None:
        """``activation`` is the cell's and the output's."""
        super().__init__()
        self._activation = activation
        self.mtrnn = MtrnnCell(inputs, fast, slow, fast_tau, slow_tau, activation=activation, seed=seed)
        self.rnn_out = dense(fast, outputs, seed, "rnn_out")

    def call(self, x: tf.Tensor, state: MtrnnState | None = None) -> tuple[tf.Tensor, MtrnnState]:
        """x [b, inputs] to the prediction [b, outputs] and the next state."""
        state = self.mtrnn(x, state)
        return self._activation(self.rnn_out(state.h_fast)), state
