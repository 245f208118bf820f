"""A loaded policy with its identity: loading from a checkpoint folder, checking, warming up."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from core import checkpoint_folder
from core.policy import Observations, Policy, PolicyResult, State
from core.spec import PolicySpec
from serving import observations
from serving.registry import LoadPolicy

# Larger files (the weights) enter a folder's digest by name and size only.
_HASHED_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A policy and what its answers say of it.

    Attributes:
      policy: ready to answer.
      spec: the policy's, read once.
      id: model, checkpoint and a digest of the folder's small files, e.g.
        ``rt1:step-00001200:3f2a…``; in every answer, so that it can be traced to its model.
      config_loaded: whether the checkpoint carries its gin configuration.
    """

    policy: Policy
    spec: PolicySpec
    id: str
    config_loaded: bool = False


def make_model(policy: Policy, name: str = "unnamed", *, config_loaded: bool = False) -> Model:
    """Wraps a policy.

    Raises:
      ValueError: the object is not a policy.
    """
    if not isinstance(policy, Policy):
        raise ValueError(f"A policy with spec, initial_state and infer is needed. Received: {type(policy)}")
    spec = policy.spec
    return Model(policy, spec, f"{spec.model}:{name}", config_loaded)


def load_model(load_policy: LoadPolicy, path: Path) -> Model:
    """Loads the checkpoint that ``path`` means (a checkpoint folder, or one with best.json).

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: it does not load.
    """
    folder = checkpoint_folder.resolve(path)
    config_loaded = (folder / checkpoint_folder.CONFIG).exists()
    name = f"{folder.name}:{folder_digest(folder)}"
    return make_model(load_policy(folder), name, config_loaded=config_loaded)


def folder_digest(folder: Path) -> str:
    """12 hexadecimal digits of the names and sizes of a folder's files and the content of small ones."""
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()}\0{size}\0".encode())
        if size <= _HASHED_BYTES:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def checked_infer(
    model: Model, asked: Observations, state: State, *, num_samples: int = 0, seed: int | None = None
) -> tuple[PolicyResult, State]:
    """``infer`` of the policy, its answer held against its specification.

    Raises:
      RuntimeError: an action is missing, of another shape, or not finite: nothing a robot may be sent.
    """
    n = len(next(iter(asked.values())))
    result, state = model.policy.infer(asked, state, num_samples=num_samples, seed=seed)
    for action in model.spec.actions:
        _check(result.actions, action.name, (n, *action.shape))
        if num_samples:
            _check(result.samples or {}, action.name, (n, num_samples, *action.shape))
    for name, value in (*result.info.items(), *state.items()):
        if np.ndim(value) < 1 or len(value) != n:
            raise RuntimeError(f"The policy must answer {n} rows of {name}. Received: {np.shape(value)}")
    return result, state


def _check(arrays: Observations, name: str, shape: tuple[int | None, ...]) -> None:
    received = np.shape(arrays[name]) if name in arrays else "none"
    if received != shape:
        raise RuntimeError(f"The policy must answer {name} with shape {shape}. Received: {received}")
    if not np.all(np.isfinite(arrays[name])):
        raise RuntimeError(f"The policy's answer {name} must be finite. Received: NaN or infinity")


def warm_up(model: Model, batch_sizes: Sequence[int], num_samples: int) -> None:
    """Runs every batch size once, so that no client waits for a compilation.

    Args:
      model: to warm up; nothing of it changes.
      batch_sizes: as the server pads to.
      num_samples: Monte-Carlo draws to compute once too (0 for none; only asked of food policies).

    Raises:
      RuntimeError: the policy's answers do not fit its specification.
      ValueError: the policy refuses the example.
    """
    for size in batch_sizes:
        checked_infer(model, observations.example(model.spec, size), model.policy.initial_state(size))
    if num_samples and model.spec.task == "food":
        example, state = observations.example(model.spec, 1), model.policy.initial_state(1)
        checked_infer(model, example, state, num_samples=num_samples, seed=0)
    logging.info("Warmed up %s for batches of %s.", model.id, list(batch_sizes))
