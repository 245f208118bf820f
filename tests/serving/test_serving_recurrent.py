"""A recurrent policy of several images and joints behind HTTP: a state for each client; what is refused."""

import base64
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sarnn_tf.serving_policy import SarnnPolicy, load_policy
from serving import images, registry, schemas
from serving.app import create_app
from serving.client import PolicyClient, encode_image
from serving.engine import Engine
from serving.errors import ApiError
from serving.model import make_model, warm_up
from serving.settings import Settings
from tests.sarnn_tf.sarnn_policies import JOINT_NAMES, WORDS, describe, frames, row, write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
JOINTS, INSTRUCTION = "joint_positions", "natural_language_instruction"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Served:
    """An app over a policy, and a clock that its clients' time to live goes by."""

    def __init__(self, policy: SarnnPolicy) -> None:
        self.policy, self.clock = policy, Clock()
        self.engine = Engine(batch_sizes=(1, 2), client_ttl_s=60.0, clock=self.clock)
        self.http = create_app(self.engine, Settings()).test_client()
        model = make_model(policy, "test")
        warm_up(model, (1, 2), 0)
        self.engine.swap(model)

    def ask(self, body: dict[str, Any]) -> Any:
        return self.http.post("/predict", json=body)

    def joints(self, body: dict[str, Any]) -> list[float]:
        response = self.ask(body)
        assert response.status_code == 200, response.get_json()
        return response.get_json()["action"][JOINTS]["values"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("log") / "clip_run1" / "step-00000003")


@pytest.fixture(scope="module")
def served(checkpoint: Path) -> Iterator[Served]:
    found = Served(registry.find_model("clip_sarnn").load_policy(checkpoint, input_param=0.5))
    yield found
    found.engine.close(10)


@pytest.fixture(scope="module")
def steps(served: Served) -> list[dict[str, np.ndarray]]:
    """Observations of four steps, [1, ...] each, with one text."""
    seen = frames(served.policy.description, 4)
    seen[INSTRUCTION] = np.full(4, WORDS[0])
    return [row(seen, t) for t in range(4)]


def body(step: dict[str, np.ndarray], **fields: Any) -> dict[str, Any]:
    """An observation as a request."""
    return {
        "image": encode_image(step["image"][0]),
        "images": {name: encode_image(step[name][0]) for name in ("depth", "gelsight_left") if name in step},
        "observations": {JOINTS: step[JOINTS][0].tolist()},
        "text": str(step[INSTRUCTION][0]),
        **fields,
    }


