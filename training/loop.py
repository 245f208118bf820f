"""The training loop."""

import dataclasses
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import gin
import tensorflow as tf
from absl import logging

from core import checkpoint_folder
from core.checkpoint_folder import BEST, LAST
from core.trainable import Evaluation, Fingerprinted, KeepsRunFiles, Trainable
from training import checkpoints, metrics_csv, plots, train_state
from training.interruption import Interruption
from training.progress import EpochProgress
from training.run_lock import run_lock
from training.tensorboard import FOLDER, TensorBoardWriter
from training.train_scalars import LOSS, WEIGHT, NonFiniteError, Position, ScalarWindow, add_to_sums, means
from training.train_state import Best, Row, TrainState
from training.versions import versions

StoppedBy = Literal["num_epochs", "max_steps", "early_stopping", "interruption"]


@gin.configurable
@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """How long to train and what to write.

    Attributes:
      checkpoint_dir: of this run; checkpoints, metrics.csv, curves.png, loss.png and tensorboard/ are
        inside.
      num_epochs: epochs in all, those before a resume included.
      max_steps: optimiser steps in all, or None. Where it is reached the run validates, saves and stops,
        in the midst of an epoch too.
      seed: the seed that the trainable was made with. The loop draws nothing; a resume must give the same.
      validate_every_epochs: the last epoch is always validated.
      early_stopping_patience: stop after this many validations in a row without a new best; None: never.
      ties_improve: a validation that equals the best is a new best, as EIPL has it; what stands still is then
        never stopped.
      checkpoint_every_steps: moves ``last`` within epochs too, for long ones; None: at their ends only.
      log_every_steps: how often train scalars go to TensorBoard.
      read_every_steps: how many steps may run before their scalars are read from the device and checked.
        None: 1 on the CPU; 20 where there is a GPU, which would idle if it were asked after each step.
      progress_seconds: time between progress lines where there is no terminal for a bar.

    Raises:
      ValueError: a number is too small.
    """

    checkpoint_dir: str | Path
    num_epochs: int = 30
    max_steps: int | None = None
    seed: int = 0
    validate_every_epochs: int = 1
    early_stopping_patience: int | None = None
    ties_improve: bool = False
    checkpoint_every_steps: int | None = None
    log_every_steps: int = 50
    read_every_steps: int | None = None
    progress_seconds: float = 60.0

    def __post_init__(self) -> None:
        optional = ("max_steps", "early_stopping_patience", "checkpoint_every_steps", "read_every_steps")
        for name in ("num_epochs", "validate_every_epochs", "log_every_steps", *optional):
            value = getattr(self, name)
            if value is None and name in optional:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1. Received: {value!r}")
        if not self.progress_seconds > 0:
            raise ValueError(f"progress_seconds must be positive. Received: {self.progress_seconds!r}")


