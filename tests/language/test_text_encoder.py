"""The checks that keep made-up and mixed embeddings out."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from core import food
from language import TextEncoder, check_embeddings, require_same_encoder
from language.embedding_folder import EmbeddingFolder
from language.fast_sentence_encoder import FastSentenceEncoder
from language.text_encoder import check_texts
from tests.shared_data import ROOT

NAMES = ["first", "second", "third"]


def unit_rows(n: int, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal([n, 512])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_good_embeddings_come_back_as_float32(dtype: type) -> None:
    rows = unit_rows(3, dtype)
    checked = check_embeddings(rows, NAMES, "here")
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, rows.astype(np.float32))


def test_no_embeddings_are_good_embeddings() -> None:
    assert check_embeddings(np.empty((0, 512), np.float32), [], "here").shape == (0, 512)


@pytest.mark.parametrize(
    "array",
    [
        unit_rows(2),
        unit_rows(3)[:, :511],
        unit_rows(3)[None],
        unit_rows(1)[0],
        np.ones((3, 512), int),
        "text",
    ],
    ids=["too few", "too short", "three axes", "one axis", "integers", "text"],
)
def test_misshapen_embeddings_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"here: .*\[3, 512\] \(of 'first', 'second', 'third'\).*Received"):
        check_embeddings(array, NAMES, "here")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_are_refused_by_name(bad: float) -> None:
    rows = unit_rows(3)
    rows[1, 7] = bad
    with pytest.raises(ValueError, match="here: .*finite.* for 'second'$"):
        check_embeddings(rows, NAMES, "here")


def test_a_zero_embedding_is_refused_by_name() -> None:
    rows = unit_rows(3)
    rows[2] = 0.0
    with pytest.raises(ValueError, match="here: .*zero.* for 'third'$"):
        check_embeddings(rows, NAMES, "here")


@pytest.mark.parametrize("scale", [0.998, 1.002, 1e-30, 1e30])
def test_embeddings_that_are_not_of_unit_norm_are_refused_by_name(scale: float) -> None:
    rows = unit_rows(3)
    rows[0] *= np.float32(scale)
    with pytest.raises(ValueError, match="here: .*unit norm.* for 'first'$"):
        check_embeddings(rows, NAMES, "here")


@pytest.mark.parametrize("scale", [0.9995, 1.0005])
def test_a_norm_within_a_thousandth_is_taken(scale: float) -> None:
    rows = unit_rows(3, np.float64) * scale
    np.testing.assert_allclose(check_embeddings(rows, NAMES, "here"), rows, rtol=1e-6)


def test_one_encoder_is_no_mixture() -> None:
    require_same_encoder("one==1", "one==1", "the data")


@pytest.mark.parametrize(("expected", "received"), [("a==1", "a==2"), ("a==1", ""), ("", "a==1"), ("", "")])
def test_mixing_encoders_is_an_error_that_names_both(expected: str, received: str) -> None:
    with pytest.raises(ValueError, match="^the data: .*must not be mixed") as error:
        require_same_encoder(expected, received, "the data")
    for identity in (expected, received):
        assert repr(identity or "no encoder is named") in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("skewering_banana", "skewer the banana"),
        ("scoop_cherry_tomtato", "scoop the cherry tomato"),
        ("Twirling_Noodles", "twirl the fettucine"),
        (" Scoop the  Mac and cheese ", "scoop the mac and cheese"),
        ("pick_up_the_can", "pick_up_the_can"),
        ("Pick up the CAN", "Pick up the CAN"),
        ("skewer the apple", "skewer the apple"),
    ],
)
def test_a_combination_means_its_sentence_and_other_text_stays(text: str, sentence: str) -> None:
    assert check_texts([text]) == [sentence]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("skewering_banana", "a sequence of strings, not one"),
        (b"skewering_banana", "a sequence of strings, not one"),
        (None, "a sequence of strings, not one string. Received: None"),
        (3, "a sequence of strings, not one string. Received: 3"),
        ({"skewering_banana"}, "a sequence of strings, not one string"),
        (np.array("skewering_banana"), "a sequence of strings, not one string"),
        (["fine", ["nested"]], r"texts\[1\] must be a string. Received: list"),
        (["fine", ""], r"texts\[1\] must hold a letter or a digit"),
        (["fine", " \n\t"], r"texts\[1\] must hold a letter or a digit"),
        (["\u200b"], "a letter or a digit"),
        (["..!?"], "a letter or a digit"),
        ([None], r"texts\[0\] must be a string. Received: NoneType"),
        ([b"fine"], r"texts\[0\] must be a string. Received: bytes"),
        ([3], r"texts\[0\] must be a string. Received: int"),
        (["x" * 4097], "at most 4096 characters. Received: 4097"),
        (["a \ud800 b"], "valid Unicode"),
        (["skewering_apple"], "food_type must be one of .*'apple'"),
        (["scoop_"], "food_type must be one of"),
    ],
)
def test_what_is_no_instruction_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_texts(texts)


def test_an_array_of_strings_is_a_sequence() -> None:
    assert check_texts(np.array(["skewering_banana", "open the drawer"])) == [
        "skewer the banana",
        "open the drawer",
    ]


@given(st.lists(st.one_of(st.text(max_size=40), st.sampled_from(food.combinations())), max_size=4))
@settings(deadline=None, max_examples=300)
def test_any_text_is_checked_or_refused_and_never_dropped(texts: list[str]) -> None:
    try:
        checked = check_texts(texts)
    except ValueError as error:
        assert "Received" in str(error)
        return
    assert len(checked) == len(texts)
    assert all(any(c.isalnum() for c in text) for text in checked)
    assert check_texts(checked) == checked


@pytest.mark.parametrize("make", [FastSentenceEncoder, lambda: EmbeddingFolder(ROOT / "embeddings")])
def test_the_encoders_follow_the_protocol(make: type) -> None:
    encoder = make()
    assert isinstance(encoder, TextEncoder)
    assert encoder.size == 512
    assert encoder.encode([]).shape == (0, 512)
    assert encoder.encode([]).dtype == np.float32
