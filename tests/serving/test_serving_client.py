import json
from typing import Any

import numpy as np
import pytest
import requests
from serving_testing import png
from urllib3.exceptions import MaxRetryError, NewConnectionError

from serving.client import (
    NoAnswerInTimeError,
    NoConnectionError,
    NotAPolicyServerError,
    PolicyClient,
    PolicyClientError,
    ServerError,
)


def answer(status: int = 200, body: Any = None, **headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.url = "http://server/predict"
    body = {"success": True} if body is None else body
    response._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


def refusal(status: int, code: str = "queue_full", field: str | None = None) -> dict[str, Any]:
    return {"success": False, "error": {"code": code, "message": "No.", "field": field, "request_id": "r1"}}


class Script:
    """A session that plays a list of answers and remembers what was asked."""

    def __init__(self, *answers: requests.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        self.asked.append({"method": method, "url": url, **options})
        following = self.answers.pop(0)
        if isinstance(following, Exception):
            raise following
        return following


def make(*answers: requests.Response | Exception, **options: Any) -> tuple[PolicyClient, Script, list[float]]:
    script, pauses = Script(*answers), []
    client = PolicyClient("http://server/", session=script, sleep=pauses.append, **options)  # type: ignore[arg-type]
    return client, script, pauses


REFUSED = requests.exceptions.ConnectionError(
    MaxRetryError(None, "/predict", NewConnectionError(None, "refused"))  # type: ignore[arg-type]
)
HUNG_UP = requests.exceptions.ConnectionError("the connection was closed")


def test_fields_headers_and_timeouts() -> None:
    client, script, _ = make(answer(), token="sesame", timeout_s=7, connect_timeout_s=2)
    client.predict(png(), action="skewering", food_type="banana", deadline_ms=900)
    asked = script.asked[0]
    assert (asked["method"], asked["url"], asked["timeout"]) == ("POST", "http://server/predict", (2, 7))
    assert set(asked["json"]) == {"image", "action", "food_type"}  # What was not given is not sent.
    assert asked["headers"] == {"Authorization": "Bearer sesame", "X-Request-Timeout-Ms": "900"}


def test_numbers_of_numpy_are_sent_wherever_they_stand() -> None:
    client, script, _ = make(answer())
    joints = np.array([0.5, -1.0], np.float32)
    client.predict(
        text="go",
        observations={
            "a": joints,
            "b": list(joints),
            "c": [tuple(joints), joints],
            "d": joints[0],
            "e": [1, 2],
        },
        input_param=joints[0],
        joint_names=np.array(["elbow", "wrist"]),
    )
    sent = json.loads(json.dumps(script.asked[0]["json"]))
    pair = [0.5, -1.0]
    assert sent["observations"] == {"a": pair, "b": pair, "c": [pair, pair], "d": 0.5, "e": [1, 2]}
    assert (sent["input_param"], sent["joint_names"]) == (0.5, ["elbow", "wrist"])


def test_busy_server_is_asked_again_when_it_says() -> None:
    busy = answer(503, refusal(503), Retry_After="2")
    client, script, pauses = make(busy, busy, answer(body={"success": True, "step": 1}))
    assert client.predict(png(), text="go", client_id="a")["step"] == 1
    assert len(script.asked) == 3
    assert all(1.5 <= pause <= 2.5 for pause in pauses)
    assert pauses[0] != pauses[1]  # Jitter, so that clients do not come back together.


def test_busy_to_the_end() -> None:
    client, script, _ = make(*[answer(503, refusal(503))] * 3, attempts=3)
    with pytest.raises(ServerError) as caught:
        client.health()
    assert (caught.value.status, caught.value.code, len(script.asked)) == (503, "queue_full", 3)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422, 429, 500, 504])
def test_other_refusals_are_not_repeated(status: int) -> None:
    client, script, _ = make(answer(status, refusal(status, "some_code", "image")))
    with pytest.raises(ServerError, match=r"some_code \(field image\): No. \[request r1\]") as caught:
        client.predict(png(), action="skewering", food_type="banana")
    error = caught.value
    assert (error.status, error.code, error.field, error.request_id) == (status, "some_code", "image", "r1")
    assert len(script.asked) == 1


def test_no_connection_is_tried_again() -> None:
    client, script, pauses = make(REFUSED, HUNG_UP, answer())
    client.predict(png(), action="skewering", food_type="banana")
    assert (len(script.asked), len(pauses)) == (3, 2)
    client, script, _ = make(*[REFUSED] * 4)
    with pytest.raises(NoConnectionError):
        client.spec()
    assert len(script.asked) == 4


def test_a_step_that_may_have_been_taken_is_not_repeated() -> None:
    client, script, _ = make(REFUSED, HUNG_UP)
    with pytest.raises(NoConnectionError, match="closed"):
        client.predict(png(), text="go", client_id="a")
    assert len(script.asked) == 2  # Refused: not taken. Hung up: perhaps taken.


def test_slow_answers_are_not_repeated() -> None:
    client, script, _ = make(requests.exceptions.ReadTimeout())
    with pytest.raises(NoAnswerInTimeError):
        client.predict_batch(png(), action="skewering", food_type="banana")
    assert len(script.asked) == 1


@pytest.mark.parametrize("body", [b"<html>proxy</html>", b"[]", b'{"ok": 1}', b'"text"'])
def test_another_program_on_the_port(body: bytes) -> None:
    client, _, _ = make(answer(200, body, Content_Type="text/html"))
    with pytest.raises(NotAPolicyServerError, match="text/html"):
        client.health()


def test_a_body_that_the_http_server_refuses_in_its_own_words() -> None:
    client, _, _ = make(answer(413, b"Request Entity Too Large", Content_Type="text/plain"))
    with pytest.raises(ServerError, match="413 body_too_large: The request is too large"):
        client.predict(png(), text="go")


def test_waiting_for_a_server_that_starts() -> None:
    client, script, _ = make(REFUSED, answer(503, refusal(503, "model_not_loaded")), answer())
    client.wait_until_ready(30)
    assert len(script.asked) == 3
    client, _, _ = make(*[REFUSED] * 2)
    with pytest.raises(NoAnswerInTimeError):
        client.wait_until_ready(-1)
    client, _, _ = make(answer(401, refusal(401, "wrong_token")))
    with pytest.raises(PolicyClientError, match="wrong_token"):
        client.wait_until_ready(30)


def test_other_endpoints() -> None:
    client, script, _ = make(*[answer() for _ in range(5)])
    client.reset("a")
    client.load_model("run", loss_type="l1", timeout_s=99)
    client.available_combinations()
    client.spec()
    client.predict_batch(png(), text="go", batch_size=4, enable_dropout=False, seed=3)
    assert [a["url"].rsplit("/", 1)[1] for a in script.asked] == [
        *("reset", "load_model", "available_combinations", "spec", "predict_batch")
    ]
    assert script.asked[1]["json"] == {"checkpoint_path": "run", "loss_type": "l1"}
    assert script.asked[1]["timeout"][1] == 99
    assert script.asked[4]["json"]["enable_dropout"] is False
    with pytest.raises(ValueError, match="attempts"):
        PolicyClient(attempts=0)


@pytest.mark.parametrize("value", [float("nan"), np.float32("inf"), [[0.0, -np.inf]], np.array([0, np.nan])])
def test_numbers_that_json_has_no_word_for_are_named(value: Any) -> None:
    client, script, _ = make()
    with pytest.raises(PolicyClientError, match=r"observations\.joints must be finite. Received"):
        client.predict(text="go", observations={"joints": value, "other": [1, 2.5]})
    assert script.asked == []
