"""The policy is the network: steps, mixing, batches and states; and it refuses what it cannot understand."""

import functools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from core.policy import Policy, Session, split_state, stack_states
from sarnn_tf.description import INSTRUCTION, JOINTS
from sarnn_tf.frozen_clip import FrozenClip
from sarnn_tf.networks.clip_sarnn import Observations
from sarnn_tf.normalization import denormalize, normalize
from sarnn_tf.prediction import predict, predict_step
from sarnn_tf.preparation import prepare_images, to_unit
from sarnn_tf.serving_policy import SarnnPolicy
from tests.sarnn_tf.sarnn_policies import JOINT_NAMES, WORDS, describe, frames, make_policy, row, tiny_clip

KINDS = {
    "sarnn": {"model": "sarnn"},
    "clip_sarnn": {},
    "no_clip": {"use_clip": False, "text_units": 0, "instructions": ()},
    "words_without_patches": {"use_clip": False, "text_units": 3},
}


@functools.cache
def compiled(kind: str = "clip_sarnn") -> SarnnPolicy:
    """One for all tests: it has no state, and compiling takes time."""
    return make_policy(**KINDS[kind])


@pytest.fixture(params=KINDS)
def policy(request: pytest.FixtureRequest) -> SarnnPolicy:
    return compiled(request.param)


