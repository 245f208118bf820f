"""What each endpoint does, without HTTP: a checked request in, an answer or an ApiError out."""

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from absl import logging
from pydantic import ValidationError

from core.spec import ArraySpec, PolicySpec
from serving import errors, food, images, manipulation, observations, schemas
from serving.engine import Answer, Engine
from serving.metrics import Metrics
from serving.model import Model, load_model, warm_up
from serving.registry import LoadPolicy
from serving.settings import Settings

_Request = TypeVar("_Request", bound=schemas.Request)
_FOOD = "food"


class PolicyService:
    """Answers requests with the engine's current model.

    Args:
      engine: holds the model and the clients' sessions.
      settings: the limits.
      metrics: told how long each stage takes.
      load_policy: checkpoint folder -> policy, for /load_model; None switches it off.
    """

    def __init__(
        self, engine: Engine, settings: Settings, metrics: Metrics, load_policy: LoadPolicy | None
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._metrics = metrics
        self._load_policy = load_policy
        self._loading = threading.Lock()
        self._decoding = threading.BoundedSemaphore(settings.decode_threads)

    def predict(self, body: Mapping[str, Any], timeout_s: float) -> schemas.PolicyAnswer:
        """POST /predict: which fields it takes depends on the loaded policy's task."""
        while True:
            model = self._model()
            with contextlib.suppress(errors.ModelReplacedError):
                if model.spec.task == _FOOD:
                    return self._predict_food(model, parse(schemas.FoodRequest, body), timeout_s)
                return self._step(model, parse(schemas.ManipulationRequest, body), timeout_s)

    def predict_batch(self, body: Mapping[str, Any], timeout_s: float) -> schemas.FoodBatchAnswer:
        """POST /predict_batch: draws of one prediction and how far they lie apart."""
        while True:
            model = self._model(_FOOD)
            request = parse(schemas.FoodBatchRequest, body)
            with contextlib.suppress(errors.ModelReplacedError):
                return self._predict_food_batch(model, request, timeout_s)

    def reset(self, body: Mapping[str, Any]) -> schemas.ResetAnswer:
        """POST /reset: forgets a client's episode."""
        model = self._model()
        if model.spec.task == _FOOD:
            raise errors.wrong_task(model.spec.task)
        client_id = parse(schemas.ResetRequest, body).client_id
        return schemas.ResetAnswer(client_id=client_id, existed=self._engine.reset(client_id))

    def available_combinations(self) -> schemas.CombinationsAnswer:
        """GET /available_combinations: what the food policy knows by name."""
        known = food.known_combinations(self._model(_FOOD).spec)
        return schemas.CombinationsAnswer(
            combinations=[schemas.Combination(**c) for c in known],
            available_actions=sorted({c["action"] for c in known}),
            available_food_types=sorted({c["food_type"] for c in known}),
            total_combinations=len(known),
        )

    def specification(self) -> schemas.SpecAnswer:
        """GET /spec: the policy's observations and actions."""
        model = self._model()
        return schemas.SpecAnswer(model=model.id, spec=model.spec.to_json())

    def health(self) -> schemas.HealthAnswer:
        """GET /health: always 200, the state is in the fields."""
        model, engine = self._engine.model, self._engine
        return schemas.HealthAnswer(
            status="stopping" if engine.closing else "healthy" if model else "loading",
            model_loaded=model is not None,
            config_loaded=model is not None and model.config_loaded,
            model=model.id if model else None,
            task=model.spec.task if model else None,
            clients=engine.clients,
            queued=engine.queued,
        )

    def ready(self) -> schemas.ProbeAnswer:
        """GET /readyz: 503 until a model is loaded and warm, and while stopping."""
        if self._engine.closing:
            raise errors.shutting_down()
        self._model()
        return schemas.ProbeAnswer(status="ready")

    def load_model(self, body: Mapping[str, Any]) -> schemas.LoadModelAnswer:
        """POST /load_model: loads and warms up while the old model answers, then swaps.

        The old model stays where anything fails.
        """
        request = parse(schemas.LoadModelRequest, body)
        if self._load_policy is None or self._settings.models_root is None:
            raise errors.ApiError(403, "loading_disabled", "This server loads no further models.")
        path = path_under(self._settings.models_root, request.checkpoint_path, "checkpoint_path")
        if not self._loading.acquire(blocking=False):
            raise errors.ApiError(409, "already_loading", "Another model is being loaded.", retry_after_s=10)
        try:
            model, notes = self._load(self._load_policy, path, request)
            self._engine.swap(model)
        finally:
            self._loading.release()
        logging.info("Serving %s.", model.id)
        message = f"Model loaded from {request.checkpoint_path}"
        return schemas.LoadModelAnswer(message=message, model=model.id, notes=notes)

    def _load(
        self, load_policy: LoadPolicy, path: Path, request: schemas.LoadModelRequest
    ) -> tuple[Model, list[str]]:
        try:
            model = load_model(load_policy, path)
            notes = _load_notes(model.spec, request)
            warm_up(model, self._settings.batch_sizes, self._settings.warm_up_samples)
        except errors.ApiError:
            raise
        except (ValueError, FileNotFoundError) as error:
            logging.warning("Loading %s failed: %s", path, error)
            raise errors.ApiError(422, "model_not_loadable", f"{error}", "checkpoint_path") from error
        except Exception as error:
            logging.exception("Loading %s failed.", path)
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            raise errors.ApiError(500, "loading_failed", reason, "checkpoint_path") from error
        return model, notes

    def _model(self, task: str | None = None) -> Model:
        model = self._engine.model
        if model is None:
            raise errors.not_loaded()
        if task is not None and model.spec.task != task:
            raise errors.wrong_task(model.spec.task)
        return model

    def _image(self, expected: ArraySpec, text: str, field: str) -> np.ndarray:
        with self._decoding:
            data = images.decode_base64(text, self._settings.max_image_bytes, field)
            return observations.decode(expected, data, self._settings.max_pixels, field)

    def _images(self, spec: PolicySpec, request: schemas.ManipulationRequest) -> dict[str, np.ndarray]:
        """The request's images by the names of their observations."""
        sent = {f"images.{name}": (name, text) for name, text in (request.images or {}).items()}
        if request.image is not None:
            sent["image"] = (observations.IMAGE, request.image)
        expected = {o.name: o for o in spec.observations if observations.is_image(o)}
        for field, (name, _) in sent.items():
            if name not in expected:
                raise errors.invalid_field(f"The policy takes the images {list(expected)}.", field)
        if len({name for name, _ in sent.values()}) < len(sent):
            raise errors.invalid_field("The image is there as field image too.", "images.image")
        return {name: self._image(expected[name], text, field) for field, (name, text) in sent.items()}

    def _infer(self, model: Model, row: Mapping[str, np.ndarray], timeout_s: float, **request: Any) -> Answer:
        try:
            answer = self._engine.infer(model, row, timeout_s=timeout_s, **request)
        except ValueError as error:
            # The protocol: a policy's ValueError says what of the request it cannot understand.
            raise errors.invalid_field(str(error), _field_of(model.spec, str(error))) from error
        self._metrics.stage("queue", answer.queue_ms / 1000)
        return answer

    def _predict_food(
        self, model: Model, request: schemas.FoodRequest, timeout_s: float
    ) -> schemas.FoodAnswer:
        watch = _Stopwatch()
        row, instruction = self._food_row(model, request, watch)
        answer = self._infer(model, row, timeout_s)
        return schemas.FoodAnswer(
            prediction=schemas.Prediction(**food.prediction(food.parameters(model.spec, answer.actions))),
            **_food_echo(request),
            **self._origin(model, instruction, answer, watch),
        )

    def _predict_food_batch(
        self, model: Model, request: schemas.FoodBatchRequest, timeout_s: float
    ) -> schemas.FoodBatchAnswer:
        watch = _Stopwatch()
        row, instruction = self._food_row(model, request, watch)
        n, seed = request.batch_size, None
        if request.enable_dropout:
            seed = secrets.randbelow(2**31) if request.seed is None else request.seed
            answer = self._infer(model, row, timeout_s, num_samples=n, seed=seed)
        else:
            answer = self._infer(model, row, timeout_s)
        box = food.parameters(model.spec, answer.actions)
        # Without dropout every draw is the deterministic answer, computed once.
        boxes = np.tile(box, (n, 1))
        if answer.samples is not None:
            boxes = food.parameters(model.spec, answer.samples)
        statistics = schemas.Statistics.model_validate(food.statistics(boxes))
        if request.enable_dropout:
            self._metrics.uncertainty(statistics.centroid_variance)
        return schemas.FoodBatchAnswer(
            predictions=boxes.tolist(),
            statistics=statistics,
            mean_prediction=schemas.Prediction(**food.prediction(statistics.mean)),
            deterministic_prediction=schemas.Prediction(**food.prediction(box)),
            batch_size=n,
            enable_dropout=request.enable_dropout,
            seed=seed,
            **_food_echo(request),
            **self._origin(model, instruction, answer, watch),
        )

    def _food_row(
        self, model: Model, request: schemas.FoodRequest, watch: "_Stopwatch"
    ) -> tuple[dict[str, np.ndarray], str]:
        instruction = food.instruction(model.spec, request.action, request.food_type, request.text)
        with watch.stage("decode"):
            image = self._image(model.spec.observation(observations.IMAGE), request.image, "image")
            row = observations.row(model.spec, {observations.IMAGE: image}, instruction)
        return row, instruction

    def _step(
        self, model: Model, request: schemas.ManipulationRequest, timeout_s: float
    ) -> schemas.ManipulationAnswer:
        if request.reset and request.client_id is None:
            raise errors.invalid_field("reset needs a client_id. Received: none.", "client_id")
        watch = _Stopwatch()
        instruction = manipulation.instruction(model.spec, request.text)
        observations.check_joint_names(model.spec, request.joint_names)
        mixing = observations.input_param(model.spec, request.input_param)
        manipulation.check_attention_points(model.spec, request.attention_points)
        with watch.stage("decode"):
            pictures = self._images(model.spec, request)
            row = observations.row(model.spec, pictures, instruction, request.observations) | mixing
        answer = self._infer(model, row, timeout_s, client_id=request.client_id, reset=request.reset)
        named = manipulation.named_actions(model.spec, answer.actions)
        phrases = manipulation.language_actions(answer.info)
        points = manipulation.attention_points(model.spec, answer.info) if request.attention_points else {}
        return schemas.ManipulationAnswer(
            action={name: schemas.NamedAction(**fields) for name, fields in named.items()},
            language_actions=None if phrases is None else [schemas.LanguageAction(**p) for p in phrases],
            attention_points={n: schemas.AttentionPoints(**p) for n, p in points.items()} or None,
            terminate=manipulation.terminate(answer.actions),
            client_id=request.client_id,
            step=answer.step,
            session=answer.session,  # type: ignore[arg-type]
            input_text=request.text,
            **self._origin(model, instruction, answer, watch),
        )

    def _origin(
        self, model: Model, instruction: str | None, answer: Answer, watch: "_Stopwatch"
    ) -> dict[str, Any]:
        decode, total = watch.seconds["decode"], watch.total()
        self._metrics.stage("decode", decode)
        self._metrics.stage("total", total)
        milliseconds = (1000 * decode, answer.queue_ms, answer.infer_ms, 1000 * total)
        named = zip(("decode", "queue", "infer", "total"), milliseconds, strict=True)
        return {
            "instruction": instruction,
            "model": model.id,
            "encoder": model.spec.encoder,
            "latency_ms": schemas.Latency(**{name: round(value, 3) for name, value in named}),
        }


class _Stopwatch:
    def __init__(self) -> None:
        self._began = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began

    def total(self) -> float:
        return time.monotonic() - self._began


def parse(schema: type[_Request], body: Mapping[str, Any]) -> _Request:
    """Checks a request's fields.

    Raises:
      ApiError: 422 naming the first field at fault.
    """
    try:
        return schema.model_validate(body)
    except ValidationError as error:
        _refuse(error, schema)


def _refuse(error: ValidationError, schema: type[schemas.Request]) -> NoReturn:
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])[:100] or None
    code = "missing_field" if first["type"] == "missing" else "invalid_field"
    if field == "image" and code == "missing_field":
        code = "missing_image"
    known = f" The fields are {', '.join(schema.model_fields)}." if first["type"] == "extra_forbidden" else ""
    raise errors.ApiError(422, code, f"{first['msg']}.{known}", field) from error


