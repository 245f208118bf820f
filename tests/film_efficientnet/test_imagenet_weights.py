"""Keras' weight files into the trunk."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from film_efficientnet.film_efficientnet_encoder import FilmEfficientNet
from film_efficientnet.imagenet_weights import load_imagenet_weights

SIZE = 64  # Even at every stride: Keras' padding and RT-1's agree.


@pytest.fixture(scope="module")
def keras_model() -> tf.keras.Model:
    """Keras' own EfficientNet-B0 with random weights and statistics."""
    model = tf.keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [
                    rng.uniform(0.8, 1.2, gamma.shape),
                    rng.normal(0, 0.1, beta.shape),
                    rng.normal(0, 0.1, mean.shape),
                    rng.uniform(0.8, 1.2, variance.shape),
                ]
            )
    # Without ImageNet's weights Keras leaves the last rescaling out: the true variances give the same.
    normalization = model.get_layer("normalization")
    deviation = np.array([0.229, 0.224, 0.225])
    normalization.set_weights([np.array([0.485, 0.456, 0.406]), deviation**2, 0])
    normalization.finalize_state()
    return model


@pytest.fixture(scope="module")
def weights(keras_model: tf.keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "efficientnetb0_notop.h5"
    keras_model.save_weights(str(path))
    return path


@pytest.fixture(scope="module")
def trunk() -> FilmEfficientNet:
    network = FilmEfficientNet("b0", include_film=False)
    network(np.zeros((1, SIZE, SIZE, 3), np.float32))
    return network


def test_keras_weights_give_keras_features(
    keras_model: tf.keras.Model, weights: Path, trunk: FilmEfficientNet
) -> None:
    report = load_imagenet_weights(trunk, weights)
    assert report.ok
    assert len(report.loaded) == len(keras_model.weights) - 3  # Without the normalisation's.
    image = np.random.default_rng(1).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    expected = keras_model(image, training=False).numpy()
    found, _ = trunk(image)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_film_layers_stay_and_need_nothing_from_the_file(weights: Path, trunk: FilmEfficientNet) -> None:
    network = FilmEfficientNet("b0")
    network(np.zeros((1, SIZE, SIZE, 3), np.float32), np.zeros((1, 4), np.float32))
    for variable in network.layer("block1a_film").variables:
        variable.assign(tf.ones_like(variable))
    load_imagenet_weights(network, weights)
    load_imagenet_weights(trunk, weights)
    for name in trunk.layer_names():
        for one, other in zip(network.layer(name).variables, trunk.layer(name).variables, strict=True):
            np.testing.assert_array_equal(one, other)
    for variable in network.layer("block1a_film").variables:
        np.testing.assert_array_equal(variable, tf.ones_like(variable))


def test_the_weights_of_a_whole_saved_model_are_found(weights: Path, tmp_path: Path, trunk) -> None:
    """``model.save`` puts the same groups under ``model_weights``."""
    whole = tmp_path / "model.h5"
    with h5py.File(weights) as source, h5py.File(whole, "w") as target:
        source.copy(source["/"], target, "model_weights")
    assert load_imagenet_weights(trunk, whole).ok


def _break(weights: Path, folder: Path, how: str) -> Path:
    path = folder / f"{how.replace(' ', '_')}.h5"
    content = weights.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a foreign file":
        with h5py.File(path, "w") as file:
            file["images"] = np.zeros(3)
    elif how == "no layers":
        with h5py.File(path, "w") as file:
            file.create_group("stem_conv")
    else:
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            stem, top = file["stem_conv"], file["top_conv"]
            name = stem.attrs["weight_names"][0]
            if how == "a missing layer":
                del file["top_conv"]
            elif how == "a missing array":
                del stem[name]
            elif how == "another shape":
                del stem[name]
                stem[name] = np.zeros((3, 3, 3, 40), np.float32)
            elif how == "one layer more":
                file.copy(top, "predictions")
    return path


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "not a readable HDF5 file"),
        ("text", "not a readable HDF5 file"),
        ("empty", "not a readable HDF5 file"),
        ("a foreign file", "'images' is not the group of a layer"),
        ("no layers", "no layer has a weight_names"),
        ("a missing layer", "missing: top_conv/kernel"),
        ("a missing array", "'stem_conv' has no"),
        ("another shape", r"mismatched: stem_conv/kernel .the file has \[3, 3, 3, 40\]"),
        ("one layer more", "unexpected: predictions/kernel"),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(
    weights: Path, trunk: FilmEfficientNet, tmp_path: Path, how: str, message: str
) -> None:
    path = _break(weights, tmp_path, how)
    before = [v.numpy() for v in trunk.variables]
    with pytest.raises(ValueError, match=message) as error:
        load_imagenet_weights(trunk, path)
    assert str(path) in str(error.value)
    for one, other in zip(before, trunk.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_of_another_size_do_not_fit(weights: Path) -> None:
    network = FilmEfficientNet("tiny", include_film=False)
    network(np.zeros((1, 32, 32, 3), np.float32))
    with pytest.raises(ValueError, match="does not fit the network"):
        load_imagenet_weights(network, weights)


def test_no_file(trunk: FilmEfficientNet, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No file of ImageNet weights.*nothing.h5"):
        load_imagenet_weights(trunk, tmp_path / "nothing.h5")
