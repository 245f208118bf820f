"""CLIP-RT trains, saves, resumes and answers through the frame's own loop and commands."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import gin
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from clip_tf.clip_model import openclip_variables
from clip_tf.converted_folder import save_clip
from clip_tf.rt import experiment, samples, train_flags, write_csv
from clip_tf.rt.policy_folder import PolicyDescription
from clip_tf.rt.serving_policy import load_policy
from clip_tf.rt.towers import load_weights, part_of, trained_parameters
from core.train_options import TrainOptions
from core.trainable import Fingerprinted
from tests.clip_tf.rt.clip_rt_data import TINY_CONFIG, VOCABULARY, tiny_clip, write_episodes
from tests.clip_tf.rt.clip_rt_data import write_csv as make_csv
from tests.shared_data import shared
from training import strategy as _strategy  # noqa: F401  (registers make_strategy)
from training.loop import LoopSettings, run

ROOT = Path(__file__).resolve().parent.parent.parent.parent
CONFIGS = ROOT / "configs"


@pytest.fixture(autouse=True)
def no_configuration():
    gin.clear_config()
    yield
    gin.clear_config()


def options(folder: Path, **changes) -> TrainOptions:
    values = {
        "checkpoint_dir": folder / "run",
        "dataset_file": None,
        "data_dir": None,
        "split_file": folder / "split.npz",
        "batch_size": 8,
        "image_size": 16,
        "loss_type": "smooth_l1",
        "pretrained_checkpoint": None,
        "frozen": (),
        "seed": 0,
    }
    return TrainOptions(**{**values, **changes})


def make(folder: Path, bindings=(), strategy=None, **changes):
    """A trainable on a CSV of coloured images with the tiny towers."""
    VOCABULARY.save(folder / "v.json")
    gin.clear_config()
    with gin.unlock_config():
        gin.bind_parameter("clip_rt.make_model.fields", TINY_CONFIG)
        gin.parse_config(
            [
                f"clip_rt.make_vocabulary.source = '{folder / 'v.json'}'",
                "clip_rt.make_schedule.warmup_steps = 2",
                "clip_rt.make_schedule.peak = 3e-3",
                "clip_rt.make_schedule.epochs = None",
                "clip_rt.open_csv.validation_fraction = 0.3",
                *bindings,
            ]
        )
    if "data_dir" not in changes and "dataset_file" not in changes:
        path = folder / "train.csv"
        changes["dataset_file"] = path if path.exists() else make_csv(folder)
    strategy = strategy or tf.distribute.get_strategy()
    return experiment.make_trainable(options(folder, **changes), strategy)


def weights_of(trainable):
    return {name: v.numpy() for name, v in openclip_variables(trainable.model).items()}


def test_it_learns_the_colours(tmp_path):
    trainable = make(tmp_path, ["clip_rt.make_trainable.augment = False"])
    before = trainable.evaluate_part(samples.TRAIN).scalars
    losses = []
    for epoch in range(28):
        for batch in trainable.batches(epoch):
            losses.append(float(trainable.train_step(batch)["loss"]))
    after = trainable.evaluate_part(samples.TRAIN)
    assert isinstance(trainable, Fingerprinted)
    assert after.scalars["loss"] < 0.5 * before["loss"]
    assert after.scalars["top1"] > 0.9
    assert after.scalars["top5"] == 1.0
    assert after.scalars["majority"] < 0.4
    assert after.images["confusion_matrix"].dtype == np.uint8
    assert 1.0 <= float(tf.exp(trainable.model.logit_scale)) <= 100.0001


def test_validation_is_the_training_loss(tmp_path):
    """One batch of all held-out samples, and no step between: the two must agree."""
    trainable = make(tmp_path, ["clip_rt.make_trainable.augment = False"], batch_size=64)
    (batch,) = list(trainable.batches(0))
    evaluated = trainable.evaluate_part(samples.TRAIN).scalars["loss"]
    assert float(trainable.train_step(batch)["loss"]) == pytest.approx(evaluated, rel=1e-5)


@pytest.mark.heavy  # By default the golden training steps show it, with chunks=4.
def test_chunks_make_the_same_step(tmp_path):
    whole = make(tmp_path)
    chunked = make(tmp_path, ["clip_rt.make_trainable.chunks = 4"])
    for _ in range(2):
        batch = next(iter(whole.batches(0)))
        one, other = whole.train_step(batch), chunked.train_step(batch)
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-5)
        assert float(one["gradient_norm"]) == pytest.approx(float(other["gradient_norm"]), rel=1e-4)
    ours, theirs = weights_of(whole), weights_of(chunked)
    for name, value in ours.items():
        if not name.endswith("in_proj_bias"):  # Keys' biases have no gradient but round-off.
            np.testing.assert_allclose(value, theirs[name], atol=1e-4, err_msg=name)


def test_validation_takes_no_more_at_once_than_training(tmp_path):
    """A batch that is trained in chunks, for it does not fit, would not fit here either."""
    whole = make(tmp_path, batch_size=12)
    chunked = make(tmp_path, ["clip_rt.make_trainable.chunks = 4"], batch_size=12)
    sizes, encode = [], chunked._features
    chunked._features = lambda rows: (sizes.append(len(rows[samples.LABEL])), encode(rows))[1]
    found, expected = (t.evaluate_part(samples.TRAIN).scalars for t in (chunked, whole))
    assert max(sizes) == 3
    assert sum(sizes) == chunked._source.counts(samples.TRAIN).sum()
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("chunks", [1, 2])
def test_the_schedule_ends_with_the_last_step(tmp_path, chunks):
    """A last batch that is left out is no step of the schedule either."""
    bindings = [f"clip_rt.make_trainable.chunks = {chunks}", "clip_rt.make_schedule.epochs = 3"]
    trainable = make(tmp_path, bindings, batch_size=6)
    assert trainable._source.counts(samples.TRAIN).sum() % 6
    assert trainable._schedule.total_steps == 3 * trainable.num_batches()


@pytest.mark.parametrize(
    "frozen", [pytest.param(("image_tower",), marks=pytest.mark.heavy), ("text_tower", "logit_scale")]
)
def test_frozen_parts_stay(tmp_path, frozen):
    trainable = make(tmp_path, frozen=frozen)
    before = weights_of(trainable)
    trainable.train_step(next(iter(trainable.batches(0))))
    after = weights_of(trainable)
    moved = {part_of(name) for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"image_tower", "text_tower", "logit_scale"} - set(frozen)


@pytest.mark.parametrize("frozen", [("trunk",), ("image_tower", "text_tower", "logit_scale")])
def test_what_cannot_be_frozen(frozen):
    with pytest.raises(ValueError, match="Received: "):
        trained_parameters(tiny_clip(), frozen)


@pytest.mark.heavy
def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path):
    bindings = ["clip_rt.make_trainable.balance = 0.5"]

    def settings(name, **changes):
        return LoopSettings(checkpoint_dir=tmp_path / name, num_epochs=2, validate_every_epochs=2, **changes)

    straight = make(tmp_path, bindings)
    run(straight, settings("straight"))
    first = make(tmp_path, bindings)
    run(first, settings("resumed", max_steps=3))
    second = make(tmp_path, bindings)
    run(second, settings("resumed"), tmp_path / "resumed")
    assert second.step == straight.step > 3
    for name, value in weights_of(straight).items():
        np.testing.assert_array_equal(value, weights_of(second)[name], err_msg=name)
    with pytest.raises(ValueError, match="optimiser's state does not fit"):
        make(tmp_path, bindings, frozen=("text_tower",)).restore(next((tmp_path / "resumed").glob("step-*")))


def test_what_a_resume_must_have_in_common(tmp_path):
    """Whatever changes the batches or what is learnt changes the fingerprint."""
    changed = [
        make(tmp_path),
        make(tmp_path, batch_size=4),
        make(tmp_path, frozen=("image_tower",)),
        make(tmp_path, ["clip_rt.make_trainable.augment = False"]),
        make(tmp_path, ["clip_rt.make_trainable.balance = 0.5"]),
        make(tmp_path, ["clip_rt.make_trainable.chunks = 2"]),  # It leaves out a smaller last batch.
        make(tmp_path, ["clip_rt.make_description.prompt = 'do {}'"]),
        make(tmp_path, ["clip_rt.open_csv.salt = 'x'", "clip_rt.open_csv.validation_fraction = 0.4"]),
    ]
    fingerprints = [json.dumps(t.fingerprint(), sort_keys=True) for t in changed]
    assert len(set(fingerprints)) == len(fingerprints)
    assert json.dumps(make(tmp_path).fingerprint(), sort_keys=True) == fingerprints[0]


def test_a_checkpoint_is_served_and_begun_with(tmp_path):
    trainable = make(tmp_path)
    result = run(trainable, LoopSettings(checkpoint_dir=tmp_path / "run", num_epochs=2, max_steps=2))
    policy = load_policy(tmp_path / "run")  # The run means its checkpoint.
    assert result.last_folder.parent == tmp_path / "run"
    assert policy.description.vocabulary.phrases == VOCABULARY.phrases
    image = np.full((1, 20, 30, 3), 200, np.uint8)
    asked = {"image": image, "natural_language_instruction": np.array(["do it"])}
    answer, _ = policy.infer(asked, {})
    assert answer.info["phrases"].shape == (1, 4)
    again = make(tmp_path, pretrained_checkpoint=tmp_path / "run")
    for name, value in weights_of(trainable).items():
        np.testing.assert_array_equal(value, weights_of(again)[name])
    assert again.step == 0


def test_weights_of_another_configuration(tmp_path):
    save_clip(tmp_path / "clip", tiny_clip())
    other = {**TINY_CONFIG, "quick_gelu": False}
    model = type(tiny_clip())(type(tiny_clip().config).from_json(other))
    with pytest.raises(ValueError, match="must be of the configuration"):
        load_weights(model, tmp_path / "clip")


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    trainable = make(tmp_path)
    trainable.model.logit_scale.assign(np.nan)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="logit_scale"):
        trainable.save(tmp_path / "folder")
    assert not list((tmp_path / "folder").iterdir())


def test_only_seen_classes(tmp_path):
    trainable = make(
        tmp_path,
        [
            "clip_rt.make_trainable.answer_seen_classes = True",
            "clip_rt.make_vocabulary.source = 'pretrained'",
            "clip_rt.open_rlds_samples.validation_episodes = 2",
        ],
        dataset_file=None,
        data_dir=write_episodes(tmp_path),
    )
    assert trainable._description.classes == (6, 22, 46, 48)
    scalars = trainable.evaluate_part(samples.TRAIN).scalars
    assert scalars["top5"] == 1.0


@pytest.mark.parametrize(
    ("bindings", "changes", "message"),
    [
        ([], {"data_dir": Path("x"), "dataset_file": Path("y")}, "either --dataset_file"),
        (["clip_rt.make_trainable.chunks = 3"], {}, "multiple of replicas"),
        (["clip_rt.make_trainable.chunks = 2"], {"batch_size": 64}, "needs as many samples"),
        (["clip_rt.make_trainable.best_metric = 'top1'"], {}, "best_metric must be one of"),
        (["clip_rt.make_trainable.gradient_clip_norm = 0.0"], {}, "gradient_clip_norm must be"),
        (["clip_rt.make_description.fusion = 'sum'"], {}, "fusion must be one of"),
    ],
)
def test_wrong_settings(tmp_path, bindings, changes, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, bindings, **changes)


def test_a_resumed_run_begins_with_no_weights_of_its_own(tmp_path, caplog):
    """They are the checkpoint's: to draw those of a billion numbers takes minutes."""
    make(tmp_path)
    assert "begins with random towers" in caplog.text
    caplog.clear()
    resumed = make(tmp_path, resume_checkpoint=tmp_path / "run")
    assert "random towers" not in caplog.text
    assert not weights_of(resumed)["visual.conv1.weight"].any()


