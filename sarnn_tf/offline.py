"""The offline test: a trained SARNN run over recorded episodes, with videos, errors and the hidden state.

``python -m sarnn_tf.offline --checkpoint log/clip_run1 --data_dir DATA --episode 3 --out output`` writes

- for each episode a video: what was seen with the points, what was predicted, the joints;
- the errors of all of them, beside those of two predictors without a model;
- a picture of the hidden state's principal components.

Without ``--episode`` it takes those that the training held out; of other data than the training's, their own
test part, or all. A small error on recorded frames does not say that the robot succeeds.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gin
import numpy as np
from absl import logging
from tqdm import tqdm

from core import checkpoint_folder, files
from core.messages import plain
from episodes.pictures.mp4 import VideoError
from episodes.statistics import DatasetStatistics, compute_statistics
from sarnn_tf.data import Parts, PreparedData, make_parts, make_prepared, make_source
from sarnn_tf.data.recorded_episode import TEST, numbered_joints
from sarnn_tf.description import JOINTS, SarnnDescription
from sarnn_tf.motion.hidden_state_pca import TURNS, principal_components, write_pictures
from sarnn_tf.motion.offline_video import write_videos
from sarnn_tf.motion.rollout import Runner, TrainingMean, squared_errors, training_mean
from sarnn_tf.policy_folder import LoadedSarnn, load_checkpoint
from sarnn_tf.train_flags import PREPARED

_BASELINES = {
    "model": "the prediction",
    "repeat": "the next step is as the recorded one",
    "mean": "the next step is the mean of all steps of the training episodes",
}


def run_offline(
    loaded: LoadedSarnn,
    prepared: PreparedData,
    parts: Parts | None,
    chosen: Sequence[int],
    out: str | Path,
    *,
    name: str = "sarnn",
    input_param: float = 1.0,
    predicted_joints: Sequence[str] = (),
    video: bool = True,
    gif: bool = False,
    turns: int = TURNS,
) -> dict[str, Any]:
    """Runs a model over episodes and writes what comes of it.

    Args:
      loaded: the model.
      prepared: the episodes, with the model's modalities.
      parts: which of them were trained on; their mean is a baseline. None where the data are others.
      chosen: numbers of the episodes to run.
      out: folder to write to. Files of an earlier call with the same name and ``input_param`` are replaced.
      name: beginning of the files' names.
      input_param: the recording's share in what the model sees; see ``rollout``.
      predicted_joints: names of joints that it sees as it predicted them; see ``SarnnPolicy``.
      video: write a video of each episode.
      gif: write it as an animated picture, too.
      turns: pictures of the hidden state's full turn; 0 for no animation.

    Returns:
      What ``errors_….json`` says.

    Raises:
      ValueError: nothing is chosen, or the data do not fit the model.
      VideoError: a video could not be written.
    """
    if not len(chosen):
        raise ValueError("There must be an episode to run. Received: none")
    description = loaded.description
    _check_joints(prepared, description)
    out = Path(out)
    mean = None if parts is None else _mean_of(prepared, parts, description)
    runner = Runner(loaded, predicted_joints)
    lines: list[dict[str, Any]] = []
    hidden = []
    for i in tqdm(chosen, desc="episodes", unit="episode", file=sys.stderr, disable=None):
        episode = prepared.episode(i)
        rollout = runner.run(episode.images, episode.joints, episode.instruction, input_param)
        hidden.append(rollout.hidden)
        if video:
            stem = out / f"{name}_{i}_{input_param:g}"
            write_videos(stem, rollout, description.joint_names, description.rate_hz, gif=gif)
        lines.append(
            {
                "number": int(i),
                "id": episode.id,
                "trained_on": None if parts is None else bool(np.isin(i, parts.train)),
                "instruction": episode.instruction,
                "steps": rollout.steps,
                "mean_squared": squared_errors(rollout, mean),
            }
        )
    pca = principal_components(hidden)
    instructions = [line["instruction"] for line in lines]
    write_pictures(
        out / f"pca_{name}_{input_param:g}", pca, [line["id"] for line in lines], instructions, turns=turns
    )
    report = {
        "data": prepared.name,
        "input_param": input_param,
        "predicted_joints": list(predicted_joints),
        "unit": "root mean squared error: joints in rad, images in shares of full_scale; over the steps "
        "whose next one was recorded",
        "predictors": {who: _BASELINES[who] for who in lines[0]["mean_squared"]},
        "all": _roots(lines, description),
        "episodes": [
            {k: v for k, v in line.items() if k != "mean_squared"} | _roots([line], description)
            for line in lines
        ],
        "hidden_state_explained": pca.explained.tolist(),
    }
    files.write_json(out / f"errors_{name}_{input_param:g}.json", report)
    return report


def parts_of_training(prepared: PreparedData, folder: Path) -> Parts | None:
    """Which episodes a checkpoint was trained on, by the rule that gin configures; None for other data.

    Data are those of the training where ids and joints of all episodes are, by the checkpoint's statistics.
    """
    path = folder / checkpoint_folder.STATISTICS
    if not path.exists():
        return None
    everything = map(prepared.episode, range(len(prepared)))
    found = compute_statistics((episode.id, {JOINTS: episode.joints}) for episode in everything)
    if found.fingerprint != DatasetStatistics.load(path).fingerprint:
        return None
    return make_parts(prepared)


def choose_episodes(prepared: PreparedData, parts: Parts | None, wanted: Sequence[str]) -> list[int]:
    """Numbers of episodes.

    Args:
      prepared: the data.
      parts: of the training; None for other data.
      wanted: ids or numbers, or ``all``; none takes those held out, of other data their test part, or all.

    Raises:
      ValueError: there is no such episode.
    """
    if not wanted and parts is not None:
        return [int(i) for i in parts.test]
    if not wanted and TEST in prepared.source_parts:
        return [i for i, part in enumerate(prepared.source_parts) if part == TEST]
    if not wanted or list(wanted) == ["all"]:
        return list(range(len(prepared)))
    chosen = []
    for name in wanted:
        if name in prepared.ids:
            chosen.append(prepared.ids.index(name))
        elif name.isdecimal() and int(name) < len(prepared):
            chosen.append(int(name))
        else:
            raise ValueError(
                f"An episode is a number below {len(prepared)}, or an id such as {prepared.ids[0]!r}. "
                f"Received: {name!r}"
            )
    return list(dict.fromkeys(chosen))


def _mean_of(prepared: PreparedData, parts: Parts, description: SarnnDescription) -> TrainingMean:
    trained = (prepared.episode(int(i)) for i in parts.train)
    return training_mean(((episode.images, episode.joints) for episode in trained), description)


def _check_joints(prepared: PreparedData, description: SarnnDescription) -> None:
    """Names of joints that were not recorded are no reason to refuse data."""
    names = prepared.joint_names
    if names != description.joint_names and names != numbered_joints(description.joint_dim):
        raise ValueError(f"The model's joints are {description.joint_names}. Received: {names} of the data")


def _roots(lines: Sequence[Mapping[str, Any]], description: SarnnDescription) -> dict[str, Any]:
    """Root mean squared errors over all steps of episodes, by predictor."""
    weights = np.array([line["steps"] - 1 for line in lines], np.float64)
    weights /= weights.sum()
    found = {}
    for who in lines[0]["mean_squared"]:
        errors = [line["mean_squared"][who] for line in lines]
        joints = weights @ np.stack([e["joints"] for e in errors])
        images = {
            m.name: weights @ np.array([e["images"][m.name] for e in errors]) for m in description.modalities
        }
        found[who] = {
            "joints": float(np.sqrt(joints.mean())),
            "by_joint": dict(zip(description.joint_names, np.sqrt(joints).tolist(), strict=True)),
            "images": {name: float(np.sqrt(x)) for name, x in images.items()},
        }
    return found


def in_words(errors: Mapping[str, Any]) -> str:
    """One line of ``all`` or of an episode in the report."""
    told = {"model": "model", "repeat": "repeating the last step", "mean": "training mean"}
    joints = ", ".join(f"{told[who]} {of_who['joints']:.4f}" for who, of_who in errors.items())
    images = "; ".join(
        f"{name}: " + ", ".join(f"{of_who['images'][name]:.4f}" for of_who in errors.values())
        for name in errors["model"]["images"]
    )
    return f"joints [rad]: {joints}; {images}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 where something could not be read or written."""
    parser = argparse.ArgumentParser(
        prog="python -m sarnn_tf.offline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", required=True, help="checkpoint folder, or a run's folder (its best)")
    parser.add_argument("--clip", help="folder of the frozen CLIP; default: clip/ beside the checkpoint")
    parser.add_argument("--data_dir", required=True, help="RLDS TFRecords, NPZ episodes, or EIPL's arrays")
    parser.add_argument(
        "--episode", nargs="+", default=[], help="numbers or ids, or all; default: those held out"
    )
    parser.add_argument("--input_param", type=float, default=1.0, help="share of the recording (default 1.0)")
    parser.add_argument(
        "--predicted_joints", nargs="+", default=[], help="joints that the model sees as it predicted them"
    )
    parser.add_argument("--out", default="output", help="folder to write to (default output)")
    parser.add_argument("--stride", type=int, help="every n-th step; default: as in training")
    parser.add_argument("--gin_bindings", action="append", default=[], help="of sarnn_tf.data.make_source, …")
    parser.add_argument(
        "--prepared_dir", help="of data made ready; default: that of the training, if it is there"
    )
    parser.add_argument("--gif", action="store_true", help="animated pictures beside the videos")
    parser.add_argument(
        "--turns", type=int, default=TURNS, help=f"pictures of the hidden state turning; 0 for none ({TURNS})"
    )
    parser.add_argument("--no_video", action="store_true", help="errors and hidden state only")
    options = parser.parse_args(arguments)
    if not 0 <= options.input_param <= 1:
        parser.error(f"--input_param must be in [0, 1]: {options.input_param}")
    if options.turns < 0:
        parser.error(f"--turns must be at least 0: {options.turns}")
    if options.stride is not None and options.stride < 1:
        parser.error(f"--stride must be at least 1: {options.stride}")
    try:
        folder = checkpoint_folder.resolve(options.checkpoint)
        loaded = load_checkpoint(folder, options.clip)
        config = folder / checkpoint_folder.CONFIG
        # How the training read its data; what else it configured is not known here.
        if config.exists():
            gin.parse_config_file(str(config), skip_unknown=True)
        gin.parse_config(options.gin_bindings)
        run = folder.resolve().parent
        kept = run.parent / PREPARED
        with contextlib.ExitStack() as stack:
            if options.prepared_dir or kept.is_dir():
                place = Path(options.prepared_dir or kept)
            else:
                place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stride = {} if options.stride is None else {"stride": options.stride}
            prepared = make_prepared(
                make_source(options.data_dir),
                loaded.description.modalities,
                None,
                place,
                patches=False,
                **stride,
            )
            parts = parts_of_training(prepared, folder)
            if parts is None:
                logging.warning(
                    "%s is not what was trained on, or at another stride, by the checkpoint's %s: it is not "
                    "known whether the training saw these episodes.",
                    prepared.name,
                    checkpoint_folder.STATISTICS,
                )
            report = run_offline(
                loaded,
                prepared,
                parts,
                choose_episodes(prepared, parts, options.episode),
                options.out,
                name=f"{loaded.description.model}_{run.name}",
                input_param=options.input_param,
                predicted_joints=options.predicted_joints,
                video=not options.no_video,
                gif=options.gif,
                turns=options.turns,
            )
    except (ValueError, OSError, SyntaxError, VideoError) as error:
        sys.stderr.write(f"{plain(error)}\n")
        return 1
    told = {True: "trained on", False: "held out", None: "of other data"}
    for line in report["episodes"]:
        errors = {who: line[who] for who in report["predictors"]}
        sys.stdout.write(f"episode {line['number']} ({told[line['trained_on']]}): {in_words(errors)}\n")
    sys.stdout.write(f"all: {in_words(report['all'])}\n{options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
