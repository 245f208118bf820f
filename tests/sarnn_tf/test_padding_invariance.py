"""Sequences of different length in one batch give the same loss and gradients as each alone.

With everything on: colour seen through CLIP, depth, both fingers, joints, the instruction as gate and as
words to the recurrent net; through the batches that training sees, with noise and without.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from sarnn_tf.data.batch import Batch
from sarnn_tf.data.batches import batches
from sarnn_tf.data.prepare import prepare
from sarnn_tf.data.prepared import PreparedData
from sarnn_tf.description import SarnnDescription, make_description
from sarnn_tf.learning.losses import LossWeights
from sarnn_tf.learning.training_step import losses_and_gradients, losses_of
from tests.sarnn_tf.data.recordings import DEPTH, IMAGE, TOUCH, CountingClip, MemorySource, episode

LENGTHS = (5, 11, 3, 8)
OTHER_TOUCH = dataclasses.replace(TOUCH, name="gelsight_right")
MODALITIES = (IMAGE, DEPTH, TOUCH, OTHER_TOUCH)
WEIGHTS, SHARE = LossWeights(1.0, 1.1, 1.0), 0.7


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    episodes = []
    for i, steps in enumerate(LENGTHS):
        made = episode(steps, f"e{i}", seed=i, instruction="push it" if i % 2 else "pull")
        right = episode(steps, "right", seed=100 + i).images["gelsight_left"]
        episodes.append(dataclasses.replace(made, images={**made.images, "gelsight_right": right}))
    folder: Path = tmp_path_factory.mktemp("prepared")
    return prepare(MemorySource(episodes), MODALITIES, CountingClip(), folder)


def description_of(prepared: PreparedData) -> SarnnDescription:
    return make_description(
        prepared.joint_names,
        prepared.joint_bounds,
        clip_features=3,
        clip_fingerprint=prepared.clip_fingerprint,
        modalities=MODALITIES,
        rec_dim=6,
        temperature=1e-2,
        text_units=2,
    )


def batch_of(prepared: PreparedData, part: range, seed: int | None) -> Batch:
    """One batch of these episodes; an episode's noise does not depend on its company."""
    (batch,) = batches(
        prepared, description_of(prepared), part, len(part), seed=seed, stdev=0.1, joint_stdev=0.1
    )
    return batch


def spoilt(batch: Batch) -> Batch:
    """The batch with nonsense as padding."""

    def spoil(x: tf.Tensor) -> tf.Tensor:
        real = tf.reshape(batch.real, [*batch.real.shape, *[1] * (len(x.shape) - 2)])
        return tf.where(real, x, 1e3)

    inputs = batch.inputs._replace(
        images={name: spoil(x) for name, x in batch.inputs.images.items()},
        joints=spoil(batch.inputs.joints),
        patches=spoil(batch.inputs.patches),
    )
    images = {name: spoil(x) for name, x in batch.images.items()}
    return batch._replace(inputs=inputs, images=images, joints=spoil(batch.joints))


@pytest.mark.parametrize("seed", [None, 3])
def test_a_batch_is_the_mean_of_its_episodes(prepared: PreparedData, seed: int | None) -> None:
    model = description_of(prepared).make_model(seed=2)
    whole = batch_of(prepared, range(len(LENGTHS)), seed)
    assert whole.real.numpy().sum(axis=1).max() == whole.joints.shape[1] == max(LENGTHS)
    losses, gradients = losses_and_gradients(model, whole, WEIGHTS, SHARE)
    alone = [
        losses_and_gradients(model, batch_of(prepared, range(i, i + 1), seed), WEIGHTS, SHARE)
        for i in range(len(LENGTHS))
    ]
    assert {"loss", "image", "joint", "point", "image/gelsight_right", "point/depth"} <= losses.keys()
    for name, value in losses.items():
        np.testing.assert_allclose(value, np.mean([a[0][name] for a in alone]), rtol=2e-6, err_msg=name)
    for variable, gradient, *each in zip(
        model.trainable_variables, gradients, *(a[1] for a in alone), strict=True
    ):
        expected = np.mean(each, axis=0)
        # The biases before a softmax have next to none: what is left is a sum of large numbers that cancel.
        tolerance = 2e-5 * np.abs(expected).max() + 2e-6
        np.testing.assert_allclose(gradient, expected, atol=tolerance, rtol=0, err_msg=variable.name)
    assert sum(np.abs(g).max() > 1e-4 for g in gradients) > 0.75 * len(gradients)


@pytest.mark.parametrize("seed", [None, 3])
def test_what_padding_holds_does_not_matter(prepared: PreparedData, seed: int | None) -> None:
    model = description_of(prepared).make_model(seed=2)
    batch = batch_of(prepared, range(len(LENGTHS)), seed)
    losses, gradients = losses_and_gradients(model, batch, WEIGHTS, SHARE)
    found, spoilt_gradients = losses_and_gradients(model, spoilt(batch), WEIGHTS, SHARE)
    for name, value in losses.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(losses_of(model, spoilt(batch), WEIGHTS, SHARE)[name], value, rtol=1e-6)
    for gradient, other in zip(gradients, spoilt_gradients, strict=True):
        np.testing.assert_allclose(other, gradient, atol=1e-6)
