import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from fake_policies import FakeArmPolicy, FakeFoodPolicy
from serving_testing import row

from serving.engine import Answer, Engine
from serving.errors import ApiError, ModelReplacedError
from serving.model import Model, make_model, warm_up


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """An engine over one policy, with threads that ask it."""

    def __init__(self, policy: FakeFoodPolicy | FakeArmPolicy, **options: object) -> None:
        self.policy = policy
        self.engine = Engine(**{"batch_sizes": (1, 2, 4), **options})
        self.model = make_model(policy)
        self.engine.swap(self.model)
        self.pool = ThreadPoolExecutor(32)

    def ask(self, asked: dict[str, np.ndarray], model: Model | None = None, **options: object) -> Answer:
        return self.engine.infer(model or self.model, asked, **{"timeout_s": 20.0, **options})

    def later(self, asked: dict[str, np.ndarray], **options: object) -> "Future[Answer]":
        """Asks from another thread; returns when the request is in the queue."""
        before = self.engine.queued
        future = self.pool.submit(self.ask, asked, **options)
        until(lambda: self.engine.queued > before or future.done())
        return future

    def block(self) -> "Future[Answer]":
        """Keeps the inference thread busy until ``policy.gate`` opens."""
        self.policy.gate.clear()
        self.policy.entered.clear()
        future = self.pool.submit(self.ask, row(text="blocker", size=9))
        assert self.policy.entered.wait(10)
        return future

    def close(self) -> None:
        self.policy.gate.set()
        self.engine.close(10)
        self.pool.shutdown()


def until(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.001)


@pytest.fixture
def food():
    bench = Bench(FakeFoodPolicy())
    yield bench
    bench.close()


@pytest.fixture
def arm():
    bench = Bench(FakeArmPolicy())
    yield bench
    bench.close()


def test_waiting_requests_share_padded_batches(food: Bench) -> None:
    blocker = food.block()
    waiting = [food.later(row(10 * i, text="x" * i)) for i in range(1, 8)]
    food.policy.gate.set()
    answers = [future.result(10) for future in waiting]
    assert [call["n"] for call in food.policy.calls] == [1, 4, 4]  # 4 + 3, the 3 padded to 4.
    assert [a.batch_size for a in answers] == [4, 4, 4, 4, 3, 3, 3]
    blocker.result(10)
    for i, answer in enumerate(answers, start=1):
        alone = food.ask(row(10 * i, text="x" * i))
        np.testing.assert_array_equal(answer.actions["bbox"], alone.actions["bbox"])


