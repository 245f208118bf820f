"""The released checkpoints, and the food fine-tuning's: all keys, whatever the dialect."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rt1 import losses
from rt1.checkpoints import dialects
from rt1.checkpoints.configuration import configuration_of
from rt1.checkpoints.load import inspect, load_weights
from rt1.checkpoints.save import save_checkpoint
from rt1.checkpoints.variable_names import variable_names
from tests.golden.golden_weights import fill
from tests.golden_files import recordings
from tests.rt1.checkpoints.stored_checkpoints import (
    KEYS,
    SUFFIX,
    assert_has,
    empty_network,
    made_once,
    run,
    saved_model,
    write,
)
from tests.rt1.rt1_goldens import fill_network, official_manifest
from tests.rt1.tiny_rt1 import tiny_agent

MANIFEST = official_manifest()


def _stand_ins(model: str, *, count_type: type = np.int64) -> dict[str, np.ndarray]:
    """The recipe of the goldens; ``count`` is stored as an integer by Keras, as a float by others."""
    return {
        name: fill(name, shape).astype(count_type if name.endswith("count") else np.float32)
        for name, shape in MANIFEST["models"][model]["variables"]
    }


def _write_official(folder: Path, model: str, dialect: str) -> tuple[Path, dict[str, np.ndarray]]:
    if dialect == "object_graph":
        values = _stand_ins(model)
        extra = {"global_step": np.int64(5), "save_counter": np.int64(1)}
        return write(folder / MANIFEST["models"][model]["checkpoint"], {**values, **extra}), values
    values = _stand_ins(model, count_type=np.float32)
    key = "policy_variables_order"
    order = MANIFEST[f"{key}_{model}" if f"{key}_{model}" in MANIFEST else key]
    return saved_model(folder / model, values, order[1:]), values  # Number 0 is the train step.


@pytest.mark.parametrize("dialect", ["object_graph", "saved_model"])
@pytest.mark.parametrize(
    "model",
    ["rt1main", *(pytest.param(m, marks=pytest.mark.heavy) for m in ("rt1multirobot", "rt1simreal"))],
)
def test_official_checkpoints_load(
    model: str, dialect: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, values = _write_official(tmp_path, model, dialect)
    status, out, _ = run(capsys, path, "--json")
    found = json.loads(out)
    assert status == 0
    assert set(found) == KEYS
    assert found["dialect"] == dialect
    assert found["preset"] == model
    assert [found["missing"], found["unexpected"], found["mismatched"]] == [[], [], []]
    assert set(found["loaded"]) == set(values)
    recorded = MANIFEST["models"][model]["config"]
    assert found["parameters"] == recorded["parameters_total"]
    for ours, theirs in (
        ("num_layers", "num_layers"),
        ("num_heads", "num_heads"),
        ("layer_size", "layer_size_key_dim"),
        ("feed_forward_size", "feed_forward_size"),
        ("token_embedding_size", "token_embedding_size"),
        ("vocab_size", "vocab_size"),
        ("positions", "sequence_positions"),
        ("time_sequence_length", "time_sequence_length"),
        ("num_image_tokens", "image_tokens_per_step"),
        ("tokens_per_action", "tokens_per_action"),
        ("embedding_size", "language_embedding"),
    ):
        assert found["configuration"][ours] == recorded[theirs], ours
    assert found["configuration"]["efficientnet_variant"] == "b3"

    network = empty_network(inspect(path).configuration)
    report = load_weights(network, path)
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
    assert len(report.loaded) == len(values)
    assert_has(network, values)


def test_the_order_of_saved_models_is_the_recorded_one() -> None:
    for key, model in (
        ("policy_variables_order", "rt1main"),
        ("policy_variables_order_rt1multirobot", "rt1multirobot"),
    ):
        names = [name for name, _ in MANIFEST["models"][model]["variables"]]
        assert dialects.saved_model_order(names) == MANIFEST[key][1:]
        layers = MANIFEST["models"][model]["config"]["num_layers"]
        assert set(variable_names("b3", layers, "cross_entropy")) == set(names)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(*p.values, id=p.id, marks=[] if "smooth_l1" in p.id else pytest.mark.heavy)
        for p in recordings("hitl_*_checkpoint_keys.json")
    ],
)
def test_golden_food_checkpoints_load(path: Path, tmp_path: Path) -> None:
    keys = json.loads(path.read_text())
    values: dict[str, np.ndarray] = {}
    for key, shape in keys["variables"]:
        if key == "_CHECKPOINTABLE_OBJECT_GRAPH":
            values[key] = np.array(b"a graph")
            continue
        name = key.removesuffix(SUFFIX)
        # Counters, learning rate and slots are left out of the network; their values do not matter.
        is_network = name.startswith(dialects.NETWORK)
        whole = name.endswith(("count", "_iterations", "counter"))
        value = fill(name, shape) if is_network else np.zeros(shape)
        values[name] = value.astype(np.int64 if whole else np.float32)
    prefix = write(tmp_path / keys["saved_as"], values)
    found = inspect(prefix)
    assert found.dialect == "food_fine_tuning"
    assert found.report.ok
    head = "regression" if "smooth_l1" in path.stem else "cross_entropy"
    assert found.preset == f"food_{path.stem.removeprefix('hitl_').removesuffix('_checkpoint_keys')}"
    assert (found.configuration.head, found.configuration.positions) == (head, 12)
    assert found.configuration.time_sequence_length == 1
    network = empty_network(found.configuration)
    assert load_weights(network, prefix).ok
    assert_has(network, values)


def test_an_official_agent_saves_exactly_the_official_keys(tmp_path: Path) -> None:
    shapes = {name: tuple(shape) for name, shape in MANIFEST["models"]["rt1main"]["variables"]}
    network = fill_network(made_once(configuration_of(shapes)))
    agent = tiny_agent(network, loss_scale=losses.RT1_SCALE, frozen=("efficientnet",))
    agent.train_step_counter.assign(424760)
    prefix = save_checkpoint(agent, tmp_path)
    assert prefix.name == "ckpt-424760"
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(prefix)

    found = dict(tf.train.list_variables(str(prefix)))
    recorded = MANIFEST["models"]["rt1main"]
    expected = {f"{name}{SUFFIX}": list(shape) for name, shape in shapes.items()}
    expected |= {"_CHECKPOINTABLE_OBJECT_GRAPH": [], f"global_step{SUFFIX}": [], f"save_counter{SUFFIX}": []}
    optimizer = "agent/_actor_optimizer"
    expected |= {f"{optimizer}/_iterations{SUFFIX}": [], f"{optimizer}/_learning_rate{SUFFIX}": []}
    order = MANIFEST["trainable_weights_order"]
    slots = [list(shapes[name]) for name in order for _ in range(2)]
    assert len(slots) == 1146
    expected |= {f"{optimizer}/_variables/{i}{SUFFIX}": shape for i, shape in enumerate(slots, 1)}
    assert found == expected
    recorded_optimizer = dict(recorded["optimizer_first"])
    assert {k: v for k, v in recorded_optimizer.items() if found[k + SUFFIX] != v} == {}
    assert sum(name.startswith(optimizer) for name in found) == recorded["optimizer_variables_count"]
    reader = tf.train.load_checkpoint(str(prefix))
    for name in order[::50]:
        np.testing.assert_array_equal(reader.get_tensor(name + SUFFIX), fill(name, shapes[name]))
