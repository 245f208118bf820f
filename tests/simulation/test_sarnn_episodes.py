"""Episodes that one modality explains: the cue tells the next joints, nothing else does; seeded; readable."""

import numpy as np
import pytest

from episodes.eipl_arrays import read_eipl
from episodes.episode import ACTION, DEPTH, JOINT_POSITIONS, check_columns
from simulation.sarnn_episodes import (
    CUES,
    FAR_MM,
    INSTRUCTION,
    LARGEST_STEP,
    make_episode,
    write_episodes,
)


def middles(pictures):
    """Where the mark is, from pixels alone: the middle of what is unlike the background, [T, 2]."""
    pictures = pictures.reshape(*pictures.shape[:3], -1).astype(float)
    unlike = np.abs(pictures - np.median(pictures, axis=(1, 2), keepdims=True)).sum(axis=-1)
    unlike = np.where(unlike > unlike.max() / 3, unlike, 0)
    rows, columns = np.mgrid[: unlike.shape[1], : unlike.shape[2]]
    total = unlike.sum(axis=(1, 2))
    return np.stack([(unlike * grid).sum(axis=(1, 2)) / total for grid in (columns, rows)], axis=1)


def unexplained(target, *inputs):
    """The mean squared error of the best affine prediction."""
    known = np.concatenate([*inputs, np.ones((len(target), 1))], axis=1)
    return float(np.mean((target - known @ np.linalg.lstsq(known, target, rcond=None)[0]) ** 2))


@pytest.mark.parametrize("size", [24, 32])
@pytest.mark.parametrize("cue", CUES)
def test_the_cue_alone_tells_the_next_joints(cue, size):
    made = make_episode(cue, 600, seed=3, size=size)
    now, following = made[JOINT_POSITIONS], made[ACTION]
    guess = unexplained(following, now)
    assert guess > 0.005  # So much is left to find in a picture.
    for name, path in CUES.items():
        error = unexplained(following, now, middles(made[path]))
        if name == cue:
            assert error < 0.05 * guess
        else:
            assert error > 0.95 * guess


def test_episodes_are_of_the_contract_and_seeded():
    made = make_episode("depth", 7, seed=1)
    assert check_columns(made) == 7
    np.testing.assert_array_equal(made[ACTION][:-1], made[JOINT_POSITIONS][1:])
    again, other = make_episode("depth", 7, seed=1), make_episode("depth", 7, seed=2)
    for path, column in made.items():
        np.testing.assert_array_equal(column, again[path])
    assert (made[DEPTH] != other[DEPTH]).any() and (made[ACTION] != other[ACTION]).any()
    # The pictures do not depend on which of them is followed.
    for path in CUES.values():
        np.testing.assert_array_equal(make_episode("image", 7, seed=1)[path], made[path])
    assert abs(float(np.median(made[DEPTH])) - FAR_MM) < 5
    moved = np.diff(make_episode("depth", 400, seed=0)[ACTION], axis=0)
    assert 0.9 * LARGEST_STEP < np.abs(moved / [1.6, 1.2]).max() <= LARGEST_STEP + 1e-6


def test_a_data_set_is_written(tmp_path):
    write_episodes(tmp_path / "data", "gelsight_left", train=4, test=2, steps=8, seed=5, size=26)
    train, test = (list(read_eipl(tmp_path / "data", part)) for part in ("train", "test"))
    assert [len(e[ACTION]) for e in (*train, *test)] == [8, 7, 6, 8, 7, 6]
    assert train[0]["observation/gelsight_left"].shape == (8, 26, 26, 3)
    assert {str(e["language_instruction"][0]) for e in train} == {INSTRUCTION}
    firsts = {e[ACTION][0].tobytes() for e in (*train, *test)}
    assert len(firsts) == 6
    with pytest.raises(FileExistsError):
        write_episodes(tmp_path / "data", "depth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("smell", 5, 24), "cue must be one of"),
        (("depth", 0, 24), "steps=0"),
        (("depth", 5, 15), "size=15"),
    ],
)
def test_what_cannot_be_made(arguments, message):
    cue, steps, size = arguments
    with pytest.raises(ValueError, match=message):
        make_episode(cue, steps, seed=0, size=size)


def test_episodes_too_short_to_differ_in_length(tmp_path):
    with pytest.raises(ValueError, match="steps must be at least 3"):
        write_episodes(tmp_path / "data", "depth", steps=2)