@dataclasses.dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
      step: optimiser steps done.
      epoch: epochs finished.
      stopped_by: what ended it.
      best: the best validation, None where none was done before an interruption.
      best_folder: its checkpoint, None where ``best`` is.
      last_folder: the checkpoint to resume from.
      history: one row for each epoch, as in metrics.csv.
    """

    step: int
    epoch: int
    stopped_by: StoppedBy
    best: Best | None
    best_folder: Path | None
    last_folder: Path
    history: tuple[Row, ...]

    @property
    def interrupted(self) -> bool:
        return self.stopped_by == "interruption"


def run(trainable: Trainable, settings: LoopSettings, resume_from: str | Path | None = None) -> RunResult:
    """Trains until the settings, or a signal, say stop.

    Args:
      trainable: the model with its data and optimiser.
      settings: how long to train and what to write.
      resume_from: a checkpoint folder or the checkpoint_dir of a run; its last checkpoint is meant then.
        The run continues at the exact batch and ends as it would have without the break. The best so
        far, the patience and the history continue too. From a checkpoint of another checkpoint_dir it
        branches off. ``num_epochs``, ``max_steps`` and what is written how often may differ from before;
        seed, fingerprint and best metric may not: with other data, batches or draws there is no "exact
        next batch", and starting from the weights as pretrained is the honest way.

    Returns:
      How it ended. SIGINT or SIGTERM make it save ``last`` at the next step boundary and return; a
      validation that is going on is given up and done again after the resume.

    Raises:
      FileNotFoundError: ``resume_from`` is no checkpoint.
      NonFiniteError: (a ValueError) a train scalar is NaN or infinite. The message names step, epoch and
        batch; nothing was saved after it.
      ValueError: checkpoint_dir holds an earlier run, or one that goes on; the resume does not fit; there are
        no batches; the validation failed, has a value that is not finite, or lacks the best metric.
    """
    root = Path(settings.checkpoint_dir)
    with run_lock(root):
        return _run_alone(trainable, settings, root, resume_from)


def _run_alone(
    trainable: Trainable, settings: LoopSettings, root: Path, resume_from: str | Path | None
) -> RunResult:
    # Start order: resume > pretrained > scratch. A pretrained checkpoint is in the trainable already, so
    # that restoring here overrides it; without either the trainable's own initial weights remain.
    if resume_from is not None:
        folder = checkpoints.find(Path(resume_from))
        _require_same_run(folder, trainable, settings)
        trainable.restore(folder)
        state = checkpoints.resume(root, folder)
        _require_step(trainable, state)
        logging.info("Resuming at step %d: epoch %d, batch %d.", state.step, state.epoch + 1, state.batch + 1)
    else:
        checkpoints.begin(root)
        state = TrainState(settings.seed, _fingerprint(trainable), trainable.step)
        if settings.max_steps is not None and state.step >= settings.max_steps:
            raise ValueError(
                f"max_steps counts all steps and must be above the {state.step} that the trainable starts "
                f"with. Received: {settings.max_steps}"
            )
    if isinstance(trainable, KeepsRunFiles):
        trainable.write_run_files(root)
    with Interruption() as interruption, TensorBoardWriter(root / FOLDER, state.step) as board:
        saved = None if resume_from is None else state.step
        return _Run(trainable, settings, root, state, interruption, board, saved).to_the_end()


class _Run:
    """One call of ``run``: its arguments, where it stands and the last step that is saved."""

    def __init__(
        self,
        trainable: Trainable,
        settings: LoopSettings,
        root: Path,
        state: TrainState,
        interruption: Interruption,
        board: TensorBoardWriter,
        saved: int | None,
    ) -> None:
        self._trainable, self._settings, self._root = trainable, settings, root
        self._state, self._interruption, self._board = state, interruption, board
        window = settings.read_every_steps
        if window is None:
            window = 20 if tf.config.list_logical_devices("GPU") else 1
        self._window = ScalarWindow(window)
        self._saved = saved
        # Asked once, at the start: the checkout may change while the run goes on.
        self._versions = versions()

    def to_the_end(self) -> RunResult:
        stopped_by = self._why_stop()
        while stopped_by is None:
            began = time.monotonic()
            whole = self._train()
            if self._interruption.requested is None:
                self._end_epoch(whole, began)
            stopped_by = self._why_stop()
        state = self._state
        if stopped_by == "interruption" and state.step != self._saved:
            self._save((LAST,))
        if state.history:
            plots.learning_curves(self._root / plots.NAME, state.history, state.best)
            plots.loss_curves(self._root / plots.LOSS_NAME, state.history, state.best)
        logging.info("Stopped by %s at step %d.", stopped_by, state.step)
        return RunResult(
            step=state.step,
            epoch=state.epoch,
            stopped_by=stopped_by,
            best=state.best,
            best_folder=None if state.best is None else self._folder(state.best.step),
            last_folder=self._folder(state.step),
            history=tuple(state.history),
        )

    def _why_stop(self) -> StoppedBy | None:
        state, settings = self._state, self._settings
        # Reached in the midst of an epoch and interrupted before the validation: that is still to do.
        recorded = bool(state.history) and state.history[-1]["step"] == state.step
        if settings.max_steps is not None and state.step >= settings.max_steps and recorded:
            return "max_steps"
        if state.epoch >= settings.num_epochs:
            return "num_epochs"
        patience = settings.early_stopping_patience
        if patience is not None and state.validations_since_best >= patience:
            return "early_stopping"
        # Last: a signal that comes when all is done interrupts nothing.
        return None if self._interruption.requested is None else "interruption"

    def _train(self) -> bool:
        """Trains to the end of the epoch and returns True, or to an earlier stop and returns False."""
        state, settings = self._state, self._settings
        title = f"epoch {state.epoch + 1}/{settings.num_epochs}"
        total = self._trainable.num_batches()
        with EpochProgress(title, total, state.batch, settings.progress_seconds) as progress:
            # A batch is asked for before the step boundary is looked at: that there is one tells that
            # the boundary is not the epoch's end, which saves by itself.
            for batch in self._trainable.batches(state.epoch, state.batch):
                if self._interruption.requested is not None:
                    return False
                if settings.max_steps is not None and state.step >= settings.max_steps:
                    return False
                if self._checkpoint_due():
                    self._save((LAST,))
                scalars = self._trainable.train_step(batch)
                state.step += 1
                state.batch += 1
                self._window.add(Position(state.epoch, state.batch - 1, state.step), scalars)
                if self._window.full:
                    self._read_scalars(progress)
                progress.advance()
            self._read_scalars(progress)
        if state.batch == 0:
            raise ValueError(f"The training data must have at least one batch. Received: none in {title}")
        return True

    def _checkpoint_due(self) -> bool:
        every, state = self._settings.checkpoint_every_steps, self._state
        return every is not None and state.step % every == 0 and state.batch > 0

    def _read_scalars(self, progress: EpochProgress | None = None) -> None:
        try:
            for position, values in self._window.read():
                add_to_sums(self._state.sums, values)
                if progress is not None:
                    progress.loss(values[LOSS])
                if position.step % self._settings.log_every_steps == 0:
                    shown = {name: value for name, value in values.items() if name != WEIGHT}
                    self._board.scalars("train", shown, position.step)
        except NonFiniteError as error:
            # The batch itself is not kept for this: batches can be asked for again.
            epoch, skip, _ = error.position
            batch = next(iter(self._trainable.batches(epoch, skip)))
            described = self._trainable.describe(batch)
            raise NonFiniteError(error.position, error.name, error.value, described) from None

    def _end_epoch(self, whole: bool, began: float) -> None:
        """Validates where it is due, records the epoch, saves. Returns early when it is interrupted."""
        state, settings = self._state, self._settings
        self._read_scalars()
        trained = means(state.sums)
        row: Row = {"epoch": state.epoch + 1, "step": state.step}
        row |= {f"train/{name}": value for name, value in trained.items()}
        number = state.epoch + 1
        due = number % settings.validate_every_epochs == 0 or number == settings.num_epochs
        reached = settings.max_steps is not None and state.step >= settings.max_steps
        evaluation = None
        if due or reached:
            try:
                with self._interruption.abortable():
                    evaluation = self._trainable.evaluate(state.epoch)
            except KeyboardInterrupt:
                if self._interruption.requested is None:
                    raise
                return
            _require_complete(evaluation, self._trainable.best_metric, number)
            row |= {f"validation/{name}": float(v) for name, v in evaluation.scalars.items()}

        improved = evaluation is not None and self._judge(evaluation)
        state.history.append(row)
        if whole:
            state.epoch, state.batch, state.sums = state.epoch + 1, 0, {}

        self._board.scalars("train_epoch", trained, state.step)
        losses = {"train": trained[LOSS]}
        if evaluation is not None:
            self._board.evaluation(evaluation, state.step)
            if LOSS in evaluation.scalars:
                losses["test"] = evaluation.scalars[LOSS]
        # One chart with both curves, under the tags that SARNN's originals have.
        self._board.scalars("Loss", losses, state.step)
        self._board.flush()
        _log(row, settings.num_epochs, time.monotonic() - began, improved)
        self._save((LAST, BEST) if improved else (LAST,), {} if evaluation is None else evaluation.scalars)
        metrics_csv.write(self._root / metrics_csv.NAME, state.history)

    def _judge(self, evaluation: Evaluation) -> bool:
        """Whether this is a new best; keeps count."""
        state, name = self._state, self._trainable.best_metric
        value = float(evaluation.scalars[name])
        tie = self._settings.ties_improve and state.best is not None and value == state.best.value
        if state.best is not None and not (value < state.best.value or tie):
            state.validations_since_best += 1
            return False
        state.best = Best(name, value, state.epoch + 1, state.step)
        state.validations_since_best = 0
        return True

    def _save(self, pointers: tuple[str, ...], metrics: Mapping[str, float] | None = None) -> None:
        self._read_scalars()
        _require_step(self._trainable, self._state)
        numbers = {name: float(value) for name, value in (metrics or {}).items()}
        checkpoints.publish(self._root, self._state, self._trainable.save, self._versions, pointers, numbers)
        self._saved = self._state.step

    def _folder(self, step: int) -> Path:
        return self._root / checkpoint_folder.folder_name(step)


def _fingerprint(trainable: Trainable) -> Mapping[str, object]:
    if not isinstance(trainable, Fingerprinted):
        return {}
    fingerprint = trainable.fingerprint()
    if not isinstance(fingerprint, Mapping):
        raise ValueError(f"fingerprint() must return JSON values by name. Received: {fingerprint!r}")
    return fingerprint


def _require_same_run(folder: Path, trainable: Trainable, settings: LoopSettings) -> None:
    before = train_state.load(folder)
    now = TrainState(settings.seed, _fingerprint(trainable), before.step)
    pairs: dict[str, tuple[object, object]] = {"seed": (before.seed, now.seed)}
    old_parts, new_parts = _parts(before.fingerprint), _parts(now.fingerprint)
    for name in sorted({*old_parts, *new_parts}):
        pairs[name] = (old_parts.get(name, "nothing"), new_parts.get(name, "nothing"))
    if before.best is not None:
        pairs["best_metric"] = (before.best.metric, trainable.best_metric)
    different = [f"{name}: {old!r} before, {new!r} now" for name, (old, new) in pairs.items() if old != new]
    if different:
        raise ValueError(
            "A resumed run must have the seed, data, batches and configuration that it had (its "
            "--config_file and --gin_bindings too). To continue from these weights otherwise, start a new "
            f"run with the checkpoint as pretrained. Received: {'; '.join(different)} ({folder})"
        )


def _parts(value: Any, name: str = "") -> dict[str, Any]:
    """What a fingerprint holds by its path, so that only what differs is told: {"model.rec_dim": 50, …}."""
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    found = {
        k: v for key, part in inner for k, v in _parts(part, f"{name}.{key}" if name else f"{key}").items()
    }
    return found or ({name: value} if name else {})


def _require_step(trainable: Trainable, state: TrainState) -> None:
    if trainable.step != state.step:
        raise ValueError(
            "The trainable must count one step for each train_step and restore its count. Received: step "
            f"{trainable.step} where the loop counts {state.step}"
        )


def _require_complete(evaluation: Evaluation, best_metric: str, epoch: int) -> None:
    if best_metric not in evaluation.scalars:
        raise ValueError(
            f"The validation of epoch {epoch} must give the best metric {best_metric!r}. "
            f"Received: {sorted(evaluation.scalars)}"
        )
    for name, value in evaluation.scalars.items():
        if not math.isfinite(value):
            raise ValueError(
                f"{name} of the validation of epoch {epoch} must be finite. Received: {float(value)}"
            )


def _log(row: Row, num_epochs: int, seconds: float, improved: bool) -> None:
    # Names with a group of their own ("image/depth") are details, which TensorBoard and metrics.csv have.
    metrics = ", ".join(f"{name} {value:.5g}" for name, value in row.items() if name.count("/") == 1)
    best = " (new best)" if improved else ""
    logging.info(
        "epoch %d/%d, step %d, %.1f s: %s%s", row["epoch"], num_epochs, row["step"], seconds, metrics, best
    )
