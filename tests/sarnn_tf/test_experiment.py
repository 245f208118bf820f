"""From the command line to a trained SARNN: shipped configurations, the frozen CLIP, pretrained weights."""

import json
from pathlib import Path

import gin
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from core import checkpoint_folder
from sarnn_tf import experiment
from sarnn_tf.description import read_description
from sarnn_tf.frozen_clip import open_frozen_clip, random_frozen_clip
from sarnn_tf.pytorch.torch_checkpoint import write_pth
from sarnn_tf.pytorch.torch_layout import to_torch
from sarnn_tf.train_flags import bindings
from tests.sarnn_tf.test_train_flags import parse
from tests.sarnn_tf.training_runs import (
    ALL_MODALITIES,
    CONFIGS,
    INSTRUCTIONS,
    STAND_IN,
    configure,
    make,
    options,
    train,
    write_data,
)
from training.loop import LoopSettings, run

SMALL = (
    "--gin_bindings=colour/sarnn_tf.ImageModality.size = (16, 16)",
    "--gin_bindings=sarnn_tf.make_frozen_clip.stand_in = " + repr(STAND_IN),
)


@pytest.fixture(autouse=True)
def no_configuration():
    gin.clear_config()
    yield
    gin.clear_config()


# === Configurations ===


@pytest.mark.parametrize(
    ("config", "model", "changes", "modalities"),
    [
        ("sarnn", "sarnn", (), 1),
        pytest.param("clip_sarnn", "clip_sarnn", (), 1, marks=pytest.mark.heavy),
        pytest.param(
            "clip_sarnn",
            "clip_sarnn",
            (ALL_MODALITIES, "sarnn_tf.make_description.use_clip = False"),
            4,
            marks=pytest.mark.heavy,
        ),
        ("clip_sarnn_tiny", "clip_sarnn", (ALL_MODALITIES,), 4),
    ],
)
def test_shipped_configurations_make_a_step(
    config: str, model: str, changes: tuple[str, ...], modalities: int, tmp_path: Path
) -> None:
    trainable = make(tmp_path, *changes, config=config, model=model)
    batch = next(iter(trainable.batches(0)))
    before = [v.numpy() for v in trainable.model.trainable_variables]
    scalars = trainable.train_step(batch)
    assert np.isfinite(float(scalars["loss"])) and trainable.step == 1
    after = [v.numpy() for v in trainable.model.trainable_variables]
    assert sum(not np.array_equal(b, a) for b, a in zip(before, after, strict=True)) > 0.8 * len(after)
    assert len(batch.images) == len(trainable.description.modalities) == modalities
    assert LoopSettings(tmp_path).early_stopping_patience is not None


def test_every_configuration_is_tested() -> None:
    assert {p.stem for p in CONFIGS.glob("*sarnn*.gin")} == {"sarnn", "clip_sarnn", "clip_sarnn_tiny"}


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (
            "sarnn",
            "NUM_EPOCHS 10000, rec_dim 50, k_dim 5, image 0.1, joint 1.0, point 0.1, heatmap_size 0.1, "
            "temperature 1e-4, joints 0.1, vmin 0.0, vmax 1.0, decay_end 1000, make_adam.learning_rate 1e-3, "
            "epsilon 1e-7, early_stopping_patience 1000",
        ),
        (
            "clip_sarnn",
            "NUM_EPOCHS 6000, rec_dim 128, k_dim 5, image 1.0, joint 1.1, point 1.0, heatmap_size 0.1, "
            "temperature 5e-5, vmin 0.0, vmax 1.0, decay_end 1000, make_adamw.learning_rate 1e-4, "
            "weight_decay 1e-2, epsilon 1e-8, stride 2, early_stopping_patience 20",
        ),
    ],
)
def test_published_values_are_in_the_configurations(model: str, published: str) -> None:
    text = (CONFIGS / f"{model}.gin").read_text()
    for pair in published.split(", "):
        name, _, value = pair.partition(" ")
        lines = [line for line in text.splitlines() if line.split(" = ")[0].endswith(name)]
        assert [float(line.split(" = ")[1]) for line in lines] == [float(value)], name


# === The frozen CLIP ===


def test_without_a_clip_the_way_to_one_is_told(tmp_path: Path) -> None:
    asked = options(tmp_path, "clip_sarnn")
    configure("clip_sarnn", stand_in=False)
    with pytest.raises(ValueError, match=r"clip_tf\.convert .*--clip_checkpoint.*--no_clip"):
        experiment.make_trainable(asked, tf.distribute.get_strategy())
    assert not asked.checkpoint_dir.exists()


