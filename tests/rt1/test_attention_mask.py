"""The mask against its definition, pair by pair."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt1.attention_mask import attention_mask

steps = st.integers(1, 4)
images = st.integers(1, 4)
actions = st.integers(0, 5)


@given(steps, images, actions)
def test_every_pair(time_steps: int, image_tokens: int, action_tokens: int) -> None:
    mask = attention_mask(time_steps, image_tokens, action_tokens)
    tokens = [
        (t, is_action, i)
        for t in range(time_steps)
        for is_action, count in ((False, image_tokens), (True, action_tokens))
        for i in range(count)
    ]
    assert mask.shape == (len(tokens), len(tokens))
    for i, (_, i_is_action, _) in enumerate(tokens):
        for j, (_, j_is_action, _) in enumerate(tokens):
            if j > i:
                expected = False  # Not the future.
            elif i_is_action and j_is_action:
                expected = False  # No action token from an action token, not even itself.
            else:
                expected = True
            assert mask[i, j] == expected, (tokens[i], tokens[j])


@given(steps, images, actions)
def test_every_token_sees_something(time_steps: int, image_tokens: int, action_tokens: int) -> None:
    assert attention_mask(time_steps, image_tokens, action_tokens).any(axis=1).all()


@given(steps, images, actions)
def test_a_shorter_window_is_the_corner_of_a_longer_one(t: int, images: int, actions: int) -> None:
    """What lets the first steps of an episode use a part of the mask."""
    n = t * (images + actions)
    longer = attention_mask(t + 1, images, actions)
    assert (longer[:n, :n] == attention_mask(t, images, actions)).all()


def test_image_tokens_see_earlier_action_tokens() -> None:
    mask = attention_mask(2, 1, 1)
    assert mask.astype(int).tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 1, 0]]


@pytest.mark.parametrize("layout", [(0, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_layouts_that_are_none(layout: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=f"time_steps={layout[0]}, image_tokens={layout[1]}"):
        attention_mask(*layout)
