"""Food batches: the contract, and the same batches after a resume."""

import numpy as np
import pytest
import tensorflow as tf

from episodes.food_npz import read_food_npz, write_food_npz
from rt1.augmentation import Augmentation
from rt1.food_dataset import epoch_order, food_batches, food_batches_per_epoch
from rt1.image_preparation import resize_image

ON = Augmentation(shift=(0.2, 0.2), rotate_90=True, brightness=0.2, sharpness=0.5)


@pytest.fixture(scope="module", params=["uint8", "float"])
def data(request, tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("food") / "food.npz"
    embeddings = rng.standard_normal((11, 512)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    images = rng.integers(0, 256, (11, 20, 20, 3), dtype=np.uint8)
    actions = rng.random((11, 4), np.float32)
    if request.param == "uint8":
        write_food_npz(path, images, actions, embeddings, "encoder", ["twirling_rice"] * 11)
    else:
        np.savez(path, images=images / np.float32(255), actions=actions, embeddings=embeddings)
    return read_food_npz(path, "encoder")


def listed(data, indices=range(10), batch_size=4, **arguments):
    arguments = {"seed": 1, "image_size": 20, **arguments}
    return list(food_batches(data, np.array(indices), batch_size, **arguments).as_numpy_iterator())


def joined(batches):
    return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}


def assert_equal(some, others):
    assert len(some) == len(others)
    for a, b in zip(some, others, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_the_contract(data):
    batches = listed(data)
    assert [len(b["index"]) for b in batches] == [4, 4, 2]
    first = batches[0]
    assert {n: (v.shape, v.dtype.name) for n, v in first.items()} == {
        "image": ((4, 1, 20, 20, 3), "float32"),
        "natural_language_embedding": ((4, 1, 512), "float32"),
        "label": ((4, 4), "float32"),
        "index": ((4,), "int64"),
    }
    whole = joined(batches)
    assert sorted(whole["index"]) == list(range(10))
    images = np.asarray(data.images)
    images = images / 255 if images.dtype == np.uint8 else images
    np.testing.assert_allclose(whole["image"][:, 0], images[whole["index"]], atol=1e-6)
    np.testing.assert_array_equal(whole["label"], data.actions[whole["index"]])
    np.testing.assert_array_equal(whole["natural_language_embedding"][:, 0], data.embeddings[whole["index"]])


def test_epochs_differ_and_repeat(data):
    one, again, other = (listed(data, epoch=e, augment=ON) for e in (3, 3, 4))
    assert_equal(one, again)
    assert [b["index"].tolist() for b in one] != [b["index"].tolist() for b in other]
    one, other = joined(one), joined(other)
    for index in range(10):
        a, b = (j["image"][j["index"] == index] for j in (one, other))
        assert np.abs(a - b).max() > 1e-3, "augmentation must be drawn afresh in each epoch"


@pytest.mark.parametrize("skip", [0, 1, 2, 3])
def test_a_resumed_epoch_goes_on_where_it_stopped(data, skip):
    assert_equal(listed(data, augment=ON, epoch=2, skip=skip), listed(data, augment=ON, epoch=2)[skip:])


def test_tensorflows_global_seed_does_not_matter(data):
    tf.random.set_seed(1)
    one = listed(data, augment=ON)
    tf.random.set_seed(2)
    assert_equal(one, listed(data, augment=ON))


def test_validation_keeps_the_order(data):
    whole = joined(listed(data, indices=[7, 3, 9], seed=None))
    assert whole["index"].tolist() == [7, 3, 9]


def test_order_is_a_permutation_of_the_indices():
    indices = np.array([4, 8, 15, 16, 23, 42])
    assert sorted(epoch_order(indices, 1, 2)) == indices.tolist()
    assert len({tuple(epoch_order(indices, s, e)) for s in range(3) for e in range(3)}) > 5


def test_images_are_resized_as_the_one_function_does(data):
    whole = joined(listed(data, image_size=(8, 12), seed=None))
    wanted = [resize_image(np.asarray(image), (8, 12)) for image in data.images[:10]]
    np.testing.assert_array_equal(whole["image"][:, 0], wanted)


@pytest.mark.parametrize("drop", [False, True])
def test_number_of_batches(data, drop):
    assert len(listed(data, drop_remainder=drop)) == food_batches_per_epoch(10, 4, drop)


@pytest.mark.parametrize(
    "wrong",
    [
        {"indices": [11]},
        {"indices": [-1]},
        {"indices": []},
        {"indices": [0.5]},
        {"batch_size": 0},
        {"skip": -1},
        {"seed": None, "augment": ON},
    ],
)
def test_wrong_arguments(data, wrong):
    with pytest.raises(ValueError, match="Received"):
        listed(data, **wrong)


class TestResize:
    def test_an_image_of_the_size_keeps_its_values(self):
        image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        np.testing.assert_allclose(resize_image(image, (7, 9)), image / 255, atol=1e-7)
        values = image.astype(np.float32) / 255
        np.testing.assert_array_equal(resize_image(values, (7, 9)), values)

    def test_equal_for_known_and_unknown_size(self):
        image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        unknown = tf.function(lambda x: resize_image(x, (7, 9)), [tf.TensorSpec([None, None, 3], tf.uint8)])
        np.testing.assert_allclose(unknown(image), resize_image(image, (7, 9)), atol=1e-6)

    def test_shrinking_averages(self):
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 255
        assert np.abs(resize_image(stripes, 16)[2:-2, 2:-2] - 0.5).max() < 0.05
        assert np.abs(resize_image(stripes, 16, antialias=False) - 0.5).min() < 0.51

    @pytest.mark.parametrize(
        ("image", "message"),
        [(np.zeros((4, 4, 3), np.int32), "dtype=int32"), (np.zeros((4, 4), np.uint8), "must be")],
    )
    def test_wrong_images(self, image, message):
        with pytest.raises(ValueError, match=message):
            resize_image(image, 2)
