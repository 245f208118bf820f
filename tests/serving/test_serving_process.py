"""serve.py as a process: its own flags, waitress, the client, signals."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_policies import write_checkpoint
from serving_testing import png

from serving import schemas, server
from serving.client import PolicyClient, ServerError
from serving.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
# serve.py with one more row in the table of models, and a policy that takes its time.
MAIN = """
import sys, time
sys.path[:0] = [{root!r}, {tests!r}]
from absl import app
from serving import registry
import fake_policies

registry.MODELS["fake"] = "fake_policies"
if {slow}:
    infer = fake_policies.FakeFoodPolicy.infer
    def slowly(self, *arguments, **options):
        time.sleep({slow})
        return infer(self, *arguments, **options)
    fake_policies.FakeFoodPolicy.infer = slowly
import serve
app.run(serve.main)
"""


class Server:
    def __init__(self, checkpoint: Path, *flags: str, slow: float = 0, **environment: str) -> None:
        main = MAIN.format(root=str(ROOT), tests=str(Path(__file__).parent), slow=slow)
        self.process = subprocess.Popen(
            [sys.executable, "-c", main, "--model", "fake", f"--checkpoint={checkpoint}", "--port=0", *flags],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.log: list[str] = []
        self.url = ""
        listening = threading.Event()

        def read() -> None:
            for line in self.process.stderr or ():
                self.log.append(line)
                found = re.search(r"Listening on (http://\S+)", line)
                if found:
                    self.url = found.group(1)
                    listening.set()
            listening.set()

        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()
        assert listening.wait(60)

    def stop(self, name: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(name)
        status = self.process.wait(30)
        self.reader.join(10)
        return status


@contextlib.contextmanager
def started(checkpoint: Path, *flags: str, **options: str | float) -> Iterator[Server]:
    running = Server(checkpoint, *flags, **options)  # type: ignore[arg-type]
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def test_from_start_to_sigterm(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "one")
    write_checkpoint(tmp_path / "two", shift=0.25)
    (tmp_path / "token").write_text("sesame\n")
    with started(tmp_path / "one", f"--token_file={tmp_path / 'token'}", "--max_image_mb=0.01") as running:
        assert running.url.startswith("http://127.0.0.1:")
        client = PolicyClient(running.url, token="sesame")
        client.wait_until_ready(60)
        before = client.predict(png(), action="skewer", food_type="bananas")
        assert before["prediction"]["start_x"] == pytest.approx(0.251, abs=1e-3)
        draws = client.predict_batch(png(), action="skewer", food_type="bananas", seed=1)
        assert len(draws["predictions"]) == 16
        assert client.available_combinations()["total_combinations"] == 66
        assert client.load_model("two")["model"] != before["model"]
        after = client.predict(png(), action="skewer", food_type="bananas")
        assert after["prediction"]["start_x"] - before["prediction"]["start_x"] == pytest.approx(
            0.25, abs=1e-6
        )
        for path, code in (("..", "path_outside_root"), ("three", "no_such_checkpoint")):
            with pytest.raises(ServerError, match=code):
                client.load_model(path)
        with pytest.raises(ServerError, match="wrong_token"):
            PolicyClient(running.url, token="wrong").spec()
        with pytest.raises(ServerError, match="image_too_large"):
            client.predict(b"\0" * 20_000, action="skewer", food_type="banana")
        with pytest.raises(ServerError, match="body_too_large"):
            client.predict(b"\0" * 900_000, action="skewer", food_type="banana")
        check_refusals_of_the_http_server(running.url)
        assert running.stop() == 0
    assert "Traceback" not in "".join(running.log)


def check_refusals_of_the_http_server(url: str) -> None:
    """Nothing that is not HTTP, or far too large, reaches the app; the answer is of its form nevertheless."""
    host, _, port = url.removeprefix("http://").partition(":")
    for asked, status, code in (
        (b"POST /predict HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413, "body_too_large"),
        (b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400, "bad_request"),
    ):
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(asked)
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert (response.status, response.headers["Content-Type"]) == (status, "application/json")
            answer = schemas.ErrorAnswer.model_validate_json(response.read())
        assert (answer.error.code, answer.error.field) == (code, None)
        assert answer.error.request_id == response.headers["X-Request-Id"]


def refusal(future: Future[dict]) -> ServerError | None:
    """Why a request was refused; None where it was answered."""
    try:
        assert future.result(10)["success"]
    except ServerError as error:
        return error
    return None


def test_sigterm_finishes_what_was_accepted(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "one")
    flags = ("--batch_sizes=1", "--queue_size=20")
    with started(tmp_path / "one", *flags, slow=0.4) as running, ThreadPoolExecutor(8) as pool:
        PolicyClient(running.url).wait_until_ready(60)

        def ask(_: int) -> dict:
            return PolicyClient(running.url, attempts=1).predict(png(), action="scoop", food_type="rice")

        asked = [pool.submit(ask, i) for i in range(6)]
        probe = PolicyClient(running.url)
        while (queued := probe.health()["queued"]) < 3:
            assert not all(future.done() for future in asked)
        assert running.stop() == 0
        refused = [error.code for future in asked if (error := refusal(future)) is not None]
        # On a busy machine some may come after the signal; what was in the queue is answered.
        assert set(refused) <= {"shutting_down"}
        assert len(asked) - len(refused) >= queued
    assert "requests are waiting" in "".join(running.log)


def test_sigint_stops_too(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "one")
    with started(tmp_path / "one", POLICY_SERVER_TOKEN="sesame") as running:
        PolicyClient(running.url).wait_until_ready(60)
        with pytest.raises(ServerError, match="wrong_token"):
            PolicyClient(running.url).spec()
        assert running.stop(signal.SIGINT) == 0


def test_checkpoint_that_does_not_load_ends_the_process(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "one", kind="broken")
    with started(tmp_path / "one") as running:
        assert running.process.wait(30) == 1
        running.reader.join(10)
    assert "layer 3 are missing" in "".join(running.log)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, ROOT / "serve.py", f"--checkpoint={tmp_path}", f"--port={port}"],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert f"--port {port} cannot be listened on" in done.stderr
    assert "Traceback" not in done.stderr


def test_too_few_threads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="threads must exceed queue_size"):
        server.run(lambda _: None, tmp_path, Settings(queue_size=8), threads=8)  # type: ignore[arg-type, return-value]
