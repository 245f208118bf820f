"""Both fusions score as recorded, and each ranks as it says."""

import numpy as np
import pytest
import tensorflow as tf

from clip_tf.rt.action_scores import README, TRAINING, action_logits
from clip_tf.rt.confusion_matrix import confusion_matrix, draw_confusion_matrix, top_k_accuracy
from clip_tf.rt.objective import INITIAL_LOG_SCALE, Features, pair_logits, unit_length
from tests import golden_files


@pytest.mark.parametrize("path", golden_files.recordings("model_vit*.npz"))
def test_golden_clip_fusions(path):
    """From recorded features, so that the towers have no part in it; text 0 is the prompted instruction."""
    recorded = np.load(path)
    image = tf.constant(recorded["image_features"])
    instruction = tf.repeat(tf.constant(recorded["text_features"][:1]), len(image), axis=0)
    actions = tf.constant(recorded["action_features"])
    scale = tf.constant(recorded["logit_scale"])
    logits = action_logits(image, instruction, actions, scale, TRAINING)
    np.testing.assert_allclose(logits, recorded["train_logits"], atol=1e-4)
    probabilities = tf.sigmoid(action_logits(image, instruction, actions, scale, README))
    np.testing.assert_allclose(probabilities, recorded["action_probs"], atol=1e-5)


def test_the_training_fusion_scores_what_the_objective_scores():
    rng = np.random.default_rng(0)
    raw = [tf.constant(rng.normal(size=(5, 7)) * s, tf.float32) for s in (1.0, 20.0, 3.0)]
    features = Features(*map(unit_length, raw))
    scale = tf.constant([INITIAL_LOG_SCALE])
    np.testing.assert_allclose(
        action_logits(raw[0], raw[1], features.supervision, scale), pair_logits(features, scale), rtol=1e-5
    )


def test_the_fusions_can_differ():
    """A text that is much longer than the image drowns it in the one and not in the other."""
    image, text = tf.constant([[1.0, 0.0]]), tf.constant([[0.0, 10.0]])
    actions = tf.constant([[1.0, 0.0], [-0.6, 0.8]])
    found = [
        int(np.argmax(action_logits(image, text, actions, tf.constant(0.0), f))) for f in (TRAINING, README)
    ]
    assert found == [0, 1]


def test_readme_probabilities_lie_near_a_half():
    rng = np.random.default_rng(1)
    image, text, actions = (tf.constant(rng.normal(size=(50, 2)), tf.float32) for _ in range(3))
    probabilities = tf.sigmoid(action_logits(image, text, unit_length(actions), tf.constant(9.0), README))
    assert 0.268 < float(tf.reduce_min(probabilities)) < 0.28
    assert 0.72 < float(tf.reduce_max(probabilities)) < 0.732


def test_unknown_fusion():
    with pytest.raises(ValueError, match="fusion must be one of.*'sum'"):
        action_logits(*[tf.zeros([1, 1])] * 3, tf.constant(0.0), "sum")


def test_confusion_counts_and_accuracy():
    true, predicted = np.array([0, 0, 1, 3]), np.array([0, 1, 1, 0])
    counts = confusion_matrix(true, predicted, 4)
    assert counts[0].tolist() == [1, 1, 0, 0]
    assert counts.sum() == 4
    assert counts[3, 0] == 1
    logits = np.eye(4)[predicted] + 0.1 * np.arange(4)
    assert top_k_accuracy(logits, true, 1) == 0.5
    assert top_k_accuracy(logits, true, 2) == 0.75
    assert top_k_accuracy(logits, true, 9) == 1.0


@pytest.mark.parametrize("classes", [3, 58])
def test_the_picture_grows_with_the_classes_that_occur(classes):
    counts = np.zeros((classes, classes), np.int64)
    few = draw_confusion_matrix(
        counts + np.eye(classes, dtype=np.int64) * (np.arange(classes) < 3), ["go"] * classes
    )
    assert few.dtype == np.uint8
    assert few.ndim == 4
    assert few.std() > 1
    if classes == 58:
        many = draw_confusion_matrix(np.ones_like(counts), ["go"] * classes)
        assert many.shape[1] > few.shape[1]
