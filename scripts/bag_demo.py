"""The demonstration's first part: ROS bags looked at, converted, shown, and learnt by a small RT-1."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from core import checkpoint_folder, files
from core.spec import PolicySpec
from episodes.episode import ACTION, IS_LAST
from episodes.rlds import open_rlds
from rt1 import specs
from rt1.baselines import constant_predictor_loss
from rt1.policy_folder import NETWORK
from tokenizers.action_tokenizer import RT1ActionTokenizer

BAGS, NAME, CONFIG = "sample_bags", "sample_bags", "configs/sample_bags.gin"
LOOKED_AT = ("reach_00.bag", "reach_14")  # One of ROS 1, one of ROS 2.
EPOCHS, BATCH_SIZE, SHOWN = 8, 8, 2
# Two frames instead of RT-1's six: a third of the time.
_WINDOW = "--gin_bindings=open_training_data.window = 2"
_TOPIC = "--topic=instruction=/instruction"


def run_bag_demo(out: Path, run: Callable[..., None], max_steps: int | None, seed: int) -> list[str]:
    """Takes the shipped bags all the way to a policy.

    Args:
      out: folder of the demonstration; the data set, pictures of episodes and the policy go into it.
      run: runs a command of the project.
      max_steps: of the training, where that is fewer.
      seed: of the training.

    Returns:
      Lines for the summary.
    """
    data, policy = out / "robot_data" / NAME / "1.0.0", out / "robot_run"
    run("-m", "episodes.inspect", *(f"{BAGS}/{name}" for name in LOOKED_AT), _TOPIC)
    run("-m", "episodes.convert", BAGS, f"--out={out / 'robot_data'}", f"--name={NAME}", _TOPIC)
    run("-m", "episodes.show", str(data), f"--out={out / 'episodes'}", f"--episodes={SHOWN}")
    limit = [] if max_steps is None else [f"--max_steps={max_steps}"]
    run(
        "train.py", "--model=rt1", f"--config_file={CONFIG}", f"--data_dir={data}",
        f"--checkpoint_dir={policy}", f"--batch_size={BATCH_SIZE}", "--loss_type=cross_entropy",
        f"--num_epochs={EPOCHS}", f"--seed={seed}",
        # Only the last weights are of use: the demonstrations are too few to stop early by held-out ones.
        f"--gin_bindings=LoopSettings.validate_every_epochs={EPOCHS}", _WINDOW, *limit,
    )  # fmt: skip
    run(
        "-m", "rt1.open_loop", f"--checkpoint={policy}", f"--data_dir={data}", f"--config_file={CONFIG}",
        f"--out={out / 'open_loop'}", _WINDOW,
    )  # fmt: skip
    constant = constant_loss(checkpoint_folder.resolve(policy, prefer=checkpoint_folder.LAST), data)
    reached = last_training_loss(policy)
    return [
        f"Robot: loss on the demonstrations of the bags {reached:.2f}; always answering their tokens' "
        f"frequencies: {constant:.2f}.",
        f"Pictures: {out / 'episodes'}, {out / 'open_loop'}.",
    ]


def constant_loss(checkpoint: Path, data: Path) -> float:
    """The training episodes' loss, in nats for each token, of always answering the tokens' frequencies.

    Args:
      checkpoint: says the bounds of the tokens.
      data: the data set that it was trained on.
    """
    (action,) = PolicySpec.load(checkpoint / checkpoint_folder.SPEC).actions
    vocabulary = files.read_json(checkpoint / NETWORK)["network"]["vocab_size"]
    tokenizer = RT1ActionTokenizer(specs.action_spec([action]), vocabulary)
    columns = [columns for _, columns in open_rlds(data, "train").read((ACTION, IS_LAST))]
    # The last step's action bears no loss.
    actions = np.concatenate([c[ACTION][~c[IS_LAST]] for c in columns])
    tokens = tokenizer.tokenize({action.name: actions}).numpy()
    return constant_predictor_loss(tokens, tokens, vocabulary)


def last_training_loss(run_folder: Path) -> float:
    """The mean loss of a run's last epoch."""
    with (run_folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return float(list(csv.DictReader(file))[-1]["train/loss"])