def path_under(root: Path, path: str, field: str) -> Path:
    """The existing folder that ``path`` (relative to root, or absolute) means, links resolved.

    Raises:
      ApiError: 403 where it lies outside root (told before whether it exists), 404 where it is absent.
    """
    root = root.resolve()
    try:
        resolved = (root / path).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise errors.invalid_field("A path is needed.", field) from error
    if not resolved.is_relative_to(root):
        raise errors.ApiError(403, "path_outside_root", "The path is outside the models root.", field)
    try:
        is_folder = resolved.is_dir()
    except OSError as error:
        raise errors.invalid_field("A path is needed.", field) from error
    if not is_folder:
        raise errors.ApiError(
            404,
            "no_such_checkpoint",
            f"There is no folder {path!r}; relative paths begin at the models root.",
            field,
        )
    return resolved


def _load_notes(spec: PolicySpec, request: schemas.LoadModelRequest) -> list[str]:
    notes = []
    if request.config_file:
        notes.append("config_file has no effect: the checkpoint carries its own configuration.")
    if request.loss_type is not None:
        trained = spec.details.get("loss_type")
        if trained is None:
            notes.append("loss_type was not compared: the checkpoint does not say its own.")
        elif trained != request.loss_type:
            message = f"The checkpoint was trained with {trained}. Received: {request.loss_type}."
            raise errors.ApiError(422, "model_not_loadable", message, "loss_type")
    return notes


def _field_of(spec: PolicySpec, message: str) -> str | None:
    """Which field of a request a policy's message is about."""
    for o in spec.observations:
        if re.search(rf"\b{re.escape(o.name)}\b", message):
            return observations.field_of(o)
    return None


def _food_echo(request: schemas.FoodRequest) -> dict[str, Any]:
    return {
        "input_action": request.action,
        "input_food_type": request.food_type,
        "input_text": request.text,
    }
