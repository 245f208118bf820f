"""The dialects of RT-1 checkpoints, as rules that rename their keys to the official ones."""

import re
from collections.abc import Iterable, Sequence

from core.load_report import Mapped, Rule, map_names
from rt1.checkpoints.reader import CheckpointError

OBJECT_GRAPH, SAVED_MODEL, FOOD = "object_graph", "saved_model", "food_fine_tuning"
NETWORK = "agent/_actor_network"

_DROPPED = (
    Rule(r"(agent/_actor_optimizer|optimizer)/.*", None, reason="optimiser slots"),
    Rule(
        r"global_step|save_counter|train_step|agent/_train_step_counter|agent/_optimizer/.*",
        None,
        reason="counters",
    ),
)
_NETWORK = Rule(rf"{NETWORK}/.*", lambda match: match.group(0))


def detect(names: Iterable[str]) -> str:
    """The dialect that a checkpoint's keys are in.

    Raises:
      CheckpointError: none of them.
    """
    names = list(names)
    if any(name.startswith("model_variables/") for name in names):
        return SAVED_MODEL
    if any(name.startswith(f"{NETWORK}/") for name in names):
        if any(name.startswith("optimizer/") for name in names):
            return FOOD
        return OBJECT_GRAPH
    raise CheckpointError(
        "This is a TensorFlow checkpoint, but not one of RT-1: no key begins with "
        f"{NETWORK}/ or model_variables/. Its keys begin like {sorted(names)[:3]}."
    )


def rename(names: Iterable[str], order: Sequence[str]) -> tuple[list[Mapped], list[str]]:
    """Renames a checkpoint's keys to the official ones.

    Args:
      names: its keys.
      order: the official names in the order of ``saved_model_order``; used for that dialect only.

    Returns:
      As ``core.load_report.map_names``.
    """
    names = list(names)
    rules: list[Rule] = [_NETWORK, *_DROPPED]
    if detect(names) == SAVED_MODEL:
        # The released policies have the train step as number 0, which is stored as train_step instead; in
        # an export whose policy has the network alone, number 0 is the network's first variable.
        first = 0 if "model_variables/0" in names else 1

        def by_number(match: re.Match[str]) -> str:
            i = int(match.group(1)) - first
            # Beyond the end: kept under its own name, so that the report lists it as unexpected.
            return order[i] if i < len(order) else match.group(0)

        rules.insert(0, Rule(r"model_variables/(\d+)", by_number))
    return map_names(names, rules)


def saved_model_order(names: Iterable[str]) -> list[str]:
    """The official names in the order in which a SavedModel numbers its ``model_variables``.

    TF-Agents numbers them as ``policy.variables()`` gives them: attributes in alphabetical order, lists in
    their own; in a Keras layer first its own weights in the order of their creation.

    Args:
      names: the official names of all variables of the network.
    """
    return sorted(names, key=_order_key)


# Keras creates these in this order; other attributes come alphabetically.
_WEIGHT_ORDER = (
    "mean",
    "variance",
    "count",
    "moving_mean",
    "moving_variance",
    "gamma",
    "beta",
    "depthwise_kernel",
    "kernel",
    "bias",
)
# The order in which the official export has the parts of the image tokenizer.
_PART_ORDER = ("_tokenizer", "_token_learner", "conv1x1", "net", "film_layer", "mlp", "layernorm")


def _order_key(name: str) -> tuple[tuple[int, int, str], ...]:
    key: list[tuple[int, int, str]] = []
    for part in name.split("/"):
        if part in _WEIGHT_ORDER:
            key.append((0, _WEIGHT_ORDER.index(part), ""))
        elif part in _PART_ORDER:
            key.append((1, _PART_ORDER.index(part), ""))
        elif match := re.fullmatch(r"layer_with_weights-(\d+)|(\d+)", part):
            key.append((2, int(match.group(1) or match.group(2)), ""))
        else:
            key.append((3, _LAYER_ORDER.get(part, 0), part))
    return tuple(key)


_LAYER_ORDER = {"layernorm1": 0, "mha1": 1, "ff": 2, "layernorm2": 3}
