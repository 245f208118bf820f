"""Which module offers a model to the server: names as data, so that serving imports no model."""

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core import checkpoint_folder
from core.policy import Policy
from core.spec import PolicySpec

# Takes the checkpoint folder (Path) and, by keyword, what a model offers beside.
LoadPolicy = Callable[..., Policy]
EvaluationMetrics = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]

# Model name -> module with ``load_policy(folder: Path) -> Policy`` and, where predictions can be
# compared with labels, ``evaluation_metrics(predicted [n, k], true [n, k]) -> {name: value}``.
MODELS: dict[str, str] = {
    "rt1": "rt1.serving_policy",
    "clip_rt": "clip_tf.rt.serving_policy",
    "sarnn": "sarnn_tf.serving_policy",
    "clip_sarnn": "sarnn_tf.serving_policy",
}


@dataclasses.dataclass(frozen=True)
class ModelModule:
    """What a model offers.

    Attributes:
      load_policy: checkpoint folder -> policy; ValueError or FileNotFoundError where it does not load.
      evaluation_metrics: predicted and true [n, k] float32 -> the validation metrics by name; None
        where the model has none.
    """

    load_policy: LoadPolicy
    evaluation_metrics: EvaluationMetrics | None = None


def find_model(name: str) -> ModelModule:
    """Imports the module of a model.

    Raises:
      ValueError: there is no such model, or its module offers no ``load_policy``.
    """
    if name not in MODELS:
        raise ValueError(f"model must be one of {sorted(MODELS)}. Received: {name!r}")
    module = importlib.import_module(MODELS[name])
    if not callable(getattr(module, "load_policy", None)):
        raise ValueError(f"{MODELS[name]} must offer load_policy(folder). Received: a module without it")
    return ModelModule(_of_model(name, module.load_policy), getattr(module, "evaluation_metrics", None))


def _of_model(name: str, load_policy: LoadPolicy) -> LoadPolicy:
    """Refuses checkpoints that say they are another model's."""

    @functools.wraps(load_policy)
    def load(folder: Path, **options: Any) -> Policy:
        path = Path(folder) / checkpoint_folder.SPEC
        said = PolicySpec.load(path).model if path.is_file() else name
        if said != name and said in MODELS:
            raise ValueError(f"{folder} is of --model={said}. Received: --model={name}")
        return load_policy(folder, **options)

    return load


def with_options(load_policy: LoadPolicy, **options: Any) -> LoadPolicy:
    """``load_policy`` with those options that are not None.

    Raises:
      ValueError: the model takes no such option.
    """
    given = {name: value for name, value in options.items() if value is not None}
    unknown = sorted(given.keys() - inspect.signature(load_policy).parameters.keys())
    if unknown:
        raise ValueError(f"This model takes no {', '.join(unknown)}. Received: {given}")
    return functools.partial(load_policy, **given) if given else load_policy
