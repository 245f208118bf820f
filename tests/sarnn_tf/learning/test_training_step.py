"""The step in chunks gives what the plain one gives: predict all, compare all, differentiate."""

import numpy as np
import pytest
import tensorflow as tf

from sarnn_tf.data.batch import Batch
from sarnn_tf.image_modality import ImageModality
from sarnn_tf.learning.losses import LossWeights, sequence_losses, total_loss
from sarnn_tf.learning.training_step import LOSS, losses_and_gradients, losses_of
from sarnn_tf.networks import frame_chunks
from sarnn_tf.networks.clip_sarnn import ClipSarnn, Observations
from sarnn_tf.networks.sarnn import Sarnn
from sarnn_tf.prediction import predict

SIZES = {"image": (14, 12, 3), "depth": (10, 16, 1), "gelsight_left": (9, 9, 3)}
LENGTHS = (7, 4, 2)
FEATURES, JOINTS, SHARE = 8, 3, 0.7
WEIGHTS = LossWeights(0.3, 1.1, 0.9)
SEVERAL = tuple(ImageModality(name, shape[-1], 2) for name, shape in SIZES.items())
MODELS = {
    "eipl_few_pixels": lambda: Sarnn(JOINTS, rec_dim=6, k_dim=2, temperature=1e-3, seed=1),
    "eipl_all_pixels": lambda: Sarnn(JOINTS, rec_dim=6, k_dim=2, temperature=1.0, seed=1),
    "several": lambda: ClipSarnn(JOINTS, SEVERAL, rec_dim=6, temperature=0.1, use_clip=False, seed=1),
    "clip": lambda: ClipSarnn(
        JOINTS, SEVERAL, rec_dim=6, temperature=0.1, clip_features=FEATURES, text_units=2, seed=1
    ),
    "transposed": lambda: ClipSarnn(
        JOINTS, SEVERAL[2:], rec_dim=6, temperature=0.1, use_clip=False, transpose_heatmap=True, seed=1
    ),
}
Model = Sarnn | ClipSarnn


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 3, 3 and 6 frames: the ten frames that count are no multiple of them."""
    monkeypatch.setattr(frame_chunks, "PIXELS", 500)


def made(model: Model, lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    b, t = len(lengths), max(lengths)

    def draw(*shape: int) -> tf.Tensor:
        return tf.constant(rng.random(shape), tf.float32)

    names = list(model.streams)
    targets = {name: draw(b, t, *SIZES[name]) for name in names}
    noisy = {name: x + 0.1 * draw(*x.shape) for name, x in targets.items()}
    uses_clip = isinstance(model, ClipSarnn) and model.use_clip
    patches, text = (draw(b, t, 3, 4, FEATURES) - 0.5, draw(b, FEATURES) - 0.5) if uses_clip else (None, None)
    joints = draw(b, t, JOINTS)
    seen = Observations(noisy, joints + 0.1 * draw(b, t, JOINTS), patches, text)
    real = np.arange(t) < np.asarray(lengths)[:, None]
    return Batch(seen, targets, joints, tf.constant(real), tf.constant([str(i) for i in range(b)]))


def plainly(model: Model, batch: Batch) -> tuple[dict[str, tf.Tensor], list[tf.Tensor | None]]:
    images, joints, patches, text = batch.inputs
    shown = Observations(
        {name: x[:, :-1] for name, x in images.items()},
        joints[:, :-1],
        None if patches is None else patches[:, :-1],
        text,
    )
    with tf.GradientTape() as tape:
        output, _, _ = predict(model, shown)
        losses = sequence_losses(
            output.images,
            output.joints,
            output.encoder_points,
            output.decoder_points,
            batch.images,
            batch.joints,
            batch.real,
        )
        losses[LOSS] = total_loss(losses, WEIGHTS, SHARE)
    return losses, tape.gradient(losses[LOSS], model.trainable_variables)


def assert_same_gradients(model: Model, found: list, expected: list, relative: float = 1e-5) -> None:
    whole = float(tf.linalg.global_norm([g for g in expected if g is not None]))
    # A softmax does not see the bias before it: its gradient is nothing but rounding.
    unseen = [
        (s.pos_encoder.adapter if s.uses_clip else s.pos_encoder.stack.convs[-1]).bias.ref()
        for s in model.streams.values()
    ]
    for ours, plain, variable in zip(found, expected, model.trainable_variables, strict=True):
        assert (ours is None) == (plain is None), variable.name
        if plain is not None:
            assert ours.shape == variable.shape
            limit = relative * (whole if variable.ref() in unseen else float(tf.norm(plain)))
            assert float(tf.norm(ours - plain)) <= limit, variable.name


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
def test_losses_and_gradients_are_the_plain_ones(name: str, compiled: bool) -> None:
    model = MODELS[name]()
    batch = made(model)
    expected, expected_gradients = plainly(model, batch)
    step, losses_alone = (tf.function(f) if compiled else f for f in (losses_and_gradients, losses_of))
    losses, gradients = step(model, batch, WEIGHTS, SHARE)
    assert losses.keys() == expected.keys()
    alone = losses_alone(model, batch, WEIGHTS, SHARE)
    for key, value in expected.items():
        np.testing.assert_allclose(losses[key], value, rtol=1e-6)
        np.testing.assert_allclose(alone[key], value, rtol=1e-6)
    # A low temperature multiplies the rounding of the convolutions.
    relative = 1e-4 if name == "eipl_few_pixels" else 1e-5
    assert_same_gradients(model, gradients, expected_gradients, relative)
    assert all(float(tf.norm(g)) > 0 for g in gradients)


@pytest.mark.parametrize("name", ["eipl_few_pixels", "clip"])
def test_padding_may_hold_anything(name: str) -> None:
    model = MODELS[name]()
    batch = made(model)
    compiled = tf.function(losses_and_gradients)
    losses, gradients = compiled(model, batch, WEIGHTS, SHARE)

    def spoiled(x: tf.Tensor) -> tf.Tensor:
        real = tf.reshape(batch.real, [*batch.real.shape, *[1] * (len(x.shape) - 2)])
        return tf.where(real, x, np.nan)

    images, joints, patches, text = batch.inputs
    seen = Observations(
        {n: spoiled(x) for n, x in images.items()},
        spoiled(joints),
        None if patches is None else spoiled(patches),
        text,
    )
    targets = {n: spoiled(x) for n, x in batch.images.items()}
    worse = batch._replace(inputs=seen, images=targets, joints=spoiled(batch.joints))
    other_losses, other_gradients = compiled(model, worse, WEIGHTS, SHARE)
    np.testing.assert_array_equal(other_losses[LOSS], losses[LOSS])
    for one, other in zip(gradients, other_gradients, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-8)


def test_sequences_of_different_length_count_as_much_as_alone() -> None:
    model = MODELS["several"]()
    batch = made(model)

    def alone(i: int) -> list:
        cut = [
            tf.nest.map_structure(lambda x: x[i : i + 1, : LENGTHS[i]], part)
            for part in (*batch.inputs[:2], *batch[1:4])
        ]
        of_one = batch._replace(
            inputs=Observations(cut[0], cut[1]), images=cut[2], joints=cut[3], real=cut[4]
        )
        return losses_and_gradients(model, of_one, WEIGHTS, SHARE)

    losses, together = losses_and_gradients(model, batch, WEIGHTS, SHARE)
    of_each = [alone(i) for i in range(len(LENGTHS))]
    for name, value in losses.items():
        np.testing.assert_allclose(value, np.mean([of_one[name] for of_one, _ in of_each]), rtol=1e-5)
    means = [sum(gradients) / len(LENGTHS) for gradients in zip(*(g for _, g in of_each), strict=True)]
    assert_same_gradients(model, together, means)


def test_the_gradient_is_the_same_each_time() -> None:
    model = MODELS["several"]()
    batch, compiled = made(model), tf.function(losses_and_gradients)
    first = compiled(model, batch, WEIGHTS, SHARE)
    for _ in range(5):
        tf.nest.map_structure(np.testing.assert_array_equal, compiled(model, batch, WEIGHTS, SHARE), first)


def test_a_batch_of_which_nothing_counts() -> None:
    model = MODELS["several"]()
    batch = made(model)
    batch = batch._replace(real=tf.zeros_like(batch.real))
    losses, gradients = tf.function(losses_and_gradients)(model, batch, WEIGHTS, SHARE)
    assert float(losses[LOSS]) == 0
    assert all(float(tf.reduce_max(tf.abs(g))) == 0 for g in gradients)


def test_a_batch_that_does_not_fit_is_refused() -> None:
    model = MODELS["several"]()
    batch = made(model)
    with pytest.raises(ValueError, match="SARNN sees only 'image'"):
        losses_of(MODELS["eipl_few_pixels"](), batch, WEIGHTS)
    with pytest.raises(ValueError, match="images must be those of"):
        losses_of(model, batch._replace(inputs=batch.inputs._replace(images={})), WEIGHTS)
    with pytest.raises(ValueError, match="Targets of 'image' must be"):
        losses_of(model, batch._replace(images={}), WEIGHTS)
    with pytest.raises(ValueError, match="Targets of 'depth' must be"):
        losses_of(model, batch._replace(images={**batch.images, "depth": batch.images["image"]}), WEIGHTS)
