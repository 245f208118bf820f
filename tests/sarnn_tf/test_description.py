"""What a checkpoint says of a SARNN: checks, JSON both ways, the network and the specification made of it."""

import dataclasses
import json

import gin
import numpy as np
import pytest

from core.spec import PolicySpec
from sarnn_tf.description import SarnnDescription, make_description, read_description, write_description
from sarnn_tf.image_modality import ImageModality
from sarnn_tf.networks.clip_sarnn import ClipSarnn
from sarnn_tf.networks.sarnn import Sarnn

IMAGE = ImageModality("image", 3, 4, (64, 48))
DEPTH = ImageModality("depth", 1, 2, (32, 32), 2000.0, "nearest")
DESCRIPTION = SarnnDescription(
    "clip_sarnn",
    (IMAGE, DEPTH),
    ("shoulder", "elbow"),
    ((-1.0, 0.25), (1.0, 0.25)),
    rec_dim=6,
    text_units=3,
    clip_features=5,
    clip_fingerprint="f1",
    instructions=("pull the cable",),
    rate_hz=10.0,
)


def test_description_survives_its_folder(tmp_path):
    write_description(tmp_path, DESCRIPTION)
    assert read_description(tmp_path) == DESCRIPTION
    assert PolicySpec.from_json(json.loads((tmp_path / "spec.json").read_text())) == DESCRIPTION.spec


def test_specification_names_what_a_robot_must_send():
    spec = DESCRIPTION.spec
    assert [(o.name, o.shape, o.dtype, o.unit) for o in spec.observations] == [
        ("image", (None, None, 3), "uint8", ""),
        ("depth", (None, None), "uint16", "mm"),
        ("natural_language_instruction", (), "string", ""),
        ("joint_positions", (2,), "float32", "rad"),
    ]
    low, high = spec.action("joint_positions").bounds()
    np.testing.assert_array_equal([low, high], DESCRIPTION.joint_bounds)
    assert spec.free_text and spec.control_hz == 10.0 and spec.details["joint_names"] == ["shoulder", "elbow"]
    silent = dataclasses.replace(DESCRIPTION, use_clip=False, text_units=0).spec
    assert not silent.free_text and not silent.instructions
    assert all(o.dtype != "string" for o in silent.observations)


def test_network_has_the_described_sizes():
    model = DESCRIPTION.make_model(seed=1)
    assert isinstance(model, ClipSarnn)
    assert model.rec.kernel.shape == (2 * (4 + 2) + 2 + 3, 4 * 6)
    plain = dataclasses.replace(
        DESCRIPTION, model="sarnn", modalities=(IMAGE,), use_clip=False, text_units=0
    ).make_model(seed=1)
    assert isinstance(plain, Sarnn) and plain.k_dim == 4


def test_gin_configures_the_network_and_data_the_rest():
    gin.parse_config("""
        sarnn_tf.make_description.modalities = [@colour/sarnn_tf.ImageModality()]
        sarnn_tf.make_description.rec_dim = 7
        sarnn_tf.make_description.use_clip = False
        colour/sarnn_tf.ImageModality.name = "image"
        colour/sarnn_tf.ImageModality.size = (24, 30)
    """)
    made = make_description(["a"], np.array([[0.0], [1.0]]), ["pull"], 5.0, 512, "fingerprint")
    assert made.modalities == (ImageModality("image", size=(24, 30)),)
    assert (made.rec_dim, made.rate_hz, made.clip_fingerprint) == (7, 5.0, "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"joint_bounds": ((0.0,), (1.0,))}, "joint_bounds"),
        ({"joint_bounds": ((0.0, np.nan), (1.0, 1.0))}, "joint_bounds"),
        ({"joint_bounds": ((2.0, 0.0), (1.0, 1.0))}, "minimum"),
        ({"joint_names": ("a", "a")}, "differ"),
        ({"vmin": 1.0}, "vmin"),
        ({"model": "sarnn"}, "alone"),
        ({"modalities": (ImageModality,)}, "in gin with parentheses"),
        ({"model": "clip"}, "model must be"),
        ({"rec_dim": 0}, "rec_dim"),
        ({"rate_hz": 0.0}, "rate_hz"),
        ({"rate_hz": np.inf}, "rate_hz"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": np.inf}, "temperature"),
        ({"vmin": -np.inf}, "vmin"),
        ({"text_units": -1}, "text_units"),
    ],
)
def test_description_that_does_not_hold_together_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(DESCRIPTION, **change)


@pytest.mark.parametrize("content", ["[]", '{"model": "sarnn"}', '{"modalities": [{"nam": "x"}]}'])
def test_foreign_file_is_named(tmp_path, content):
    (tmp_path / "sarnn.json").write_text(content)
    with pytest.raises(ValueError, match="sarnn.json"):
        read_description(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"rec_dim": 64.0},
        {"use_clip": "no"},
        {"joint_names": "ab"},
        {"joint_names": [1, 2]},
        {"joint_names": 5},
        {"instructions": [None]},
        {"instructions": None},
        {"rate_hz": "x"},
        {"clip_fingerprint": None},
    ],
)
def test_field_of_another_type_is_named(tmp_path, change):
    value = {**dataclasses.asdict(DESCRIPTION), **change}
    (tmp_path / "sarnn.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=f"sarnn.json.*{next(iter(change))}"):
        read_description(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"size": (6, 64)},
        {"size": (64,)},
        {"size": (64.0, 64)},
        {"k_dim": 2.5},
        {"full_scale": 0.0},
        {"full_scale": np.inf},
        {"interpolation": "cubic"},
        {"name": "a/b"},
    ],
)
def test_modality_out_of_range_is_refused(change):
    with pytest.raises(ValueError, match="Received"):
        dataclasses.replace(IMAGE, **change)
