"""What TensorBoard shows of a run."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import tensorflow as tf
from tensorboard.compat.proto import event_pb2

from core.trainable import Evaluation

FOLDER = "tensorboard"


class TensorBoardWriter:
    """Writes the events of one run.

    Tags: ``train/NAME`` every few steps, ``train_epoch/NAME`` means over an epoch, ``validation/NAME``
    scalars, histograms and images, ``Loss/train`` and ``Loss/test`` of each epoch in one chart. The
    horizontal axis is the optimiser step.

    Args:
      folder: of the event files.
      step: where the run starts. What a killed run wrote after that step is not shown any more: the
        resumed run writes it again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        _start_after(folder, step)
        self._writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self) -> "TensorBoardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Writes ``group/NAME`` for each value."""
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(f"{group}/{name}", value)

    def evaluation(self, evaluation: Evaluation, step: int) -> None:
        """Writes all of a validation pass.

        Raises:
          ValueError: images are not uint8 [n, h, w, 3].
        """
        self.scalars("validation", evaluation.scalars, step)
        with self._writer.as_default(step=step):
            for name, values in evaluation.histograms.items():
                tf.summary.histogram(f"validation/{name}", values)
            for name, images in evaluation.images.items():
                if images.dtype != "uint8" or images.ndim != 4 or images.shape[-1] != 3:
                    raise ValueError(
                        f"The images {name} of an evaluation must be uint8 [n, h, w, 3]. "
                        f"Received: {images.dtype} {list(images.shape)}"
                    )
                tf.summary.image(f"validation/{name}", images, max_outputs=len(images))

    def flush(self) -> None:
        self._writer.flush()


def _start_after(folder: Path, step: int) -> None:
    """Tells TensorBoard that a session starts after ``step``: each start but the first purges what is later.

    The event gets a file of its own, for the summary writer cannot write it. TensorBoard reads files by
    name, and this name comes after those of earlier seconds and before the writer's (``-`` before ``.``).
    """
    folder.mkdir(parents=True, exist_ok=True)
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    now = time.time()
    with tf.io.TFRecordWriter(str(folder / f"events.out.tfevents.{int(now):010d}-start")) as writer:
        for event in (
            event_pb2.Event(wall_time=now, file_version="brain.Event:2"),
            event_pb2.Event(wall_time=now, step=step + 1, session_log=start),
        ):
            writer.write(event.SerializeToString())
