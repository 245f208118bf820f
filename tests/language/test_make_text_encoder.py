"""The factory: one string to the encoder it means, near misses to clear errors."""

import subprocess
import sys
from pathlib import Path

import gin
import pytest

from language import EMBEDDED, make_text_encoder, require_same_encoder
from language.embedding_folder import EmbeddingFolder
from language.fast_sentence_encoder import FastSentenceEncoder
from language.universal_sentence_encoder import as_handle
from tests.shared_data import ROOT, shared


def test_the_default_is_the_embedded_encoder() -> None:
    assert isinstance(make_text_encoder(), FastSentenceEncoder)
    assert isinstance(make_text_encoder(EMBEDDED), FastSentenceEncoder)


def test_a_folder_of_embeddings_is_read() -> None:
    encoder = make_text_encoder(str(ROOT / "embeddings"))
    assert isinstance(encoder, EmbeddingFolder)
    require_same_encoder(make_text_encoder().identity, encoder.identity, "the shipped embeddings")


def test_a_checkpoint_of_another_encoder_is_refused() -> None:
    published = make_text_encoder(str(shared("data/food_embeddings")))
    with pytest.raises(ValueError, match="must not be mixed"):
        require_same_encoder(make_text_encoder().identity, published.identity, "the checkpoint")


def test_gin_chooses_the_encoder() -> None:
    with gin.unlock_config():
        gin.bind_parameter("language.make_text_encoder.source", str(ROOT / "embeddings"))
        try:
            assert isinstance(make_text_encoder(), EmbeddingFolder)
        finally:
            gin.clear_config()


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("embeded", ValueError, "Did you mean 'embedded'"),
        ("Embedded", ValueError, "Did you mean 'embedded'"),
        ("", ValueError, "Received: ''"),
        ("  ", ValueError, "Received"),
        (None, ValueError, "Received: None"),
        ("use", ValueError, "Received: 'use'"),
        ("nowhere/at/all", FileNotFoundError, "nowhere/at/all, and there is no such folder"),
        (str(ROOT / "core"), ValueError, r"neither .npy files nor saved_model.pb"),
        (str(ROOT / "pyproject.toml"), ValueError, "the file .*pyproject.toml"),
    ],
)
def test_near_misses_say_what_was_expected(source: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        make_text_encoder(source)
    assert "source of a text encoder" in str(raised.value)


@pytest.mark.parametrize(
    ("source", "handle"),
    [
        ("https://tfhub.dev/google/x-large/5", "https://tfhub.dev/google/x-large/5"),
        ("https://tfhub.dev/google/x-large/5/", "https://tfhub.dev/google/x-large/5"),
        (
            "google/universal-sentence-encoder-large/5",
            "https://tfhub.dev/google/universal-sentence-encoder-large/5",
        ),
        ("tfhub.dev/google/x/4", "https://tfhub.dev/google/x/4"),
        ("google/x", None),
        ("runs/food/5", None),
        ("embedded", None),
    ],
)
def test_handles_are_told_from_paths(source: str, handle: str | None) -> None:
    assert as_handle(source) == handle


def test_a_folder_that_exists_is_never_taken_for_a_handle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "google" / "x" / "5").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert as_handle("google/x/5") is None


def test_importing_language_and_the_embedded_encoder_needs_no_tensorflow() -> None:
    code = (
        "import sys, language; language.make_text_encoder().encode(['a word']); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
