"""A staged source is whole or not there, is found again, and is made without TensorFlow."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from core import files
from episodes.conversion import staging, tfrecord
from episodes.conversion.episode_sinks import NPZ, RLDS
from episodes.conversion.sources import content_hash, hash_source, label_of
from episodes.npz import read_npz
from episodes.tasks import MissingTaskError
from tests.episodes.conversion import fake_sources as fake

SETTINGS = fake.settings()


def stage(path, folder, settings=SETTINGS, format=RLDS):
    return staging.stage_source(hash_source(path), settings, folder, format, fake.open_fake)


@pytest.mark.parametrize("format", [RLDS, NPZ])
def test_what_is_staged_is_found_again(tmp_path, format):
    path = fake.write_source(
        tmp_path / "bags", "a.fake", lengths=[3, 1, 8], refused=[f"{tmp_path}/bags/a.fake is late"]
    )
    source = stage(path, tmp_path / "staged", format=format)
    assert [e.steps for e in source.episodes] == [3, 1, 8]
    assert [e.instructions for e in source.episodes] == [("réach for it",)] * 3
    assert source.report["refused"] == ["bags/a.fake is late"]
    again = staging.load_staged(tmp_path / "staged", source.key)
    assert json.dumps(again.to_json()) == json.dumps(source.to_json())
    names = sorted(p.name for p in (tmp_path / "staged" / source.key).iterdir())
    assert names == sorted(["source.json", *(f"{e.name}{staging.SUFFIX[format]}" for e in source.episodes)])


def test_staged_npz_files_hold_the_frames(tmp_path):
    path = fake.write_source(tmp_path / "bags", "a.fake", lengths=[3, 5])
    source = stage(path, tmp_path / "staged", format=NPZ)
    with fake.open_fake(path, SETTINGS) as stream:
        for i, episode in enumerate(source.episodes):
            file = staging.episode_file(tmp_path / "staged", source, episode)
            assert (episode.bytes, episode.crc32c) == (file.stat().st_size, tfrecord.file_crc(file))
            columns = read_npz(file)
            for field in ("observation/image", "observation/depth"):
                shown = [stream.image(i, field, t) for t in range(episode.steps)]
                np.testing.assert_array_equal(columns[field], shown)


def test_the_same_source_and_settings_give_the_same_bytes(tmp_path):
    path = fake.write_source(tmp_path / "bags", "a.fake", lengths=[3, 4])
    source = stage(path, tmp_path / "one")
    stage(path, tmp_path / "two")
    for file in (tmp_path / "one" / source.key).iterdir():
        assert file.read_bytes() == (tmp_path / "two" / source.key / file.name).read_bytes()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("refused", "is no bag"),
        ("damaged", "at byte 1234"),
        ("missing", "observation/image must come for each of 5 steps. Received: 3, none for step 2"),
        ("twice", "observation/image must come once for each of 5 steps"),
        ("shape", "must be uint8 .* as planned"),
    ],
)
@pytest.mark.parametrize("format", [RLDS, NPZ])
def test_a_faulty_source_leaves_nothing(tmp_path, fault, message, format):
    path = fake.write_source(tmp_path / "bags", "a.fake", lengths=[5], fault=fault)
    with pytest.raises(ValueError, match=message):
        stage(path, tmp_path / "staged", format=format)
    assert not list((tmp_path / "staged").iterdir())


def test_a_missing_task_is_an_error_of_its_own(tmp_path):
    path = fake.write_source(tmp_path / "bags", "a.fake", instruction="  ")
    with pytest.raises(MissingTaskError, match="a.fake#0000"):
        stage(path, tmp_path / "staged")


def test_a_source_without_episodes_says_why(tmp_path):
    path = fake.write_source(tmp_path / "bags", "a.fake", lengths=[], refused=["skew of 3 s", "too short"])
    with pytest.raises(ValueError, match="skew of 3 s; too short"):
        stage(path, tmp_path / "staged")


def test_a_source_that_grows_while_it_is_read_is_refused(tmp_path):
    path = fake.write_source(tmp_path / "bags", "a.fake")
    source = hash_source(path)
    with path.open("a") as file:
        file.write("\n")
    with pytest.raises(ValueError, match="changed while it was read"):
        staging.stage_source(source, SETTINGS, tmp_path / "staged", RLDS, fake.open_fake)


def test_the_key_follows_all_that_decides_the_content(tmp_path):
    path = fake.write_source(tmp_path / "bags", "a.fake")
    moved = fake.write_source(tmp_path / "others", "a.fake")
    changed = fake.write_source(tmp_path / "bags2" / "bags", "a.fake", lengths=[9])
    variants = [
        (hash_source(path), SETTINGS, RLDS),
        (hash_source(path), SETTINGS, NPZ),
        (hash_source(path), fake.settings(jpeg_quality=50), RLDS),
        (hash_source(moved), SETTINGS, RLDS),
        (hash_source(changed), SETTINGS, RLDS),
    ]
    assert len({staging.source_key(*v) for v in variants}) == len(variants)
    # Splits and shards are no reason to convert again.
    shards = fake.settings(max_shard_bytes=7, fractions=fake.ALL_TRAIN)
    assert staging.source_key(hash_source(path), shards, RLDS) == staging.source_key(*variants[0])


@pytest.mark.parametrize("damage", ["cut", "gone", "no json", "other json", "renamed"])
def test_damaged_staging_is_not_taken(tmp_path, damage):
    path = fake.write_source(tmp_path / "bags", "a.fake")
    source = stage(path, tmp_path / "staged")
    record = staging.episode_file(tmp_path / "staged", source, source.episodes[0])
    told = tmp_path / "staged" / source.key / staging.SOURCE_FILE
    key = source.key
    if damage == "cut":
        record.write_bytes(record.read_bytes()[:-1])
    elif damage == "gone":
        record.unlink()
    elif damage == "no json":
        told.write_text("{")
    elif damage == "other json":
        files.write_json(told, {"key": source.key})
    else:
        key = "0" * 64
        (tmp_path / "staged" / source.key).rename(tmp_path / "staged" / key)
    assert staging.load_staged(tmp_path / "staged", key) is None


def test_the_hash_of_a_folder_is_of_its_files_contents(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}_0.mcap").write_bytes(b"abc")
        (tmp_path / name / "metadata.yaml").write_bytes(b"def")
    (tmp_path / "two" / ".hidden").write_bytes(b"x")
    assert content_hash(tmp_path / "one") == hash_of_files(b"def", b"abc")
    assert content_hash(tmp_path / "two") == content_hash(tmp_path / "one")
    (tmp_path / "one" / "metadata.yaml").write_bytes(b"deg")
    assert content_hash(tmp_path / "one") != content_hash(tmp_path / "two")
    with pytest.raises(ValueError, match="empty folder"):
        (tmp_path / "empty").mkdir()
        content_hash(tmp_path / "empty")


def hash_of_files(*contents):
    return hashlib.sha256(b"".join(hashlib.sha256(c).digest() for c in contents)).hexdigest()


def test_labels_do_not_depend_on_where_one_stands(tmp_path, monkeypatch):
    (tmp_path / "monday").mkdir()
    monkeypatch.chdir(tmp_path / "monday")
    assert label_of(tmp_path / "monday" / "a.bag") == "monday/a.bag"
    assert label_of(type(tmp_path)("a.bag")) == "monday/a.bag"


def test_no_tensorflow_is_imported_on_the_way(tmp_path):
    path = fake.write_source(tmp_path / "bags", "a.fake")
    code = f"""
import sys
from pathlib import Path
from episodes import bag_episodes
from episodes.conversion import conversion
from episodes.conversion import source_conversion
from episodes.conversion import staging
from tests.episodes.conversion import fake_sources as fake
from episodes.conversion.sources import hash_source
settings = fake.settings(encoder_source="embedded")
source = hash_source(Path({str(path)!r}))
staging.stage_source(source, settings, Path({str(tmp_path)!r}), "rlds", fake.open_fake)
print(sorted(m for m in sys.modules if m in ("tensorflow", "tensorflow_datasets", "tf_keras")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout.strip() == "[]"
