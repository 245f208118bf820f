"""Conversions as a whole: what is published, what a later run makes of it, and what goes wrong."""

import contextlib
import errno
import json
import subprocess
import sys

import numpy as np
import pytest

from episodes.conversion import assembly, conversion, source_conversion, staging
from episodes.conversion.conversion import AbsentSourcesError, UntaskedError, convert
from episodes.conversion.episode_sinks import NPZ, RLDS
from episodes.conversion.shards import DamagedSourceError
from episodes.conversion.workspace import WorkspaceInUseError, open_workspace
from episodes.npz import open_npz, read_npz
from episodes.rlds import open_rlds
from episodes.statistics import DatasetStatistics
from episodes.synchronisation.settings import SyncSettings
from episodes.tasks import Tasks
from tests.episodes.conversion import fake_sources as fake

SETTINGS = fake.settings(max_shard_bytes=30_000, split_salt="3")


def sources(folder, n=6, **says):
    return [fake.write_source(folder / "bags", f"b{i}.fake", lengths=[3, 4], **says) for i in range(n)]


def run(paths, out, settings=SETTINGS, **arguments):
    return convert(paths, settings, out, "tiny", **{"workers": 0, "opener": fake.open_fake, **arguments})


def tree(folder):
    """Every file and its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def staged_folder(out):
    return out / ".work-tiny" / "staged"


def manifest_of(folder):
    return json.loads((folder / "conversion.json").read_text())


def episodes_of(folder):
    """Episode id -> columns, of all splits."""
    found = {}
    for split in manifest_of(folder)["splits"]:
        opened = open_rlds(folder, split, id_fields=["episode_id"])
        found |= dict(opened.read(list(opened.features)))
    return found


def test_a_data_set_holds_every_episode_and_says_where(tmp_path):
    paths = sources(tmp_path)
    report = run(paths, tmp_path / "out", workers=2)
    folder = tmp_path / "out" / "tiny" / "1.0.0"
    assert (report.folder, report.exit_code, report.converted) == (folder, 0, 6)
    manifest = manifest_of(folder)
    assert set(manifest["splits"]) == {"train", "val"}
    assert sum(s["episodes"] for s in manifest["splits"].values()) == 12
    assert len(manifest["splits"]["train"]["files"]) > 1
    read = episodes_of(folder)
    for path, entry in zip(paths, manifest["sources"], strict=True):
        assert entry["path"] == f"bags/{path.name}"
        with fake.open_fake(path, SETTINGS) as stream:
            for i, (planned, told) in enumerate(zip(stream.episodes, entry["episodes"], strict=True)):
                columns = read.pop(told["id"])
                np.testing.assert_array_equal(columns["action"], planned.columns["action"])
                depth = [stream.image(i, "observation/depth", t)[..., None] for t in range(told["steps"])]
                np.testing.assert_array_equal(columns["observation/depth"], depth)
                opened = open_rlds(folder, f"{told['split']}", id_fields=["episode_id"])
                assert opened.num_episodes == manifest["splits"][told["split"]]["episodes"]
    assert not read
    trained_on = [e["id"] for s in manifest["sources"] for e in s["episodes"] if e["split"] == "train"]
    statistics = DatasetStatistics.load(folder / "dataset_statistics.json")
    assert (statistics.episodes, set(statistics.arrays)) == (
        len(trained_on),
        {"action", "observation/joint_positions"},
    )
    assert (folder / "reports" / manifest["sources"][0]["report"]).exists()
    assert not list(staged_folder(tmp_path / "out").iterdir())


def test_the_result_depends_on_sources_and_settings_alone(tmp_path):
    paths = sources(tmp_path)
    run(paths, tmp_path / "one")
    run(paths[::-1], tmp_path / "two", workers=2)
    assert tree(tmp_path / "one" / "tiny") == tree(tmp_path / "two" / "tiny")


def test_added_bags_are_converted_and_the_others_are_not(tmp_path):
    paths = sources(tmp_path)
    assert run(paths[:4], tmp_path / "grown").converted == 4
    report = run(paths, tmp_path / "grown")
    assert (report.converted, len(report.sources)) == (2, 6)
    run(paths, tmp_path / "fresh")
    assert tree(tmp_path / "grown" / "tiny") == tree(tmp_path / "fresh" / "tiny")


def test_other_splits_and_shards_convert_nothing_again(tmp_path):
    paths = sources(tmp_path)
    run(paths, tmp_path / "out")
    other = fake.settings(fractions=fake.ALL_TRAIN)
    assert run(paths, tmp_path / "out", other).converted == 0
    run(paths, tmp_path / "fresh", other)
    assert tree(tmp_path / "out" / "tiny") == tree(tmp_path / "fresh" / "tiny")
    assert run(paths, tmp_path / "out", fake.settings(jpeg_quality=50)).converted == 6


def test_a_second_run_changes_no_file(tmp_path):
    paths = sources(tmp_path)
    run(paths, tmp_path / "out")
    folder = tmp_path / "out" / "tiny" / "1.0.0"
    inode = folder.stat().st_ino
    report = run(paths, tmp_path / "out")
    assert (report.unchanged, report.converted, folder.stat().st_ino) == (True, 0, inode)
    # A shard that was lost is made again.
    shard = next(folder.glob("tiny-val*"))
    before = tree(folder)
    shard.unlink()
    assert run(paths, tmp_path / "out").converted > 0
    assert tree(folder) == before


def test_absent_sources_are_neither_dropped_nor_kept_without_being_told(tmp_path):
    paths = sources(tmp_path)
    run(paths, tmp_path / "out")
    before = tree(tmp_path / "out" / "tiny")
    with pytest.raises(AbsentSourcesError, match=r"2 sources .* without bags/b0.fake, bags/b1.fake$"):
        run(paths[2:], tmp_path / "out")
    assert tree(tmp_path / "out" / "tiny") == before
    more = fake.write_source(tmp_path / "bags", "more.fake")
    paths[0].unlink()
    report = run([*paths[2:], more], tmp_path / "out", absent="keep")
    assert (report.converted, len(report.sources)) == (1, 7)
    assert len(episodes_of(report.folder)) == 13
    report = run([*paths[2:], more], tmp_path / "out", absent="drop")
    assert (report.converted, len(report.sources)) == (0, 5)
    run([*paths[2:], more], tmp_path / "fresh")
    assert tree(tmp_path / "out" / "tiny") == tree(tmp_path / "fresh" / "tiny")


def test_a_recording_that_was_made_again_takes_the_place_of_the_old_one_when_told(tmp_path):
    paths = sources(tmp_path, 3)
    run(paths, tmp_path / "out")
    fake.write_source(tmp_path / "bags", "b1.fake", lengths=[6], seed="again")
    with pytest.raises(AbsentSourcesError, match="without bags/b1.fake;"):
        run(paths, tmp_path / "out")
    report = run(paths, tmp_path / "out", absent="drop")
    assert (report.converted, [s.steps for s in report.sources]) == (1, [7, 6, 7])


@pytest.mark.parametrize("format", [RLDS, NPZ])
def test_a_recording_of_another_day_removes_none_of_its_name(tmp_path, format):
    first = fake.write_source(tmp_path / "day1" / "bags", "demo0.fake", lengths=[3])
    second = fake.write_source(tmp_path / "day2" / "bags", "demo0.fake", lengths=[5], seed="day 2")
    folder = run([first], tmp_path / "out", format=format).folder
    before = tree(folder)
    message = r"day2/bags/demo0.fake is called bags/demo0.fake, too.*--keep_absent.*--drop_absent"
    with pytest.raises(AbsentSourcesError, match=message):
        run([second], tmp_path / "out", format=format)
    assert tree(folder) == before
    report = run([second], tmp_path / "out", format=format, absent="keep")
    assert sorted(s.steps for s in report.sources) == [3, 5]
    run([first, second], tmp_path / "fresh", format=format)
    assert tree(tmp_path / "out" / "tiny") == tree(tmp_path / "fresh" / "tiny")


def test_kept_sources_and_new_ones_have_the_same_settings(tmp_path):
    paths = sources(tmp_path, 3)
    folder = run(paths[:2], tmp_path / "out").folder
    before = tree(folder)
    other = fake.settings(sync=SyncSettings(rate_hz=5.0), salvage=True)
    message = r"salvage is True instead of False, sync.rate_hz is 5.0 instead of None; without bags/b0.fake,"
    with pytest.raises(AbsentSourcesError, match=message):
        run(paths[2:], tmp_path / "out", other, absent="keep")
    assert tree(folder) == before
    # What decides no episode, or only new ones, may change.
    other = fake.settings(fractions=fake.ALL_TRAIN, max_shard_bytes=1, tasks=Tasks("reach"))
    assert len(run(paths[2:], tmp_path / "out", other, absent="keep").sources) == 3


@pytest.mark.parametrize("fault", ["refused", "damaged", "bug", "kill"])
def test_a_source_that_fails_is_reported_and_the_others_go_on(tmp_path, fault):
    paths = [*sources(tmp_path, 4), fake.write_source(tmp_path / "bags", "bad.fake", fault=fault)]
    report = run(paths, tmp_path / "out", workers=2)
    reasons = {
        "refused": "^bags/bad.fake is no bag$",
        "damaged": "^bags/bad.fake is damaged at byte 1234$",
        "bug": "KeyError: 'no such thing'",
        "kill": "was killed, twice",
    }
    (failure,) = report.failures
    assert failure.label == "bags/bad.fake"
    with pytest.raises(ValueError, match=reasons[fault]):
        raise ValueError(failure.reason)
    assert (report.exit_code, len(report.sources)) == (1, 4)
    assert manifest_of(report.folder)["failed"][0]["label"] == "bags/bad.fake"
    assert "FAILED: bags/bad.fake" in report.to_text()


def test_a_worker_that_dies_once_costs_nothing(tmp_path):
    paths = [*sources(tmp_path, 4), fake.write_source(tmp_path / "bags", "bad.fake", fault="kill once")]
    report = run(paths, tmp_path / "out", workers=2)
    assert (report.exit_code, len(report.sources)) == (0, 5)


def test_nothing_is_published_where_nothing_was_converted(tmp_path):
    paths = sources(tmp_path, 2)
    run(paths, tmp_path / "out")
    before = tree(tmp_path / "out" / "tiny")
    bad = fake.settings(jpeg_quality=7)
    for path in paths:
        path.write_text(json.dumps({**json.loads(path.read_text()), "fault": "refused"}))
    report = run(paths, tmp_path / "out", bad, absent="drop")
    assert (report.folder, report.exit_code) == (None, 2)
    assert tree(tmp_path / "out" / "tiny") == before


def test_episodes_without_a_task_are_all_listed_and_nothing_is_published(tmp_path):
    paths = sources(tmp_path, 3)
    paths += [fake.write_source(tmp_path / "bags", f"un{i}.fake", instruction=None) for i in range(2)]
    with pytest.raises(UntaskedError, match=r"2 sources(.|\n)*bags/un0.fake#0000(.|\n)*bags/un1.fake#0000"):
        run(paths, tmp_path / "out")
    assert not (tmp_path / "out" / "tiny").exists()
    report = run(paths, tmp_path / "out", skip_untasked=True)
    # What the first run converted was kept.
    assert (report.exit_code, report.converted, len(report.failures)) == (1, 0, 2)


def test_the_same_recording_twice_is_one(tmp_path):
    paths = sources(tmp_path, 3)
    copy = tmp_path / "copies" / "b1 (1).fake"
    copy.parent.mkdir()
    copy.write_bytes(paths[1].read_bytes())
    report = run([*paths, copy, paths[0]], tmp_path / "out")
    assert [(d.label, d.same_as) for d in report.duplicates] == [("copies/b1 (1).fake", "bags/b1.fake")]
    assert (report.exit_code, len(report.sources)) == (0, 3)
    assert manifest_of(report.folder)["duplicates"][0]["label"] == "copies/b1 (1).fake"


def test_a_source_unlike_the_others_is_left_out_until_it_has_company(tmp_path):
    paths = sources(tmp_path, 3)
    odd = [fake.write_source(tmp_path / "bags", f"a{i}.fake", size=[8, 8], joints=["x"]) for i in range(4)]
    report = run([*paths, odd[0]], tmp_path / "out")
    (failure,) = report.failures
    assert "unlike the 3 others" in failure.reason
    assert "observation/image is uint8 [8, 8, 3] instead of uint8 [4, 6, 3]" in failure.reason
    assert "joint_names is ['x'] instead of ['shoulder', 'elbow']" in failure.reason
    report = run([*paths, *odd], tmp_path / "out")
    # The odd ones are the more now, and the first of them was converted before.
    assert (report.converted, len(report.sources), len(report.failures)) == (3, 4, 3)


@pytest.mark.parametrize("damage", ["cut", "bit"])
def test_damaged_staging_is_made_again(tmp_path, damage):
    paths = sources(tmp_path, 4)
    bad = fake.write_source(tmp_path / "bags", "bad.fake", instruction=None)
    with pytest.raises(UntaskedError):
        run([*paths, bad], tmp_path / "out")
    record = sorted(staged_folder(tmp_path / "out").rglob("*.tfrecord"))[0]
    content = record.read_bytes()
    record.write_bytes(content[:-1] if damage == "cut" else content[:200] + b"~" + content[201:])
    report = run(paths, tmp_path / "out")
    assert report.converted == 1
    run(paths, tmp_path / "fresh")
    assert tree(tmp_path / "out" / "tiny") == tree(tmp_path / "fresh" / "tiny")


def test_a_damaged_shard_is_not_carried_on(tmp_path):
    paths = sources(tmp_path, 4)
    run(paths[:3], tmp_path / "out")
    shard = sorted((tmp_path / "out" / "tiny" / "1.0.0").glob("tiny-train*"))[0]
    content = shard.read_bytes()
    shard.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    with pytest.raises(DamagedSourceError):
        run([paths[3]], tmp_path / "out", absent="keep")
    run(paths, tmp_path / "out")
    run(paths, tmp_path / "fresh")
    assert tree(tmp_path / "out" / "tiny") == tree(tmp_path / "fresh" / "tiny")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_stops_the_run_which_can_be_continued(tmp_path, workers):
    paths = sources(tmp_path, 4)
    full = fake.write_source(tmp_path / "bags", "z.fake", fault="disk")
    with pytest.raises(OSError, match="No space left"):
        run([*paths, full], tmp_path / "out", workers=workers)
    assert not (tmp_path / "out" / "tiny").exists()
    run(paths, tmp_path / "out")
    run(paths, tmp_path / "fresh")
    assert tree(tmp_path / "out" / "tiny") == tree(tmp_path / "fresh" / "tiny")


def test_a_disk_that_fills_while_shards_are_written_leaves_the_old_data_set(tmp_path, monkeypatch):
    paths = sources(tmp_path, 4)
    run(paths[:2], tmp_path / "out")
    before = tree(tmp_path / "out" / "tiny")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(assembly, "finish_dataset", full)
        run(paths, tmp_path / "out")
    assert tree(tmp_path / "out" / "tiny") == before
    assert run(paths, tmp_path / "out").converted == 0
    run(paths, tmp_path / "fresh")
    assert tree(tmp_path / "out" / "tiny") == tree(tmp_path / "fresh" / "tiny")


def test_two_runs_at_once_are_refused(tmp_path):
    paths = sources(tmp_path, 1)
    final = conversion.final_folder(tmp_path / "out", "tiny", "1.0.0", RLDS)
    module = "tests.episodes.conversion.killed_runs"
    command = [sys.executable, "-m", module, "convert", tmp_path / "out", 0, paths[0]]
    with open_workspace(tmp_path / "out", "tiny", final):
        with pytest.raises(WorkspaceInUseError, match="Another run"):
            run(paths, tmp_path / "out")
        other = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
        assert "WorkspaceInUseError" in other.stderr
    run(paths, tmp_path / "out", fake.settings(fractions=fake.ALL_TRAIN))


def test_a_foreign_folder_is_not_overwritten(tmp_path):
    foreign = tmp_path / "out" / "tiny" / "1.0.0"
    foreign.mkdir(parents=True)
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="must be free"):
        run(sources(tmp_path), tmp_path / "out")
    assert (foreign / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "My set"}, "small letters"),
        ({"version": "1"}, "like 1.0.0"),
        ({"format": "hdf5"}, "rlds"),
        ({"absent": "maybe"}, "maybe"),
        ({"paths": []}, "at least one"),
        ({"workers": -1}, "at least 0"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    given = {"paths": [tmp_path], "name": "tiny", **arguments}
    with pytest.raises(ValueError, match=message):
        convert(given.pop("paths"), SETTINGS, tmp_path / "out", opener=fake.open_fake, **given)
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_read_fail(tmp_path):
    report = run([*sources(tmp_path), tmp_path / "bags" / "gone.fake"], tmp_path / "out")
    (failure,) = report.failures
    assert failure.label == "bags/gone.fake"
    assert "No such file" in failure.reason


def test_npz_is_published_and_added_to_alike(tmp_path):
    paths = sources(tmp_path, 5)
    run(paths[:3], tmp_path / "out", format=NPZ)
    report = run(paths, tmp_path / "out", format=NPZ)
    assert (report.folder, report.converted) == (tmp_path / "out" / "tiny", 2)
    run(paths, tmp_path / "fresh", format=NPZ, workers=2)
    assert tree(tmp_path / "out" / "tiny") == tree(tmp_path / "fresh" / "tiny")
    for entry in manifest_of(report.folder)["sources"]:
        for episode in entry["episodes"]:
            columns = read_npz(report.folder / episode["file"])
            assert (len(columns["action"]), episode["file"].split("/")[0]) == (
                episode["steps"],
                episode["split"],
            )
    assert (report.folder / "dataset_statistics.json").exists()
    with pytest.raises(ValueError, match="of the format 'npz'"):
        run(paths, tmp_path / "out", format="eipl")


def test_by_way_of_npz_the_same_tfrecords_come_out(tmp_path):
    paths = sources(tmp_path, 3)
    png = fake.settings(colour_encoding="png", fractions=fake.ALL_TRAIN)
    straight = run(paths, tmp_path / "straight", png).folder
    between = run(paths, tmp_path / "between", png, format=NPZ).folder
    again = run(sorted(between.rglob("*.npz")), tmp_path / "again", png, opener=open_as_npz).folder

    def by_content(folder):
        return sorted(
            [{n: c.tolist() for n, c in columns.items()} for columns in episodes_of(folder).values()],
            key=str,
        )

    assert len(by_content(straight)) == 6
    assert by_content(straight) == by_content(again)


@contextlib.contextmanager
def open_as_npz(path, settings):
    yield open_npz(path)


def test_eipl_arrays_are_published_with_their_manifest(tmp_path):
    paths = sources(tmp_path, 5)
    report = run(paths, tmp_path / "out", format="eipl")
    manifest = manifest_of(report.folder)
    assert set(manifest["splits"]) == {"train", "test"}
    assert json.loads((report.folder / "data" / "task_dict.json").read_text()) == {"0": "réach for it"}
    for entry in manifest["sources"]:
        with fake.open_fake(tmp_path / entry["path"], SETTINGS) as stream:
            for planned, told in zip(stream.episodes, entry["episodes"], strict=True):
                joints = np.load(report.folder / told["file"])[told["index"]]
                wanted = planned.columns["observation/joint_positions"]
                np.testing.assert_array_equal(joints[: len(wanted)], wanted)
    assert run(paths, tmp_path / "out", format="eipl").unchanged


def test_a_dry_run_writes_nothing_and_tells_the_same(tmp_path):
    bad = fake.write_source(tmp_path / "bags", "bad.fake", fault="refused")
    paths = [*sources(tmp_path, 3), bad]
    before = tree(tmp_path)
    report = source_conversion.dry_run(paths, SETTINGS, workers=0, opener=fake.open_fake)
    assert tree(tmp_path) == before
    done = run(paths, tmp_path / "out")
    assert (report.sources, report.failures) == (done.sources, done.failures)
    assert report.sources[0].skew_ms == 2.5


def test_hashes_are_taken_again_when_a_file_changes(tmp_path):
    (path,) = sources(tmp_path, 1)
    every = fake.settings(fractions=fake.ALL_TRAIN)
    run([path], tmp_path / "out", every)
    first = manifest_of(tmp_path / "out" / "tiny" / "1.0.0")["sources"][0]["sha256"]
    fake.write_source(tmp_path / "bags", "b0.fake", lengths=[4, 3])
    run([path], tmp_path / "out", every, absent="drop")
    second = manifest_of(tmp_path / "out" / "tiny" / "1.0.0")["sources"][0]["sha256"]
    assert first != second == staging.hashlib.sha256(path.read_bytes()).hexdigest()
