"""SARNN and CLIP-SARNN as networks: steps and sequences agree, what is seen matters, what is off is off."""

import numpy as np
import pytest
import tensorflow as tf

from sarnn_tf.image_modality import ImageModality
from sarnn_tf.networks.clip_sarnn import ClipSarnn, Observations
from sarnn_tf.networks.sarnn import Sarnn

SIZES = {"image": (14, 14, 3), "depth": (10, 16, 1), "gelsight_left": (9, 9, 3), "gelsight_right": (9, 9, 3)}
ALL = tuple(ImageModality(name, shape[-1], 2) for name, shape in SIZES.items())
FEATURES = 8


def parameters(model: tf.keras.layers.Layer) -> int:
    return sum(int(tf.size(v)) for v in model.trainable_variables)


def observations(
    names: tuple[str, ...] = tuple(SIZES), *, b: int = 2, t: int = 3, seed: int = 0
) -> Observations:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> tf.Tensor:
        return tf.constant(rng.random(shape), tf.float32)

    images = {name: draw(b, t, *SIZES[name]) for name in names}
    return Observations(images, draw(b, t, 3), draw(b, t, 4, 4, FEATURES) - 0.5, draw(b, FEATURES) - 0.5)


def small(**arguments: object) -> ClipSarnn:
    chosen = {"rec_dim": 6, "temperature": 0.1, "clip_features": FEATURES, "seed": 1} | arguments
    return ClipSarnn(3, chosen.pop("modalities", ALL), **chosen)


def test_numbers_of_parameters() -> None:
    """EIPL's and the published one's."""
    assert parameters(Sarnn(8)) == 34_515
    assert parameters(ClipSarnn(12, use_clip=False)) == 100_259


def test_a_sequence_is_its_steps_and_can_be_cut() -> None:
    model = Sarnn(3, rec_dim=6, k_dim=2, temperature=1e-2, seed=1)
    images = tf.random.stateless_uniform([2, 5, 12, 16, 3], [1, 1])
    joints = tf.random.stateless_uniform([2, 5, 3], [1, 2])
    whole, last, _ = model(images, joints)
    _, middle, _ = model(images[:, :2], joints[:, :2])
    rest, end, _ = model(images[:, 2:], joints[:, 2:], middle)
    np.testing.assert_allclose(rest.image, whole.image[:, 2:], atol=1e-6)
    np.testing.assert_allclose(end.c, last.c, atol=1e-6)
    state = model.initial_state(2)
    for t in range(5):
        output, state, aux = model.step(images[:, t], joints[:, t], state)
        for of_step, of_sequence in zip(output, whole, strict=True):
            np.testing.assert_allclose(of_step, of_sequence[:, t], atol=1e-6)
    assert aux["heatmap"].shape == (2, 6, 10, 2)


def test_seeds() -> None:
    first, again, other = (Sarnn(3, seed=s).trainable_variables for s in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("shape", [(1, 1, 6, 20, 3), (1, 1, 20, 6, 3)])
def test_images_must_be_larger_than_the_convolutions_border(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="more than 6"):
        Sarnn(2)(tf.zeros(shape), tf.zeros([1, 1, 2]))


@pytest.mark.parametrize("use_clip", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_all_modalities_predict_and_steps_agree(use_clip: bool, compiled: bool) -> None:
    model, seen = small(use_clip=use_clip, text_units=2), observations()
    output, last, aux = (tf.function(model) if compiled else model)(seen)
    for name, shape in SIZES.items():
        assert output.images[name].shape == (2, 3, *shape)
        assert output.encoder_points[name].shape == output.decoder_points[name].shape == (2, 3, 4)
    assert aux["attention/image"].shape == ((2, 3, 4, 4, 2) if use_clip else (2, 3, 8, 8, 2))
    state = None
    for t in range(3):
        step = Observations(
            {n: x[:, t] for n, x in seen.images.items()}, seen.joints[:, t], seen.patches[:, t], seen.text
        )
        answer, state, _ = model.step(step, state)
        np.testing.assert_allclose(answer.joints, output.joints[:, t], atol=1e-6)
        for name in SIZES:
            np.testing.assert_allclose(answer.images[name], output.images[name][:, t], atol=1e-6)
    np.testing.assert_allclose(state.h, last.h, atol=1e-6)


@pytest.mark.parametrize("seen", [*SIZES, "joints", "patches", "text"])
def test_everything_that_is_seen_moves_the_joints(seen: str) -> None:
    model, first, other = small(), observations(), observations(seed=1)
    if seen in SIZES:
        # The colour image's points come from CLIP's patches: its pixels reach the predicted image only.
        model = small(use_clip=seen != "image")
        changed = first._replace(images={**first.images, seen: other.images[seen]})
    else:
        changed = first._replace(**{seen: getattr(other, seen)})
    difference = np.abs(model(changed)[0].joints - model(first)[0].joints)
    assert difference.max() > 1e-5


def test_words_reach_a_model_without_clip_where_asked_for() -> None:
    first, other = observations(("image",)), observations(("image",), seed=1)
    images = (ImageModality("image", 3, 2),)
    deaf = small(use_clip=False, modalities=images)
    told = small(use_clip=False, modalities=images, text_units=3)
    changed = first._replace(text=other.text)
    np.testing.assert_array_equal(deaf(changed)[0].joints, deaf(first)[0].joints)
    assert np.abs(told(changed)[0].joints - told(first)[0].joints).max() > 1e-5
    with pytest.raises(ValueError, match="instruction's embedding"):
        told(first._replace(text=None))


def test_no_words_are_a_gate_of_ones() -> None:
    model, seen = small(), observations()
    without = model(seen._replace(text=None))[0].joints
    ones = model(seen._replace(text=tf.ones_like(seen.text)))[0].joints
    np.testing.assert_allclose(without, ones, atol=1e-6)


def test_a_modality_that_is_off_has_no_weights_and_is_not_taken() -> None:
    model = small(modalities=ALL[:2])
    assert set(model.streams) == {"image", "depth"}
    assert parameters(model) < parameters(small())
    with pytest.raises(ValueError, match=r"\['depth', 'image'\]"):
        model(observations())


def test_what_does_not_fit_is_refused() -> None:
    seen = observations()
    with pytest.raises(ValueError, match="needs patches"):
        small()(seen._replace(patches=None))
    with pytest.raises(ValueError, match="none twice"):
        small(modalities=(ALL[0], ALL[0]))
    with pytest.raises(ValueError, match="'image' for CLIP"):
        small(modalities=ALL[1:])
    with pytest.raises(ValueError, match="must be a modality"):
        small(modalities=())
    with pytest.raises(ValueError, match="must be square"):
        small(transpose_heatmap=True)(seen)
    with pytest.raises(ValueError, match="channels"):
        ImageModality("depth", channels=0)


def test_gradients_reach_every_variable_of_every_modality() -> None:
    model = small(text_units=2)
    with tf.GradientTape() as tape:
        output, _, _ = model(observations())
        loss = tf.add_n([tf.reduce_sum(tf.square(x)) for x in tf.nest.flatten(output)])
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None and np.abs(gradient).max() > 0, variable.name
