"""The Universal Sentence Encoder (Cer et al., 2018) as a TensorFlow SavedModel.

RT-1 was trained on embeddings of https://tfhub.dev/google/universal-sentence-encoder-large/5.
TensorFlow is imported when an encoder is made, not before.
"""

import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from language.stored_identity import content_hash, read_encoder_file
from language.text_encoder import EMBEDDING_SIZE, check_embeddings, check_texts

_TFHUB = "https://tfhub.dev/"
_SHORT_HANDLE = re.compile(r"(?:tfhub\.dev/)?(google/[\w.-]+(?:/[\w.-]+)*/\d+)/?")
_SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
_BATCH = 64
_FETCH_TIMEOUT_SECONDS = 30.0


class UniversalSentenceEncoder:
    """A SavedModel that takes strings [n] and answers embeddings [n, 512]. May be shared by threads.

    Args:
      source: a SavedModel folder, or a TF-Hub handle: a URL, or short as in
        ``google/universal-sentence-encoder-large/5``. A model that is fetched stays in the cache of
        TF-Hub (the environment variable TFHUB_CACHE_DIR) and is then there offline.
      fetch_timeout: how long the network may be silent while a model is fetched, in seconds.

    Attributes:
      identity: ``tfhub:`` and the handle as a URL; of a folder what its ``encoder.json`` states (a
        fetched model that was copied: state the identity it had), else ``saved-model:`` and a hash of
        its files.
      size: 512.
      free_text: True.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: the folder is no SavedModel, the model does not answer as above, or the handle is none.
      ConnectionError: the model of a handle is not in the cache and cannot be fetched.
    """

    size = EMBEDDING_SIZE
    free_text = True

    def __init__(self, source: str | Path, *, fetch_timeout: float = _FETCH_TIMEOUT_SECONDS) -> None:
        handle = None if isinstance(source, Path) else as_handle(source)
        if handle is None:
            folder = Path(source)
            self.identity = _folder_identity(folder)
        else:
            self.identity = f"tfhub:{handle}"
            folder = _fetch(handle, fetch_timeout)
        self._source = str(source)
        self._model = _load(folder)
        # One call now shows whether the model is a sentence encoder at all.
        self.encode(["skewer the banana"])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes n texts, 64 at once: float32 [n, 512], unit norm.

        The name of a food combination (``skewering_banana``) is encoded as its sentence.

        Raises:
          ValueError: not a sequence of strings; a text is without a letter or digit, longer than 4096
            characters, or named like a combination of an unknown food; the model answers otherwise.
        """
        sentences = check_texts(texts)
        if not sentences:
            return np.empty((0, self.size), np.float32)
        parts = (sentences[i : i + _BATCH] for i in range(0, len(sentences), _BATCH))
        return np.concatenate([check_embeddings(self._model(p), p, self._source) for p in parts])


def as_handle(source: str) -> str | None:
    """The URL of a TF-Hub handle, None where ``source`` is none (or is a folder that exists)."""
    if re.match(r"https?://", source):
        return source.rstrip("/")
    short = _SHORT_HANDLE.fullmatch(source)
    if short is None or Path(source).exists():
        return None
    return _TFHUB + short.group(1)


def is_saved_model(folder: Path) -> bool:
    """Whether the folder holds the graph of a SavedModel; whether that loads is another question."""
    return any((folder / name).is_file() for name in _SAVED_MODEL_FILES)


def _folder_identity(folder: Path) -> str:
    if not folder.exists():
        raise FileNotFoundError(f"There is no such SavedModel folder. Received: {folder}")
    if not is_saved_model(folder):
        inside = sorted(p.name for p in folder.iterdir())[:5] if folder.is_dir() else "a file"
        raise ValueError(
            f"A SavedModel is a folder with {_SAVED_MODEL_FILES[0]} and variables/. "
            f"Received: {folder}, which is or holds {inside}"
        )
    stated = read_encoder_file(folder)
    if stated is not None:
        return str(stated["identity"])
    content = (p for p in folder.rglob("*") if p.is_file())
    return f"saved-model:{content_hash(folder, content)}"


def _fetch(handle: str, timeout: float) -> Path:
    """The folder of a handle's model, from TF-Hub's cache or else over the network."""
    from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)

    # isort: split
    import tensorflow as tf
    import tensorflow_hub as hub

    try:
        with _socket_timeout(timeout):
            return Path(hub.resolve(handle))
    except (OSError, EOFError, ValueError, http.client.HTTPException, tf.errors.OpError) as error:
        raise ConnectionError(
            f"The model of this TF-Hub handle is not in TF-Hub's cache and could not be fetched: "
            f"{type(error).__name__}: {error}. Without a network: fetch it elsewhere and give the folder of "
            f"its SavedModel, or use the encoder 'embedded'. Received: {handle}"
        ) from error


_timeout_lock = threading.Lock()


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """TF-Hub opens URLs without a timeout and takes none: a silent network would hold it for ever."""
    with _timeout_lock:
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(seconds)
        try:
            yield
        finally:
            socket.setdefaulttimeout(before)


def _load(folder: Path) -> Callable[[list[str]], np.ndarray]:
    """The model as a function of texts."""
    from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)

    # isort: split
    import tensorflow as tf

    try:
        model = tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"The SavedModel does not load: {error}. Received: {folder}") from error

    def call(texts: list[str]) -> np.ndarray:
        try:
            answer = _embeddings(_call(model, tf.constant(texts)))
            return tf.convert_to_tensor(answer).numpy()
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"A sentence encoder takes strings [n] and answers [n, {EMBEDDING_SIZE}]: {error}. "
                f"Received: {folder}"
            ) from error

    return call


def _call(model: Any, texts: Any) -> Any:
    if callable(model):
        return model(texts)
    signature = getattr(model, "signatures", {}).get("serving_default")
    if signature is None:
        raise ValueError("it can neither be called nor has it the signature serving_default")
    (name,) = signature.structured_input_signature[1]
    return signature(**{name: texts})


def _embeddings(answer: Any) -> Any:
    """Signatures and older models answer a dictionary."""
    if not isinstance(answer, Mapping):
        return answer
    if len(answer) == 1:
        return next(iter(answer.values()))
    if "outputs" not in answer:
        raise ValueError(f"it answers several tensors, none named outputs: {sorted(answer)}")
    return answer["outputs"]
