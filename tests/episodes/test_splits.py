"""Splits are repeatable, stable under growth, and never taken from a wrong file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes import splits

IDS = st.lists(st.text(min_size=1), min_size=2, unique=True)


def test_hashes_stay_the_same_for_good():
    # A change here would move the held-out episodes of every run made before.
    assert splits.hash_fraction("episode 1") == 0.06487267063610513
    assert splits.hash_fraction("episode 1", "other") == 0.3294007842512806


@given(st.text(), st.floats(0, 1), st.text())
def test_split_follows_the_hash(episode_id, fraction, salt):
    got = splits.split_by_hash(episode_id, {"val": fraction, "train": 1 - fraction}, salt)
    assert got == ("val" if splits.hash_fraction(episode_id, salt) < fraction else "train")


def test_shares_come_out_as_asked():
    names = [splits.split_by_hash(f"e{i}", {"a": 0.5, "b": 0.3, "c": 0.2}) for i in range(4000)]
    shares = [names.count(n) / 4000 for n in "abc"]
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.03)


@pytest.mark.parametrize("fractions", [{"a": 0.5}, {"a": 1.5, "b": -0.5}, {}])
def test_wrong_fractions(fractions):
    with pytest.raises(ValueError, match="add up to 1"):
        splits.split_by_hash("e", fractions)


@given(IDS, st.data())
def test_holding_out_never_takes_an_episode_that_was_trained_on(ids, data):
    count = data.draw(st.integers(0, len(ids) - 1))
    more = data.draw(st.lists(st.text(min_size=1), unique=True))
    before = splits.hold_out_by_hash(ids, count)
    after = splits.hold_out_by_hash([*more, *ids], count)
    assert len(before) == len(after) == count
    trained_on = set(ids) - before
    assert not trained_on & after


def test_what_is_held_out_depends_on_hash_and_salt_not_on_order_or_name():
    ids = [f"e{i}" for i in range(20)]
    held_out = splits.hold_out_by_hash(ids, 5)
    assert held_out == splits.hold_out_by_hash(ids[::-1] + ids, 5)
    assert held_out == set(sorted(ids, key=splits.hash_fraction)[:5])
    assert held_out != splits.hold_out_by_hash(ids, 5, "other")


def test_holding_out_everything_is_refused():
    with pytest.raises(ValueError, match="0 to 1 of 2"):
        splits.hold_out_by_hash(["a", "b", "b"], 2)


@given(st.integers(2, 300), st.integers(0, 2**31), st.floats(0.01, 0.99))
def test_random_split_is_a_partition(n, seed, fraction):
    split = splits.random_split(n, seed, fraction)
    assert len(split.train) and len(split.val)
    assert sorted([*split.train, *split.val]) == list(range(n))
    again = splits.random_split(n, seed, fraction)
    np.testing.assert_array_equal(split.train, again.train)


def test_random_split_is_80_20_and_seeded():
    one, other = splits.random_split(100, 1), splits.random_split(100, 2)
    assert len(one.train) == 80
    assert set(one.val) != set(other.val)


def test_saved_split_is_read_back_and_not_made_again(tmp_path):
    path = tmp_path / "split.npz"
    made = splits.load_or_make_split(path, 50, seed=1)
    again = splits.load_or_make_split(path, 50, seed=2)
    np.testing.assert_array_equal(made.val, again.val)
    assert made.train.dtype == np.int64
    assert [p.name for p in tmp_path.iterdir()] == ["split.npz"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train_idx": [0, 1]}, "missing"),
        ({"train_idx": [0, 1], "val_idx": [1, 2]}, "disjoint.*e.g. 1"),
        ({"train_idx": [0, 1], "val_idx": [2, 9]}, r"val_idx must be in \[0, 9\)"),
        ({"train_idx": [-1, 1], "val_idx": [2]}, "train_idx must be in"),
        ({"train_idx": [0, 0], "val_idx": [2]}, "must not repeat"),
        ({"train_idx": [0.0, 1.0], "val_idx": [2]}, "must be integers"),
        ({"train_idx": [[0, 1]], "val_idx": [2]}, "must be integers"),
        ({"train_idx": [0], "val_idx": np.zeros(0, np.int64)}, "val_idx must be integers"),
        ({"train_idx": np.array([{}], object), "val_idx": [2]}, "must be an NPZ"),
    ],
)
def test_wrong_split_files(tmp_path, content, message):
    path = tmp_path / "split.npz"
    np.savez(path, **content)
    with pytest.raises(ValueError, match=message):
        splits.load_split(path, 9)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"hello"])
def test_what_is_no_npz(tmp_path, content):
    path = tmp_path / "split.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="must be an NPZ"):
        splits.load_split(path, 9)


def test_a_name_without_npz_is_refused(tmp_path):
    with pytest.raises(ValueError, match="end in .npz"):
        splits.save_split(tmp_path / "split", splits.random_split(5, 0))
