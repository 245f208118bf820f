"""A tiny Trainable: linear regression with Adam, order and noise drawn from (seed, epoch, step).

``python tests/training/toy.py CHECKPOINT_DIR NUM_EPOCHS SECONDS_PER_STEP [--resume]`` trains it in a
process of its own, for the tests that kill one.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from core import files
from core import legacy_keras as _legacy_keras  # noqa: F401

# isort: split
import tensorflow as tf

from core.trainable import Evaluation
from training.loop import LoopSettings, run

EXAMPLES, FEATURES = 22, 3


class Toy:
    """22 examples in batches of 5: five batches an epoch, the last one smaller.

    Args:
      seed: of weights, order and noise.
      on_step: called with the toy after each step; tests kill, interrupt and poison from it.
      on_evaluate: called at the start of each validation.
    """

    best_metric = "mae"

    def __init__(
        self,
        seed: int = 0,
        batch_size: int = 5,
        on_step: Callable[["Toy"], None] = lambda toy: None,
        on_evaluate: Callable[["Toy"], None] = lambda toy: None,
    ) -> None:
        self.seed, self.batch_size = seed, batch_size
        self.on_step, self.on_evaluate = on_step, on_evaluate
        data = np.random.default_rng(7)
        self.x = data.normal(size=(EXAMPLES, FEATURES)).astype(np.float32)
        self.y = self.x @ np.asarray([[1.0], [-2.0], [0.5]], np.float32) + 3.0
        self.weights = tf.Variable(tf.random.stateless_uniform([FEATURES, 1], [seed, 0]))
        self.bias = tf.Variable([0.0])
        self.optimizer = tf.keras.optimizers.legacy.Adam(0.05)
        self.counter = self.optimizer.iterations
        self.checkpoint = tf.train.Checkpoint(w=self.weights, b=self.bias, optimizer=self.optimizer)
        self.optimizer._create_all_weights([self.weights, self.bias])
        self.scale = 1.0
        self.trained: list[list[int]] = []
        self._step = tf.function(self._gradient_step)

    def _gradient_step(self, x: tf.Tensor, y: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        seed = tf.stack([tf.constant(self.seed, tf.int64), self.counter])
        noise = tf.random.stateless_normal(tf.shape(x), seed)
        with tf.GradientTape() as tape:
            error = (x + 0.1 * noise) @ self.weights + self.bias - y
            loss = tf.reduce_mean(tf.square(error)) * scale
        variables = [self.weights, self.bias]
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    @property
    def step(self) -> int:
        return int(self.counter.numpy())

    def num_batches(self) -> int | None:
        return -(-EXAMPLES // self.batch_size)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[np.ndarray]:
        order = np.random.default_rng((self.seed, epoch)).permutation(EXAMPLES)
        for start in range(skip * self.batch_size, EXAMPLES, self.batch_size):
            yield order[start : start + self.batch_size]

    def train_step(self, batch: np.ndarray) -> Mapping[str, Any]:
        loss = self._step(self.x[batch], self.y[batch], tf.constant(self.scale))
        self.trained.append(batch.tolist())
        self.on_step(self)
        return {"loss": loss, "batch_mean": float(self.x[batch].mean()), "weight": len(batch)}

    def describe(self, batch: np.ndarray) -> str:
        return f"examples {batch.tolist()}"

    def evaluate(self, epoch: int) -> Evaluation:
        self.on_evaluate(self)
        error = (tf.linalg.matmul(self.x, self.weights) + self.bias - self.y).numpy()
        scalars = {"mae": float(np.abs(error).mean()), "accuracy/a": 0.5, "accuracy/b": 0.25 + epoch / 100}
        return Evaluation(scalars, {"error": error}, {"frames": np.zeros([2, 8, 8, 3], np.uint8)})

    def fingerprint(self) -> Mapping[str, Any]:
        return {"data": "toy", "shape": (EXAMPLES, FEATURES), "batch_size": self.batch_size}

    def save(self, folder: Path) -> None:
        if not all(np.isfinite(v.numpy()).all() for v in (self.weights, self.bias)):
            raise ValueError("A weight is not finite.")
        self.checkpoint.write(str(folder / "ckpt"))
        files.write_json(folder / "spec.json", {})

    def restore(self, folder: Path) -> None:
        self.checkpoint.read(str(folder / "ckpt")).assert_consumed()

    def variables(self) -> list[np.ndarray]:
        """Everything that training changes: weights, slots, counters."""
        return [v.numpy() for v in [self.weights, self.bias, *self.optimizer.variables()]]


def main(folder: str, num_epochs: str, seconds: str, *flags: str) -> None:
    toy = Toy(on_step=lambda toy: time.sleep(float(seconds)))
    settings = LoopSettings(folder, int(num_epochs), checkpoint_every_steps=2)
    # What a batch script does: resume where there is something to resume.
    found = "--resume" in flags and any(Path(folder).glob("step-*"))
    result = run(toy, settings, folder if found else None)
    sys.stdout.write(f"{result.stopped_by}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
