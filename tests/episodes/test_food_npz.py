"""The food NPZ: what is written is read back; what is wrong is refused with its reason."""

import logging
import tracemalloc

import numpy as np
import pytest

from episodes.food_npz import read_food_npz, write_food_npz

ENCODER = "encoder-of-the-test"


def content(n=6, size=5, seed=0):
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((n, 512)).astype(np.float32)
    return {
        "images": rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8),
        "actions": rng.random((n, 4), np.float32),
        "embeddings": embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True),
    }


def written(path, **changes):
    values = {**content(), "encoder": ENCODER, "instructions": ["skewering_banana"] * 6, **changes}
    write_food_npz(path, **values)
    return values


def test_round_trip_is_memory_mapped(tmp_path):
    values = written(tmp_path / "food.npz", instructions=["scoop_cherry_tomtato"] * 6)
    data = read_food_npz(tmp_path / "food.npz")
    assert isinstance(data.images, np.memmap)
    for name in ("images", "actions", "embeddings"):
        np.testing.assert_array_equal(getattr(data, name), values[name])
    assert data.encoder == ENCODER
    assert data.instructions == ("scooping_cherry_tomato",) * 6
    assert len(data) == 6
    assert [p.name for p in tmp_path.iterdir()] == ["food.npz"]


def test_opening_does_not_read_the_images(tmp_path):
    written(tmp_path / "food.npz", images=np.zeros((6, 1000, 1000, 3), np.uint8))
    tracemalloc.start()
    read_food_npz(tmp_path / "food.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000  # The images are 18 MB.


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "fortran"])
def test_published_files(tmp_path, save, kind, caplog):
    values = content()
    if kind == "fortran":
        values["images"] = np.asfortranarray(values["images"])
    elif kind != "uint8":
        values["images"] = (values["images"] / 255).astype(kind)
    values["actions"] = values["actions"].astype(np.float64)
    save(tmp_path / "food.npz", **values)
    with caplog.at_level(logging.WARNING):
        data = read_food_npz(tmp_path / "food.npz", encoder="published")
    np.testing.assert_array_equal(data.images, values["images"])
    np.testing.assert_allclose(data.actions, values["actions"])
    assert data.actions.dtype == data.embeddings.dtype == np.float32
    assert data.encoder == "published" and data.instructions is None


def test_fingerprint_is_of_the_content(tmp_path):
    values = content()
    np.savez(tmp_path / "a.npz", **values)
    np.savez_compressed(tmp_path / "b.npz", **dict(reversed(values.items())))
    changed = {**values, "actions": 1 - values["actions"]}
    np.savez(tmp_path / "c.npz", **changed)
    a, b, c = (read_food_npz(tmp_path / f"{n}.npz", encoder="x").fingerprint for n in "abc")
    assert a == b != c


def test_encoder_must_be_known_and_agree(tmp_path):
    np.savez(tmp_path / "unnamed.npz", **content())
    with pytest.raises(ValueError, match="Name it with the argument encoder"):
        read_food_npz(tmp_path / "unnamed.npz")
    written(tmp_path / "named.npz")
    assert read_food_npz(tmp_path / "named.npz", encoder=ENCODER).encoder == ENCODER
    with pytest.raises(ValueError, match="Received: encoder='other'"):
        read_food_npz(tmp_path / "named.npz", encoder="other")


def changed(name, index, value, dtype=None):
    array = content()[name]
    array = array if dtype is None else (array / 255).astype(dtype)
    array[index] = value
    return {name: array}


WRONG = [
    ({"images": np.zeros((6, 5, 5), np.uint8)}, "images must be"),
    ({"images": np.zeros((6, 5, 5, 4), np.uint8)}, "images must be"),
    ({"images": np.zeros((0, 5, 5, 3), np.uint8)}, "images must be"),
    ({"images": np.zeros((6, 5, 5, 3), np.int64)}, "images must be uint8"),
    ({"images": np.zeros((7, 5, 5, 3), np.uint8)}, r"actions must be float \[7, 4\]"),
    ({"actions": np.zeros((6, 4), np.int64)}, "actions must be float"),
    ({"embeddings": np.ones((6, 511), np.float32)}, r"embeddings must be float \[6, 512\]"),
    (changed("actions", (3, 1), np.nan), r"actions .*in \[0, 1\].*nan.* in example 3"),
    (changed("actions", (2, 0), 117.0), "in example 2"),
    (changed("embeddings", 4, 0.0), "embeddings"),
    (changed("embeddings", 4, 0.5), "embeddings"),
    (changed("embeddings", (4, 0), np.nan), "embeddings"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_wrong_arrays_are_neither_read_nor_written(tmp_path, changes, message):
    np.savez(tmp_path / "food.npz", **{**content(), **changes})
    with pytest.raises(ValueError, match=message):
        read_food_npz(tmp_path / "food.npz", encoder="x")
    with pytest.raises(ValueError):
        written(tmp_path / "new.npz", **changes)
    assert not (tmp_path / "new.npz").exists()


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan, 255.0])
def test_float_images_out_of_range(tmp_path, value):
    np.savez(tmp_path / "food.npz", **{**content(), **changed("images", (5, 0, 0, 0), value, np.float32)})
    with pytest.raises(ValueError, match="float images must be finite and in .*in example 5"):
        read_food_npz(tmp_path / "food.npz", encoder="x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": ""}, "encoder must name"),
        ({"instructions": ["skewering_banana"]}, "one name for each image"),
        ({"instructions": ["skewering_stone"] * 6}, "stone"),
        ({"images": np.zeros((6, 5, 5, 3), np.float32)}, "must be uint8 to be written"),
    ],
)
def test_wrong_arguments_write_nothing(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        written(tmp_path / "food.npz", **changes)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file(tmp_path):
    written(tmp_path / "food.npz")
    before = (tmp_path / "food.npz").read_bytes()
    with pytest.raises(ValueError, match="actions"):
        written(tmp_path / "food.npz", actions=np.full((6, 4), 2, np.float32))
    assert (tmp_path / "food.npz").read_bytes() == before


def test_files_that_are_something_else(tmp_path):
    path = tmp_path / "food.npz"
    with pytest.raises(FileNotFoundError):
        read_food_npz(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(ValueError, match="git-lfs pointer"):
        read_food_npz(path)
    np.savez(path, images=content()["images"])
    with pytest.raises(ValueError, match=r"lacks \['actions', 'embeddings'\]"):
        read_food_npz(path)
    written(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole NPZ"):
        read_food_npz(path)


@pytest.mark.parametrize("name", ["images", "actions"])
def test_pickled_arrays_are_refused(tmp_path, name):
    np.savez(tmp_path / "food.npz", **{**content(), name: np.array([{}], object)})
    with pytest.raises(ValueError, match="not a plain array"):
        read_food_npz(tmp_path / "food.npz", encoder="x")
