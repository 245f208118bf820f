"""The food acquisition task's words: actions, foods, how they are spelled and how they are asked for."""

import re

ACTIONS: tuple[str, ...] = ("skewering", "scooping", "twirling")
FOODS: tuple[str, ...] = (
    "banana",
    "blueberry",
    "broccoli",
    "brownie",
    "cantaloupe",
    "cherry_tomato",
    "chicken",
    "fettucine",
    "grape",
    "green_bean",
    "honeydew",
    "lettuce",
    "mac_and_cheese",
    "mashed_potato",
    "meatball",
    "oatmeal",
    "pineapple",
    "rice",
    "sausage",
    "spaghetti",
    "strawberry",
    "watermelon",
)
PARAMETERS: tuple[str, ...] = ("x1", "y1", "x2", "y2")

_ACTION_WORDS = {"scoop": "scooping", "skewer": "skewering", "twirl": "twirling"}
_FOOD_WORDS = {
    "pasta": "fettucine",
    "noodles": "fettucine",
    "noodle": "fettucine",
    "fettuccine": "fettucine",
    "macaroni": "mac_and_cheese",
    "cherry_tomtato": "cherry_tomato",  # The published files spell it so.
    "tomato": "cherry_tomato",
    "mashed_potatoes": "mashed_potato",
}


def _plain(word: str) -> str:
    return re.sub(r"[\s\-_]+", "_", word.strip().lower())


def _singulars(word: str) -> tuple[str, ...]:
    forms = [word]
    if word.endswith("ies"):
        forms.append(word[:-3] + "y")
    if word.endswith("es"):
        forms.append(word[:-2])
    if word.endswith("s"):
        forms.append(word[:-1])
    return tuple(forms)


def canonical_action(word: str) -> str:
    """``scoop``, ``Scooping``… -> ``scooping``.

    Raises:
      ValueError: not one of the three actions.
    """
    plain = _plain(word)
    plain = _ACTION_WORDS.get(plain, plain)
    if plain not in ACTIONS:
        raise ValueError(f"action must be one of {list(ACTIONS)}. Received: {word!r}")
    return plain


def canonical_food(word: str) -> str:
    """``Cherry tomatoes``, ``mac-and-cheese``, ``noodles``… -> the food's name.

    Raises:
      ValueError: not one of the 22 foods.
    """
    for form in _singulars(_plain(word)):
        form = _FOOD_WORDS.get(form, form)
        if form in FOODS:
            return form
    raise ValueError(f"food_type must be one of {list(FOODS)}. Received: {word!r}")


def combination(action: str, food: str) -> str:
    """The combination's name, e.g. ``skewering_banana``; synonyms are taken."""
    return f"{canonical_action(action)}_{canonical_food(food)}"


def combinations() -> tuple[str, ...]:
    """The 66 names, action by action."""
    return tuple(f"{action}_{food}" for action in ACTIONS for food in FOODS)


def split_combination(name: str) -> tuple[str, str]:
    """``scoop_cherry_tomtato`` or ``scooping_cherry_tomato`` -> (``scooping``, ``cherry_tomato``).

    Raises:
      ValueError: not a combination.
    """
    action, _, food = _plain(name).partition("_")
    return canonical_action(action), canonical_food(food)


def sentence(action: str, food: str) -> str:
    """The instruction in words, e.g. ``skewer the banana``; what the shipped embeddings encode."""
    verb = {"skewering": "skewer", "scooping": "scoop", "twirling": "twirl"}[canonical_action(action)]
    return f"{verb} the {canonical_food(food).replace('_', ' ')}"
