"""Sentence encoders behind one interface, and the shipped embeddings of the food combinations.

Importing ``language`` needs numpy only; TensorFlow comes with the encoders of TF-Hub, when one is made.
"""

from pathlib import Path

import gin

from language.embedding_folder import EmbeddingFolder
from language.fast_sentence_encoder import FastSentenceEncoder
from language.text_encoder import TextEncoder, check_embeddings, require_same_encoder, suggestion
from language.universal_sentence_encoder import UniversalSentenceEncoder, as_handle, is_saved_model

__all__ = ["EMBEDDED", "TextEncoder", "check_embeddings", "make_text_encoder", "require_same_encoder"]

EMBEDDED = "embedded"


@gin.configurable(module="language")
def make_text_encoder(source: str = EMBEDDED) -> TextEncoder:
    """Makes a sentence encoder.

    A checkpoint stores the source and the encoder's identity; ``require_same_encoder`` compares the
    identities when it is loaded.

    Args:
      source: one of
        - ``embedded``: the default, offline (``FastSentenceEncoder``);
        - a folder of .npy files ``{action}_{food}.npy`` (``EmbeddingFolder``);
        - a folder with a SavedModel (``UniversalSentenceEncoder``);
        - a TF-Hub handle: a URL, or short as in ``google/universal-sentence-encoder-large/5``
          (``UniversalSentenceEncoder``).

    Raises:
      ValueError: the source is none of these, or is damaged.
      FileNotFoundError: the source is the path of a folder that is not there.
      ConnectionError: the model of a handle cannot be fetched.
    """
    if not isinstance(source, (str, Path)) or not str(source).strip():
        raise ValueError(f"source of a text encoder: expected {_SOURCES}. Received: {source!r}")
    if source == EMBEDDED:
        return FastSentenceEncoder()
    folder = Path(source)
    if as_handle(str(source)) is not None or (folder.is_dir() and is_saved_model(folder)):
        return UniversalSentenceEncoder(source)
    if folder.is_dir():
        if not any(folder.glob("*.npy")):
            raise ValueError(
                f"source of a text encoder: the folder holds neither .npy files nor saved_model.pb. "
                f"Received: {source}"
            )
        return EmbeddingFolder(folder)
    if folder.exists():
        raise ValueError(f"source of a text encoder: expected {_SOURCES}. Received: the file {source}")
    message = f"source of a text encoder: expected {_SOURCES}.{suggestion(str(source).lower(), [EMBEDDED])}"
    if len(folder.parts) > 1:
        raise FileNotFoundError(f"{message} Received: {source}, and there is no such folder")
    raise ValueError(f"{message} Received: {source!r}, and there is no such folder")


_SOURCES = (
    f"{EMBEDDED!r}, a folder of .npy files or of a SavedModel, or a TF-Hub handle "
    "(https://… or google/universal-sentence-encoder-large/5)"
)
