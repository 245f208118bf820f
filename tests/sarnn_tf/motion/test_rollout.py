"""A rollout is the network on what was mixed: p = 1 its sequence, p = 0 its own dream; and its errors."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from sarnn_tf.description import JOINTS
from sarnn_tf.image_modality import ImageModality
from sarnn_tf.motion.rollout import Rollout, Runner, squared_errors, training_mean
from sarnn_tf.networks.clip_sarnn import Observations
from sarnn_tf.normalization import denormalize, normalize
from sarnn_tf.policy_folder import LoadedSarnn
from sarnn_tf.prediction import predict, predict_step
from sarnn_tf.preparation import prepare_images, to_unit
from tests.sarnn_tf.sarnn_policies import WORDS, describe, frames, tiny_clip

STEPS = 5


@functools.cache
def loaded(model: str = "clip_sarnn") -> LoadedSarnn:
    description = describe(model)
    return LoadedSarnn(description.make_model(1), description, tiny_clip() if description.uses_text else None)


@functools.cache
def runner(model: str = "clip_sarnn") -> Runner:
    return Runner(loaded(model))


def episode(description, steps: int = STEPS, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    recorded = frames(description, steps, seed)
    return {m.name: recorded[m.name] for m in description.modalities}, recorded[JOINTS]


def as_seen(parts: LoadedSarnn, images, joints) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the network sees of a recording, by the parts of the transforms."""
    d = parts.description
    seen = {m.name: to_unit(prepare_images(images[m.name], m), m) for m in d.modalities}
    return seen, normalize(joints, d.bounds, d.vmin, d.vmax).astype(np.float32)


@pytest.mark.parametrize("model", ["sarnn", "clip_sarnn"])
def test_the_recording_alone_is_the_network_on_the_sequence(model: str) -> None:
    parts = loaded(model)
    d = parts.description
    images, joints = episode(d)
    seen, scaled = as_seen(parts, images, joints)
    patches = None if parts.clip is None else parts.clip.patches(seen["image"])[None]
    text = None if parts.clip is None else parts.clip.text([WORDS[0]])
    tensors = {n: tf.constant(x[None]) for n, x in seen.items()}
    expected, _, aux = predict(parts.model, Observations(tensors, tf.constant(scaled[None]), patches, text))
    got = runner(model).run(images, joints, WORDS[0])
    np.testing.assert_allclose(got.hidden, aux["h"][0], atol=1e-5)
    np.testing.assert_allclose(
        got.joints, denormalize(expected.joints[0].numpy(), d.bounds, d.vmin, d.vmax), atol=1e-5
    )
    np.testing.assert_array_equal(got.recorded_joints, joints)
    for m in d.modalities:
        np.testing.assert_array_equal(got.seen_images[m.name], seen[m.name])
        np.testing.assert_allclose(got.images[m.name], expected.images[m.name][0], atol=1e-5)
        for ours, theirs in (
            (got.encoder_points, expected.encoder_points),
            (got.decoder_points, expected.decoder_points),
        ):
            np.testing.assert_allclose(
                ours[m.name], tf.reshape(theirs[m.name][0], [STEPS, m.k_dim, 2]), atol=1e-4
            )


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_mixing_is_the_loop_by_hand(p: float) -> None:
    """Images and normalised joints, not clipped; CLIP looks at the mixed image; the first step is real."""
    parts = loaded()
    d = parts.description
    images, joints = episode(d)
    seen, scaled = as_seen(parts, images, joints)
    text = tf.constant(parts.clip.text([WORDS[1]]))
    state = last = None
    expected_joints, expected_seen = [], []
    for t in range(STEPS):
        now, now_joints = {n: x[t : t + 1] for n, x in seen.items()}, scaled[t : t + 1]
        if last is not None:
            now = {n: p * x + (1 - p) * last.images[n].numpy() for n, x in now.items()}
            now_joints = p * now_joints + (1 - p) * last.joints.numpy()
        now = {n: x.astype(np.float32) for n, x in now.items()}
        patches = tf.constant(parts.clip.patches(now["image"]))
        tensors = {n: tf.constant(x) for n, x in now.items()}
        observations = Observations(tensors, tf.constant(now_joints.astype(np.float32)), patches, text)
        last, state, _ = predict_step(parts.model, observations, state)
        expected_joints.append(denormalize(last.joints.numpy(), d.bounds, d.vmin, d.vmax)[0])
        expected_seen.append(now["depth"][0])
    got = runner().run(images, joints, WORDS[1], p)
    np.testing.assert_allclose(got.joints, expected_joints, atol=1e-5)
    np.testing.assert_allclose(got.seen_images["depth"], expected_seen, atol=1e-5)
    np.testing.assert_allclose(got.hidden[-1], state.h[0], atol=1e-5)


