"""A small network and its checkpoint, for all but the released ones."""

import shutil
from pathlib import Path

import pytest

from rt1.checkpoints import load
from rt1.checkpoints.save import save_checkpoint
from rt1.sequence_agent import SequenceAgent
from rt1.transformer_network import TransformerNetwork
from tests.rt1.checkpoints.stored_checkpoints import made_once
from tests.rt1.tiny_rt1 import tiny_agent, tiny_network


@pytest.fixture(autouse=True)
def networks_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """``inspect`` makes a network to compare with; one for each configuration is enough here."""
    monkeypatch.setattr(load, "build_network", made_once)


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
