"""Whatever a client sends, the answer is JSON below 500 and the server goes on."""

import json
from typing import Any

import pytest
from fake_policies import FakeArmPolicy, FakeFoodPolicy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_testing import apple, banana, picture, serving

from serving.settings import Settings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
WORDS = st.sampled_from(["skewering", "scoop", "banana", "grapes", "", " ", "a" * 2000, "\ud800", "é", "\0"])
IMAGES = st.sampled_from(["", "AAAA", "data:image/png;base64,", "iVBORw0KGgo=", picture(), picture()[:60]])
FIELDS = {
    "image": IMAGES | JSON,
    "action": WORDS | JSON,
    "food_type": WORDS | JSON,
    "text": WORDS | JSON,
    "batch_size": st.integers(-5, 70) | JSON,
    "enable_dropout": st.booleans() | JSON,
    "seed": st.integers() | JSON,
    "client_id": WORDS | JSON,
    "reset": st.booleans() | JSON,
    "observations": st.dictionaries(st.sampled_from(["joint_positions", "image", "x"]), JSON) | JSON,
    "checkpoint_path": st.sampled_from(["..", "/", "~", ".", "a/../..", "\0", "%2e%2e"]) | JSON,
    "config_file": JSON,
    "loss_type": JSON,
    "surprise": JSON,
}
BODIES = st.fixed_dictionaries({}, optional=FIELDS)
PATHS = st.sampled_from(["/predict", "/predict_batch", "/reset", "/load_model"])
RELAXED = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory):
    root = Settings(models_root=tmp_path_factory.mktemp("models"), max_image_bytes=1 << 16)
    with serving(FakeFoodPolicy(), root) as (food, _), serving(FakeArmPolicy(joints=True), root) as (arm, _):
        yield food.test_client(), arm.test_client()


def _check(response: Any) -> None:
    assert response.status_code < 500, response.get_json()
    body = response.get_json()
    assert body["success"] is (response.status_code == 200)
    if not body["success"]:
        assert body["error"]["code"]
        assert "Traceback" not in body["error"]["message"]


@RELAXED
@given(PATHS, BODIES)
def test_any_fields(clients: Any, path: str, body: dict[str, Any]) -> None:
    for client in clients:
        _check(client.post(path, data=json.dumps(body), content_type="application/json"))


@RELAXED
@given(st.sampled_from(list(FIELDS)), st.data())
def test_one_odd_field_in_a_good_request(clients: Any, name: str, data: Any) -> None:
    value = data.draw(FIELDS[name])
    for client, good in zip(
        clients, (banana(), apple(observations={"joint_positions": [0, 0]})), strict=True
    ):
        body = json.dumps({**good, name: value})
        _check(client.post("/predict", data=body, content_type="application/json"))


@RELAXED
@given(PATHS, st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()))
def test_any_bytes(clients: Any, path: str, body: bytes) -> None:
    for client in clients:
        _check(client.post(path, data=body, content_type="application/json"))


def test_the_servers_are_still_up(clients: Any) -> None:
    food, arm = clients
    assert food.post("/predict", json=banana()).status_code == 200
    assert arm.post("/predict", json=apple(observations={"joint_positions": [0, 0]})).status_code == 200
