import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_policies import FakeArmPolicy, FakeFoodPolicy, write_checkpoint
from serving_testing import apple, banana, picture, png, serving

from core import food
from serving import openapi, schemas, service
from serving.settings import Settings, read_token

PREDICTION = {"start_x", "start_y", "end_x", "end_y", "skewer_x", "skewer_y", "direction_degrees"}
ORIGIN = {"success", "request_id", "model", "encoder", "latency_ms", "instruction", "input_text"}


@pytest.fixture(scope="module")
def client():
    with serving(FakeFoodPolicy()) as (app, _):
        yield app.test_client()


@pytest.fixture
def arm():
    with serving(FakeArmPolicy()) as (app, _):
        yield app.test_client()


def refused(response: Any, status: int, code: str, field: str | None) -> dict[str, Any]:
    body = response.get_json()
    assert response.status_code == status, body
    assert set(body) == {"success", "error"}
    assert body["success"] is False
    assert set(body["error"]) == {"code", "message", "field", "request_id"}
    assert (body["error"]["code"], body["error"]["field"]) == (code, field)
    assert body["error"]["message"]
    assert response.headers["X-Request-Id"] == body["error"]["request_id"]
    return body["error"]


# --- food ---


def test_predict(client: Any) -> None:
    answer = client.post("/predict", json=banana(text="Skewer it", action="skewer")).get_json()
    assert set(answer) == ORIGIN | {"prediction", "input_action", "input_food_type"}
    assert set(answer["prediction"]) == PREDICTION
    assert answer["success"] is True
    echoed = [answer[k] for k in ("input_action", "input_food_type", "input_text", "instruction")]
    assert echoed == ["skewer", "banana", "Skewer it", "skewering_banana"]
    assert answer["prediction"]["start_x"] == pytest.approx(128 / 255 * 0.5)
    assert answer["model"] == "fake:first"
    assert answer["encoder"] == "fake-encoder"
    assert set(answer["latency_ms"]) == {"decode", "queue", "infer", "total"}


def test_predict_batch(client: Any) -> None:
    answer = client.post("/predict_batch", json=banana(seed=5)).get_json()
    assert set(answer) == ORIGIN | {
        *("predictions", "statistics", "mean_prediction", "deterministic_prediction"),
        *("batch_size", "enable_dropout", "seed", "input_action", "input_food_type"),
    }
    assert (answer["batch_size"], answer["enable_dropout"], answer["seed"]) == (16, True, 5)
    assert np.shape(answer["predictions"]) == (16, 4)
    assert set(answer["statistics"]) == {
        *("mean", "std", "total_variance", "centroid_variance", "size_variance", "distance_variance"),
        "num_samples",
    }
    assert answer["statistics"]["num_samples"] == 16
    np.testing.assert_allclose(answer["statistics"]["mean"], np.mean(answer["predictions"], axis=0))
    assert set(answer["mean_prediction"]) == PREDICTION
    assert answer["mean_prediction"]["start_x"] == answer["statistics"]["mean"][0]
    single = client.post("/predict", json=banana()).get_json()
    assert answer["deterministic_prediction"] == single["prediction"]


def test_drawn_seed_is_answered_and_repeats(client: Any) -> None:
    first = client.post("/predict_batch", json=banana(batch_size=3)).get_json()
    second = client.post("/predict_batch", json=banana(batch_size=3)).get_json()
    assert first["predictions"] != second["predictions"]
    again = client.post("/predict_batch", json=banana(batch_size=3, seed=first["seed"])).get_json()
    assert again["predictions"] == first["predictions"]


def test_no_dropout_computes_once() -> None:
    policy = FakeFoodPolicy()
    with serving(policy) as (app, _):
        answer = app.test_client().post("/predict_batch", json=banana(enable_dropout=False)).get_json()
    assert [(c["n"], c["num_samples"]) for c in policy.calls] == [(1, 0)]
    assert len(answer["predictions"]) == 16
    assert np.ptp(answer["predictions"], axis=0).tolist() == [0, 0, 0, 0]
    assert answer["statistics"]["total_variance"] == 0
    assert answer["statistics"]["std"] == [0, 0, 0, 0]
    assert answer["seed"] is None


