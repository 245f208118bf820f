"""Motion generation at a fixed rate: sense, ask the policy, act.

::

    policy = load_policy("log/clip_run1")
    report = run_at_rate(policy, sense=read_robot, act=send_joints, rate_hz=10, send_hz=50)

Steps lie on a grid that begins with the first one, so that they do not drift. A step whose answer is not
there when the next one is due is late: it is counted and logged. Steps that it ran over are left out, never
caught up with in a burst.
"""

import concurrent.futures
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from absl import logging

from core.policy import Policy, PolicyResult, Session
from sarnn_tf.description import JOINTS
from sarnn_tf.motion.targets import MAX_JUMP, JumpGuard, LinearInterpolation

Observation = Mapping[str, Any]

# Recorded rates are measured ones: 9.98 Hz is meant to be 10.
_RATE_TOLERANCE = 0.05


class StaleTargetError(RuntimeError):
    """No new target came for too long."""


class Stepper(Protocol):
    """A ``core.policy.Session``, or whatever answers like one."""

    def step(self, observation: Observation) -> PolicyResult: ...


@dataclasses.dataclass
class RunReport:
    """How a run kept its time.

    Attributes:
      steps: how many were answered.
      late: how many of them were answered after the next one was due.
      skipped: how many were left out because there was no time for them.
      slowest_s: the longest time from when a step was due to its answer.
      skipped_sends: how many times of sending an interpolated target were left out.
    """

    steps: int = 0
    late: int = 0
    skipped: int = 0
    slowest_s: float = 0.0
    skipped_sends: int = 0


def run_at_rate(
    policy: Policy | Stepper,
    sense: Callable[[], Observation],
    act: Callable[[np.ndarray], None],
    rate_hz: float,
    *,
    steps: int | None = None,
    stop: Callable[[], bool] | None = None,
    send_hz: float | None = None,
    max_jump: float | Sequence[float] = MAX_JUMP,
    max_age_s: float | None = None,
    on_step: Callable[[Observation, PolicyResult], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    executor: concurrent.futures.Executor | None = None,
) -> RunReport:
    """Moves a robot as the policy says, until ``steps``, ``stop`` or an exception.

    With ``send_hz`` the robot is sensed and the policy asked on a second thread. ``act`` then gets, more
    often than there are steps, points of a straight way to the last target, which is reached one step later.

    Args:
      policy: begins a new episode; it is asked once beforehand, without effect, so that it is compiled. Or a
        session, which goes on with its own episode and is not asked beforehand.
      sense: the observation, without a batch axis; with ``joint_positions`` [P] rad.
      act: sends joints, float32 [P] rad. Never called again after an exception.
      rate_hz: steps a second; the model expects ``spec.control_hz``, and another rate is warned of.
      steps: how many to answer; None for no limit.
      stop: asked before every step; the target of the step before is still reached.
      send_hz: how often to act with interpolated targets, a multiple of ``rate_hz`` (EIPL: 50 for 10); None
        for each target once, as it is.
      max_jump: how far a target may be from the last one and from the joints, in rad, for all joints or for
        each; infinity for what is no angle, such as a gripper's 0 to 1.
      max_age_s: with ``send_hz``, how long to hold a target when no new one comes; None for two periods.
      on_step: told what was seen and answered, on the thread of ``act``.
      clock, sleep: seconds.
      executor: with ``send_hz``, where the policy is asked; None for a thread of its own.

    Raises:
      ValueError: an argument is out of range, or there are no joints in what ``sense`` gives.
      JumpError: the policy's target is too far away or no number; it was not sent.
      StaleTargetError: the policy is too slow.
      Exception: what ``sense``, the policy or ``act`` raised. A note says how the run went till then.
    """
    if not rate_hz > 0 or (steps is not None and steps < 0):
        raise ValueError(
            f"rate_hz must be > 0 and steps not negative. Received: rate_hz={rate_hz}, steps={steps}"
        )
    ratio = 1.0 if send_hz is None else send_hz / rate_hz
    if round(ratio) < 1 or not math.isclose(ratio, round(ratio), rel_tol=1e-9):
        raise ValueError(f"send_hz must be a multiple of rate_hz {rate_hz}. Received: {send_hz}")
    guard = JumpGuard(max_jump)
    session: Stepper
    if isinstance(policy, Policy):
        _check_rate(policy.spec.control_hz, rate_hz)
        Session(policy).step(sense())
        session = Session(policy)
    else:
        session = policy
    run = _Run(session, sense, act, guard, on_step, steps, stop, clock, sleep)
    try:
        if send_hz is None:
            run.direct(rate_hz)
        else:
            age_s = 2 / rate_hz if max_age_s is None else max_age_s
            own = executor or concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="policy")
            try:
                run.interpolated(rate_hz, send_hz, age_s, own)
            finally:
                if executor is None:
                    # Without waiting: a policy that hangs must not keep the caller from stopping the robot.
                    own.shutdown(wait=False, cancel_futures=True)
    except BaseException as error:
        error.add_note(f"The run until then: {run.report}")
        raise
    return run.report


