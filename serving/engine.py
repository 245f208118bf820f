"""The one thread that asks the policy, and the bounded queue before it.

HTTP threads hand in one client's observation each and wait. The inference thread takes what is
waiting, in order of arrival, and answers it with one ``infer``:

* deterministic requests for the same model, with arrays of the same shapes, share a batch, padded to
  one of a few sizes (the padding repeats a row and is dropped);
* a request with Monte-Carlo draws is alone in its call, so that its seed gives the same draws
  whatever else runs;
* two steps of one client never share a batch: the second waits for the state that the first leaves.

A model swap takes effect between two requests: each request is computed by the model it was checked
against.
"""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures

import numpy as np
from absl import logging

from core.policy import State, split_state, stack_states
from serving import errors
from serving.model import Model, checked_infer
from serving.sessions import CONTINUED, MODEL_CHANGED, RESET, ClientSession, ClientSessions

Row = Mapping[str, np.ndarray]
BatchObserver = Callable[[int, float, bool], None]


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to one client.

    Attributes:
      actions: action name -> [*shape].
      samples: action name -> [num_samples, *shape], None without draws.
      info: the policy's further answers by name.
      step: number of the step in the client's episode, 1 for the first and for requests without one.
      session: ``continued``, or why the episode began with this step; None without a client_id.
      queue_ms, infer_ms: time spent waiting and in the policy's call.
      batch_size: how many requests shared the call.
    """

    actions: Mapping[str, np.ndarray]
    samples: Mapping[str, np.ndarray] | None
    info: Mapping[str, np.ndarray]
    step: int
    session: str | None
    queue_ms: float
    infer_ms: float
    batch_size: int


@dataclasses.dataclass(eq=False)
class _Job:
    model: Model
    row: Row
    deadline: float
    session: ClientSession | None
    num_samples: int
    seed: int | None
    arrived: float = dataclasses.field(default_factory=time.monotonic)
    future: "futures.Future[Answer]" = dataclasses.field(default_factory=futures.Future)

    def shares_batch_with(self, other: "_Job") -> bool:
        if self.num_samples or other.num_samples or self.model is not other.model:
            return False
        return _signature(self.row) == _signature(other.row)


def _signature(row: Row) -> dict[str, tuple]:
    # The kind, not the type: texts of different lengths have different numpy types.
    return {k: (v.shape[1:], v.dtype.kind if v.dtype.kind == "U" else v.dtype) for k, v in row.items()}


class Engine:
    """Holds the current model, the clients' sessions, the queue and the inference thread.

    Args:
      batch_sizes: ascending; a batch is padded to the next of them.
      queue_size: how many requests may wait.
      max_clients, client_ttl_s, clock: of the sessions.
      on_batch: called after each policy call with its number of requests, its seconds, and whether
        it drew samples.
    """

    def __init__(
        self,
        *,
        batch_sizes: Sequence[int] = (1, 2, 4, 8, 16),
        queue_size: int = 32,
        max_clients: int = 256,
        client_ttl_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        on_batch: BatchObserver | None = None,
    ) -> None:
        self._batch_sizes = tuple(batch_sizes)
        self._queue_size = queue_size
        self._sessions = ClientSessions(max_clients, client_ttl_s, clock)
        self.on_batch = on_batch
        self._model: Model | None = None
        self._queue: collections.deque[_Job] = collections.deque()
        self._closing = False
        # Guards everything above; notified when a job arrives and when the engine closes.
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name="inference", daemon=True)
        self._thread.start()

    @property
    def model(self) -> Model | None:
        """The current model, None before the first."""
        return self._model

    @property
    def closing(self) -> bool:
        """Whether the engine refuses new work."""
        return self._closing

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def clients(self) -> int:
        """How many clients hold a state."""
        with self._changed:
            return len(self._sessions)

    def swap(self, model: Model) -> None:
        """Makes ``model`` the current one; clients' states, being the old one's, are forgotten."""
        with self._changed:
            self._model = model
            self._sessions.end_all(MODEL_CHANGED)

    def reset(self, client_id: str) -> bool:
        """Forgets a client's episode, after its steps that are queued already; whether there was one."""
        with self._changed:
            return self._sessions.end(client_id, RESET)

    def infer(
        self,
        model: Model,
        row: Row,
        *,
        timeout_s: float,
        client_id: str | None = None,
        reset: bool = False,
        num_samples: int = 0,
        seed: int | None = None,
    ) -> Answer:
        """Queues one client's request and waits for its answer.

        Args:
          model: the one whose specification ``row`` was checked against.
          row: observation name -> [1, *shape].
          timeout_s: a request that was not begun by then is dropped. One that was begun is waited
            for: its step has changed the client's state, so its answer must not get lost.
          client_id: whose state to use and to keep; None for a state that begins and ends here.
          reset: begin the client's episode anew with this step.
          num_samples, seed: Monte-Carlo draws.

        Raises:
          ModelReplacedError: ``model`` is not the current one any more; check again and repeat.
          ApiError: queue full, stopping, deadline exceeded, too many clients.
          Exception: whatever the policy raised for this request.
        """
        with self._changed:
            if self._closing:
                raise errors.shutting_down()
            if model is not self._model:
                raise errors.ModelReplacedError
            if len(self._queue) >= self._queue_size:
                raise errors.queue_full(self._queue_size)
            session = None if client_id is None else self._sessions.acquire(client_id, reset=reset)
            job = _Job(model, row, time.monotonic() + timeout_s, session, num_samples, seed)
            self._queue.append(job)
            self._changed.notify()
        try:
            return self._wait(job)
        finally:
            if client_id is not None and session is not None:
                with self._changed:
                    self._sessions.release(client_id, session)

    def close(self, timeout_s: float) -> None:
        """Refuses new work, finishes what is queued, and ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            for job in self._queue:
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(errors.shutting_down())
            self._queue.clear()

    def _wait(self, job: _Job) -> Answer:
        try:
            return job.future.result(max(0.0, job.deadline - time.monotonic()))
        except futures.TimeoutError:
            if not job.future.cancel():
                return job.future.result()
            with self._changed:
                if job in self._queue:
                    self._queue.remove(job)
            raise errors.deadline_exceeded() from None
        except futures.CancelledError:
            raise errors.deadline_exceeded() from None

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    if self._closing:
                        return
                    self._changed.wait()
                jobs = self._next_batch()
            now = time.monotonic()
            started = []
            for job in jobs:
                if not job.future.set_running_or_notify_cancel():
                    continue
                if job.deadline < now:
                    job.future.set_exception(errors.deadline_exceeded())
                else:
                    started.append(job)
            if started:
                self._answer(started)

    def _next_batch(self) -> list[_Job]:
        """Takes the oldest job and those that can share its call out of the queue."""
        batch, left = [self._queue.popleft()], collections.deque[_Job]()
        # Clients whose earlier step is in this batch or stays queued: their later steps must wait.
        busy = {id(batch[0].session)}
        for job in self._queue:
            waits = job.session is not None and id(job.session) in busy
            if not waits and len(batch) < self._batch_sizes[-1] and job.shares_batch_with(batch[0]):
                batch.append(job)
            else:
                left.append(job)
            busy.add(id(job.session))
        self._queue = left
        return batch

    def _answer(self, jobs: list[_Job]) -> None:
        # The threshold between a policy, which may raise anything, and the clients of one batch.
        try:
            answers = self._infer(jobs)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            # One client's observation must not fail the others.
            logging.warning("A batch of %d failed (%s); asking one by one.", len(jobs), type(error).__name__)
            for job in jobs:
                self._answer([job])
            return
        for job, answer in zip(jobs, answers, strict=True):
            job.future.set_result(answer)

    def _infer(self, jobs: list[_Job]) -> list[Answer]:
        model, first, n = jobs[0].model, jobs[0], len(jobs)
        padded = 1 if first.num_samples else next(size for size in self._batch_sizes if size >= n)
        rows = jobs + [jobs[-1]] * (padded - n)
        asked = {name: np.concatenate([job.row[name] for job in rows]) for name in first.row}
        fresh = model.policy.initial_state(1)
        states = stack_states([_state(job, fresh) for job in rows])
        began = time.monotonic()
        result, next_states = checked_infer(
            model, asked, states, num_samples=first.num_samples, seed=first.seed
        )
        seconds = time.monotonic() - began
        if self.on_batch is not None:
            self.on_batch(n, seconds, first.num_samples > 0)
        times = (1000 * (began - job.arrived) for job in jobs)
        answers = [
            Answer(
                actions=_row(result.actions, i),
                samples=None if result.samples is None else _row(result.samples, i),
                info=_row(result.info, i),
                step=1 if job.session is None else job.session.step + 1,
                session=_status(job.session),
                queue_ms=queue_ms,
                infer_ms=1000 * seconds,
                batch_size=n,
            )
            for i, (job, queue_ms) in enumerate(zip(jobs, times, strict=True))
        ]
        # Only now, when nothing can fail any more: a step that failed leaves its client's state alone.
        for job, next_state in zip(jobs, split_state(next_states, padded), strict=False):
            if job.session is not None:
                # A view would keep the states of the whole batch for as long as one client is silent.
                job.session.state = {name: value.copy() for name, value in next_state.items()}
                job.session.step += 1
        return answers


def _state(job: _Job, fresh: State) -> State:
    return fresh if job.session is None or job.session.state is None else job.session.state


def _status(session: ClientSession | None) -> str | None:
    if session is None:
        return None
    return CONTINUED if session.step else session.origin


def _row(arrays: Mapping[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    return {name: value[i] for name, value in arrays.items()}
