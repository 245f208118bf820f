"""SARNN in the training loop: steps, validation, resume, early stopping, checkpoints."""

import dataclasses
import json
from pathlib import Path

import gin
import numpy as np
import pytest
import tensorflow as tf

from core.trainable import Fingerprinted
from episodes.statistics import DatasetStatistics
from sarnn_tf.learning.loss_scheduler import LossScheduler
from sarnn_tf.policy_folder import load_checkpoint
from sarnn_tf.trainable import SarnnTrainable
from sarnn_tf.weights_file import WEIGHTS
from tests.sarnn_tf.training_runs import make, options, write_data
from training.loop import LoopSettings, run

CLEAN = (
    "sarnn_tf.make_noise.images = 0.0",
    "sarnn_tf.make_noise.joints = 0.0",
    "sarnn_tf.make_noise.augment = False",
)
ON_TRAINING = "sarnn_tf.data.make_parts.validate_on_training = True"


@pytest.fixture(autouse=True)
def no_configuration():
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> SarnnTrainable:
    """An untrained SARNN that is validated on what it is trained on, without noise, all in one batch."""
    folder = tmp_path_factory.mktemp("clean")
    pictures = "sarnn_tf.make_trainable.picture_every_epochs = 10"
    return make(folder, *CLEAN, ON_TRAINING, pictures, "sarnn_tf.LossScheduler.decay_end = 4", batch_size=4)


def variables_of(trainable: SarnnTrainable) -> dict[str, np.ndarray]:
    """Weights and the optimiser's variables."""
    weights = {v.name + str(i): v.numpy() for i, v in enumerate(trainable.model.trainable_variables)}
    return weights | {name: v.numpy() for name, v in trainable._slots().items()}


def require_equal(one: SarnnTrainable, other: SarnnTrainable) -> None:
    mine, theirs = variables_of(one), variables_of(other)
    assert set(mine) == set(theirs)
    for name, value in mine.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_training_and_validation_speak_of_one_loss(clean: SarnnTrainable) -> None:
    """Before the first step both see the same weights and episodes; and validation changes nothing."""
    before = variables_of(clean)
    evaluation = clean.evaluate(7)
    assert list(evaluation.images) == ["prediction/image"]
    for name, value in variables_of(clean).items():
        np.testing.assert_array_equal(value, before[name])
    (batch,) = clean.batches(0)
    shares, scalars = [], {}
    for step in range(5):
        found = {name: float(value) for name, value in clean.train_step(batch).items()}
        shares.append(found["point_share"])
        scalars = scalars or found
        assert clean.step == step + 1
        clean.evaluate(1)
    for name in ("loss", "image", "joint", "point"):
        assert scalars[name] == pytest.approx(evaluation.scalars[name], rel=1e-5), name
    parts = 0.1 * scalars["image"] + scalars["joint"]
    assert scalars["objective"] == pytest.approx(parts, rel=1e-5)
    assert scalars["loss"] == pytest.approx(parts + 0.1 * scalars["point"], rel=1e-5)
    assert scalars["weight"] == 4
    # Validations lay between the steps, and did not move the schedule.
    np.testing.assert_allclose(shares, LossScheduler(4).at(np.arange(5)), rtol=1e-6)
    assert clean._compiled_step.experimental_get_tracing_count() == 1


def test_pictures_are_drawn_now_and_then(clean: SarnnTrainable) -> None:
    clean.evaluate(3)  # The first one draws.
    assert clean.evaluate(1).images == {} and clean.evaluate(8).images == {}
    (picture,) = clean.evaluate(9).images.values()
    assert picture.dtype == np.uint8 and picture.shape == (4, 192, 576, 3)
    blue = (np.abs(picture[:, :, :192].astype(int) - [0, 0, 255]) < 60).all(axis=-1)
    assert blue.any(axis=(1, 2)).all()
    # The right one is the next image, as it is: 12 times enlarged.
    batch = next(iter(clean.batches(0)))
    truth = np.rint(batch.images["image"].numpy() * 255)
    right = picture[:, ::12, 384::12]
    assert any((truth[i, 1] == right[0]).all() for i in range(len(truth)))


