"""What a sentence encoder is, and the checks that keep made-up and mixed embeddings out."""

import difflib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from core import food

EMBEDDING_SIZE = 512
MAX_CHARACTERS = 4096
_NORM_TOLERANCE = 1e-3
_SENTENCES = frozenset(food.sentence(*food.split_combination(name)) for name in food.combinations())


@runtime_checkable
class TextEncoder(Protocol):
    """Turns instructions into embeddings. Two encoders with one identity give the same embeddings."""

    @property
    def identity(self) -> str:
        """Names the encoder and its version; stored with data and checkpoints."""
        ...

    @property
    def size(self) -> int:
        """Length of an embedding: 512."""
        ...

    @property
    def free_text(self) -> bool:
        """Whether any sentence can be encoded, or only a known list of them."""
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes n texts.

        The name of a food combination (``skewering_banana``), and its sentence in other capitals, mean
        its sentence (``skewer the banana``), whichever encoder is asked.

        Returns:
          float32 [n, 512], each row of unit norm.

        Raises:
          ValueError: a text cannot be encoded; the message says which.
        """
        ...


def check_embeddings(array: np.ndarray, names: Sequence[str], where: str) -> np.ndarray:
    """Checks that every row is an embedding.

    Args:
      array: [n, 512] of floating point.
      names: n names of the rows, for the message.
      where: what the rows were taken from, for the message.

    Returns:
      The array as float32.

    Raises:
      ValueError: the array is misshapen or not floating point, or a row is not finite, is zero, or its
        norm is not 1 within 1e-3.
    """
    array = np.asarray(array)
    expected = (len(names), EMBEDDING_SIZE)
    if array.shape != expected or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{where}: embeddings must be floating point {list(expected)} (of {_listed(names)}). "
            f"Received: {array.dtype} {list(array.shape)}"
        )
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{where}: embeddings must be finite. Received: NaN or infinity for {_which(names, ~finite)}"
        )
    # In float64: float32 and smaller overflow or vanish when large or small numbers are squared.
    norms = np.linalg.norm(array.astype(np.float64), axis=1)
    zero = norms == 0.0
    if zero.any():
        raise ValueError(f"{where}: an embedding must not be zero. Received: zeros for {_which(names, zero)}")
    wrong = np.abs(norms - 1.0) > _NORM_TOLERANCE
    if wrong.any():
        raise ValueError(
            f"{where}: embeddings must have unit norm, within {_NORM_TOLERANCE}. "
            f"Received: norm {norms[wrong][0]:.6g} for {_which(names, wrong)}"
        )
    return array.astype(np.float32)


def require_same_encoder(expected: str, received: str, what: str) -> None:
    """Refuses to mix embeddings of two encoders.

    Args:
      expected: identity of the encoder that was used before, in training for example.
      received: identity of the encoder at hand.
      what: what the encoder at hand is for, for the message.

    Raises:
      ValueError: the identities differ, or one of them is empty (embeddings of unknown origin).
    """
    if not expected or not received or expected != received:
        raise ValueError(
            f"{what}: embeddings of different sentence encoders must not be mixed; the same words are "
            f"other vectors in each. Expected: {expected or 'no encoder is named'!r}. "
            f"Received: {received or 'no encoder is named'!r}"
        )


def check_texts(texts: Sequence[str]) -> list[str]:
    """Checks what a sentence encoder is given; what means a food combination becomes its sentence.

    Raises:
      ValueError: not a sequence of strings; a text is without a letter or digit, longer than 4096
        characters, no valid Unicode, or named like a combination of an unknown food.
    """
    is_list = isinstance(texts, Sequence) and not isinstance(texts, (str, bytes))
    if not is_list and not (isinstance(texts, np.ndarray) and texts.ndim > 0):
        raise ValueError(f"texts must be a sequence of strings, not one string. Received: {texts!r:.80}")
    return [_as_sentence(_check_text(text, i)) for i, text in enumerate(texts)]


def suggestion(word: str, known: Sequence[str]) -> str:
    """`` Did you mean 'scooping_rice'?`` where something known is near, else an empty string."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f" Did you mean {near[0]!r}?" if near else ""


def _check_text(text: object, index: int) -> str:
    if not isinstance(text, str):
        raise ValueError(f"texts[{index}] must be a string. Received: {type(text).__name__} {text!r:.80}")
    if not any(character.isalnum() for character in text):
        raise ValueError(f"texts[{index}] must hold a letter or a digit. Received: {text[:80]!r}")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"texts[{index}] must be a sentence of at most {MAX_CHARACTERS} characters. "
            f"Received: {len(text)} characters"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"texts[{index}] must be valid Unicode. Received: {text[:80]!r} ({error})"
        ) from error
    return text


def _as_sentence(text: str) -> str:
    """The sentence that a combination's name, or its sentence in other capitals, means; else the text.

    Raises:
      ValueError: the text is an identifier that begins with one of the actions, but of no known food.
    """
    plain = " ".join(text.lower().split())
    if plain in _SENTENCES:
        return plain
    if "_" not in plain or " " in plain or not _is_action(plain.partition("_")[0]):
        return text  # Also an identifier of something else, e.g. pick_up_the_can.
    return food.sentence(*food.split_combination(plain))


def _is_action(word: str) -> bool:
    try:
        food.canonical_action(word)
    except ValueError:
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:3]))
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _which(names: Sequence[str], wrong: np.ndarray) -> str:
    return _listed([name for name, is_wrong in zip(names, wrong, strict=True) if is_wrong])