def test_a_silent_client_keeps_its_own_state_alone(arm: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """States hold whole images: those of a batch's other clients must not wait for it to expire."""
    of_batches: list[weakref.ref] = []
    infer = arm.policy.infer

    def watched(*arguments: object, **options: object) -> tuple:
        result, state = infer(*arguments, **options)
        of_batches.append(weakref.ref(state["window"]))
        return result, state

    monkeypatch.setattr(arm.policy, "infer", watched)
    arm.block()
    waiting = [arm.later(row(10 * i), client_id=f"arm-{i}") for i in range(4)]
    arm.policy.gate.set()
    assert [future.result(10).batch_size for future in waiting] == [4] * 4
    arm.ask(row(), client_id="arm-0")  # The thread has put the batch away.
    assert [ref() for ref in of_batches[:2]] == [None, None]
    assert arm.engine.clients == 4


def test_images_of_other_sizes_go_apart_and_in_order(food: Bench) -> None:
    food.block()
    sizes = (2, 3, 2, 3, 2)
    waiting = [food.later(row(size=size, text=f"{i}")) for i, size in enumerate(sizes)]
    food.policy.gate.set()
    for future in waiting:
        future.result(10)
    texts = [sorted(set(call["text"].tolist())) for call in food.policy.calls[1:]]
    assert texts == [["0", "2", "4"], ["1", "3"]]


def test_draws_are_alone_in_their_call(food: Bench) -> None:
    expected = food.ask(row(7), num_samples=5, seed=3).samples
    food.block()
    waiting = [food.later(row(7), num_samples=5, seed=3) for _ in range(2)]
    waiting += [food.later(row(i)) for i in range(3)]
    waiting.append(food.later(row(7), num_samples=5, seed=3))
    food.policy.gate.set()
    answers = [future.result(10) for future in waiting]
    for answer in (*answers[:2], answers[-1]):
        np.testing.assert_array_equal(answer.samples["bbox"], expected["bbox"])
    assert [(c["n"], c["num_samples"]) for c in food.policy.calls[2:]] == [(1, 5), (1, 5), (4, 0), (1, 5)]


def test_full_queue_is_refused_and_frees_up() -> None:
    bench = Bench(FakeFoodPolicy(), queue_size=2)
    try:
        bench.block()
        waiting = [bench.later(row(i)) for i in range(2)]
        with pytest.raises(ApiError) as caught:
            bench.ask(row())
        assert (caught.value.status, caught.value.code) == (503, "queue_full")
        assert caught.value.retry_after_s
        bench.policy.gate.set()
        for future in waiting:
            future.result(10)
        bench.ask(row())
    finally:
        bench.close()


def test_deadline_drops_queued_work(food: Bench) -> None:
    blocker = food.block()
    with pytest.raises(ApiError) as caught:
        food.ask(row(text="late"), timeout_s=0.05)
    assert (caught.value.status, caught.value.code) == (504, "deadline_exceeded")
    assert food.engine.queued == 0
    food.policy.gate.set()
    blocker.result(10)
    food.ask(row(text="next"))
    assert [c["text"][0] for c in food.policy.calls] == ["blocker", "next"]


def test_begun_work_is_waited_for(arm: Bench) -> None:
    arm.policy.gate.clear()
    arm.policy.entered.clear()
    future = arm.pool.submit(arm.ask, row(5), timeout_s=0.2, client_id="a")
    assert arm.policy.entered.wait(10)
    time.sleep(0.4)
    assert not future.done()
    arm.policy.gate.set()
    assert future.result(10).step == 1


def test_steps_of_one_client_keep_their_order(arm: Bench) -> None:
    arm.block()
    waiting = [arm.later(row(50 * i), client_id="a") for i in range(4)]
    waiting.append(arm.later(row(50), client_id="b"))
    arm.policy.gate.set()
    answers = [future.result(10) for future in waiting]
    assert [a.step for a in answers] == [1, 2, 3, 4, 1]
    assert [a.session for a in answers] == ["new", "continued", "continued", "continued", "new"]
    seen = answers[3].actions["world_vector"] - answers[4].actions["world_vector"]
    np.testing.assert_allclose(seen, (np.array([50, 100, 150]) - [0, 0, 50]) / 510, atol=1e-6)
    # b did not have to wait for a's second step.
    assert [c["n"] for c in arm.policy.calls] == [1, 2, 1, 1, 1]


def test_a_step_never_overtakes_an_earlier_one_of_its_client(arm: Bench) -> None:
    arm.block()
    waiting = [
        arm.later(row(10), client_id="b"),
        arm.later(row(20, size=3), client_id="a"),  # Cannot share b's call, so a's next must not either.
        arm.later(row(30), client_id="a"),
        arm.later(row(40), client_id="c"),
        arm.later(row(50), client_id="c"),
    ]
    arm.policy.gate.set()
    answers = [future.result(10) for future in waiting]
    assert [a.step for a in answers] == [1, 1, 2, 1, 2]
    frames = np.diff(answers[2].actions["world_vector"]) * 510  # a saw 0, 20, 30.
    np.testing.assert_allclose(frames, [20, 10], atol=1e-3)
    assert [c["n"] for c in arm.policy.calls] == [1, 2, 1, 2]


def test_reset_takes_effect_between_queued_steps(arm: Bench) -> None:
    arm.block()
    before = arm.later(row(1), client_id="a")
    assert arm.engine.reset("a") is True
    after = arm.later(row(1), client_id="a")
    again = arm.later(row(1), client_id="a", reset=True)
    arm.policy.gate.set()
    answers = [f.result(10) for f in (before, after, again)]
    assert [(a.step, a.session) for a in answers] == [(1, "new"), (1, "reset"), (1, "reset")]
    assert arm.engine.reset("nobody") is False


def test_no_client_id_leaves_nothing(arm: Bench) -> None:
    first, second = arm.ask(row(200)), arm.ask(row(200))
    np.testing.assert_array_equal(first.actions["world_vector"], second.actions["world_vector"])
    assert (second.step, second.session, arm.engine.clients) == (1, None, 0)


def test_sessions_expire_and_are_bounded() -> None:
    clock = Clock()
    bench = Bench(FakeArmPolicy(), max_clients=2, client_ttl_s=60, clock=clock)
    try:
        bench.ask(row(), client_id="a")
        clock.now += 50
        bench.ask(row(), client_id="b")
        with pytest.raises(ApiError) as caught:
            bench.ask(row(), client_id="c")
        assert (caught.value.status, caught.value.code) == (429, "too_many_clients")
        clock.now += 11  # a is 61 s old, b is 11 s old.
        assert bench.engine.clients == 1
        assert bench.ask(row(), client_id="c").session == "new"
        assert bench.ask(row(), client_id="b").step == 2
        clock.now += 61
        answer = bench.ask(row(), client_id="a")
        assert (answer.step, answer.session) == (1, "expired")
    finally:
        bench.close()


def test_a_waiting_session_does_not_expire() -> None:
    clock = Clock()
    bench = Bench(FakeArmPolicy(), client_ttl_s=60, clock=clock)
    try:
        bench.ask(row(), client_id="a")
        bench.block()
        waiting = bench.later(row(), client_id="a")
        clock.now += 100
        assert bench.engine.clients == 1
        bench.policy.gate.set()
        assert waiting.result(10).step == 2
        clock.now += 50  # Its time to live began anew with the answer.
        assert bench.ask(row(), client_id="a").step == 3
    finally:
        bench.close()


def test_swap_ends_sessions_and_says_so(arm: Bench) -> None:
    arm.ask(row(), client_id="a")
    arm.block()
    waiting = arm.later(row(), client_id="a")
    other = make_model(FakeArmPolicy(shift=0.25))
    arm.engine.swap(other)
    with pytest.raises(ModelReplacedError):
        arm.ask(row())
    arm.policy.gate.set()
    # It was queued for the old model, whose state it uses.
    assert (waiting.result(10).step, waiting.result(10).session) == (2, "continued")
    answer = arm.ask(row(), other, client_id="a")
    assert (answer.step, answer.session) == (1, "model_changed")
    assert arm.ask(row(), other, client_id="b").session == "new"


def test_one_bad_request_does_not_fail_its_batch(arm: Bench) -> None:
    arm.ask(row(1), client_id="b")
    arm.block()
    bad = ValueError("natural_language_instruction must be known. Received: bad")
    arm.policy.fail = lambda o: bad if "bad" in o["natural_language_instruction"] else None
    waiting = [
        arm.later(row(1), client_id="a"),
        arm.later(row(1, text="bad"), client_id="b"),
        arm.later(row(1), client_id="c"),
    ]
    arm.policy.gate.set()
    assert waiting[0].result(10).step == waiting[2].result(10).step == 1
    with pytest.raises(ValueError, match="Received: bad"):
        waiting[1].result(10)
    assert arm.ask(row(1), client_id="b").step == 2  # The failed step left the state alone.
    assert arm.ask(row(1), client_id="a").step == 2  # And the others' were moved on once.


@pytest.mark.parametrize("shift", [np.nan, np.inf])
def test_answers_that_are_not_finite_never_leave(shift: float) -> None:
    bench = Bench(FakeFoodPolicy(shift=shift))
    try:
        with pytest.raises(RuntimeError, match="finite"):
            bench.ask(row())
        with pytest.raises(RuntimeError, match="finite"):
            warm_up(bench.model, (1,), 0)
    finally:
        bench.close()


def test_close_finishes_the_queue_and_refuses_more(food: Bench) -> None:
    food.block()
    waiting = [food.later(row(i)) for i in range(3)]
    closing = threading.Thread(target=food.engine.close, args=(10,))
    closing.start()
    until(lambda: food.engine.closing)
    with pytest.raises(ApiError) as caught:
        food.ask(row())
    assert caught.value.code == "shutting_down"
    food.policy.gate.set()
    assert [future.result(10).batch_size for future in waiting] == [3, 3, 3]
    closing.join(10)
    assert not closing.is_alive()


def test_warm_up_runs_every_batch_size_and_the_draws() -> None:
    policy = FakeFoodPolicy()
    warm_up(make_model(policy), (1, 2, 4), 16)
    assert [(c["n"], c["num_samples"]) for c in policy.calls] == [(1, 0), (2, 0), (4, 0), (1, 16)]


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="Received: <class 'int'>"):
        make_model(3)  # type: ignore[arg-type]
