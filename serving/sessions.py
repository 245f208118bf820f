"""What the server remembers of each client between two steps of an episode."""

import collections
import dataclasses
from collections.abc import Callable

from core.policy import State
from serving.errors import too_many_clients

NEW, CONTINUED, RESET, EXPIRED, MODEL_CHANGED = "new", "continued", "reset", "expired", "model_changed"

# Of how many clients it is remembered why their last session ended.
_REMEMBERED = 4096


@dataclasses.dataclass(eq=False)
class ClientSession:
    """One client's episode.

    Attributes:
      origin: why it began: ``new``, ``reset``, or because the one before was ended by ``expired`` or
        ``model_changed``.
      state: of the policy; None before the first step. Only the inference thread reads and writes it.
      step: how many steps were answered.
      pending: requests that are queued or being computed; such a session does not expire.
      last_used: on the clock of the table.
    """

    origin: str
    state: State | None = None
    step: int = 0
    pending: int = 0
    last_used: float = 0.0


class ClientSessions:
    """client_id -> session: created on first use, bounded in number, expiring.

    Not locked: the engine calls it under its own lock.

    Args:
      max_clients: how many sessions there may be.
      ttl_s: unused for so long, a session ends.
      clock: seconds, never going back.
    """

    def __init__(self, max_clients: int, ttl_s: float, clock: Callable[[], float]) -> None:
        self._max_clients = max_clients
        self._ttl_s = ttl_s
        self._clock = clock
        # In the order of last use, so that the oldest are found at the front.
        self._sessions: collections.OrderedDict[str, ClientSession] = collections.OrderedDict()
        # Why a client's last session ended, so that it is told when it comes back.
        self._ended: collections.OrderedDict[str, str] = collections.OrderedDict()

    def __len__(self) -> int:
        self._expire()
        return len(self._sessions)

    def acquire(self, client_id: str, *, reset: bool = False) -> ClientSession:
        """The client's session for one more request; ``release`` it afterwards.

        Requests that are queued already go on with the session that a reset replaces, so the order
        in which requests arrive is the order in which they take effect.

        Raises:
          ApiError: 429 where there are too many clients.
        """
        self._expire()
        if reset:
            self.end(client_id, RESET)
        session = self._sessions.get(client_id)
        if session is None:
            if len(self._sessions) >= self._max_clients:
                raise too_many_clients(self._max_clients)
            origin = self._ended.pop(client_id, NEW)
            session = self._sessions[client_id] = ClientSession(RESET if reset else origin)
        session.pending += 1
        self._touch(client_id, session)
        return session

    def release(self, client_id: str, session: ClientSession) -> None:
        """The request is answered; the time to live begins anew."""
        session.pending -= 1
        self._touch(client_id, session)

    def end(self, client_id: str, reason: str) -> bool:
        """Forgets a client; whether there was anything to forget."""
        existed = self._sessions.pop(client_id, None) is not None
        if existed:
            self._ended[client_id] = reason
            self._ended.move_to_end(client_id)
            while len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
        return existed

    def end_all(self, reason: str) -> None:
        for client_id in list(self._sessions):
            self.end(client_id, reason)

    def _touch(self, client_id: str, session: ClientSession) -> None:
        session.last_used = self._clock()
        if self._sessions.get(client_id) is session:
            self._sessions.move_to_end(client_id)

    def _expire(self) -> None:
        oldest = self._clock() - self._ttl_s
        for client_id, session in list(self._sessions.items()):
            if session.last_used >= oldest:
                return
            if not session.pending:
                self.end(client_id, EXPIRED)
