"""Multiple-timescale RNN: fast units and slow units that hold each other (Yamashita and Tani 2008)."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from sarnn_tf.layers.initializers import dense


class MtrnnState(NamedTuple):
    """Activations h and potentials u of the fast [b, fast] and the slow units [b, slow]."""

    h_fast: tf.Tensor
    h_slow: tf.Tensor
    u_fast: tf.Tensor
    u_slow: tf.Tensor


class MtrnnCell(tf.keras.layers.Layer):
    """Leaky integrators with two time constants; only the fast units see the input."""

    def __init__(
        self,
        inputs: int,
        fast: int,
        slow: int,
        fast_tau: float,
        slow_tau: float,
        *,
        activation: Callable[[tf.Tensor], tf.Tensor] = tf.tanh,
        use_bias: bool = False,
        rectify_potential: bool = False,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        """Makes the variables.

        Args:
          inputs, fast, slow: sizes.
          fast_tau, slow_tau: time constants in steps, at least 1.
          activation: of both kinds of units.
          use_bias: of input, fast to slow and slow to fast; the others have none.
          rectify_potential: the activation is also what is carried on as potential. So it came out in EIPL
            for its ReLUs, which work in place; with tanh EIPL carries the potential.
          seed: of the weights.

        Raises:
          ValueError: a time constant below 1.
        """
        super().__init__(name=name)
        if fast_tau < 1 or slow_tau < 1:
            raise ValueError(f"fast_tau and slow_tau must be >= 1. Received: {fast_tau}, {slow_tau}")
        self._sizes = (fast, slow)
        self._rates = (1.0 / fast_tau, 1.0 / slow_tau)
        self._activation, self._rectify_potential = activation, rectify_potential
        self.i2f = dense(inputs, fast, seed, "i2f", use_bias=use_bias)
        self.f2f = dense(fast, fast, seed, "f2f", use_bias=False)
        self.f2s = dense(fast, slow, seed, "f2s", use_bias=use_bias)
        self.s2s = dense(slow, slow, seed, "s2s", use_bias=False)
        self.s2f = dense(slow, fast, seed, "s2f", use_bias=use_bias)

    def initial_state(self, batch: int | tf.Tensor) -> MtrnnState:
        """Zeros."""
        fast, slow = (tf.zeros([batch, size]) for size in self._sizes)
        return MtrnnState(fast, slow, fast, slow)

    def call(
        self, x: tf.Tensor, state: MtrnnState | None = None, bias: tf.Tensor | None = None
    ) -> MtrnnState:
        """One step.

        Args:
          x: [b, inputs].
          state: of the step before; None for zeros.
          bias: the parametric bias [b, slow], added to what drives the slow units.

        Returns:
          The next state; ``h_fast`` is the output.
        """
        old = self.initial_state(tf.shape(x)[0]) if state is None else state
        fast_rate, slow_rate = self._rates
        to_fast = self.i2f(x) + self.f2f(old.h_fast) + self.s2f(old.h_slow)
        to_slow = self.f2s(old.h_fast) + self.s2s(old.h_slow)
        if bias is not None:
            to_slow += bias
        u_fast = (1.0 - fast_rate) * old.u_fast + fast_rate * to_fast
        u_slow = (1.0 - slow_rate) * old.u_slow + slow_rate * to_slow
        h_fast, h_slow = self._activation(u_fast), self._activation(u_slow)
        if self._rectify_potential:
            u_fast, u_slow = h_fast, h_slow
        return MtrnnState(h_fast, h_slow, u_fast, u_slow)