def test_the_runs_clip_is_kept_and_used_again(tmp_path: Path) -> None:
    converted = tmp_path / "converted"
    random_frozen_clip(STAND_IN, seed=3).save(converted)
    named = f"sarnn_tf.make_frozen_clip.folder = '{converted}'"
    folder = options(tmp_path).checkpoint_dir
    first = make(tmp_path, named, model="clip_sarnn")
    assert not folder.exists()  # Nothing is written before it is certain that the run may begin there.
    first.write_run_files(folder)
    kept = open_frozen_clip(folder / "clip")
    assert kept.fingerprint == first.description.clip_fingerprint == open_frozen_clip(converted).fingerprint
    assert (first.description.clip_features, first.description.instructions) == (8, INSTRUCTIONS)
    other = tmp_path / "other"
    random_frozen_clip(STAND_IN, seed=4).save(other)
    named_other = f"sarnn_tf.make_frozen_clip.folder = '{other}'"
    # A run that left no checkpoint is begun anew.
    again = make(tmp_path, named_other, model="clip_sarnn")
    again.write_run_files(folder)
    assert open_frozen_clip(folder / "clip").fingerprint == again.description.clip_fingerprint
    assert again.description.clip_fingerprint != kept.fingerprint
    first.write_run_files(folder)
    # A resumed run needs it not to be named again; another one is refused.
    checkpoint_folder.publish(folder, 0, first.save)
    resumed = {"model": "clip_sarnn", "resume_checkpoint": folder}
    assert make(tmp_path, **resumed).fingerprint() == first.fingerprint()
    with pytest.raises(ValueError, match="the frozen CLIP that it began with"):
        make(tmp_path, named_other, **resumed).write_run_files(folder)
    assert open_frozen_clip(folder / "clip").fingerprint == kept.fingerprint


# === Pretrained weights ===


def weights_of(trainable) -> list[np.ndarray]:
    return [v.numpy() for v in trainable.model.trainable_variables]


def test_weights_to_begin_with(tmp_path: Path) -> None:
    """From a run, a checkpoint, and EIPL's file."""
    first = make(tmp_path, seed=1)
    folder = tmp_path / "first"
    step = checkpoint_folder.publish(folder, 0, first.save)
    for path in (folder, step):
        again = make(tmp_path, pretrained_checkpoint=path)
        for one, other in zip(weights_of(first), weights_of(again), strict=True):
            np.testing.assert_array_equal(one, other)
        assert again.step == 0


