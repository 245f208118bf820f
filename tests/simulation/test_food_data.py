"""The embedded data set: deterministic, balanced, in the food NPZ's form."""

import collections

import numpy as np
import pytest

from core import files, food
from episodes import food_npz
from simulation import food_data
from simulation.plate import PlateSettings


@pytest.fixture(scope="module")
def embeddings() -> dict[str, np.ndarray]:
    vectors = np.random.default_rng(0).normal(size=(66, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return dict(zip(food.combinations(), vectors, strict=True))


@pytest.fixture
def folder(tmp_path, embeddings):
    for name, vector in embeddings.items():
        np.save(tmp_path / f"{name}.npy", vector)
    files.write_json(tmp_path / "encoder.json", {"identity": "test encoder", "size": 512})
    return tmp_path


def test_independent_of_the_number_of_workers():
    one = food_data.draw_plates(100, 24, seed=5, workers=1)
    two = food_data.draw_plates(100, 24, seed=5, workers=2)
    for ours, theirs in zip(one, two, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_larger_data_set_begins_with_the_smaller_one():
    small, large = (food_data.draw_plates(n, 16, seed=2, workers=1) for n in (10, 60))
    np.testing.assert_array_equal(large[0][:10], small[0])
    np.testing.assert_array_equal(large[1][:10], small[1])
    assert large[2][:10] == small[2]


def test_seeds_and_settings_differ():
    base = food_data.draw_plates(8, 24, seed=0, workers=1)
    seed = food_data.draw_plates(8, 24, seed=1, workers=1)
    plain = food_data.draw_plates(8, 24, seed=0, settings=PlateSettings(clutter=0.0), workers=1)
    assert base[2] != seed[2] and base[2] == plain[2]
    for other in (seed, plain):
        assert (np.abs(base[0].astype(int) - other[0]).mean(axis=(1, 2, 3)) > 1).all()


def test_every_combination_equally_often():
    names = [food_data.plate_at(index, 3, PlateSettings(max_items=1)).combination for index in range(132)]
    assert set(collections.Counter(names).values()) == {2} and set(names) == set(food.combinations())
    assert names[:66] != names[66:]


def test_no_two_plates_are_alike():
    plates = [food_data.plate_at(index, 0, PlateSettings()) for index in range(150)]
    assert len({plate.dish for plate in plates}) == 150
    assert len({item.variation for plate in plates for item in plate.items}) > 290


def test_written_file_reads_back(tmp_path, embeddings):
    path = tmp_path / "plates.npz"
    food_data.write_food_data(path, 70, 16, 1, "test encoder", embeddings, workers=1)
    data = food_npz.read_food_npz(path, "test encoder")
    images, actions, names = food_data.draw_plates(70, 16, 1, workers=1)
    np.testing.assert_array_equal(data.images, images)
    np.testing.assert_array_equal(data.actions, actions)
    assert data.instructions == tuple(names)
    np.testing.assert_allclose(data.embeddings, np.stack([embeddings[n] for n in names]))


def test_missing_embedding_is_refused_before_anything_is_drawn(tmp_path, embeddings):
    some = {name: vector for name, vector in embeddings.items() if name != "scooping_rice"}
    with pytest.raises(ValueError, match="scooping_rice"):
        food_data.write_food_data(tmp_path / "plates.npz", 10**9, 64, 0, "test encoder", some)
    assert not list(tmp_path.iterdir())


def test_read_embeddings(folder, embeddings):
    identity, vectors = food_data.read_embeddings(folder)
    assert identity == "test encoder" and vectors.keys() == embeddings.keys()
    np.testing.assert_array_equal(vectors["twirling_rice"], embeddings["twirling_rice"])


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.zeros(512, np.float32), "unit norm"),
        (np.full(512, np.nan, np.float32), "unit norm"),
        (np.ones(256, np.float32) / 16, r"must be float \[512\]"),
        (np.ones(512, np.int64), r"must be float \[512\]"),
    ],
)
def test_wrong_embeddings_are_refused(folder, vector, message):
    np.save(folder / "scooping_rice.npy", vector)
    with pytest.raises(ValueError, match=f"scooping_rice.*{message}"):
        food_data.read_embeddings(folder)


def test_missing_embedding_file_and_identity(folder):
    (folder / "scooping_rice.npy").unlink()
    with pytest.raises(FileNotFoundError, match="scooping_rice"):
        food_data.read_embeddings(folder)
    files.write_json(folder / "encoder.json", {})
    with pytest.raises(ValueError, match="identity"):
        food_data.read_embeddings(folder)


@pytest.mark.parametrize("change", [{"num_plates": 0}, {"seed": -1}, {"workers": 0}])
def test_wrong_arguments_are_refused(change):
    arguments = {"num_plates": 4, "image_size": 16, "seed": 0, "workers": 1} | change
    with pytest.raises(ValueError, match="must be at least"):
        food_data.draw_plates(**arguments)