def test_available_combinations(client: Any) -> None:
    answer = client.get("/available_combinations").get_json()
    assert answer["total_combinations"] == len(answer["combinations"]) == 66
    assert {"action": "scooping", "food_type": "cherry_tomato"} in answer["combinations"]
    assert answer["available_actions"] == sorted(food.ACTIONS)
    assert answer["available_food_types"] == sorted(food.FOODS)
    assert answer["success"] is True


def test_only_text() -> None:
    with serving(FakeFoodPolicy(free_text=True)) as (app, _):
        answer = app.test_client().post("/predict", json={"image": picture(), "text": "get it"}).get_json()
    assert (answer["instruction"], answer["input_action"]) == ("get it", None)


def test_health_and_probes(client: Any) -> None:
    health = client.get("/health").get_json()
    assert health["success"] is True
    assert (health["status"], health["model_loaded"], health["config_loaded"]) == ("healthy", True, False)
    assert client.get("/livez").get_json()["status"] == "alive"
    assert client.get("/readyz").get_json()["status"] == "ready"
    spec = client.get("/spec").get_json()["spec"]
    assert spec["task"] == "food"
    assert spec["actions"][0]["unit"] == "fraction of the image"


def test_before_a_model_and_while_stopping() -> None:
    with serving(None) as (app, engine):
        client = app.test_client()
        assert client.get("/livez").status_code == 200
        assert client.get("/health").get_json()["status"] == "loading"
        for response in (client.get("/readyz"), client.post("/predict", json=banana())):
            refused(response, 503, "model_not_loaded", None)
            assert int(response.headers["Retry-After"]) > 0
    with serving(FakeFoodPolicy()) as (app, engine):
        engine.close(10)
        client = app.test_client()
        refused(client.get("/readyz"), 503, "shutting_down", None)
        refused(client.post("/predict", json=banana()), 503, "shutting_down", None)
        assert client.get("/health").get_json()["status"] == "stopping"


# --- what is wrong with a request ---


@pytest.mark.parametrize("path", ["/predict", "/predict_batch", "/reset", "/load_model"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b'{"seed": NaN}', 400, "invalid_json"),
        (b'{"seed": ' + b"9" * 5000 + b"}", 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b"[]", 400, "not_an_object"),
        (b'"text"', 400, "not_an_object"),
        (b"null", 400, "not_an_object"),
    ],
)
def test_bodies_that_are_no_object(path: str, body: bytes, status: int, code: str, arm: Any) -> None:
    with serving(FakeFoodPolicy()) as (app, _):
        target = arm if path == "/reset" else app.test_client()
        refused(target.post(path, data=body, content_type="application/json"), status, code, None)
        refused(target.post(path, data=b"{}", content_type="text/plain"), 415, "not_json", None)


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"image": None}, 422, "invalid_field", "image"),
        ({"image": 3}, 422, "invalid_field", "image"),
        ({"image": [1, 2]}, 422, "invalid_field", "image"),
        ({"image": ""}, 422, "missing_image", "image"),
        ({"image": "§§"}, 422, "invalid_base64", "image"),
        ({"image": "AAAA"}, 415, "unsupported_image", "image"),
        ({"action": 1}, 422, "invalid_field", "action"),
        ({"action": "fry"}, 422, "unknown_instruction", "action"),
        ({"food_type": "stone"}, 422, "unknown_instruction", "food_type"),
        ({"food_type": None}, 422, "unknown_instruction", "food_type"),
        ({"text": ["a"]}, 422, "invalid_field", "text"),
        ({"text": "x" * 1001}, 422, "invalid_field", "text"),
        ({"text": "\ud800"}, 422, "invalid_field", "text"),
        ({"seed": -1}, 422, "invalid_field", "seed"),
        ({"seed": 1.5}, 422, "invalid_field", "seed"),
        ({"seed": True}, 422, "invalid_field", "seed"),
        ({"seed": 2**31}, 422, "invalid_field", "seed"),
        ({"foodtype": "banana"}, 422, "invalid_field", "foodtype"),
        ({"client_id": "a"}, 422, "invalid_field", "client_id"),
    ],
)
def test_wrong_fields(client: Any, change: dict, status: int, code: str, field: str) -> None:
    body = json.dumps({**banana(), **change})
    for path in ("/predict", "/predict_batch"):
        refused(client.post(path, data=body, content_type="application/json"), status, code, field)


