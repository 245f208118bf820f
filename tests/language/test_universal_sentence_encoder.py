"""The TF-Hub encoder, on a tiny SavedModel of our own: no download, no weights."""

import http.server
import io
import json
import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from language import TextEncoder, make_text_encoder
from language.universal_sentence_encoder import UniversalSentenceEncoder
from tests.language import tiny_saved_model

TEXTS = ["pick up the apple", "open the drawer", "skewer the banana"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_saved_model.save(tmp_path_factory.mktemp("encoder") / "model")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


class _Server(http.server.ThreadingHTTPServer):
    """Answers every request with one archive and counts them."""

    def __init__(self, archive: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.archive = archive
        self.requests = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.archive)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(model: Path) -> Iterator[_Server]:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(model, ".")
    with _Server(archive.getvalue()) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_saved_model_encodes_texts(model: Path) -> None:
    encoder = make_text_encoder(str(model))
    assert isinstance(encoder, UniversalSentenceEncoder)
    assert isinstance(encoder, TextEncoder)
    assert encoder.free_text
    embeddings = encoder.encode(TEXTS)
    assert embeddings.shape == (3, 512)
    assert embeddings.dtype == np.float32
    assert len(np.unique(embeddings, axis=0)) == 3
    np.testing.assert_array_equal(encoder.encode(["skewering_banana"]), embeddings[2:])
    assert encoder.encode([]).shape == (0, 512)


def test_many_texts_are_encoded_in_order(model: Path) -> None:
    encoder = UniversalSentenceEncoder(model)
    texts = [f"text {i}" for i in range(150)]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_array_equal(encoder.encode(texts), alone)


@pytest.mark.parametrize("kind", ["dictionary", "signature"])
def test_older_forms_of_models_are_called(tmp_path: Path, model: Path, kind: str) -> None:
    encoder = UniversalSentenceEncoder(tiny_saved_model.save(tmp_path / kind, kind))
    np.testing.assert_array_equal(encoder.encode(TEXTS), UniversalSentenceEncoder(model).encode(TEXTS))


@pytest.mark.parametrize(
    ("kind", "size", "scale", "message"),
    [
        ("callable", 256, 1.0, r"\[1, 256\]"),
        ("callable", 512, 2.0, "unit norm"),
        ("callable", 512, 0.0, "zero"),
        ("callable", 512, float("nan"), "finite"),
        ("unnamed", 512, 1.0, r"takes strings.*\['a', 'b'\]"),
        ("numbers", 512, 1.0, "takes strings"),
        ("silent", 512, 1.0, "takes strings.*serving_default"),
        ("several", 512, 1.0, r"\[1, 1, 512\]"),
    ],
)
def test_what_is_no_sentence_encoder_is_refused_when_made(
    tmp_path: Path, kind: str, size: int, scale: float, message: str
) -> None:
    folder = tiny_saved_model.save(tmp_path / "model", kind, size=size, scale=scale)
    with pytest.raises(ValueError, match=message) as error:
        UniversalSentenceEncoder(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("texts", [[""], ["  "], [None], "one string"])
def test_what_cannot_be_encoded_is_refused(model: Path, texts: list[str]) -> None:
    with pytest.raises(ValueError, match="Received"):
        UniversalSentenceEncoder(model).encode(texts)


def test_the_identity_is_of_the_content(model: Path, tmp_path: Path) -> None:
    identity = UniversalSentenceEncoder(model).identity
    assert identity.startswith("saved-model:")
    copied = Path(shutil.copytree(model, tmp_path / "elsewhere"))
    assert UniversalSentenceEncoder(copied).identity == identity
    other = tiny_saved_model.save(tmp_path / "other", scale=1.0005)
    assert UniversalSentenceEncoder(other).identity != identity


def test_a_copy_can_state_the_identity_it_was_fetched_under(model: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(model, tmp_path / "copy"))
    (copied / "encoder.json").write_text(json.dumps({"identity": "tfhub:https://example.test/use/5"}))
    assert UniversalSentenceEncoder(copied).identity == "tfhub:https://example.test/use/5"


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        UniversalSentenceEncoder(tmp_path / "nowhere")


def test_a_path_that_is_no_saved_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(ValueError, match="saved_model.pb.*weights.h5"):
        UniversalSentenceEncoder(tmp_path)
    with pytest.raises(ValueError, match="a file"):
        UniversalSentenceEncoder(tmp_path / "weights.h5")


@pytest.mark.parametrize("damage", ["graph", "no variables"])
def test_a_damaged_saved_model_is_an_error(model: Path, tmp_path: Path, damage: str) -> None:
    copied = Path(shutil.copytree(model, tmp_path / "copy"))
    if damage == "graph":
        (copied / "saved_model.pb").write_bytes((copied / "saved_model.pb").read_bytes()[:200])
    else:
        shutil.rmtree(copied / "variables")
    with pytest.raises(ValueError, match="SavedModel does not load"):
        UniversalSentenceEncoder(copied)


def test_a_handle_is_fetched_once_and_then_offline(server: _Server, hub_cache: Path, model: Path) -> None:
    handle = f"http://127.0.0.1:{server.server_port}/google/tiny/1"
    encoder = make_text_encoder(handle)
    assert encoder.identity == f"tfhub:{handle}"
    assert server.requests == 1
    np.testing.assert_array_equal(encoder.encode(TEXTS), UniversalSentenceEncoder(model).encode(TEXTS))
    assert make_text_encoder(f"{handle}/").identity == encoder.identity
    assert server.requests == 1


def test_a_handle_that_cannot_be_reached_is_an_error(hub_cache: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        handle = f"http://127.0.0.1:{closed.getsockname()[1]}/google/tiny/1"
        with pytest.raises(ConnectionError, match="could not be fetched.*Received: " + handle):
            UniversalSentenceEncoder(handle)


def test_a_network_that_says_nothing_does_not_hold_us(hub_cache: Path) -> None:
    before = socket.getdefaulttimeout()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        handle = f"http://127.0.0.1:{silent.getsockname()[1]}/google/tiny/1"
        with pytest.raises(ConnectionError, match="could not be fetched"):
            UniversalSentenceEncoder(handle, fetch_timeout=0.3)
    assert socket.getdefaulttimeout() == before


@pytest.mark.parametrize("handle", ["https://", "http://a b/c", "http://[::1"])
def test_a_handle_that_is_no_address_is_an_error(hub_cache: Path, handle: str) -> None:
    with pytest.raises(ConnectionError, match="could not be fetched"):
        UniversalSentenceEncoder(handle)


def test_an_answer_that_is_no_model_is_an_error(server: _Server, hub_cache: Path) -> None:
    server.archive = b"<html>sign in</html>"
    with pytest.raises(ConnectionError, match="could not be fetched"):
        UniversalSentenceEncoder(f"http://127.0.0.1:{server.server_port}/google/tiny/1")
