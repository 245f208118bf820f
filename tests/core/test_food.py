"""The food task's words."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from core import food
from tests.shared_data import shared


def test_there_are_66_combinations() -> None:
    names = food.combinations()
    assert len(food.ACTIONS) == 3
    assert len(food.FOODS) == 22
    assert len(set(names)) == 66
    assert names[0] == "skewering_banana"
    assert names[-1] == "twirling_watermelon"


@pytest.mark.parametrize("name", food.combinations())
def test_a_name_comes_apart_and_together(name: str) -> None:
    action, kind = food.split_combination(name)
    assert food.combination(action, kind) == name
    assert name == f"{action}_{kind}"


def test_sentences_tell_combinations_apart() -> None:
    sentences = {food.sentence(*food.split_combination(name)) for name in food.combinations()}
    assert len(sentences) == 66
    assert "scoop the mac and cheese" in sentences
    assert not any("_" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("word", "action"),
    [
        ("scoop", "scooping"),
        ("Scooping", "scooping"),
        (" SKEWER ", "skewering"),
        ("twirl", "twirling"),
        ("twirling", "twirling"),
    ],
)
def test_actions_have_short_forms(word: str, action: str) -> None:
    assert food.canonical_action(word) == action


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("pasta", "fettucine"),
        ("Noodles", "fettucine"),
        ("fettuccine", "fettucine"),
        ("macaroni", "mac_and_cheese"),
        ("mac and cheese", "mac_and_cheese"),
        ("Mac-and-Cheese", "mac_and_cheese"),
        ("cherry_tomtato", "cherry_tomato"),
        ("cherry tomatoes", "cherry_tomato"),
        ("strawberries", "strawberry"),
        ("blueberries", "blueberry"),
        ("brownies", "brownie"),
        ("mashed potatoes", "mashed_potato"),
        ("green beans", "green_bean"),
        ("grapes", "grape"),
        ("sausages", "sausage"),
        ("  rice\n", "rice"),
    ],
)
def test_foods_have_synonyms_and_plurals(word: str, kind: str) -> None:
    assert food.canonical_food(word) == kind


@pytest.mark.parametrize("kind", food.FOODS)
def test_no_food_is_taken_for_another(kind: str) -> None:
    assert food.canonical_food(kind) == kind
    assert food.canonical_food(kind.replace("_", " ").upper()) == kind
    assert food.canonical_food(kind.replace("_", "-") + "s") == kind


@pytest.mark.parametrize("word", ["", " ", "apple", "s", "es", "ies", "bananas foster", "skewering_banana"])
def test_an_unknown_food_is_an_error(word: str) -> None:
    with pytest.raises(ValueError, match="food_type must be one of .*'watermelon'.*Received: "):
        food.canonical_food(word)


@pytest.mark.parametrize("word", ["", "eat", "scoops", "scooping_rice"])
def test_an_unknown_action_is_an_error(word: str) -> None:
    with pytest.raises(ValueError, match="action must be one of .*'twirling'.*Received: "):
        food.canonical_action(word)


@pytest.mark.parametrize(
    "name", ["", "_", "skewering", "skewering_", "banana", "banana_skewering", "x_banana"]
)
def test_what_is_no_combination_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        food.split_combination(name)


def test_the_published_file_names_are_all_combinations() -> None:
    names = [path.stem for path in shared("data/food_embeddings").glob("*.npy")]
    assert "scoop_cherry_tomtato" in names
    assert sorted(food.combination(*food.split_combination(n)) for n in names) == sorted(food.combinations())


@settings(deadline=None)  # A busy machine is no failure.
@given(st.text(max_size=30))
def test_any_word_is_a_food_or_an_error(word: str) -> None:
    try:
        kind = food.canonical_food(word)
    except ValueError as error:
        assert repr(word) in str(error)
    else:
        assert kind in food.FOODS
