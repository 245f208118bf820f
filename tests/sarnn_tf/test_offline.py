"""The offline test from a checkpoint and a data set to files, and what it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import gin
import numpy as np
import pytest

from core import checkpoint_folder
from episodes.statistics import compute_statistics
from sarnn_tf.offline import main
from tests.sarnn_tf.sarnn_policies import MODALITIES, write_checkpoint
from tests.sarnn_tf.training_runs import INSTRUCTIONS, write_data

NAMES = ("joint_0", "joint_1", "joint_2")  # As the data of EIPL's layout have none.


@pytest.fixture(autouse=True)
def clean_gin() -> Iterator[None]:
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes of 6, 4, 5 and 3 steps, the last one held out."""
    return write_data(tmp_path_factory.mktemp("offline") / "data")


def checkpoint(folder: Path, model: str = "sarnn", *, trained_on: Path | None = None) -> Path:
    """A run, with the statistics of what it was trained on."""
    made = write_checkpoint(folder / "log" / "run1" / "step-00000001", model, joint_names=NAMES)
    if trained_on is not None:
        compute_statistics(
            (f"{part}/{i}", {"joint_positions": joints[:length]})
            for part in ("train", "test")
            for i, (joints, length) in enumerate(
                zip(
                    *(np.load(trained_on / part / f"{name}.npy") for name in ("joints", "lengths")),
                    strict=True,
                )
            )
        ).save(made / checkpoint_folder.STATISTICS)
    return made


def run(tmp_path: Path, data: Path, *arguments: str) -> int:
    run_folder = tmp_path / "log" / "run1"
    out = str(tmp_path / "out")
    given = ["--checkpoint", str(run_folder), "--data_dir", str(data), "--out", out, "--turns", "2"]
    return main([*given, *arguments])


def steps_of_first(tmp_path: Path) -> int:
    (path,) = (tmp_path / "out").glob("errors_*.json")
    return json.loads(path.read_text())["episodes"][0]["steps"]


