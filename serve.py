"""Serves a trained policy over HTTP.

python serve.py --model rt1 --checkpoint runs/food
"""

import sys
from pathlib import Path

from absl import app, flags

from serving import registry, server
from serving.settings import Settings, read_token

_DEFAULTS = Settings()

_MODEL = flags.DEFINE_enum("model", "rt1", sorted(registry.MODELS), "Which model the checkpoint is of.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Checkpoint folder, or one with best.json.", required=True
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
_PORT = flags.DEFINE_integer("port", 8080, "Port; 0 takes a free one and logs it.", 0, 65535)
_ENCODER_SOURCE = flags.DEFINE_string(
    "encoder_source", None, "Where the sentence encoder or CLIP is now; it must be the one of the training."
)
_INPUT_PARAM = flags.DEFINE_float(
    "input_param", None, "SARNN: how much of its input is measured; the rest it predicted.", 0.0, 1.0
)
_PREDICTED_JOINTS = flags.DEFINE_list(
    "predicted_joints", None, "SARNN: joints, such as the gripper, that it sees as it predicted them."
)
_MODELS_ROOT = flags.DEFINE_string(
    "models_root", None, "/load_model takes checkpoints under this folder; default: beside --checkpoint."
)
_TOKEN_FILE = flags.DEFINE_string(
    "token_file", None, "File with the bearer token to ask for; default: POLICY_SERVER_TOKEN, else none."
)
_MAX_IMAGE_MB = flags.DEFINE_float("max_image_mb", _DEFAULTS.max_image_bytes / 2**20, "Encoded image, MiB.")
_MAX_PIXELS = flags.DEFINE_integer("max_pixels", _DEFAULTS.max_pixels, "Width times height of an image.")
_QUEUE_SIZE = flags.DEFINE_integer("queue_size", _DEFAULTS.queue_size, "Requests that may wait.")
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", list(map(str, _DEFAULTS.batch_sizes)), "Sizes to pad to.")
_THREADS = flags.DEFINE_integer("threads", None, "HTTP threads; default: as many as the queue needs.")
_TIMEOUT_MS = flags.DEFINE_integer(
    "request_timeout_ms", _DEFAULTS.request_timeout_ms, "A request that waits longer is answered 504."
)
_MAX_CLIENTS = flags.DEFINE_integer("max_clients", _DEFAULTS.max_clients, "Clients that may hold a state.")
_CLIENT_TTL_S = flags.DEFINE_float("client_ttl_s", _DEFAULTS.client_ttl_s, "Unused states are forgotten.")
_DRAIN_S = flags.DEFINE_float(
    "drain_timeout_s", _DEFAULTS.drain_timeout_s, "How long SIGTERM waits for work."
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Only flags are taken. Received: {argv[1:]}")
    checkpoint = Path(_CHECKPOINT.value)
    settings = Settings(
        models_root=Path(_MODELS_ROOT.value) if _MODELS_ROOT.value else checkpoint.resolve().parent,
        token=read_token(_TOKEN_FILE.value),
        max_image_bytes=int(_MAX_IMAGE_MB.value * 2**20),
        max_pixels=_MAX_PIXELS.value,
        queue_size=_QUEUE_SIZE.value,
        batch_sizes=tuple(int(size) for size in _BATCH_SIZES.value),
        request_timeout_ms=_TIMEOUT_MS.value,
        max_clients=_MAX_CLIENTS.value,
        client_ttl_s=_CLIENT_TTL_S.value,
        drain_timeout_s=_DRAIN_S.value,
    )
    try:
        load_policy = registry.with_options(
            registry.find_model(_MODEL.value).load_policy,
            encoder_source=_ENCODER_SOURCE.value,
            input_param=_INPUT_PARAM.value,
            predicted_joints=_PREDICTED_JOINTS.value,
        )
    except ValueError as error:
        raise app.UsageError(f"--model {_MODEL.value}: {error}") from error
    try:
        status = server.run(
            load_policy, checkpoint, settings, host=_HOST.value, port=_PORT.value, threads=_THREADS.value
        )
    except server.CannotListenError as error:
        sys.exit(str(error))
    sys.exit(status)


if __name__ == "__main__":
    app.run(main)
