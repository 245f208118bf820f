"""Recorded actions of any layout become labels; units and axes as published, without the lost gripper."""

import json

import numpy as np
import pytest

from clip_tf.rt import recorded_supervision
from clip_tf.rt.dominant_axis import NONE
from clip_tf.rt.oxe_adjustments import ADJUSTMENTS, Adjustment, adjust, adjustment
from clip_tf.rt.recorded_supervision import ActionLayout, RecordedSupervision, make_action_layout
from clip_tf.rt.vocabulary import Vocabulary, make_vocabulary
from tests import golden_files


@pytest.mark.parametrize("path", golden_files.recordings("oxe_golden*.json"))
def test_golden_clip_oxe_adjustments(path):
    recorded = json.loads(path.read_text())
    given = np.array(recorded["adjust_input"])
    assert set(recorded["adjust"]) == set(ADJUSTMENTS)
    for name, expected in recorded["adjust"].items():
        found, steps = adjust(given, adjustment(name))
        assert found.shape == (expected["shape"][0], 7), name
        assert steps.tolist() == expected["images_kept"], name
        # The first six numbers only: the original loses or differences the gripper in some data sets.
        np.testing.assert_allclose(found[0, :6], expected["first"][:6], atol=1e-8, err_msg=name)
        np.testing.assert_allclose(found[-1, :6], expected["last"][:6], atol=1e-8, err_msg=name)
        source = steps - (1 if ADJUSTMENTS[name].delayed_above is not None else 0)
        np.testing.assert_array_equal(found[:, 6], given[source, 6], err_msg=name)


def test_a_short_kuka_episode_has_no_delay():
    assert adjust(np.zeros((8, 7)), adjustment("kuka"))[1].tolist() == list(range(8))


def test_what_is_no_adjustment():
    with pytest.raises(ValueError, match="oxe_name must be one of.*Received: 'mars'"):
        adjustment("mars")
    with pytest.raises(ValueError, match="axes must be"):
        Adjustment((1, 1, 3))
    with pytest.raises(ValueError, match="must be > 0"):
        Adjustment(position_scale=0.0)


def episode():
    action = np.zeros((5, 7), np.float32)
    action[0, 0] = 0.1
    action[2, 5] = -0.8
    action[:, 6] = [1, 1, 1, 0, 0]
    return {"action": action}


@pytest.mark.parametrize(
    ("name", "expected"), [("pretrained", [6, NONE, 41, 48, NONE]), ("finetuned", [6, NONE, 41, 56, NONE])]
)
def test_labels_of_the_published_tables(name, expected):
    assert RecordedSupervision(ActionLayout(), make_vocabulary(name)).labels(episode()).tolist() == expected


def test_labels_of_a_custom_vocabulary_are_the_nearest():
    vocabulary = Vocabulary(
        ("shut", "ahead", "turn"),
        [[0] * 8, [0.07, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, -1, 0, 1]],
    )
    labels = RecordedSupervision(ActionLayout(), vocabulary).labels(episode())
    assert labels.tolist() == [1, NONE, 2, 0, NONE]


def test_a_vocabulary_of_published_phrases_and_other_moves():
    """The class is what its numbers do, whatever it is called."""
    fine = make_vocabulary("pretrained")
    actions = fine.actions.copy()
    actions[:, 0] *= -1  # A robot whose x points backwards.
    labels = RecordedSupervision(ActionLayout(), Vocabulary(fine.phrases, actions)).labels(episode())
    assert actions[labels[0], 0] == pytest.approx(0.1)


def test_moves_that_no_class_makes_say_nothing():
    vocabulary = Vocabulary(("ahead", "back"), [[0.1, 0, 0, 0, 0, 0, 1], [-0.1, 0, 0, 0, 0, 0, 1]])
    labels = RecordedSupervision(ActionLayout(), vocabulary).labels(episode())
    assert labels.tolist() == [0, NONE, NONE, NONE, NONE]  # Neither a turn nor a gripper's change.
    only_gripper = Vocabulary(("shut",), [[0] * 7])
    labels = RecordedSupervision(ActionLayout(), only_gripper).labels(episode())
    assert labels.tolist() == [NONE, NONE, NONE, 0, NONE]


def test_another_layout_gives_the_same_labels():
    given = episode()["action"]
    columns = {
        "moves": np.concatenate([np.full((5, 2), 9.0), given[:, :6]], axis=1),
        "grip": (1 - 2 * given[:, 6:]) * 1.0,  # 1 for closed, −1 for open.
    }
    layout = ActionLayout(
        "moves", 2, gripper_path="grip", gripper_index=0, gripper_scale=-0.5, gripper_offset=0.5
    )
    vocabulary = make_vocabulary("pretrained")
    ours = RecordedSupervision(layout, vocabulary).labels(columns)
    np.testing.assert_array_equal(ours, RecordedSupervision(ActionLayout(), vocabulary).labels(episode()))
    assert layout.columns == ("moves", "grip")


def test_poses_and_the_last_step():
    poses = np.zeros((3, 8))
    poses[:, 2] = [0.0, 0.1, 0.1]
    layout = make_action_layout(oxe_name="iamlab_cmu_pickup_insert_converted_externally_to_rlds")
    supervision = RecordedSupervision(layout, make_vocabulary("pretrained"))
    assert supervision.labels({"action": poses}).tolist() == [22, NONE, NONE]
    moving = np.full((3, 7), 0.1)
    layout = make_action_layout(last_step_has_action=False)
    labels = RecordedSupervision(layout, make_vocabulary("pretrained")).labels({"action": moving})
    assert (labels == NONE).tolist() == [False, False, True]


@pytest.mark.parametrize("column", [np.zeros((3, 6)), np.zeros(7), np.full((3, 7), "a")])
def test_columns_that_do_not_fit(column):
    with pytest.raises(ValueError, match="action must hold at least"):
        RecordedSupervision(ActionLayout(), make_vocabulary()).labels({"action": column})


@pytest.mark.parametrize(("scale", "warned"), [(1.0, False), (1000.0, True)])
def test_moves_in_millimetres_are_doubted(caplog, monkeypatch, scale, warned):
    monkeypatch.setattr(recorded_supervision.logging, "log_first_n", recorded_supervision.logging.log_every_n)
    layout = make_action_layout(position_scale=scale)
    with caplog.at_level("WARNING"):
        RecordedSupervision(layout, make_vocabulary("pretrained")).labels(episode())
    assert ("must be in metres" in caplog.text) == warned


def test_wordings():
    supervision = RecordedSupervision(ActionLayout(), make_vocabulary("pretrained"))
    assert supervision.wording(6, None) == "move the arm forward by ten centimeters"
    drawn = {supervision.wording(6, str(i)) for i in range(100)}
    assert len(drawn) > 10
