"""Every shipped gin file builds and makes a step."""

from pathlib import Path

import gin
import numpy as np
import pytest
import tensorflow as tf

from core.train_options import TrainOptions
from rt1 import experiment
from rt1.checkpoints.presets import PRESETS
from rt1.rlds_trainable import RldsTrainable
from tests.rt1.training_data import write_bridge, write_food, write_fractal, write_from_bags
from training import strategy as _strategy  # noqa: F401  (registers make_strategy)

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"
# Parts that the others include; not configurations by themselves.
PARTS = {"base", "rt1_network", "fractal", "tiny_network", "debug"}
# Configures the conversion of bags; tests/episodes/test_settings.py.
CONVERSION = {"bags"}
FOOD = {"transformer_mixin", "demo"}
BRIDGE = {"bridge", "bridge_small"}
FROM_BAGS = {"sample_bags", "end_effector"}
# The other models' are tested beside them.
OTHERS = ("clip_", "sarnn")
ALL = sorted(
    p.stem
    for p in CONFIGS.glob("*.gin")
    if p.stem not in PARTS | CONVERSION and not p.stem.startswith(OTHERS)
)


@pytest.fixture(autouse=True)
def no_configuration():
    gin.clear_config()
    yield
    gin.clear_config()


def options_for(name: str, folder: Path, **changes: object) -> TrainOptions:
    food, rlds = None, None
    if name in FOOD:
        food = write_food(folder / "food.npz")
    elif name in FROM_BAGS:
        rlds = write_from_bags(folder / "rlds", end_effector=name == "end_effector")
    else:
        rlds = (write_bridge if name in BRIDGE else write_fractal)(folder / "rlds")
    values = {
        "checkpoint_dir": folder / "run",
        "dataset_file": food,
        "data_dir": rlds,
        "split_file": folder / "split.npz",
        "batch_size": 4,
        "image_size": 32,
        "loss_type": "smooth_l1" if name == "transformer_mixin" else "cross_entropy",
        "pretrained_checkpoint": None,
        "frozen": (),
        "seed": 0,
        **changes,
    }
    return TrainOptions(**values)


@pytest.mark.parametrize("name", ALL)
def test_configuration_builds_and_makes_a_step(name: str, tmp_path: Path) -> None:
    gin.add_config_file_search_path(str(CONFIGS.parent))
    gin.parse_config_files_and_bindings(
        [str(CONFIGS / f"{name}.gin"), str(CONFIGS / "debug.gin")],
        [
            "open_training_data.image_size = (64, 64)",
            *([] if name in FROM_BAGS else ["open_training_data.validation_episodes = 2"]),
        ],
    )
    trainable = experiment.make_trainable(options_for(name, tmp_path), tf.distribute.get_strategy())
    before = [v.numpy() for v in trainable.network.trainable_variables]
    scalars = trainable.train_step(next(iter(trainable.batches(0))))
    assert np.isfinite(float(scalars["loss"]))
    assert trainable.step == 1
    after = [v.numpy() for v in trainable.network.trainable_variables]
    assert any(not np.array_equal(b, a) for b, a in zip(before, after, strict=True))
    if isinstance(trainable, RldsTrainable):
        assert trainable.network.time_sequence_length == 6


@pytest.mark.parametrize("preset", [p for p in PRESETS if (CONFIGS / f"{p.name}.gin").exists()], ids=str)
def test_preset_files_have_the_preset(preset) -> None:
    gin.add_config_file_search_path(str(CONFIGS.parent))
    gin.parse_config_file(str(CONFIGS / f"{preset.name}.gin"))
    found = {
        field: gin.query_parameter(f"TransformerNetwork.{field}")
        for field in ("num_layers", "layer_size", "feed_forward_size")
    }
    assert found == {field: getattr(preset, field) for field in found}
    assert gin.query_parameter("TransformerNetwork.efficientnet_variant") == "b3"
    assert gin.query_parameter("open_training_data.window") == preset.time_sequence_length


def test_the_released_presets_have_files() -> None:
    for name in ("rt1main", "rt1multirobot", "rt1simreal", "transformer_mixin"):
        assert (CONFIGS / f"{name}.gin").exists()
