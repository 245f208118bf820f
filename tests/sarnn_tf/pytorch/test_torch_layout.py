"""PyTorch's names and layouts, in and out: key for key, and nothing half loaded."""

import numpy as np
import pytest

from core.named_variables import named_variables
from sarnn_tf.image_modality import ImageModality
from sarnn_tf.networks.clip_sarnn import ClipSarnn
from sarnn_tf.networks.sarnn import Sarnn
from sarnn_tf.pytorch.torch_layout import load_torch, table, to_torch
from tests.golden.golden_weights import fill

SARNN_SHAPES = {
    "pos_encoder.0.weight": (16, 3, 3, 3),
    "pos_encoder.0.bias": (16,),
    "pos_encoder.2.weight": (32, 16, 3, 3),
    "pos_encoder.2.bias": (32,),
    "pos_encoder.4.weight": (5, 32, 3, 3),
    "pos_encoder.4.bias": (5,),
    "pos_encoder.6.pos_x": (10 * 14,),
    "pos_encoder.6.pos_y": (10 * 14,),
    "im_encoder.0.weight": (16, 3, 3, 3),
    "im_encoder.0.bias": (16,),
    "im_encoder.2.weight": (32, 16, 3, 3),
    "im_encoder.2.bias": (32,),
    "im_encoder.4.weight": (5, 32, 3, 3),
    "im_encoder.4.bias": (5,),
    "rec.weight_ih": (200, 18),
    "rec.weight_hh": (200, 50),
    "rec.bias_ih": (200,),
    "rec.bias_hh": (200,),
    "decoder_joint.0.weight": (8, 50),
    "decoder_joint.0.bias": (8,),
    "decoder_point.0.weight": (10, 50),
    "decoder_point.0.bias": (10,),
    "issm.pos_xy": (2, 10, 14),
    "decoder_image.0.weight": (5, 32, 3, 3),
    "decoder_image.0.bias": (32,),
    "decoder_image.2.weight": (32, 16, 3, 3),
    "decoder_image.2.bias": (16,),
    "decoder_image.4.weight": (16, 3, 3, 3),
    "decoder_image.4.bias": (3,),
}
"""EIPL's 29 entries in its own order, for images of 16 x 20, 8 joints, 5 points, 50 units."""


def sarnn_state() -> dict[str, np.ndarray]:
    """A state_dict of EIPL's, with stand-in weights and its real grids."""
    state = {name: fill(name, shape) for name, shape in SARNN_SHAPES.items()}
    y, x = np.meshgrid(np.linspace(0, 1, 10), np.linspace(0, 1, 14), indexing="ij")
    state["pos_encoder.6.pos_x"] = x.ravel().astype(np.float32)
    state["pos_encoder.6.pos_y"] = y.ravel().astype(np.float32)
    state["issm.pos_xy"] = np.stack([x, y]).astype(np.float32)
    return state


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("compiled", [False, True])
def test_eipl_comes_back_key_for_key(compiled: bool) -> None:
    prefix = "_orig_mod." if compiled else ""
    state = {prefix + name: value for name, value in sarnn_state().items()}
    model = Sarnn(8)
    report = load_torch(model, state)
    assert len(report.loaded) == 26
    assert report.ok
    assert_same(to_torch(model, 16, 20, compiled=compiled), state)


@pytest.mark.parametrize("use_clip", [False, True])
def test_clip_sarnn_comes_back_key_for_key(use_clip: bool) -> None:
    model = ClipSarnn(12, use_clip=use_clip, seed=1)
    state = to_torch(model, 40, 40)
    adapter = {"pos_encoder.adapter_conv.weight": (5, 512, 1, 1), "pos_encoder.adapter_conv.bias": (5,)}
    points = {k: s for k, s in SARNN_SHAPES.items() if k.startswith("pos_encoder.") and "pos_" not in k[12:]}
    first = adapter if use_clip else points
    assert {k: state[k].shape for k in first} == first
    assert list(state)[:4] == (
        ["pos_encoder.mean", "pos_encoder.std", *adapter] if use_clip else list(points)[:4]
    )
    assert state["decoder_joint.weight"].shape == (12, 128)
    assert state["rec.weight_ih"].shape == (512, 22)
    fixed = ("pos_x", "pos_y", "pos_xy", "mean", "std")
    filled = {n: v if n.split(".")[-1] in fixed else fill(n, v.shape) for n, v in state.items()}
    tower = {
        "pos_encoder.clip_model.visual.proj": np.zeros((768, 512), np.float16),
        "pos_encoder.clip_model.logit_scale": np.zeros((), np.float32),
    }
    load_torch(model, filled | (tower if use_clip else {}))
    assert_same(to_torch(model, 40, 40), filled)


def test_other_modalities_travel_beside_the_published_names() -> None:
    modalities = [ImageModality("image"), ImageModality("depth", 1, 3)]
    model, other = (ClipSarnn(4, modalities, rec_dim=6, text_units=2, seed=s) for s in (1, 2))
    state = to_torch(model, 20, 20)
    assert state["streams.depth.pos_encoder.0.weight"].shape == (16, 1, 3, 3)
    assert state["text_encoder.weight"].shape == (2, 512)
    load_torch(other, state)
    assert_same(to_torch(other, 20, 20), state)
    single = ClipSarnn(4, modalities[:1], rec_dim=6, seed=3)
    report = load_torch(
        other, to_torch(single, 20, 20), new_ok=[r"streams\.depth\..*", r"text_encoder\..*", "rec.weight_ih"]
    )
    assert "rec.weight_ih" in report.allowed
    np.testing.assert_array_equal(
        to_torch(other, 20, 20)["decoder_joint.weight"], to_torch(single, 20, 20)["decoder_joint.weight"]
    )
    kept = "streams.depth.pos_encoder.0.weight"
    np.testing.assert_array_equal(to_torch(other, 20, 20)[kept], state[kept])


@pytest.mark.parametrize("model", [Sarnn(3), ClipSarnn(3), ClipSarnn(3, use_clip=False, text_units=2)])
def test_every_variable_is_in_the_table_once(model: Sarnn | ClipSarnn) -> None:
    named = [entry.variable for entry in table(model).values()]
    assert sorted(named) == sorted(named_variables(model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("rec.bias_hh"), "missing: rec.bias_hh"),
        (lambda s: s.update({"extra.weight": np.zeros(3, np.float32)}), "unexpected: extra.weight"),
        (lambda s: s.update({"rec.weight_hh": s["rec.weight_hh"][:, :49]}), "mismatched: rec.weight_hh"),
        (lambda s: s["im_encoder.0.bias"].__setitem__(0, np.nan), "NaN or infinity in"),
        (lambda s: s.update({"_orig_mod.x": np.zeros(1)}), "others not"),
        (lambda s: s.clear(), "missing"),
    ],
)
def test_what_does_not_fit_loads_nothing(change, message: str) -> None:
    model = Sarnn(8, seed=1)
    before = [v.numpy() for v in model.trainable_variables]
    state = sarnn_state()
    change(state)
    with pytest.raises(ValueError, match=message):
        load_torch(model, state)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
