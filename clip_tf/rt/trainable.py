"""CLIP-RT with its data and optimiser, as the training loop drives it."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from clip_tf.clip_model import ClipModel, openclip_variables
from clip_tf.converted_folder import save_clip
from clip_tf.image_preprocessing import Preprocessing
from clip_tf.rt import samples
from clip_tf.rt.action_scores import TRAINING, action_logits
from clip_tf.rt.confusion_matrix import confusion_matrix, draw_confusion_matrix, top_k_accuracy
from clip_tf.rt.gradients import loss_and_gradients
from clip_tf.rt.objective import Features, clamp_log_scale, clip_rt_loss, unit_length
from clip_tf.rt.optimizer import Schedule
from clip_tf.rt.pipeline import Inputs, batches
from clip_tf.rt.policy_folder import CLIP, PolicyDescription, write_description
from clip_tf.rt.samples import SampleSource
from clip_tf.rt.towers import LOG_SCALE, encode_batch, load_weights, part_of, trained_parameters
from clip_tf.tokenizer import check_vocab_size, tokenize
from core.trainable import Evaluation

OPTIMIZER_CHECKPOINT = "optimizer"
BEST_METRICS = ("loss", "top1_error")


def inputs_of(model: ClipModel, preprocessing: Preprocessing, prompt: str) -> Inputs:
    """What samples are made into for a model; texts that come again are not tokenised anew.

    Raises:
      ValueError: the text tower has fewer rows than the tokenizer has ids.
    """
    check_vocab_size(model.config.text.vocab_size)
    context = model.config.text.context_length

    @functools.lru_cache(maxsize=8192)
    def ids_of(text: str) -> np.ndarray:
        return tokenize([text], context_length=context)[0]

    def all_ids(texts: Sequence[str]) -> np.ndarray:
        return np.stack([ids_of(text) for text in texts])

    return Inputs(preprocessing, context, prompt, all_ids)


class ClipRtTrainable:
    """See ``core.trainable.Trainable``."""

    def __init__(
        self,
        model: ClipModel,
        preprocessing: Preprocessing,
        description: PolicyDescription,
        source: SampleSource,
        optimizer: tf.keras.optimizers.Optimizer,
        schedule: Schedule,
        strategy: tf.distribute.Strategy,
        *,
        batch_size: int,
        frozen: Sequence[str] = (),
        chunks: int = 1,
        augment: bool = True,
        balance: float = 0.0,
        gradient_clip_norm: float | None = None,
        best_metric: str = "loss",
        seed: int = 0,
    ) -> None:
        """Compiles nothing yet.

        Args:
          model: made within ``strategy``'s scope.
          preprocessing: of the model's images; training crops instead of resizing the whole image.
          description: what is saved beside the weights.
          source: of the samples.
          optimizer: built for ``towers.trained_parameters(model, frozen)``, in their order.
          schedule: learning rate by step.
          strategy: each replica takes an equal share of a batch; the loss is over all pairs of all replicas.
          batch_size: examples whose pairs the loss is over.
          frozen: of ``towers.PARTS``.
          chunks: parts in which a replica's share goes through the towers, to save memory, in training and
            validation.
          augment: crops the images at random.
          balance: see ``pipeline.batches``.
          gradient_clip_norm: of all gradients together; None, as published, for no limit.
          best_metric: ``loss`` or ``top1_error`` of the validation.
          seed: of everything drawn.

        Raises:
          ValueError: an argument is out of range.
        """
        replicas = strategy.num_replicas_in_sync
        if batch_size < 1 or chunks < 1 or batch_size % (replicas * chunks):
            raise ValueError(
                f"batch_size must be a multiple of replicas ({replicas}) times chunks ({chunks}). "
                f"Received: {batch_size}"
            )
        if best_metric not in BEST_METRICS:
            raise ValueError(f"best_metric must be one of {BEST_METRICS}. Received: {best_metric!r}")
        if gradient_clip_norm is not None and gradient_clip_norm <= 0:
            raise ValueError(f"gradient_clip_norm must be > 0 or None. Received: {gradient_clip_norm}")
        self.best_metric = best_metric
        self._model, self._description, self._source = model, description, source
        self._preprocessing = preprocessing
        self._optimizer, self._schedule, self._strategy = optimizer, schedule, strategy
        self._batch_size, self._chunks, self._seed = batch_size, chunks, seed
        self._augment, self._balance, self._clip_norm = augment, balance, gradient_clip_norm
        self._parameters = trained_parameters(model, frozen)
        self._inputs = inputs_of(model, preprocessing, description.prompt)
        # What a device holds at once.
        self._share = batch_size // (replicas * chunks)
        # A smaller last batch cannot be shared out evenly.
        self._drop_remainder = self._share < batch_size
        # No Python condition here is on a tensor, and to look for one takes seconds (autograph).
        compiled = functools.partial(tf.function, reduce_retracing=True, autograph=False)
        self._compiled_step = compiled(self._step_on_all)
        self._features = compiled(functools.partial(encode_batch, model))
        self._text_features = compiled(lambda ids: unit_length(model.encode_text(ids)[0]))

    @property
    def model(self) -> ClipModel:
        return self._model

    @property
    def step(self) -> int:
        return int(self._optimizer.iterations.numpy())

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "data": self._source.fingerprint,
            "model": self._model.config.to_json(),
            "preprocessing": self._preprocessing.to_json(),
            "vocabulary": self._description.vocabulary.to_json(),
            "prompt": self._description.prompt,
            "batch_size": self._batch_size,
            "augment": self._augment,
            "balance": self._balance,
            "drop_remainder": self._drop_remainder,
            "trained": sorted({part_of(name) for name in self._parameters}),
        }

    def batches(self, epoch: int, skip: int = 0) -> Iterable[Any]:
        dataset = batches(
            self._source,
            samples.TRAIN,
            self._batch_size,
            self._inputs,
            seed=self._seed,
            epoch=epoch,
            skip=skip,
            augment=self._augment,
            balance=self._balance,
            drop_remainder=self._drop_remainder,
        )
        if self._strategy.num_replicas_in_sync == 1:
            return dataset
        # The samples' names are texts, which stay with the host.
        host = tf.distribute.InputOptions(experimental_fetch_to_device=False)
        return self._strategy.experimental_distribute_dataset(dataset, host)

    def num_batches(self) -> int | None:
        """None where classes are balanced or weighted: how many copies are drawn differs between epochs."""
        if self._balance or not self._source.is_fixed:
            return None
        whole, rest = divmod(int(self._source.counts(samples.TRAIN).sum()), self._batch_size)
        return whole + (1 if rest and not self._drop_remainder else 0)

    def train_step(self, batch: Any) -> Mapping[str, Any]:
        """One optimiser step.

        Returns:
          ``loss``, ``gradient_norm``, ``scale`` (exp τ), ``learning_rate`` and ``weight`` (examples).
        """
        return self._compiled_step(batch)

    def _step_on_all(self, batch: Any) -> dict[str, tf.Tensor]:
        rate = self._schedule.at(self._optimizer.iterations)
        self._optimizer.learning_rate.assign(rate)
        tensors = {name: tensor for name, tensor in batch.items() if name != samples.ID}
        per_replica = self._strategy.run(self._step_on_one, args=(tensors,))
        mean = tf.distribute.ReduceOp.MEAN
        result = {k: self._strategy.reduce(mean, v, axis=None) for k, v in per_replica.items()}
        clamp_log_scale(self._model.logit_scale)
        return {**result, "scale": tf.exp(self._model.logit_scale), "learning_rate": rate}

    def _step_on_one(self, batch: Any) -> dict[str, tf.Tensor]:
        asked = {n: batch[n] for n in (samples.IMAGE, samples.INSTRUCTION, samples.SUPERVISION)}
        towers = {n: v for n, v in self._parameters.items() if n != LOG_SCALE}
        found = loss_and_gradients(
            functools.partial(encode_batch, self._model),
            asked,
            batch[samples.LABEL],
            self._model.logit_scale,
            list(towers.values()),
            self._chunks,
        )
        gradients = dict(zip(towers, found.towers, strict=True))
        gradients[LOG_SCALE] = tf.reshape(found.log_scale, self._model.logit_scale.shape)
        ordered = [gradients[name] for name in self._parameters]
        norm = tf.linalg.global_norm(ordered)
        if self._clip_norm is not None:
            ordered, _ = tf.clip_by_global_norm(ordered, self._clip_norm, use_norm=norm)
        # They are summed over the replicas already, or equal on all.
        self._optimizer.apply_gradients(
            zip(ordered, self._parameters.values(), strict=True), skip_gradients_aggregation=True
        )
        weight = tf.cast(tf.shape(batch[samples.LABEL])[0], tf.float32)
        return {"loss": found.loss, "gradient_norm": norm, "weight": weight}

    def describe(self, batch: Any) -> str:
        local = self._strategy.experimental_local_results(batch[samples.ID])
        names = np.concatenate([np.asarray(part).ravel() for part in local])
        return "samples " + ", ".join(name.decode() for name in names)

    def evaluate(self, epoch: int) -> Evaluation:
        """``evaluate_part`` on the held-out samples."""
        return self.evaluate_part(samples.VALIDATION)

    def evaluate_part(self, part: str) -> Evaluation:
        """The loss, and which action is chosen, over the samples of a part, without augmentation.

        Returns:
          ``loss`` is the training loss over batches of the training's size, weighted by their examples;
          ``top1`` and ``top5`` are the shares of samples whose class is the best, or among the five best, of
          those that the policy may answer, by their phrases; ``top1_error`` is 1 − ``top1``; ``majority`` is
          the share of the commonest class, what a constant answer would reach at most. The picture is the
          confusion matrix.

        Raises:
          ValueError: the part has no sample.
        """
        vocabulary = self._description.vocabulary
        actions = self._text_features(tf.constant(self._inputs.tokenize(vocabulary.phrases)))
        losses, weights, logits, labels = [], [], [], []
        for batch in batches(self._source, part, self._batch_size, self._inputs, seed=None):
            features = self._features_of(batch)
            found = batch[samples.LABEL]
            losses.append(float(clip_rt_loss(features, found, self._model.logit_scale)))
            weights.append(len(found))
            scores = action_logits(
                features.image, features.instruction, actions, self._model.logit_scale, TRAINING
            )
            logits.append(scores.numpy())
            labels.append(found.numpy())
        if not labels:
            raise ValueError(f"Validation needs at least one sample. Received: none in {part!r}")
        scores, true = np.concatenate(logits), np.concatenate(labels)
        # A class that cannot be answered counts as an error where it is the true one.
        excluded = np.setdiff1d(np.arange(len(vocabulary)), self._description.answers)
        scores[:, excluded] = -np.inf
        top1 = top_k_accuracy(scores, true, 1)
        counts = confusion_matrix(true, scores.argmax(axis=1), len(vocabulary))
        scalars = {
            "loss": float(np.average(losses, weights=weights)),
            "top1": top1,
            "top1_error": 1.0 - top1,
            "top5": top_k_accuracy(scores, true, 5),
            "majority": float(counts.sum(axis=1).max() / len(true)),
        }
        picture = draw_confusion_matrix(counts, vocabulary.phrases)
        return Evaluation(scalars, {"predicted_class": scores.argmax(axis=1)}, {"confusion_matrix": picture})

    def _features_of(self, batch: Mapping[str, tf.Tensor]) -> Features:
        """Of a batch of the training's size, which need not fit into one pass here either."""
        parts = []
        for start in range(0, len(batch[samples.LABEL]), self._share):
            rows = {n: t[start : start + self._share] for n, t in batch.items() if n != samples.ID}
            parts.append(self._features(rows))
        return Features(*(tf.concat(found, axis=0) for found in zip(*parts, strict=True)))

    def save(self, folder: Path) -> None:
        for name, variable in openclip_variables(self._model).items():
            if not bool(tf.reduce_all(tf.math.is_finite(variable))):
                raise ValueError(f"The weights must be finite; nothing is saved. Received: {name}")
        save_clip(folder / CLIP, self._model, self._preprocessing)
        tf.train.Checkpoint(optimizer=self._optimizer).write(str(folder / OPTIMIZER_CHECKPOINT))
        write_description(folder, self._description)

    def restore(self, folder: Path) -> None:
        load_weights(self._model, folder / CLIP)
        checkpoint = tf.train.Checkpoint(optimizer=self._optimizer)
        try:
            checkpoint.read(str(folder / OPTIMIZER_CHECKPOINT)).assert_consumed()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{folder}: the optimiser's state does not fit what is trained now: {reason}"
            ) from error