def expected(policy: SarnnPolicy, steps: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    state, found = policy.initial_state(1), []
    for step in steps:
        result, state = policy.infer(step, state)
        found.append(result.actions[JOINTS][0])
    return found


def test_a_clients_state_is_created_stepped_and_its_own(served: Served, steps: list[Any]) -> None:
    want = expected(served.policy, steps)
    other = expected(served.policy, steps[::-1])
    assert np.abs(want[1] - expected(served.policy, steps[1:])[0]).max() > 1e-4  # The state matters.
    for t in range(4):
        answer = served.ask(body(steps[t], client_id="arm-1")).get_json()
        np.testing.assert_allclose(answer["action"][JOINTS]["values"], want[t], atol=1e-5)
        assert (answer["step"], answer["session"]) == (t + 1, "continued" if t else "new")
        assert answer["action"][JOINTS]["unit"] == "rad"
        np.testing.assert_allclose(served.joints(body(steps[3 - t], client_id="arm-2")), other[t], atol=1e-5)
    assert served.http.get("/health").get_json()["clients"] == 2


def test_reset_begins_anew(served: Served, steps: list[Any]) -> None:
    want = expected(served.policy, steps)
    for t in range(2):
        np.testing.assert_allclose(served.joints(body(steps[t], client_id="reset")), want[t], atol=1e-5)
    assert served.http.post("/reset", json={"client_id": "reset"}).get_json()["existed"] is True
    answer = served.ask(body(steps[0], client_id="reset")).get_json()
    assert (answer["step"], answer["session"]) == (1, "reset")
    np.testing.assert_allclose(answer["action"][JOINTS]["values"], want[0], atol=1e-5)
    served.joints(body(steps[1], client_id="reset"))
    np.testing.assert_allclose(
        served.joints(body(steps[0], client_id="reset", reset=True)), want[0], atol=1e-5
    )


def test_an_unused_state_expires(served: Served, steps: list[Any]) -> None:
    want = expected(served.policy, steps)
    for t in range(2):
        served.joints(body(steps[t], client_id="sleepy"))
        served.clock.now += 59
    served.clock.now += 2
    assert served.http.get("/health").get_json()["clients"] == 0
    answer = served.ask(body(steps[0], client_id="sleepy")).get_json()
    assert (answer["step"], answer["session"]) == (1, "expired")
    np.testing.assert_allclose(answer["action"][JOINTS]["values"], want[0], atol=1e-5)


def test_a_step_that_is_refused_leaves_the_state_alone(served: Served, steps: list[Any]) -> None:
    want = expected(served.policy, steps)
    served.joints(body(steps[0], client_id="careful"))
    assert served.ask(body(steps[1], client_id="careful", images={})).status_code == 422
    np.testing.assert_allclose(served.joints(body(steps[1], client_id="careful")), want[1], atol=1e-5)


def test_clients_at_once(served: Served, steps: list[Any]) -> None:
    """Whoever shares a batch with whom, each gets the answers of being alone."""
    orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]]
    found: dict[int, list[Any]] = {}

    def play(i: int) -> None:
        http = served.http.application.test_client()
        answers = [
            http.post("/predict", json=body(steps[t], client_id=f"at-once-{i}")).get_json() for t in orders[i]
        ]
        found[i] = [answer["action"][JOINTS]["values"] for answer in answers]

    threads = [threading.Thread(target=play, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, order in enumerate(orders):
        want = expected(served.policy, [steps[t] for t in order])
        np.testing.assert_allclose(found[i], want, atol=1e-5)
    assert served.policy.programs == 2


def test_input_param_of_a_request(served: Served, steps: list[Any]) -> None:
    first, second = (body(steps[t], client_id="share") for t in (0, 1))
    answers = []
    for share in (None, 0.5, 0.0, 1.0):
        asked = {} if share is None else {"input_param": share}
        served.joints({**first, **asked, "reset": True})
        answers.append(served.joints({**second, **asked}))
    assert answers[0] == answers[1]
    assert np.abs(np.subtract(answers[2], answers[3])).max() > 1e-5
    assert served.http.get("/spec").get_json()["spec"]["details"]["input_param"] == 0.5


def test_attention_points_where_asked_for(served: Served, steps: list[Any]) -> None:
    asked = body(steps[0])
    assert served.ask(asked).get_json()["attention_points"] is None
    response = served.ask({**asked, "attention_points": True})
    points = schemas.ManipulationAnswer.model_validate(response.get_json()).attention_points
    result, _ = served.policy.infer({**steps[0], "input_param": np.array([0.5])}, {})
    assert points is not None and points.keys() == served.policy.spec.details["attention_points"].keys()
    for name, found in points.items():
        for kind, xy in (("encoder", found.encoder), ("decoder", found.decoder)):
            # x0, y0, x1, … of the network.
            want = result.info[f"{kind}_points/{name}"][0]
            np.testing.assert_allclose(xy, np.stack([want[0::2], want[1::2]], axis=1), atol=1e-5)
        assert (np.array(found.encoder) >= 0).all() and (np.array(found.encoder) <= 1).all()


def png(array: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


GRAY, DEPTH = np.zeros((9, 9), np.uint8), np.full((9, 9), 700, np.uint16)
COLOUR = np.zeros((9, 9, 3), np.uint8)
GOOD_IMAGES = {"depth": png(DEPTH), "gelsight_left": png(COLOUR)}


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"image": None}, 422, "image"),
        ({"images": None}, 422, "images.depth"),
        ({"images": {"depth": png(DEPTH)}}, 422, "images.gelsight_left"),
        ({"images": {**GOOD_IMAGES, "depth": png(GRAY)}}, 415, "images.depth"),
        ({"images": {**GOOD_IMAGES, "depth": png(COLOUR)}}, 415, "images.depth"),
        ({"images": {**GOOD_IMAGES, "gelsight_left": png(DEPTH)}}, 415, "images.gelsight_left"),
        ({"image": png(DEPTH)}, 415, "image"),
        ({"images": {**GOOD_IMAGES, "depth": "AAAA"}}, 415, "images.depth"),
        ({"images": {**GOOD_IMAGES, "depth": "§"}}, 422, "images.depth"),
        ({"images": {**GOOD_IMAGES, "depth": ""}}, 422, "images.depth"),
        ({"images": {**GOOD_IMAGES, "depth": 3}}, 422, "images.depth"),
        ({"images": {**GOOD_IMAGES, "thermal": png(COLOUR)}}, 422, "images.thermal"),
        ({"images": {**GOOD_IMAGES, JOINTS: png(COLOUR)}}, 422, f"images.{JOINTS}"),
        ({"images": {**GOOD_IMAGES, "image": png(COLOUR)}}, 422, "images.image"),
        ({"images": [1]}, 422, "images"),
        ({"images": {str(i): png(COLOUR) for i in range(17)}}, 422, "images"),
        ({"observations": None}, 422, f"observations.{JOINTS}"),
        ({"observations": {JOINTS: [0, 0]}}, 422, f"observations.{JOINTS}"),
        ({"observations": {JOINTS: [0, 0, 0, 0]}}, 422, f"observations.{JOINTS}"),
        ({"observations": {JOINTS: [[0, 0, 0]]}}, 422, f"observations.{JOINTS}"),
        ({"observations": {JOINTS: [0, None, 0]}}, 422, f"observations.{JOINTS}"),
        ({"observations": {JOINTS: [0, "NaN", 0]}}, 422, f"observations.{JOINTS}"),
        ({"observations": {JOINTS: [0, 1e300, 0]}}, 422, f"observations.{JOINTS}"),
        ({"observations": {JOINTS: [0, 0, 0], "depth": [[1]]}}, 422, "observations.depth"),
        ({"joint_names": ["shoulder", "wrist", "elbow"]}, 422, "joint_names"),
        ({"joint_names": ["shoulder"]}, 422, "joint_names"),
        ({"joint_names": "shoulder"}, 422, "joint_names"),
        ({"input_param": 1.1}, 422, "input_param"),
        ({"input_param": -0.1}, 422, "input_param"),
        ({"input_param": "1"}, 422, "input_param"),
        ({"input_param": True}, 422, "input_param"),
        ({"attention_points": "yes"}, 422, "attention_points"),
        ({"text": None}, 422, "text"),
        ({"text": "\ud800"}, 422, "text"),
    ],
)
def test_what_is_wrong_is_named(
    served: Served, steps: list[Any], change: dict[str, Any], status: int, field: str
) -> None:
    changed = {name: value for name, value in {**body(steps[0]), **change}.items() if value is not None}
    response = served.http.post("/predict", data=json.dumps(changed), content_type="application/json")
    assert response.status_code == status, response.get_json()
    assert response.get_json()["error"]["field"] == field


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)
PNGS = st.sampled_from([png(GRAY), png(DEPTH), png(COLOUR), png(DEPTH)[:60], "data:image/png;base64,"])
NAMES = st.sampled_from(["depth", "gelsight_left", "image", JOINTS, INSTRUCTION, "x", ""])
ODD = {
    "images": st.dictionaries(NAMES, PNGS | JSON, max_size=4) | JSON,
    "observations": st.dictionaries(NAMES, JSON, max_size=3) | JSON,
    "joint_names": st.lists(st.sampled_from(JOINT_NAMES), max_size=4) | JSON,
    "input_param": st.floats(-1, 2) | JSON,
}


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(ODD)), st.data())
def test_whatever_is_sent_is_answered_or_refused(
    served: Served, steps: list[Any], name: str, data: st.DataObject
) -> None:
    sent = json.dumps(body(steps[0], **{name: data.draw(ODD[name])}))
    response = served.http.post("/predict", data=sent, content_type="application/json")
    assert response.status_code in (200, 413, 415, 422), response.get_json()


