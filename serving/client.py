"""A Python client of the policy server; of this project it needs this file, beside it ``requests``.

Example:
  client = PolicyClient("http://127.0.0.1:8080")
  answer = client.predict("plate.png", action="skewering", food_type="banana")
  answer["prediction"]["skewer_x"]
"""

import base64
import math
import random
import struct
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
from urllib3.exceptions import NewConnectionError

_LONGEST_PAUSE_S = 10.0


class PolicyClientError(Exception):
    """Whatever keeps a client from its answer."""


class ServerError(PolicyClientError):
    """The server refused.

    Attributes:
      status, code, message, field, request_id: as the server said.
    """

    def __init__(self, status: int, code: str, message: str, field: str | None, request_id: str) -> None:
        where = f" (field {field})" if field else ""
        super().__init__(f"{status} {code}{where}: {message} [request {request_id}]")
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.request_id = request_id


class NoConnectionError(PolicyClientError):
    """The server cannot be reached, or hung up."""


class NoAnswerInTimeError(PolicyClientError):
    """The server took longer than the timeout; whether it computed the step is not known."""


class NotAPolicyServerError(PolicyClientError):
    """The answer is not of a policy server (a proxy, another program on the port)."""


def encode_image(image: Any) -> str:
    """An image as base64 text.

    Args:
      image: an image file's bytes or path, or an array (sent as PNG): [height, width, 3] uint8 RGB, or
        of one channel, [height, width] uint8 or uint16 (depth in millimetres).

    Raises:
      ValueError: something else.
    """
    if isinstance(image, (str, Path)):
        image = Path(image).read_bytes()
    elif hasattr(image, "shape"):
        image = _png(image)
    if not isinstance(image, (bytes, bytearray)):
        raise ValueError(f"image must be a path, bytes or an array. Received: {type(image).__name__}")
    return base64.b64encode(image).decode("ascii")


