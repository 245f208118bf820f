"""Prompt and paraphrases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_tf.rt.paraphrases import all_wordings, draw_wording, wordings_of
from clip_tf.rt.prompt import PUBLISHED, apply_prompt
from clip_tf.rt.vocabulary import Vocabulary, make_vocabulary


def test_the_published_prompt():
    assert apply_prompt("close the laptop") == (
        "what motion should the robot arm perform to complete the instruction 'close the laptop'?"
    )


@given(st.text(), st.sampled_from([PUBLISHED, "{}", "do: {}", "{}!"]))
def test_it_is_never_applied_twice(text, prompt):
    once = apply_prompt(text, prompt)
    assert apply_prompt(once, prompt) == once
    assert apply_prompt(f" {once.upper()} ", prompt) == f" {once.upper()} " or prompt == "{}"


@pytest.mark.parametrize(
    "text",
    [
        "What  motion should the robot arm perform\nto complete the instruction 'close the laptop'?",
        "what motion should the robot arm perform to complete the instruction ‘close the laptop’?",
        "what motion should the robot arm perform to complete the instruction 'close the laptop' ?",
        "what motion should the robot arm perform to complete the instruction 'close the laptop'",
    ],
)
def test_instructions_that_are_in_the_prompt_already(text):
    assert apply_prompt(text) == text


def test_a_question_is_no_prompt():
    assert apply_prompt("down a bit", "do {}") == "do down a bit"
    assert apply_prompt("where?", "{}?") == "where?"
    assert apply_prompt("where", "{}?") == "where?"
    assert apply_prompt("is it 'here'?") == PUBLISHED.format("is it 'here'?")


@pytest.mark.parametrize("prompt", ["", "no gap", "{} and {}"])
def test_wrong_prompts(prompt):
    with pytest.raises(ValueError, match="exactly once"):
        apply_prompt("x", prompt)


def test_several_hundred_wordings_and_none_for_two_classes():
    wordings = [w.lower() for group in all_wordings().values() for w in group]
    assert len(wordings) == len(set(wordings))
    counts = [len(group) for group in wordings_of(make_vocabulary("pretrained"))]
    assert min(counts) >= 10
    assert sum(counts) > 600


def test_every_wording_of_a_move_says_its_size():
    sizes = {"centimeter", "cm", "degrees", "turn"}
    for phrase, group in all_wordings().items():
        if phrase.endswith("the gripper"):
            continue
        assert all(sizes & set(w.replace("centimeters", "centimeter").split()) for w in group), phrase


def test_a_custom_phrase_has_only_itself():
    vocabulary = Vocabulary(("wave", "close the gripper"), [[0.1, 0, 0, 0, 0, 0, 1], [0] * 7])
    first, second = wordings_of(vocabulary)
    assert first == ("wave",)
    assert second[0] == "close the gripper"
    assert len(second) > 5


def test_draws_repeat_and_reach_every_wording():
    wordings = ("a", "b", "c")
    drawn = [draw_wording(wordings, f"0/{i}") for i in range(60)]
    assert drawn == [draw_wording(wordings, f"0/{i}") for i in range(60)]
    assert set(drawn) == set(wordings)
