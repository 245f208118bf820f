"""RT-1 behind the Policy protocol."""

import concurrent.futures
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.policy import Policy, Session, stack_states
from core.spec import ArraySpec, PolicySpec
from language import make_text_encoder
from rt1 import specs
from rt1.checkpoints.save import save_checkpoint
from rt1.policy_folder import PolicyDescription, read_description, write_description
from rt1.serving_policy import INSTRUCTION, RT1Policy, evaluation_metrics, load_policy
from rt1.transformer_network import IMAGE, DropoutRates, TransformerNetwork
from tests.rt1.tiny_rt1 import SIZE, WINDOW, observations, tiny_agent, tiny_network, values_of

ENCODER = make_text_encoder()
RATES = DropoutRates(*[0.1] * len(dataclasses.fields(DropoutRates)))
TEXTS = ["skewering_banana", "scooping_rice", "twirling_spaghetti", "skewering_grape"]


def _describe(network: TransformerNetwork, task: str) -> PolicyDescription:
    actions = specs.FOOD_ACTIONS if task == "food" else specs.OFFICIAL_ACTIONS
    observed = (
        ArraySpec(IMAGE, (None, None, 3), "uint8", 0, 255),
        ArraySpec(INSTRUCTION, (), "string"),
    )
    return PolicyDescription(
        network=network.arguments(),
        image_size=(SIZE, SIZE),
        image_dtype=network.input_tensor_spec[IMAGE].dtype.name,
        loss_type="smooth_l1" if task == "food" else "cross_entropy",
        encoder_source="embedded",
        spec=PolicySpec("rt1", task, observed, actions, encoder=ENCODER.identity, free_text=True),
    )


@pytest.fixture(scope="module")
def food() -> RT1Policy:
    """One frame, regression, dropout at every site."""
    network = tiny_network(
        "regression", rates=RATES, time_sequence_length=1, num_layers=1, embedding_size=512
    )
    return RT1Policy(network, _describe(network, "food"), ENCODER)


@pytest.fixture(scope="module")
def manipulation() -> RT1Policy:
    """A window of frames, cross-entropy, dropout in attention."""
    network = tiny_network(rates=DropoutRates(attention=0.3), num_layers=1, embedding_size=512)
    return RT1Policy(network, _describe(network, "manipulation"), ENCODER)


