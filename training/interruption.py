"""Ctrl-C and SIGTERM as a request to stop at the next step boundary (SLURM preempts with SIGTERM)."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from absl import logging

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While entered, the first SIGINT or SIGTERM is noted instead of ending the process.

    A second Ctrl-C raises KeyboardInterrupt at once. A second SIGTERM is ignored: schedulers repeat it,
    and the checkpoint that the first one asked for may be half written. Outside the main thread Python
    allows no handlers: nothing is caught there.

    Attributes:
      requested: the name of the signal that came, None before that.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._aborts = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._receive) for s in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None: the handler was not installed from Python and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextlib.contextmanager
    def abortable(self) -> Iterator[None]:
        """Code that changes no state: a request raises KeyboardInterrupt in it instead of waiting."""
        self._aborts = True
        try:
            if self.requested is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self._aborts = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        first, self.requested = self.requested is None, signal.Signals(number).name
        if not first and number == signal.SIGINT:
            raise KeyboardInterrupt
        if first:
            logging.warning("%s: stopping at the next step, with a checkpoint.", self.requested)
        if self._aborts:
            raise KeyboardInterrupt
