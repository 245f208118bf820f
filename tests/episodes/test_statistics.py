"""Streaming statistics equal those of the whole array."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.statistics import DatasetStatistics, compute_statistics


def episodes(lengths, seed=0, size=3):
    rng = np.random.default_rng(seed)
    return [
        (f"e{i}", {"action": rng.normal(5, 2, (n, size)).astype(np.float32)}) for i, n in enumerate(lengths)
    ]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_equal_to_numpy_on_everything(lengths, seed):
    data = episodes(lengths, seed)
    whole = np.concatenate([a["action"] for _, a in data]).astype(np.float64)
    statistics = compute_statistics(data)
    got = statistics["action"]
    assert statistics.episodes == len(lengths) and statistics.steps == got.count == len(whole)
    np.testing.assert_allclose(got.mean, whole.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(got.std, whole.std(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(got.minimum, whole.min(axis=0))
    np.testing.assert_array_equal(got.maximum, whole.max(axis=0))
    np.testing.assert_allclose(got.low, np.quantile(whole, 0.01, axis=0))
    np.testing.assert_allclose(got.high, np.quantile(whole, 0.99, axis=0))
    assert got.exact


def test_sampled_quantiles_are_near_and_say_so():
    data = episodes([500] * 40)
    whole = np.concatenate([a["action"] for _, a in data])
    got = compute_statistics(data, maximum_rows=4000)["action"]
    assert not got.exact
    assert got.count == 20000
    np.testing.assert_allclose(got.mean, whole.mean(axis=0, dtype=np.float64))
    np.testing.assert_allclose(got.low, np.quantile(whole, 0.01, axis=0), atol=0.5)
    np.testing.assert_allclose(got.high, np.quantile(whole, 0.99, axis=0), atol=0.5)


def test_the_sample_is_of_all_steps_alike():
    # 100 episodes, each constant: the reservoir must hold late ones as often as early ones.
    data = [(str(i), {"a": np.full((100, 1), float(i))}) for i in range(100)]
    got = compute_statistics(data, maximum_rows=2000)["a"]
    assert 0 <= got.low[0] <= 4
    assert 95 <= got.high[0] <= 99


def test_fingerprint_follows_content_and_not_order():
    data = episodes([3, 4])
    fingerprint = compute_statistics(data).fingerprint
    assert compute_statistics(data[::-1]).fingerprint == fingerprint
    changed = [data[0], ("e1", {"action": data[1][1]["action"] + 1e-3})]
    assert compute_statistics(changed).fingerprint != fingerprint
    renamed = [data[0], ("e9", data[1][1])]
    assert compute_statistics(renamed).fingerprint != fingerprint


def test_json_round_trip(tmp_path):
    statistics = compute_statistics(episodes([3, 4]))
    statistics.save(tmp_path / "s.json")
    assert DatasetStatistics.load(tmp_path / "s.json") == statistics


def test_flags_count_as_numbers_and_constant_dimensions_are_reported():
    arrays = {"flag": np.array([True, False]), "action": np.array([[1.0, 2.0, 3.0], [1.0, 4.0, 3.0]])}
    statistics = compute_statistics([("e", arrays)])
    assert statistics["flag"].mean == (0.5,)
    assert statistics["action"].near_constant() == (0, 2)


def test_missing_statistics_are_an_error(tmp_path):
    statistics = compute_statistics(episodes([2]))
    with pytest.raises(ValueError, match=r"\['action'\]. Received: 'state'"):
        statistics["state"]
    with pytest.raises(FileNotFoundError):
        DatasetStatistics.load(tmp_path / "none.json")


@pytest.mark.parametrize("value", [{}, {"arrays": {}}, {"arrays": {"a": {"count": 1}}}, [], None])
def test_other_json_is_refused(value):
    with pytest.raises(ValueError, match="Not data set statistics"):
        DatasetStatistics.from_json(value)


def test_lists_of_different_lengths_are_refused():
    value = compute_statistics(episodes([2])).to_json()
    value["arrays"]["action"]["low"] = [0.0]
    with pytest.raises(ValueError, match="different lengths"):
        DatasetStatistics.from_json(value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "at least one step"),
        ([("e", {"a": np.zeros((0, 2))})], "at least one step"),
        ([("e7", {"a": np.array([[0.0], [np.inf]])})], r"episode 'e7', a must be finite.*at step 1"),
        ([("e", {"a": np.zeros((2, 1))}), ("f", {"b": np.zeros((2, 1))})], "'f' must have the arrays"),
        ([("e", {"a": np.zeros((2, 1))}), ("f", {"a": np.zeros((2, 2))})], "must have 1 elements"),
        ([("e", {"a": np.zeros((2, 1)), "b": np.zeros((3, 1))})], "different lengths"),
        ([("e", {"a": np.array(["x"])})], "must hold numbers"),
    ],
)
def test_wrong_episodes_are_named(data, message):
    with pytest.raises(ValueError, match=message):
        compute_statistics(data)
