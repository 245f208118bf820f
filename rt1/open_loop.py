"""Open-loop evaluation: what the policy answers to the recorded frames, beside the recorded actions.

``python -m rt1.open_loop --checkpoint RUN --data_dir RLDS --config_file configs/bridge_small.gin --out DIR``
plots a training and a held-out episode. A small open-loop error does not say that the robot succeeds: the
recorded frames are not those to which the policy's own actions would lead.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gin
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from core import checkpoint_folder, files
from core.policy import Policy, Session
from core.spec import PolicySpec
from episodes.statistics import DatasetStatistics
from rt1 import experiment as _experiment  # noqa: F401  (registers what the file configures)
from rt1.action_mapping import action_mapping
from rt1.rlds_dataset import TRAIN, VALIDATION, open_training_data
from rt1.serving_policy import INSTRUCTION, RT1Policy, load_policy
from rt1.transformer_network import IMAGE


def replay(policy: Policy, episode: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Steps a policy through the frames of a recorded episode.

    Args:
      policy: with its own state kept over the episode.
      episode: ``image`` uint8 [steps, h, w, 3] and ``instruction`` [steps], as
        ``RldsTrainingData.read_episodes`` gives them.

    Returns:
      action name -> [steps, k].
    """
    session = Session(policy)
    answers = [
        session.step({IMAGE: image, INSTRUCTION: text}).actions
        for image, text in zip(episode["image"], episode["instruction"], strict=True)
    ]
    return {name: np.stack([a[name] for a in answers]) for name in answers[0]}


def errors(
    spec: PolicySpec,
    predicted: Mapping[str, np.ndarray],
    recorded: Mapping[str, np.ndarray],
    statistics: DatasetStatistics,
) -> dict[str, tuple[float, float]]:
    """The mean absolute error of every float action, and that of answering the training mean.

    Both in fractions of the action's bounds, so that units do not matter; the last step, whose action RLDS
    leaves undefined, does not count.
    """
    found = {}
    for action in spec.actions:
        if action.dtype.startswith("int"):
            continue
        low, high = action.bounds()
        mean = np.asarray(statistics[action.name].mean)
        true = recorded[action.name][:-1]
        policy_error = np.mean(np.abs(predicted[action.name][:-1] - true) / (high - low))
        mean_error = np.mean(np.abs(mean - true) / (high - low))
        found[action.name] = (float(policy_error), float(mean_error))
    return found


def plot(
    path: str | Path,
    title: str,
    spec: PolicySpec,
    predicted: Mapping[str, np.ndarray],
    recorded: Mapping[str, np.ndarray],
) -> None:
    """Writes one panel for every action dimension, recorded beside predicted, over the steps."""
    panels = [(a, i) for a in spec.actions for i in range(a.size)]
    figure = Figure(figsize=(4 * min(4, len(panels)), 2.4 * -(-len(panels) // 4)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(-(-len(panels) // 4), min(4, len(panels)), squeeze=False)
    for (action, i), ax in zip(panels, axes.flat, strict=False):
        ax.plot(recorded[action.name][:, i], color="0.3", label="recorded")
        ax.plot(predicted[action.name][:, i], color="tab:red", label="predicted")
        ax.set_title(f"{action.name}[{i}]" + (f" ({action.unit})" if action.unit else ""), fontsize=8)
        ax.tick_params(labelsize=7)
    for ax in list(axes.flat)[len(panels) :]:
        ax.axis("off")
    axes.flat[0].legend(fontsize=7)
    figure.suptitle(title, fontsize=9)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def report(policy: RT1Policy, data: Any, out: Path) -> list[str]:
    """Plots the first training and the first held-out episode; returns a line of figures for each."""
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for part in (TRAIN, VALIDATION):
        episode = next(data.read_episodes(part))
        predicted = replay(policy, episode)
        found = errors(policy.spec, predicted, episode["action"], data.statistics)
        name = {TRAIN: "training", VALIDATION: "held-out"}[part]
        title = f"{name} episode {episode['episode_id'][-24:]}: {episode['instruction'][0]!r}"
        plot(out / f"open_loop_{part}.png", title, policy.spec, predicted, episode["action"])
        numbers = ", ".join(f"{k} {p:.3f} (mean predictor {m:.3f})" for k, (p, m) in found.items())
        lines.append(f"{title}: mean absolute error in fractions of the bounds: {numbers}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m rt1.open_loop",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", required=True, help="checkpoint folder, or a run's folder (its best)")
    parser.add_argument("--data_dir", required=True, help="RLDS TFRecords")
    parser.add_argument("--config_file", required=True, help="the gin file of the training run")
    parser.add_argument("--gin_bindings", action="append", default=[], help="as in training")
    parser.add_argument("--out", required=True, help="folder for the plots")
    options = parser.parse_args(arguments)
    if not Path(options.config_file).is_file():
        parser.error(f"there is no such --config_file: {options.config_file}")
    gin.add_config_file_search_path(str(Path(__file__).resolve().parent.parent))
    # What only training uses may be bound in the file, too.
    gin.parse_config_files_and_bindings(
        [options.config_file], options.gin_bindings, skip_unknown=["make_strategy", "LoopSettings"]
    )
    try:
        folder = checkpoint_folder.resolve(options.checkpoint)
        policy = load_policy(folder)
        statistics = DatasetStatistics.load(folder / checkpoint_folder.STATISTICS)
        data = open_training_data(
            options.data_dir, policy.encoder, mapping=action_mapping(), statistics=statistics
        )
        lines = report(policy, data, Path(options.out))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
