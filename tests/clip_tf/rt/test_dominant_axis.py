"""Supervision derived from actions is what the published preprocessing makes of them."""

import json

import numpy as np
import pytest

from clip_tf.rt import dominant_axis
from clip_tf.rt.dominant_axis import NEXT_STEP, NONE, THIS_STEP, derive_supervision, to_finetuning_labels
from clip_tf.rt.vocabulary import make_vocabulary
from tests import golden_files
from tests.clip_tf.clip_goldens import assert_each_is_compared
from tests.shared_data import shared


@pytest.mark.parametrize("path", golden_files.recordings("oxe_golden*.json"))
def test_golden_clip_oxe_rule(path):
    recorded = json.loads(path.read_text())
    steps = recorded["dominant"]
    found = derive_supervision(np.array([step["action"] for step in steps]), NEXT_STEP)
    vocabulary = make_vocabulary("pretrained")
    for i, step in enumerate(steps):
        label = found.labels[i]
        # What the original keeps beside a step that says nothing: no move, the gripper open.
        action = np.eye(1, 7, 6)[0] if label == NONE else vocabulary.actions[label]
        ours = {
            "axis": found.axes[i],
            "value": found.values[i],
            "label": None if label == NONE else str(label),
            "key": None if label == NONE else [key_of(label, vocabulary)],
            "disc_action": action,
        }
        check_fields(ours, step)
        assert_each_is_compared(step, lambda damaged, ours=ours: check_fields(ours, damaged), NOT_COMPARED)
    assert (found.labels != NONE).sum() > 20


# The action goes in; the wording was drawn by chance, from the authors' list.
NOT_COMPARED = ("action", "supervision_seed7")


def key_of(label, vocabulary) -> str:
    """The authors' name of a class."""
    return vocabulary.phrases[label] if label >= 48 else f"{label // 8}_{label % 8}"


def check_fields(ours, recorded) -> None:
    for name, want in recorded.items():
        if name in NOT_COMPARED:
            continue
        if name == "disc_action":
            np.testing.assert_array_equal(ours[name], np.array(want, np.float32))
        else:
            assert ours[name] == want, (name, recorded)


@pytest.mark.parametrize("path", golden_files.recordings("oxe_golden*.json"))
def test_golden_clip_oxe_bin_edges(path):
    actions = make_vocabulary("pretrained").actions
    for edge in json.loads(path.read_text())["edges"]:
        axis, value = edge["axis"], edge["value"]
        action = np.zeros((1, 7))
        action[0, axis] = value
        found = int(dominant_axis.bins_of(np.array([axis]), np.array([value]))[0])
        kept = bool(derive_supervision(action).labels[0] != NONE)
        ours = {"axis": axis, "value": value, "bin": found, "kept": kept}
        ours["disc"] = actions[axis * 8 + found, axis]

        def check(recorded, ours=ours):
            assert recorded["disc"] == pytest.approx(ours["disc"], rel=1e-6)
            assert {n: v for n, v in recorded.items() if n != "disc"} == {
                n: v for n, v in ours.items() if n != "disc"
            }

        check(edge)
        assert_each_is_compared(edge, check)


def test_bridge_data_gives_about_as_many_labels_as_the_original():
    from episodes.rlds import open_rlds

    split = open_rlds(shared("data/rlds/octo_bridge_debug"))
    labels = np.concatenate([derive_supervision(c["action"]).labels for _, c in split.read(["action"])])
    kept = labels[labels != NONE]
    assert len(labels) == 250
    assert len(kept) == 127
    assert np.bincount(kept).max() / len(kept) == pytest.approx(0.28, abs=0.005)


def test_labels_of_the_other_table_mean_the_same():
    fine, coarse = make_vocabulary("finetuned"), make_vocabulary("pretrained")
    labels = np.arange(50)
    assert [fine.phrases[i] for i in to_finetuning_labels(labels)] == list(coarse.phrases)
    assert to_finetuning_labels(np.array([NONE])) == [NONE]


def test_the_gripper_comes_first_at_this_step_or_before():
    actions = np.zeros((4, 7))
    actions[:, 0] = 0.2
    actions[:, 6] = [0, 1, 1, 0]
    assert derive_supervision(actions, NEXT_STEP).labels.tolist() == [49, 7, 48, 7]
    assert derive_supervision(actions, THIS_STEP).labels.tolist() == [7, 49, 7, 48]


@pytest.mark.parametrize(
    "actions",
    [
        np.zeros((3, 8)),
        np.zeros(7),
        np.full((2, 7), np.nan),
        np.zeros((2, 7), bool),
        np.zeros((2, 7), object),
    ],
)
def test_wrong_actions(actions):
    with pytest.raises(ValueError, match="actions must be"):
        derive_supervision(actions)


def test_unknown_reading_of_the_gripper():
    with pytest.raises(ValueError, match="gripper_change must be"):
        derive_supervision(np.zeros((1, 7)), "last_step")


def test_an_episode_without_steps_has_no_labels():
    assert derive_supervision(np.zeros((0, 7))).labels.shape == (0,)
