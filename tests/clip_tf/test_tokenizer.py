"""Texts and ids: hostile and long texts, and the promises of the id rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_tf.text_cleaning import clean
from clip_tf.tokenizer import END, START, tokenize


def test_an_empty_text_is_start_and_end():
    np.testing.assert_array_equal(tokenize("")[0], [START, END] + [0] * 75)
    np.testing.assert_array_equal(tokenize(["", " \n\t "])[0], tokenize(" \n\t ")[0])


def test_ten_thousand_words_are_cut_and_end():
    ids = tokenize("word " * 10_000)
    assert ids.shape == (1, 77) and ids[0, 0] == START and ids[0, -1] == END
    np.testing.assert_array_equal(ids, tokenize("word " * 75))


def test_no_texts():
    assert tokenize([]).shape == (0, 77)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  open \n the\tgripper ", "open the gripper"),
        ("fish &amp;amp; chips", "fish & chips"),
        ("&lt;b&gt;", "<b>"),
        ("schÃ¶n", "schön"),
        ("“quoted”", '"quoted"'),
    ],
)
def test_cleaning(raw, cleaned):
    assert clean(raw) == cleaned


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3), st.integers(3, 90)
)
def test_rows_start_end_and_are_padded(texts, length):
    ids = tokenize(texts, length)
    assert ids.shape == (len(texts), length) and ids.dtype == np.int32
    for row in ids:
        end = row.argmax()
        assert row[0] == START and row[end] == END and (row[1:end] < START).all() and not row[end + 1 :].any()
    np.testing.assert_array_equal(ids[0], tokenize(texts[0], length)[0])


@pytest.mark.parametrize("text", [b"open", None, 3, "half \ud800 a pair"])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(ValueError, match="Received"):
        tokenize([text])


def test_a_context_without_room_is_refused():
    with pytest.raises(ValueError, match="at least 3"):
        tokenize("a", 2)
