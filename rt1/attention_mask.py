"""Which token may attend to which (RT-1, section 5.1, and the behaviour of its code)."""

import numpy as np


def attention_mask(time_steps: int, image_tokens: int, action_tokens: int) -> np.ndarray:
    """The mask over the tokens of a window, step after step, image tokens before action tokens.

    Attention is causal, except that an action token sees no action token at all: not its own step's, not
    itself, not earlier ones. Image tokens do see earlier action tokens.

    Returns:
      [n, n] bool with n = time_steps · (image_tokens + action_tokens); True where a row may attend to a
      column. Every row may attend to something, as its own step's image tokens come first.

    Raises:
      ValueError: no time step or no image token.
    """
    if time_steps < 1 or image_tokens < 1 or action_tokens < 0:
        raise ValueError(
            "The mask needs at least one time step and one image token. "
            f"Received: time_steps={time_steps}, image_tokens={image_tokens}, action_tokens={action_tokens}"
        )
    step = image_tokens + action_tokens
    n = time_steps * step
    is_action = np.arange(n) % step >= image_tokens
    causal = np.tril(np.ones((n, n), bool))
    return causal & ~(is_action[:, None] & is_action[None, :])