@pytest.mark.parametrize("size", [0, -1, 65, 10**9, "16", 16.0, True, None, [16]])
def test_wrong_batch_size(client: Any, size: Any) -> None:
    refused(client.post("/predict_batch", json=banana(batch_size=size)), 422, "invalid_field", "batch_size")


@pytest.mark.parametrize("size", [1, 64])
def test_batch_size_limits(client: Any, size: int) -> None:
    answer = client.post("/predict_batch", json=banana(batch_size=size)).get_json()
    assert len(answer["predictions"]) == answer["statistics"]["num_samples"] == size


def test_no_image(client: Any) -> None:
    body = {"action": "skewering", "food_type": "banana"}
    refused(client.post("/predict", json=body), 422, "missing_image", "image")


def test_wrong_dropout_switch(client: Any) -> None:
    refused(
        client.post("/predict_batch", json=banana(enable_dropout="yes")),
        *(422, "invalid_field", "enable_dropout"),
    )


def test_too_large_in_bytes_pixels_and_body() -> None:
    with serving(FakeFoodPolicy(), Settings(max_image_bytes=2000, max_pixels=100)) as (app, _):
        client = app.test_client()
        noise = picture(size=(10, 10))
        assert client.post("/predict", json=banana(image=noise)).status_code == 200
        refused(
            client.post("/predict", json=banana(image=picture(size=(10, 11)))),
            413,
            "image_too_large",
            "image",
        )
        refused(client.post("/predict", json=banana(image="A" * 4000)), 413, "image_too_large", "image")
        refused(client.post("/predict", json=banana(image="A" * 3_000_000)), 413, "body_too_large", None)


def test_unknown_paths_and_methods(client: Any) -> None:
    refused(client.get("/nothing"), 404, "not_found", None)
    response = client.get("/predict")
    refused(response, 405, "method_not_allowed", None)
    assert "POST" in response.headers["Allow"]


def test_combination_unknown_to_this_policy() -> None:
    with serving(FakeFoodPolicy(instructions=("skewering_grape", "twirling_spaghetti"))) as (app, _):
        client = app.test_client()
        error = refused(client.post("/predict", json=banana()), 422, "unknown_instruction", "food_type")
        assert "skewering_grape" in error["message"]
        assert client.get("/available_combinations").get_json()["total_combinations"] == 2


def test_timeout_header(client: Any) -> None:
    assert client.post("/predict", json=banana(), headers={"X-Request-Timeout-Ms": "5000"}).status_code == 200
    for bad in ("0", "-1", "1.5", "soon", "", "9" * 30):
        response = client.post("/predict", json=banana(), headers={"X-Request-Timeout-Ms": bad})
        refused(response, 400, "invalid_header", "X-Request-Timeout-Ms")


def test_request_id_is_kept_when_harmless(client: Any) -> None:
    response = client.get("/health", headers={"X-Request-Id": "robot-7.step_3"})
    assert response.headers["X-Request-Id"] == response.get_json()["request_id"] == "robot-7.step_3"
    response = client.get("/health", headers={"X-Request-Id": "a b<script>"})
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-Id"])


def test_what_the_policy_cannot_understand_is_the_clients_error() -> None:
    policy = FakeFoodPolicy()
    policy.fail = lambda _: ValueError("image must be [n, 236, 236, 3]. Received: (1, 4, 6, 3)")
    with serving(policy) as (app, _):
        error = refused(app.test_client().post("/predict", json=banana()), 422, "invalid_field", "image")
    assert "236" in error["message"]


def test_defects_give_an_error_id_and_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    policy = FakeFoodPolicy()
    policy.fail = lambda _: KeyError("secret detail")
    with serving(policy) as (app, _):
        client = app.test_client()
        error = refused(client.post("/predict", json=banana()), 500, "internal_error", None)
        policy.fail = lambda _: None
        assert client.post("/predict", json=banana()).status_code == 200
    assert "secret" not in json.dumps(error)
    error_id = re.search(r"[0-9a-f]{32}", error["message"])
    assert error_id
    logged = [r for r in caplog.records if error_id.group() in r.getMessage()]
    assert logged
    assert "secret detail" in str(logged[0].exc_info[1])


