"""Runs at a fixed rate, by a clock that the tests turn: no drift, nothing late unseen, no jump, no send after
an error."""

import concurrent.futures
import functools
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.policy import PolicyResult
from sarnn_tf.description import JOINTS
from sarnn_tf.motion.gripper import gripper_closed
from sarnn_tf.motion.real_time import RunReport, StaleTargetError, run_at_rate
from sarnn_tf.motion.targets import JumpError, JumpGuard, LinearInterpolation
from sarnn_tf.serving_policy import SarnnPolicy
from tests.sarnn_tf.sarnn_policies import frames, make_policy


@functools.cache
def one_policy() -> SarnnPolicy:
    return make_policy("sarnn")


class Clock:
    """Seconds that pass only when someone sleeps or computes."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


class AtOnce(concurrent.futures.Executor):
    """Computes where it is asked."""

    def submit(self, call: Callable, /, *arguments: Any, **options: Any) -> concurrent.futures.Future:
        future: concurrent.futures.Future = concurrent.futures.Future()
        try:
            future.set_result(call(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


class Later(AtOnce):
    """The answer is there ``seconds`` after it was asked for."""

    def __init__(self, clock: Clock, seconds: list[float]) -> None:
        self._clock, self._seconds = clock, seconds

    def submit(self, call: Callable, /, *arguments: Any, **options: Any) -> concurrent.futures.Future:
        future = super().submit(call, *arguments, **options)
        ready = self._clock.now + self._seconds.pop(0)
        if future.exception() is None:
            future._result = future.result()._replace(answered_at=ready)
        future.done = lambda: self._clock.now >= ready  # type: ignore[method-assign]
        return future


class Robot:
    """A robot that is where it was sent, and a policy that asks it to move by ``by`` rad a step."""

    def __init__(self, clock: Clock, by: float = 0.1, takes: list[float] | float = 0.03) -> None:
        self.clock, self.by, self.takes = clock, by, takes
        self.joints = np.zeros(2, np.float32)
        self.asked: list[float] = []
        self.sent: list[tuple[float, float]] = []
        self.fail_at: int | None = None

    def sense(self) -> dict[str, Any]:
        return {JOINTS: self.joints}

    def step(self, observation: Any) -> PolicyResult:
        self.asked.append(round(self.clock.now - 1000, 6))
        if len(self.asked) == self.fail_at:
            raise RuntimeError("the camera is gone")
        takes = self.takes.pop(0) if isinstance(self.takes, list) else self.takes
        self.clock.now += takes
        return PolicyResult({JOINTS: observation[JOINTS] + np.float32(self.by)})

    def act(self, target: np.ndarray) -> None:
        assert target.dtype == np.float32 and target.shape == (2,)
        self.joints = target
        self.sent.append((round(self.clock.now - 1000, 6), round(float(target[0]), 6)))

    def run(self, rate_hz: float = 10.0, **options: Any) -> RunReport:
        return run_at_rate(
            self, self.sense, self.act, rate_hz, clock=self.clock, sleep=self.clock.sleep, **options
        )


def test_steps_do_not_drift() -> None:
    robot = Robot(Clock(), by=0.0)
    report = robot.run(rate_hz=30.0, steps=900)
    np.testing.assert_allclose(robot.asked, np.arange(900) / 30, atol=1e-5)
    assert (report.steps, report.late, report.skipped) == (900, 0, 0)
    assert report.slowest_s == pytest.approx(0.03, abs=1e-9)


def test_each_target_is_sent_once_when_it_is_there() -> None:
    robot = Robot(Clock())
    robot.run(steps=3)
    assert robot.sent == [(0.03, 0.1), (0.13, 0.2), (0.23, 0.3)]


def test_late_steps_are_counted_and_left_out_not_caught_up(caplog: pytest.LogCaptureFixture) -> None:
    robot = Robot(Clock(), takes=[0.03, 0.12, 0.03, 0.25, 0.03, 0.03])
    report = robot.run(steps=6)
    # Step 1 runs into slot 2, which begins at once; step 3 runs over slot 4 and into 5.
    assert robot.asked == [0.0, 0.1, 0.22, 0.3, 0.55, 0.6]
    assert (report.steps, report.late, report.skipped) == (6, 2, 1)
    assert report.slowest_s == pytest.approx(0.25)
    logged = [r.getMessage() for r in caplog.records if "too late" in r.getMessage()]
    assert logged == [
        "Step 2 was 20 ms too late; 0 steps are left out.",
        "Step 4 was 150 ms too late; 1 steps are left out.",
    ]


def test_exceptions_stop_the_run_with_a_note() -> None:
    robot = Robot(Clock())
    robot.fail_at = 3
    for options in ({}, {"send_hz": 50.0, "executor": AtOnce()}):
        with pytest.raises(RuntimeError, match="the camera is gone") as caught:
            robot.run(steps=9, **options)
        assert "steps=2" in caught.value.__notes__[0]
        last = len(robot.sent)
        assert robot.clock.now - 1000 <= robot.asked[-1] + 0.2
        robot.asked.clear()
    assert len(robot.sent) == last


def test_stop_is_asked_before_every_step() -> None:
    robot = Robot(Clock())
    assert robot.run(stop=lambda: len(robot.asked) == 4).steps == 4
    assert len(robot.sent) == 4
    assert robot.run(steps=0).steps == 0


@pytest.mark.parametrize("options", [{}, {"send_hz": 50.0, "executor": AtOnce()}])
def test_jumps_are_not_sent(options: dict[str, Any]) -> None:
    robot = Robot(Clock(), by=math.radians(50.5))
    with pytest.raises(JumpError, match=r"Joint 0 must move by no more than 50\.0 degrees.*50\.5"):
        robot.run(**options)
    assert robot.sent == []
    robot = Robot(Clock(), by=math.radians(49.5))
    assert robot.run(steps=2, **options).steps == 2
    assert robot.sent[-1][1] > math.radians(49.5)
    robot = Robot(Clock(), by=math.nan)
    with pytest.raises(JumpError, match="finite"):
        robot.run(**options)
    assert robot.sent == []


def test_the_limit_holds_against_the_joints_and_the_last_target() -> None:
    guard = JumpGuard([0.5, math.inf])
    guard.check(np.array([0.4, 9.0]), np.zeros(2))
    with pytest.raises(JumpError, match="from the last target"):
        guard.check(np.array([1.0, 0.0]), np.array([0.9, 0.0]))
    with pytest.raises(JumpError, match="from the joints"):
        guard.check(np.array([0.8, 0.0]), np.array([0.0, 0.0]))
    with pytest.raises(JumpError, match="from the joints"):
        guard.check(np.array([0.4, 0.0]), np.array([np.nan, 0.0]))
    with pytest.raises(ValueError, match="target and measured"):
        guard.check(np.array([0.4]), np.zeros(2))
    guard.check(np.array([0.8, -9.0]), np.array([0.4, 0.0]))  # What was refused was not remembered.
    with pytest.raises(ValueError, match="max_jump must be > 0"):
        JumpGuard(0.0)


def test_interpolated_targets() -> None:
    robot = Robot(Clock(), takes=0.0)
    robot.joints = np.full(2, 0.5, np.float32)
    start = robot.joints
    targets = iter((0.6, 0.4, 0.4))
    robot.step = lambda observation: PolicyResult({JOINTS: np.full(2, next(targets), np.float32)})  # type: ignore[method-assign]
    robot.sense = lambda: {JOINTS: start}  # type: ignore[method-assign]
    report = robot.run(steps=3, send_hz=50.0, executor=AtOnce())
    # The answer of a step is taken up at the next time of sending.
    times, values = zip(*robot.sent, strict=True)
    np.testing.assert_allclose(times, np.arange(1, 17) / 50, atol=1e-6)
    up, down = np.linspace(0.5, 0.6, 6), np.linspace(0.6, 0.4, 6)
    np.testing.assert_allclose(values, [*up[:5], *down[:5], *[0.4] * 6], atol=1e-6)
    assert report == RunReport(steps=3, slowest_s=report.slowest_s)


def test_sending_goes_on_while_the_policy_thinks() -> None:
    clock = Clock()
    robot = Robot(clock, takes=0.0)
    report = robot.run(steps=3, send_hz=50.0, executor=Later(clock, [0.05, 0.13, 0.05]), max_age_s=0.3)
    times = [t for t, _ in robot.sent]
    np.testing.assert_allclose(np.diff(times), 0.02, atol=1e-6)
    assert times[0] == pytest.approx(0.06)
    # Asked at 0, 0.1; late at 0.23, so the third is asked with the answer's pick-up at 0.24.
    assert robot.asked == [0.0, 0.1, 0.24]
    assert (report.late, report.skipped, report.skipped_sends) == (1, 0, 0)
    assert report.slowest_s == pytest.approx(0.13)


def test_an_answer_just_in_time_is_not_late() -> None:
    clock = Clock()
    robot = Robot(clock, takes=0.0)
    report = robot.run(steps=4, send_hz=50.0, executor=Later(clock, [0.099] * 4))
    assert robot.asked == [0.0, 0.1, 0.2, 0.3]
    assert (report.late, report.skipped) == (0, 0)


def test_a_policy_that_hangs_stops_the_robot() -> None:
    clock = Clock()
    robot = Robot(clock, takes=0.0)
    with pytest.raises(StaleTargetError, match=r"within 0\.2 s"):
        robot.run(send_hz=50.0, executor=Later(clock, [0.05, 99.0]))
    # The target of 0.06 is reached at 0.16 and held until it is too old.
    assert {value for t, value in robot.sent if t >= 0.16} == {0.1}
    assert robot.sent[-1][0] == pytest.approx(0.25, abs=0.011)


def test_slow_sends_are_counted() -> None:
    robot = Robot(Clock(), takes=0.0)
    act = robot.act

    def slow(target: np.ndarray) -> None:
        act(target)
        robot.clock.now += 0.05

    report = run_at_rate(
        robot,
        robot.sense,
        slow,
        10.0,
        send_hz=50.0,
        steps=2,
        clock=robot.clock,
        sleep=robot.clock.sleep,
        executor=AtOnce(),
    )
    assert report.skipped_sends > 0
    assert (report.steps, report.late) == (2, 0)


def test_a_policy_is_compiled_before_the_clock_starts_and_asked_on_its_own_thread() -> None:
    policy = make_policy("sarnn")
    seen = frames(policy.description, 1)
    observation = {name: value[0] for name, value in seen.items()}
    threads: set[int] = set()
    counts: list[int] = []
    steps: list[int] = []

    def sense() -> dict[str, np.ndarray]:
        threads.add(threading.get_ident())
        counts.append(policy.programs)
        return observation

    report = run_at_rate(
        policy,
        sense,
        lambda target: None,
        50.0,
        steps=3,
        send_hz=100.0,
        max_jump=math.inf,
        max_age_s=60.0,
        on_step=lambda seen, result: steps.append(int(result.info["step"])),
    )
    assert report.steps == 3
    assert steps == [1, 2, 3]  # The step beforehand left no trace.
    assert counts == [0, 1, 1, 1]
    assert len(threads) == 2


@pytest.mark.parametrize(("rate_hz", "warned"), [(10.0, False), (9.9, False), (5.0, True), (20.0, True)])
def test_another_rate_than_the_trainings_is_warned_of(
    rate_hz: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    policy, clock = one_policy(), Clock()
    observation = {name: value[0] for name, value in frames(policy.description, 1).items()}
    run_at_rate(policy, lambda: observation, lambda _: None, rate_hz, steps=0, clock=clock, sleep=clock.sleep)
    assert ("took 1/10 s" in caplog.text) == warned


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_hz": 0.0},
        {"rate_hz": -1.0},
        {"rate_hz": math.nan},
        {"steps": -1},
        {"send_hz": 25.0},
        {"send_hz": 5.0},
    ],
)
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Received"):
        Robot(Clock()).run(**wrong)


def test_joints_must_be_sensed() -> None:
    robot = Robot(Clock())
    robot.sense = lambda: {"image": 1}  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"joint_positions.*\['image'\]"):
        robot.run(steps=1)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 0.3)), min_size=1, max_size=8), st.floats(0.01, 1))
def test_the_way_is_continuous_and_arrives(aims: list[tuple[float, float]], period_s: float) -> None:
    way, now = LinearInterpolation(np.zeros(1), period_s), 5.0
    for target, wait in aims:
        before = way.position(now)
        way.aim(np.array([target]), now)
        np.testing.assert_allclose(way.position(now), before, atol=1e-6)
        np.testing.assert_allclose(way.position(now + period_s / 2), (before + target) / 2, atol=1e-5)
        np.testing.assert_allclose(way.position(now + period_s * 1.001), target, atol=1e-6)
        np.testing.assert_allclose(way.position(now + 99), target, atol=1e-6)
        now += wait


def test_gripper_with_hysteresis() -> None:
    closed = np.zeros(4, bool)
    history = []
    for value in (0.2, 0.5, 0.7, 0.71, 0.5, 0.3, 0.29, 0.5):
        closed = gripper_closed(np.full(4, value), closed)
        history.append(bool(closed[0]))
    assert history == [False, False, False, True, True, True, False, False]
    with pytest.raises(ValueError, match="open_below"):
        gripper_closed(0.5, False, close_above=0.3, open_below=0.7)
    with pytest.raises(ValueError, match="finite"):
        gripper_closed(math.nan, True)