@pytest.mark.parametrize("compiled", [False, True])
def test_eipls_file_is_begun_with(compiled: bool, tmp_path: Path) -> None:
    first = make(tmp_path, seed=1)
    write_pth(tmp_path / "SARNN.pth", to_torch(first.model, 16, 16, compiled=compiled))
    again = make(tmp_path, pretrained_checkpoint=tmp_path / "SARNN.pth")
    for one, other in zip(weights_of(first), weights_of(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    first = make(tmp_path)
    (tmp_path / "saved").mkdir()
    first.save(tmp_path / "saved")
    wider = "sarnn_tf.make_description.rec_dim = 7"
    with pytest.raises(ValueError, match="does not fit the network"):
        make(tmp_path, wider, pretrained_checkpoint=tmp_path / "saved")
    partly = "sarnn_tf.make_trainable.new_ok = ('rec/.*', 'decoder_joint/kernel', '.*/decoder_point/kernel')"
    make(tmp_path, wider, partly, pretrained_checkpoint=tmp_path / "saved")
    with pytest.raises(FileNotFoundError):
        make(tmp_path, pretrained_checkpoint=tmp_path / "nothing")


def test_weights_for_another_clip_are_refused(tmp_path: Path) -> None:
    make(tmp_path, model="clip_sarnn").save(checkpoint := _folder(tmp_path / "saved"))
    other = "sarnn_tf.make_frozen_clip.seed = 5"
    with pytest.raises(ValueError, match="another frozen CLIP"):
        make(tmp_path, other, model="clip_sarnn", pretrained_checkpoint=checkpoint)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


# === Resumed runs ===


def test_arguments_follow_how_long_a_resumed_run_trains(tmp_path: Path) -> None:
    """The rest stays as it was given first."""

    def arguments_of(epochs: int, **others: object) -> dict[str, object]:
        return {"epoch": epochs, "num_epochs": epochs, "max_steps": None, **others}

    first = make(tmp_path, arguments=arguments_of(3, pretrained_checkpoint="SARNN.pth"))
    folder = options(tmp_path).checkpoint_dir
    first.write_run_files(folder)
    begun = arguments(folder)
    assert (begun["epoch"], begun["rec_dim"]) == (3, 6)
    step = checkpoint_folder.publish(folder, 0, first.save)
    for resumed, epochs in ((folder, 5), (step, 7)):
        again = make(
            tmp_path, resume_checkpoint=resumed, arguments=arguments_of(epochs, resume_checkpoint="x")
        )
        again.write_run_files(folder)
        assert arguments(folder) == begun | {"epoch": epochs, "num_epochs": epochs}
    branch = tmp_path / "log" / "branch"
    make(tmp_path, resume_checkpoint=folder, arguments=arguments_of(9)).write_run_files(branch)
    assert (arguments(branch)["epoch"], arguments(folder)["epoch"]) == (9, 7)


@pytest.mark.parametrize("name", ["other", "run"])
def test_a_run_that_is_refused_changes_no_folder(name: str, tmp_path: Path) -> None:
    """Neither that of a new name, nor an earlier run's."""
    folder = options(tmp_path).checkpoint_dir
    run(make(tmp_path, model="clip_sarnn", arguments={"epoch": 1}), LoopSettings(folder, max_steps=1))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    target = folder.parent / name
    resumed = {"resume_checkpoint": folder} if name == "other" else {}
    other = make(tmp_path, model="clip_sarnn", batch_size=1, arguments={"epoch": 2}, **resumed)
    with pytest.raises(ValueError, match="batch_size: 2 before, 1 now|holds an earlier run"):
        run(other, LoopSettings(target), **({"resume_from": folder} if resumed else {}))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert name == "run" or [path.name for path in target.iterdir()] == ["run.lock"]


@pytest.mark.parametrize("flag", ["resume_checkpoint", "pretrained_checkpoint"])
def test_what_is_not_there_is_said_before_data_are_prepared(flag: str, tmp_path: Path) -> None:
    typo = tmp_path / "log" / "typo"
    with pytest.raises(FileNotFoundError, match=f"no such run or checkpoint. Received: {typo}"):
        make(tmp_path, checkpoint_dir=typo, **{flag: typo})
    assert not (tmp_path / "log").exists()
    typo.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="No checkpoint"):
        make(tmp_path, checkpoint_dir=typo, **{flag: typo})
    assert [p.name for p in (tmp_path / "log").rglob("*")] == ["typo"]


def test_a_size_for_all_kinds_of_images_that_each_has_by_itself_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "sarnn_tf.ImageModality.size = (32, 32)")
    assert "sarnn_tf.ImageModality.size = (32, 32) has no effect" in caplog.text
    assert "{'image': (16, 16)}" in caplog.text
    caplog.clear()
    make(tmp_path, ALL_MODALITIES, "sarnn_tf.ImageModality.k_dim = 3", model="clip_sarnn")
    assert "has no effect" not in caplog.text


# === What is refused ===


def test_data_are_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trained on --data_dir"):
        make(tmp_path, data_dir=None)
    with pytest.raises(ValueError, match="trained on --data_dir"):
        make(tmp_path, dataset_file=tmp_path / "x.npz")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        make(tmp_path, data_dir=tmp_path / "nothing")


def test_parts_cannot_be_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no parts to freeze"):
        make(tmp_path, frozen=("transformer",))


def test_one_device(tmp_path: Path) -> None:
    trainable = make(tmp_path, strategy=tf.distribute.OneDeviceStrategy("/cpu:0"))
    assert np.isfinite(float(trainable.train_step(next(iter(trainable.batches(0))))["loss"]))
    with pytest.raises(ValueError, match="one device.*MirroredStrategy of 1 replicas"):
        make(tmp_path, strategy=tf.distribute.MirroredStrategy(["/cpu:0"]))


