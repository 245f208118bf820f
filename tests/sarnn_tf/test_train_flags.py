"""SARNN's flags: published names, bindings, run folders, and what is refused."""

import datetime
import json
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from sarnn_tf import train_flags

NOW = datetime.datetime(2025, 3, 4, 5, 6, 7)


def parse(*arguments: str) -> flags.FlagValues:
    """The flags of train.py, of their own."""
    values = flags.FlagValues()
    flags.DEFINE_enum("model", "rt1", ["rt1", "clip_rt", "sarnn", "clip_sarnn"], "", flag_values=values)
    for name in ("checkpoint_dir", "resume_checkpoint", "dataset_file", "split_file"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    flags.DEFINE_string("loss_type", "smooth_l1", "", flag_values=values)
    flags.DEFINE_integer("image_size", 236, "", flag_values=values)
    flags.DEFINE_integer("num_epochs", None, "", flag_values=values)
    flags.DEFINE_bool("freeze_transformer", False, "", flag_values=values)
    train_flags.define(values)
    values(["train.py", *arguments])
    return values


def test_flags_left_alone_bind_nothing() -> None:
    for model in ("rt1", "sarnn", "clip_sarnn"):
        values = parse(f"--model={model}")
        train_flags.check(values)
        assert train_flags.bindings(values) == []
        assert train_flags.num_epochs(values) is None


def test_published_flags_bind_parameters() -> None:
    values = parse(
        "--model=clip_sarnn", "--no_clip", "--k_dim=7", "--rec_dim=64", "--stdev=0.03", "--img_loss=0.5",
        "--joint_loss=2", "--pt_loss=0", "--heatmap_size=0.2", "--temperature=1e-3", "--vmin=-1",
        "--vmax=0.9", "--epoch=12",
    )  # fmt: skip
    train_flags.check(values)
    assert sorted(train_flags.bindings(values)) == [
        "sarnn_tf.ImageModality.k_dim = 7",
        "sarnn_tf.make_description.heatmap_size = 0.2",
        "sarnn_tf.make_description.rec_dim = 64",
        "sarnn_tf.make_description.temperature = 0.001",
        "sarnn_tf.make_description.use_clip = False",
        "sarnn_tf.make_description.vmax = 0.9",
        "sarnn_tf.make_description.vmin = -1.0",
        "sarnn_tf.make_loss_weights.image = 0.5",
        "sarnn_tf.make_loss_weights.joint = 2.0",
        "sarnn_tf.make_loss_weights.point = 0.0",
        "sarnn_tf.make_noise.images = 0.03",
    ]
    assert train_flags.num_epochs(values) == 12


def test_stdev_is_the_joints_for_eipls_model() -> None:
    assert train_flags.bindings(parse("--model=sarnn", "--stdev=0.2")) == ["sarnn_tf.make_noise.joints = 0.2"]


def test_a_path_is_quoted() -> None:
    (bound,) = train_flags.bindings(parse("--model=clip_sarnn", "--clip_checkpoint=it's \\ %a"))
    name, _, value = bound.partition(" = ")
    assert name == "sarnn_tf.make_frozen_clip.folder" and eval(value) == "it's \\ %a"


@pytest.mark.parametrize("model", ["rt1", "clip_rt"])
@pytest.mark.parametrize(
    "flag", ["--no_clip", "--k_dim=5", "--tag=x", "--log_dir=x", "--epoch=3", "--stdev=0.1"]
)
def test_other_models_refuse_these_flags(model: str, flag: str) -> None:
    with pytest.raises(ValueError, match=f"not for --model={model}. Received: {flag.partition('=')[0]}$"):
        train_flags.check(parse(f"--model={model}", flag))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=sarnn", "--no_clip"], "not for --model=sarnn. Received: --no_clip"),
        (["--model=sarnn", "--clip_checkpoint=x"], "not for --model=sarnn. Received: --clip_checkpoint"),
        (["--model=sarnn", "--dataset_file=x.npz"], "--dataset_file is not for --model=sarnn: .*--data_dir"),
        (["--model=clip_sarnn", "--image_size=64"], "ImageModality.size"),
        (["--model=clip_sarnn", "--loss_type=l1"], "--img_loss"),
        (["--model=clip_sarnn", "--split_file=x"], "--split_file is not for"),
        (["--model=clip_sarnn", "--freeze_transformer"], "Received: --freeze_transformer"),
        (["--model=clip_sarnn", "--no_clip", "--clip_checkpoint=x"], "Either --no_clip or"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_flags.check(parse(*arguments))


def test_both_names_of_the_passes() -> None:
    assert train_flags.num_epochs(parse("--model=rt1", "--num_epochs=4")) == 4
    assert train_flags.num_epochs(parse("--model=sarnn", "--num_epochs=4", "--epoch=4")) == 4
    with pytest.raises(ValueError, match="Received: 5 and 4"):
        train_flags.num_epochs(parse("--model=sarnn", "--num_epochs=4", "--epoch=5"))


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["--model=rt1"], None),
        (["--model=rt1", "--checkpoint_dir=a/b"], Path("a/b")),
        (["--model=sarnn"], Path("log/20250304_0506_07")),
        (["--model=sarnn", "--tag=one"], Path("log/one")),
        (["--model=clip_sarnn", "--tag=one", "--log_dir=/x/"], Path("/x/one")),
        (["--model=clip_sarnn", "--checkpoint_dir=a/b"], Path("a/b")),
        (["--model=sarnn", "--resume_checkpoint=log/old"], Path("log/old")),
        (["--model=sarnn", "--resume_checkpoint=log/old", "--tag=new"], Path("log/new")),
    ],
)
def test_run_folders(arguments: list[str], folder: Path | None) -> None:
    assert train_flags.run_folder(parse(*arguments), NOW) == folder


