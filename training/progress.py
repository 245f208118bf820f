"""How far an epoch is: a bar on a terminal, a line every so often in a log file."""

import sys
import time
from types import TracebackType

import tqdm
from absl import logging


class EpochProgress:
    """Shows the batches of one epoch as they are done.

    Args:
      title: e.g. ``epoch 3/30``.
      total: batches in the epoch, None where it is not known.
      done: batches done before (a resumed epoch).
      seconds_between_lines: in a log file; infinity for no lines.
    """

    def __init__(
        self, title: str, total: int | None, done: int = 0, seconds_between_lines: float = 60.0
    ) -> None:
        self._title, self._total, self._done = title, total, done
        self._first, self._seconds = done, seconds_between_lines
        self._loss: float | None = None
        self._began = self._line_at = time.monotonic()
        # A carriage return of the bar makes a log file unreadable.
        self._bar = (
            tqdm.tqdm(total=total, initial=done, desc=title, file=sys.stderr, unit="batch", leave=False)
            if sys.stderr.isatty()
            else None
        )

    def __enter__(self) -> "EpochProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        """One more batch is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
        elif time.monotonic() - self._line_at >= self._seconds:
            self._line_at = time.monotonic()
            logging.info("%s", self._line())

    def loss(self, value: float) -> None:
        """The newest loss that has been read."""
        self._loss = value
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {value:.4g}", refresh=False)

    def _line(self) -> str:
        rate = (self._done - self._first) / max(time.monotonic() - self._began, 1e-9)
        parts = [f"{self._title}: batch {self._done}" + (f"/{self._total}" if self._total else "")]
        if self._loss is not None:
            parts.append(f"loss {self._loss:.4g}")
        parts.append(f"{rate:.3g} batches/s")
        if self._total:
            parts.append(f"{max(self._total - self._done, 0) / max(rate, 1e-9):.0f} s left in this epoch")
        return ", ".join(parts)
