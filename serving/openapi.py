"""/openapi.json, from the table of endpoints and the schemas of their requests and answers."""

import dataclasses
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from serving import schemas


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One endpoint as the table has it.

    Attributes:
      method, path, summary: as they are.
      handler: name of the method of ``PolicyService``, "" for what the app answers by itself.
      requests, answers: the schemas it takes and gives (which one depends on the policy's task);
        empty where it is not JSON.
      timed: whether ``X-Request-Timeout-Ms`` means anything to it.
      open: whether it is answered without a token, as probes need it.
    """

    method: str
    path: str
    summary: str
    handler: str = ""
    requests: tuple[type[schemas.Request], ...] = ()
    answers: tuple[type[schemas.Answer], ...] = ()
    timed: bool = False
    open: bool = False


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "POST",
        "/predict",
        "One prediction, or one step of a client's episode.",
        "predict",
        (schemas.FoodRequest, schemas.ManipulationRequest),
        (schemas.FoodAnswer, schemas.ManipulationAnswer),
        timed=True,
    ),
    Endpoint(
        "POST",
        "/predict_batch",
        "Monte-Carlo draws of one prediction (food).",
        "predict_batch",
        (schemas.FoodBatchRequest,),
        (schemas.FoodBatchAnswer,),
        timed=True,
    ),
    Endpoint(
        "POST",
        "/reset",
        "Forget a client's episode.",
        "reset",
        (schemas.ResetRequest,),
        (schemas.ResetAnswer,),
    ),
    Endpoint(
        "POST",
        "/load_model",
        "Swap the model.",
        "load_model",
        (schemas.LoadModelRequest,),
        (schemas.LoadModelAnswer,),
    ),
    Endpoint(
        "GET",
        "/available_combinations",
        "Actions and foods known (food).",
        "available_combinations",
        answers=(schemas.CombinationsAnswer,),
    ),
    Endpoint(
        "GET",
        "/spec",
        "What the policy takes and answers.",
        "specification",
        answers=(schemas.SpecAnswer,),
    ),
    Endpoint("GET", "/health", "The server's state.", "health", answers=(schemas.HealthAnswer,), open=True),
    Endpoint("GET", "/livez", "The process answers.", answers=(schemas.ProbeAnswer,), open=True),
    Endpoint(
        "GET",
        "/readyz",
        "200 when predictions are answered.",
        "ready",
        answers=(schemas.ProbeAnswer,),
        open=True,
    ),
    Endpoint("GET", "/metrics", "Prometheus metrics."),
    Endpoint("GET", "/openapi.json", "This description."),
)

_TIMEOUT = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "required": False,
    "description": "Answer 504 rather than begin later than this; cannot lengthen the server's own limit.",
    "schema": {"type": "integer", "minimum": 1},
}


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    modes: list[tuple[type[BaseModel], JsonSchemaMode]]
    modes = [(s, "validation") for e in ENDPOINTS for s in e.requests]
    modes += [(s, "serialization") for e in ENDPOINTS for s in e.answers]
    modes.append((schemas.ErrorAnswer, "serialization"))
    _, definitions = models_json_schema(
        list(dict.fromkeys(modes)), ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Policy server", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "responses": {
            "200": {"description": "Success.", **_content(endpoint.answers)},
            "default": {"description": "Not answered.", **_content((schemas.ErrorAnswer,))},
        },
    }
    if endpoint.requests:
        operation["requestBody"] = {"required": True, **_content(endpoint.requests)}
    if endpoint.timed:
        operation["parameters"] = [_TIMEOUT]
    if not endpoint.open:
        operation["security"] = [{"token": []}, {}]
    return operation


def _content(types: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    if not types:
        return {}
    references = [{"$ref": f"#/components/schemas/{t.__name__}"} for t in types]
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return {"content": {"application/json": {"schema": schema}}}
