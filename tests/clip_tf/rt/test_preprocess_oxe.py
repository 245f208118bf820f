"""RLDS episodes become shards that the training reads."""

import json

import numpy as np
import pytest

from clip_tf import preprocess_oxe
from clip_tf.rt import samples
from clip_tf.rt.paraphrases import all_wordings
from clip_tf.rt.pipeline import decode_rgb
from clip_tf.rt.shard_index import read_index
from clip_tf.rt.vocabulary import load_vocabulary, make_vocabulary
from clip_tf.rt.webdataset_data import open_webdataset, read_shard
from episodes.rlds import RldsSplit
from tests.clip_tf.rt.clip_rt_data import COLOURS, write_episodes
from tests.shared_data import shared


def write_mixture(folder, *entries):
    path = folder / "mixture.json"
    path.write_text(json.dumps({"datasets": list(entries)}))
    return path


def run(mixture, out, *more):
    return preprocess_oxe.main(["--mixture", str(mixture), "--out", str(out), *more])


def test_shards_hold_every_step_that_says_a_class(tmp_path):
    write_episodes(tmp_path)
    turned = {"axes": [-1, -2, 3], "gripper_change": "next_step"}
    mixture = write_mixture(
        tmp_path,
        {"name": "one", "directory": "tiny", "oxe_name": None},
        {"name": "two", "directory": "tiny/1.0.0", "weight": 0.5, **turned},
    )
    assert run(mixture, tmp_path / "out", "--samples_per_shard", "20", "--image_size", "8") == 0
    shards = sorted((tmp_path / "out" / "one").glob("*.tar"))
    assert len(shards) == 2  # 8 episodes of 4 steps.
    read = [sample for shard in shards for sample in read_shard(shard, 50)]
    assert np.bincount([s["cls"] for s in read], minlength=50).tolist() == [
        8 if label in (6, 22, 46, 48) else 0 for label in range(50)
    ]
    phrases = make_vocabulary("pretrained").phrases
    for sample in read:
        assert sample["sup"] in all_wordings()[phrases[sample["cls"]]]
        assert sample["txt"] in ("task 0", "task 1")
    assert len({s["sup"] for s in read}) > 8
    assert len({s["__key__"].partition("-")[0] for s in read}) == 8
    labels = [s["cls"] for shard in (tmp_path / "out" / "two").glob("*.tar") for s in read_shard(shard, 50)]
    assert set(labels) == {1, 22, 48}  # x points the other way; the gripper closes a step early.
    source = open_webdataset(tmp_path / "out", 50, validation_fraction=0.3)
    check_index(tmp_path / "out", source)
    assert not source.is_fixed
    assert source.counts(samples.TRAIN).sum() > source.counts(samples.VALIDATION).sum() > 0
    assert len(load_vocabulary(tmp_path / "out" / "vocabulary.json")) == 50


def check_index(folder, source):
    """The index says what reading says, and is not believed of another file."""
    expected = {part: source.counts(part).tolist() for part in samples.PARTS}
    shard = folder / "one" / "shard-000000.tar"
    index = read_index(folder / "one")
    assert set(index) == {"shard-000000.tar", "shard-000001.tar"}
    assert sum(n for labels in index[shard.name].episodes.values() for n in labels.values()) == 20
    (folder / "one" / "index.json").rename(folder / "one" / "other.json")
    assert read_index(folder / "one") == {}
    again = open_webdataset(folder, 50, validation_fraction=0.3)
    assert {part: again.counts(part).tolist() for part in samples.PARTS} == expected
    assert again.fingerprint == source.fingerprint
    (folder / "one" / "other.json").rename(folder / "one" / "index.json")
    with pytest.raises(ValueError, match=r"index.json.*\[0, 4\)"):
        open_webdataset(folder, 4)
    with shard.open("ab") as file:
        file.write(bytes(512))
    assert set(read_index(folder / "one")) == {"shard-000001.tar"}
    text = (folder / "one" / "index.json").read_text()
    (folder / "one" / "index.json").write_text(text.replace('"content"', '"other"'))  # Of an earlier version.
    assert read_index(folder / "one") == {}
    (folder / "one" / "index.json").write_text("[]")
    with pytest.raises(ValueError, match="must be an index of shards"):
        read_index(folder / "one")
    (folder / "one" / "index.json").unlink()


def test_a_few_images_are_decoded_at_a_time(tmp_path, monkeypatch):
    """Only those of steps that say a class; a long episode's would fill the memory."""
    write_episodes(tmp_path, episodes=2)
    sizes, real = [], RldsSplit.decode_images
    monkeypatch.setattr(preprocess_oxe, "_DECODED_AT_ONCE", 3)
    monkeypatch.setattr(
        RldsSplit,
        "decode_images",
        lambda self, path, some: (sizes.append(len(some)), real(self, path, some))[1],
    )
    mixture = write_mixture(tmp_path, {"name": "one", "directory": "tiny", "oxe_name": None})
    assert run(mixture, tmp_path / "out", "--image_size", "0") == 0
    assert sizes == [3, 1, 3, 1]
    (shard,) = (tmp_path / "out" / "one").glob("*.tar")
    for sample in read_shard(shard, 50):
        label = {6: 1, 22: 2, 46: 3, 48: 0}[sample["cls"]]
        means = decode_rgb(sample["image"], "").mean(axis=(0, 1))
        np.testing.assert_allclose(means, COLOURS[label], atol=25)