def test_files_and_errors_of_chosen_episodes(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(tmp_path, "clip_sarnn", trained_on=data)
    assert run(tmp_path, data, "--episode", "3", "0", "--input_param", "0.5", "--gif") == 0
    found = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert found == [
        "clip_sarnn_run1_0_0.5.gif",
        "clip_sarnn_run1_0_0.5.mp4",
        "clip_sarnn_run1_3_0.5.gif",
        "clip_sarnn_run1_3_0.5.mp4",
        "errors_clip_sarnn_run1_0.5.json",
        "pca_clip_sarnn_run1_0.5.gif",
        "pca_clip_sarnn_run1_0.5.png",
    ]
    reader = cv2.VideoCapture(str(tmp_path / "out" / "clip_sarnn_run1_0_0.5.mp4"))
    assert reader.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    reader.release()
    report = json.loads((tmp_path / "out" / "errors_clip_sarnn_run1_0.5.json").read_text())
    assert [(e["number"], e["steps"], e["trained_on"]) for e in report["episodes"]] == [
        (3, 3, False),
        (0, 6, True),
    ]
    assert {e["instruction"] for e in report["episodes"]} == set(INSTRUCTIONS)
    for errors in (report["all"], *report["episodes"]):
        for who in ("model", "repeat", "mean"):
            assert set(errors[who]["by_joint"]) == set(NAMES)
            assert set(errors[who]["images"]) == {m.name for m in MODALITIES}
    # The third joint never moves.
    assert report["all"]["repeat"]["by_joint"]["joint_2"] == report["all"]["mean"]["by_joint"]["joint_2"] == 0
    assert report["all"]["model"]["joints"] > 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("episode 3 (held out)") and told[1].startswith("episode 0 (trained on)")


def test_errors_are_weighted_by_steps_and_the_mean_is_of_the_training(tmp_path: Path, data: Path) -> None:
    checkpoint(tmp_path, trained_on=data)
    assert run(tmp_path, data, "--episode", "all", "--no_video") == 0
    assert not list((tmp_path / "out").glob("*.mp4"))
    report = json.loads((tmp_path / "out" / "errors_sarnn_run1_1.json").read_text())
    steps = np.array([e["steps"] - 1 for e in report["episodes"]])
    roots = np.array([e["model"]["joints"] for e in report["episodes"]])
    assert report["all"]["model"]["joints"] == pytest.approx(np.sqrt((roots**2) @ steps / steps.sum()))
    joints = np.load(data / "train" / "joints.npy")
    lengths = np.load(data / "train" / "lengths.npy")
    mean = np.concatenate([j[:n] for j, n in zip(joints, lengths, strict=True)]).mean(axis=0)
    held_out = np.load(data / "test" / "joints.npy")[0][1:3]
    expected = np.sqrt(np.square(held_out - mean).mean())
    (last,) = (e for e in report["episodes"] if not e["trained_on"])
    assert last["mean"]["joints"] == pytest.approx(expected, rel=1e-5)


def test_predicted_joints_are_told_in_the_report(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(tmp_path)
    errors = []
    for arguments in ([], ["--predicted_joints", "joint_0", "joint_1"]):
        assert run(tmp_path, data, "--episode", "0", "--no_video", *arguments) == 0
        report = json.loads((tmp_path / "out" / "errors_sarnn_run1_1.json").read_text())
        assert report["predicted_joints"] == arguments[1:]
        errors.append(report["all"]["model"]["joints"])
    assert errors[0] != errors[1]
    assert run(tmp_path, data, "--episode", "0", "--no_video", "--predicted_joints", "gripper") == 1
    assert "predicted_joints must be of ['joint_0', 'joint_1', 'joint_2']" in capsys.readouterr().err


def test_held_out_episodes_are_the_default(tmp_path: Path, data: Path) -> None:
    checkpoint(tmp_path, trained_on=data)
    assert run(tmp_path, data, "--no_video") == 0
    report = json.loads((tmp_path / "out" / "errors_sarnn_run1_1.json").read_text())
    assert [e["number"] for e in report["episodes"]] == [3]


@pytest.mark.parametrize("known", [True, False])
def test_of_other_data_nobody_says_what_was_trained_on(
    known: bool, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor do their episodes stand in for the training's as a baseline; their own test part is the default."""
    other = write_data(tmp_path / "other", (3, 5, 4, 4), held_out=2)
    checkpoint(tmp_path, trained_on=data if known else None)
    assert run(tmp_path, other, "--no_video") == 0
    report = json.loads((tmp_path / "out" / "errors_sarnn_run1_1.json").read_text())
    assert [(e["number"], e["trained_on"]) for e in report["episodes"]] == [(2, None), (3, None)]
    assert report["predictors"].keys() == report["all"].keys() == {"model", "repeat"}
    told = capsys.readouterr()
    assert told.out.startswith("episode 2 (of other data): joints [rad]: model ")
    assert "training mean" not in told.out
    (other / "test").rename(other / "left out")
    np.save(other / "train" / "lengths.npy", np.array([3, 5]))
    assert run(tmp_path, other, "--no_video") == 0
    report = json.loads((tmp_path / "out" / "errors_sarnn_run1_1.json").read_text())
    assert [e["number"] for e in report["episodes"]] == [0, 1]


def test_the_data_are_read_as_in_training(tmp_path: Path, data: Path) -> None:
    folder = checkpoint(tmp_path)
    config = "make_prepared.stride = 2\nunknown_to_this.program = 1\nmake_adam.learning_rate = 1\n"
    (folder / checkpoint_folder.CONFIG).write_text(config)
    assert run(tmp_path, data, "--episode", "0", "--no_video") == 0
    assert steps_of_first(tmp_path) == 3
    assert run(tmp_path, data, "--episode", "0", "--no_video", "--stride", "3") == 0
    assert steps_of_first(tmp_path) == 2


def test_what_the_training_made_ready_is_used(tmp_path: Path, data: Path) -> None:
    checkpoint(tmp_path)
    (tmp_path / "log" / "prepared").mkdir()
    assert run(tmp_path, data, "--episode", "0", "--no_video") == 0
    made = sorted(p for p in (tmp_path / "log" / "prepared").rglob("*") if p.is_file())
    assert made
    before = [p.stat().st_mtime_ns for p in made]
    assert run(tmp_path, data, "--episode", "1", "--no_video") == 0
    assert [p.stat().st_mtime_ns for p in made] == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--episode", "9"], "number below 4"),
        (["--episode", "-1"], ""),
        (["--episode", "nobody"], "number below 4"),
        (["--gin_bindings", "nobody.knows = 1"], "nobody"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(tmp_path)
    try:
        assert run(tmp_path, data, "--no_video", *arguments) == 1
    except SystemExit as stopped:
        assert stopped.code == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("arguments", [["--input_param", "1.5"], ["--input_param", "nan"], ["--stride", "0"]])
def test_arguments_out_of_range(arguments: list[str], tmp_path: Path, data: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, data, *arguments)
    assert stopped.value.code == 2


def test_data_and_checkpoints_that_do_not_fit(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, data) == 1
    assert "No checkpoint" in capsys.readouterr().err
    folder = checkpoint(tmp_path)
    assert run(tmp_path, tmp_path / "nothing") == 1
    assert "no such folder" in capsys.readouterr().err
    (folder / "weights.npz").write_bytes(b"PK\x03\x04 cut")
    assert run(tmp_path, data) == 1
    assert "not a whole file of weights" in capsys.readouterr().err
    (folder / "sarnn.json").write_text("[]")
    assert run(tmp_path, data) == 1
    assert "sarnn.json" in capsys.readouterr().err
