"""Many threads at once get the answers that one thread gets."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_policies import FakeArmPolicy, FakeFoodPolicy, write_checkpoint
from serving_testing import apple, banana, picture, serving

from core import food
from serving.model import make_model
from serving.settings import Settings

THREADS = 10
VOLATILE = ("request_id", "latency_ms")


def _mixed_food(count: int) -> list[tuple[str, dict[str, Any]]]:
    draw = random.Random(0)
    requests = []
    for i in range(count):
        size = draw.choice(((4, 4), (6, 4)))
        asked = {
            "image": picture((draw.randrange(256), 90, 30), size=size),
            "action": draw.choice(food.ACTIONS),
            "food_type": draw.choice(food.FOODS),
        }
        kind = draw.randrange(4)
        if kind == 0:
            requests.append(("/predict_batch", {**asked, "batch_size": draw.randint(1, 9), "seed": i}))
        elif kind == 1:
            requests.append(("/predict_batch", {**asked, "enable_dropout": False}))
        elif kind == 2 and i % 3 == 0:
            requests.append(("/predict", {**asked, "food_type": "stone"}))
        else:
            requests.append(("/predict", asked))
    return requests


def _lasting(response: Any) -> dict[str, Any]:
    body = {k: v for k, v in response.get_json().items() if k not in VOLATILE}
    if "error" in body:
        body["error"].pop("request_id")
    return {"status": response.status_code, **body}


def _in_threads(work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    start = threading.Barrier(THREADS)

    def run(chunk: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
        start.wait(10)
        return [(i, work(item)) for i, item in chunk]

    numbered = list(enumerate(items))
    with ThreadPoolExecutor(THREADS) as pool:
        chunks = list(pool.map(run, [numbered[k::THREADS] for k in range(THREADS)]))
    return [answer for _, answer in sorted((x for chunk in chunks for x in chunk), key=lambda x: x[0])]


def test_ten_threads_of_mixed_requests_answer_as_one() -> None:
    policy = FakeFoodPolicy()
    requests = _mixed_food(200)
    with serving(policy) as (app, _):

        def ask(request: tuple[str, dict[str, Any]]) -> dict[str, Any]:
            return _lasting(app.test_client().post(request[0], json=request[1]))

        alone = [ask(request) for request in requests]
        policy.calls.clear()
        together = _in_threads(ask, requests)
    assert together == alone
    assert {a["status"] for a in alone} == {200, 422}
    assert max(call["n"] for call in policy.calls) > 1, "nothing was batched, so nothing was tested"
    assert all(call["n"] == 1 for call in policy.calls if call["num_samples"])


def test_ten_clients_with_windows_answer_as_one_after_another() -> None:
    policy = FakeArmPolicy()
    episodes = [[apple(image=picture(20 * c + 5 * s)) for s in range(6)] for c in range(THREADS)]
    with serving(policy) as (app, _):

        def run(numbered: tuple[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
            name, steps = numbered
            answers = [app.test_client().post("/predict", json={**s, "client_id": name}) for s in steps]
            return [{k: v for k, v in _lasting(a).items() if k != "client_id"} for a in answers]

        alone = [run((f"alone-{c}", steps)) for c, steps in enumerate(episodes)]
        policy.calls.clear()
        together = _in_threads(run, [(f"together-{c}", steps) for c, steps in enumerate(episodes)])
    assert together == alone
    assert max(call["n"] for call in policy.calls) > 1, "nothing was batched, so nothing was tested"


@pytest.mark.parametrize("rounds", [3])
def test_seeded_draws_are_the_same_whatever_else_runs(rounds: int) -> None:
    with serving(FakeFoodPolicy()) as (app, _):

        def draws(seed: int) -> list[list[float]]:
            body = banana(seed=seed, batch_size=7)
            return app.test_client().post("/predict_batch", json=body).get_json()["predictions"]

        expected = {seed: draws(seed) for seed in range(5)}
        assert expected[0] != expected[1]
        for _ in range(rounds):
            seeds = [i % 5 for i in range(60)]

            def work(item: int) -> Any:
                if item % 2:
                    return app.test_client().post("/predict", json=banana()).status_code
                return draws(item // 2 % 5)

            answers = _in_threads(work, [2 * s + k for s in seeds for k in (0, 1)])
            for i, answer in enumerate(answers):
                assert answer == (200 if i % 2 else expected[seeds[i // 2]])


def test_swaps_in_flight_never_mix_models() -> None:
    """Model k shifts every number by k/8: an answer must be wholly of the model that it names."""
    policies = [FakeArmPolicy(shift=k / 8) for k in range(3)]
    models = [make_model(p, f"m{k}") for k, p in enumerate(policies)]
    stop = threading.Event()
    with serving(policies[0]) as (app, engine):
        engine.swap(models[0])
        clean = (
            app.test_client().post("/predict", json=apple()).get_json()["action"]["world_vector"]["values"]
        )

        def swap() -> None:
            k = 0
            while not stop.wait(0.002):
                k = (k + 1) % 3
                engine.swap(models[k])

        swapper = threading.Thread(target=swap)
        swapper.start()

        def ask(i: int) -> dict[str, Any]:
            client_id = f"c{i % 4}" if i % 2 else None
            body = apple() if client_id is None else apple(client_id=client_id)
            return app.test_client().post("/predict", json=body).get_json()

        try:
            answers = _in_threads(ask, list(range(300)))
        finally:
            stop.set()
            swapper.join()
    assert len({a["model"] for a in answers}) == 3
    for answer in answers:
        shift = int(answer["model"][-1]) / 8
        newest = answer["action"]["world_vector"]["values"][2]
        assert newest - shift == pytest.approx(clean[2], abs=1e-6)
        # A state of another model would bring its shift of the older frames; a fresh one has none.
        if answer["step"] == 1:
            oldest = answer["action"]["world_vector"]["values"][0]
            assert oldest - shift == pytest.approx(clean[0], abs=1e-6)
    assert any(a["session"] == "model_changed" for a in answers)


def test_the_old_model_answers_while_a_new_one_loads_and_only_one_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving import service

    write_checkpoint(tmp_path / "slow", shift=0.25)
    entered, go_on = threading.Event(), threading.Event()
    original = service.load_model

    def slow(*arguments: Any) -> Any:
        entered.set()
        assert go_on.wait(10)
        return original(*arguments)

    monkeypatch.setattr(service, "load_model", slow)
    with (
        serving(FakeFoodPolicy(), Settings(models_root=tmp_path)) as (app, _),
        ThreadPoolExecutor(1) as pool,
    ):
        body = {"checkpoint_path": "slow"}
        loading = pool.submit(lambda: app.test_client().post("/load_model", json=body))
        assert entered.wait(10)
        meanwhile = app.test_client().post("/predict", json=banana()).get_json()
        second = app.test_client().post("/load_model", json=body)
        go_on.set()
        assert loading.result(10).status_code == 200
        after = app.test_client().post("/predict", json=banana()).get_json()
        again = app.test_client().post("/load_model", json=body)
    assert meanwhile["model"] == "fake:first"
    assert (second.status_code, second.get_json()["error"]["code"]) == (409, "already_loading")
    assert second.headers["Retry-After"]
    assert after["model"].startswith("fake:slow:")
    assert again.status_code == 200


def test_full_queue_is_503_over_http() -> None:
    policy = FakeFoodPolicy()
    settings = Settings(queue_size=2, batch_sizes=(1,))
    with serving(policy, settings) as (app, engine), ThreadPoolExecutor(8) as pool:
        policy.gate.clear()

        def ask() -> Any:
            return app.test_client().post("/predict", json=banana())

        asked = [pool.submit(ask)]
        assert policy.entered.wait(10)  # One is being computed; of the others, two may wait.
        asked += [pool.submit(ask) for _ in range(7)]
        refused = [f.result(10) for f in _first_done(asked, 5)]
        assert {r.status_code for r in refused} == {503}
        assert {r.get_json()["error"]["code"] for r in refused} == {"queue_full"}
        assert all(int(r.headers["Retry-After"]) >= 1 for r in refused)
        assert app.test_client().get("/livez").status_code == 200
        policy.gate.set()
        assert sorted(f.result(10).status_code for f in asked) == [200] * 3 + [503] * 5


def test_a_deadline_is_504_and_the_servers_own_cannot_be_lengthened() -> None:
    policy = FakeFoodPolicy()
    with serving(policy, Settings(request_timeout_ms=100)) as (app, _), ThreadPoolExecutor(1) as pool:
        policy.gate.clear()
        blocker = pool.submit(lambda: app.test_client().post("/predict", json=banana()))
        assert policy.entered.wait(10)
        for headers in ({}, {"X-Request-Timeout-Ms": "1"}, {"X-Request-Timeout-Ms": "60000000"}):
            late = app.test_client().post("/predict", json=banana(), headers=headers)
            assert (late.status_code, late.get_json()["error"]["code"]) == (504, "deadline_exceeded")
        policy.gate.set()
        assert blocker.result(10).status_code == 200  # Begun before its deadline, so answered.


def _first_done(asked: list[Any], count: int) -> list[Any]:
    from concurrent.futures import as_completed

    done = []
    for future in as_completed(asked, timeout=10):
        done.append(future)
        if len(done) == count:
            return done
    raise AssertionError("fewer were refused")