def test_a_checkpoint_that_is_resumed_names_its_run(tmp_path: Path) -> None:
    step = tmp_path / "run" / "step-00000004"
    step.mkdir(parents=True)
    (step / "train_state.json").touch()
    assert train_flags.run_folder(parse("--model=sarnn", f"--resume_checkpoint={step}")) == tmp_path / "run"


@pytest.mark.parametrize("tag", ["", ".", "..", "a/b", "/a", "prepared"])
def test_tags_that_are_no_name(tag: str) -> None:
    with pytest.raises(ValueError, match="--tag must be the name of a folder"):
        train_flags.run_folder(parse("--model=sarnn", f"--tag={tag}"))


def test_two_names_of_the_folder() -> None:
    with pytest.raises(ValueError, match="--checkpoint_dir and --log_dir, --tag"):
        train_flags.run_folder(parse("--model=sarnn", "--tag=x", "--log_dir=y", "--checkpoint_dir=z"))


@pytest.mark.parametrize("left", ["last.json", "metrics.csv", "step-00000002", "SARNN.pth", "CLIP_SARNN.pth"])
def test_an_earlier_run_is_kept(left: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    arguments = ["--model=clip_sarnn", f"--log_dir={tmp_path}", "--tag=run"]
    # What a run leaves that ended before its first checkpoint does not stand in the way of another start.
    (tmp_path / "run" / "args.json").touch()
    assert train_flags.run_folder(parse(*arguments)) == tmp_path / "run"
    (tmp_path / "run" / left).touch()
    with pytest.raises(ValueError, match=f"{left}.*--tag.*--resume_checkpoint={tmp_path / 'run'}"):
        train_flags.run_folder(parse(*arguments))
    resumed = parse(*arguments, f"--resume_checkpoint={tmp_path / 'run'}")
    assert train_flags.run_folder(resumed) == tmp_path / "run"


def test_no_tensorflow_is_needed() -> None:
    code = "import sys, json; from sarnn_tf import train_flags; print(json.dumps(sorted(sys.modules)))"
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert not {"tensorflow", "numpy", "gin"} & set(json.loads(done.stdout))