def test_only_what_the_mixture_names_is_trained_on(tmp_path):
    """Neither a data set that was taken out of it nor what a killed run left behind."""
    write_episodes(tmp_path)
    entries = [{"name": name, "directory": "tiny", "oxe_name": None} for name in ("one", "two")]
    for some in (entries, entries[:1]):
        assert run(write_mixture(tmp_path, *some), tmp_path / "out") == 0
    (tmp_path / "out" / ".one.1").mkdir()
    (tmp_path / "out" / ".one.1" / "shard-000000.tar").write_bytes(b"half")
    source = open_webdataset(tmp_path / "out", 50, validation_fraction=0.3)
    assert sum(source.counts(part).sum() for part in samples.PARTS) == 32
    (tmp_path / "out" / "mixture.json").unlink()
    source = open_webdataset(tmp_path / "out", 50, validation_fraction=0.3)
    assert sum(source.counts(part).sum() for part in samples.PARTS) == 64


def test_a_second_run_leaves_what_is_there(tmp_path, capsys):
    write_episodes(tmp_path)
    mixture = write_mixture(tmp_path, {"name": "one", "directory": "tiny", "oxe_name": None})
    assert run(mixture, tmp_path / "out") == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "one").iterdir()}
    assert run(mixture, tmp_path / "out") == 0
    assert "left as it is" in capsys.readouterr().err
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "one").iterdir()}


def test_real_bridge_episodes(tmp_path):
    """By its name moves are differences of reached poses; by its actions, what was commanded."""
    directory = str(shared("data/rlds/octo_bridge_debug"))
    entries = (
        {"name": "bridge_orig", "directory": directory},
        {"name": "commanded", "directory": directory, "oxe_name": None, "image_key": "observation/image_0"},
    )
    assert run(write_mixture(tmp_path, *entries), tmp_path / "out", "--image_size", "0") == 0
    found = {}
    for entry in entries:
        (shard,) = (tmp_path / "out" / entry["name"]).glob("*.tar")
        found[entry["name"]] = [(s["__key__"], s["cls"]) for s in read_shard(shard, 50)]
    assert {name: len(pairs) for name, pairs in found.items()} == {"bridge_orig": 101, "commanded": 127}
    both = dict(found["bridge_orig"]).items() & dict(found["commanded"]).items()
    assert len(both) > 0.5 * len(found["bridge_orig"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "must be an object with a name"),
        ([], "must be an object with a name"),
        ({"name": "../x", "directory": "tiny"}, "name of a folder"),
        ({"name": "x", "directory": "tiny", "weight": 0}, "weight must be"),
        ({"name": "x", "directory": "tiny", "oxe_name": "mars"}, "oxe_name must be"),
        ({"name": "x", "directory": "tiny", "colour": 1}, "must be an object with a name"),
        ({"name": "x", "directory": "tiny"}, "oxe_name must be one of"),
        ({"name": "x", "directory": "absent", "oxe_name": None}, "no such data set"),
        ({"name": "x", "directory": "tiny", "oxe_name": None, "image_key": "absent"}, "image_key does not"),
        ({"name": "x", "directory": "tiny", "oxe_name": "toto"}, "instruction_key does not fit"),
        ({"name": "x", "directory": "tiny", "start": 3}, "action must hold at least 9"),
    ],
)
def test_wrong_mixtures(tmp_path, capsys, entry, message):
    write_episodes(tmp_path, episodes=2)
    assert run(write_mixture(tmp_path, entry), tmp_path / "out") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "x").exists()


def test_shards_of_another_vocabulary(tmp_path, capsys):
    """Class 48 closes the gripper in one table and turns it in the other."""
    write_episodes(tmp_path)
    mixture = write_mixture(tmp_path, {"name": "one", "directory": "tiny", "oxe_name": None})
    assert run(mixture, tmp_path / "out") == 0
    pretrained, finetuned = make_vocabulary("pretrained"), make_vocabulary("finetuned")
    part = {"validation_fraction": 0.3}
    assert open_webdataset(tmp_path / "out", 50, vocabulary=pretrained, **part)
    with pytest.raises(ValueError, match=r"vocabulary\.json.*50 classes.*Received: a vocabulary of 58"):
        open_webdataset(tmp_path / "out", 58, vocabulary=finetuned, **part)
    assert run(mixture, tmp_path / "out", "--vocabulary", "finetuned") == 1
    assert "vocabulary of 50 classes" in capsys.readouterr().err
    assert len(load_vocabulary(tmp_path / "out" / "vocabulary.json")) == 50
    (tmp_path / "out" / "vocabulary.json").unlink()  # As the published shards are.
    (shard,) = (tmp_path / "out" / "one").glob("*.tar")
    with pytest.raises(ValueError, match="shard-000000.tar, sample .*the gripper.* is class 56"):
        list(read_shard(shard, 58, finetuned))


def test_names_must_differ(tmp_path):
    entry = {"name": "x", "directory": "tiny", "oxe_name": None}
    with pytest.raises(ValueError, match="must be different"):
        preprocess_oxe.read_mixture(write_mixture(tmp_path, entry, entry))
