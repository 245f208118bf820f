"""Folders of stored embeddings: ours and the published ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from core import food
from language.embedding_folder import EmbeddingFolder
from language.text_encoder import check_texts
from tests.shared_data import ROOT, shared

FEW = ("skewering_banana", "scooping_cherry_tomato", "twirling_spaghetti")


def unit_vector(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(512)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three combinations, two of them in the published spelling."""
    for seed, name in enumerate(["skewering_banana", "scoop_cherry_tomtato", "twirling_spaghetti"]):
        np.save(tmp_path / f"{name}.npy", unit_vector(seed))
    return tmp_path


def test_names_and_sentences_in_any_spelling_find_the_stored_vector(folder: Path) -> None:
    encoder = EmbeddingFolder(folder)
    assert not encoder.free_text
    assert encoder.combinations == FEW
    texts = ["scooping_cherry_tomato", "scoop_cherry_tomtato", "Scoop the Cherry Tomato", "SCOOPING_Tomato"]
    embeddings = encoder.encode([*texts, "skewering_banana"])
    assert embeddings.dtype == np.float32
    for row in embeddings[:-1]:
        np.testing.assert_array_equal(row, unit_vector(1))
    np.testing.assert_array_equal(embeddings[-1], unit_vector(0))


def test_answers_are_copies(folder: Path) -> None:
    encoder = EmbeddingFolder(folder)
    encoder.encode(["skewering_banana"])[:] = 0.0
    np.testing.assert_array_equal(encoder.encode(["skewering_banana"])[0], unit_vector(0))


@pytest.mark.parametrize("text", ["skewering_rice", "skewer the rice", "pick up the apple", "skewering"])
def test_what_is_not_there_is_an_error_that_says_what_is(folder: Path, text: str) -> None:
    with pytest.raises(ValueError, match=", ".join(FEW)) as error:
        EmbeddingFolder(folder).encode(["skewering_banana", text])
    assert "Received" in str(error.value)


def test_a_near_miss_is_suggested(folder: Path) -> None:
    with pytest.raises(ValueError, match="Did you mean 'skewer the banana'"):
        EmbeddingFolder(folder).encode(["skewer the bananna"])


def test_an_unknown_food_is_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="food_type must be one of"):
        EmbeddingFolder(folder).encode(["skewering_apple"])


def test_the_identity_without_a_statement_is_of_the_content(folder: Path) -> None:
    before = EmbeddingFolder(folder).identity
    assert before == EmbeddingFolder(folder).identity
    assert before.startswith("folder:")
    np.save(folder / "skewering_banana.npy", unit_vector(9))
    assert EmbeddingFolder(folder).identity != before


def test_the_stated_identity_is_taken(folder: Path) -> None:
    sentences = {"skewering_banana": "skewer the banana"}
    (folder / "encoder.json").write_text(json.dumps({"identity": "some==1", "sentences": sentences}))
    assert EmbeddingFolder(folder).identity == "some==1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "identity"),
        ("{}", "identity"),
        ('{"identity": " "}', "identity"),
        ('{"identity": 3}', "identity"),
        ('{"identity": "a", "size": 384}', "size must be 512"),
        ('{"identity": "a", "sentences": ["x"]}', "sentences"),
        ('{"identity": "a", "sentences": {"skewering_banana": "eat it"}}', "skewering_banana .*'eat it'"),
        ('{"identity": "a", "sentences": {"skewering_apple": "skewer the apple"}}', "apple"),
    ],
)
def test_a_bad_statement_is_an_error(folder: Path, content: str, message: str) -> None:
    (folder / "encoder.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        EmbeddingFolder(folder)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.zeros(512, np.float32), "zero"),
        (unit_vector(3) * 2, "unit norm"),
        (np.full(512, np.nan, np.float32), "finite"),
        (unit_vector(3)[:256], r"\[1, 256\]"),
        (unit_vector(3).reshape(2, 256), r"\[2, 256\]"),
        (np.arange(512), "int64"),
        (np.float32(1.0), r"\[1\]"),
        (np.array(["a"] * 512), "<U1"),
    ],
)
def test_a_bad_vector_is_an_error_that_names_its_file(folder: Path, vector: np.ndarray, message: str) -> None:
    np.save(folder / "scooping_rice.npy", vector)
    with pytest.raises(ValueError, match=message) as error:
        EmbeddingFolder(folder)
    assert "scooping_rice" in str(error.value)


def test_pickled_objects_are_never_read(folder: Path) -> None:
    np.save(folder / "scooping_rice.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="scooping_rice.npy is not a whole .npy file"):
        EmbeddingFolder(folder)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"<html>", b"PK\x03\x04"])
def test_a_damaged_file_is_an_error(folder: Path, content: bytes) -> None:
    (folder / "scooping_rice.npy").write_bytes(content)
    with pytest.raises(ValueError, match="scooping_rice.npy"):
        EmbeddingFolder(folder)


def test_a_truncated_file_is_an_error(folder: Path) -> None:
    path = folder / "skewering_banana.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="skewering_banana.npy is not a whole .npy file"):
        EmbeddingFolder(folder)


def test_an_archive_is_no_vector(folder: Path) -> None:
    np.savez(folder / "archive.npz", a=unit_vector(3))
    (folder / "archive.npz").rename(folder / "scooping_rice.npy")
    with pytest.raises(ValueError, match="scooping_rice.npy is not a whole .npy file"):
        EmbeddingFolder(folder)


def test_a_git_lfs_pointer_is_called_one(folder: Path) -> None:
    (folder / "scooping_rice.npy").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ValueError, match="git-lfs pointer"):
        EmbeddingFolder(folder)


def test_a_file_of_no_combination_is_an_error(folder: Path) -> None:
    np.save(folder / "mean.npy", unit_vector(3))
    with pytest.raises(ValueError, match="mean.npy is not named"):
        EmbeddingFolder(folder)


def test_what_an_interrupted_write_leaves_does_not_matter(folder: Path) -> None:
    before = EmbeddingFolder(folder).identity
    (folder / ".scooping_rice.0123.npy").write_bytes(b"half")
    assert EmbeddingFolder(folder).identity == before


def test_two_files_of_one_combination_must_agree(folder: Path) -> None:
    np.save(folder / "scooping_cherry_tomato.npy", unit_vector(1))
    assert EmbeddingFolder(folder).combinations == FEW
    np.save(folder / "scooping_cherry_tomato.npy", unit_vector(4))
    with pytest.raises(ValueError, match="scooping_cherry_tomato and differ.*scoop_cherry_tomtato.npy"):
        EmbeddingFolder(folder)


def test_an_empty_or_absent_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold"):
        EmbeddingFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        EmbeddingFolder(tmp_path / "nowhere")


def test_the_published_folder_is_read_whole() -> None:
    encoder = EmbeddingFolder(shared("data/food_embeddings"))
    assert encoder.combinations == food.combinations()
    assert len(encoder.combinations) == 66
    by_name = encoder.encode(food.combinations())
    by_sentence = encoder.encode(check_texts(food.combinations()))
    np.testing.assert_array_equal(by_name, by_sentence)
    assert len(np.unique(by_name, axis=0)) == 66
    stored = np.load(shared("data/food_embeddings/scoop_cherry_tomtato.npy"), allow_pickle=False)
    np.testing.assert_array_equal(encoder.encode(["scooping_cherry_tomato"])[0], stored)
    # They are not of our encoder, and the identity says so.
    assert encoder.identity != EmbeddingFolder(ROOT / "embeddings").identity
    assert encoder.identity.startswith("folder:")