# --- policies that move a robot ---


def test_step_answers_named_actions(arm: Any) -> None:
    answer = arm.post("/predict", json=apple(client_id="r1")).get_json()
    own = {"action", "language_actions", "attention_points", "terminate", "client_id", "step", "session"}
    assert set(answer) == ORIGIN | own
    assert answer["language_actions"] is answer["attention_points"] is None  # This policy has none.
    assert set(answer["action"]) == {"terminate_episode", "world_vector"}
    vector = answer["action"]["world_vector"]
    assert (vector["unit"], vector["frame"]) == ("m", "end effector")
    assert (vector["minimum"], vector["maximum"]) == ([-1, -1, -1], [1, 1, 1])
    assert len(vector["values"]) == 3
    assert answer["action"]["terminate_episode"]["values"] == [0, 1, 0]
    echoed = [answer[k] for k in ("terminate", "client_id", "step", "session", "input_text")]
    assert echoed == [False, "r1", 1, "new", "pick up the apple"]


def test_window_of_a_client_goes_on_ends_and_is_reset(arm: Any) -> None:
    answers = [arm.post("/predict", json=apple(client_id="r1")).get_json() for _ in range(4)]
    assert [a["step"] for a in answers] == [1, 2, 3, 4]
    assert [a["terminate"] for a in answers] == [False, False, False, True]
    other = arm.post("/predict", json=apple(client_id="r2")).get_json()
    assert (other["step"], other["action"]) == (1, answers[0]["action"])
    assert arm.get("/health").get_json()["clients"] == 2
    assert arm.post("/reset", json={"client_id": "r1"}).get_json()["existed"] is True
    assert arm.post("/reset", json={"client_id": "r1"}).get_json()["existed"] is False
    again = arm.post("/predict", json=apple(client_id="r1")).get_json()
    assert (again["step"], again["session"], again["action"]) == (1, "reset", answers[0]["action"])
    again = arm.post("/predict", json=apple(client_id="r1", reset=True)).get_json()
    assert (again["step"], again["session"]) == (1, "reset")


def test_single_steps_leave_no_session(arm: Any) -> None:
    answers = [arm.post("/predict", json=apple()).get_json() for _ in range(2)]
    assert answers[0]["action"] == answers[1]["action"]
    assert [(a["step"], a["session"], a["client_id"]) for a in answers] == [(1, None, None)] * 2
    assert arm.get("/health").get_json()["clients"] == 0


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"text": None}, "unknown_instruction", "text"),
        ({"text": "  "}, "unknown_instruction", "text"),
        ({"image": None}, "invalid_field", "image"),
        ({"client_id": ""}, "invalid_field", "client_id"),
        ({"client_id": "a b"}, "invalid_field", "client_id"),
        ({"client_id": "a\n"}, "invalid_field", "client_id"),
        ({"client_id": "x" * 129}, "invalid_field", "client_id"),
        ({"client_id": 7}, "invalid_field", "client_id"),
        ({"reset": True}, "invalid_field", "client_id"),
        ({"reset": 1, "client_id": "a"}, "invalid_field", "reset"),
        ({"action": "skewering"}, "invalid_field", "action"),
        ({"observations": [1]}, "invalid_field", "observations"),
        ({"observations": {"depth": [1]}}, "invalid_field", "observations.depth"),
    ],
)
def test_wrong_fields_of_a_step(arm: Any, change: dict, code: str, field: str) -> None:
    refused(arm.post("/predict", json={**apple(), **change}), 422, code, field)


def test_other_observations() -> None:
    with serving(FakeArmPolicy(joints=True)) as (app, _):
        client = app.test_client()

        def ask(joints: Any) -> Any:
            return client.post("/predict", json=apple(observations={"joint_positions": joints}))

        low, high = (ask(j).get_json()["action"]["world_vector"]["values"][0] for j in ([0, 0], [0.25, 0.5]))
        assert high - low == pytest.approx(0.75, abs=1e-6)
        field = "observations.joint_positions"
        wrong = (
            [0],
            [0, 0, 0],
            [[0, 0]],
            ["a", "b"],
            [None, 0],
            "zero",
            {},
            [0, 1e300],
            [0, 10**30],
            [[0], 1],
        )
        for joints in wrong:
            refused(ask(joints), 422, "invalid_field", field)
        refused(client.post("/predict", json=apple()), 422, "invalid_field", field)


