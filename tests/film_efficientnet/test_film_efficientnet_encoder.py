"""The convolutional trunk and the encoder around it."""

import numpy as np
import pytest
import tensorflow as tf

from film_efficientnet.film_efficientnet_encoder import FilmEfficientNet
from film_efficientnet.pretrained_efficientnet_encoder import EfficientNetEncoder

SIZE, CONTEXT = 32, 5
RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
EMBEDDING = RNG.normal(size=(2, CONTEXT)).astype(np.float32)


@pytest.fixture(scope="module")
def plain() -> FilmEfficientNet:
    network = FilmEfficientNet("tiny", include_film=False)
    network(IMAGE)
    return network


@pytest.fixture(scope="module")
def film(plain: FilmEfficientNet) -> FilmEfficientNet:
    """With the weights of ``plain``, and FiLM layers as they begin."""
    network = FilmEfficientNet("tiny", spatial_dropout_rate=0.5)
    network(IMAGE, EMBEDDING)
    for name in plain.layer_names():
        network.layer(name).set_weights(plain.layer(name).get_weights())
    return network


def _variables(network: FilmEfficientNet) -> list[np.ndarray]:
    return [v.numpy() for v in network.variables]


def test_fresh_film_does_not_disturb_the_trunk(plain: FilmEfficientNet, film: FilmEfficientNet) -> None:
    expected, expected_aux = plain(IMAGE)
    found, aux = film(IMAGE, EMBEDDING)
    np.testing.assert_array_equal(found, expected)
    blocks = [b.name for b in film.blocks]
    assert list(aux) == ["stem", *blocks, "top"] == list(expected_aux)
    assert found.shape == (2, 4, 4, 128)


def test_film_comes_after_the_residual_of_its_block(film: FilmEfficientNet) -> None:
    """(1 + m) · (inputs + branch) + a: the offset alone moves every channel of the block by as much."""
    _, before = film(IMAGE, EMBEDDING)
    bias = film.layer("block2b_film")._projection_add.bias
    bias.assign(np.arange(bias.shape[0], dtype=np.float32))
    try:
        _, after = film(IMAGE, EMBEDDING)
    finally:
        bias.assign(tf.zeros_like(bias))
    difference = after["block2b"] - before["block2b"]
    np.testing.assert_allclose(difference, np.broadcast_to(np.arange(32), difference.shape), atol=1e-4)
    np.testing.assert_array_equal(after["block2a"], before["block2a"])


def test_layers_with_weights_are_numbered_in_the_order_of_construction(film: FilmEfficientNet) -> None:
    names = film.layer_names()
    assert names[:3] == ("normalization", "stem_conv", "stem_bn")
    assert names[-2:] == ("top_conv", "top_bn")
    assert names.index("block1a_film") == names.index("block1a_project_bn") + 1
    for i, name in enumerate(names):
        assert getattr(film, f"layer_with_weights-{i}") is film.layer(name)
    with pytest.raises(KeyError):
        film.layer("block9z_film")


def test_b3_has_the_235_layers_of_the_checkpoints() -> None:
    assert len(FilmEfficientNet("b3").layer_names()) == 235


def test_b3_features_are_9_by_9_at_300_pixels() -> None:
    """Shapes alone: traced, not computed."""
    network = FilmEfficientNet("b3", include_film=False)
    signature = [tf.TensorSpec((None, 300, 300, 3))]
    traced = tf.function(lambda image: network(image), input_signature=signature).get_concrete_function()
    features, aux = traced.structured_outputs
    assert aux["stem"].shape[1:] == (150, 150, 40)
    assert features.shape[1:] == (9, 9, 1536)


def test_without_a_context_film_says_so(film: FilmEfficientNet) -> None:
    with pytest.raises(ValueError, match="FiLM needs a context"):
        film(IMAGE)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="variant must be one of.*Received: 'b17'"):
        FilmEfficientNet("b17")


