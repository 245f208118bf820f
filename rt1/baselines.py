"""What a policy that looks at nothing reaches: the figures to beat."""

import numpy as np


def constant_predictor_loss(
    training_tokens: np.ndarray, tokens: np.ndarray, vocab_size: int, *, smoothing: float = 1e-3
) -> float:
    """Cross-entropy of always predicting the training tokens' frequencies, each dimension by itself.

    No predictor that ignores its input does better on the training tokens.

    Args:
      training_tokens: int [n, tokens_per_action].
      tokens: int [m, tokens_per_action], to score.
      vocab_size: number of tokens.
      smoothing: added to every count, so that an unseen token has a finite loss.

    Returns:
      The mean over rows and dimensions, in nats.

    Raises:
      ValueError: shapes that do not agree, or tokens outside the vocabulary.
    """
    for name, array in (("training_tokens", training_tokens), ("tokens", tokens)):
        if array.ndim != 2 or not len(array) or array.shape[1] != training_tokens.shape[1]:
            raise ValueError(
                f"{name} must be [n, {training_tokens.shape[-1]}], n > 0. Received: {array.shape}"
            )
        if array.min() < 0 or array.max() >= vocab_size:
            raise ValueError(f"{name} must be in [0, {vocab_size}). Received: {array.min()} to {array.max()}")
    losses = []
    for column in range(tokens.shape[1]):
        counts = np.bincount(training_tokens[:, column], minlength=vocab_size) + smoothing
        losses.append(-np.log(counts / counts.sum())[tokens[:, column]])
    return float(np.mean(losses))
