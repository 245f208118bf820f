"""Held-out episodes: the data set's own, else drawn from every instruction, else by hash; never none."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.splits import hold_out_by_hash
from sarnn_tf.data.parts import make_parts
from sarnn_tf.data.prepared import PreparedData
from sarnn_tf.stratified_split import stratified_split

EMPTY = PreparedData(
    name="some",
    ids=(),
    instructions=(),
    source_parts=(),
    lengths=np.zeros(0, np.int64),
    joint_names=("a",),
    joint_bounds=np.array([[0.0], [1.0]], np.float32),
    rate_hz=None,
    modalities={},
    clip_fingerprint="",
    fingerprint="",
    images={},
    joints=np.zeros((0, 1), np.float32),
    patches=None,
    text_of_instruction=None,
)


def data(instructions, parts=None):
    n = len(instructions)
    return dataclasses.replace(
        EMPTY,
        ids=tuple(f"e{i}" for i in range(n)),
        instructions=tuple(instructions),
        source_parts=tuple(parts or [None] * n),
        lengths=np.full(n, 3),
    )


def test_the_data_sets_own_parts_stand():
    parts = make_parts(data("abab", ["test", "train", "train", "test"]))
    assert (parts.train.tolist(), parts.test.tolist()) == ([1, 2], [0, 3])
    assert "2 episodes, 2 held out" in parts.rule


def test_else_every_instruction_is_held_out_in_proportion():
    instructions = ["push"] * 10 + ["pull"] * 5
    for parts in (None, ["train"] * 15):  # A data set that only has a part to train on.
        found = make_parts(data(instructions, parts))
        train, test = stratified_split(np.array(instructions), 0.2, 42)
        np.testing.assert_array_equal(found.train, train)
        np.testing.assert_array_equal(found.test, test)
    assert [instructions[i] for i in found.test] == ["push", "push", "pull"]


def test_else_hashes_decide():
    found = make_parts(data(["a", "b", "b", "c", "c"]), test_fraction=0.4)
    assert {f"e{i}" for i in found.test} == hold_out_by_hash([f"e{i}" for i in range(5)], 2, "42")
    assert "too few" in found.rule


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=30), st.floats(0.01, 0.99), st.integers(0, 9))
def test_parts_are_a_partition(instructions, fraction, seed):
    parts = make_parts(data(instructions), test_fraction=fraction, seed=seed)
    assert len(parts.train) and len(parts.test)
    assert sorted([*parts.train, *parts.test]) == list(range(len(instructions)))


def test_a_single_episode_must_be_allowed_to_validate_on_itself():
    with pytest.raises(ValueError, match=r"single episode.*validate_on_training = True.*\['e0'\]"):
        make_parts(data("a"))
    parts = make_parts(data("a"), validate_on_training=True)
    assert parts.train.tolist() == parts.test.tolist() == [0]
    assert "validated on" in parts.rule
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="test_fraction"):
            make_parts(data("ab"), test_fraction=fraction)