@pytest.mark.parametrize("flag", ["--split_file=x.npz", "--image_size=64", "--loss_type=l1"])
def test_flags_of_other_models(flag):
    def parsed(*arguments):
        values = flags.FlagValues()
        flags.DEFINE_string("model", "rt1", "", flag_values=values)
        flags.DEFINE_string("split_file", None, "", flag_values=values)
        flags.DEFINE_integer("image_size", 236, "", flag_values=values)
        flags.DEFINE_string("loss_type", "smooth_l1", "", flag_values=values)
        values(["train.py", *arguments])
        return values

    train_flags.check(parsed("--model=clip_rt"))
    train_flags.check(parsed("--model=rt1", flag))
    with pytest.raises(ValueError, match=f"^{flag.partition('=')[0]} is not for --model=clip_rt: "):
        train_flags.check(parsed("--model=clip_rt", flag))


_TWO_DEVICES = """
from core import legacy_keras
import json, pathlib, sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.clip_tf.rt.test_training import make, weights_of

folder = pathlib.Path(sys.argv[1])
alone, two = make(folder), make(folder, strategy=tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"]))
found = {"loss": [], "norm": []}
for one, other in zip(alone.batches(0), two.batches(0)):
    described = [alone.describe(one), two.describe(other)]
    results = [alone.train_step(one), two.train_step(other)]
    found["loss"].append([float(r["loss"]) for r in results])
    found["norm"].append([float(r["gradient_norm"]) for r in results])
(folder / "saved").mkdir()
two.save(folder / "saved")
before = weights_of(two)
ours = weights_of(alone)
found["difference"] = max(
    float(np.abs(ours[n] - before[n]).max()) for n in ours if not n.endswith("in_proj_bias")
)
two.model.logit_scale.assign(0.5)
two.restore(folder / "saved")
found["restored"] = all(bool(np.array_equal(v, before[n])) for n, v in weights_of(two).items())
found["step"] = two.step
found["described"] = described[0] == described[1]
sys.stdout.write(json.dumps(found))
"""


