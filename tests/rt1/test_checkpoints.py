"""Reading every dialect, writing the official names, and a message for everything that goes wrong."""

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core import checkpoint_folder
from core.named_variables import named_variables
from core.spec import ArraySpec, PolicySpec
from rt1 import losses
from rt1.checkpoints import __main__ as command
from rt1.checkpoints import dialects, load
from rt1.checkpoints.configuration import Configuration, configuration_of
from rt1.checkpoints.load import inspect, load_weights
from rt1.checkpoints.presets import PRESETS, find_preset
from rt1.checkpoints.reader import CheckpointError, find_prefix, open_checkpoint
from rt1.checkpoints.save import restore_checkpoint, save_checkpoint
from rt1.checkpoints.variable_names import variable_names
from rt1.sequence_agent import SequenceAgent
from rt1.transformer_network import TransformerNetwork
from tests.golden.golden_weights import fill
from tests.golden_files import recordings
from tests.rt1.rt1_goldens import fill_network, official_manifest
from tests.rt1.tiny_rt1 import experience, tiny_agent, tiny_network, values_of
from tests.shared_data import ROOT

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
KEYS = {"dialect", "parameters", "configuration", "preset", "loaded", "missing", "unexpected", "mismatched"}
NEW_OK = (  # As configs/transformer_mixin.gin.
    "agent/_actor_network/_transformer/_position_emb/kernel",
    "agent/_actor_network/_action_token_emb/.*",
    "agent/_actor_network/_regression_output/.*",
)


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


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = command.main(["inspect", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(autouse=True)
def networks_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """``inspect`` makes a network to compare with; one for each configuration is enough here."""
    monkeypatch.setattr(load, "build_network", _made_once)


_made_once = functools.cache(load.build_network)


def _empty_network(configuration: Configuration) -> TransformerNetwork:
    """Zeros everywhere: what a test finds in it, it has loaded."""
    network = _made_once(configuration)
    for variable in network.variables:
        variable.assign(tf.zeros_like(variable))
    return network


# === The released checkpoints, and the food fine-tuning's ===

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

    network = _empty_network(inspect(path).configuration)
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
    network = _empty_network(found.configuration)
    assert load_weights(network, prefix).ok
    assert_has(network, values)


def test_an_official_agent_saves_exactly_the_official_keys(tmp_path: Path) -> None:
    shapes = {name: tuple(shape) for name, shape in MANIFEST["models"]["rt1main"]["variables"]}
    network = fill_network(_made_once(configuration_of(shapes)))
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


# === A small network, for everything else ===


@pytest.fixture(scope="module")
def network() -> TransformerNetwork:
    return tiny_network(num_layers=1, embedding_size=512)


@pytest.fixture(scope="module")
def agent(network: TransformerNetwork) -> SequenceAgent:
    return tiny_agent(network)


@pytest.fixture(scope="module")
def saved(agent: SequenceAgent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a checkpoint that we save."""
    folder = tmp_path_factory.mktemp("saved")
    save_checkpoint(agent, folder)
    return folder


@pytest.fixture()
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "run"))


@pytest.fixture(scope="module")
def fresh() -> TransformerNetwork:
    """Of the same shape, with other weights."""
    return tiny_network(num_layers=1, embedding_size=512, seed=1)


@pytest.fixture(scope="module")
def food() -> TransformerNetwork:
    """A window of one frame and a regression head."""
    return tiny_network("regression", num_layers=1, embedding_size=512, time_sequence_length=1, seed=2)


def test_a_checkpoint_of_ours_loads(
    saved: Path, network: TransformerNetwork, fresh: TransformerNetwork
) -> None:
    report = load_weights(fresh, saved)
    assert report.ok
    assert_has(fresh, values_by_name(network))


def test_inspect_in_a_process_of_its_own(saved: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rt1.checkpoints", "inspect", str(saved), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == KEYS
    assert found["dialect"] == "object_graph"
    assert found["preset"] is None
    assert found["configuration"]["time_sequence_length"] == 3


def test_inspect_for_people(saved: Path, network, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, saved)
    assert (status, err) == (0, "")
    parameters = sum(int(np.prod(v.shape)) for v in network.variables)
    for text in ("object_graph", f"{parameters:,}", "none of the released ones", "num_layers", "0 missing"):
        assert text in out


def test_a_checkpoint_that_does_not_load_has_exit_status_1(
    network: TransformerNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = values_by_name(network)
    gone = f"{dialects.NETWORK}/_image_tokenizer/_token_learner/layernorm/beta"
    odd = f"{dialects.NETWORK}/_image_tokenizer/_token_learner/layernorm/gamma"
    del values[gone]
    values[odd] = np.zeros(3, np.float32)
    values[f"{dialects.NETWORK}/colour"] = np.zeros(3, np.float32)
    values["colour"] = np.zeros(3, np.float32)
    prefix = write(tmp_path / "ckpt-1", values)
    status, out, _ = run(capsys, prefix, "--json")
    found = json.loads(out)
    assert status == 1
    assert set(found) == KEYS
    assert found["missing"] == [gone]
    assert found["mismatched"] == [odd]
    assert sorted(found["unexpected"]) == [f"{dialects.NETWORK}/colour", "colour"]
    status, out, _ = run(capsys, prefix)
    assert status == 1
    assert f"missing: {gone}" in out


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_from_0_or_1(
    first: int, network: TransformerNetwork, fresh: TransformerNetwork, tmp_path: Path
) -> None:
    """Released policies number from 1 (0 is the train step), policies of the network alone from 0."""
    values = values_by_name(network)
    order = dialects.saved_model_order(values)
    path = saved_model(tmp_path / "policy", values, order, first)
    for variable in fresh.variables:
        variable.assign(tf.zeros_like(variable))
    assert load_weights(fresh, path).ok
    assert_has(fresh, values)
    assert inspect(path).dialect == "saved_model"


def _untouched(network: TransformerNetwork, before: list[np.ndarray]) -> None:
    for one, other in zip(before, network.variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy(), err_msg=other.name)


def test_what_does_not_fit_is_listed_and_changes_nothing(
    network: TransformerNetwork,
    fresh: TransformerNetwork,
    food: TransformerNetwork,
    saved: Path,
    tmp_path: Path,
) -> None:
    before = values_of(food)
    with pytest.raises(ValueError) as error:
        load_weights(food, saved)
    for text in (
        "missing: agent/_actor_network/_regression_output/kernel",
        "unexpected: agent/_actor_network/_action_token_emb/kernel",
        "mismatched: agent/_actor_network/_transformer/_position_emb/kernel",
        "the file has [45, 16], the network [8, 16]",
    ):
        assert text in str(error.value)
    _untouched(food, before)

    values = values_by_name(network)
    values[f"{dialects.NETWORK}/_image_tokenizer/_tokenizer/net/layer_with_weights-0/count"] = np.float32(0.5)
    before = values_of(fresh)
    with pytest.raises(ValueError, match="count must hold whole numbers"):
        load_weights(fresh, write(tmp_path / "ckpt-1", values))
    _untouched(fresh, before)


@pytest.mark.parametrize("dialect", ["object_graph", "saved_model"])
def test_a_fresh_head_and_another_window(
    dialect: str, network: TransformerNetwork, food: TransformerNetwork, saved: Path, tmp_path: Path
) -> None:
    """Fine-tuning for food from a released checkpoint, of either dialect."""
    values, path = values_by_name(network), saved
    if dialect == "saved_model":
        path = saved_model(tmp_path / "policy", values, dialects.saved_model_order(values))
        before = values_of(food)
        with pytest.raises(ValueError, match="missing: .*_regression_output"):
            load_weights(food, path)
        _untouched(food, before)
    kept = values_by_name(food)
    report = load_weights(food, path, new_ok=NEW_OK)
    assert report.ok
    new = {n for n in kept if "_regression_output" in n or n.endswith("_position_emb/kernel")}
    dropped = {n for n in values if "_action_token_emb" in n}
    assert set(report.allowed) == new | dropped
    assert len(new) == 3
    assert_has(food, {n: kept[n] if n in new else values[n] for n in kept})


# === Resuming ===


def test_resuming_restores_every_bit(tmp_path: Path) -> None:
    arguments = {"num_layers": 1, "time_sequence_length": 2}
    first = tiny_agent(tiny_network(**arguments), frozen=("efficientnet",))
    batch = experience(first.actor_network)
    for _ in range(2):
        first.train(batch)
    first._actor_optimizer.learning_rate.assign(0.0125)
    prefix = save_checkpoint(first, tmp_path)
    assert prefix.name == "ckpt-2"

    second = tiny_agent(tiny_network(**arguments, seed=7), frozen=("efficientnet",))
    restore_checkpoint(second, prefix)

    def everything(agent: SequenceAgent) -> list[np.ndarray]:
        return [*values_of(agent.actor_network), *(v.numpy() for v in agent._actor_optimizer.variables)]

    for one, other in zip(everything(first), everything(second), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(second.train_step_counter) == 2
    assert float(second._actor_optimizer.learning_rate) == pytest.approx(0.0125)
    assert int(second._actor_optimizer.iterations) == 2
    # And the next step is the same step.
    losses_ = [float(a.train(batch).loss) for a in (first, second)]
    assert losses_[0] == pytest.approx(losses_[1], rel=1e-6)
    for one, other in zip(everything(first), everything(second), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "arguments", [{"num_layers": 2}, {"feed_forward_size": 24}, {"time_sequence_length": 1}], ids=str
)
def test_resuming_another_network_is_refused(saved: Path, arguments: dict) -> None:
    other = tiny_agent(tiny_network(**{"num_layers": 1, "embedding_size": 512, **arguments}))
    with pytest.raises(ValueError, match="does not fit the agent to resume"):
        restore_checkpoint(other, saved / "ckpt-0")


def test_resuming_nothing_is_refused(agent: SequenceAgent, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit the agent to resume"):
        restore_checkpoint(agent, tmp_path / "ckpt-1")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_saved(
    agent: SequenceAgent, network: TransformerNetwork, tmp_path: Path, bad: float
) -> None:
    bias = network._transformer._output_tokens.bias
    kept = bias.numpy()
    bias.assign(np.where(np.arange(32) == 3, bad, kept))
    try:
        with pytest.raises(ValueError, match="NaN or infinity in .*/_output_tokens/bias"):
            save_checkpoint(agent, tmp_path)
    finally:
        bias.assign(kept)
    assert not list(tmp_path.iterdir())


# === Paths ===


def test_every_way_to_name_a_checkpoint(folder: Path) -> None:
    prefix = folder / "ckpt-0"
    for path in (folder, prefix, folder / "ckpt-0.index", folder / "ckpt-0.data-00000-of-00001", str(folder)):
        assert find_prefix(path) == prefix
    (folder / "checkpoint").unlink()  # One checkpoint alone needs no file that names it.
    assert find_prefix(folder) == prefix
    for file in folder.glob("ckpt-0.*"):
        shutil.copy(file, folder / file.name.replace("ckpt-0", "ckpt-9"))
    with pytest.raises(CheckpointError, match=r"several checkpoints; name one of \['ckpt-0', 'ckpt-9'\]"):
        find_prefix(folder)
    (folder / "checkpoint").write_text('model_checkpoint_path: "ckpt-9"\n')
    assert find_prefix(folder) == folder / "ckpt-9"
    # A file that names what is not there does not decide.
    (folder / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/ckpt-7"\n')
    with pytest.raises(CheckpointError, match="several checkpoints"):
        find_prefix(folder)


def test_a_run_means_its_best_checkpoint(saved: Path, tmp_path: Path) -> None:
    for step, pointers in ((1, ("last", "best")), (2, ("last",))):
        checkpoint_folder.publish(
            tmp_path, step, lambda f: shutil.copytree(saved, f, dirs_exist_ok=True), pointers=pointers
        )
    assert find_prefix(tmp_path) == tmp_path / "step-00000001" / "ckpt-0"
    shutil.rmtree(tmp_path / "step-00000001")
    with pytest.raises(CheckpointError, match="best.json names a folder that is gone"):
        find_prefix(tmp_path)


def test_a_name_with_brackets_is_told_apart_from_damage(folder: Path) -> None:
    for file in list(folder.glob("ckpt-0.*")):
        file.rename(folder / file.name.replace("ckpt-0", "ckpt-[0]"))
    with pytest.raises(CheckpointError, match="takes a path with '.' for a pattern; rename it"):
        open_checkpoint(folder / "ckpt-[0]")


# === What goes wrong in practice ===

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 141378892\n"
DATA, INDEX = "ckpt-0.data-00000-of-00001", "ckpt-0.index"


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(folder: Path) -> None:
    """Changes one bit of a weight."""
    value = tf.train.load_variable(
        str(folder / "ckpt-0"), f"{dialects.NETWORK}/_transformer/_output_tokens/kernel{SUFFIX}"
    )
    content = bytearray((folder / DATA).read_bytes())
    content[content.index(value.tobytes()) + 1] ^= 1
    (folder / DATA).write_bytes(bytes(content))


def _second_checkpoint(folder: Path) -> None:
    (folder / "checkpoint").unlink()
    for name in (DATA, INDEX):
        shutil.copy(folder / name, folder / name.replace("ckpt-0", "ckpt-1"))


def _nothing(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def _foreign(folder: Path) -> None:
    _nothing(folder)
    write(folder / "model", {"layer/kernel": np.zeros(3, np.float32)})


DAMAGES = {
    "index is a pointer": (lambda f: (f / INDEX).write_bytes(POINTER), r"ckpt-0.index is a git-lfs pointer"),
    "data is a pointer": (
        lambda f: (f / DATA).write_bytes(POINTER),
        r"00001 is a git-lfs pointer.*git lfs pull",
    ),
    "no data": (lambda f: (f / DATA).unlink(), r"no .data-…-of-… file beside the index"),
    "a missing shard": (
        lambda f: (f / DATA).rename(f / "ckpt-0.data-00001-of-00002"),
        r"1 of 2 shards are missing: \['ckpt-0.data-00000-of-00002'\]",
    ),
    "no index": (lambda f: (f / INDEX).unlink(), r"but no .index file beside it"),
    "truncated data": (lambda f: _half(f / DATA), "data file is truncated or damaged"),
    "a flipped bit": (_flip, "data file is truncated or damaged"),
    "truncated index": (lambda f: _half(f / INDEX), "index is damaged or truncated"),
    "empty index": (lambda f: (f / INDEX).write_bytes(b""), "ckpt-0.index is empty"),
    "empty data": (lambda f: (f / DATA).write_bytes(b""), "00001 is empty"),
    "several checkpoints": (_second_checkpoint, "several checkpoints; name one of"),
    "no checkpoint": (_nothing, r"has no checkpoint \(no .index file\)"),
    "not RT-1": (_foreign, r"not one of RT-1: no key begins with.*\['layer/kernel'\]"),
    "a damaged pointer": (lambda f: (f / "best.json").write_text("{"), "best.json is not valid JSON"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_has_its_own_message(
    damage: str, folder: Path, fresh: TransformerNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks, message = DAMAGES[damage]
    breaks(folder)
    before = values_of(fresh)
    with pytest.raises(ValueError, match=message):
        load_weights(fresh, folder)
    _untouched(fresh, before)
    status, out, err = run(capsys, folder)
    assert (status, out) == (1, "")
    assert re.search(message, err)
    assert err.count("\n") == 1  # A message, not a traceback.
    status, out, err = run(capsys, folder, "--json")
    assert status == 1
    assert json.loads(out) == {"error": err.strip()}
    assert re.search(message, err)


def test_the_index_is_missing_where_the_prefix_is_named(folder: Path) -> None:
    (folder / INDEX).unlink()
    for path in (folder / "ckpt-0", folder / DATA):
        with pytest.raises(CheckpointError, match="ckpt-0.index is missing beside ckpt-0.data-00000"):
            open_checkpoint(path)


def test_paths_that_are_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    for path, message in (
        (tmp_path / "notes.txt", "is not a checkpoint: give the prefix"),
        (tmp_path / "nowhere" / "ckpt-1", "No checkpoint there. Received"),
    ):
        assert run(capsys, path)[0] == 1
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(path)


def test_an_index_cut_anywhere_is_an_error_and_no_crash(folder: Path) -> None:
    content = (folder / INDEX).read_bytes()
    for length in np.linspace(1, len(content) - 1, 40).astype(int):
        (folder / INDEX).write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="damaged or truncated"):
            open_checkpoint(folder)


def test_data_cut_anywhere_is_an_error_and_no_crash(folder: Path) -> None:
    """Also where only optimiser slots or the object graph are cut: such a file could not be resumed."""
    content = (folder / DATA).read_bytes()
    for length in (len(content) - 1, len(content) // 3, 1):
        (folder / DATA).write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            inspect(folder)


# === Configuration and presets ===


def test_another_number_of_action_tokens_is_told_by_the_spec_beside(tmp_path: Path) -> None:
    """33 rows of positions: no known layout; spec.json settles it."""
    actions = (ArraySpec("pose", (7,), "float32", -1.0, 1.0, "m"),)
    network = tiny_network(actions=actions, num_layers=1)
    prefix = save_checkpoint(tiny_agent(network), tmp_path)
    with pytest.raises(CheckpointError, match="33 rows.*give tokens_per_action"):
        inspect(prefix)
    PolicySpec("rt1", "manipulation", (), actions).save(tmp_path / checkpoint_folder.SPEC)
    found = inspect(prefix)
    assert (found.configuration.tokens_per_action, found.configuration.time_sequence_length) == (7, 3)
    assert found.report.ok


def _shapes(network: TransformerNetwork) -> dict[str, tuple[int, ...]]:
    return {n: tuple(v.shape) for n, v in named_variables(network, dialects.NETWORK).items()}


def test_configuration_by_shapes(network: TransformerNetwork, food: TransformerNetwork) -> None:
    for one in (network, food):
        found = configuration_of(_shapes(one))
        arguments = one.arguments()
        expected = {k: arguments[k] for k in found.network_arguments()}
        assert found.network_arguments() == expected
        assert found.embedding_size == 512
        names = variable_names("tiny", 1, one.head)
        assert set(names) == set(_shapes(one))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("_transformer/_layers/0/", "Transformer layers are missing"),
        ("_transformer/_token_emb/kernel", "has no agent/_actor_network/_transformer/_token_emb/kernel"),
        ("_image_tokenizer/_tokenizer/net/", r"none of the known EfficientNets \['b0', 'b3', 'tiny'\]"),
    ],
)
def test_shapes_of_no_network(network: TransformerNetwork, change: str, message: str) -> None:
    shapes = {n: s for n, s in _shapes(network).items() if f"{dialects.NETWORK}/{change}" not in n}
    with pytest.raises(CheckpointError, match=message):
        configuration_of(shapes)


def test_numbered_variables_of_no_network(tmp_path: Path) -> None:
    values = {f"variable {i}": np.zeros(3, np.float32) for i in range(7)}
    path = saved_model(tmp_path / "policy", values, list(values))
    with pytest.raises(CheckpointError, match="7 numbered variables, which is no known network"):
        inspect(path)


def test_presets() -> None:
    official = dict(MANIFEST["models"]["rt1main"]["variables"])
    configuration = configuration_of({n: tuple(s) for n, s in official.items()})
    for name, path in (
        ("rt1main", "runs/ckpt-424760"),
        ("rt1simreal", "runs/ckpt-660240"),
        ("rt1simreal", "rt1simreal/variables/variables"),
        ("rt1main", "elsewhere/variables"),
    ):
        assert find_preset(configuration, Path(path)) == name
    assert {p.name for p in PRESETS if p.fits(configuration)} == {"rt1main", "rt1simreal"}
    larger = dict(MANIFEST["models"]["rt1multirobot"]["variables"])
    found = configuration_of({n: tuple(s) for n, s in larger.items()})
    assert find_preset(found, Path("x")) == "rt1multirobot"
