"""Checkpoints of every dialect as files, and what loading them gave."""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.named_variables import named_variables
from rt1.checkpoints import __main__ as command
from rt1.checkpoints import dialects, load
from rt1.checkpoints.configuration import Configuration
from rt1.transformer_network import TransformerNetwork

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
KEYS = {"dialect", "parameters", "configuration", "preset", "loaded", "missing", "unexpected", "mismatched"}


def write(prefix: Path, values: Mapping[str, np.ndarray]) -> Path:
    """A checkpoint without an object graph; the names get the suffix of variables."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    names = [name if name.startswith("_CHECKPOINTABLE") else name + SUFFIX for name in values]
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(v) for v in values.values()],
    )
    return prefix


def saved_model(folder: Path, values: Mapping[str, np.ndarray], order: list[str], first: int = 1) -> Path:
    """The variables of a SavedModel of a TF-Agents policy."""
    numbered = {f"model_variables/{i}": values[name] for i, name in enumerate(order, first)}
    write(folder / "variables" / "variables", {**numbered, "train_step": np.int64(5)})
    return folder


def values_by_name(network: TransformerNetwork) -> dict[str, np.ndarray]:
    return {name: v.numpy() for name, v in named_variables(network, dialects.NETWORK).items()}


def assert_has(network: TransformerNetwork, values: Mapping[str, np.ndarray]) -> None:
    for name, value in values_by_name(network).items():
        np.testing.assert_array_equal(value, values[name].astype(value.dtype), err_msg=name)


def untouched(network: TransformerNetwork, before: list[np.ndarray]) -> None:
    for one, other in zip(before, network.variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy(), err_msg=other.name)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = command.main(["inspect", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


made_once = functools.cache(load.build_network)


def empty_network(configuration: Configuration) -> TransformerNetwork:
    """Zeros everywhere: what a test finds in it, it has loaded."""
    network = made_once(configuration)
    for variable in network.variables:
        variable.assign(tf.zeros_like(variable))
    return network
