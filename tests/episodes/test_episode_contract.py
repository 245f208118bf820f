"""The episode contract accepts what it says and names what is wrong."""

import numpy as np
import pytest

from episodes import episode as contract


def columns(length=3):
    flags = np.zeros(length, bool)
    first, last = flags.copy(), flags.copy()
    first[0] = last[-1] = True
    return {
        contract.IMAGE: np.zeros((length, 4, 5, 3), np.uint8),
        contract.DEPTH: np.zeros((length, 4, 5), np.uint16),
        contract.JOINT_POSITIONS: np.zeros((length, 6), np.float32),
        contract.ACTION: np.zeros((length, 7), np.float32),
        contract.LANGUAGE_INSTRUCTION: np.array([b"pick"] * length, object),
        contract.IS_FIRST: first,
        contract.IS_LAST: last,
        contract.IS_TERMINAL: flags,
        contract.REWARD: np.zeros(length, np.float32),
        contract.DISCOUNT: np.ones(length, np.float32),
    }


@pytest.mark.parametrize("length", [1, 3])
def test_a_whole_episode_is_accepted(length):
    assert contract.check_columns(columns(length)) == length


def test_absent_modalities_are_allowed_but_not_absent_actions():
    some = columns()
    del some[contract.IMAGE], some[contract.DEPTH], some[contract.JOINT_POSITIONS]
    assert contract.check_columns(some) == 3
    del some[contract.ACTION]
    with pytest.raises(ValueError, match=r"lacks \['action'\]"):
        contract.check_columns(some)


def test_npz_keys_map_to_fields_of_the_contract():
    assert {contract.field(path).path for path in contract.NPZ_KEYS.values()} == set(
        contract.NPZ_KEYS.values()
    )


def _nan(c):
    c[contract.ACTION][1, 2] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update({"observation/colour": np.zeros(3)}), "Received: 'observation/colour'"),
        (lambda c: c.update({contract.IMAGE: np.zeros((3, 4, 5, 3))}), "must be uint8"),
        (lambda c: c.update({contract.IMAGE: np.zeros((3, 4, 5), np.uint8)}), "observation/image must be"),
        (lambda c: c.update({contract.DEPTH: np.zeros((2, 4, 5), np.uint16)}), r"\[3, 'H', 'W'\]"),
        (lambda c: c.update({contract.ACTION: np.zeros((0, 7), np.float32)}), "at least one step"),
        (lambda c: c.update({contract.ACTION: np.zeros((3, 0), np.float32)}), r"\[3, 'A'\]"),
        (_nan, "action must be finite.*at step 1"),
        (
            lambda c: c.update({contract.LANGUAGE_INSTRUCTION: np.array([b"a", b" ", b"c"], object)}),
            "empty at step 1",
        ),
        (lambda c: c.update({contract.LANGUAGE_INSTRUCTION: np.zeros(3)}), "must hold strings"),
        (lambda c: c.update({contract.IS_LAST: np.zeros(3, bool)}), r"is_last .*True at \[\]"),
        (lambda c: c.update({contract.IS_FIRST: np.ones(3, bool)}), "is_first must be True at step 0 only"),
        (lambda c: c.update({contract.IS_TERMINAL: np.array([True, False, False])}), "is_terminal"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    wrong = columns()
    change(wrong)
    with pytest.raises(ValueError, match=message):
        contract.check_columns(wrong, "episode 7")
