"""The Flask app: HTTP around ``serving.service``."""

import hmac
import json
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import flask
from absl import logging
from werkzeug.exceptions import HTTPException

from serving import openapi, schemas
from serving.engine import Engine
from serving.errors import ApiError, code_of
from serving.metrics import CONTENT_TYPE, Metrics
from serving.registry import LoadPolicy
from serving.service import PolicyService
from serving.settings import Settings

_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_TIMEOUT_HEADER = "X-Request-Timeout-Ms"


def create_app(engine: Engine, settings: Settings, load_policy: LoadPolicy | None = None) -> flask.Flask:
    """Builds the app; nothing of it is global, so that a process may hold several.

    Args:
      engine: holds the model, or will.
      settings: limits and switches.
      load_policy: checkpoint folder -> policy, for /load_model; None switches it off.

    Returns:
      The WSGI app. Every answer is JSON with ``success`` except /metrics and /openapi.json.
    """
    app = flask.Flask("serving", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    metrics = Metrics(
        lambda: engine.queued, lambda: engine.clients, lambda: engine.model.id if engine.model else ""
    )
    engine.on_batch = metrics.batch
    service = PolicyService(engine, settings, metrics, load_policy)

    for endpoint in openapi.ENDPOINTS:
        if endpoint.handler:
            view = _view(endpoint, getattr(service, endpoint.handler), settings)
            app.add_url_rule(endpoint.path, endpoint.path, view, methods=[endpoint.method])
    alive = schemas.ProbeAnswer(status="alive")
    app.add_url_rule("/livez", "/livez", lambda: _answer(alive))
    app.add_url_rule("/metrics", "/metrics", lambda: (metrics.text(), {"Content-Type": CONTENT_TYPE}))
    app.add_url_rule("/openapi.json", "/openapi.json", openapi.document)

    open_paths = {e.path for e in openapi.ENDPOINTS if e.open}

    @app.before_request
    def begin() -> None:
        given = flask.request.headers.get("X-Request-Id", "")
        flask.g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        metrics.in_flight.inc()
        flask.g.counted = True
        if settings.token and flask.request.path not in open_paths:
            _require_token(settings.token)

    @app.after_request
    def finish(response: flask.Response) -> flask.Response:
        rule = flask.request.url_rule
        metrics.request(rule.rule if rule else "unmatched", response.status_code)
        response.headers["X-Request-Id"] = flask.g.request_id
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        if flask.g.pop("counted", False):
            metrics.in_flight.dec()

    app.register_error_handler(ApiError, _error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    return app


def _view(
    endpoint: openapi.Endpoint, handler: Callable[..., schemas.Answer], settings: Settings
) -> Callable[[], flask.Response]:
    def view() -> flask.Response:
        arguments: list[Any] = [_json_object()] if endpoint.requests else []
        if endpoint.timed:
            arguments.append(_timeout_s(settings.request_timeout_ms))
        return _answer(handler(*arguments))

    return view


def _answer(answer: schemas.Answer) -> flask.Response:
    return flask.jsonify({**answer.model_dump(), "request_id": flask.g.request_id})


def _json_object() -> Mapping[str, Any]:
    if not flask.request.is_json:
        raise ApiError(415, "not_json", "The header Content-Type: application/json is needed.")
    try:
        body = json.loads(flask.request.get_data(cache=False), parse_constant=_no_constant)
    except RecursionError as error:
        raise ApiError(400, "invalid_json", "The body is nested too deep.") from error
    except ValueError as error:
        raise ApiError(400, "invalid_json", f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise ApiError(400, "not_an_object", f"A JSON object is needed. Received: {type(body).__name__}.")
    return body


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _timeout_s(limit_ms: int) -> float:
    given = flask.request.headers.get(_TIMEOUT_HEADER)
    if given is None:
        return limit_ms / 1000
    if not re.fullmatch(r"[1-9][0-9]{0,8}", given):
        raise ApiError(400, "invalid_header", "Whole milliseconds are needed.", _TIMEOUT_HEADER)
    return min(int(given), limit_ms) / 1000


def _require_token(token: str) -> None:
    given = flask.request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {token}".encode()):
        raise ApiError(401, "wrong_token", "The header Authorization: Bearer … is needed.")


def _error(error: ApiError) -> flask.Response:
    request_id = flask.g.get("request_id", "")
    body = schemas.ErrorAnswer(
        error=schemas.Error(code=error.code, message=error.message, field=error.field, request_id=request_id)
    )
    response = flask.jsonify(body.model_dump())
    response.status_code = error.status
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _http_error(error: HTTPException) -> flask.Response:
    """What Flask itself refuses."""
    status = error.code or 500
    response = _error(ApiError(status, code_of(status), error.description or error.name))
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _unexpected(error: Exception) -> flask.Response:
    """A defect of ours or of the policy: the trace goes to the log, its id to the client."""
    error_id = uuid.uuid4().hex
    logging.error("Error %s in request %s", error_id, flask.g.get("request_id", ""), exc_info=error)
    return _error(ApiError(500, "internal_error", f"The request failed; the log has error {error_id}."))
