"""Training RT-1 on robot episodes: windows of frames and an instruction to action tokens."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gin
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory as trajectory_lib

from core.spec import ArraySpec, PolicySpec
from core.trainable import Evaluation
from language import TextEncoder
from rt1 import losses, specs
from rt1.action_mapping import action_mapping
from rt1.augmentation import Augmentation, make_augmentation
from rt1.policy_folder import PolicyDescription
from rt1.rlds_dataset import TRAIN, VALIDATION, RldsTrainingData, open_training_data
from rt1.rt1_trainable import RT1Trainable, make_agent, make_trajectory
from rt1.schedule import make_learning_rate
from rt1.serving_policy import INSTRUCTION
from rt1.transformer_network import CROSS_ENTROPY, IMAGE, REGRESSION, TransformerNetwork


class RldsTrainable(RT1Trainable):
    """Windows of an RLDS data set."""

    best_metric = "loss"

    def __init__(
        self,
        data: RldsTrainingData,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        **arguments: Any,
    ) -> None:
        """Takes the data beside the arguments of ``RT1Trainable``."""
        super().__init__(**arguments)
        self._data = data
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._seed = seed
        self._drop_remainder = self._strategy.num_replicas_in_sync > 1
        self._evaluate = tf.function(self._evaluate_batch, reduce_retracing=True)

    @property
    def data(self) -> RldsTrainingData:
        return self._data

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            **super().fingerprint(),
            "data": self._data.statistics.fingerprint,
            "batch_size": self._batch_size,
        }

    def batches(self, epoch: int, skip: int = 0) -> Iterable[Any]:
        return self.distribute(
            self._data.batches(
                TRAIN,
                self._batch_size,
                seed=self._seed,
                epoch=epoch,
                skip=skip,
                augment=self._augmentation,
                drop_remainder=self._drop_remainder,
            )
        )

    def num_batches(self) -> int:
        windows = self._data.statistics.steps
        whole, rest = divmod(windows, self._batch_size)
        return whole + (1 if rest and not self._drop_remainder else 0)

    def experience(self, batch: Any) -> tuple[trajectory_lib.Trajectory, tf.Tensor]:
        experience = make_trajectory(batch["observation"], batch["action"], batch["step_type"])
        return experience, tf.cast(~batch["is_padding"], tf.float32)

    def describe(self, batch: Any) -> str:
        info = batch["info"]
        pairs = zip(np.asarray(info["episode_id"]), np.asarray(info["step_index"]), strict=True)
        return "windows " + ", ".join(f"{e.decode()}@{s}" for e, s in pairs)

    def evaluate(self, epoch: int) -> Evaluation:
        """``evaluate_part`` on the held-out episodes."""
        return self.evaluate_part(VALIDATION)

    def evaluate_part(self, part: str) -> Evaluation:
        """The loss per counted step of a part's episodes (``train`` or ``val``), and accuracies of tokens.

        ``loss`` is the mean over steps that count, whatever the training loss is scaled by, so that it can
        be compared between data sets. ``token_accuracy/NAME`` is by action dimension,
        ``token_accuracy_by_time/T`` by the position in the window.
        """
        total = count = 0.0
        right: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        tokens: list[np.ndarray] = []
        for batch in self._data.batches(part, self._batch_size, seed=None):
            step_losses, mask, correct, predicted = (x.numpy() for x in self._evaluate(batch))
            total += float(np.sum(np.where(mask > 0, step_losses, 0.0)))
            count += float(np.sum(mask))
            right.append(correct)
            masks.append(mask)
            tokens.append(predicted[mask > 0])
        if not count:
            raise ValueError("Validation needs at least one step that counts. Received: none")
        scalars = {"loss": total / count}
        histograms: dict[str, np.ndarray] = {"predicted_tokens": np.concatenate(tokens)}
        correct, mask = np.concatenate(right), np.concatenate(masks)
        weight = mask[..., None]
        scalars["token_accuracy"] = float(np.sum(correct * weight) / (count * correct.shape[-1]))
        names = self.network.action_tokenizer.token_names
        for i, name in enumerate(names):
            scalars[f"token_accuracy/{name}"] = float(np.sum(correct[..., i] * mask) / count)
        for t in range(mask.shape[1]):
            if np.sum(mask[:, t]):
                accuracy = np.sum(correct[:, t] * weight[:, t]) / (np.sum(mask[:, t]) * len(names))
                scalars[f"token_accuracy_by_time/{t}"] = float(accuracy)
        return Evaluation(scalars, histograms)

    def _evaluate_batch(self, batch: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        experience, weights = self.experience(batch)
        mask = weights * tf.cast(experience.step_type != ts.StepType.LAST, tf.float32)
        info = self._agent.loss(experience, weights)
        # Without RT-1's scale, so that the figure does not depend on the batch size.
        step_losses = info.extra["unscaled_step_losses"]
        predicted = self.network.tokens(info.extra["scores"])
        true = self.network.action_tokenizer.tokenize(experience.action)
        return step_losses, mask, tf.cast(predicted == true, tf.float32), predicted


@gin.configurable(module="rt1", allowlist=["control_hz"])
def make_rlds_trainable(
    data_dir: str | Path,
    encoder: TextEncoder,
    encoder_source: str,
    *,
    batch_size: int,
    loss_type: str,
    frozen: Iterable[str],
    seed: int,
    strategy: tf.distribute.Strategy,
    control_hz: float | None = None,
) -> RldsTrainable:
    """Puts an RLDS data set, the network that gin configures and the agent together.

    The data set's keys, the action mapping, the window and the held-out episodes are gin's
    (``open_training_data``, ``action_mapping``).

    Args:
      data_dir: see ``episodes.rlds.open_rlds``.
      encoder, encoder_source: of the instructions.
      batch_size: in windows.
      loss_type, frozen, seed, strategy: as in ``make_food_trainable``.
      control_hz: how often a step was recorded, for the policy's users.

    Raises:
      FileNotFoundError, ValueError: see the parts.
    """
    data = open_training_data(data_dir, encoder, mapping=action_mapping())
    head = CROSS_ENTROPY if loss_type == losses.CROSS_ENTROPY else REGRESSION
    height, width = data.image_size
    tf.keras.utils.set_random_seed(seed)
    with strategy.scope():
        network = TransformerNetwork(
            specs.observation_spec(height, width, "uint8", encoder.size),
            specs.action_spec(data.action_specs),
            head=head,
            time_sequence_length=data.window,
        )
        agent = make_agent(network, loss_type=loss_type, frozen=frozen, seed=seed)
    spec = PolicySpec(
        model="rt1",
        task="manipulation",
        observations=(
            ArraySpec(IMAGE, (None, None, 3), "uint8", 0, 255, description="RGB, as the training camera"),
            ArraySpec(INSTRUCTION, (), "string", description="what to do, in words"),
        ),
        actions=data.action_specs,
        encoder=encoder.identity,
        free_text=encoder.free_text,
        control_hz=control_hz,
        details={"window": data.window, "loss_type": loss_type},
    )
    description = PolicyDescription(
        network=network.arguments(),
        image_size=(height, width),
        image_dtype="uint8",
        loss_type=loss_type,
        encoder_source=encoder_source,
        spec=spec,
    )
    return RldsTrainable(
        data,
        batch_size,
        make_augmentation(),
        seed,
        agent=agent,
        description=description,
        statistics=data.statistics,
        schedule=make_learning_rate(),
        strategy=strategy,
    )
