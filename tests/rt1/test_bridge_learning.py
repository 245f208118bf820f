"""RT-1 learns the real BridgeData episodes: by heart, for twenty episodes teach nothing general."""

import base64
import sys
from pathlib import Path

import gin
import numpy as np
import pytest
import tensorflow as tf

from core import checkpoint_folder
from core.train_options import TrainOptions
from rt1 import experiment
from rt1.baselines import constant_predictor_loss
from rt1.open_loop import report
from rt1.rlds_dataset import TRAIN, VALIDATION
from rt1.rlds_trainable import RldsTrainable
from rt1.serving_policy import load_policy
from serving.app import create_app
from serving.engine import Engine
from serving.model import make_model, warm_up
from serving.settings import Settings
from tests.rt1.test_configs import CONFIGS
from tests.shared_data import shared
from training.loop import LoopSettings, run

STEPS = 325


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RldsTrainable, Path]:
    data = shared("data/rlds/octo_bridge_debug")
    folder = tmp_path_factory.mktemp("bridge")
    gin.clear_config()
    gin.add_config_file_search_path(str(CONFIGS.parent))
    gin.parse_config_file(str(CONFIGS / "bridge_small.gin"))
    trainable = experiment.make_trainable(
        TrainOptions(
            checkpoint_dir=folder / "run",
            dataset_file=None,
            data_dir=data,
            split_file=folder / "split.npz",
            batch_size=16,
            image_size=236,
            loss_type="cross_entropy",
            pretrained_checkpoint=None,
            frozen=(),
            seed=0,
        ),
        tf.distribute.get_strategy(),
    )
    gin.clear_config()
    settings = LoopSettings(
        checkpoint_dir=folder / "run", num_epochs=100, max_steps=STEPS, validate_every_epochs=100
    )
    result = run(trainable, settings)
    assert result.step == STEPS
    return trainable, folder


def tokens_of(trainable: RldsTrainable, part: str) -> np.ndarray:
    """The tokens of every step that counts, [n, tokens_per_action]."""
    tokenize = trainable.network.action_tokenizer.tokenize
    return np.concatenate(
        [
            tokenize(episode["action"]).numpy()[episode["step_type"] != 2]
            for episode in trainable.data.read_episodes(part)
        ]
    )


@pytest.mark.heavy
def test_training_loss_falls_far_below_the_constant_predictors(
    trained: tuple[RldsTrainable, Path],
) -> None:
    trainable, _ = trained
    assert len(trainable.data.episode_ids(TRAIN)) == 20
    assert len(trainable.data.episode_ids(VALIDATION)) == 5
    vocabulary = trainable.network.vocab_size
    training, held_out = tokens_of(trainable, TRAIN), tokens_of(trainable, VALIDATION)
    figures = {}
    for part, tokens in ((TRAIN, training), (VALIDATION, held_out)):
        evaluation = trainable.evaluate_part(part)
        constant = constant_predictor_loss(training, tokens, vocabulary)
        figures[part] = (evaluation.scalars["loss"], constant, evaluation.scalars["token_accuracy"])
        sys.stdout.write(
            f"\n{part}: loss {figures[part][0]:.3f}, constant predictor {constant:.3f}, "
            f"token accuracy {figures[part][2]:.3f}\n"
        )
    loss, constant, accuracy = figures[TRAIN]
    assert loss < 0.5 * constant
    assert accuracy > 0.5


@pytest.mark.heavy
def test_open_loop_plots(trained: tuple[RldsTrainable, Path]) -> None:
    trainable, folder = trained
    policy = load_policy(checkpoint_folder.resolve(folder / "run", prefer=checkpoint_folder.LAST))
    lines = report(policy, trainable.data, folder / "plots")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert len(lines) == 2
    for part in (TRAIN, VALIDATION):
        assert (folder / "plots" / f"open_loop_{part}.png").stat().st_size > 10_000


@pytest.mark.heavy
def test_serves_a_real_frame(trained: tuple[RldsTrainable, Path]) -> None:
    _, folder = trained
    frame = shared("data/images/gripper_far_from_grasp.png").read_bytes()
    policy = load_policy(checkpoint_folder.resolve(folder / "run"))
    engine, settings = Engine(), Settings()
    model = make_model(policy)
    warm_up(model, (1,), 0)
    engine.swap(model)
    try:
        body = {
            "image": base64.b64encode(frame).decode(),
            "text": "put the cup into the sink",
            "client_id": "test",
        }
        client = create_app(engine, settings).test_client()
        answers = [client.post("/predict", json=body).get_json() for _ in range(3)]
    finally:
        engine.close(10)
    assert all(answer["success"] for answer in answers)
    assert [answer["step"] for answer in answers] == [1, 2, 3]
    for name, action in answers[0]["action"].items():
        values, low, high = (np.asarray(action[k]) for k in ("values", "minimum", "maximum"))
        assert np.all((values >= low) & (values <= high)), name
