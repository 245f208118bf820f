"""CLIP's token ids of texts, equal to OpenCLIP's."""

import functools
from collections.abc import Iterable

import instant_clip_tokenizer
import numpy as np

from clip_tf.text_cleaning import clean

CONTEXT_LENGTH = 77
VOCAB_SIZE = 49408
START, END, PADDING = 49406, 49407, 0


def tokenize(texts: str | Iterable[str], context_length: int = CONTEXT_LENGTH) -> np.ndarray:
    """Token ids of texts.

    Args:
      texts: one text or several; they are cleaned first.
      context_length: ids of a text. A longer one is cut, and still ends with the end token.

    Returns:
      int32 [n, context_length]: start, text, end, then zeros.

    Raises:
      ValueError: one of them is no valid text, or the context has no room for a token between start and end.
    """
    if context_length < 3:
        raise ValueError(f"context_length must be at least 3. Received: {context_length}")
    cleaned = [clean(text) for text in ([texts] if isinstance(texts, str) else texts)]
    if not cleaned:
        return np.zeros((0, context_length), np.int32)
    ids = _tokenizer().tokenize_batch(cleaned, context_length=context_length)
    return np.asarray(ids, np.int32).reshape(len(cleaned), context_length)


def check_vocab_size(vocab_size: int) -> None:
    """Raises:
    ValueError: a text tower with so few rows cannot take the ids of ``tokenize``.
    """
    if vocab_size < VOCAB_SIZE:
        raise ValueError(
            f"The text tower's vocab_size must be at least {VOCAB_SIZE}, for the ids of CLIP's tokenizer. "
            f"Received: {vocab_size}"
        )


@functools.cache
def _tokenizer() -> instant_clip_tokenizer.Tokenizer:
    return instant_clip_tokenizer.Tokenizer()
