"""Actions of Open X-Embodiment's data sets, as they store them, become what the published rule takes."""

import json
import math

import gin
import numpy as np
import pytest

from clip_tf import preprocess_oxe
from clip_tf.rt import samples, write_csv
from clip_tf.rt.action_layout import ActionLayout, euler_angles, positions_of_changes, settled
from clip_tf.rt.dominant_axis import NONE
from clip_tf.rt.oxe_adjustments import ADJUSTMENTS, adjust
from clip_tf.rt.oxe_layouts import OXE, oxe_data_set
from clip_tf.rt.pipeline import decode_rgb
from clip_tf.rt.recorded_supervision import RecordedSupervision, make_action_layout
from clip_tf.rt.rlds_data import open_rlds_samples
from clip_tf.rt.rlds_steps import instruction_texts
from clip_tf.rt.vocabulary import make_vocabulary
from clip_tf.rt.webdataset_data import read_shard
from tests.clip_tf.rt.oxe_columns import IMAGES, RAW, instruction_key, quaternions, write_data_set

# Where a data set has no rotation or no gripper.
WITHOUT_ROTATION = {"jaco_play", "language_table"}
WITHOUT_GRIPPER = {"berkeley_cable_routing", "language_table"}


def moves(n: int = 12, seed: int = 0) -> np.ndarray:
    """Moves [n, 7] in a data set's own units; the gripper closes at step 4 and opens at 9."""
    found = np.random.default_rng(seed).uniform(-0.3, 0.3, (n, 7))
    found[:, 6] = [0.0 if 4 <= t < 9 else 1.0 for t in range(n)]
    return found


