"""The tables built from their rule are the published ones."""

import json

import numpy as np
import pytest

from clip_tf.rt import action_table
from clip_tf.rt.vocabulary import make_vocabulary
from tests.shared_data import shared


def table(name):
    return json.loads(shared(f"data/clip_rt/{name}.json").read_text())


def test_finetuning_table_is_the_published_one():
    published = {phrase: json.loads(action) for phrase, action in table("language_to_action").items()}
    ours = action_table.finetuning_table()
    assert [move.phrase for move in ours] == list(published)  # Labels are places in this order.
    assert [list(move.action) for move in ours] == list(published.values())  # To the last bit.
    assert {str(i): move.phrase for i, move in enumerate(ours)} == table("label_to_language_finetune")


def test_finetuning_labels_do_not_depend_on_the_gripper_of_a_move():
    ours = action_table.finetuning_table()
    for action, label in table("action_to_label_finetune").items():
        np.testing.assert_allclose(ours[int(label)].action[:-1], json.loads(action)[:-1], atol=1e-4)


def test_pretraining_table_is_the_published_one():
    published = {
        int(label): json.loads(action) for action, label in table("action_to_label_pretrain").items()
    }
    ours = action_table.pretraining_table()
    assert {i: list(move.action) for i, move in enumerate(ours)} == published


def test_both_tables_name_the_same_moves():
    fine = {
        move.phrase for move in action_table.finetuning_table() if "rotate the gripper" not in move.phrase
    }
    assert fine == {move.phrase for move in action_table.pretraining_table()}


@pytest.mark.parametrize("source", ["finetuned", "pretrained"])
def test_every_action_lies_within_the_bounds_of_its_specification(source):
    vocabulary = make_vocabulary(source)
    specs = action_table.action_specs(vocabulary.actions.shape[1])
    assert sum(spec.size for spec in specs) == vocabulary.actions.shape[1]
    low, high = (np.concatenate([s.bounds()[i].ravel() for s in specs]) for i in (0, 1))
    assert ((low <= vocabulary.actions) & (vocabulary.actions <= high)).all()
    np.testing.assert_allclose(vocabulary.actions.max(0), high, atol=1e-5)


def test_another_size_has_no_specification():
    with pytest.raises(ValueError, match="7 or 8"):
        action_table.action_specs(6)