def network_inputs(
    policy: SarnnPolicy, seen: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Images in [0, 1] and normalised joints of [n, ...] observations."""
    d = policy.description
    images = {}
    for m in d.modalities:
        raw = seen[m.name] if m.channels == 3 else seen[m.name][..., None]
        images[m.name] = to_unit(prepare_images(raw, m), m)
    return images, normalize(seen[JOINTS], d.bounds, d.vmin, d.vmax)


def play(policy: SarnnPolicy, seen: dict[str, np.ndarray]) -> list[Any]:
    """The answers to the n observations as steps of one client, and the last state."""
    state, results = policy.initial_state(1), []
    for t in range(len(seen[JOINTS])):
        result, state = policy.infer(row(seen, t), state)
        results.append(result)
    return [results, state]


def same_text(seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return seen | ({INSTRUCTION: np.full(len(seen[JOINTS]), WORDS[0])} if INSTRUCTION in seen else {})


def test_it_is_a_policy_with_the_networks_specification(policy: SarnnPolicy) -> None:
    assert isinstance(policy, Policy)
    names = [m.name for m in policy.description.modalities]
    words = [INSTRUCTION] if policy.description.uses_text else []
    assert [o.name for o in policy.spec.observations] == [*names, *words, JOINTS]
    assert policy.spec.details == {
        "joint_names": list(JOINT_NAMES),
        "input_param": 1.0,
        "predicted_joints": [],
        "attention_points": {m.name: m.k_dim for m in policy.description.modalities},
    }
    low, high = policy.spec.action(JOINTS).bounds()
    np.testing.assert_allclose([low, high], policy.description.bounds)


def test_steps_are_the_unrolled_sequence(policy: SarnnPolicy) -> None:
    seen = same_text(frames(policy.description, 5))
    images, joints = network_inputs(policy, seen)
    clip, d = tiny_clip(), policy.description
    whole, last, _ = predict(
        policy.model,
        Observations(
            {name: tf.constant(image[None]) for name, image in images.items()},
            tf.constant(joints[None]),
            tf.constant(clip.patches(images["image"])[None]) if d.use_clip else None,
            tf.constant(clip.text([WORDS[0]])) if d.uses_text else None,
        ),
    )
    results, state = play(policy, seen)
    for t, result in enumerate(results):
        expected = denormalize(whole.joints.numpy()[0, t], d.bounds, d.vmin, d.vmax)
        np.testing.assert_allclose(result.actions[JOINTS][0], expected, atol=1e-5)
        assert result.info["step"].tolist() == [t + 1]
        for m in d.modalities:
            for points, of_network in (
                (f"encoder_points/{m.name}", whole.encoder_points),
                (f"decoder_points/{m.name}", whole.decoder_points),
            ):
                np.testing.assert_allclose(result.info[points][0], of_network[m.name][0, t], atol=1e-5)
            predicted = np.clip(whole.images[m.name].numpy()[0, t], 0, 1) * m.full_scale
            answered = result.info[f"predicted/{m.name}"][0]
            assert answered.shape == (m.size if m.channels == 1 else (*m.size, 3))
            assert answered.dtype == (np.uint16 if m.name == "depth" else np.uint8)
            np.testing.assert_allclose(answered.reshape(predicted.shape), predicted, atol=0.51)
    np.testing.assert_allclose(state["h"], last.h, atol=1e-5)
    np.testing.assert_allclose(state["c"], last.c, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_predictions_are_mixed_in_as_eipl_does(policy: SarnnPolicy, share: float) -> None:
    seen = same_text(frames(policy.description, 4))
    images, joints = network_inputs(policy, seen)
    clip, d = tiny_clip(), policy.description
    results, _ = play(policy, seen | {"input_param": np.full(4, share, np.float32)})
    state, output = None, None
    for t, result in enumerate(results):
        mixed, mixed_joints = {name: image[t : t + 1] for name, image in images.items()}, joints[t : t + 1]
        if output is not None:
            for name, image in mixed.items():
                mixed[name] = share * image + (1 - share) * output.images[name].numpy()
            mixed_joints = share * mixed_joints + (1 - share) * output.joints.numpy()
        mixed = {name: image.astype(np.float32) for name, image in mixed.items()}
        observations = Observations(
            {name: tf.constant(image) for name, image in mixed.items()},
            tf.constant(mixed_joints.astype(np.float32)),
            tf.constant(clip.patches(mixed["image"])) if d.use_clip else None,
            tf.constant(clip.text([WORDS[0]])) if d.uses_text else None,
        )
        output, state, _ = predict_step(policy.model, observations, state)
        expected = denormalize(output.joints.numpy(), d.bounds, d.vmin, d.vmax)
        np.testing.assert_allclose(result.actions[JOINTS], expected, atol=1e-5)


def test_a_dream_does_not_look_after_its_first_step() -> None:
    policy, share = compiled(), {"input_param": np.zeros(3)}
    first, second = (same_text(frames(policy.description, 3, seed)) | share for seed in (0, 1))
    second = {name: np.concatenate([first[name][:1], value[1:]]) for name, value in second.items()}
    (one, _), (two, _) = play(policy, first), play(policy, second)
    assert one[2].actions[JOINTS].tolist() == two[2].actions[JOINTS].tolist()
    (other, _) = play(policy, row(second, 1))
    assert other[0].actions[JOINTS].tolist() != two[0].actions[JOINTS].tolist()


def test_the_policys_own_share_is_what_a_request_would_say() -> None:
    asked = compiled("sarnn")
    own = SarnnPolicy(asked.model, asked.description, input_param=0.3)
    assert own.spec.details["input_param"] == 0.3
    seen = same_text(frames(own.description, 3))
    expected, _ = play(own, seen)
    answered, _ = play(asked, seen | {"input_param": np.full(3, 0.3, np.float32)})
    np.testing.assert_array_equal(answered[2].actions[JOINTS], expected[2].actions[JOINTS])


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_predicted_joints_are_measured_at_the_first_step_alone(share: float) -> None:
    """As if the client, which has the last answer, sent that joint of it instead of the measured one."""
    measured = compiled("sarnn")
    predicting = SarnnPolicy(measured.model, measured.description, predicted_joints=["elbow"])
    assert predicting.spec.details["predicted_joints"] == ["elbow"]
    seen = frames(measured.description, 4) | {"input_param": np.full(4, share, np.float32)}
    answers, _ = play(predicting, seen)
    state, elbow = measured.initial_state(1), seen[JOINTS][0, 1]
    for t, answer in enumerate(answers):
        seen[JOINTS][t, 1] = elbow
        expected, state = measured.infer(row(seen, t), state)
        np.testing.assert_allclose(answer.actions[JOINTS], expected.actions[JOINTS], atol=1e-5)
        elbow = expected.actions[JOINTS][0, 1]
    # What is measured of that joint has no effect; of the others it has.
    for joint, matters in ((1, False), (0, True)):
        other = {name: value.copy() for name, value in seen.items()}
        other[JOINTS][2, joint] += 0.5
        difference = np.abs(play(predicting, other)[0][2].actions[JOINTS] - answers[2].actions[JOINTS]).max()
        assert (difference > 1e-4) == matters


def test_clients_of_a_batch_never_mix(policy: SarnnPolicy) -> None:
    n = 3
    seen = [frames(policy.description, n, seed) | {"input_param": np.linspace(0, 1, n)} for seed in range(n)]
    singles = []
    for i in range(n):  # Client i comes at step i.
        state = policy.initial_state(1)
        for step in range(i, n):
            result, state = policy.infer(row(seen[step], i), state)
        singles.append((result, state))
    for order in ([0, 1, 2], [2, 0, 1]):
        states = [policy.initial_state(1) for _ in range(n)]
        for step in range(n):
            rows = [i for i in order if i <= step]
            observations = {name: value[rows] for name, value in seen[step].items()}
            result, after = policy.infer(observations, stack_states([states[i] for i in rows]))
            for i, state in zip(rows, split_state(after, len(rows)), strict=True):
                states[i] = state
        for place, i in enumerate(order):
            single, state = singles[i]
            for name, value in (*single.actions.items(), *single.info.items()):
                given = {**result.actions, **result.info}[name][place]
                tolerance = 1 if value.dtype in (np.uint8, np.uint16) else 1e-5
                np.testing.assert_allclose(given, value[0], atol=tolerance, err_msg=name)
            for name, value in state.items():
                np.testing.assert_allclose(states[i][name], value, atol=1e-5, err_msg=name)


def test_reset_is_the_first_step_again() -> None:
    policy = compiled()
    seen = frames(policy.description, 2)
    session = Session(policy)
    steps = [{name: value[i] for name, value in seen.items()} for i in range(2)]
    first = session.step(steps[0])
    second = session.step(steps[0])
    assert second.actions[JOINTS].tolist() != first.actions[JOINTS].tolist()
    session.reset()
    again = session.step(steps[0])
    np.testing.assert_array_equal(again.actions[JOINTS], first.actions[JOINTS])
    empty, _ = policy.infer(row(seen, 0), {})
    np.testing.assert_array_equal(empty.actions[JOINTS][0], first.actions[JOINTS])


def test_one_program_for_each_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy()
    encoded: list[str] = []
    text = FrozenClip.text
    monkeypatch.setattr(
        FrozenClip, "text", lambda self, words: (encoded.extend(words), text(self, words))[1], raising=True
    )
    for seed in range(3):
        for n in (1, 3):
            observations = frames(policy.description, n, seed, size=(20 + seed, 31))
            share = {"input_param": np.full(n, 0.1 * seed)} if seed else {}
            policy.infer(observations | share, policy.initial_state(n))
    assert policy.programs == 2
    assert sorted(encoded) == sorted(WORDS)  # Each once, whoever asked.


def test_words_matter() -> None:
    policy = compiled()
    seen = frames(policy.description, 1)
    answers = [policy.infer(seen | {INSTRUCTION: np.array([w])}, {})[0].actions[JOINTS] for w in WORDS[:2]]
    assert np.abs(answers[0] - answers[1]).max() > 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": None}, "'depth' is missing"),
        ({JOINTS: None}, "'joint_positions' is missing"),
        ({INSTRUCTION: None}, "'natural_language_instruction' is missing"),
        ({JOINTS: np.zeros((1, 2), np.float32)}, r"joint_positions must be numbers \[n, 3\].*shoulder"),
        ({JOINTS: np.zeros((3,), np.float32)}, "joint_positions must be numbers"),
        ({JOINTS: np.zeros((0, 3), np.float32)}, "joint_positions must be numbers"),
        ({JOINTS: np.array([["a", "b", "c"]])}, "joint_positions must be numbers"),
        ({JOINTS: np.array([[0, np.nan, 0]])}, "joint_positions must be finite"),
        ({JOINTS: np.array([[0, 1e300, 0]])}, "joint_positions must be finite"),
        ({JOINTS: np.full((1, 3), 3e38, np.float32)}, "joint_positions must be finite"),
        ({JOINTS: np.array([[0.2, 1.0, 114.6]])}, r"in rad .* 'wrist' was in \[2, 2\]"),
        ({JOINTS: np.array([[-40, 90, 115]])}, r"in rad .* 'shoulder' was in \[-1, 1\]"),
        ({"depth": np.zeros((1, 9, 9), np.uint8)}, r"depth must be uint16 \[1, 'h', 'w'\]"),
        ({"depth": np.zeros((1, 9, 9, 3), np.uint16)}, "depth must be uint16"),
        ({"depth": np.zeros((1, 0, 9), np.uint16)}, "depth must be uint16"),
        ({"depth": np.zeros((2, 9, 9), np.uint16)}, "depth must be uint16"),
        ({"image": np.zeros((1, 9, 9), np.uint8)}, r"image must be uint8 \[1, 'h', 'w', 3\]"),
        ({"image": np.zeros((1, 9, 9, 3), np.float32)}, "image must be uint8"),
        ({"image": np.zeros((1, 9, 9, 4), np.uint8)}, "image must be uint8"),
        ({INSTRUCTION: np.array(["a", "b"])}, "natural_language_instruction must be 1 texts"),
        ({INSTRUCTION: np.array([b"a"])}, "natural_language_instruction must be 1 texts"),
        ({"input_param": np.array([1.5])}, "input_param must be 1 numbers"),
        ({"input_param": np.array([np.nan])}, "input_param must be 1 numbers"),
        ({"input_param": np.array(0.5)}, "input_param must be 1 numbers"),
    ],
)
def test_what_is_wrong_with_an_observation_is_said(change: dict[str, Any], message: str) -> None:
    policy = compiled()
    asked = frames(policy.description, 1) | change
    asked = {name: value for name, value in asked.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        policy.infer(asked, policy.initial_state(1))


def test_raw_joints_have_no_range_to_be_far_from() -> None:
    bounds = ((0.1,) * 3, (0.9,) * 3)
    policy = make_policy(joint_bounds=bounds, vmin=0.1, vmax=0.9)
    seen = frames(policy.description, 1) | {JOINTS: np.array([[-3.14, 6.28, 90.0]])}
    policy.infer(seen, {})
    with pytest.raises(ValueError, match="must be finite"):
        policy.infer(seen | {JOINTS: np.array([[0, 1e7, 0]])}, {})


def test_wrong_states_draws_and_arguments() -> None:
    policy = compiled()
    seen = frames(policy.description, 2)
    for state in (policy.initial_state(1), policy.initial_state(3), {"h": np.zeros((2, 6), np.float32)}):
        with pytest.raises(ValueError, match="state must be of 2 clients"):
            policy.infer(seen, state)
    damaged = {
        name: np.full_like(value, np.nan if name == "h" else 0)
        for name, value in policy.initial_state(2).items()
    }
    with pytest.raises(ValueError, match="predicted joints must be finite"):
        policy.infer(seen, damaged)
    with pytest.raises(ValueError, match="num_samples must be 0"):
        policy.infer(seen, {}, num_samples=2)
    with pytest.raises(ValueError, match="input_param must be in"):
        make_policy(input_param=1.1)
    with pytest.raises(ValueError, match=r"predicted_joints must be of .*shoulder.*Received: \['gripper'\]"):
        SarnnPolicy(policy.model, policy.description, tiny_clip(), predicted_joints=["wrist", "gripper"])
    with pytest.raises(ValueError, match="must have a CLIP"):
        SarnnPolicy(policy.model, policy.description)
    with pytest.raises(ValueError, match="must be without CLIP"):
        SarnnPolicy(policy.model, describe("sarnn"), tiny_clip())
