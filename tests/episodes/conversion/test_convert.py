"""The command: from bags to a data set that can be read, its flags, its words and its status."""

import json
import logging
from pathlib import Path

import gin
import numpy as np
import pytest

from episodes import convert
from episodes.conversion.conversion_report import ConversionReport, SourceLine
from episodes.conversion.convert_settings import find_paths
from episodes.conversion.manifest import Duplicate, Failure
from episodes.npz import read_npz
from episodes.rlds import open_rlds
from tests.episodes.demonstration_bag import NAMES, colour_at, write_demonstration
from tests.shared_data import shared

PNG = ("--image_encoding", "png", "--splits", "train=1", "--workers", "1")
REAL = "data/bags/recomposed_real_pixels"
REAL_TOPICS = [f"--topic=gelsight_{s}=/gelsight/{s}/image_raw/compressed" for s in ("left", "right")]


@pytest.fixture(autouse=True)
def clean_gin():
    yield
    gin.clear_config()


@pytest.fixture
def bags(tmp_path):
    """A folder of a ROS 1 and a longer ROS 2 bag."""
    folder = tmp_path / "bags"
    folder.mkdir()
    write_demonstration(folder / "short.bag")
    write_demonstration(folder / "deeper" / "long", "ros2", frames=8)
    return folder


@pytest.fixture
def command(capsys):
    def call(*arguments):
        gin.clear_config()
        status = convert.main([str(a) for a in arguments])
        said = capsys.readouterr()
        return status, said.out + said.err

    return call


def columns_of(folder):
    """The episodes of a data set without their ids, the shortest first."""
    opened = open_rlds(folder, "train")
    return sorted((c for _, c in opened.read(list(opened.features))), key=lambda c: len(c["action"]))


