"""Vocabularies are read whole and checked, and find the class of a phrase and of an action."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_tf.rt import vocabulary as vocabulary_lib
from clip_tf.rt.dominant_axis import derive_supervision, to_finetuning_labels
from clip_tf.rt.vocabulary import Vocabulary, load_vocabulary, make_vocabulary
from tests.shared_data import shared

FINE = make_vocabulary("finetuned")
GOOD = {"go up": "[0, 0, 0.1, 0, 0, 0, 1]", "close it": "[0, 0, 0, 0, 0, 0, 0]"}


def test_the_published_file_is_read_as_the_table(tmp_path):
    read = load_vocabulary(shared("data/clip_rt/language_to_action.json"))
    assert read.phrases == FINE.phrases
    np.testing.assert_array_equal(read.actions, FINE.actions)
    FINE.save(tmp_path / "v.json")
    np.testing.assert_array_equal(make_vocabulary(str(tmp_path / "v.json")).actions, FINE.actions)


def test_phrase_to_action_with_another_case_and_spacing():
    assert FINE.label_of("  Close THE  gripper ") == 56
    assert FINE.phrases[FINE.label_of("open the gripper")] == "open the gripper"
    with pytest.raises(ValueError, match="one of the vocabulary's 58.*Received: 'dance'"):
        FINE.label_of("dance")


@pytest.mark.parametrize("name", ["finetuned", "pretrained"])
def test_every_move_is_nearest_to_itself(name):
    vocabulary = make_vocabulary(name)
    for label, action in enumerate(vocabulary.actions[:-2]):
        assert vocabulary.nearest(action) == label
        assert vocabulary.nearest([*action[:-1], 0.0]) == label  # A closed gripper changes nothing.
    still = np.zeros(vocabulary.actions.shape[1])
    assert vocabulary.nearest(still, gripper_change=-0.6) == len(vocabulary) - 2
    assert vocabulary.nearest(still, gripper_change=0.6) == len(vocabulary) - 1


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 5), st.floats(-0.5, 0.5))
def test_nearest_agrees_with_the_dominant_axis_rule_on_single_moves(axis, amount):
    """Away from the bins' edges and the threshold, where the two may differ by rounding."""
    edges = np.array([0.03, 0.075, 0.15] if axis < 3 else [0.1746, 0.5236, 1.1781])
    value = amount * (1 if axis < 3 else 5)
    small = 0.012 if axis < 3 else 0.09
    if abs(value) < small or (np.abs(np.abs(value) - edges) < 1e-3).any():
        return
    action = np.zeros(8)
    action[axis] = value
    derived = to_finetuning_labels(derive_supervision(np.delete(action, 6)[None]).labels)
    assert FINE.nearest(action) == derived[0]


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_files_of_both_kinds_are_the_same_vocabulary(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(GOOD))
    else:
        path.write_text(
            "gripper,phrase,dx,dy,dz,droll,dpitch,dyaw\n1,go up,0,0,0.1,0,0,0\n0,close it,0,0,0,0,0,0\n"
        )
    read = load_vocabulary(path)
    assert read.phrases == ("go up", "close it")
    np.testing.assert_array_equal(read.actions, np.array([json.loads(v) for v in GOOD.values()], np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "v.json: "),
        ("[]", "object of phrase"),
        ("{}", "at least one phrase"),
        ('{"a": "[0, 0]"}', "7 or 8"),
        ('{"a": "__import__(\'os\')"}', "list of numbers"),
        ('{"a": "[0, 0, 0, 0, 0, 0, NaN]"}', "finite"),
        ('{"a": "[1e999, 0, 0, 0, 0, 0, 0]"}', "finite"),
        ('{"a": "[1e300, 0, 0, 0, 0, 0, 0]"}', "finite"),
        ('{"a": "[0, 0, 0, 0, 0, 0, 2]"}', r"in \[0, 1\]"),
        ('{"a": [true, 0, 0, 0, 0, 0, 0]}', "list of numbers"),
        ('{"a": "' + "[" * 100000 + '"}', "list of numbers"),
        ('{" ": "[0, 0, 0, 0, 0, 0, 0]"}', "must be a text"),
        ('{"a": "[0, 0, 0, 0, 0, 0, 0]", "A": "[1, 0, 0, 0, 0, 0, 0]"}', "same phrase.*'a' and 'A'"),
        ('{"a": "[0, 0, 0, 0, 0, 0, 0]", "a": "[1, 0, 0, 0, 0, 0, 0]"}', "same phrase"),
        ('{"a": "[0, 0, 0, 0, 0, 0, 0]", "b": "[0, 0, 0, 0, 0, 0, 0]"}', "same action.*'a' and 'b'"),
        ('{"a": "[0, 0, 0, 0, 0, 0, 0]", "b": "[0, 0, 0, 0, 0, 0, 0, 1]"}', "as many numbers"),
        (
            '{"a": [0.1, 0, 0, 0, 0, 0, 1], "b": [0, 0.1, 0, 0, 0, 0, 0], "c": [0, 0, 0, 0, 0, 0, 0]}',
            "leaves the gripper as it was last sent.*1 in 'a', 0 in 'b'",
        ),
        ('{"a": [' + "9" * 400 + ", 0, 0, 0, 0, 0, 1]}", "v.json: "),
        ("[" * 100_000, "v.json: "),
    ],
)
def test_wrong_json(tmp_path, content, message):
    path = tmp_path / "v.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_vocabulary(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "columns must be"),
        ("phrase,dx\n", "columns must be"),
        ("phrase,dx,dy,dz,droll,dpitch,dyaw,gripper\n", "at least one phrase"),
        ("phrase,dx,dy,dz,droll,dpitch,dyaw,gripper\na,0,0,0,0,0,0\n", "line 2 must have 8"),
        ("phrase,dx,dy,dz,droll,dpitch,dyaw,gripper\na,0,0,0,0,0,0,0,9\n", "line 2 must have 8"),
        ('phrase,dx,dy,dz,droll,dpitch,dyaw,gripper\n"' + "a" * 200_000, "v.csv: field larger"),
        ("phrase,dx,dy,dz,droll,dpitch,dyaw,gripper\na,x,0,0,0,0,0,0\n", "line 2 must hold numbers"),
    ],
)
def test_wrong_csv(tmp_path, content, message):
    path = tmp_path / "v.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_vocabulary(path)