def test_numbers_that_json_does_not_have(served: Served, steps: list[Any]) -> None:
    for number, status in (("NaN", 400), ("Infinity", 400), ("1e999", 422)):
        text = json.dumps(body(steps[0], observations={JOINTS: [0, 77.25, 0]})).replace("77.25", number)
        response = served.http.post("/predict", data=text, content_type="application/json")
        assert response.status_code == status, response.get_json()


def test_names_of_joints_and_longer_forms_are_taken(served: Served, steps: list[Any]) -> None:
    plain = served.joints(body(steps[0]))
    named = body(steps[0], joint_names=list(JOINT_NAMES))
    named["images"]["image"] = named.pop("image")
    assert served.joints(named) == plain


def test_depth_arrives_in_millimetres(served: Served, steps: list[Any]) -> None:
    depth = np.arange(70_000, dtype=np.uint32).astype(np.uint16).reshape(200, 350)
    for text in (encode_image(depth), png(depth)):
        data = images.decode_base64(text, 1 << 20)
        np.testing.assert_array_equal(images.decode_gray(data, 1 << 20, "uint16", "images.depth"), depth)
    gray = depth.astype(np.uint8)
    data = images.decode_base64(encode_image(gray), 1 << 20)
    np.testing.assert_array_equal(images.decode_gray(data, 1 << 20, "uint8", "images.gray"), gray)
    with pytest.raises(ApiError, match="16 bits") as caught:
        images.decode_gray(data, 1 << 20, "uint16", "images.depth")
    assert (caught.value.status, caught.value.field) == (415, "images.depth")
    with pytest.raises(ValueError, match="uint16"):
        encode_image(depth.astype(np.uint32))


