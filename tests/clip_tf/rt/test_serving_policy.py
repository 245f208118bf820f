"""CLIP-RT behind the Policy protocol."""

import base64
import io
from pathlib import Path

import gin
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from clip_tf.clip_model import ClipModel
from clip_tf.converted_folder import save_clip
from clip_tf.image_preprocessing import preprocess
from clip_tf.model_config import ClipConfig
from clip_tf.rt import experiment, make_policy
from clip_tf.rt.action_scores import README, action_logits
from clip_tf.rt.objective import unit_length
from clip_tf.rt.policy_folder import PolicyDescription, read_description, write_description
from clip_tf.rt.prompt import apply_prompt
from clip_tf.rt.serving_policy import GRIPPER, ClipRtPolicy, load_policy
from clip_tf.rt.vocabulary import Vocabulary, make_vocabulary
from clip_tf.tokenizer import tokenize
from core.policy import Policy, Session
from core.spec import PolicySpec
from serving import registry
from serving.app import create_app
from serving.engine import Engine
from serving.model import make_model, warm_up
from serving.settings import Settings
from tests.clip_tf.rt.clip_rt_data import TINY_CONFIG, VOCABULARY, tiny_clip

TEXTS = np.array(["open the door", "close the laptop", "what now"])


@pytest.fixture(scope="module")
def model():
    return tiny_clip()


@pytest.fixture(scope="module")
def policy(model) -> ClipRtPolicy:
    return ClipRtPolicy(model, PolicyDescription(make_vocabulary("finetuned")))


def images(n: int, seed: int = 0, size: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size + 8, 3), dtype=np.uint8)


def ask(policy, n: int = 3, state=None, **changes):
    asked = {"image": images(n), "natural_language_instruction": TEXTS[:n], **changes}
    return policy.infer(asked, policy.initial_state(n) if state is None else state)


def test_it_is_a_policy(policy):
    assert isinstance(policy, Policy)
    spec = policy.spec
    assert PolicySpec.from_json(spec.to_json()) == spec
    assert [a.unit for a in spec.actions] == ["m", "rad", "rad", ""]
    assert spec.free_text
    assert len(spec.details["phrases"]) == 58
    warm_up(make_model(policy), (1, 2), 0)


