"""Principal components of the hidden state: right, the same each time, for any number of episodes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sarnn_tf.motion.hidden_state_pca import draw, principal_components, write_pictures


def states(*lengths: int, width: int = 6, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    spread = np.linspace(3, 0.1, width)
    return [(rng.standard_normal((n, width)) * spread + 1).astype(np.float32) for n in lengths]


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    hidden = states(7, 12, 3)
    pca = principal_components(hidden)
    together = np.concatenate(hidden).astype(np.float64)
    _, s, rows = np.linalg.svd(together - together.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(pca.explained, (s**2 / (s**2).sum())[:3], rtol=1e-6)
    for hidden_of_one, got in zip(hidden, pca.projections, strict=True):
        expected = (hidden_of_one - together.mean(axis=0)) @ rows[:3].T
        np.testing.assert_allclose(np.abs(got), np.abs(expected), atol=1e-6)


def test_signs_do_not_hang_on_the_order_of_steps() -> None:
    hidden = states(9, 9)
    turned = principal_components([x[::-1] for x in hidden])
    for a, b in zip(principal_components(hidden).projections, turned.projections, strict=True):
        np.testing.assert_allclose(a, b[::-1], atol=1e-6)


def test_padding_would_move_them() -> None:
    """Each episode comes with its own steps: repeating the last one, as padding does, is another picture."""
    hidden = states(5, 9)
    padded = [np.concatenate([hidden[0], np.repeat(hidden[0][-1:], 40, axis=0)]), hidden[1]]
    assert not np.allclose(principal_components(hidden).explained, principal_components(padded).explained)


@pytest.mark.parametrize(
    "hidden", [states(1), states(2), states(1, 1), states(5, width=2), [np.ones((4, 3))]]
)
def test_few_episodes_steps_or_units(hidden: list[np.ndarray], tmp_path: Path) -> None:
    pca = principal_components(hidden)
    assert [p.shape for p in pca.projections] == [(len(x), 3) for x in hidden]
    assert np.isfinite(pca.explained).all() and pca.explained.sum() <= 1 + 1e-9
    names = [str(i) for i in range(len(hidden))]
    written = write_pictures(tmp_path / "pca_0.5", pca, names, [""] * len(hidden), turns=0)
    assert [p.name for p in written] == ["pca_0.5.png"]


@pytest.mark.parametrize(
    "hidden",
    [[], [np.zeros((0, 3))], [np.ones((2, 3)), np.ones((2, 4))], [np.full((2, 3), np.nan)], [np.ones(3)]],
)
def test_what_has_no_components(hidden: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="Received"):
        principal_components(hidden)


@pytest.mark.parametrize(
    ("instructions", "groups"), [(["a", "b", "a"], ["a", "b"]), (["a"] * 3, ["e0", "e1", "e2"])]
)
def test_every_episode_begins_with_a_mark_in_its_colour(instructions: list[str], groups: list[str]) -> None:
    pca = principal_components(states(4, 6, 5))
    figure, axes = draw(pca, ["e0", "e1", "e2"], instructions)
    starts = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_data_3d()[0])]
    found = np.array([np.ravel(line.get_data_3d()) for line in starts])
    np.testing.assert_allclose(found, [p[0] for p in pca.projections])
    assert len({line.get_color() for line in starts}) == len(groups)
    assert [t.get_text() for t in figure.legends[0].get_texts()][: len(groups)] == groups


def test_names_must_be_as_many_as_episodes() -> None:
    with pytest.raises(ValueError, match="2 episodes"):
        draw(principal_components(states(3, 3)), ["e0"], ["a", "a"])


def test_the_animation_turns(tmp_path: Path) -> None:
    pca = principal_components(states(4, 6))
    written = write_pictures(tmp_path / "pca", pca, ["e0", "e1"], ["go", "stop"], turns=3)
    assert [p.name for p in written] == ["pca.png", "pca.gif"]
    with Image.open(written[1]) as picture:
        assert picture.n_frames == 3
        first = np.asarray(picture.convert("RGB")).astype(int)
        picture.seek(1)
        assert np.abs(np.asarray(picture.convert("RGB")) - first).sum() > 0
