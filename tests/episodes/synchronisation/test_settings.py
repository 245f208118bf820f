"""Settings of the synchronisation refuse what cannot be meant."""

import json
import pickle

import pytest

from episodes.synchronisation.settings import SyncSettings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate_hz": 0}, "rate_hz must be between 0.001 and 10000. Received: 0"),
        ({"rate_hz": float("nan")}, "rate_hz"),
        ({"clock": "image"}, "clock must name fields of .*Received: .'image'"),
        ({"clock": "reward"}, "clock must name fields"),
        ({"tolerance_s": {"depth": 0.1}}, "tolerance_s must name fields"),
        ({"tolerance_s": {"observation/depth": -0.1}}, "tolerance_s of observation/depth must be at least 0"),
        ({"default_tolerance_s": float("inf")}, "default_tolerance_s must be at least 0"),
        ({"maximum_trim_s": -1}, "maximum_trim_s must be at least 0"),
        ({"out_of_tolerance": "ignore"}, "out_of_tolerance must be one of"),
        ({"log_time": ("camera",)}, "log_time must name fields"),
        ({"joint_names": "joint_1"}, "joint_names must be a sequence of strings"),
        ({"joint_names": ("a", "a")}, "joint_names must differ"),
        ({"start_marks": (1,)}, "start_marks must be a sequence of strings"),
        ({"action": "velocity"}, "action must be one of"),
        ({"joint_names": ("a", "g"), "gripper_joint": "g"}, "gripper_joint must be another one"),
        ({"idle": "drop"}, "idle must be one of"),
        ({"idle_speed": 0}, "idle_speed must be positive"),
        ({"minimum_idle_s": -1}, "minimum_idle_s must be positive"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(ValueError, match=message):
        SyncSettings(**options)


def test_equal_settings_give_equal_json():
    one = SyncSettings(
        joint_names=["a", "b"], tolerance_s={"observation/image": 0.1, "action": 0.2}, stop_marks=["x"]
    )
    other = SyncSettings(
        joint_names=("a", "b"), tolerance_s={"action": 0.2, "observation/image": 0.1}, stop_marks=("x",)
    )
    assert json.dumps(one.to_json(), sort_keys=True) == json.dumps(other.to_json(), sort_keys=True)
    assert set(one.to_json()) == set(SyncSettings.__dataclass_fields__)
    assert pickle.loads(pickle.dumps(one)) == one


def test_tolerances():
    settings = SyncSettings(tolerance_s={"observation/depth": 0.02})
    assert settings.tolerance_ns("observation/depth") == 20_000_000
    assert settings.tolerance_ns("observation/image") == 50_000_000


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({}, True),
        ({"action": "command"}, False),
        ({"action": "command", "gripper_joint": "g"}, True),
        ({"action": "pose_difference"}, True),
    ],
)
def test_whether_the_last_step_has_an_action(options, needed):
    assert SyncSettings(**options).needs_next_step is needed