@pytest.mark.parametrize("fusion", ["training", "readme"])
def test_answers_are_those_of_the_scores(model, fusion):
    vocabulary = make_vocabulary("finetuned")
    policy = ClipRtPolicy(model, PolicyDescription(vocabulary, fusion=fusion, top_k=4))
    result, _ = ask(policy)
    frames = np.stack([preprocess(image, 16) for image in images(3)])
    context = [apply_prompt(text) for text in TEXTS]
    logits = action_logits(
        model.encode_image(tf.constant(frames))[0],
        model.encode_text(tokenize(context, 40))[0],
        unit_length(model.encode_text(tokenize(vocabulary.phrases, 40))[0]),
        model.logit_scale,
        fusion,
    ).numpy()
    np.testing.assert_allclose(result.info["logits"], logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(result.info["class_probabilities"], 1 / (1 + np.exp(-logits)), atol=1e-4)
    best = np.argsort(-result.info["logits"], axis=1)[:, :4]
    np.testing.assert_array_equal(result.info["phrase_labels"], best)
    assert result.info["phrases"].tolist() == [[vocabulary.phrases[i] for i in row] for row in best]
    assert (np.diff(result.info["phrase_probabilities"], axis=1) <= 0).all()
    if fusion == README:
        assert (np.abs(result.info["class_probabilities"] - 0.5) < 0.232).all()


def test_actions_are_the_tables_with_units(policy):
    result, state = ask(policy)
    labels = result.info["phrase_labels"][:, 0]
    whole = np.concatenate([result.actions[a.name] for a in policy.spec.actions], axis=1)
    np.testing.assert_array_equal(whole, policy.description.vocabulary.actions[labels])
    np.testing.assert_array_equal(state[GRIPPER], whole[:, -1:])


def test_prompted_and_bare_instructions_are_the_same(policy):
    prompted = np.array([apply_prompt(text) for text in TEXTS])
    first = ask(policy)[0].info["logits"]
    np.testing.assert_array_equal(first, ask(policy, natural_language_instruction=prompted)[0].info["logits"])


def test_batches_do_not_mix_clients(policy):
    together = ask(policy)[0].info["logits"]
    for i in range(3):
        alone = {"image": images(3)[i : i + 1], "natural_language_instruction": TEXTS[i : i + 1]}
        found, _ = policy.infer(alone, {})
        np.testing.assert_allclose(found.info["logits"][0], together[i], rtol=2e-5, atol=1e-5)


def test_actions_are_encoded_once_and_instructions_kept(model, monkeypatch):
    policy = ClipRtPolicy(model, PolicyDescription(VOCABULARY))
    calls = []
    encode = policy._encode_text
    monkeypatch.setattr(policy, "_encode_text", lambda ids: calls.append(len(ids)) or encode(ids))
    first = ask(policy)[0].info["logits"]
    assert calls == [3]  # The three instructions; no action.
    again = ask(policy)[0].info["logits"]
    assert calls == [3]
    np.testing.assert_array_equal(first, again)
    for i in range(300):
        ask(policy, 1, natural_language_instruction=np.array([f"task {i}"]))
    assert len(policy._instructions) == 256


class _Fixed:
    """Makes a policy choose the classes that it is told."""

    def __init__(self, policy, monkeypatch):
        self._next = None
        monkeypatch.setattr(policy, "_score", self._score)

    def _score(self, frames, instructions):
        logits = np.full((len(frames), 4), -1.0, np.float32)
        logits[:, self._next] = 1.0
        return tf.constant(logits)

    def choose(self, label):
        self._next = label


def test_a_move_leaves_the_gripper_as_it_is(model, monkeypatch):
    policy = ClipRtPolicy(model, PolicyDescription(VOCABULARY))
    fixed, session = _Fixed(policy, monkeypatch), Session(policy)
    observation = {"image": images(1)[0], "natural_language_instruction": "go"}
    found = []
    for label in (1, 0, 2):  # Ahead, close, up.
        fixed.choose(label)
        found.append(session.step(observation).actions["gripper_open"].tolist())
    session.reset()
    found.append(session.step(observation).actions["gripper_open"].tolist())
    assert found == [[1.0], [0.0], [0.0], [1.0]]


def test_only_the_allowed_classes_are_answered(model):
    description = PolicyDescription(make_vocabulary("finetuned"), classes=(3, 7, 56))
    policy = ClipRtPolicy(model, description)
    info = ask(policy)[0].info
    assert info["phrase_labels"].shape == (3, 3)
    assert set(info["phrase_labels"].ravel()) == {3, 7, 56}
    everything = ask(ClipRtPolicy(model, PolicyDescription(make_vocabulary("finetuned"))))[0].info["logits"]
    np.testing.assert_allclose(info["logits"], everything)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None}, "Observation 'image' is missing"),
        ({"image": images(3).astype(np.float32)}, "image must be uint8"),
        ({"image": images(3)[..., :1]}, "image must be uint8"),
        ({"image": images(2)}, "with one instruction each"),
        ({"image": np.zeros((3, 0, 4, 3), np.uint8)}, "image must be uint8"),
        ({"natural_language_instruction": None}, "'natural_language_instruction' is missing"),
        ({"natural_language_instruction": np.array([b"a"] * 3)}, "must be text"),
    ],
)
def test_wrong_observations(policy, changes, message):
    asked = {"image": images(3), "natural_language_instruction": TEXTS, **changes}
    asked = {name: value for name, value in asked.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        policy.infer(asked, {})


def test_wrong_state_and_draws(policy):
    with pytest.raises(ValueError, match="state must be gripper_open"):
        ask(policy, state={GRIPPER: np.ones((2, 1))})
    with pytest.raises(ValueError, match="no dropout"):
        policy.infer({"image": images(1), "natural_language_instruction": TEXTS[:1]}, {}, num_samples=2)


@pytest.mark.parametrize("gripper", [np.nan, 7.0, -0.1])
def test_a_gripper_that_no_robot_has(policy, gripper):
    with pytest.raises(ValueError, match=r"gripper_open must be in \[0, 1\]"):
        ask(policy, 1, {GRIPPER: np.full((1, 1), gripper, np.float32)})


def test_empty_and_endless_instructions(policy):
    texts = np.array(["", "word " * 10_000, "émoji 🤖"])
    assert np.isfinite(ask(policy, natural_language_instruction=texts)[0].info["logits"]).all()


def test_the_server_names_the_best_phrases(model):
    buffer = io.BytesIO()
    Image.fromarray(images(1)[0]).save(buffer, format="png")
    policy = ClipRtPolicy(model, PolicyDescription(make_vocabulary("finetuned"), top_k=3))
    engine = Engine()
    engine.swap(make_model(policy))
    try:
        client = create_app(engine, Settings()).test_client()
        body = {"image": base64.b64encode(buffer.getvalue()).decode(), "text": "close the laptop"}
        answer = client.post("/predict", json=body).get_json()
    finally:
        engine.close(10)
    expected = ask(policy, 1, natural_language_instruction=np.array(["close the laptop"]))[0]
    assert answer["action"]["world_vector"]["unit"] == "m"
    np.testing.assert_allclose(
        answer["action"]["rotation_delta"]["values"], expected.actions["rotation_delta"][0]
    )
    named = answer["language_actions"]
    assert [a["phrase"] for a in named] == expected.info["phrases"][0].tolist()
    assert [a["label"] for a in named] == expected.info["phrase_labels"][0].tolist()
    np.testing.assert_allclose([a["probability"] for a in named], expected.info["phrase_probabilities"][0])


# === Folders ===


def test_a_converted_clip_becomes_a_policy(model, tmp_path, capsys):
    save_clip(tmp_path / "clip", model)
    arguments = [str(tmp_path / "clip"), "--vocabulary", "pretrained", "--out", str(tmp_path / "policy")]
    assert make_policy.main(arguments) == 0
    loaded = registry.find_model("clip_rt").load_policy(tmp_path / "policy")
    expected = ClipRtPolicy(model, PolicyDescription(make_vocabulary("pretrained")))
    np.testing.assert_array_equal(ask(loaded)[0].info["logits"], ask(expected)[0].info["logits"])
    assert make_policy.main(arguments) == 1
    assert "exists already" in capsys.readouterr().err
    arguments[-1] = str(tmp_path / "other")
    assert make_policy.main([*arguments, "--prompt", "no gap"]) == 1
    assert not (tmp_path / "other").exists()
    assert make_policy.main([str(tmp_path / "policy"), "--out", str(tmp_path / "other")]) == 1
    assert "is a run, or a policy, already: load_policy" in capsys.readouterr().err
    assert make_policy.main([str(tmp_path / "absent"), "--out", str(tmp_path / "other")]) == 1
    assert "must have open_clip_config.json, as python -m clip_tf.convert" in capsys.readouterr().err
    assert make_policy.main([*arguments, "--vocabulary", "fine"]) == 1
    error = capsys.readouterr().err
    assert "must be one of" in error and "In call to" not in error


def test_a_text_tower_that_is_too_small_for_the_tokenizer(tmp_path, capsys):
    """Its rows end before the tokenizer's ids do: TensorFlow says so late, or on a GPU never."""
    fields = {**TINY_CONFIG, "text_cfg": {**TINY_CONFIG["text_cfg"], "vocab_size": 64}}
    small = ClipModel(ClipConfig.from_json(fields))
    with pytest.raises(ValueError, match="vocab_size must be at least 49408.*Received: 64"):
        ClipRtPolicy(small, PolicyDescription(VOCABULARY))
    save_clip(tmp_path / "clip", small)
    assert make_policy.main([str(tmp_path / "clip"), "--out", str(tmp_path / "policy")]) == 1
    assert "vocab_size must be at least 49408" in capsys.readouterr().err
    assert not (tmp_path / "policy").exists()
    write_description(tmp_path, PolicyDescription(VOCABULARY))
    with pytest.raises(ValueError, match="vocab_size must be at least"):
        load_policy(tmp_path)
    with gin.unlock_config():
        gin.bind_parameter("clip_rt.make_model.fields", fields)
    try:
        with pytest.raises(ValueError, match="vocab_size must be at least"):
            experiment.make_model(None)
    finally:
        gin.clear_config()


def test_weights_that_are_not_finite_move_no_robot(tmp_path):
    broken = tiny_clip()
    asked = ClipRtPolicy(broken, PolicyDescription(VOCABULARY))
    broken.visual.proj.assign(broken.visual.proj * np.nan)
    with pytest.raises(ValueError, match="scores must be finite"):
        ask(asked, 1)
    save_clip(tmp_path / "clip", broken)
    write_description(tmp_path, PolicyDescription(VOCABULARY))
    with pytest.raises(ValueError, match=r"must be finite.*visual\.proj"):
        load_policy(tmp_path)


def test_descriptions_are_read_back(tmp_path):
    written = PolicyDescription(VOCABULARY, "do {}", README, 2, (0, 2))
    write_description(tmp_path, written)
    read = read_description(tmp_path)
    assert (read.prompt, read.fusion, read.top_k, read.classes) == ("do {}", README, 2, (0, 2))
    np.testing.assert_array_equal(read.vocabulary.actions, VOCABULARY.actions)
    assert read.spec == written.spec


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"vocabulary": {"a": [0, 0, 0, 0, 0, 0, 1], "a": [0.1, 0, 0, 0, 0, 0, 1]}}', "same phrase"),
        ("[]", r"an object with a vocabulary. Received: \[\]"),
        ("{}", r"an object with a vocabulary. Received: \{\}"),
        ('{"vocabulary": []}', "object of phrase"),
        ('{"vocabulary": {}}', "at least one phrase"),
        ('{"vocabulary": {"a": "[0,0,0,0,0,0,0]"}, "fusion": "x"}', "fusion must be"),
    ],
)
def test_wrong_descriptions(tmp_path: Path, content, message):
    (tmp_path / "clip_rt.json").write_text(content)
    with pytest.raises(ValueError, match=f"clip_rt.json does not describe a CLIP-RT policy: .*{message}"):
        read_description(tmp_path)


def test_a_folder_without_a_policy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"clip_rt\.json.*make_policy"):
        load_policy(tmp_path)
    with pytest.raises(ValueError, match="takes no encoder"):
        load_policy(tmp_path, encoder_source="embedded")


@pytest.mark.parametrize(
    "arguments",
    [
        {"top_k": 0},
        {"classes": ()},
        {"classes": (1, 0)},
        {"classes": (4,)},
        {"prompt": ""},
        {"fusion": "sum"},
    ],
)
def test_wrong_description_arguments(arguments):
    with pytest.raises(ValueError, match="Received"):
        PolicyDescription(VOCABULARY, **arguments)


def test_bounds_hold_a_custom_vocabulary():
    far = Vocabulary(("far",), [[1.0, 0, 0, 0, 0, 0, 1]])
    low, high = PolicyDescription(far).spec.action("world_vector").bounds()
    assert (low <= -0.2).all()
    assert high[0] == 1.0
