"""Prepared data: what they hold, that they are computed once, and that killed or damaged ones never pass."""

import dataclasses
import json
import shutil
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sarnn_tf.data.array_file import ArrayFile, open_array
from sarnn_tf.data.frames import StreamedFrames
from sarnn_tf.data.prepare import prepare
from sarnn_tf.image_modality import ImageModality
from sarnn_tf.preparation import prepare_images, to_unit
from tests.sarnn_tf.data.recordings import DEPTH, IMAGE, TOUCH, CountingClip, MemorySource, arrays, episode
from tests.sarnn_tf.sarnn_policies import tiny_clip

ALL = (IMAGE, DEPTH, TOUCH)
# A source that is killed in its second episode, after the first was written.
KILLED = """
import os, signal, sys
from tests.sarnn_tf.data.test_prepare import ALL, CountingClip, MemorySource, episode, prepare
class Killed(MemorySource):
    def episodes(self, modalities):
        yield from list(super().episodes(modalities))[:1]
        os.kill(os.getpid(), signal.SIGKILL)
prepare(Killed([episode(40, "a"), episode(4, "b")]), ALL, CountingClip(), sys.argv[1])
"""


def three():
    return [
        episode(5, "a"),
        episode(70, "b", seed=1, instruction="let go", part="train"),
        episode(4, "c", seed=2, part="test"),
    ]


def tree(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_what_is_prepared(tmp_path, stride):
    clip = CountingClip()
    prepared = prepare(MemorySource(three()), ALL, clip, tmp_path, stride=stride)
    assert prepared.ids == ("a", "b", "c") and len(prepared) == 3
    assert prepared.source_parts == (None, "train", "test")
    assert prepared.joint_names == ("shoulder", "elbow", "wrist")
    assert prepared.rate_hz == 20 / stride
    assert prepared.different_instructions == ("push the box", "let go")
    joints = []
    for i, recorded in enumerate(three()):
        found = prepared.episode(i)
        joints.append(recorded.joints[::stride])
        assert prepared.lengths[i] == len(joints[-1])
        np.testing.assert_array_equal(found.joints, joints[-1])
        for modality in ALL:
            raw = np.stack(list(recorded.images[modality.name].every(stride)))
            np.testing.assert_array_equal(found.images[modality.name], prepare_images(raw, modality))
        seen = to_unit(found.images["image"], IMAGE)
        np.testing.assert_array_equal(found.patches, seen[:, ::7, ::9])
        assert found.instruction == recorded.instruction
        np.testing.assert_array_equal(found.text, [len(recorded.instruction), 0, 1])
    every = np.concatenate(joints)
    np.testing.assert_array_equal(prepared.joint_bounds, [every.min(0), every.max(0)])
    assert clip.frames == len(every) and clip.texts == 2
    with pytest.raises(ValueError, match="episodes 0 to 2. Received: 3"):
        prepared.episode(3)


def test_a_second_run_reads_the_disk_and_asks_clip_nothing(tmp_path):
    first = prepare(MemorySource(three()), ALL, CountingClip(), tmp_path)
    written = tree(tmp_path)
    source, clip = MemorySource(three()), CountingClip()
    second = prepare(source, ALL, clip, tmp_path)
    assert (source.passes, clip.frames, clip.texts) == (0, 0, 0)
    assert tree(tmp_path) == written
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.patches, first.patches)
    np.testing.assert_array_equal(second.joint_bounds, first.joint_bounds)
    np.testing.assert_array_equal(second.episode(1).text, first.episode(1).text)


def test_switching_a_modality_on_computes_only_it(tmp_path):
    one = prepare(MemorySource(three()), (IMAGE,), CountingClip(), tmp_path)
    clip = CountingClip()
    both = prepare(MemorySource(three()), (IMAGE, DEPTH), clip, tmp_path)
    assert (clip.frames, clip.texts) == (0, 0)
    assert both.fingerprint != one.fingerprint
    more_points = ImageModality("image", k_dim=7, size=IMAGE.size)
    source = MemorySource(three())
    assert prepare(source, (more_points,), None, tmp_path).patches is None
    assert source.passes == 0
    other = CountingClip("another")
    prepare(MemorySource(three()), (IMAGE,), other, tmp_path)
    assert other.frames == 79
    text_only = CountingClip("third")
    prepared = prepare(MemorySource(three()), (DEPTH,), text_only, tmp_path, patches=False)
    assert (text_only.frames, text_only.texts, prepared.patches) == (0, 2, None)


def test_fingerprints_follow_what_is_trained_on(tmp_path):
    def fingerprint(name, episodes, modalities=ALL, **options):
        source = MemorySource(episodes, name)
        return prepare(source, modalities, None, tmp_path / "cache", **options).fingerprint

    same = fingerprint("x", three())
    assert fingerprint("copied elsewhere", three()) == same
    changed = three()
    changed[2].joints[0, 0] += 1
    found = {
        same,
        fingerprint("y", changed),
        fingerprint("z", three()[:2]),
        fingerprint("x", three(), stride=2),
        fingerprint("x", three(), (IMAGE, DEPTH)),
    }
    assert len(found) == 5