def test_the_description_shows_how_to_send_images_and_joints(served: Served) -> None:
    request = served.http.get("/openapi.json").get_json()["components"]["schemas"]["ManipulationRequest"]
    properties = request["properties"]
    assert {"image", "images", "observations", "joint_names", "input_param"} <= set(properties)
    example = properties["images"]["examples"][0]
    data = images.decode_base64(example["depth"], 1000)
    assert images.decode_gray(data, 64, "uint16", "images.depth").tolist() == [[512] * 8] * 8
    assert images.decode_image(images.decode_base64(example["gelsight_left"], 1000), 64).shape == (8, 8, 3)
    assert "16 bits" in properties["images"]["description"]
    assert JOINTS in properties["observations"]["examples"][0]


def test_what_a_policy_does_not_have_cannot_be_asked_for() -> None:
    from fake_policies import FakeArmPolicy
    from serving_testing import apple, serving

    with serving(FakeArmPolicy()) as (app, _):
        for field, value in (("input_param", 1.0), ("joint_names", ["a"]), ("attention_points", True)):
            response = app.test_client().post("/predict", json=apple(**{field: value}))
            assert (response.status_code, response.get_json()["error"]["field"]) == (422, field)


def test_options_of_models() -> None:
    assert registry.MODELS["sarnn"] == registry.MODELS["clip_sarnn"]
    assert registry.with_options(load_policy, input_param=None) is load_policy
    with pytest.raises(FileNotFoundError):
        registry.with_options(load_policy, input_param=0.5, encoder_source="x")(Path("nowhere"))
    with pytest.raises(ValueError, match="takes no input_param"):
        registry.with_options(lambda folder, encoder_source=None: None, input_param=0.5)


def test_served_by_the_command(checkpoint: Path) -> None:
    """``serve.py --model=clip_sarnn`` and the Python client, stepping and resetting."""
    process = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "serve.py"), "--model=clip_sarnn", "--port=0", "--batch_sizes=1"),
            *(f"--checkpoint={checkpoint.parent}", "--input_param=0.5", "--predicted_joints=wrist,elbow"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    try:
        log: list[str] = []
        for line in process.stderr or ():
            log.append(line)
            if found := re.search(r"Listening on (http://\S+)", line):
                break
        else:
            raise AssertionError("".join(log))
        # Read on, or the process would wait for its messages to be taken.
        threading.Thread(target=lambda: list(process.stderr or ()), daemon=True).start()
        client = PolicyClient(found.group(1), timeout_s=120)
        client.wait_until_ready(300)
        policy = load_policy(checkpoint, input_param=0.5, predicted_joints=["wrist", "elbow"])
        seen = frames(describe(), 3)
        seen[INSTRUCTION] = np.full(3, WORDS[1])
        want = expected(policy, [row(seen, t) for t in range(3)])
        for episode in range(2):
            for t in range(3):
                answer = client.predict(
                    seen["image"][t],
                    text=WORDS[1],
                    client_id="arm-1",
                    reset=episode == 1 and t == 0,
                    images={"depth": seen["depth"][t], "gelsight_left": seen["gelsight_left"][t]},
                    observations={JOINTS: seen[JOINTS][t]},
                    joint_names=JOINT_NAMES,
                    attention_points=True,
                )
                assert answer["step"] == t + 1
                assert np.shape(answer["attention_points"]["depth"]["decoder"]) == (2, 2)
                np.testing.assert_allclose(answer["action"][JOINTS]["values"], want[t], atol=1e-5)
        assert client.spec()["spec"]["model"] == "clip_sarnn"
    finally:
        process.terminate()
        status = process.wait(60)
    assert status == 0
