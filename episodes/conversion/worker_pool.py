"""Running a function for many items on several processes, of which any may die."""

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_POLL_S = 0.2
# Only in a worker: thousandths done of each item, shared with the parent.
_progress: Any = None


class WorkerDiedError(RuntimeError):
    """The process that worked on an item died, alone and twice."""


def report_progress(index: int, fraction: float) -> None:
    """Called in a worker: how much of an item is done."""
    if _progress is not None:
        _progress[index] = int(1000 * fraction)


def run(
    function: Callable[[int, Item], Result],
    items: Sequence[Item],
    workers: int,
    on_progress: Callable[[Sequence[float]], None] = lambda fractions: None,
) -> Iterator[tuple[Item, Result | WorkerDiedError]]:
    """Calls ``function(index, item)`` for each item, in spawned processes, and yields results as they come.

    Nothing of TensorFlow or of threads is inherited, since the processes are spawned. When one dies, what was
    running is tried again, each item alone: an item that kills its process again is given up, and the others
    go on. The processes end with this generator, and with the parent however that dies.

    Args:
      function: of a module's top level; an exception of it ends the run.
      items: picklable.
      workers: processes at most; 0 works in this process, where a debugger sees it.
      on_progress: is called a few times a second with the fraction done of each item.
    """
    if workers == 0:
        for index, item in enumerate(items):
            yield item, function(index, item)
        return
    context = multiprocessing.get_context("spawn")
    shared = context.RawArray(ctypes.c_int, max(len(items), 1))
    stop = context.RawValue(ctypes.c_int, 0)
    waiting = deque(range(len(items)))
    suspects: deque[int] = deque()
    while waiting or suspects:
        alone = not waiting
        executor = ProcessPoolExecutor(
            1 if alone else min(workers, len(waiting)), context, _begin, (shared, stop)
        )
        running: dict[Future[Result], int] = {}
        try:
            while running or waiting or (alone and suspects):
                queue = suspects if alone else waiting
                # No more than are worked on: what waits in the executor would fall under suspicion.
                while queue and len(running) < (1 if alone else workers):
                    running[executor.submit(function, queue[0], items[queue[0]])] = queue[0]
                    queue.popleft()
                done, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                on_progress([n / 1000 for n in shared])
                for future in done:
                    error = future.exception()
                    if isinstance(error, BrokenProcessPool):
                        raise error
                    index = running.pop(future)
                    yield items[index], future.result()
        except BrokenProcessPool:
            if alone:
                (index,) = running.values() or (suspects.popleft(),)
                yield items[index], WorkerDiedError(_DIED)
            else:
                suspects.extend(running.values())
        except BaseException:
            stop.value = 1  # Nobody waits for what is running.
            raise
        finally:
            executor.shutdown(cancel_futures=True)


_DIED = (
    "The process that converted it was killed, twice: by the system for want of memory, perhaps, or by a "
    "fault in a library."
)


def _begin(shared: Any, stop: Any) -> None:
    global _progress
    _progress = shared
    # The parent decides what an interruption means.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(stop,), daemon=True).start()


def _end_with_parent(stop: Any) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # Only a main process has none.
    while not stop.value:
        if multiprocessing.connection.wait([parent.sentinel], timeout=_POLL_S):
            break
    os._exit(1)