def test_input_normalisation_follows_its_variables(plain: FilmEfficientNet) -> None:
    layer = plain.layer("normalization")
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(layer(IMAGE), (IMAGE / 255 - mean) / deviation, atol=1e-5)
    assert [v.shape.as_list() for v in layer.variables] == [[3], [3], []]
    assert layer.count.dtype == tf.int64
    kept = layer.mean.numpy()
    layer.mean.assign(kept + 1)  # As a restored checkpoint would: no refresh is needed.
    try:
        np.testing.assert_allclose(layer(IMAGE), (IMAGE / 255 - mean - 1) / deviation, atol=1e-5)
    finally:
        layer.mean.assign(kept)


def test_dropout_is_drawn_from_its_seed_and_leaves_the_statistics(film: FilmEfficientNet) -> None:
    plain, _ = film(IMAGE, EMBEDDING)
    before = _variables(film)
    first, _ = film(IMAGE, EMBEDDING, dropout_seed=tf.constant([1, 2]))
    again, _ = film(IMAGE, EMBEDDING, dropout_seed=tf.constant([1, 2]))
    other, _ = film(IMAGE, EMBEDDING, dropout_seed=tf.constant([1, 3]))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, plain)
    assert not np.allclose(first, other)
    for one, another in zip(before, _variables(film), strict=True):
        np.testing.assert_array_equal(one, another)
    # Spatial dropout takes whole channels.
    dropped = np.all(first == 0, axis=(1, 2))
    assert 0.3 < dropped.mean() < 0.7
    assert not np.any((np.asarray(first) == 0) & ~dropped[:, None, None] & (np.asarray(plain) != 0))


def test_training_uses_and_moves_batch_statistics(plain: FilmEfficientNet) -> None:
    network = FilmEfficientNet("tiny", include_film=False)
    network(IMAGE)
    before = {v.name: v.numpy() for v in network.non_trainable_variables}
    trained, _ = network(IMAGE, training=True)
    assert not np.allclose(trained, network(IMAGE)[0])
    moved = [v for v in network.non_trainable_variables if not np.array_equal(before[v.name], v.numpy())]
    # Every batch normalisation moved its two statistics; the three of the input never move.
    assert len(moved) == 2 * sum(name.endswith("bn") for name in network.layer_names())
    assert not any("normalization/" in v.name for v in moved)


@pytest.mark.parametrize("size", [31, 33])
def test_strided_convolutions_pad_as_for_even_sizes(size: int) -> None:
    """RT-1's rule keeps 300 px at 9×9: zeros before and after are (k // 2 - 1, k // 2) always."""
    network = FilmEfficientNet("tiny", include_film=False)
    _, aux = network(RNG.uniform(0, 255, (1, size, size, 3)).astype(np.float32))
    assert aux["stem"].shape[1] == (size + 1 - 3) // 2 + 1


def test_encoder_resizes_bilinearly_and_scales() -> None:
    encoder = EfficientNetEncoder("tiny", 16, image_size=SIZE)
    image = tf.constant(RNG.uniform(size=(1, 40, 24, 3)).astype(np.float32))
    np.testing.assert_allclose(
        encoder.prepare(image), tf.image.resize(image, (SIZE, SIZE), "bilinear") * 255.0, atol=1e-4
    )
    fitting = tf.constant(RNG.uniform(size=(1, SIZE, SIZE, 3)).astype(np.float32))
    np.testing.assert_array_equal(encoder.prepare(fitting), fitting * 255.0)
    assert EfficientNetEncoder("tiny").image_size == 64
    assert EfficientNetEncoder("b3").image_size == 300


def test_encoder_projects_without_bias_and_conditions_once_more() -> None:
    encoder = EfficientNetEncoder("tiny", 16, image_size=SIZE)
    image = tf.constant(IMAGE / 255.0)
    features, aux = encoder(image, EMBEDDING)
    assert encoder.conv1x1.bias is None
    projected = tf.einsum("bhwc,cd->bhwd", aux["top"], encoder.conv1x1.kernel[0, 0])
    np.testing.assert_allclose(features, projected, atol=1e-4)
    encoder.film_layer._projection_add.bias.assign(tf.ones([16]))
    np.testing.assert_allclose(encoder(image, EMBEDDING)[0], projected + 1.0, atol=1e-4)