@pytest.mark.heavy
def test_two_devices_train_as_one_does(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _TWO_DEVICES, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert len(found["loss"]) == found["step"] >= 2
    for name in ("loss", "norm"):
        for one, two in found[name]:
            assert one == pytest.approx(two, rel=2e-3), name
    assert found["loss"][0][0] == pytest.approx(found["loss"][0][1], rel=1e-5)
    assert found["difference"] < 2e-3
    assert found["restored"]
    assert found["described"]


# === Configurations and commands ===


@pytest.mark.parametrize("name", ["clip_rt_pretrain", "clip_rt_finetune", "clip_rt_tiny"])
def test_shipped_configurations_make_a_step(name, tmp_path):
    gin.parse_config_files_and_bindings(
        [str(CONFIGS / f"{name}.gin")],
        [
            "clip_rt.make_schedule.epochs = None",
            "clip_rt.open_rlds_samples.image_key = 'observation/image'",
            "clip_rt.open_rlds_samples.validation_episodes = 2",
        ],
    )
    classes = {"clip_rt_finetune": 58}.get(name, 50)
    assert gin.query_parameter("clip_rt.make_optimizer.weight_decay") == (
        0.01 if name == "clip_rt_tiny" else 0.1
    )
    with gin.unlock_config():
        gin.bind_parameter("clip_rt.make_model.fields", TINY_CONFIG)
    trainable = experiment.make_trainable(
        options(tmp_path, data_dir=write_episodes(tmp_path)), tf.distribute.get_strategy()
    )
    assert len(trainable._description.vocabulary) == classes
    if name != "clip_rt_pretrain":  # In which a step is as in the other.
        scalars = trainable.train_step(next(iter(trainable.batches(0))))
        assert np.isfinite(float(scalars["loss"]))


def test_published_values_are_in_the_configurations():
    for name, warmup in (("pretrain", 10000), ("finetune", 100)):
        gin.clear_config()
        gin.parse_config_file(str(CONFIGS / f"clip_rt_{name}.gin"))
        assert gin.query_parameter("clip_rt.make_schedule.warmup_steps") == warmup
        assert gin.query_parameter("clip_rt.make_model.name") == "ViT-H-14-378-quickgelu"
        schedule, optimizer = experiment.make_schedule(1000), gin.query_parameter
        assert schedule.peak == 5e-6
        assert schedule.total_steps == 100_000
        assert [optimizer(f"clip_rt.make_optimizer.{n}") for n in ("beta_1", "beta_2", "epsilon")] == [
            0.9,
            0.98,
            1e-6,
        ]


@pytest.mark.heavy
def test_train_and_csv_commands(tmp_path):
    folder = write_episodes(tmp_path)
    arguments = ["--data_dir", str(folder), "--out", str(tmp_path / "data" / "train.csv")]
    assert write_csv.main(arguments) == 0
    with (tmp_path / "data" / "train.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 32
    assert {row["label"] for row in rows} == {"6", "22", "46", "56"}
    assert all((tmp_path / "data" / row["filepath"]).is_file() for row in rows)
    assert rows[0]["caption"].startswith("what motion should the robot arm perform")
    bindings = [
        f"clip_rt.make_model.fields = {TINY_CONFIG}",
        "clip_rt.make_schedule.warmup_steps = 1",
        "clip_rt.open_csv.validation_fraction = 0.4",
        "clip_rt.make_model.dtype = 'float32'",
    ]
    command = [
        sys.executable,
        "train.py",
        "--model=clip_rt",
        f"--dataset_file={tmp_path / 'data' / 'train.csv'}",
    ]
    command += [f"--checkpoint_dir={tmp_path / 'run'}", "--num_epochs=2", "--batch_size=8"]
    command += [f"--gin_bindings={binding}" for binding in bindings]
    refused = {
        "--split_file=x.npz": "--split_file is not for --model=clip_rt",
        "--gin_bindings=clip_rt.make_trainable.chunks='2'": "may be of the wrong type.*make_trainable",
    }
    for flag, message in refused.items():
        done = subprocess.run([*command, flag], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert re.search(message, done.stderr) and "Traceback" not in done.stderr
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "last.json").exists()
    assert "NUM_EPOCHS = 2" in (next((tmp_path / "run").glob("step-*")) / "config.gin").read_text()
    assert load_policy(next((tmp_path / "run").glob("step-*"))).spec.model == "clip_rt"


def test_csv_of_ones_own_samples(tmp_path, capsys):
    make_csv(tmp_path, 4)
    lines = [
        '{"image_path": "train_0/0.png", "instruction": "go", "supervision": "open the gripper"}',
        '{"image_path": "train_1/1.png", "instruction": "go", "supervision": "up a bit", "label": 20}',
    ]
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(lines) + "\n\n")
    out = tmp_path / "out" / "train.csv"
    assert write_csv.main(["--samples", str(path), "--out", str(out)]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["57", "20"]
    assert (out.parent / rows[0]["filepath"]).is_file()
    texts = '"image_path": "train_0/0.png", "instruction": "go", "supervision": "open the gripper"'
    sample = "{" + texts + ', "label": %s}'
    labels = [sample % label for label in ("3.9", "true", "Infinity", "3")]  # The phrase's own is 57.
    absent = '{"image_path": "x.png", "instruction": "a", "supervision": "b"}'
    for bad in (absent, "{}", "[", "1", "[" * 100_000, *labels):
        path.write_text(bad)
        assert write_csv.main(["--samples", str(path), "--out", str(out)]) == 1
        assert "line 1" in capsys.readouterr().err
    assert len(out.read_text().splitlines()) == 3  # What was there stays.
    with pytest.raises(SystemExit):
        write_csv.main(["--samples", str(path), "--out", str(tmp_path)])
    assert "--out must be a file, not a folder" in capsys.readouterr().err


# === Learning on real data ===


@pytest.mark.heavy
def test_learns_the_real_bridge_episodes(tmp_path):
    """By heart: twenty episodes teach nothing general, and the held-out figure says so."""
    data = shared("data/rlds/octo_bridge_debug")
    gin.parse_config_file(str(CONFIGS / "clip_rt_tiny.gin"))
    trainable = experiment.make_trainable(
        options(tmp_path, data_dir=data, batch_size=32), tf.distribute.get_strategy()
    )
    counts = {part: trainable._source.counts(part).sum() for part in samples.PARTS}
    assert sum(counts.values()) == 127
    settings = LoopSettings(checkpoint_dir=tmp_path / "run", num_epochs=120, validate_every_epochs=120)
    result = run(trainable, settings)
    scalars = {part: trainable.evaluate_part(part).scalars for part in samples.PARTS}
    for part, found in scalars.items():
        sys.stdout.write(
            f"\n{part}: {counts[part]} samples, " + ", ".join(f"{k} {v:.3f}" for k, v in found.items())
        )
    sys.stdout.write("\n")
    assert scalars[samples.TRAIN]["top1"] >= 0.9
    policy = load_policy(result.last_folder)
    assert isinstance(policy.description, PolicyDescription)