def test_short_and_repeated_episodes_are_left_out(tmp_path, caplog):
    episodes = [episode(1, "one"), episode(4, "a"), episode(2, "two"), episode(9, "a"), episode(3, "b")]
    prepared = prepare(MemorySource(episodes), ALL, None, tmp_path, stride=2)
    assert prepared.ids == ("a", "b") and prepared.lengths.tolist() == [2, 2]
    assert "3 episodes are left out" in caplog.text and "['one', 'two', 'a']" in caplog.text
    with pytest.raises(ValueError, match="an episode of at least two steps.*Received: 2 shorter"):
        prepare(MemorySource(episodes[:1] * 2, "other"), ALL, None, tmp_path)


def wrong(**changed):
    return [episode(5, "good"), episode(6, "bad", **changed)]


def without_depth():
    images = dict(episode(6, "bad").images)
    del images["depth"]
    return wrong(images=images)


def other_images(name, rows):
    return wrong(images={**episode(6, "x").images, name: StreamedFrames(lambda: iter(rows))})


def infinite():
    joints = arrays(6)["joints_state"]
    joints[4, 1] = np.inf
    return wrong(joints=joints)


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        (without_depth(), "bad has no depth"),
        (infinite(), "episode 'bad': joints must be finite. Received: inf for elbow at step 4"),
        (
            wrong(joints=np.zeros((6, 4), np.float32)),
            r"'bad': joints must be \[steps, 3\]. Received: \[6, 4\]",
        ),
        (wrong(instruction=""), "episode 'bad', has no instruction for CLIP"),
        (other_images("image", np.zeros((5, 8, 8, 3), np.uint8)), "'bad', image: .*6 steps. Received: 5"),
        (other_images("image", np.zeros((6, 8, 8, 3), np.float32)), "'bad', image: .*uint8 or uint16"),
        (other_images("image", np.zeros((6, 8, 8, 4), np.uint8)), "'bad', image"),
        (other_images("depth", np.zeros((6, 8, 8), np.uint8)), "'bad', depth: full_scale must be beyond 255"),
        (other_images("image", np.zeros((6, 8, 8, 3), np.uint16)), "'bad', image: full_scale"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_nothing(tmp_path, episodes, message):
    with pytest.raises(ValueError, match=message):
        prepare(MemorySource(episodes), ALL, CountingClip(), tmp_path)
    assert [Path(p).name for p in tree(tmp_path)] == [".lock"]


def test_what_is_asked_for_must_make_sense(tmp_path):
    source = MemorySource(three())
    for modalities, clip, options, message in (
        ((), None, {}, "There must be modalities"),
        ((IMAGE, IMAGE), None, {}, "none twice"),
        ((ImageModality("episodes"),), None, {}, "cannot have this name"),
        ((DEPTH,), CountingClip(), {}, "CLIP looks at the modality 'image'"),
        (ALL, None, {"stride": 0}, "stride must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(source, modalities, clip, tmp_path, **options)
    assert source.passes == 0


def test_bounds_that_come_with_the_data_stand_if_they_hold_them(tmp_path, caplog):
    source = MemorySource(three())
    source.joint_bounds = np.array([[-9.0] * 3, [9.0] * 3], np.float32)
    np.testing.assert_array_equal(prepare(source, (IMAGE,), None, tmp_path).joint_bounds, source.joint_bounds)
    assert not caplog.text
    source.joint_bounds = np.array([[-9.0] * 3, [0.0] * 3], np.float32)
    every = np.concatenate([e.joints for e in three()])
    found = prepare(source, (IMAGE,), None, tmp_path).joint_bounds
    np.testing.assert_array_equal(found, [every.min(0), every.max(0)])
    assert "do not hold all steps" in caplog.text


def test_two_at_once_compute_once(tmp_path):
    clip, sources, found = CountingClip(), [MemorySource(three()) for _ in range(3)], []
    threads = [
        threading.Thread(target=lambda s=s: found.append(prepare(s, ALL, clip, tmp_path).fingerprint))
        for s in sources
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and len(set(found)) == 1
    assert clip.frames == 79 and sum(s.passes for s in sources) == 1


def test_a_killed_preparation_leaves_no_trace_in_the_next(tmp_path):
    clean = prepare(
        MemorySource([episode(40, "a"), episode(4, "b")]), ALL, CountingClip(), tmp_path / "clean"
    )
    folder = tmp_path / "killed"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], cwd=Path(__file__).parents[3])
    assert done.returncode == -9
    (place,) = folder.iterdir()
    rests = [p for p in place.iterdir() if p.is_dir()]
    assert len(rests) == 5 and all(p.name.startswith(".") for p in rests)
    source = MemorySource([episode(40, "a"), episode(4, "b")])
    again = prepare(source, ALL, CountingClip(), folder)
    assert again.fingerprint == clean.fingerprint
    np.testing.assert_array_equal(again.patches, clean.patches)
    assert sorted(p.name.partition("-")[0] for p in place.iterdir()) == [
        ".lock", "depth", "episodes", "gelsight_left", "image", "patches", "text",
    ]  # fmt: skip


def test_a_scale_that_does_not_fit_what_is_on_the_disk_is_refused(tmp_path):
    prepare(MemorySource(three()), (IMAGE, DEPTH), None, tmp_path)
    with pytest.raises(ValueError, match="depth: full_scale must be beyond 255"):
        prepare(MemorySource(three()), (IMAGE, dataclasses.replace(DEPTH, full_scale=255.0)), None, tmp_path)


@pytest.mark.parametrize("table", ["[]", "{}", '{"episodes": []}'])
def test_a_table_of_another_kind_is_refused(tmp_path, table):
    prepare(MemorySource(three()), (IMAGE,), None, tmp_path)
    (about,) = tmp_path.glob("*/episodes/about.json")
    about.write_text(json.dumps({**json.loads(about.read_text()), "table": json.loads(table)}))
    with pytest.raises(ValueError, match="damaged; remove the folder"):
        prepare(MemorySource(three()), (IMAGE,), None, tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "rows.npy").write_bytes((f / "rows.npy").read_bytes()[:-7]),
        lambda f: (f / "rows.npy").unlink(),
        lambda f: (f / "about.json").write_text("{"),
        lambda f: (f / "about.json").write_text("[]"),
        lambda f: np.save(f / "rows.npy", np.zeros((3, 3), np.float32)),
        lambda f: (f / "rows.npy").write_bytes((f / "rows.npy").read_bytes()[:-4] + b"\xff" * 4),
    ],
)
@pytest.mark.parametrize("component", ["episodes", "depth", "patches", "text"])
def test_damaged_data_are_refused_by_name(tmp_path, damage, component):
    prepare(MemorySource(three()), ALL, CountingClip(), tmp_path)
    (folder,) = tmp_path.glob(f"*/{component}*")
    damage(folder)
    with pytest.raises(ValueError, match=f"damaged; remove the folder .*{component}"):
        prepare(MemorySource(three()), ALL, CountingClip(), tmp_path)