def test_a_dream_depends_on_the_first_step_alone() -> None:
    parts = loaded("sarnn")
    images, joints = episode(parts.description)
    other_images, other_joints = episode(parts.description, seed=1)
    other_images["image"][0], other_joints[0] = images["image"][0], joints[0]
    np.testing.assert_array_equal(
        runner("sarnn").run(images, joints, input_param=0.0).joints,
        runner("sarnn").run(other_images, other_joints, input_param=0.0).joints,
    )


def test_predicted_joints_are_not_taken_from_the_recording() -> None:
    parts = loaded("sarnn")
    images, joints = episode(parts.description)
    other = joints.copy()
    other[1:, 0] += 0.5
    predicting = Runner(parts, ["shoulder"])
    np.testing.assert_array_equal(predicting.run(images, joints).joints, predicting.run(images, other).joints)
    assert not np.allclose(*(runner("sarnn").run(images, x).joints for x in (joints, other)), atol=1e-4)


def test_points_of_clip_have_the_border_of_its_patches() -> None:
    got = runner().run(*episode(describe()), WORDS[0])
    grid = tiny_clip().grid
    assert got.point_borders["image"] == ((14 / grid - 1) / 2, (18 / grid - 1) / 2)
    assert got.point_borders["depth"] == (3.0, 3.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, j: (i, j[:-1]), "equally many"),
        (lambda i, j: ({n: x for n, x in i.items() if n != "depth"}, j), r"lacks \['depth'\]"),
        (lambda i, j: ({n: x[:1] for n, x in i.items()}, j[:1]), "at least 2"),
        (lambda i, j: (i, j[:, :2]), r"\[t, 3\]"),
        (lambda i, j: (i, j * np.nan), "finite"),
        (lambda i, j: (i | {"image": i["image"].astype(np.float32)}, j), "uint8"),
    ],
)
def test_episodes_that_do_not_fit_are_refused(change, message: str) -> None:
    parts = loaded()
    with pytest.raises(ValueError, match=message):
        runner().run(*change(*episode(parts.description)), WORDS[0])


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_input_param_is_a_share(p: float) -> None:
    parts = loaded("sarnn")
    with pytest.raises(ValueError, match="input_param"):
        runner("sarnn").run(*episode(parts.description), input_param=p)


def test_the_mean_is_over_all_steps_of_all_episodes() -> None:
    d = dataclasses.replace(describe("sarnn"), modalities=(ImageModality("image", k_dim=2, size=(7, 8)),))
    first, second = (episode(d, steps, seed) for steps, seed in ((2, 0), (4, 1)))
    mean = training_mean([first, second], d)
    joints = np.concatenate([first[1], second[1]])
    np.testing.assert_allclose(mean.joints, joints.mean(axis=0), rtol=1e-6)
    pixels = np.concatenate([prepare_images(e[0]["image"], d.modalities[0]) for e in (first, second)])
    np.testing.assert_allclose(mean.images["image"], pixels.mean(axis=0) / 255, rtol=1e-5)
    with pytest.raises(ValueError, match="at least one episode"):
        training_mean([], d)


def test_errors_are_of_the_next_step() -> None:
    joints = np.array([[0.0], [1.0], [3.0]], np.float32)
    pixels = joints.reshape(3, 1, 1, 1) / 4
    got = Rollout(
        instruction="",
        input_param=1.0,
        recorded_images={"image": pixels},
        recorded_joints=joints,
        seen_images={},
        # Right but for the last one, whose truth was not recorded.
        images={"image": pixels[[1, 2, 0]]},
        joints=joints[[1, 2, 0]] + np.array([[0.0], [0.5], [9.0]], np.float32),
        encoder_points={},
        decoder_points={},
        point_borders={},
        hidden=np.zeros((3, 1)),
    )
    d = dataclasses.replace(
        describe("sarnn"), joint_names=("a",), joint_bounds=((0.0,), (4.0,)), instructions=()
    )
    assert d.joint_dim == 1
    mean = dataclasses.replace(
        training_mean([episode(d)], d), joints=np.array([2.0]), images={"image": np.zeros((1, 1, 1))}
    )
    found = squared_errors(got, mean)
    np.testing.assert_allclose(found["model"]["joints"], [0.5**2 / 2])
    assert found["model"]["images"]["image"] == 0
    np.testing.assert_allclose(found["repeat"]["joints"], [(1 + 4) / 2])
    np.testing.assert_allclose(found["repeat"]["images"]["image"], (1 + 4) / 16 / 2)
    np.testing.assert_allclose(found["mean"]["joints"], [(1 + 1) / 2])
    np.testing.assert_allclose(found["mean"]["images"]["image"], (1 + 9) / 16 / 2)
    assert "mean" not in squared_errors(got)