def test_instructions_of_a_policy_without_free_text() -> None:
    with serving(FakeArmPolicy(free_text=False, instructions=("pick up the apple",))) as (app, _):
        client = app.test_client()
        assert client.post("/predict", json=apple()).status_code == 200
        error = refused(client.post("/predict", json=apple(text="dance")), 422, "unknown_instruction", "text")
        assert "pick up the apple" in error["message"]


def test_answers_of_the_other_task_do_not_exist(arm: Any, client: Any) -> None:
    refused(arm.post("/predict_batch", json=banana()), 404, "wrong_task", None)
    refused(arm.get("/available_combinations"), 404, "wrong_task", None)
    refused(client.post("/reset", json={"client_id": "a"}), 404, "wrong_task", None)


# --- loading ---


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write_checkpoint(folder / "good", shift=0.25)
    write_checkpoint(folder / "arm", kind="arm")
    write_checkpoint(folder / "broken", kind="broken")
    write_checkpoint(folder / "crash", kind="crash")
    write_checkpoint(folder / "nan", kind="nan")
    (folder / "empty").mkdir()
    write_checkpoint(tmp_path / "outside")
    (folder / "link").symlink_to(tmp_path / "outside")
    return folder


@pytest.mark.parametrize("absolute", [False, True])
def test_load_model_swaps(root: Path, absolute: bool) -> None:
    with serving(FakeFoodPolicy(), Settings(models_root=root)) as (app, _):
        client = app.test_client()
        before = client.post("/predict", json=banana()).get_json()
        path = str(root / "good") if absolute else "good"
        answer = client.post("/load_model", json={"checkpoint_path": path, "loss_type": "smooth_l1"})
        assert answer.status_code == 200, answer.get_json()
        after = client.post("/predict", json=banana()).get_json()
        health = client.get("/health").get_json()
    assert answer.get_json()["notes"] == []
    assert answer.get_json()["model"] == after["model"] == health["model"] != before["model"]
    assert after["model"].startswith("fake:good:")
    assert health["config_loaded"] is True
    moved = after["prediction"]["start_x"] - before["prediction"]["start_x"]
    assert moved == pytest.approx(0.25, abs=1e-6)


def test_load_model_may_change_the_task(root: Path) -> None:
    with serving(FakeFoodPolicy(), Settings(models_root=root)) as (app, _):
        client = app.test_client()
        answer = client.post(
            "/load_model", json={"checkpoint_path": "arm", "config_file": "a.gin"}
        ).get_json()
        assert "config_file" in answer["notes"][0]
        assert client.post("/predict", json=apple()).get_json()["step"] == 1


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"checkpoint_path": "../outside"}, 403, "path_outside_root", "checkpoint_path"),
        ({"checkpoint_path": "good/../../outside"}, 403, "path_outside_root", "checkpoint_path"),
        ({"checkpoint_path": "/etc"}, 403, "path_outside_root", "checkpoint_path"),
        ({"checkpoint_path": "../not_there"}, 403, "path_outside_root", "checkpoint_path"),
        ({"checkpoint_path": "link"}, 403, "path_outside_root", "checkpoint_path"),
        ({"checkpoint_path": "nothing"}, 404, "no_such_checkpoint", "checkpoint_path"),
        ({"checkpoint_path": "good/fake.json"}, 404, "no_such_checkpoint", "checkpoint_path"),
        ({"checkpoint_path": "a\0b"}, 422, "invalid_field", "checkpoint_path"),
        ({"checkpoint_path": "x" * 900}, 422, "invalid_field", "checkpoint_path"),
        ({"checkpoint_path": ""}, 422, "invalid_field", "checkpoint_path"),
        ({"checkpoint_path": 3}, 422, "invalid_field", "checkpoint_path"),
        ({}, 422, "missing_field", "checkpoint_path"),
        ({"checkpoint_path": "empty"}, 422, "model_not_loadable", "checkpoint_path"),
        ({"checkpoint_path": "broken"}, 422, "model_not_loadable", "checkpoint_path"),
        ({"checkpoint_path": "crash"}, 500, "loading_failed", "checkpoint_path"),
        ({"checkpoint_path": "nan"}, 500, "loading_failed", "checkpoint_path"),
        ({"checkpoint_path": "good", "loss_type": "l1"}, 422, "model_not_loadable", "loss_type"),
        ({"checkpoint_path": "good", "loss_type": "l3"}, 422, "invalid_field", "loss_type"),
    ],
)
def test_load_model_failures_keep_the_old(root: Path, body: dict, status: int, code: str, field: str) -> None:
    with serving(FakeFoodPolicy(), Settings(models_root=root)) as (app, _):
        client = app.test_client()
        before = client.post("/predict", json=banana()).get_json()
        error = refused(client.post("/load_model", json=body), status, code, field)
        after = client.post("/predict", json=banana()).get_json()
    if body.get("checkpoint_path") == "broken":
        assert "layer 3" in error["message"]
    assert (before["model"], before["prediction"]) == (after["model"], after["prediction"])


