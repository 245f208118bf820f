"""A SARNN with its data and optimiser, as the training loop drives it."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from core import checkpoint_folder
from core.named_variables import named_variables
from core.trainable import Evaluation
from episodes.statistics import DatasetStatistics, compute_statistics
from sarnn_tf.data import Batch, Parts, PreparedData, batches, num_batches
from sarnn_tf.description import JOINTS, SarnnDescription, write_description
from sarnn_tf.image_modality import IMAGE
from sarnn_tf.learning.loss_scheduler import LossScheduler
from sarnn_tf.learning.losses import LossWeights, total_loss
from sarnn_tf.learning.optimizer import TorchAdam
from sarnn_tf.learning.training_step import LOSS, losses_and_gradients, losses_of
from sarnn_tf.networks.clip_sarnn import ClipSarnn, ClipSarnnOutput, Observations
from sarnn_tf.networks.sarnn import Sarnn
from sarnn_tf.pictures import border_of, draw_prediction
from sarnn_tf.prediction import predict
from sarnn_tf.weights_file import WEIGHTS, load_variables, load_weights, save_variables, save_weights

OPTIMIZER = "optimizer.npz"
_PICTURE_STEPS = 4


@dataclasses.dataclass(frozen=True)
class Noise:
    """What training does to the inputs; targets and CLIP's features stay clean.

    Attributes:
      images: deviation of normal noise on images, whose values are 0 to 1 (EIPL: 0.02).
      joints: deviation of normal noise on joints, as a share of vmax - vmin (EIPL: 0.1).
      augment: EIPL's erased rectangle and changes of colour, one draw for a sequence.

    Raises:
      ValueError: a deviation is negative.
    """

    images: float = 0.02
    joints: float = 0.1
    augment: bool = False

    def __post_init__(self) -> None:
        if not (self.images >= 0 and self.joints >= 0):
            raise ValueError(f"Deviations of noise must be >= 0. Received: {self}")


@gin.configurable(module="sarnn_tf")
def make_noise(images: float = 0.02, joints: float = 0.1, augment: bool = False) -> Noise:
    """See ``Noise``."""
    return Noise(images, joints, augment)


@gin.configurable(module="sarnn_tf")
def make_loss_weights(image: float = 0.1, joint: float = 1.0, point: float = 0.1) -> LossWeights:
    """See ``LossWeights``."""
    return LossWeights(image, joint, point)


class SarnnTrainable:
    """See ``core.trainable.Trainable``.

    The loss that is reported, drawn and judged has the full weight of the point loss at every step, in
    training and validation alike, so that its values compare; what a step minimises, with the point loss at
    its present share, is ``objective``.
    """

    best_metric = "loss"

    def __init__(
        self,
        model: Sarnn | ClipSarnn,
        description: SarnnDescription,
        prepared: PreparedData,
        parts: Parts,
        optimizer: TorchAdam,
        strategy: tf.distribute.Strategy,
        *,
        batch_size: int,
        scheduler: LossScheduler,
        weights: LossWeights,
        noise: Noise,
        gradient_clip_norm: float | None = None,
        max_lengths: int = 4,
        picture_every_epochs: int = 10,
        seed: int = 0,
        write_run_files: Callable[[Path], None] = lambda root: None,
    ) -> None:
        """Compiles nothing yet.

        Args:
          model: made within ``strategy``'s scope.
          description: of the model; saved beside the weights.
          prepared: the data.
          parts: which episodes train and which are held out.
          optimizer: of ``model.trainable_variables``.
          strategy: of a single replica.
          batch_size: episodes.
          scheduler: of the point loss, by optimiser steps.
          weights: of the losses.
          noise: on the inputs in training.
          gradient_clip_norm: of all gradients together; None, as published, for no limit.
          max_lengths: to how many lengths, at most, batches are padded.
          picture_every_epochs: how often a validation draws; the first of a process always does.
          seed: of everything drawn.
          write_run_files: see ``core.trainable.KeepsRunFiles``.

        Raises:
          ValueError: an argument is out of range.
        """
        if gradient_clip_norm is not None and not gradient_clip_norm > 0:
            raise ValueError(f"gradient_clip_norm must be > 0 or None. Received: {gradient_clip_norm}")
        for name, value in (("batch_size", batch_size), ("picture_every_epochs", picture_every_epochs)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1. Received: {value}")
        self._model, self._description = model, description
        self._prepared, self._parts = prepared, parts
        self._optimizer, self._strategy = optimizer, strategy
        self._batch_size, self._max_lengths, self._seed = batch_size, max_lengths, seed
        self._scheduler, self._weights, self._noise = scheduler, weights, noise
        self._clip_norm, self._picture_every = gradient_clip_norm, picture_every_epochs
        self._write_run_files = write_run_files
        self._statistics: DatasetStatistics | None = None
        self._has_drawn = False
        self._spec = _spec_of(self.batches(0))

    @functools.cached_property
    def _compiled_step(self) -> Callable[[Batch], Mapping[str, tf.Tensor]]:
        return _traced(self._step, self._spec)

    @functools.cached_property
    def _compiled_losses(self) -> Callable[[Batch], Mapping[str, tf.Tensor]]:
        return _traced(lambda batch: losses_of(self._model, batch, self._weights), self._spec)

    @functools.cached_property
    def _compiled_prediction(self) -> Callable[[Observations], ClipSarnnOutput]:
        return _traced(lambda inputs: predict(self._model, inputs)[0], self._spec.inputs)

    @property
    def model(self) -> Sarnn | ClipSarnn:
        return self._model

    @property
    def description(self) -> SarnnDescription:
        return self._description

    @property
    def step(self) -> int:
        return int(self._optimizer.iterations.numpy())

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "data": self._prepared.fingerprint,
            "train": _digest(self._prepared.ids[i] for i in self._parts.train),
            "test": _digest(self._prepared.ids[i] for i in self._parts.test),
            "model": dataclasses.asdict(self._description),
            "batch_size": self._batch_size,
            "noise": dataclasses.asdict(self._noise),
            "weights": dataclasses.asdict(self._weights),
            "scheduler": dataclasses.asdict(self._scheduler),
            "optimizer": self._optimizer.settings,
            "gradient_clip_norm": self._clip_norm,
            "max_lengths": self._max_lengths,
        }

    def write_run_files(self, root: Path) -> None:
        self._write_run_files(root)

    def batches(self, epoch: int, skip: int = 0) -> tf.data.Dataset:
        width = self._description.vmax - self._description.vmin
        return batches(
            self._prepared,
            self._description,
            self._parts.train,
            self._batch_size,
            seed=self._seed,
            epoch=epoch,
            skip=skip,
            stdev=self._noise.images,
            joint_stdev=self._noise.joints * width,
            augment=self._noise.augment,
            max_lengths=self._max_lengths,
        )

    def num_batches(self) -> int:
        return num_batches(self._parts.train, self._batch_size)

    def train_step(self, batch: Batch) -> Mapping[str, tf.Tensor]:
        """One optimiser step.

        Returns:
          ``loss``, ``objective``, the losses of ``sequence_losses``, ``point_share``, ``gradient_norm``,
          and ``weight`` (episodes).
        """
        return self._strategy.run(self._compiled_step, args=(_without_names(batch),))

    def _step(self, batch: Batch) -> dict[str, tf.Tensor]:
        share = tf.cast(self._scheduler.at(self._optimizer.iterations), tf.float32)
        losses, gradients = losses_and_gradients(self._model, batch, self._weights, share)
        norm = tf.linalg.global_norm(gradients)
        if self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm, use_norm=norm)
        self._optimizer.apply(gradients)
        parts = {name: value for name, value in losses.items() if name != LOSS}
        return parts | {
            "loss": total_loss(parts, self._weights),
            "objective": losses[LOSS],
            "point_share": share,
            "gradient_norm": norm,
            "weight": _episodes(batch),
        }

    def describe(self, batch: Batch) -> str:
        return "episodes " + ", ".join(name.decode() for name in batch.episodes.numpy())

    def evaluate(self, epoch: int) -> Evaluation:
        """The losses of ``losses_of`` over the held-out episodes, each episode counting alike.

        The pictures, of the first validation and of every so many epochs, show the first held-out episode
        at a few steps.

        Raises:
          ValueError: there is no held-out episode.
        """
        sums: dict[str, float] = {}
        count, first = 0.0, None
        for batch in batches(
            self._prepared,
            self._description,
            self._parts.test,
            self._batch_size,
            seed=None,
            max_lengths=self._max_lengths,
        ):
            first = batch if first is None else first
            weight = float(_episodes(batch))
            for name, value in self._compiled_losses(_without_names(batch)).items():
                sums[name] = sums.get(name, 0.0) + weight * float(value)
            count += weight
        if first is None or not count:
            raise ValueError(f"Validation needs a held-out episode. Received: none; {self._parts.rule}")
        scalars = {name: total / count for name, total in sums.items()}
        draw = not self._has_drawn or (epoch + 1) % self._picture_every == 0
        self._has_drawn = True
        return Evaluation(scalars, images=self._pictures(first) if draw else {})

    def _pictures(self, batch: Batch) -> dict[str, np.ndarray]:
        """Modality -> uint8 [n, H, 3 W, 3], see ``draw_prediction``."""
        images, joints, patches, text = batch.inputs
        one = Observations(
            {name: x[:1] for name, x in images.items()},
            joints[:1],
            None if patches is None else patches[:1],
            None if text is None else text[:1],
        )
        output = self._compiled_prediction(one)
        steps = int(np.count_nonzero(batch.real[0]))
        shown = np.unique(np.linspace(0, steps - 2, _PICTURE_STEPS).round().astype(int))
        pictures = {}
        for modality in self._description.modalities:
            name = modality.name
            grid = patches.shape[2] if patches is not None and name == IMAGE else None
            border = border_of(modality, grid)
            seen = batch.images[name][0].numpy()
            predicted, found, expected = (
                by_name[name][0].numpy()
                for by_name in (output.images, output.encoder_points, output.decoder_points)
            )
            drawn = [
                draw_prediction(seen[t], predicted[t], seen[t + 1], found[t], expected[t], border)
                for t in shown
            ]
            pictures[f"prediction/{name}"] = np.stack(drawn)
        return pictures

    def save(self, folder: Path) -> None:
        save_weights(self._model, folder / WEIGHTS)
        save_variables(self._slots(), folder / OPTIMIZER)
        write_description(folder, self._description)
        if self._statistics is None:
            everything = (self._prepared.episode(i) for i in range(len(self._prepared)))
            self._statistics = compute_statistics((e.id, {JOINTS: e.joints}) for e in everything)
        self._statistics.save(folder / checkpoint_folder.STATISTICS)

    def restore(self, folder: Path) -> None:
        load_weights(self._model, folder / WEIGHTS)
        load_variables(self._slots(), folder / OPTIMIZER)

    def _slots(self) -> dict[str, tf.Variable]:
        """The optimiser's variables by name; moments are named after what they are of."""
        names = {id(variable): name for name, variable in named_variables(self._model).items()}
        found = {"iterations": self._optimizer.iterations, "learning_rate": self._optimizer.learning_rate}
        moments = {"first": self._optimizer.first_moments, "second": self._optimizer.second_moments}
        for kind, slots in moments.items():
            for variable, slot in zip(self._model.trainable_variables, slots, strict=True):
                found[f"{kind}/{names[id(variable)]}"] = slot
        return found


def _traced(function: Callable[[Any], Any], spec: Any) -> Callable[[Any], Any]:
    """A graph for arguments of all sizes that ``spec`` leaves open: a trace takes as long as many steps."""
    graph = tf.function(function)
    graph.get_concrete_function(spec)
    return graph


def _spec_of(dataset: tf.data.Dataset) -> Batch:
    """What ``_traced`` needs: the specification without names, and None, not a specification, for None."""
    spec = _without_names(dataset.element_spec)
    patches, text = (x if isinstance(x, tf.TensorSpec) else None for x in spec.inputs[2:])
    return spec._replace(inputs=spec.inputs._replace(patches=patches, text=text))


def _without_names(batch: Batch) -> Batch:
    """Texts have no place on a device."""
    return batch._replace(episodes=None)


def _episodes(batch: Batch) -> tf.Tensor:
    return tf.cast(tf.shape(batch.real)[0], tf.float32)


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