def test_it_learns(tmp_path: Path) -> None:
    trainable = make(tmp_path, *CLEAN, ON_TRAINING, "sarnn_tf.make_adam.learning_rate = 1e-2", batch_size=4)
    before = trainable.evaluate(1).scalars
    for epoch in range(60):
        for batch in trainable.batches(epoch):
            trainable.train_step(batch)
    after = trainable.evaluate(1).scalars
    assert after["joint"] < 0.2 * before["joint"] and after["loss"] < 0.3 * before["loss"]
    assert isinstance(trainable, Fingerprinted)


@pytest.mark.heavy
def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    """With noise and augmentation, cut in the midst of an epoch."""

    def settings(name: str, **changes: int) -> LoopSettings:
        return LoopSettings(tmp_path / name, num_epochs=3, **changes)

    straight, first, second = (make(tmp_path) for _ in range(3))
    one = run(straight, settings("straight"))
    run(first, settings("resumed", max_steps=3))
    other = run(second, settings("resumed"), tmp_path / "resumed")
    assert straight.step == second.step == 6
    require_equal(straight, second)
    # The cut adds a row; what follows is the same.
    assert one.history[-1] == other.history[-1] and one.best == other.best
    for name in (WEIGHTS, "optimizer.npz", "sarnn.json", "spec.json", "dataset_statistics.json"):
        assert (one.last_folder / name).read_bytes() == (other.last_folder / name).read_bytes(), name


def test_early_stopping_stops(tmp_path: Path) -> None:
    """A step that moves nothing finds no new best."""
    trainable = make(tmp_path, "sarnn_tf.make_adam.learning_rate = 1e-30")
    settings = LoopSettings(tmp_path / "run", num_epochs=50, early_stopping_patience=2)
    result = run(trainable, settings)
    assert (result.stopped_by, result.epoch) == ("early_stopping", 3)
    assert result.best is not None and result.best.epoch == 1


def test_a_checkpoint_is_the_model_and_not_its_clip(tmp_path: Path) -> None:
    trainable = make(tmp_path, model="clip_sarnn")
    assert trainable.description.use_clip
    folder = options(tmp_path).checkpoint_dir
    result = run(trainable, LoopSettings(folder, num_epochs=1))
    names = sorted(p.name for p in result.last_folder.iterdir())
    assert names == [
        "config.gin", "dataset_statistics.json", "optimizer.npz", "sarnn.json", "spec.json",
        "train_state.json", "versions.json", "weights.npz",
    ]  # fmt: skip
    sizes = {name: (result.last_folder / name).stat().st_size for name in names}
    parameters = sum(int(tf.size(v)) for v in trainable.model.trainable_variables)
    with np.load(result.last_folder / WEIGHTS, allow_pickle=False) as weights:
        assert sum(weights[name].size for name in weights.files) == parameters
    # The tower's table of words alone is larger.
    assert sum(sizes.values()) < 49408 * 8 * 4
    loaded = load_checkpoint(result.last_folder)
    assert loaded.description == trainable.description and loaded.clip is not None
    for one, other in zip(trainable.model.trainable_variables, loaded.model.trainable_variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    statistics = DatasetStatistics.load(result.last_folder / "dataset_statistics.json")
    bounds = np.array(trainable.description.joint_bounds)
    joints = statistics["joint_positions"]
    np.testing.assert_allclose([joints.minimum, joints.maximum], bounds)


def test_what_a_resume_must_have_in_common(tmp_path: Path) -> None:
    """Whatever changes the batches, or what a step does, changes the fingerprint."""
    made = [
        make(tmp_path),
        make(tmp_path, batch_size=3),
        make(tmp_path, "sarnn_tf.make_noise.joints = 0.2"),
        make(tmp_path, "sarnn_tf.make_loss_weights.point = 0.2"),
        make(tmp_path, "sarnn_tf.LossScheduler.decay_end = 10"),
        make(tmp_path, "sarnn_tf.make_description.temperature = 0.1"),
        make(tmp_path, "sarnn_tf.make_trainable.gradient_clip_norm = 1.0"),
        make(tmp_path, "sarnn_tf.make_adam.learning_rate = 1e-2"),
        make(tmp_path, "sarnn_tf.make_adam.epsilon = 1e-3"),
        make(tmp_path, "sarnn_tf.make_trainable.optimizer = @sarnn_tf.make_adamw"),
        make(tmp_path, ON_TRAINING),
        make(tmp_path, data_dir=write_data(tmp_path / "other", lengths=(6, 4, 5, 4))),
    ]
    texts = [json.dumps(t.fingerprint(), sort_keys=True) for t in made]
    assert len(set(texts)) == len(texts)
    assert json.dumps(make(tmp_path).fingerprint(), sort_keys=True) == texts[0]


def test_batches_are_described(clean: SarnnTrainable) -> None:
    (batch,) = clean.batches(0)
    described = clean.describe(batch)
    assert described.startswith("episodes ") and described.count("/") == 4


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    trainable = make(tmp_path)
    trainable.model.decoder_joint.bias.assign([np.nan, 0.0, 0.0])
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="decoder_joint/bias"):
        trainable.save(tmp_path / "folder")
    assert not list((tmp_path / "folder").iterdir())