def test_loading_can_be_switched_off(root: Path) -> None:
    with serving(FakeFoodPolicy(), Settings(models_root=None)) as (app, _):
        response = app.test_client().post("/load_model", json={"checkpoint_path": "good"})
        refused(response, 403, "loading_disabled", None)


def test_pointer_is_followed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "run" / "step-00000003", shift=0.125)
    (tmp_path / "run" / "best.json").write_text('{"folder": "step-00000003", "step": 3, "metrics": {}}')
    with serving(FakeFoodPolicy(), Settings(models_root=tmp_path)) as (app, _):
        answer = app.test_client().post("/load_model", json={"checkpoint_path": "run"}).get_json()
    assert answer["model"].startswith("fake:step-00000003:")


def test_path_under_resolves_before_it_compares(tmp_path: Path) -> None:
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    found = service.path_under(tmp_path / "alias", "a", "checkpoint_path")
    assert found == (tmp_path / "real" / "a").resolve()


# --- token, metrics, description ---


def test_token() -> None:
    with serving(FakeFoodPolicy(), Settings(token="sesame")) as (app, _):
        client = app.test_client()
        for given in (None, "Bearer wrong", "sesame", "Bearer sesam", "bearer sesame", "Bearer sésame"):
            headers = {} if given is None else {"Authorization": given}
            for response in (
                client.post("/predict", json=banana(), headers=headers),
                client.post("/load_model", json={}, headers=headers),
                client.get("/metrics", headers=headers),
                client.get("/nothing", headers=headers),
            ):
                refused(response, 401, "wrong_token", None)
                assert response.headers["WWW-Authenticate"] == "Bearer"
        allowed = {"Authorization": "Bearer sesame"}
        assert client.post("/predict", json=banana(), headers=allowed).status_code == 200
        assert [client.get(p).status_code for p in ("/livez", "/readyz", "/health")] == [200, 200, 200]


def test_token_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLICY_SERVER_TOKEN", raising=False)
    assert read_token(None) == ""
    monkeypatch.setenv("POLICY_SERVER_TOKEN", " from-environment\n")
    assert read_token(None) == "from-environment"
    (tmp_path / "token").write_text("from-file\n")
    assert read_token(tmp_path / "token") == "from-file"
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ValueError, match="empty file"):
        read_token(tmp_path / "token")


def test_no_cors(client: Any) -> None:
    response = client.get("/health", headers={"Origin": "http://elsewhere"})
    assert not [name for name in response.headers.keys() if name.lower().startswith("access-control")]  # noqa: SIM118


def test_metrics_are_the_apps_own() -> None:
    with serving(FakeFoodPolicy()) as (app, _), serving(FakeFoodPolicy()) as (other, _):
        client = app.test_client()
        for _ in range(3):
            client.post("/predict", json=banana())
        client.post("/predict", json={})
        client.post("/predict_batch", json=banana(seed=1))
        client.get("/nothing")
        text = client.get("/metrics").get_data(as_text=True)
        untouched = other.test_client().get("/metrics").get_data(as_text=True)
    for line in (
        'policy_requests_total{code="200",route="/predict"} 3.0',
        'policy_requests_total{code="422",route="/predict"} 1.0',
        'policy_requests_total{code="404",route="unmatched"} 1.0',
        'policy_latency_seconds_count{stage="infer"} 3.0',
        'policy_latency_seconds_count{stage="sample"} 1.0',
        'policy_latency_seconds_count{stage="decode"} 4.0',
        "policy_batch_size_count 4.0",
        "policy_centroid_deviation_count 1.0",
        "policy_requests_in_flight 1.0",  # The request for the metrics.
        "policy_queue_depth 0.0",
        "policy_clients 0.0",
        'policy_model_info{id="fake:first"} 1.0',
    ):
        assert line in text.splitlines()
    assert 'route="/predict"' not in untouched


