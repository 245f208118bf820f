"""Loading a checkpoint of any dialect into a network, by name and strictly."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from tf_agents.specs import tensor_spec

from core import checkpoint_folder
from core.load_report import LoadReport, Mapped, Shape, compare
from core.named_variables import named_variables
from core.spec import ArraySpec, PolicySpec
from film_efficientnet import variants
from rt1 import specs
from rt1.checkpoints import dialects
from rt1.checkpoints.configuration import Configuration, configuration_of
from rt1.checkpoints.presets import find_preset
from rt1.checkpoints.reader import CheckpointError, CheckpointFile, open_checkpoint
from rt1.checkpoints.variable_names import variable_names
from rt1.transformer_network import HEADS, TransformerNetwork

_EXPORTED_SPEC = "policy_specs.pbtxt"


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What a checkpoint is.

    Attributes:
      dialect: one of ``dialects``.
      parameters: numbers in the network's variables.
      configuration: hyper-parameters by its shapes.
      preset: name of the released configuration it has, None for another.
      report: what loading it into a network of that configuration would give.
    """

    prefix: Path
    dialect: str
    parameters: int
    configuration: Configuration
    preset: str | None
    report: LoadReport

    def to_json(self) -> dict[str, Any]:
        return {
            "dialect": self.dialect,
            "parameters": self.parameters,
            "configuration": dataclasses.asdict(self.configuration),
            "preset": self.preset,
            **self.report.to_json(),
        }


def build_network(configuration: Configuration) -> TransformerNetwork:
    """A network with those hyper-parameters; the actions are RT-1's, the food task's or plain numbers.

    Raises:
      CheckpointError: the shapes do not settle the window's length.
    """
    arguments = configuration.network_arguments()
    tokens = configuration.tokens_per_action
    actions = {11: specs.OFFICIAL_ACTIONS, 4: specs.FOOD_ACTIONS}.get(
        tokens or 0, (ArraySpec("action", (tokens,), "float32", 0.0, 1.0),)
    )
    observations = specs.observation_spec(embedding_size=configuration.embedding_size)
    network = TransformerNetwork(observations, specs.action_spec(actions), **arguments)
    network.create_variables()
    return network


def inspect(path: str | Path) -> Inspection:
    """Reads a checkpoint as a whole and says what it is; nothing is kept.

    Raises:
      CheckpointError: it cannot be read, or is no RT-1.
    """
    file = open_checkpoint(path)
    dialect = dialects.detect(file.shapes)
    configuration, mapped, unmatched = _identify(file, dialect)
    network = build_network(configuration)
    target = {n: tuple(v.shape) for n, v in named_variables(network, dialects.NETWORK).items()}
    report = compare({m.target: file.shapes[m.source] for m in mapped}, target, unmatched=unmatched)
    file.verify()
    parameters = sum(int(np.prod(file.shapes[m.source], dtype=np.int64)) for m in mapped)
    return Inspection(
        file.prefix, dialect, parameters, configuration, find_preset(configuration, file.prefix), report
    )


def load_weights(network: TransformerNetwork, path: str | Path, *, new_ok: Sequence[str] = ()) -> LoadReport:
    """Sets a network's variables from a checkpoint of any dialect.

    Args:
      network: with its variables made.
      path: as for ``reader.find_prefix``.
      new_ok: regular expressions for whole official names that keep the network's own value where the
        checkpoint lacks them or has another shape, and that may be left over in the checkpoint.

    Returns:
      The report; it is ``ok``.

    Raises:
      CheckpointError: the file cannot be read.
      ValueError: it does not fit. The network is unchanged in both cases.
    """
    file = open_checkpoint(path)
    variables = named_variables(network, dialects.NETWORK)
    target = {n: tuple(v.shape) for n, v in variables.items()}
    mapped, unmatched = dialects.rename(file.shapes, dialects.saved_model_order(variables))
    if dialects.detect(file.shapes) == dialects.SAVED_MODEL and not _agree(file, mapped, target):
        # Of another network, e.g. one with another head: its numbers count that network's variables.
        _, mapped, unmatched = _identify(file, dialects.SAVED_MODEL)
    source = {m.target: file.shapes[m.source] for m in mapped}
    report = compare(source, target, new_ok=new_ok, unmatched=unmatched)
    report.raise_unless_ok(f"Checkpoint {file.prefix}")
    loaded = set(report.loaded)
    values = {m.target: file.read(m.source) for m in mapped if m.target in loaded}
    converted_values: dict[str, np.ndarray] = {}
    for name, value in values.items():
        dtype = variables[name].dtype.as_numpy_dtype
        converted = value.astype(dtype)
        if np.issubdtype(dtype, np.integer) and not np.array_equal(converted, value):
            raise ValueError(f"{name} must hold whole numbers. Received: {value.dtype} values")
        converted_values[name] = converted
    for name, converted in converted_values.items():
        variables[name].assign(converted)
    return report


def _agree(file: CheckpointFile, mapped: Sequence[Mapped], target: Mapping[str, Shape]) -> bool:
    """Whether the file has every variable of the network in its shape, and no other."""
    return {m.target: file.shapes[m.source] for m in mapped} == target


def _identify(file: CheckpointFile, dialect: str) -> tuple[Configuration, list[Mapped], list[str]]:
    """The hyper-parameters, and the keys under their official names."""
    tokens = _tokens_by_spec(file.prefix.parent)
    if dialect != dialects.SAVED_MODEL:
        mapped, unmatched = dialects.rename(file.shapes, [])
        shapes = {m.target: file.shapes[m.source] for m in mapped}
        return configuration_of(shapes, tokens), mapped, unmatched
    # Numbers for names: their count gives the number of layers of each trunk and head that is possible,
    # and the shapes say which of those it is.
    count = sum(name.startswith("model_variables/") for name in file.shapes)
    for variant in variants.VARIANTS:
        for head in HEADS:
            per_layer = len(variable_names(variant, 1, head)) - len(variable_names(variant, 0, head))
            layers, rest = divmod(count - len(variable_names(variant, 0, head)), per_layer)
            if rest or layers < 1:
                continue
            order = dialects.saved_model_order(variable_names(variant, layers, head))
            mapped, unmatched = dialects.rename(file.shapes, order)
            shapes = {m.target: file.shapes[m.source] for m in mapped}
            try:
                configuration = configuration_of(shapes, tokens)
            except (CheckpointError, ValueError):
                continue  # Shapes that cannot be those of this trunk and head: try the next.
            if configuration.efficientnet_variant == variant:
                return configuration, mapped, unmatched
    raise CheckpointError(
        f"{file.prefix} has {count} numbered variables, which is no known network: "
        f"EfficientNet {sorted(variants.VARIANTS)} and any number of transformer layers were tried."
    )


def _tokens_by_spec(folder: Path) -> int | None:
    """Tokens of an action by the specification beside the checkpoint, None where there is none.

    That is ``spec.json`` in our folders, and ``policy_specs.pbtxt`` above ``variables`` in a SavedModel of
    TF-Agents.
    """
    path, exported = folder / checkpoint_folder.SPEC, folder.parent / _EXPORTED_SPEC
    if path.exists():
        actions = PolicySpec.load(path).actions
        return sum(1 if a.dtype.startswith("int") else a.size for a in actions)
    if folder.name == "variables" and exported.exists():
        try:
            exported_actions = tensor_spec.from_pbtxt_file(str(exported))["collect_data_spec"].action
        except (text_format.ParseError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{exported} is not a specification of TF-Agents: {error}") from error
        return sum(1 if a.dtype.is_integer else a.shape.num_elements() for a in exported_actions.values())
    return None
