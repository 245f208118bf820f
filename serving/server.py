"""Runs the app behind waitress until it is told to stop, and stops without losing an answer."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import waitress
from absl import logging
from waitress import wasyncore
from waitress.channel import HTTPChannel

from serving.app import create_app
from serving.engine import Engine
from serving.http_errors import answer_in_json
from serving.model import load_model, warm_up
from serving.registry import LoadPolicy
from serving.settings import Settings

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_POLL_S = 0.2


class CannotListenError(OSError):
    """The address is taken, is not this machine's, or may not be used."""


def run(
    load_policy: LoadPolicy,
    checkpoint: Path,
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    threads: int | None = None,
) -> int:
    """Serves a checkpoint; call it on the main thread, for it handles SIGTERM and SIGINT.

    The port answers at once (/livez); /readyz says 503 until the model is loaded and warm. On a
    signal new predictions are refused with 503, those accepted are finished (at most
    ``settings.drain_timeout_s``), and the function returns.

    Args:
      load_policy: checkpoint folder -> policy.
      checkpoint: what to serve first.
      settings: limits and switches.
      host, port: where to listen; port 0 takes a free one, which is logged.
      threads: of HTTP; None for as many as the queue needs.

    Returns:
      The exit status: 0 after a signal, 1 where the model did not load.

    Raises:
      ValueError: fewer threads than would ever fill the queue.
      CannotListenError: the port is taken, or the address is not this machine's.
    """
    threads = settings.threads_needed if threads is None else threads
    if threads <= settings.queue_size:
        raise ValueError(
            f"threads must exceed queue_size ({settings.queue_size}), or the queue never fills and nothing "
            f"is refused. Received: {threads}"
        )
    if host not in _LOOPBACK and not settings.token:
        logging.warning("Listening on %s without a token: whoever reaches the port can use it.", host)
    engine = Engine(
        batch_sizes=settings.batch_sizes,
        queue_size=settings.queue_size,
        max_clients=settings.max_clients,
        client_ttl_s=settings.client_ttl_s,
    )
    sockets: dict[int, Any] = {}
    try:
        server = waitress.create_server(
            create_app(engine, settings, load_policy),
            map=sockets,
            host=host,
            port=port,
            threads=threads,
            # Flask reads the whole body before it refuses; what is far above its limit is not read.
            max_request_body_size=2 * settings.max_body_bytes,
            connection_limit=4 * threads,
            ident=None,
        )
    except OSError as error:
        raise CannotListenError(f"--host {host} --port {port} cannot be listened on: {error}") from error
    answer_in_json(list(sockets.values()))
    for address in getattr(server, "effective_listen", None) or [_address(server)]:
        logging.info("Listening on http://%s:%s", *address)
    stop, failed = threading.Event(), threading.Event()

    def load() -> None:
        # The threshold of the loading thread: whatever goes wrong must end the process, and be seen.
        try:
            model = load_model(load_policy, checkpoint)
            warm_up(model, settings.batch_sizes, settings.warm_up_samples)
            engine.swap(model)
            logging.info("Serving %s.", model.id)
        except (ValueError, FileNotFoundError) as error:
            # What a checkpoint or a flag has wrong, in its own words.
            logging.error("%s does not load: %s", checkpoint, error)
            logging.debug("The error came from here:", exc_info=True)  # --verbosity=1 shows it.
            failed.set()
            stop.set()
        except Exception:
            logging.exception("%s does not load.", checkpoint)
            failed.set()
            stop.set()

    loading = threading.Thread(target=load, name="loading", daemon=True)
    with _signals(stop):
        loading.start()
        _serve(engine, sockets, stop, settings.drain_timeout_s)
    server.task_dispatcher.shutdown(timeout=_POLL_S)
    wasyncore.close_all(sockets)
    loading.join(_POLL_S)
    logging.info("Stopped.")
    status = 1 if failed.is_set() else 0
    if loading.is_alive():
        # A thread inside TensorFlow while the interpreter goes down would abort the process, and a policy
        # that is being compiled cannot be told to stop. Nothing is left to be finished.
        logging.flush()
        os._exit(status)
    return status


def _serve(engine: Engine, sockets: dict[int, Any], stop: threading.Event, drain_timeout_s: float) -> None:
    while not stop.is_set():
        wasyncore.loop(timeout=_POLL_S, map=sockets, count=1)
    logging.info("Stopping: %d requests are waiting.", engine.queued)
    # The engine finishes its queue on its own thread while this one still sends answers.
    closing = threading.Thread(target=engine.close, args=(drain_timeout_s,), name="closing", daemon=True)
    closing.start()
    deadline = time.monotonic() + drain_timeout_s
    while (closing.is_alive() or _answers_due(sockets)) and time.monotonic() < deadline:
        wasyncore.loop(timeout=_POLL_S / 4, map=sockets, count=1)


def _answers_due(sockets: Mapping[int, Any]) -> bool:
    """Whether a request that was read is not answered, or an answer not sent."""
    channels = [s for s in list(sockets.values()) if isinstance(s, HTTPChannel)]
    return any(c.requests or c.total_outbufs_len for c in channels)


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    names = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(name, lambda *_: stop.set()) for name in names]
    try:
        yield
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


def _address(server: Any) -> tuple[str, str]:
    return server.effective_host, server.effective_port