def _check_rate(trained_hz: float | None, rate_hz: float) -> None:
    if trained_hz and not math.isclose(rate_hz, trained_hz, rel_tol=_RATE_TOLERANCE):
        logging.warning(
            "A step of the policy's training took 1/%g s: at another rate it moves faster or slower, and its "
            "memory fits less well. Received: rate_hz=%g",
            trained_hz,
            rate_hz,
        )


class _Grid:
    """Times at a fixed rate: the k-th is due ``k / rate_hz`` after the start."""

    def __init__(
        self, rate_hz: float, clock: Callable[[], float], sleep: Callable[[float], None], start: float
    ) -> None:
        self._rate_hz, self._clock, self._sleep, self._start = rate_hz, clock, sleep, start
        self._index = 0

    @property
    def due(self) -> float:
        return self._start + self._index / self._rate_hz

    @property
    def next_due(self) -> float:
        return self._start + (self._index + 1) / self._rate_hz

    def wait(self) -> None:
        while (left := self.due - self._clock()) > 0:
            self._sleep(left)

    def advance(self) -> int:
        """Goes on to the next time, or to the last that has passed; how many are left out between."""
        passed = math.floor((self._clock() - self._start) * self._rate_hz)
        skipped = max(0, passed - (self._index + 1))
        self._index += 1 + skipped
        return skipped


class _Answer(NamedTuple):
    observation: Observation
    result: PolicyResult
    answered_at: float


@dataclasses.dataclass
class _Run:
    """A run and what it calls."""

    session: Stepper
    sense: Callable[[], Observation]
    act: Callable[[np.ndarray], None]
    guard: JumpGuard
    on_step: Callable[[Observation, PolicyResult], None] | None
    steps: int | None
    stop: Callable[[], bool] | None
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    report: RunReport = dataclasses.field(default_factory=RunReport)

    def direct(self, rate_hz: float) -> None:
        grid = _Grid(rate_hz, self.clock, self.sleep, self.clock())
        while not self._done():
            grid.wait()
            self.act(self._accept(self._ask()))
            self._count(grid, self.clock())

    def interpolated(
        self, rate_hz: float, send_hz: float, max_age_s: float, executor: concurrent.futures.Executor
    ) -> None:
        set_at = self.clock()
        grid, sends = (_Grid(hz, self.clock, self.sleep, set_at) for hz in (rate_hz, send_hz))
        way: LinearInterpolation | None = None
        asked: concurrent.futures.Future[_Answer] | None = None
        finished = False
        while True:
            sends.wait()
            if asked is not None and asked.done():
                answer, asked = asked.result(), None
                target, set_at = self._accept(answer), self.clock()
                way = way or LinearInterpolation(answer.observation[JOINTS], 1 / rate_hz)
                way.aim(target, set_at)
                self._count(grid, answer.answered_at)
            if asked is None and not finished and self.clock() >= grid.due:
                finished = self._done()
                asked = None if finished else executor.submit(self._ask)
            age_s = self.clock() - set_at
            if asked is not None and not asked.done() and age_s > max_age_s:
                raise StaleTargetError(
                    f"A target must come within {max_age_s:g} s. Received: none for {age_s:.3f} s"
                )
            if way is not None:
                self.act(way.position(self.clock()))
            if finished and (way is None or age_s >= 1 / rate_hz):
                return
            self.report.skipped_sends += sends.advance()

    def _done(self) -> bool:
        enough = self.steps is not None and self.report.steps >= self.steps
        return enough or (self.stop is not None and self.stop())

    def _ask(self) -> _Answer:
        observation = self.sense()
        if JOINTS not in observation:
            raise ValueError(f"sense must give {JOINTS}. Received: {sorted(observation)}")
        return _Answer(observation, self.session.step(observation), self.clock())

    def _accept(self, answer: _Answer) -> np.ndarray:
        target = np.asarray(answer.result.actions[JOINTS], np.float32)
        self.guard.check(target, answer.observation[JOINTS])
        if self.on_step is not None:
            self.on_step(answer.observation, answer.result)
        return target

    def _count(self, grid: _Grid, answered_at: float) -> None:
        """Takes down a step that is answered, and goes on to the next."""
        report = self.report
        report.steps += 1
        report.slowest_s = max(report.slowest_s, answered_at - grid.due)
        late_s = answered_at - grid.next_due
        skipped = grid.advance()
        report.late += late_s > 0
        report.skipped += skipped
        if late_s > 0 or skipped:
            logging.warning(
                "Step %d was %.0f ms too late; %d steps are left out.",
                report.steps,
                max(0.0, 1000 * late_s),
                skipped,
            )
