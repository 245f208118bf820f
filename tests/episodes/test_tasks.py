"""Instructions: from tables, from task numbers, from a topic."""

import json
from pathlib import Path

import numpy as np
import pytest

from episodes.recording import TextSamples
from episodes.tasks import (
    MissingTaskError,
    Tasks,
    instructions_from_topic,
    load_table,
    load_task_dict,
)


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "bag,instruction\ndemo1,open the drawer\ndemo2.bag, close it \n"),
        ("t.csv", "\ufeffoperator, bag ,instruction\nann,demo1,open the drawer\nbob,demo2.bag,close it\n"),
        ("t.json", {"demo1": "open the drawer", "demo2.bag": "close it"}),
    ],
)
def test_sentences_are_read_from_both_kinds_of_table(tmp_path: Path, name: str, content: object) -> None:
    table = load_table(write(tmp_path / name, content))
    assert table == {"demo1": "open the drawer", "demo2.bag": "close it"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "bag,task\na,0\nb,01\n"),
        ("t.csv", "bag,task\na,0.0\nb,1.0\n"),
        ("t.json", {"a": 0, "b": "1"}),
    ],
)
def test_numbers_go_through_the_task_dict(tmp_path: Path, name: str, content: object) -> None:
    tasks = write(tmp_path / "task_dict.json", {"0": "thread the cable", "1": "pull the cable"})
    assert load_table(write(tmp_path / name, content), tasks) == {
        "a": "thread the cable",
        "b": "pull the cable",
    }


def test_all_faults_of_a_table_are_listed_at_once(tmp_path: Path) -> None:
    tasks = write(tmp_path / "task_dict.json", {"0": "thread the cable"})
    table = write(tmp_path / "t.csv", "bag,task\na,0\nb,7\na,0\n,0\nc,\n")
    with pytest.raises(ValueError, match="Received") as error:
        load_table(table, tasks)
    message = str(error.value)
    assert all(
        part in message for part in ("b: task 7 is not defined", "a is named twice", "without a bag", "c:")
    )


def test_a_number_without_a_task_dict_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no task_dict is given"):
        load_table(write(tmp_path / "t.json", {"a": 3}))


@pytest.mark.parametrize("content", [[1], {"zero": "x"}, {"0": ""}, {"0": 1}])
def test_a_task_dict_of_another_layout_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ValueError, match="must map task numbers"):
        load_task_dict(write(tmp_path / "task_dict.json", content))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "file,instruction\na,b\n"),
        ("t.csv", ""),
        ("t.json", ["a"]),
        ("t.json", {}),
        ("t.json", {"a": True}),
    ],
)
def test_a_table_of_another_layout_is_refused(tmp_path: Path, name: str, content: object) -> None:
    with pytest.raises(ValueError, match="Received"):
        load_table(write(tmp_path / name, content))


def test_a_bag_is_named_by_any_end_of_its_path_and_the_episode_wins() -> None:
    tasks = Tasks("anything", {"monday/demo1": "push", "demo2.bag": "pull", "demo2#0001": "lift"})
    assert tasks.of(Path("/data/monday/demo1.bag"), "0000") == "push"
    assert tasks.of(Path("/data/tuesday/demo1.bag"), "0000") == "anything"
    assert tasks.of(Path("demo2.bag"), "0000") == "pull"
    assert tasks.of(Path("demo2.bag"), "0001") == "lift"
    assert Tasks().of(Path("demo2.bag"), "0000") is None


def test_names_that_fit_no_bag_or_several_are_told() -> None:
    tasks = Tasks(table={"demo1": "a", "monday/demo1": "b", "demo3#0000": "c"})
    bags = [Path("/d/monday/demo1.bag"), Path("/d/tuesday/demo1.bag")]
    assert tasks.unused(bags) == ["demo3#0000"]
    (fault,) = tasks.faults(bags)
    assert "demo1 may be /d/monday/demo1.bag or /d/tuesday/demo1.bag" in fault


def test_a_bags_name_may_hold_a_hash() -> None:
    tasks = Tasks(table={"run#3": "push", "run#3#0001": "pull"})
    assert (tasks.of(Path("run#3.bag"), "0000"), tasks.of(Path("run#3.bag"), "0001")) == ("push", "pull")
    assert tasks.unused([Path("run#3.bag")]) == []


def test_a_comma_without_quotes_is_told_by_its_line(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", 'bag,instruction\na,"lift, then turn"\nb,lift, then turn\n')
    with pytest.raises(ValueError, match="line 3.*double quotes"):
        load_table(table)
    quoted = write(tmp_path / "u.csv", 'bag,instruction\na,"lift, then turn"\n')
    assert load_table(quoted) == {"a": "lift, then turn"}


def test_a_table_of_another_encoding_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("bag,instruction\na,drück den Knopf\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"t.csv must be UTF-8"):
        load_table(tmp_path / "t.csv")


def test_another_bags_line_does_not_concern_a_bag() -> None:
    before = Tasks(table={"a": "push"}).mentions(Path("a.bag"))
    assert Tasks(table={"a": "push", "b": "pull"}).mentions(Path("a.bag")) == before
    assert Tasks(table={"a": "lift"}).mentions(Path("a.bag")) != before


def texts(*said: tuple[int, str]) -> TextSamples:
    stamps = np.array([stamp for stamp, _ in said], np.int64)
    return TextSamples("/task", stamps, stamps, 0, tuple(text for _, text in said))


def test_a_topic_gives_the_sentence_in_force_at_each_step() -> None:
    said = texts((30, "close it"), (10, " open it "), (20, "  "))
    got = instructions_from_topic(said, np.array([5, 10, 29, 30, 99]))
    assert got.tolist() == ["open it", "open it", "open it", "close it", "close it"]


def test_a_topic_of_blanks_is_a_missing_task() -> None:
    with pytest.raises(MissingTaskError, match="/task"):
        instructions_from_topic(texts((1, " ")), np.array([5]))
