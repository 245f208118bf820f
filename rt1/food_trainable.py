"""Fine-tuning RT-1 on food acquisition: one image and an instruction to four execution parameters."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gin
import numpy as np
import tensorflow as tf
from absl import logging
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory as trajectory_lib

from core import food
from core.spec import ArraySpec, PolicySpec
from core.trainable import Evaluation
from episodes.food_npz import FoodData, read_food_npz
from episodes.splits import IndexSplit, load_or_make_split
from language import TextEncoder, require_same_encoder
from rt1 import losses, specs
from rt1.augmentation import Augmentation, make_augmentation
from rt1.drawing import prediction_grid
from rt1.food_dataset import food_batches, food_batches_per_epoch
from rt1.food_metrics import food_metrics, mean_predictor_metrics
from rt1.policy_folder import PolicyDescription
from rt1.rt1_trainable import RT1Trainable, make_agent, make_trajectory
from rt1.schedule import make_learning_rate
from rt1.serving_policy import INSTRUCTION
from rt1.transformer_network import CROSS_ENTROPY, EMBEDDING, IMAGE, REGRESSION, TransformerNetwork

_GRID_IMAGES = 12


class FoodTrainable(RT1Trainable):
    """The food data set's windows have one frame and one action, the box."""

    best_metric = "centroid_mae"

    def __init__(
        self,
        data: FoodData,
        split: IndexSplit,
        batch_size: int,
        image_size: int,
        augmentation: Augmentation,
        seed: int,
        **arguments: Any,
    ) -> None:
        """Takes the data beside the arguments of ``RT1Trainable``."""
        super().__init__(**arguments)
        self._data = data
        self._split = split
        self._batch_size = batch_size
        self._image_size = image_size
        self._augmentation = augmentation
        self._seed = seed
        self._drop_remainder = self._strategy.num_replicas_in_sync > 1
        self._evaluate = tf.function(self._evaluate_batch, reduce_retracing=True)

    def fingerprint(self) -> Mapping[str, Any]:
        split = hashlib.sha256(self._split.train.tobytes() + b"/" + self._split.val.tobytes())
        return {
            **super().fingerprint(),
            "data": self._data.fingerprint,
            "split": split.hexdigest(),
            "batch_size": self._batch_size,
        }

    def batches(self, epoch: int, skip: int = 0) -> Iterable[Any]:
        return self.distribute(
            food_batches(
                self._data,
                self._split.train,
                self._batch_size,
                seed=self._seed,
                epoch=epoch,
                augment=self._augmentation,
                image_size=self._image_size,
                skip=skip,
                drop_remainder=self._drop_remainder,
            )
        )

    def num_batches(self) -> int:
        return food_batches_per_epoch(len(self._split.train), self._batch_size, self._drop_remainder)

    def experience(self, batch: Any) -> tuple[trajectory_lib.Trajectory, tf.Tensor]:
        observation = {name: batch[name] for name in (IMAGE, EMBEDDING)}
        step_type = tf.fill([tf.shape(batch["label"])[0], 1], ts.StepType.MID)
        actions = {specs.FOOD_ACTION: batch["label"][:, None]}
        return make_trajectory(observation, actions, step_type), tf.ones_like(step_type, tf.float32)

    def describe(self, batch: Any) -> str:
        return f"examples {np.asarray(batch['index']).tolist()}"

    def evaluate(self, epoch: int) -> Evaluation:
        """The food metrics on the held-out examples, the loss, and the mean predictor's centroid MAE."""
        predicted: list[np.ndarray] = []
        true: list[np.ndarray] = []
        images: list[np.ndarray] = []
        indices: list[np.ndarray] = []
        total = 0.0
        for batch in self.batches_of(self._split.val):
            boxes, loss = self._evaluate(batch)
            predicted.append(boxes.numpy())
            true.append(batch["label"].numpy())
            total += float(loss) * len(boxes)
            if sum(len(shown) for shown in images) < _GRID_IMAGES:
                images.append(batch[IMAGE][:, 0].numpy())
                indices.append(batch["index"].numpy())
        boxes, labels = np.concatenate(predicted), np.concatenate(true)
        scalars = {"loss": total / len(boxes), **food_metrics(boxes, labels)}
        baseline = mean_predictor_metrics(self._data.actions[self._split.train], labels)
        scalars["centroid_mae_of_mean_predictor"] = baseline["centroid_mae"]
        scalars |= self._token_accuracy(boxes, labels)
        shown = np.concatenate(images)[:_GRID_IMAGES]
        texts = self._texts(np.concatenate(indices)[:_GRID_IMAGES])
        grid = prediction_grid(shown, boxes[: len(shown)], labels[: len(shown)], texts)
        return Evaluation(
            scalars,
            {"predicted": boxes, "error": boxes - labels},
            {"predictions": grid[None]},
        )

    def _token_accuracy(self, boxes: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """How often each coordinate falls into the right one of the tokens' bins, for either head."""
        tokenize = self.network.action_tokenizer.tokenize
        predicted, true = (tokenize({specs.FOOD_ACTION: values}).numpy() for values in (boxes, labels))
        right = np.mean(predicted == true, axis=0)
        return {f"token_accuracy/{name}": float(r) for name, r in zip(food.PARAMETERS, right, strict=True)}

    def batches_of(self, indices: np.ndarray) -> tf.data.Dataset:
        """Batches of these examples in their order, as validation sees them."""
        return food_batches(self._data, indices, self._batch_size, seed=None, image_size=self._image_size)

    def predict(self, batch: Any) -> np.ndarray:
        """The network's boxes of a batch, float32 [b, 4], not clipped."""
        return self._evaluate(batch)[0].numpy()

    def _texts(self, indices: np.ndarray) -> list[str] | None:
        names = self._data.instructions
        return None if names is None else [names[i] for i in indices]

    def _evaluate_batch(self, batch: Any) -> tuple[tf.Tensor, tf.Tensor]:
        experience, weights = self.experience(batch)
        info = self._agent.loss(experience, weights)
        return self.network.actions(info.extra["scores"])[specs.FOOD_ACTION][:, 0], info.loss


@gin.configurable(module="rt1", allowlist=["encoder_identity"])
def make_food_trainable(
    dataset_file: str | Path,
    split_file: str | Path,
    encoder: TextEncoder,
    encoder_source: str,
    *,
    batch_size: int,
    image_size: int,
    loss_type: str,
    frozen: Iterable[str],
    seed: int,
    strategy: tf.distribute.Strategy,
    encoder_identity: str | None = None,
) -> FoodTrainable:
    """Puts the food data, the network that gin configures and the agent together.

    Args:
      dataset_file: the NPZ of ``episodes.food_npz``.
      split_file: ``train_idx`` and ``val_idx``; a seeded 80/20 split is made there where it is absent.
      encoder, encoder_source: of the instructions, in serving; the data's embeddings must be its.
      batch_size, image_size: of training.
      loss_type: ``cross_entropy``, ``l1`` or ``smooth_l1``; it decides the network's head.
      frozen: parts of the network that are not trained.
      seed: of weights, order, augmentation and dropout.
      strategy: within which the variables are made.
      encoder_identity: of the encoder that made the file's embeddings, for files that do not name it.

    Raises:
      FileNotFoundError, ValueError: see the parts.
    """
    data = read_food_npz(dataset_file, encoder_identity)
    require_same_encoder(encoder.identity, data.encoder, f"the embeddings of {dataset_file}")
    split = load_or_make_split(split_file, len(data), seed, fingerprint=data.fingerprint)
    logging.info(
        "%s: %d examples to train on, %d held out (%s).",
        dataset_file,
        len(split.train),
        len(split.val),
        split_file,
    )
    head = CROSS_ENTROPY if loss_type == losses.CROSS_ENTROPY else REGRESSION
    tf.keras.utils.set_random_seed(seed)
    with strategy.scope():
        network = TransformerNetwork(
            specs.observation_spec(image_size, image_size, "float32", encoder.size),
            specs.action_spec(specs.FOOD_ACTIONS),
            head=head,
            time_sequence_length=1,
        )
        # The network's own shift knows no labels; the food data's is Augmentation.shift, which moves them.
        agent = make_agent(network, loss_type=loss_type, frozen=frozen, seed=seed, random_shift=False)
    description = PolicyDescription(
        network=network.arguments(),
        image_size=(image_size, image_size),
        image_dtype="float32",
        loss_type=loss_type,
        encoder_source=encoder_source,
        spec=food_spec(encoder, loss_type),
    )
    return FoodTrainable(
        data,
        split,
        batch_size,
        image_size,
        make_augmentation(),
        seed,
        agent=agent,
        description=description,
        statistics=None,
        schedule=make_learning_rate(),
        strategy=strategy,
    )


def food_spec(encoder: TextEncoder, loss_type: str) -> PolicySpec:
    """The specification of a food policy whose instructions this encoder encodes."""
    known = getattr(encoder, "combinations", None)
    return PolicySpec(
        model="rt1",
        task="food",
        observations=(
            ArraySpec(IMAGE, (None, None, 3), "uint8", 0, 255, description="RGB, the plate as a whole"),
            ArraySpec(INSTRUCTION, (), "string", description="a combination's name or its sentence"),
        ),
        actions=specs.FOOD_ACTIONS,
        instructions=tuple(known) if known is not None else food.combinations(),
        encoder=encoder.identity,
        free_text=encoder.free_text,
        details={"loss_type": loss_type},
    )
