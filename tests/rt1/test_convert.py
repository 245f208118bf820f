"""A foreign checkpoint becomes a folder that can be served."""

from pathlib import Path

import numpy as np
import pytest

from core.checkpoint_folder import resolve
from core.policy import Session
from language import make_text_encoder
from rt1 import specs
from rt1.checkpoints.__main__ import main
from rt1.checkpoints.save import save_checkpoint
from rt1.image_preparation import resize_image, to_uint8
from rt1.serving_policy import INSTRUCTION, load_policy
from rt1.transformer_network import EMBEDDING, IMAGE, TransformerNetwork
from tests.rt1.tiny_rt1 import tiny_agent, tiny_network

EMBEDDINGS = str(Path(__file__).resolve().parent.parent.parent / "embeddings")


def foreign(folder: Path, **changes: object) -> TransformerNetwork:
    """A checkpoint with nothing beside it, as others publish them."""
    network = tiny_network(embedding_size=512, encoder_image_size=None, **changes)
    agent = tiny_agent(network, loss_type="cross_entropy" if network.head == "cross_entropy" else "l1")
    folder.mkdir()
    save_checkpoint(agent, folder)
    return network


def test_robot_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = foreign(tmp_path / "foreign", time_sequence_length=6)
    out = tmp_path / "out"
    assert (
        main(["convert", str(tmp_path / "foreign"), "--out", str(out), "--encoder_source", "embedded"]) == 0
    )
    assert "0 missing, 0 unexpected, 0 mismatched" in capsys.readouterr().out
    policy = load_policy(resolve(out))
    assert [a.name for a in policy.spec.actions] == [a.name for a in specs.OFFICIAL_ACTIONS]
    assert policy.spec.control_hz == 3.0

    frame = np.random.default_rng(0).integers(0, 256, (256, 320, 3), dtype=np.uint8)
    text = "pick up the apple"
    answer = Session(policy).step({IMAGE: frame, INSTRUCTION: text})
    observation = {
        IMAGE: to_uint8(resize_image(frame, (256, 320)))[None],
        EMBEDDING: make_text_encoder().encode([text]),
    }
    state = {k: np.zeros([1, *s.shape], s.dtype.as_numpy_dtype) for k, s in network.state_spec.items()}
    scores, _, _ = network.step(observation, state)
    for name, value in network.actions(scores).items():
        np.testing.assert_allclose(answer.actions[name], value[0], atol=1e-5, err_msg=name)


def test_food_checkpoint(tmp_path: Path) -> None:
    foreign(tmp_path / "foreign", head="regression", time_sequence_length=1)
    out = tmp_path / "out"
    assert (
        main(["convert", str(tmp_path / "foreign"), "--out", str(out), "--encoder_source", EMBEDDINGS]) == 0
    )
    policy = load_policy(resolve(out))
    assert policy.spec.task == "food"
    assert len(policy.spec.instructions) == 66
    plate = np.zeros((100, 100, 3), np.uint8)
    assert Session(policy).step({IMAGE: plate, INSTRUCTION: "scooping_rice"}).actions["bbox"].shape == (4,)


def test_refuses_to_overwrite_and_unknown_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign(tmp_path / "foreign", head="regression", time_sequence_length=1)
    arguments = ["convert", str(tmp_path / "foreign"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--encoder_source", str(tmp_path / "nowhere")]) == 1
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--encoder_source", EMBEDDINGS]) == 0
    assert main([*arguments, "--encoder_source", EMBEDDINGS]) == 1
    assert "has a checkpoint already" in capsys.readouterr().err
    assert (
        main(["convert", str(tmp_path / "out"), "--out", str(tmp_path / "again"), "--encoder_source", "x"])
        == 1
    )
    assert "already; serve.py takes it" in capsys.readouterr().err
