"""Loading and inspecting: what is there, what is missing, and that a failure changes nothing."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rt1.checkpoints import dialects
from rt1.checkpoints.load import inspect, load_weights
from rt1.transformer_network import TransformerNetwork
from tests.rt1.checkpoints.stored_checkpoints import (
    KEYS,
    assert_has,
    run,
    saved_model,
    untouched,
    values_by_name,
    write,
)
from tests.rt1.tiny_rt1 import values_of
from tests.shared_data import ROOT

NEW_OK = (  # As configs/transformer_mixin.gin.
    "agent/_actor_network/_transformer/_position_emb/kernel",
    "agent/_actor_network/_action_token_emb/.*",
    "agent/_actor_network/_regression_output/.*",
)


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
    untouched(food, before)

    values = values_by_name(network)
    values[f"{dialects.NETWORK}/_image_tokenizer/_tokenizer/net/layer_with_weights-0/count"] = np.float32(0.5)
    before = values_of(fresh)
    with pytest.raises(ValueError, match="count must hold whole numbers"):
        load_weights(fresh, write(tmp_path / "ckpt-1", values))
    untouched(fresh, before)


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
        untouched(food, before)
    kept = values_by_name(food)
    report = load_weights(food, path, new_ok=NEW_OK)
    assert report.ok
    new = {n for n in kept if "_regression_output" in n or n.endswith("_position_emb/kernel")}
    dropped = {n for n in values if "_action_token_emb" in n}
    assert set(report.allowed) == new | dropped
    assert len(new) == 3
    assert_has(food, {n: kept[n] if n in new else values[n] for n in kept})
