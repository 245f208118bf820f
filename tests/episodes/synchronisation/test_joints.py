"""Joints are told by name: whatever their order, and whoever publishes them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.synchronisation.joints import select_joints
from episodes.synchronisation.report import SyncError
from tests.episodes.synchronisation.synthetic_recordings import START_NS, arm, every, joint_messages

ABC = ("a", "b", "c")


def positions(selection, name):
    return selection.series[name].positions.tolist()


def test_the_order_within_a_message_does_not_matter():
    samples = joint_messages(
        [(0, ABC, [1, 2, 3], ""), (1, ("c", "a", "b"), [30, 10, 20], ""), (2, ABC, [100, 200, 300], "")]
    )
    got = select_joints(samples, ("c", "a"))
    assert got.names == ("c", "a")
    assert positions(got, "c") == [3, 30, 300] and positions(got, "a") == [1, 10, 100]
    assert len(got.groups) == 1  # The same set of names is one publisher's.
    assert got.notes == ("/joint_states also publishes b, which are not taken",)


ARM_AND_HAND = [(0, ("g",), [9], "/hand"), (1, ("b", "a"), [2, 1], "/arm"), (2, ("a", "b"), [1, 2], "/arm")]


def test_the_only_publisher_gives_the_joints_in_its_first_order():
    got = select_joints(joint_messages(ARM_AND_HAND[1:]))
    assert got.names == ("b", "a") and got.varying is None


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(
    ("known", "arm", "hand"),
    [(True, "/arm", "/hand"), (False, "an unknown publisher", "an unknown publisher")],
)
def test_publishers_of_different_joints_must_be_chosen_from(count, known, arm, hand):
    """Whichever has the most messages."""
    messages = [(*m[:3], m[3] if known else "") for m in ARM_AND_HAND[:1] * count + ARM_AND_HAND[1:]]
    with pytest.raises(SyncError, match="joint_names .*joint_publisher") as refused:
        select_joints(joint_messages(messages))
    assert f"joint_names = ('g',) by {hand} ({count} messages" in str(refused.value)
    assert f"joint_names = ('b', 'a') by {arm} (2 messages" in str(refused.value)
    assert select_joints(joint_messages(messages), ("b", "a", "g")).names == ("b", "a", "g")


def test_a_choice_of_publisher_or_of_the_gripper_s_joint_is_enough():
    samples = joint_messages(ARM_AND_HAND)
    assert select_joints(samples, publisher="/hand").names == ("g",)
    assert select_joints(samples, also=("g",)).names == ("b", "a")
    with pytest.raises(SyncError, match="/hand"):
        select_joints(samples, publisher="/*")


def test_publishers_of_different_joints_are_merged_each_with_its_own_times():
    messages = [(t * 10, ("a", "b"), [t, -t], "/arm") for t in range(4)]
    messages += [(t * 25 + 3, ("g",), [t * 7], "/hand") for t in range(2)]
    for publishers in (True, False):
        samples = joint_messages([(*m[:3], m[3] if publishers else "") for m in sorted(messages)])
        got = select_joints(samples, ("g", "b"))
        assert (got.series["g"].stamp_ns - START_NS).tolist() == [3, 28]
        assert positions(got, "g") == [0, 7] and positions(got, "b") == [0, -1, -2, -3]
        assert sorted(len(group) for group in got.groups) == [2, 4]
        for name, series in got.series.items():
            for message, position in zip(series.message, series.positions, strict=True):
                place = samples.names[message].index(name)
                assert samples.positions[message][place] == position


TWICE = [(t, ("a",), [t % 2], ("/arm", "/gui")[t % 2]) for t in range(6)]


def test_a_joint_of_two_publishers_is_an_error_that_names_them():
    with pytest.raises(
        SyncError, match=r"a must come from one publisher.*/arm \(3 messages\), /gui \(3 mess"
    ):
        select_joints(joint_messages(TWICE))


@pytest.mark.parametrize(("pattern", "value"), [("/arm", 0), ("/g*", 1)])
def test_one_of_them_can_be_picked(pattern, value):
    got = select_joints(joint_messages(TWICE), publisher=pattern)
    assert positions(got, "a") == [value] * 3
    assert [len(group) for group in got.groups] == [3]


def test_a_pattern_that_fits_both_is_no_choice():
    with pytest.raises(SyncError, match="one publisher"):
        select_joints(joint_messages(TWICE), publisher="/*")


def test_a_pattern_that_fits_none_lists_the_publishers():
    with pytest.raises(SyncError, match=r"Received: '/leg', there are \['/arm', '/gui'\]"):
        select_joints(joint_messages(TWICE), publisher="/leg")


def test_a_node_that_was_started_anew_goes_on():
    samples = joint_messages([(t, ("a",), [t], "/arm_1" if t < 3 else "/arm_2") for t in range(6)])
    got = select_joints(samples)
    assert positions(got, "a") == [0, 1, 2, 3, 4, 5]
    assert "one after the other" in got.notes[0]


def test_one_publisher_may_publish_some_joints_more_often():
    messages = [(t, ("a", "b") if t % 2 else ("a",), [t, 9] if t % 2 else [t], "/arm") for t in range(6)]
    got = select_joints(joint_messages(messages))
    assert positions(got, "a") == [0, 1, 2, 3, 4, 5] and positions(got, "b") == [9, 9, 9]


class TestWithoutKnownPublishers:
    """ROS 2: two sets of names that share the joint a."""

    SAMPLES = joint_messages(
        [(t, *((("a", "b"), [1, 2]) if t % 3 else (("a", "b", "g"), [10, 20, 30])), "") for t in range(9)]
    )

    @pytest.mark.parametrize(
        ("names", "also", "value"),
        [
            (("b", "a"), (), 1),  # Just its names.
            (("a", "g"), (), 10),  # The only one that has both.
            (("a", "b"), ("g",), 10),
        ],
    )
    def test_the_set_is_taken_that_fits(self, names, also, value):
        got = select_joints(self.SAMPLES, names, also=also)
        assert set(positions(got, "a")) == {value}
        assert len(got.groups) == 1
        assert any("although others publish them too" in note for note in got.notes)

    def test_without_names_the_smaller_set_is_not_taken_for_being_more_frequent(self):
        with pytest.raises(SyncError, match=r"\('a', 'b', 'g'\) by .*\('a', 'b'\) by an unknown"):
            select_joints(self.SAMPLES)

    def test_two_sets_that_fit_alike_are_ambiguous(self):
        with pytest.raises(SyncError, match=r"a must be in one set.*\[a, b, g\] \(3 mess.*\[a, b\] \(6 mess"):
            select_joints(self.SAMPLES, ("a",))


def test_messages_without_names_are_numbered():
    got = select_joints(joint_messages([(0, (), [1, 2], ""), (1, (), [3, 4], "")]))
    assert got.names == ("joint_0", "joint_1")
    assert positions(got, "joint_1") == [2, 4]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([(0, (), [1, 2], ""), (1, (), [3], "")], "same length. Received: 2 and 1"),
        ([(0, ("a",), [1, 2], "")], "one position for each"),
        ([(0, ("a", "a"), [1, 2], "")], "each named once"),
        ([(0, ("a",), [], ""), (1, ("a",), [], "")], "must publish positions. Received: 2 without any"),
        ([(0, ("a",), [np.nan], "")], "a must have finite positions"),
    ],
)
def test_wrong_messages(messages, message):
    with pytest.raises(SyncError, match=message):
        select_joints(joint_messages(messages))


def test_a_joint_that_nobody_publishes():
    with pytest.raises(SyncError, match=r"the joints \['x'\]. Received: \['a', 'b', 'c'\]"):
        select_joints(joint_messages([(0, ABC, [1, 2, 3], "")]), ("a", "x"))


def test_what_is_not_finite_is_left_out_and_counted():
    samples = joint_messages(
        [(0, ABC, [1, np.nan, 3], ""), (1, ABC, [4, 5, np.inf], ""), (2, ABC, [7, 8, 9], "")]
    )
    got = select_joints(samples)
    assert positions(got, "a") == [1, 4, 7]
    assert positions(got, "b") == [5, 8]
    assert positions(got, "c") == [3, 9]
    assert got.not_finite == 2 and "2 positions that are NaN or infinite" in got.notes[0]


def test_of_messages_with_one_stamp_the_first_counts():
    samples = joint_messages([(5, ("a",), [1], ""), (5, ("a",), [2], ""), (0, ("a",), [0], "")])
    got = select_joints(samples)
    assert positions(got, "a") == [0, 1] and got.series["a"].message.tolist() == [2, 0]


def test_the_first_message_counts_whatever_the_order_of_its_names():
    samples = joint_messages(
        [(9, ("a", "b"), [9, 0], ""), (5, ("b", "a"), [0, 1], ""), (5, ("a", "b"), [2, 0], "")]
    )
    assert positions(select_joints(samples), "a") == [1, 9]


def test_a_jump_of_a_continuous_joint_is_kept():
    got = select_joints(joint_messages([(0, ("a",), [3.1], ""), (1, ("a",), [-3.1], "")]))
    assert positions(got, "a") == [3.1, -3.1]


@settings(deadline=None, max_examples=50)
@given(st.permutations(range(12)), st.lists(st.permutations(ABC), min_size=12, max_size=12))
def test_neither_the_order_of_messages_nor_of_names_matters(order, names):
    samples = arm(every(10, 12), lambda s: np.stack([s, s * 2, s * 3]), names=ABC)
    truth = select_joints(samples)
    mixed = []
    for i, listed in zip(order, names, strict=True):
        at = dict(zip(ABC, samples.positions[i], strict=True))
        mixed.append((int(samples.stamp_ns[i]) - START_NS, tuple(listed), [at[n] for n in listed], ""))
    got = select_joints(joint_messages(mixed), ABC)
    for name in ABC:
        np.testing.assert_array_equal(got.series[name].stamp_ns, truth.series[name].stamp_ns)
        np.testing.assert_array_equal(got.series[name].positions, truth.series[name].positions)