def test_another_optimiser_is_not_restored(tmp_path: Path) -> None:
    trainable = make(tmp_path)
    (tmp_path / "folder").mkdir()
    trainable.save(tmp_path / "folder")
    with np.load(tmp_path / "folder" / "optimizer.npz") as slots:
        kept = {name: slots[name] for name in slots.files if not name.startswith("second/rec/")}
    np.savez(tmp_path / "folder" / "optimizer.npz", **kept)
    with pytest.raises(ValueError, match="4 missing"):
        trainable.restore(tmp_path / "folder")


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("sarnn_tf.make_noise.images = -0.1", "must be >= 0"),
        ("sarnn_tf.make_loss_weights.image = -1.0", "must be >= 0"),
        ("sarnn_tf.make_trainable.gradient_clip_norm = 0.0", "gradient_clip_norm must be > 0"),
        ("sarnn_tf.make_trainable.picture_every_epochs = 0", "picture_every_epochs must be at least 1"),
        ("sarnn_tf.make_description.vmax = 0.0", "vmin must be below vmax"),
    ],
)
def test_wrong_settings(binding: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path, binding)


def test_gradients_are_cut_by_their_norm(tmp_path: Path) -> None:
    """Adam hides a factor that all steps have; its first moments do not."""
    trainable = make(tmp_path, "sarnn_tf.make_trainable.gradient_clip_norm = 1e-3")
    scalars = trainable.train_step(next(iter(trainable.batches(0))))
    assert float(scalars["gradient_norm"]) > 1e-2
    moments = tf.linalg.global_norm(trainable._optimizer.first_moments)
    assert float(moments) == pytest.approx(0.1 * 1e-3, rel=1e-4)


def test_noise_is_a_share_of_the_range(tmp_path: Path) -> None:
    """``--stdev`` is a share of vmax - vmin: a wider range has as much more noise."""
    found = []
    for vmin, vmax in ((0.0, 1.0), (-2.0, 2.0)):
        bindings = [f"sarnn_tf.make_description.vmin = {vmin}", f"sarnn_tf.make_description.vmax = {vmax}"]
        trainable = make(tmp_path, *bindings, *CLEAN[:1], "sarnn_tf.make_noise.joints = 0.1", CLEAN[2])
        batch = next(iter(trainable.batches(0)))
        found.append((batch.inputs.joints - batch.joints).numpy()[batch.real.numpy()])
    np.testing.assert_allclose(found[1], 4 * found[0], rtol=1e-3, atol=1e-5)
    assert 0.03 < found[0].std() < 0.3


def test_descriptions_come_from_data_and_configuration(tmp_path: Path) -> None:
    description = make(tmp_path, "sarnn_tf.ImageModality.k_dim = 3").description
    (modality,) = description.modalities
    assert (modality.size, modality.k_dim, modality.interpolation) == ((16, 16), 3, "linear")
    np.testing.assert_allclose(np.array(description.joint_bounds)[:, [0, 2]], [[0, 0.5], [1, 0.5]])
    assert description.clip_fingerprint == "" and description.model == "sarnn"
    assert dataclasses.replace(description, rec_dim=50).temperature == 1e-4