def _conforms(value: Any, schema: dict[str, Any], definitions: dict[str, Any]) -> bool:
    """JSON Schema, as far as the description uses it."""
    if "$ref" in schema:
        return _conforms(value, definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in schema:
        return any(_conforms(value, s, definitions) for s in schema["anyOf"])
    if "const" in schema:
        return value == schema["const"]
    if "enum" in schema:
        return value in schema["enum"]
    kind = schema.get("type")
    if kind == "object":
        if not isinstance(value, dict) or not set(schema.get("required", ())) <= set(value):
            return False
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name, item in value.items():
            if name in properties:
                if not _conforms(item, properties[name], definitions):
                    return False
            elif rest is False or (isinstance(rest, dict) and not _conforms(item, rest, definitions)):
                return False
        return True
    if kind == "array":
        return isinstance(value, list) and all(
            _conforms(v, schema.get("items", {}), definitions) for v in value
        )
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind in ("integer", "number"):
        if not number or (kind == "integer" and not isinstance(value, int)):
            return False
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        return low <= value <= high and value < schema.get("exclusiveMaximum", value + 1)
    if kind == "string":
        fits = isinstance(value, str) and len(value) <= schema.get("maxLength", 10**9)
        return fits and re.search(schema.get("pattern", ""), value) is not None
    return {"boolean": isinstance(value, bool), "null": value is None, None: True}[kind]


def _schema(operation: dict[str, Any], part: str) -> dict[str, Any]:
    holder = operation["requestBody"] if part == "request" else operation["responses"][part]
    return holder["content"]["application/json"]["schema"]


def test_description_covers_every_route_and_is_valid(client: Any) -> None:
    document = client.get("/openapi.json").get_json()
    described = {(path, m.upper()) for path, methods in document["paths"].items() for m in methods}
    routes = {
        (rule.rule, method)
        for rule in client.application.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert described == routes
    references = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))
    assert set(references) <= set(document["components"]["schemas"])


def test_described_examples_and_answers_agree_with_the_server(client: Any, arm: Any) -> None:
    document = openapi.document()
    definitions = document["components"]["schemas"]
    targets = {
        "FoodRequest": client,
        "FoodBatchRequest": client,
        "ManipulationRequest": arm,
        "ResetRequest": arm,
    }
    asked = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "get":
                response = client.get(path)
                if "content" in operation["responses"]["200"]:
                    assert _conforms(response.get_json(), _schema(operation, "200"), definitions), path
                continue
            schema = _schema(operation, "request")
            for reference in schema.get("anyOf", [schema]):
                name = reference["$ref"].rsplit("/", 1)[1]
                for example in definitions[name]["examples"]:
                    assert _conforms(example, schema, definitions), (name, example)
                    if name in targets:
                        response = targets[name].post(path, json=example)
                        assert response.status_code == 200, response.get_json()
                        assert _conforms(response.get_json(), _schema(operation, "200"), definitions), name
                        asked += 1
    assert asked == 7
    bad = client.post("/predict", json={}).get_json()
    assert _conforms(bad, _schema(document["paths"]["/predict"]["post"], "default"), definitions)
    assert not _conforms(bad, _schema(document["paths"]["/predict"]["post"], "200"), definitions)


def test_example_image_is_an_image() -> None:
    from serving import images

    data = images.decode_base64(schemas.EXAMPLE_IMAGE, 1000)
    assert images.decode_image(data, 64).shape == (8, 8, 3)
    assert png()


@pytest.mark.parametrize(
    "wrong", [{"queue_size": 0}, {"batch_sizes": ()}, {"batch_sizes": (4, 2)}, {"batch_sizes": (0, 1)}]
)
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(ValueError, match="Received"):
        Settings(**wrong)