def expected_of(name: str, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the published change of units and axes makes of a data set's moves."""
    given = given.copy()
    if name in WITHOUT_ROTATION:
        given[:, 3:6] = 0
    if name == "language_table":
        given[:, 2] = 0
    if name in WITHOUT_GRIPPER:
        given[:, 6] = 1
    steps = np.arange(len(given))
    if ADJUSTMENTS[name].poses:  # Stored as the poses that the moves lead to.
        poses = np.concatenate([np.zeros((1, 6)), np.cumsum(given[:-1, :6], axis=0)])
        given = np.concatenate([poses, given[:, 6:]], axis=1)
    if name == "bridge_orig":  # Neither the first step nor the last.
        given, steps = given[1:-1], steps[1:-1]
    found, kept = adjust(given, ADJUSTMENTS[name])
    return found, steps[kept]


@pytest.mark.parametrize("name", sorted(OXE))
def test_what_a_data_set_stores_becomes_moves(name):
    assert set(RAW) == set(OXE) == set(ADJUSTMENTS)
    given = moves()
    found, steps = OXE[name].layout.low_level_actions(RAW[name](given))
    expected, expected_steps = expected_of(name, given)
    np.testing.assert_array_equal(steps, expected_steps)
    np.testing.assert_allclose(found, expected, atol=1e-9, err_msg=name)
    assert OXE[name].image_key == IMAGES.get(name, "observation/image")
    assert OXE[name].instruction_key == instruction_key(name)


@pytest.mark.parametrize(
    "name",
    [
        "fractal20220817_data",
        "toto",
        "bridge_orig",
        "bc_z",
        "language_table",
        "viola",
        "furniture_bench_dataset_converted_externally_to_rlds",
        "nyu_franka_play_dataset_converted_externally_to_rlds",
    ],
)
def test_shards_of_a_data_set_by_its_name(tmp_path, name):
    """Told nothing but the name: images, instructions and labels are the ones of their steps."""
    units = ADJUSTMENTS[name]
    scale = [1 / units.position_scale] * 3 + [1 / units.rotation_scale] * 3 + [1]
    given = moves() * scale
    folder = write_data_set(tmp_path, name, [given, moves(seed=1) * scale], "pick up the cup")
    (tmp_path / "mixture.json").write_text(json.dumps({"datasets": [{"name": name}]}))
    arguments = ["--mixture", str(tmp_path / "mixture.json"), "--out", str(tmp_path / "out")]
    assert preprocess_oxe.main([*arguments, "--image_size", "0"]) == 0
    (shard,) = (tmp_path / "out" / name).glob("*.tar")
    read = list(read_shard(shard, 50))
    first = read[0]["__key__"].rpartition("-")[0]
    written = {}
    for sample in read:
        assert sample["txt"] == "pick up the cup"
        episode, _, step = sample["__key__"].rpartition("-")
        assert decode_rgb(sample["image"], "").mean() == pytest.approx(int(step), abs=0.5)
        if episode == first:
            written[int(step)] = sample["cls"]
    layout = make_action_layout(name)
    supervision = RecordedSupervision(layout, make_vocabulary("pretrained"))
    labels = supervision.labels(RAW[name](given))
    assert written == {step: label for step, label in enumerate(labels.tolist()) if label != NONE}
    assert len(written) >= 5
    source = open_rlds_samples(folder, make_vocabulary("pretrained"), validation_episodes=1, oxe_name=name)
    trained = list(source.samples(samples.TRAIN, seed=None, epoch=0).as_numpy_iterator())
    assert {s["instruction"] for s in trained} == {b"pick up the cup"} and len(trained) >= 5


def test_angles_of_poses_that_pass_half_a_turn():
    """A wrist that turns on from +3.1 to −3.1 rad moved by 0.08, not by −6.2."""
    name = "iamlab_cmu_pickup_insert_converted_externally_to_rlds"
    angles = np.zeros((3, 3))
    angles[:, 2] = [3.0, 3.1, 3.1 + 0.1 - 2 * math.pi]
    action = np.concatenate([np.zeros((3, 3)), quaternions(angles), np.ones((3, 1))], axis=1)
    found, _ = OXE[name].layout.low_level_actions({"action": action})
    np.testing.assert_allclose(found[:, 5], [0.1, 0.1], atol=1e-6)
    kitchen = np.zeros((2, 8))
    kitchen[:, 5] = [179.0, -179.0]
    name = "ucsd_kitchen_dataset_converted_externally_to_rlds"
    found, _ = OXE[name].layout.low_level_actions({"action": kitchen})
    assert found[0, 5] == pytest.approx(math.radians(2))


def test_euler_angles():
    angles = np.random.default_rng(0).uniform(-1.5, 1.5, (50, 3))
    np.testing.assert_allclose(euler_angles(quaternions(angles)), angles, atol=1e-12)
    np.testing.assert_allclose(euler_angles(-3 * quaternions(angles)), angles, atol=1e-12)
    np.testing.assert_array_equal(euler_angles(np.zeros((2, 4))), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([0, 0, 1, 0, 1, -1, 0], [1, 1, 0, 0, 0, 1, 1]),
        ([0, -1, 0], [0, 1, 1]),
        ([0.05, -0.05], [1, 1]),
        ([], []),
    ],
)
def test_a_gripper_that_is_told_its_changes(told, expected):
    assert positions_of_changes(np.array(told, float)).tolist() == expected


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([1, 0.7, 0.3, 0, 0.5, 1], [1, 0, 0, 0, 1, 1]),
        ([0.9, 0, 0.4, 0.6], [0, 0, 0.6, 0.6]),
        ([], []),
    ],
)
def test_a_gripper_on_its_way(positions, expected):
    assert settled(np.array(positions, float)).tolist() == expected


def test_an_unknown_data_set_says_how_to_state_its_layout(tmp_path, capsys):
    (tmp_path / "m.json").write_text(json.dumps({"datasets": [{"name": "droid"}]}))
    assert preprocess_oxe.main(["--mixture", str(tmp_path / "m.json"), "--out", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    for words in (
        "fractal20220817_data",
        '"path": "action/xyz"',
        "clip_rt.make_action_layout.path",
        "'droid'",
    ):
        assert words in message
    with pytest.raises(ValueError, match="oxe_name must be one of"):
        oxe_data_set("droid")


def test_a_data_set_of_another_layout_than_named(tmp_path):
    """Dictionaries of actions without a word about them: the message names the way out."""
    folder = write_data_set(tmp_path, "fractal20220817_data", [moves()], "x")
    with pytest.raises(ValueError, match=r"open_rlds_samples\.oxe_name.*natural_language_instruction"):
        open_rlds_samples(folder, make_vocabulary("pretrained"))
    with pytest.raises(ValueError, match=r"action layout does not fit.*action/world_vector"):
        open_rlds_samples(
            folder,
            make_vocabulary("pretrained"),
            instruction_key="observation/natural_language_instruction",
            layout=ActionLayout("action/world_vektor", gripper_path=None),
        )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("grip [rad], j1 [rad], j2 [rad], j3 [rad], j4 [rad], j5 [rad], j6 [rad]", "pose_difference.*grip"),
        ("dx [m], dy [m], dz [m], rx [rad], ry [rad], rz [rad], grip [rad]", None),
        ("what the arm did", None),
    ],
)
def test_actions_that_say_that_they_are_joints(tmp_path, caplog, names, message):
    """Bags are converted with the names of an action's numbers; joints are no moves of the arm."""
    folder = write_data_set(tmp_path, "fmb_dataset", [moves(), moves(seed=1)], "go", action=names)
    arguments = {"image_key": "observation/image_side_1", "validation_episodes": 1}
    if message is None:
        with caplog.at_level("WARNING"):
            open_rlds_samples(folder, make_vocabulary("pretrained"), **arguments)
        assert ("the gripper's number is a joint's, in rad" in caplog.text) == ("grip [rad]" in names)
    else:
        with pytest.raises(ValueError, match=message):
            open_rlds_samples(folder, make_vocabulary("pretrained"), **arguments)
        out = ["--out", str(tmp_path / "t.csv"), "--image_key", arguments["image_key"]]
        assert write_csv.main(["--data_dir", str(folder), *out]) == 1


