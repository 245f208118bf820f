"""RLDS data sets are read whoever wrote them, and what is missing is named."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from episodes.rlds import COLUMNS, EPISODE_ID, open_rlds
from tests.episodes.tiny_rlds import episode, features, write_rlds
from tests.shared_data import shared

BRIDGE = "data/rlds/octo_bridge_debug"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    episodes = {"train": [episode(i, i + 1) for i in range(7)], "test": [episode(9, 2)]}
    return write_rlds(tmp_path_factory.mktemp("rlds"), episodes)


@pytest.mark.parametrize("parent", [False, True])
def test_reads_what_was_written(tiny, parent):
    split = open_rlds(tiny.parent if parent else tiny, "train")
    assert split.num_episodes == 7 and split.name == "tiny/1.0.0"
    paths = ["observation/image", "observation/depth", "action", "is_last", "language_instruction"]
    got = dict(split.read(paths))
    assert sorted(got) == [f"e{i}" for i in range(7)]
    columns = got["e4"]
    wanted = episode(4, 5)["steps"]
    np.testing.assert_array_equal(columns["observation/image"], [s["observation"]["image"] for s in wanted])
    np.testing.assert_array_equal(columns["observation/depth"], [s["observation"]["depth"] for s in wanted])
    assert columns["observation/depth"].dtype == np.uint16
    np.testing.assert_array_equal(columns["action"], [s["action"] for s in wanted])
    np.testing.assert_array_equal(columns["is_last"], [False] * 4 + [True])
    assert set(columns["language_instruction"]) == {b"pick up the cup"}


def test_images_stay_encoded_until_asked_for(tiny):
    element = next(iter(open_rlds(tiny, "test").episodes(["observation/image"])))
    assert element[COLUMNS]["observation/image"].dtype == tf.string
    assert element[EPISODE_ID].numpy() == b"e9"


def test_part_of_a_split(tiny):
    assert len(list(open_rlds(tiny, "train[:3]").read([]))) == 3


def test_shuffled_shards_are_repeatable_and_complete(tiny):
    split = open_rlds(tiny, "train")

    def order(seed):
        return [e[EPISODE_ID] for e in split.episodes([], shuffle_seed=seed).as_numpy_iterator()]

    assert order(1) == order(1)
    assert sorted(order(1)) == sorted(order(2)) == sorted(order(None))
    assert len({tuple(order(seed)) for seed in range(8)}) > 1


def test_ids_fall_back_on_content_where_metadata_repeat(tmp_path, caplog):
    folder = write_rlds(tmp_path, {"train": [episode(i, 3, path="same") for i in range(5)]})
    split = open_rlds(folder)
    assert split.id_fields == ()
    assert len({i for i, _ in split.read([])}) == 5
    assert {i for i, _ in open_rlds(folder, id_fields=["file_path"]).read([])} == {"same"}


def test_content_ids_need_no_metadata_and_follow_the_content(tmp_path):
    bare = features(metadata={})
    first = [{"steps": episode(i, 3)["steps"]} for i in (0, 1)]
    later = [{"steps": episode(i, 3)["steps"]} for i in (1, 2)]
    ids = [
        [i for i, _ in open_rlds(write_rlds(tmp_path, {"train": e}, spec=bare, name=n)).read([])]
        for e, n in ((first, "first"), (later, "later"))
    ]
    assert ids[0][1] == ids[1][0]
    assert len({*ids[0], *ids[1]}) == 3


def test_what_is_not_there_is_named(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such data set directory"):
        open_rlds(tmp_path / "nowhere")
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileNotFoundError, match=r"Received a directory of: \['photos'\]"):
        open_rlds(tmp_path)
    with pytest.raises(ValueError, match="'train': 7"):
        open_rlds(tiny, "val")
    with pytest.raises(ValueError, match="split='train:3'"):
        open_rlds(tiny, "train:3")
    with pytest.raises(ValueError, match=r"\['file_path'\]. Received: id_fields=\['name'\]"):
        open_rlds(tiny, id_fields=["name"])
    split = open_rlds(tiny)
    with pytest.raises(ValueError, match=r"Near: \['observation/image'.*'observation/imag'"):
        split.episodes(["observation/imag"])


def test_two_versions_must_be_told_apart(tmp_path):
    folder = write_rlds(tmp_path, {"train": [episode(0, 1)]})
    (folder.parent / "2.0.0").mkdir()
    for name in ("features.json", "dataset_info.json"):
        (folder.parent / "2.0.0" / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ValueError, match="Name one version"):
        open_rlds(folder.parent)


def test_data_without_steps_is_refused(tmp_path):
    spec = tfds.features.FeaturesDict({"label": np.int64})
    folder = write_rlds(tmp_path, {"train": [{"label": 1}]}, spec=spec)
    with pytest.raises(ValueError, match=r"no 'steps'. Received: \['label'\]"):
        open_rlds(folder)


def test_an_empty_image_is_an_error(tiny):
    split = open_rlds(tiny)
    with pytest.raises(tf.errors.InvalidArgumentError, match="observation/image has an empty image"):
        split.decode_images("observation/image", tf.constant([b"x", b""]))
    in_a_pipeline = tf.data.Dataset.from_tensors([b""]).map(
        lambda x: split.decode_images("observation/image", x)
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="observation/image has an empty image"):
        next(iter(in_a_pipeline))


def test_fingerprint_follows_the_files(tiny, tmp_path):
    other = write_rlds(tmp_path, {"train": [episode(i, i + 2) for i in range(7)]})
    assert open_rlds(tiny).fingerprint == open_rlds(tiny.parent).fingerprint
    assert open_rlds(tiny).fingerprint != open_rlds(other).fingerprint


def test_real_bridge_episodes():
    folder = shared(BRIDGE)
    split = open_rlds(folder, "train")
    assert split.id_fields == ("file_path", "episode_id")
    episodes = dict(split.read(["observation/image_0", "action", "language_instruction"]))
    assert len(episodes) == 25
    for columns in episodes.values():
        assert columns["observation/image_0"].shape == (10, 64, 64, 3)
        assert columns["observation/image_0"].std() > 10
        assert columns["action"].shape == (10, 7)
    assert len({c["language_instruction"][0] for c in episodes.values()}) == 4
    # The published val split is a copy of train: ids of both kinds say so.
    for fields in (None, ()):
        ids = [{i for i, _ in open_rlds(folder, s, id_fields=fields).read([])} for s in ("train", "val")]
        assert ids[0] == ids[1] and len(ids[0]) == 25
    described = json.loads((folder / "1.0.0" / "features.json").read_text())
    assert described["featuresDict"]["features"]["steps"]