def assert_same(one, other):
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_folder_of_bags_becomes_a_data_set(tmp_path, bags, command):
    out = tmp_path / "out"
    arguments = (bags, "--out", out, "--name", "lab", "--task", "reach", "--encoder", "embedded", *PNG)
    status, said = command(*arguments)
    assert status == 0, said
    assert "bags/short.bag" in said and "deeper/long" in said and "11.0 ms" in said
    short, long = columns_of(out / "lab" / "1.0.0")
    assert (len(short["action"]), len(long["action"])) == (5, 7)
    np.testing.assert_array_equal(short["observation/image"], [colour_at(k) for k in range(5)])
    np.testing.assert_array_equal(short["observation/depth"][:, 0, 0, 0], np.arange(1000, 1005))
    assert set(short["language_instruction"].tolist()) == {b"reach"}
    np.testing.assert_allclose(np.linalg.norm(short["language_embedding"], axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(short["action"][:-1], short["observation/joint_positions"][1:])
    manifest = json.loads((out / "lab" / "1.0.0" / "conversion.json").read_text())
    assert manifest["signature"]["joint_names"] == list(NAMES)
    status, said = command(*arguments)
    assert status == 0 and "unchanged" in said


def test_an_encoder_that_there_is_not_is_named_before_any_bag_is_read(tmp_path, bags, command):
    status, said = command(bags, "--out", tmp_path / "out", "--task", "reach", "--encoder", "nosuch", *PNG)
    assert status != 0 and said.count("nosuch") == 1 and "short.bag" not in said
    assert not (tmp_path / "out").exists()


def test_by_way_of_npz_the_same_data_set_comes_out(tmp_path, bags, command):
    to = ("--task", "reach", *PNG)
    assert command(bags, "--out", tmp_path / "a", *to)[0] == 0
    assert command(bags, "--out", tmp_path / "b", "--format", "npz", *to)[0] == 0
    between = tmp_path / "b" / "episodes"
    assert len(list(between.glob("train/*.npz"))) == 2
    assert read_npz(next(between.glob("train/short*.npz")))["observation/image"].shape == (5, 12, 16, 3)
    assert command(between, "--out", tmp_path / "c", *PNG)[0] == 0
    assert_same(*(columns_of(tmp_path / x / "episodes" / "1.0.0") for x in "ac"))


def test_real_pixels_come_out_of_ros_1_and_ros_2_bit_for_bit(tmp_path, command):
    folder = shared(REAL)
    for ros, suffix in (("ros1", ".bag"), ("ros2", "_ros2")):
        paths = [p for p in sorted(folder.iterdir()) if p.name.endswith(suffix)]
        status, said = command(*paths, "--out", tmp_path / ros, "--task", "cook", *REAL_TOPICS, *PNG)
        assert status == 0, said
    found = [
        sorted(columns_of(tmp_path / ros / "episodes" / "1.0.0"), key=lambda c: c["action"].tobytes())
        for ros in ("ros1", "ros2")
    ]
    assert_same(*found)
    assert len({c["observation/image"].tobytes() for c in found[0]}) == 2


def test_a_broken_bag_is_told_and_the_status_says_so(tmp_path, bags, command):
    broken = bags / "broken.bag"
    broken.write_bytes((bags / "short.bag").read_bytes()[:-500])
    status, said = command(bags, "--out", tmp_path / "out", "--task", "reach", *PNG)
    assert status == 1
    assert "FAILED: bags/broken.bag" in said and "1 of 3 sources failed" in said
    assert len(columns_of(tmp_path / "out" / "episodes" / "1.0.0")) == 2
    status, said = command(broken, "--out", tmp_path / "other", "--task", "reach")
    assert status == 2 and "Nothing was converted" in said
    assert not (tmp_path / "other" / "episodes").exists()


def test_all_bags_without_a_task_are_listed(tmp_path, bags, command):
    status, said = command(bags, "--out", tmp_path / "out", *PNG)
    assert status == 2 and "bags/short.bag#0000" in said and "deeper/long#0000" in said
    table = tmp_path / "tasks.csv"
    table.write_text("bag,task\nshort,1\n")
    numbers = tmp_path / "task_dict.json"
    numbers.write_text('{"1": "tie the knot"}')
    flags = ("--task_table", table, "--task_dict", numbers, "--skip_untasked")
    status, said = command(bags, "--out", tmp_path / "out", *flags, *PNG)
    assert status == 1 and "FAILED" in said
    (columns,) = columns_of(tmp_path / "out" / "episodes" / "1.0.0")
    assert set(columns["language_instruction"].tolist()) == {b"tie the knot"}


def test_a_dry_run_says_what_would_come_and_writes_nothing(tmp_path, bags, command):
    status, said = command(bags, "--out", tmp_path / "out", "--task", "reach", "--dry_run", "--workers", 1)
    assert status == 0 and "deeper/long" in said and " 7 " in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        (["--rate", "20"], {"sync": {"rate_hz": 20.0}}),
        (["--gin_bindings", "synchronisation.rate_hz = 5.0"], {"sync": {"rate_hz": 5.0}}),
        (["--gin_bindings", "synchronisation.rate_hz = 5.0", "--rate", "20"], {"sync": {"rate_hz": 20.0}}),
        (
            ["--gin_bindings", "synchronisation.rate_hz = 5.0", "--clock", "depth"],
            {"sync": {"rate_hz": None, "clock": "observation/depth"}},
        ),
        (
            ["--tolerance", "0.2", "--tolerance", "depth=0.3"],
            {"sync": {"default_tolerance_s": 0.2, "tolerance_s": {"observation/depth": 0.3}}},
        ),
        (["--config_file", "configs/bags.gin", "--jpeg_quality", "60"], {"jpeg_quality": 60}),
        (["--salvage"], {"salvage": True}),
        (["--topic", "depth="], {"topics": {"image": ["/camera/color/image_raw"]}}),
        (["--splits", "train=0.75,test=0.25"], {"fractions": {"train": 0.75, "test": 0.25}}),
        (["--action", "joint_difference"], {"sync": {"action": "joint_difference"}}),
        (["--keep_out_of_tolerance"], {"sync": {"out_of_tolerance": "keep"}}),
    ],
)
def test_flags_and_gin_reach_the_settings(tmp_path, monkeypatch, flags, settings):
    taken = []

    def convert_nothing(paths, settings, out, name, **_):
        taken.append(settings)
        return ConversionReport(None, (), (), (), {})

    monkeypatch.setattr(convert.conversion, "convert", convert_nothing)
    bag = tmp_path / "a.bag"
    bag.write_bytes(b"#ROSBAG V2.0\n")
    gin.clear_config()
    assert convert.main([str(bag), "--out", str(tmp_path), *flags]) == 2
    found = {**taken[0].to_json(), "fractions": taken[0].fractions}

    def covers(whole, part):
        return all(covers(whole[k], v) if isinstance(v, dict) else whole[k] == v for k, v in part.items())

    assert covers(found, settings), found
    assert "depth" not in found["topics"] or flags[0] != "--topic"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topic", "camera=/x"], "PART=NAME"),
        (["--tolerance", "depth=near"], "NAME=NUMBER"),
        (["--splits", "train=0.5"], "add up to 1"),
        (["--name", "My Set"], "small letters"),
        (["--gin_bindings", "synchronisation.hertz = 3"], "hertz"),
        (["--gin_bindings", "sinchronisation.rate_hz = 3"], "sinchronisation"),
        (["--config_file", "configs/nowhere.gin"], "nowhere.gin"),
        (["--task_table", "nowhere.csv"], "nowhere.csv"),
        (["--gin_bindings", "synchronisation.tolerance_s = 0.1"], "'synchronisation'"),
        (["--gin_bindings", "synchronisation.rate_hz = 'ten'"], "rate_hz = 'ten'"),
        (["--gin_bindings", "synchronisation.default_tolerance_s = "], "default_tolerance_s = "),
        (["--gin_bindings", "synchronisation.rate_hz = (1"], "rate_hz = (1"),
        (["--gin_bindings", "conversion.image_sizes = {'image': 4}"], "'conversion'"),
        (["--gin_bindings", "tasks.table = 5"], "'tasks'"),
        (["--config_file", "README.md"], "README.md, line 3"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_sentence(tmp_path, bags, command, flags, message):
    status, said = command(bags, "--out", tmp_path / "out", *flags)
    assert status == 2 and message in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_table_may_name_other_bags_which_is_told(tmp_path, bags, command, caplog):
    table = tmp_path / "tasks.json"
    table.write_text('{"short": "reach", "long": "reach", "lnog": "reach"}')
    with caplog.at_level(logging.WARNING):
        status, _ = command(bags, "--out", tmp_path / "out", "--task_table", table, "--dry_run")
    assert status == 0 and "none of the bags: lnog" in caplog.text
    (bags / "copy").mkdir()
    (bags / "copy" / "short.bag").write_bytes((bags / "short.bag").read_bytes())
    status, said = command(bags, "--out", tmp_path / "out", "--task_table", table)
    assert status == 2 and "short may be" in said


def test_an_interruption_says_how_to_continue(tmp_path, bags, command, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(convert.conversion, "convert", interrupted)
    status, said = command(bags, "--out", tmp_path / "out")
    assert status == 130 and "same command again" in said


def test_bags_and_npz_files_are_found_once_and_nothing_else_is(tmp_path, bags):
    for name in ("e.npz", ".work-x/f.npz", "notes.txt"):
        (bags / name).parent.mkdir(exist_ok=True)
        (bags / name).write_bytes(b"")
    found = find_paths([bags, bags / "short.bag", bags / "e.npz"])
    assert found == [bags / "deeper" / "long", bags / "e.npz", bags / "short.bag"]
    with pytest.raises(ValueError, match="nowhere"):
        find_paths([bags, Path("nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="No bag"):
        find_paths([tmp_path / "empty"])


def test_a_data_set_below_a_searched_folder_is_left_out(bags, caplog):
    episodes = [bags / "a.npz", bags / "out" / "lab" / "train" / "b.npz"]
    for path in episodes:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (bags / "out" / "lab" / "conversion.json").write_text("{}")
    found = [bags / "deeper" / "long", bags / "short.bag"]
    with caplog.at_level(logging.WARNING):
        assert find_paths([bags]) == sorted([*found, episodes[0]])
    assert f"{bags / 'out' / 'lab'} is a data set" in caplog.text
    assert find_paths([bags / "out" / "lab"]) == episodes[1:]
    with pytest.raises(ValueError, match="No bag"):
        find_paths([bags / "out"])


def test_a_data_set_among_its_sources_does_not_take_itself_in(bags, command):
    arguments = (bags, "--out", bags / "out", "--task", "reach", "--format", "npz", *PNG)
    assert command(*arguments)[0] == 0
    status, said = command(*arguments)
    assert status == 0 and "unchanged" in said


def test_the_report_is_readable():
    sources = (
        SourceLine("a/one.bag", 2, 80, 12.345, ("late",), ("skew",)),
        SourceLine("b", 1, 5, None, (), ()),
    )
    splits = {"train": {"episodes": 2, "steps": 80}, "val": {"episodes": 1, "steps": 5}}
    failures = (Failure("z.bag", "z.bag is empty"), Failure("c.bag", "no topic"))
    report = ConversionReport(Path("out"), sources, failures, (Duplicate("d", "b"),), splits, 3)
    assert report.to_text().splitlines() == [
        "source     episodes  steps  largest skew  warnings",
        "a/one.bag         2     80       12.3 ms         2",
        "b                 1      5             -         -",
        "all               3     85                        ",
        "",
        "warning: a/one.bag: late",
        "left out of a/one.bag: skew",
        "left out: d holds the same as b",
        "FAILED: c.bag: no topic",
        "FAILED: z.bag is empty",
        "out: train 2 episodes of 80 steps, val 1 episodes of 5 steps (3 sources converted by this run)",
        "2 of 4 sources failed.",
    ]
