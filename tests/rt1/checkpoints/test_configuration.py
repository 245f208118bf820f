"""Which network a checkpoint is of, told by its shapes, and which of the released ones."""

from pathlib import Path

import numpy as np
import pytest

from core import checkpoint_folder
from core.named_variables import named_variables
from core.spec import ArraySpec, PolicySpec
from rt1.checkpoints import dialects
from rt1.checkpoints.configuration import configuration_of
from rt1.checkpoints.load import inspect
from rt1.checkpoints.presets import PRESETS, find_preset
from rt1.checkpoints.reader import CheckpointError
from rt1.checkpoints.save import save_checkpoint
from rt1.checkpoints.variable_names import variable_names
from rt1.transformer_network import TransformerNetwork
from tests.rt1.checkpoints.stored_checkpoints import saved_model
from tests.rt1.rt1_goldens import official_manifest
from tests.rt1.tiny_rt1 import tiny_agent, tiny_network


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
    models = official_manifest()["models"]
    official = dict(models["rt1main"]["variables"])
    configuration = configuration_of({n: tuple(s) for n, s in official.items()})
    for name, path in (
        ("rt1main", "runs/ckpt-424760"),
        ("rt1simreal", "runs/ckpt-660240"),
        ("rt1simreal", "rt1simreal/variables/variables"),
        ("rt1main", "elsewhere/variables"),
    ):
        assert find_preset(configuration, Path(path)) == name
    assert {p.name for p in PRESETS if p.fits(configuration)} == {"rt1main", "rt1simreal"}
    larger = dict(models["rt1multirobot"]["variables"])
    found = configuration_of({n: tuple(s) for n, s in larger.items()})
    assert find_preset(found, Path("x")) == "rt1multirobot"
