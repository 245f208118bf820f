"""Examples and features: TFDS itself would write the same, and readers find what they expect."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from episodes.conversion import rlds_features, staging, tfrecord
from episodes.conversion.episode_sinks import RLDS, embeddings
from episodes.conversion.rlds_features import Signature, make_features, signature_of
from episodes.conversion.sources import hash_source
from tests.episodes.conversion import fake_sources as fake

PNG = fake.settings(colour_encoding="png", encoder_source="embedded", fractions=fake.ALL_TRAIN)
ENCODINGS = {"observation/image": "jpeg", "observation/depth": "png"}


@pytest.fixture
def staged(tmp_path):
    """A staged source of one episode: (stream, staged source, its record's data)."""
    path = fake.write_source(tmp_path / "bags", "a.fake", lengths=[5])
    source = staging.stage_source(hash_source(path), PNG, tmp_path, RLDS, fake.open_fake)
    record = staging.episode_file(tmp_path, source, source.episodes[0]).read_bytes()
    with fake.open_fake(path, PNG) as stream:
        return stream, source, record[tfrecord.HEADER_BYTES : -tfrecord.FOOTER_BYTES]


@pytest.fixture
def folder(tmp_path, staged):
    """A data set folder with that episode."""
    folder = tmp_path / "tiny" / "1.0.0"
    folder.mkdir(parents=True)
    _, source, data = staged
    with tf.io.TFRecordWriter(str(folder / "tiny-train.tfrecord-00000-of-00001")) as writer:
        writer.write(data)
    rlds_features.write_metadata(folder, "tiny", "1.0.0", source.signature, {"train": ([1], len(data))})
    return folder


def as_tfds_takes_it(stream, source):
    (planned,) = stream.episodes
    texts = planned.columns["language_instruction"]
    embedded = embeddings("embedded", texts)
    steps = []
    for t in range(planned.steps):
        flat = {k: v[t] for k, v in planned.columns.items() if not k.startswith("observation/")}
        observation = {
            "joint_positions": planned.columns["observation/joint_positions"][t],
            "image": stream.image(0, "observation/image", t),
            "depth": stream.image(0, "observation/depth", t)[..., None],
        }
        steps.append({**flat, "observation": observation, "language_embedding": embedded[t]})
    metadata = {
        "file_path": "bags/a.fake",
        "episode_id": source.episodes[0].id,
        "source_sha256": source.sha256,
        "joint_names": json.dumps(list(planned.joint_names)),
        "action_names": json.dumps(list(planned.action_names)),
        "sync_report": json.dumps(planned.report, sort_keys=True),
    }
    return {"steps": steps, "episode_metadata": metadata}


def test_tfds_itself_would_write_the_same(staged):
    stream, source, data = staged
    features = make_features(source.signature)
    theirs = features.serialize_example(features.encode_example(as_tfds_takes_it(stream, source)))
    ours, theirs = (tf.train.Example.FromString(d).features.feature for d in (data, theirs))
    assert ours.keys() == theirs.keys()
    for key in theirs:
        if key in ("steps/observation/image", "steps/observation/depth"):
            # Two encoders' PNGs differ in their bytes.
            decoded = [
                [tf.io.decode_png(v, dtype=tf.uint16).numpy().tolist() for v in f[key].bytes_list.value]
                for f in (ours, theirs)
            ]
            assert decoded[0] == decoded[1]
        else:
            assert ours[key] == theirs[key], key


@pytest.mark.parametrize("by_name", [False, True])
def test_tfds_reads_it_without_our_code(staged, folder, by_name):
    stream, source, _ = staged
    builder = (
        tfds.builder("tiny", data_dir=folder.parent.parent)
        if by_name
        else tfds.builder_from_directory(folder)
    )
    assert builder.info.splits["train"].num_examples == 1
    (episode,) = tfds.as_numpy(builder.as_dataset(split="train"))
    steps = list(episode["steps"])
    wanted = as_tfds_takes_it(stream, source)
    assert len(steps) == 5
    for read, given in zip(steps, wanted["steps"], strict=True):
        for name, value in given.pop("observation").items():
            np.testing.assert_array_equal(read["observation"][name], value)
        for name, value in given.items():
            assert np.array_equal(read[name], value.encode() if isinstance(value, str) else value), name
    assert {k: v.decode() for k, v in episode["episode_metadata"].items()} == wanted["episode_metadata"]


def test_loaders_of_dlimp_s_kind_find_what_they_expect(folder):
    # As Octo and OpenVLA load: whole columns, images encoded, metadata repeated for every step.
    builder = tfds.builder("tiny", data_dir=folder.parent.parent)
    dataset = builder.as_dataset(split="train", decoders={"steps": tfds.decode.SkipDecoding()})

    def trajectory(episode):
        steps = episode.pop("steps")
        length = tf.shape(tf.nest.flatten(steps)[0])[0]
        metadata = tf.nest.map_structure(lambda x: tf.repeat(x, length), episode)
        return {**steps, "traj_metadata": metadata}

    dataset = dataset.map(trajectory)
    spec = dataset.element_spec
    assert isinstance(spec["observation"], dict)
    assert spec["observation"]["image"] == spec["observation"]["depth"] == tf.TensorSpec([None], tf.string)
    assert spec["language_instruction"] == tf.TensorSpec([None], tf.string)
    assert spec["action"] == tf.TensorSpec([None, 2], tf.float32)
    assert spec["observation"]["joint_positions"] == tf.TensorSpec([None, 2], tf.float32)
    # Frames of trajectories: every part must have the same length.
    frames = list(dataset.unbatch())
    assert len(frames) == 5
    assert tf.io.decode_image(frames[0]["observation"]["image"]).shape == (4, 6, 3)
    assert frames[0]["language_instruction"].numpy().decode() == "réach for it"


def test_nothing_in_the_metadata_files_tells_when_or_where(folder):
    text = "".join((folder / name).read_text() for name in ("features.json", "dataset_info.json"))
    assert str(folder.parent.parent) not in text
    rlds = json.loads((folder / "features.json").read_text())
    assert rlds["pythonClassName"].startswith("tensorflow_datasets.")


def planned(**changes):
    stream = fake.FakeStream(Path("a"), {"seed": 1, "lengths": [3]})
    return dataclasses.replace(stream.episodes[0], **changes)


def test_a_signature_survives_json():
    signature = signature_of(planned(), ENCODINGS, "usem3", 512)
    assert Signature.from_json(json.loads(json.dumps(signature.to_json()))) == signature


def test_differences_are_named():
    mine = signature_of(planned(), ENCODINGS)
    frames = {"observation/image": ((8, 8, 3), "uint8")}
    other = dataclasses.replace(mine, frames=frames, joint_names=("a", "b"))
    assert mine.differences(other) == [
        "observation/depth is not in the others",
        "observation/image is uint8 [4, 6, 3] instead of uint8 [8, 8, 3]",
        "joint_names is ['shoulder', 'elbow'] instead of ['a', 'b']",
    ]
    assert other.differences(mine)[0] == "observation/depth is missing"
    assert not mine.differences(mine)


def test_joints_in_another_order_are_told_what_to_set():
    mine = signature_of(planned(), ENCODINGS)
    other = dataclasses.replace(mine, joint_names=("elbow", "shoulder"))
    assert "another order: set synchronisation.joint_names" in mine.differences(other)[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joint_names": ("shoulder",)}, "one name for each of its 2"),
        ({"action_names": ()}, "action must have one name"),
        ({"frames": {"observation/image": ((4, 6), "uint8")}}, "frames are of"),
        ({"frames": {"observation/depth": ((4, 6, 1), "uint16")}}, "frames are of"),
        ({"frames": {"observation/wrist": ((4, 6, 3), "uint8")}}, "observation/wrist"),
        ({"frames": {"observation/image": ((4, 6, 3), "float32")}}, "float32"),
        ({"columns": {"action": np.zeros((3, 2), np.float32)}}, "lacks"),
    ],
)
def test_episodes_that_break_the_contract_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        signature_of(planned(**changes), ENCODINGS)


def test_a_report_that_is_no_json_is_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        rlds_features.example_columns(
            planned(report={"skew": float("nan")}), file_path="", episode_id="", source_sha256=""
        )


def test_features_without_any_observation():
    episode = planned(frames={}, joint_names=())
    columns = {k: v for k, v in episode.columns.items() if k != "observation/joint_positions"}
    signature = signature_of(dataclasses.replace(episode, columns=columns), ENCODINGS)
    assert "observation" not in make_features(signature)["steps"]