def test_a_layout_of_ones_own_in_gin():
    gin.parse_config(
        """
        clip_rt.make_action_layout.path = 'xyz'
        clip_rt.make_action_layout.rotation = 'none'
        clip_rt.make_action_layout.axes = (2, -1, 3)
        clip_rt.make_action_layout.position_scale = 0.01
        clip_rt.make_action_layout.gripper_path = None
        """
    )
    try:
        layout = make_action_layout()
    finally:
        gin.clear_config()
    found, steps = layout.low_level_actions({"xyz": np.array([[1.0, 2.0, 3.0]])})
    np.testing.assert_allclose(found, [[0.02, -0.01, 0.03, 0, 0, 0, 1]])
    assert steps.tolist() == [0]


def test_a_known_layout_with_a_difference():
    layout = make_action_layout("roboturk", path="action", rotation_path=None, position_scale=0.5)
    assert layout.adjustment == ADJUSTMENTS["roboturk"].__class__((-1, -2, 3), 0.5)
    assert layout.columns == ("action", "action/gripper_closedness_action")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"colour": 1}, r"has the fields.*Received: \['colour'\]"),
        ({"rotation": "matrix"}, "rotation must be one of"),
        ({"gripper": "soft"}, "gripper must be one of"),
        ({"position_size": 4}, "position_size must be"),
        ({"first_step": -1}, "first_step at least 0"),
        ({"axes": [1, 1, 2]}, "axes must be"),
        ({"start": "0"}, "must be integers"),
        ({"gripper_scale": "a"}, "the scale not 0"),
        ({"gripper_scale": 0}, "the scale not 0"),
        ({"gripper_offset": math.nan}, "must be finite"),
    ],
)
def test_wrong_layouts(fields, message):
    with pytest.raises(ValueError, match=message):
        make_action_layout(**fields)


def test_a_column_that_is_too_narrow_for_counting_from_its_end():
    with pytest.raises(ValueError, match="at least 3 numbers a step"):
        ActionLayout(start=-8).low_level_actions({"action": np.zeros((2, 7))})


@pytest.mark.parametrize("fields", [{"start": 1}, {"gripper_index": -2}, {"start": -6, "gripper_index": 6}])
def test_a_gripper_among_the_moves(fields):
    with pytest.raises(ValueError, match="none of the moves"):
        make_action_layout(**fields).low_level_actions({"action": np.zeros((2, 7))})


def test_instructions():
    codes = np.array([[104, 105, 0, 120], [0, 0, 0, 0]], np.int32)
    assert instruction_texts(codes) == ["hi", ""]
    assert instruction_texts(np.array([b" grasp \n", "é".encode()], object)) == ["grasp", "é"]
    with pytest.raises(ValueError, match="UTF-8"):
        instruction_texts(np.array([b"\xff"], object))
    with pytest.raises(ValueError, match="must be text"):
        instruction_texts(np.zeros((2, 3, 4), np.float32))


def test_the_shipped_mixture_names_known_data_sets():
    members = preprocess_oxe.read_mixture("configs/clip_rt_oxe_mixture.json", "oxe")
    assert len(members) == 22 and {m.name for m in members} < set(OXE)
    assert {m.name: m.weight for m in members}["kuka"] == 0.8341046294
    assert all(m.layout.gripper_change == "next_step" for m in members)
    assert str(members[0].directory) == "oxe/fractal20220817_data"
