"""The server's limits and switches, in one frozen record."""

import dataclasses
import os
from pathlib import Path

TOKEN_VARIABLE = "POLICY_SERVER_TOKEN"

# Room in a request body for everything that is not the image.
_BODY_MARGIN = 1 << 20


@dataclasses.dataclass(frozen=True)
class Settings:
    """What an operator chooses.

    Attributes:
      models_root: /load_model takes checkpoints only under this folder; None switches it off.
      token: required as ``Authorization: Bearer …`` when not empty.
      max_image_bytes: of an encoded image, after base64; also of all images of a request together.
      max_pixels: width times height of an image, checked before it is decoded.
      queue_size: requests that may wait for the inference thread; a further one is answered 503.
      batch_sizes: the sizes a batch is padded to, ascending; a compiled policy has one program each.
      request_timeout_ms: a request still queued after this is dropped and answered 504. The header
        ``X-Request-Timeout-Ms`` can shorten it, not lengthen it.
      max_clients: how many clients may hold a state; a further one is answered 429.
      client_ttl_s: a client's state is forgotten when it was unused for so long.
      decode_threads: how many images are decoded at once.
      warm_up_samples: Monte-Carlo draws to warm up with (food policies).
      drain_timeout_s: how long SIGTERM waits for work that was accepted.
    """

    models_root: Path | None = None
    token: str = ""
    max_image_bytes: int = 6 << 20
    max_pixels: int = 4 << 20
    queue_size: int = 32
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    request_timeout_ms: int = 30_000
    max_clients: int = 256
    client_ttl_s: float = 600.0
    decode_threads: int = 2
    warm_up_samples: int = 16
    drain_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_sizes", tuple(self.batch_sizes))
        if not self.batch_sizes or list(self.batch_sizes) != sorted(set(self.batch_sizes)):
            raise ValueError(f"batch_sizes must ascend. Received: {self.batch_sizes}")
        positive = (
            "max_image_bytes",
            "max_pixels",
            "queue_size",
            "request_timeout_ms",
            "max_clients",
            "client_ttl_s",
            "decode_threads",
            "drain_timeout_s",
        )
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0. Received: {getattr(self, name)}")
        if self.batch_sizes[0] < 1 or self.warm_up_samples < 0:
            raise ValueError(
                "batch_sizes must be at least 1 and warm_up_samples at least 0. "
                f"Received: {self.batch_sizes}, {self.warm_up_samples}"
            )

    @property
    def max_body_bytes(self) -> int:
        """The limit of a request body: an image in base64 and a little more."""
        return (self.max_image_bytes + 2) // 3 * 4 + _BODY_MARGIN

    @property
    def threads_needed(self) -> int:
        """HTTP threads with which the queue can fill up and the probes are still answered.

        Each accepted request holds one thread until it is answered.
        """
        return self.queue_size + self.batch_sizes[-1] + 8


def read_token(token_file: str | Path | None) -> str:
    """The bearer token from a file, else from POLICY_SERVER_TOKEN, else "" (no token asked for).

    Raises:
      ValueError: the file is empty.
    """
    if not token_file:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    token = Path(token_file).read_text(encoding="utf-8").strip()
    if not token:
        raise ValueError(f"token_file must contain a token. Received: the empty file {token_file}")
    return token
