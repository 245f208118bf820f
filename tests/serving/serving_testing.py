"""Helpers of the serving tests."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flask
import numpy as np
from fake_policies import FakeArmPolicy, FakeFoodPolicy, load_policy
from PIL import Image

from serving.app import create_app
from serving.engine import Engine
from serving.model import make_model
from serving.settings import Settings


def png(colour: tuple[int, int, int] | int = 128, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def picture(*arguments: Any, **options: Any) -> str:
    """As ``png``, in base64."""
    return base64.b64encode(png(*arguments, **options)).decode()


def banana(**fields: Any) -> dict[str, Any]:
    return {"image": picture(), "action": "skewering", "food_type": "banana", **fields}


def apple(**fields: Any) -> dict[str, Any]:
    return {"image": picture(), "text": "pick up the apple", **fields}


@contextmanager
def serving(
    policy: FakeFoodPolicy | FakeArmPolicy | None, settings: Settings | None = None, **engine_options: Any
) -> Iterator[tuple[flask.Flask, Engine]]:
    """An app and its engine over a policy."""
    settings = settings or Settings()
    options = {"batch_sizes": settings.batch_sizes, "queue_size": settings.queue_size, **engine_options}
    engine = Engine(**options)
    try:
        app = create_app(engine, settings, load_policy)
        if policy is not None:
            engine.swap(make_model(policy, "first"))
        yield app, engine
    finally:
        if policy is not None:
            policy.gate.set()
        engine.close(10)


def row(value: int = 0, text: str = "go", size: int = 2) -> dict[str, np.ndarray]:
    """An observation for the engine."""
    return {
        "image": np.full((1, size, size, 3), value, np.uint8),
        "natural_language_instruction": np.array([text]),
    }
