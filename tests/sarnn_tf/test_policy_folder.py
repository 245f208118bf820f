"""Checkpoint folders as policies: the weights come back, and only the CLIP of the training is taken."""

from pathlib import Path

import gin
import numpy as np
import pytest

from core.named_variables import named_variables
from core.spec import PolicySpec
from sarnn_tf.description import JOINTS
from sarnn_tf.frozen_clip import random_frozen_clip
from sarnn_tf.policy_folder import CLIP, load_checkpoint
from sarnn_tf.serving_policy import load_policy
from sarnn_tf.weights_file import WEIGHTS
from tests.sarnn_tf.sarnn_policies import TINY_CLIP, frames, make_policy, tiny_clip, write_checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with one checkpoint."""
    root = tmp_path_factory.mktemp("log") / "clip_run1"
    write_checkpoint(root / "step-00000003", seed=7)
    return root


def test_a_run_answers_as_the_trained_model(run: Path) -> None:
    policy = load_policy(run, input_param=0.5)
    trained = make_policy(seed=7)
    seen = frames(policy.description, 2)
    ours, expected = (p.infer(seen, {})[0].actions[JOINTS] for p in (policy, trained))
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert policy.spec.details["input_param"] == 0.5
    stored = PolicySpec.load(run / "step-00000003" / "spec.json")
    assert stored.observations == policy.spec.observations and stored.actions == policy.spec.actions


def test_a_linked_checkpoint_finds_its_weights_and_clip(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run / "step-00000003")
    loaded = load_checkpoint(tmp_path / "link")
    assert loaded.clip is not None
    ours, expected = (named_variables(m) for m in (loaded.model, make_policy(seed=7).model))
    assert ours.keys() == expected.keys()
    for name, variable in expected.items():
        np.testing.assert_array_equal(ours[name], variable, name)


def test_clip_elsewhere(run: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "alone" / "step-00000003", seed=7)
    (tmp_path / "alone" / CLIP).rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="frozen CLIP.*Received"):
        load_checkpoint(tmp_path / "alone" / "step-00000003")
    loaded = load_checkpoint(tmp_path / "alone" / "step-00000003", tmp_path / "moved")
    assert loaded.clip is not None and loaded.clip.fingerprint == tiny_clip().fingerprint


def test_another_clip_is_refused(run: Path, tmp_path: Path) -> None:
    random_frozen_clip(TINY_CLIP, seed=5).save(tmp_path / "other")
    with pytest.raises(ValueError, match=f"trained with the CLIP {tiny_clip().fingerprint}"):
        load_policy(run, tmp_path / "other")


def test_models_without_clip_need_none_and_take_none(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "step-00000001", "sarnn")
    assert load_policy(folder).spec.model == "sarnn"
    assert load_checkpoint(folder).clip is None
    with pytest.raises(ValueError, match="uses no CLIP"):
        load_policy(folder, tmp_path)


@pytest.mark.parametrize("missing", [WEIGHTS, "sarnn.json"])
def test_missing_files(tmp_path: Path, missing: str) -> None:
    folder = write_checkpoint(tmp_path / "step-00000001", "sarnn")
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError):
        load_policy(folder)
    with pytest.raises(FileNotFoundError, match="No checkpoint"):
        load_policy(tmp_path / "nothing")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "step-00000001", "sarnn")
    other = write_checkpoint(tmp_path / "step-00000002", "sarnn", rec_dim=7)
    (other / WEIGHTS).replace(folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"weights\.npz"):
        load_policy(folder)


def test_gin_sets_the_share(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "step-00000001", "sarnn")
    with gin.unlock_config():
        gin.bind_parameter("sarnn_tf.load_policy.input_param", 0.25)
    try:
        assert load_policy(folder).spec.details["input_param"] == 0.25
    finally:
        gin.clear_config()