def _images(n: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    return observations(n, 1, size=size, seed=seed)[IMAGE][:, 0]


def _asked(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {IMAGE: _images(n, seed), INSTRUCTION: np.array([TEXTS[i % 4] for i in range(n)])}


def _infer(policy: RT1Policy, asked: dict, **arguments):
    n = len(asked[IMAGE])
    return policy.infer(asked, policy.initial_state(n), **arguments)[0]


def test_it_is_a_policy(food: RT1Policy, manipulation: RT1Policy) -> None:
    assert isinstance(food, Policy)
    assert food.spec.task == "food"
    assert food.initial_state(3) == {}  # One frame: nothing to remember.
    state = manipulation.initial_state(3)
    assert {k: v.shape[0] for k, v in state.items()} == dict.fromkeys(state, 3)
    assert not any(v.any() for v in state.values())


def test_answers_follow_the_spec(food: RT1Policy, manipulation: RT1Policy) -> None:
    for policy in (food, manipulation):
        result = _infer(policy, _asked(3))
        assert result.samples is None
        assert set(result.actions) == {a.name for a in policy.spec.actions}
        for action in policy.spec.actions:
            value = result.actions[action.name]
            assert value.shape == (3, *action.shape)
            assert value.dtype == action.dtype
            low, high = action.bounds()
            assert ((low <= value) & (value <= high)).all()
    # The answers are of these images and instructions.
    assert np.ptp(_infer(food, _asked(3)).actions["bbox"], axis=0).min() > 1e-4
    info = _infer(manipulation, _asked(3)).info
    assert info["tokens"].shape == info["token_probability"].shape == (3, 11)
    assert ((info["token_probability"] > 0) & (info["token_probability"] <= 1)).all()


def test_actions_and_draws_are_clipped_to_their_bounds(food: RT1Policy) -> None:
    bias = food.network._regression_output.bias
    kept = bias.numpy()
    bias.assign([3.0])
    try:
        result = _infer(food, _asked(2), num_samples=2)
    finally:
        bias.assign(kept)
    assert (result.actions["bbox"] == 1.0).all()
    assert (result.samples["bbox"] == 1.0).all()


# === Monte-Carlo dropout ===


@pytest.fixture(scope="module")
def still() -> RT1Policy:
    """All rates 0."""
    network = tiny_network("regression", time_sequence_length=1, num_layers=1, embedding_size=512)
    return RT1Policy(network, _describe(network, "food"), ENCODER)


def test_with_all_rates_0_the_draws_are_the_deterministic_answer_and_nothing_changes(
    still: RT1Policy,
) -> None:
    before = values_of(still.network)
    result = _infer(still, _asked(2), num_samples=5, seed=1)
    plain = _infer(still, _asked(2))
    np.testing.assert_array_equal(result.actions["bbox"], plain.actions["bbox"])
    assert result.samples["bbox"].shape == (2, 5, 4)
    np.testing.assert_allclose(
        result.samples["bbox"], plain.actions["bbox"][:, None].repeat(5, 1), rtol=0, atol=1e-5
    )
    for one, other in zip(before, still.network.variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy(), err_msg=other.name)


@pytest.mark.parametrize("which", ["food", "manipulation"])
def test_draws_change_no_variable_and_follow_their_seed(which: str, request) -> None:
    policy: RT1Policy = request.getfixturevalue(which)
    name = policy.spec.actions[-1].name
    plain = _infer(policy, _asked(2))
    before = values_of(policy.network)
    first, again, other = (_infer(policy, _asked(2), num_samples=8, seed=s) for s in (3, 3, 4))
    fresh = _infer(policy, _asked(2), num_samples=8)
    for one, variable in zip(before, policy.network.variables, strict=True):
        np.testing.assert_array_equal(one, variable.numpy(), err_msg=variable.name)
    assert first.samples[name].shape == (2, 8, *policy.spec.action(name).shape)
    np.testing.assert_allclose(first.samples[name], again.samples[name], rtol=0, atol=1e-5)
    assert not np.allclose(first.samples[name], other.samples[name], atol=1e-4)
    assert not np.allclose(first.samples[name], fresh.samples[name], atol=1e-4)
    assert np.ptp(first.samples[name], axis=1).max() > 1e-3  # One draw is not another.
    # With draws the answer is still the deterministic one.
    for result in (first, again, other, fresh, _infer(policy, _asked(2))):
        np.testing.assert_allclose(result.actions[name], plain.actions[name], rtol=0, atol=1e-5)


def test_all_draws_are_one_call(food: RT1Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    step = food._step

    def counting(image, *rest):
        rows.append(len(image))
        return step(image, *rest)

    monkeypatch.setattr(food, "_step", counting)
    _infer(food, _asked(2), num_samples=6, seed=0)
    assert rows == [2, 12]


def test_batch_statistics_stay_out_of_the_draws(food: RT1Policy) -> None:
    """A draw of one image does not depend on the images beside it, as it would by batch statistics."""
    rates = DropoutRates.none()
    network = tiny_network(
        "regression", rates=rates, time_sequence_length=1, num_layers=1, embedding_size=512
    )
    policy = RT1Policy(network, _describe(network, "food"), ENCODER)
    alone = _infer(policy, _asked(1), num_samples=2, seed=0).samples["bbox"]
    beside = {k: np.concatenate([_asked(1)[k], _asked(3, seed=9)[k]]) for k in _asked(1)}
    together = _infer(policy, beside, num_samples=2, seed=0).samples["bbox"]
    np.testing.assert_allclose(together[:1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", [0, -1, 2**31, 2**63 + 5])
def test_any_integer_is_a_seed(food: RT1Policy, seed: int) -> None:
    assert np.isfinite(_infer(food, _asked(1), num_samples=2, seed=seed).samples["bbox"]).all()


def test_a_negative_number_of_draws(food: RT1Policy) -> None:
    with pytest.raises(ValueError, match="num_samples must not be negative. Received: -1"):
        _infer(food, _asked(1), num_samples=-1)


# === Clients ===


def test_clients_do_not_depend_on_their_neighbours(manipulation: RT1Policy) -> None:
    """Three clients of different age in one batch, and each alone, over a whole window and more."""
    frames = {i: observations(1, WINDOW + 2, seed=i)[IMAGE][0] for i in range(3)}
    sessions = {i: Session(manipulation) for i in range(3)}
    states = {i: manipulation.initial_state(1) for i in range(3)}
    ages = dict.fromkeys(range(3), 0)
    for round_ in range(WINDOW + 2):
        present = [i for i in range(3) if round_ >= i]  # One client more in every round.
        asked = {
            IMAGE: np.stack([frames[i][ages[i]] for i in present]),
            INSTRUCTION: np.array([TEXTS[i] for i in present]),
        }
        together, state = manipulation.infer(asked, stack_states([states[i] for i in present]))
        for row, i in enumerate(present):
            alone = sessions[i].step({IMAGE: frames[i][ages[i]], INSTRUCTION: TEXTS[i]})
            for name, value in alone.actions.items():
                np.testing.assert_allclose(together.actions[name][row], value, rtol=0, atol=1e-5)
            np.testing.assert_allclose(
                together.info["token_probability"][row], alone.info["token_probability"], atol=1e-5
            )
            states[i] = {k: v[row : row + 1] for k, v in state.items()}
            ages[i] += 1


def test_a_session_remembers_and_forgets(manipulation: RT1Policy) -> None:
    frames = observations(1, 2)[IMAGE][0]
    session = Session(manipulation)
    ask = {INSTRUCTION: TEXTS[0]}
    fresh = session.step({IMAGE: frames[1], **ask}).info["token_probability"]
    session.reset()
    session.step({IMAGE: frames[0], **ask})
    second = session.step({IMAGE: frames[1], **ask}).info["token_probability"]
    assert not np.allclose(fresh, second, atol=1e-5)
    session.reset()
    np.testing.assert_allclose(
        session.step({IMAGE: frames[1], **ask}).info["token_probability"], fresh, atol=1e-5
    )


def test_a_state_of_other_clients_is_refused(manipulation: RT1Policy) -> None:
    """Broadcasting would give one client's memory to all."""
    with pytest.raises(ValueError, match="state must be of 2 clients"):
        manipulation.infer(_asked(2), manipulation.initial_state(1))
    with pytest.raises(ValueError, match="state must be of 1 clients"):
        manipulation.infer(_asked(1), manipulation.initial_state(2))
    with pytest.raises(ValueError, match="state must be of 1 clients"):
        manipulation.infer(_asked(1), {"seq_idx": np.zeros((1, 1, 1, 1, 1), np.int32)})


def test_ten_threads_get_the_answers_of_one(food: RT1Policy, manipulation: RT1Policy) -> None:
    def ask(i: int):
        policy = (food, manipulation)[i % 2]
        draws = (0, 4)[i // 2 % 2]
        result = _infer(policy, _asked(1 + i % 3, seed=i % 7), num_samples=draws, seed=i)
        return {**result.actions, **({f"drawn {k}": v for k, v in (result.samples or {}).items()})}

    expected = [ask(i) for i in range(24)]
    with concurrent.futures.ThreadPoolExecutor(10) as threads:
        found = list(threads.map(ask, list(range(24)) * 2))
    for i, answer in enumerate(found):
        assert set(answer) == set(expected[i % 24])
        for name, value in answer.items():
            np.testing.assert_allclose(value, expected[i % 24][name], rtol=0, atol=1e-5, err_msg=name)


# === Observations ===


def test_a_combination_by_name_and_its_sentence_are_one_instruction(food: RT1Policy) -> None:
    image = np.repeat(_images(1), 4, axis=0)
    texts = np.array(
        ["skewering_cherry_tomato", "skewer the cherry tomato", "scoop the rice", "twirl it all"]
    )
    boxes = _infer(food, {IMAGE: image, INSTRUCTION: texts}).actions["bbox"]
    np.testing.assert_allclose(boxes[0], boxes[1], rtol=0, atol=1e-6)
    assert not np.allclose(boxes[0], boxes[2], atol=1e-4)
    assert not np.allclose(boxes[2], boxes[3], atol=1e-4)


@pytest.mark.parametrize("text", ["skewering_stone", "", "???"])
def test_an_instruction_that_cannot_be_encoded(food: RT1Policy, text: str) -> None:
    with pytest.raises(ValueError, match="Received"):
        _infer(food, {IMAGE: _images(1), INSTRUCTION: np.array([text])})


def test_bytes_are_no_instruction(food: RT1Policy) -> None:
    for texts in (np.array([b"skewering_banana"]), np.array([b"skewering_banana"], object), np.array([3])):
        with pytest.raises(ValueError, match="natural_language_instruction must be text"):
            _infer(food, {IMAGE: _images(1), INSTRUCTION: texts})


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (96, 64), (16, 16), (236, 236)])
def test_images_of_any_size(food: RT1Policy, size: tuple[int, int]) -> None:
    """An enlarged or shrunk picture of blocks is nearly the same picture."""
    small = _images(1)
    rows = np.arange(size[0]) * SIZE // size[0]
    columns = np.arange(size[1]) * SIZE // size[1]
    image = small[:, rows][:, :, columns]
    expected = _infer(food, {IMAGE: small, INSTRUCTION: np.array(TEXTS[:1])}).actions["bbox"]
    found = _infer(food, {IMAGE: image, INSTRUCTION: np.array(TEXTS[:1])}).actions["bbox"]
    other = _infer(food, {IMAGE: 255 - small, INSTRUCTION: np.array(TEXTS[:1])}).actions["bbox"]
    assert np.abs(found - expected).max() < 0.5 * np.abs(other - expected).max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({IMAGE: None}, "Observation 'image' is missing"),
        ({INSTRUCTION: None}, "Observation 'natural_language_instruction' is missing"),
        ({IMAGE: _images(1)[0]}, r"uint8 \[n, h, w, 3\].*\(32, 32, 3\)"),
        ({IMAGE: _images(1).astype(np.float32)}, "Received: float32"),
        ({IMAGE: _images(1)[..., :1]}, r"\(1, 32, 32, 1\)"),
        ({IMAGE: _images(2)}, "and 1 instructions"),
        ({IMAGE: _images(1)[:, :0]}, r"\(1, 0, 32, 3\)"),
        ({IMAGE: _images(1)[:0], INSTRUCTION: np.array([], str)}, r"\(0, 32, 32, 3\)"),
    ],
)
def test_observations_that_are_refused(food: RT1Policy, change: dict, message: str) -> None:
    asked = {k: v for k, v in {**_asked(1), **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        food.infer(asked, {})


# === Loading ===


def test_another_encoder_is_refused(food: RT1Policy) -> None:
    description = food._description
    for identity in ("universal-sentence-encoder-large/5", ""):
        other = dataclasses.replace(description, spec=dataclasses.replace(description.spec, encoder=identity))
        with pytest.raises(ValueError, match="must not be mixed"):
            RT1Policy(food.network, other, ENCODER)


@pytest.fixture(scope="module")
def folder(food: RT1Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(tiny_agent(food.network), path)
    write_description(path, food._description)
    return path


def test_a_saved_policy_answers_the_same(food: RT1Policy, folder: Path) -> None:
    loaded = load_policy(folder)
    assert loaded.spec == food.spec
    assert loaded.network.dropout_rates == RATES
    for draws in (0, 3):
        one, other = (_infer(p, _asked(2), num_samples=draws, seed=1) for p in (loaded, food))
        np.testing.assert_allclose(one.actions["bbox"], other.actions["bbox"], rtol=0, atol=1e-5)
        if draws:
            np.testing.assert_allclose(one.samples["bbox"], other.samples["bbox"], rtol=0, atol=1e-5)


def test_a_description_survives_the_folder(food: RT1Policy, folder: Path) -> None:
    assert read_description(folder) == food._description


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "network.json is not valid JSON"),
        ("[]", "does not describe an RT-1 policy"),
        ('{"image_size": 3}', "does not describe an RT-1 policy"),
        ('{"image_size": [3, 3], "colour": 1}', "does not describe an RT-1 policy"),
    ],
)
def test_a_damaged_description(food: RT1Policy, tmp_path: Path, content: str, message: str) -> None:
    write_description(tmp_path, food._description)
    (tmp_path / "network.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_description(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "network.json has other fields"),
        ({"dropout_rates": {"head": 0.1}}, "network.json has other fields"),
        ({"dropout_rates": {"attention": 1.5}}, r"must be in \[0, 1\)"),
        ({"efficientnet_variant": "b99"}, "Received: 'b99'"),
    ],
)
def test_a_description_of_no_network(food: RT1Policy, change: dict, message: str) -> None:
    other = dataclasses.replace(food._description, network={**food._description.network, **change})
    with pytest.raises(ValueError, match=message):
        other.build_network()


def test_evaluation_metrics_are_the_food_tasks() -> None:
    boxes = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    assert evaluation_metrics(boxes, boxes)["centroid_mae"] == 0
    assert evaluation_metrics(boxes + 0.1, boxes)["centroid_mae"] == pytest.approx(0.1, abs=1e-6)


def test_frames_reach_the_network_as_it_was_trained_on(
    monkeypatch: pytest.MonkeyPatch, food: RT1Policy
) -> None:
    seen = []
    monkeypatch.setattr(food, "_step", lambda image, *rest: seen.append(image) or ({}, {}, {}))
    image = _images(1, size=64)
    _infer(food, {IMAGE: image, INSTRUCTION: np.array(TEXTS[:1])})
    as_float = dataclasses.replace(food._description, image_dtype="float32")
    monkeypatch.setattr(food, "_description", as_float)
    _infer(food, {IMAGE: image, INSTRUCTION: np.array(TEXTS[:1])})
    assert [x.dtype for x in seen] == [tf.uint8, tf.float32]
    assert [x.shape for x in seen] == [(1, SIZE, SIZE, 3)] * 2
    np.testing.assert_allclose(seen[0] / 255, seen[1], atol=0.5 / 255 + 1e-6)