@pytest.mark.parametrize(
    "phrases",
    [("don't", "don’t"), ("pick", "pick&nbsp;"), ("word " * 90 + "a", "word " * 90 + "b"), ("A", "a")],
)
def test_phrases_that_the_tokenizer_makes_one_of(phrases):
    with pytest.raises(ValueError, match="same phrase"):
        Vocabulary(phrases, [[0] * 7, [0.1, 0, 0, 0, 0, 0, 1]])


def test_a_file_with_a_byte_order_mark(tmp_path):
    (tmp_path / "v.json").write_bytes(b"\xef\xbb\xbf" + b'{"a": "[0, 0, 0, 0, 0, 0, 1]"}')
    assert load_vocabulary(tmp_path / "v.json").phrases == ("a",)


@pytest.mark.parametrize(
    ("source", "error"), [("fine", ValueError), ("x.yaml", ValueError), ("absent.json", FileNotFoundError)]
)
def test_unknown_sources(source, error):
    with pytest.raises(error):
        make_vocabulary(source)


@pytest.mark.parametrize("action", [[0.0] * 7, [np.nan] * 8, [[0.0] * 8]])
def test_nearest_refuses_what_is_no_action(action):
    with pytest.raises(ValueError, match="8 finite numbers"):
        FINE.nearest(action)


def test_nearest_without_such_a_class():
    no_gripper = Vocabulary(("go up",), np.array([[0, 0, 0.1, 0, 0, 0, 1]]))
    with pytest.raises(ValueError, match="no class that sets the gripper"):
        no_gripper.nearest([0] * 7, gripper_change=1)
    only_gripper = Vocabulary(("close it",), np.array([[0, 0, 0, 0, 0, 0, 0]]))
    with pytest.raises(ValueError, match="no class that moves"):
        only_gripper.nearest([0.1] + [0] * 6)


def test_weights_balance_twenty_centimetres_and_a_quarter_turn():
    assert pytest.approx(np.pi / 2, abs=1e-4) == 0.2 * vocabulary_lib.POSITION_WEIGHT