@pytest.mark.parametrize("component", ["image", "text", ""])
def test_a_file_in_a_folders_place_is_named(tmp_path, component):
    prepare(MemorySource(three()), ALL, CountingClip(), tmp_path / "cache")
    (place,) = (tmp_path / "cache").glob(f"*/{component}*" if component else "*")
    shutil.rmtree(place)
    place.write_text("no folder")
    with pytest.raises(ValueError, match=f"(must be|need) a folder.* Received: {place}"):
        prepare(MemorySource(three()), ALL, CountingClip(), tmp_path / "cache")


def test_many_instructions_are_embedded_a_few_at_a_time(tmp_path):
    clip = CountingClip()
    episodes = [episode(2, str(i), instruction="a" * (i + 1)) for i in range(70)]
    prepared = prepare(MemorySource(episodes), (IMAGE,), clip, tmp_path, patches=False)
    assert clip.texts == 70 and clip.most_texts <= 32
    assert [prepared.episode(i).text[0] for i in range(70)] == [i + 1 for i in range(70)]


def test_memory_is_for_a_few_frames(tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    steps = 3000  # 37 MB an episode.
    long = StreamedFrames(lambda: (frame for _ in range(steps)))
    joints = np.zeros((steps, 3), np.float32)
    source = MemorySource([episode(2, str(i), images={"image": long}, joints=joints) for i in range(2)])
    tracemalloc.start()
    prepared = prepare(source, (ImageModality("image", size=(64, 64)),), None, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert prepared.images["image"].nbytes > 70e6 and peak < 8e6


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.sampled_from(["uint8", "uint16", "float32"]))
def test_an_array_file_is_what_was_appended(tmp_path_factory, counts, dtype):
    path = tmp_path_factory.mktemp("array") / "rows.npy"
    pieces = [np.full((n, 2, 3), i, dtype) for i, n in enumerate(counts)]
    with ArrayFile(path) as file:
        for piece in pieces:
            file.append(piece)
        with pytest.raises(ValueError, match="all steps must be"):
            file.append(np.zeros((1, 3, 2), dtype))
    if sum(counts):
        np.testing.assert_array_equal(open_array(path, file.about()), np.concatenate(pieces))


def test_with_towers_of_clip(tmp_path):
    clip = tiny_clip()
    prepared = prepare(MemorySource(three()), (IMAGE,), clip, tmp_path)
    assert prepared.clip_fingerprint == clip.fingerprint
    for i in range(3):
        found = prepared.episode(i)
        np.testing.assert_allclose(
            found.patches, clip.patches(to_unit(found.images["image"], IMAGE)), atol=1e-5
        )
        np.testing.assert_allclose(found.text, clip.text([found.instruction])[0], atol=1e-5)