def test_eipls_model_sees_one_camera(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sees 'image' alone"):
        make(tmp_path, ALL_MODALITIES, config="clip_sarnn", model="sarnn")


# === Commands ===


def arguments(folder: Path) -> dict[str, object]:
    text = (folder / "args.json").read_text()
    value = json.loads(text)
    assert text == json.dumps(value, indent=4, sort_keys=True) + "\n"
    return value


def command(folder: Path) -> tuple[str, ...]:
    """Flags of a small run of CLIP-SARNN."""
    return (
        "--model=clip_sarnn", "--tag=clip_run1", "--config_file=configs/clip_sarnn_tiny.gin", *SMALL,
        f"--data_dir={write_data(folder / 'data')}", "--k_dim=3", "--img_loss=0.7", "--batch_size=2",
    )  # fmt: skip


def test_a_run_of_clip_sarnn(tmp_path: Path) -> None:
    """Everything is under log/TAG, and a second run of the name is refused."""
    flags = command(tmp_path)
    done = train(tmp_path, *flags, "--epoch=1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "random weights" in done.stderr
    root = tmp_path / "log" / "clip_run1"
    assert {p.name for p in root.iterdir()} >= {
        "args.json", "best.json", "clip", "curves.png", "last.json", "loss.png", "metrics.csv", "tensorboard",
    }  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "log"]
    description = read_description(checkpoint_folder.resolve(root))
    assert description.use_clip and description.modalities[0].k_dim == 3
    found = arguments(root)
    expected = {
        "model": "clip_sarnn", "tag": "clip_run1", "k_dim": 3, "img_loss": 0.7, "joint_loss": 1.1, "epoch": 1,
        "batch_size": 2, "no_clip": False, "rec_dim": 64, "temperature": 5e-5, "log_dir": "log",
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    events = EventAccumulator(str(root / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"Loss/train", "Loss/test", "validation/prediction/image", "validation/joint"} <= tags

    again = train(tmp_path, *flags, "--epoch=2")
    assert again.returncode == 1 and "Traceback" not in again.stderr
    assert "--tag" in again.stderr and "--resume_checkpoint=log/clip_run1" in again.stderr


@pytest.mark.heavy
def test_a_run_goes_on_where_it_is_resumed(tmp_path: Path) -> None:
    flags = command(tmp_path)
    root = tmp_path / "log" / "clip_run1"
    assert train(tmp_path, *flags, "--epoch=1").returncode == 0
    before = arguments(root)
    resumed = train(tmp_path, *flags[2:], flags[0], "--epoch=2", "--resume_checkpoint=log/clip_run1")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert json.loads((root / "last.json").read_text())["step"] == 4
    assert arguments(root) == before | {"epoch": 2, "num_epochs": 2}
    assert sorted(p.name for p in (tmp_path / "log").iterdir()) == ["clip_run1", "prepared"]


def test_flags_reach_model_and_losses(tmp_path: Path) -> None:
    values = parse(
        "--model=clip_sarnn", "--no_clip", "--k_dim=2", "--rec_dim=9", "--img_loss=0.5", "--joint_loss=2",
        "--pt_loss=0.25", "--heatmap_size=0.2", "--temperature=1e-3", "--stdev=0.03", "--vmin=-1",
        "--vmax=0.9",
    )  # fmt: skip
    trainable = make(tmp_path, *bindings(values), model="clip_sarnn")
    found = trainable.description
    assert (found.use_clip, found.rec_dim, found.modalities[0].k_dim) == (False, 9, 2)
    assert (found.heatmap_size, found.temperature, found.vmin, found.vmax) == (0.2, 1e-3, -1.0, 0.9)
    assert trainable.model.rec_dim == 9 and trainable.model.streams["image"].k_dim == 2
    said = trainable.fingerprint()
    assert said["weights"] == {"image": 0.5, "joint": 2.0, "point": 0.25}
    assert said["noise"] == {"images": 0.03, "joints": 0.0, "augment": False}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("flags", "rec_dim", "clip"),
    [
        (("--model=sarnn", "--rec_dim=20", "--stdev=0.2"), 20, False),
        (("--model=clip_sarnn", "--no_clip", "--stdev=0.2"), 128, False),
    ],
)
def test_runs_without_clip(flags: tuple[str, ...], rec_dim: int, clip: bool, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    done = train(tmp_path, *flags, SMALL[0], "--data_dir=data", "--epoch=1", "--log_dir=logs")
    assert done.returncode == 0, done.stderr[-3000:]
    (root,) = (p for p in (tmp_path / "logs").iterdir() if p.name != "prepared")
    assert len(root.name) == len("20250304_0506_07")
    description = read_description(checkpoint_folder.resolve(root))
    assert (description.rec_dim, description.use_clip) == (rec_dim, clip)
    assert arguments(root)["stdev"] == 0.2
    assert not (root / "clip").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=rt1", "--k_dim=3"], "not for --model=rt1. Received: --k_dim"),
        (["--model=sarnn", "--no_clip"], "not for --model=sarnn. Received: --no_clip"),
    ],
)
def test_flags_of_another_model(flags: list[str], message: str, tmp_path: Path) -> None:
    done = train(tmp_path, *flags, "--data_dir=data")
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_writes_nothing_elsewhere(tmp_path: Path) -> None:
    """Prepared data lie beside the run, for all runs; another place by gin."""
    place = f"sarnn_tf.make_trainable.prepared_dir = '{tmp_path / 'cache'}'"
    trainable = make(tmp_path, place)
    run(trainable, LoopSettings(options(tmp_path).checkpoint_dir, max_steps=1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "data", "log"]
    assert [p.name for p in (tmp_path / "log").iterdir()] == ["run"]