def _mapped(change: Callable[[Any], Any], named: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if named is None else {name: change(value) for name, value in named.items()}


def _numbers(named: Mapping[str, Any] | None) -> dict[str, Any] | None:
    plain = _mapped(_plain, named)
    for name, value in (plain or {}).items():
        if not _finite(value):
            raise PolicyClientError(f"observations.{name} must be finite. Received: {value}")
    return plain


def _finite(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _plain(value: Any) -> Any:
    """Arrays and numpy's numbers, also within lists, as JSON has them."""
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _png(image: Any) -> bytes:
    # Written by hand, so that a robot's client needs no image library. PNG specification, chapters 5
    # and 11: signature, IHDR (bits, 2 for RGB and 0 for gray), IDAT with filter 0 before each row, IEND.
    gray, kind = len(image.shape) == 2, str(image.dtype)
    known = kind in ("uint8", "uint16") if gray else image.shape[2:] == (3,) and kind == "uint8"
    if not known:
        raise ValueError(
            f"image must be [h, w, 3] uint8, or [h, w] uint8 or uint16. Received: {image.shape} {image.dtype}"
        )
    height, width = image.shape[:2]
    size = image.dtype.itemsize
    pixels = image.astype(f">u{size}").tobytes()
    stride = size * width * (1 if gray else 3)
    rows = b"".join(b"\0" + pixels[y * stride : (y + 1) * stride] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8 * size, 0 if gray else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    packed = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


class PolicyClient:
    """Asks one server. Not shared between threads: make one for each.

    Args:
      url: of the server.
      token: the bearer token, where the server asks for one.
      timeout_s: for an answer.
      connect_timeout_s: for a connection.
      attempts: how often to try when the server is busy (503) or there is no connection. A step of an
        episode (``client_id``) is tried again only where the server cannot have computed it.
      sleep: how to pause between attempts.
      session: to use instead of a new one.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        connect_timeout_s: float = 3.0,
        attempts: int = 4,
        sleep: Callable[[float], None] = time.sleep,
        session: requests.Session | None = None,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1. Received: {attempts}")
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._attempts = attempts
        self._sleep = sleep
        self._session = session or requests.Session()

    def predict(
        self,
        image: Any = None,
        *,
        action: str | None = None,
        food_type: str | None = None,
        text: str | None = None,
        client_id: str | None = None,
        reset: bool = False,
        images: Mapping[str, Any] | None = None,
        observations: Mapping[str, Any] | None = None,
        joint_names: Sequence[str] | None = None,
        input_param: float | None = None,
        attention_points: bool = False,
        deadline_ms: int | None = None,
    ) -> dict[str, Any]:
        """One prediction (food), or one step of an episode (other policies).

        Args:
          image: see ``encode_image``.
          action, food_type: which food to get, and how (food policies).
          text: the instruction.
          client_id: whose episode to go on with; reset begins it anew with this step.
          images: other images of ``spec()`` by name, see ``encode_image``; depth is uint16.
          observations: other arrays of ``spec()``, as nested lists or as arrays.
          joint_names: of the joints in the order in which they are sent, to have it checked.
          input_param: of a policy that predicts what it will see, how much of its input is measured.
          attention_points: have the answer say where the policy looks, too.
          deadline_ms: the server drops the request rather than begin it later.

        Returns:
          The answer's fields.

        Raises:
          PolicyClientError: a subclass of it, for whatever goes wrong.
        """
        fields = {
            "image": None if image is None else encode_image(image),
            "action": action,
            "food_type": food_type,
            "text": text,
            "client_id": client_id,
            "reset": reset or None,
            "images": _mapped(encode_image, images),
            "observations": _numbers(observations),
            "joint_names": None if joint_names is None else list(joint_names),
            "input_param": _plain(input_param),
            "attention_points": attention_points or None,
        }
        headers = {} if deadline_ms is None else {"X-Request-Timeout-Ms": str(deadline_ms)}
        return self._post("/predict", fields, headers, repeatable=client_id is None)

    def predict_batch(
        self,
        image: Any,
        *,
        action: str | None = None,
        food_type: str | None = None,
        text: str | None = None,
        batch_size: int = 16,
        enable_dropout: bool = True,
        seed: int | None = None,
    ) -> dict[str, Any]:
        """Monte-Carlo draws of one prediction and their statistics; raises as ``predict``."""
        fields = {
            "image": encode_image(image),
            "action": action,
            "food_type": food_type,
            "text": text,
            "batch_size": batch_size,
            "enable_dropout": enable_dropout,
            "seed": seed,
        }
        return self._post("/predict_batch", fields)

    def reset(self, client_id: str) -> dict[str, Any]:
        """Forgets the client's episode."""
        return self._post("/reset", {"client_id": client_id})

    def load_model(
        self,
        checkpoint_path: str,
        config_file: str | None = None,
        loss_type: str | None = None,
        *,
        timeout_s: float = 600.0,
    ) -> dict[str, Any]:
        """Swaps the server's model; the old one answers until the new one is ready."""
        fields = {"checkpoint_path": checkpoint_path, "config_file": config_file, "loss_type": loss_type}
        return self._post("/load_model", fields, repeatable=False, timeout_s=timeout_s)

    def available_combinations(self) -> dict[str, Any]:
        """Actions and foods that the policy knows."""
        return self._request("GET", "/available_combinations")

    def spec(self) -> dict[str, Any]:
        """Observations and actions of the policy."""
        return self._request("GET", "/spec")

    def health(self) -> dict[str, Any]:
        """The server's state."""
        return self._request("GET", "/health")

    def is_ready(self) -> bool:
        """Whether predictions are answered now."""
        try:
            self._request("GET", "/readyz", attempts=1)
        except (NoConnectionError, NoAnswerInTimeError):
            return False
        except ServerError as error:
            if error.status != 503:
                raise
            return False
        return True

    def wait_until_ready(self, timeout_s: float = 300.0, poll_s: float = 0.2) -> None:
        """Waits for a server that is starting.

        Raises:
          NoAnswerInTimeError: it is not ready in time.
        """
        end = time.monotonic() + timeout_s
        while not self.is_ready():
            if time.monotonic() > end:
                raise NoAnswerInTimeError(f"{self._url} is not ready after {timeout_s:g} s.")
            self._sleep(poll_s)

    def _post(
        self,
        path: str,
        fields: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        repeatable: bool = True,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        body = {name: value for name, value in fields.items() if value is not None}
        return self._request("POST", path, body, headers, repeatable=repeatable, timeout_s=timeout_s)

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        repeatable: bool = True,
        timeout_s: float | None = None,
        attempts: int | None = None,
    ) -> dict[str, Any]:
        attempts = attempts or self._attempts
        for attempt in range(1, attempts + 1):
            wait_s = 0.0
            try:
                response = self._session.request(
                    method,
                    self._url + path,
                    json=body,
                    headers={**self._headers, **(headers or {})},
                    timeout=(self._connect_timeout_s, timeout_s or self._timeout_s),
                )
            except requests.exceptions.ReadTimeout as error:
                raise NoAnswerInTimeError(f"{self._url}{path}: no answer in time.") from error
            except requests.exceptions.ConnectionError as error:
                if attempt == attempts or not (repeatable or _never_connected(error)):
                    raise NoConnectionError(f"{self._url}{path}: {error}") from error
            except requests.exceptions.RequestException as error:
                raise PolicyClientError(f"{self._url}{path}: {error}") from error
            else:
                if response.status_code != 503 or attempt == attempts:
                    return _fields(response)
                wait_s = _retry_after_s(response)
            pause_s = max(wait_s, 0.1 * 2**attempt) * random.uniform(0.75, 1.25)
            self._sleep(min(pause_s, _LONGEST_PAUSE_S))
        raise AssertionError("unreachable: the last attempt returns or raises")


def _never_connected(error: requests.exceptions.ConnectionError) -> bool:
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    return bool(error.args) and isinstance(getattr(error.args[0], "reason", None), NewConnectionError)


def _retry_after_s(response: requests.Response) -> float:
    given = response.headers.get("Retry-After", "")
    return float(given) if given.isdigit() else 0.0


def _fields(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except requests.exceptions.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict) or "success" not in answer:
        kind = response.headers.get("Content-Type", "no type")
        if response.status_code == 413:  # A proxy refuses in words of its own.
            raise ServerError(413, "body_too_large", "The request is too large: send less.", None, "none")
        raise NotAPolicyServerError(
            f"{response.url} answered {response.status_code} with {kind}, not as a policy server does. "
            "Is another program or a proxy in between?"
        )
    if answer["success"]:
        return answer
    error = answer["error"]
    raise ServerError(
        response.status_code, error["code"], error["message"], error["field"], error["request_id"]
    )
