"""A folder of stored embeddings of the food combinations: ``{action}_{food}.npy``.

The shipped folder ``embeddings/`` is one; the published ones (``scoop_banana.npy``,
``skewering_cherry_tomtato.npy``…) are read too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core import food
from language.stored_identity import ENCODER_FILE, content_hash, read_encoder_file
from language.text_encoder import EMBEDDING_SIZE, check_embeddings, check_texts, suggestion

_LFS_POINTER = b"version https://git-lfs"


class EmbeddingFolder:
    """Answers with the stored embeddings and knows no other sentence.

    Args:
      folder: of .npy files, floating point [512] (or [1, 512]) of unit norm, and, beside them,
        ``encoder.json`` where it is known which encoder made them.

    Attributes:
      identity: as ``encoder.json`` says, else ``folder:`` and a hash of the embeddings.
      size: 512.
      free_text: False.
      combinations: the names that can be encoded, in the order of ``core.food.combinations``.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: there are no .npy files, a file is not named by a combination or is no embedding, two
        files are of one combination and differ, or ``encoder.json`` is not as it should be.
    """

    size = EMBEDDING_SIZE
    free_text = False

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise FileNotFoundError(f"There is no such folder of embeddings. Received: {folder}")
        self._vectors = _read_all(self._folder)
        self.combinations = tuple(name for name in food.combinations() if name in self._vectors)
        stated = read_encoder_file(self._folder)
        if stated is None:
            self.identity = f"folder:{content_hash(self._folder, _npy_files(self._folder))}"
        else:
            self.identity = str(stated["identity"])
            _check_sentences(stated, self._folder)
        self._by_sentence = {food.sentence(*food.split_combination(name)): name for name in self.combinations}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Looks up n texts: float32 [n, 512], unit norm.

        Args:
          texts: each the name of a combination (``scoop_cherry_tomtato`` too: action, underscore, food, in
            any spelling that ``core.food`` takes) or its sentence (``core.food.sentence``); capitals do not
            matter.

        Raises:
          ValueError: a text is neither, or its combination is not in the folder; the message says what
            is there.
        """
        names = [self._name(sentence) for sentence in check_texts(texts)]
        if not names:
            return np.empty((0, self.size), np.float32)
        return np.stack([self._vectors[name] for name in names])

    def _name(self, sentence: str) -> str:
        if sentence in self._by_sentence:
            return self._by_sentence[sentence]
        there = f"{len(self.combinations)} combinations: {', '.join(self.combinations)}"
        near = suggestion(sentence.lower(), [*self.combinations, *self._by_sentence])
        raise ValueError(
            f"{self._folder} has no embedding of this text, only the names and sentences of {there}."
            f"{near} Received: {sentence!r}"
        )


def _npy_files(folder: Path) -> list[Path]:
    """In sorted order, without the hidden ones that an interrupted write may leave."""
    return sorted(path for path in folder.glob("*.npy") if not path.name.startswith("."))


def _read_all(folder: Path) -> dict[str, np.ndarray]:
    """Combination -> float32 [512]."""
    vectors: dict[str, np.ndarray] = {}
    read_from: dict[str, Path] = {}
    for path in _npy_files(folder):
        try:
            name = food.combination(*food.split_combination(path.stem))
        except ValueError as error:
            raise ValueError(f"{path} is not named {{action}}_{{food}}.npy: {error}") from error
        vector = _read(path)
        if name in vectors and not np.array_equal(vectors[name], vector):
            raise ValueError(
                f"Two files are of the combination {name} and differ. Received: {read_from[name]} and {path}"
            )
        vectors[name], read_from[name] = vector, path
    if not vectors:
        raise ValueError(
            f"A folder of embeddings must hold {{action}}_{{food}}.npy files. Received: {folder}"
        )
    return vectors


def _read(path: Path) -> np.ndarray:
    """float32 [512]."""
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ValueError(
                f"{path} is a git-lfs pointer, not the embedding: run `git lfs pull` where it came from."
            )
        file.seek(0)
        try:
            # Unlike numpy.load this takes no archive and no pickle, whatever the file holds.
            array = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is not a whole .npy file of numbers: {error}") from error
    return check_embeddings(array if array.ndim == 2 else array[None], [path.stem], str(path))[0]


def _check_sentences(stated: dict[str, Any], folder: Path) -> None:
    """The sentences that were encoded must be those that ``encode`` is asked for."""
    sentences = stated.get("sentences", {})
    if not isinstance(sentences, dict):
        raise ValueError(
            f"{folder / ENCODER_FILE}: sentences must map names to sentences. Received: {sentences!r}"
        )
    for name, sentence in sentences.items():
        expected = food.sentence(*food.split_combination(name))
        if sentence != expected:
            raise ValueError(
                f"{folder / ENCODER_FILE}: {name} must be the embedding of {expected!r}. "
                f"(Without {ENCODER_FILE} the embeddings are used as an encoder of their own.) "
                f"Received: {sentence!r}"
            )
