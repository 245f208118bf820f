"""A policy's specification."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from core.spec import ArraySpec, PolicySpec

SPEC = PolicySpec(
    model="rt1",
    task="manipulation",
    observations=(
        ArraySpec("image", (None, None, 3), "uint8", 0, 255, description="RGB"),
        ArraySpec("natural_language_instruction", (), "string"),
    ),
    actions=(
        ArraySpec("world_vector", (3,), "float32", -1.0, 1.0, unit="m", frame="end effector"),
        ArraySpec("rotation_delta", (3,), "float32", (-1.0, -2.0, -3.0), (1.0, 2.0, 3.0), unit="rad"),
    ),
    instructions=("pick up the apple",),
    encoder="some==1",
    free_text=True,
    control_hz=3.0,
    details={"window": 6, "names": ["a"]},
)


def test_a_specification_comes_back_from_its_file(tmp_path: Path) -> None:
    SPEC.save(tmp_path / "spec.json")
    assert PolicySpec.load(tmp_path / "spec.json") == SPEC
    assert json.loads((tmp_path / "spec.json").read_text())["encoder"] == "some==1"


def test_arrays_are_found_by_name() -> None:
    assert SPEC.observation("image").shape == (None, None, 3)
    assert SPEC.action("rotation_delta").unit == "rad"
    with pytest.raises(KeyError, match="'gripper' is not one of .*'world_vector'"):
        SPEC.action("gripper")
    with pytest.raises(KeyError, match="image"):
        SPEC.observation("depth")


def test_bounds_are_of_the_full_shape() -> None:
    low, high = SPEC.action("world_vector").bounds()
    assert low.dtype == high.dtype == np.float32
    assert low.tolist() == [-1.0] * 3
    assert high.tolist() == [1.0] * 3
    low, high = SPEC.action("rotation_delta").bounds()
    assert low.tolist() == [-1.0, -2.0, -3.0]
    assert high.tolist() == [1.0, 2.0, 3.0]


def test_one_bound_for_all_goes_with_one_for_each() -> None:
    low, high = ArraySpec("x", (2, 2), "float32", 0, (1, 2, 3, 4)).bounds()
    assert low.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert high.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_scalar_has_bounds() -> None:
    low, high = ArraySpec("x", (), "float32", -1, 1).bounds()
    assert low.shape == high.shape == ()


def test_what_has_no_bounds_says_so() -> None:
    with pytest.raises(ValueError, match="natural_language_instruction has no bounds"):
        SPEC.observation("natural_language_instruction").bounds()
    with pytest.raises(ValueError, match="image has no fixed size"):
        SPEC.observation("image").bounds()


@pytest.mark.parametrize(
    ("shape", "minimum", "maximum", "message"),
    [
        ((3,), 0.0, None, "together or not at all"),
        ((3,), None, 1.0, "together or not at all"),
        ((3,), (0.0, 0.0), 1.0, "minimum must be one number or 3"),
        ((3,), 0.0, (1.0,) * 4, "maximum must be one number or 3"),
        ((2,), (0.0, 2.0), (1.0, 1.0), "no minimum may lie above"),
        ((2,), float("nan"), 1.0, "no minimum may lie above"),
    ],
)
def test_bounds_that_make_no_sense_are_an_error(
    shape: tuple[int, ...], minimum: object, maximum: object, message: str
) -> None:
    with pytest.raises(ValueError, match=f"speed: .*{message}"):
        ArraySpec("speed", shape, "float32", minimum, maximum)


@pytest.mark.parametrize(("shape", "size"), [((), 1), ((3,), 3), ((2, 3), 6), ((0,), 0)])
def test_the_size_counts_the_numbers(shape: tuple[int, ...], size: int) -> None:
    assert ArraySpec("x", shape, "float32").size == size


def test_an_open_shape_has_no_size() -> None:
    with pytest.raises(ValueError, match="image has no fixed size"):
        _ = SPEC.observation("image").size


@pytest.mark.parametrize("field", ["model", "task", "observations", "actions"])
def test_a_missing_field_is_an_error(field: str) -> None:
    value = SPEC.to_json()
    del value[field]
    with pytest.raises(ValueError, match=f"Not a policy specification: .*{field}"):
        PolicySpec.from_json(value)


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(ValueError, match="Not a policy specification: .*colour"):
        PolicySpec.from_json({**SPEC.to_json(), "colour": "red"})
    value = SPEC.to_json()
    value["actions"][0]["colour"] = "red"
    with pytest.raises(ValueError, match="Not a policy specification: .*colour"):
        PolicySpec.from_json(value)


_NAMES = st.text(min_size=1, max_size=8)
_FLOATS = st.floats(-1e6, 1e6, width=32)


@st.composite
def _arrays(draw: st.DrawFn) -> ArraySpec:
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    size = int(np.prod(shape))
    if draw(st.booleans()):
        return ArraySpec(draw(_NAMES), shape, "float32", unit=draw(_NAMES))
    low = draw(st.lists(_FLOATS, min_size=size, max_size=size))
    high = [value + draw(st.floats(0, 100, width=32)) for value in low]
    return ArraySpec(draw(_NAMES), shape, "float32", tuple(low), tuple(high))


@settings(deadline=None)  # A busy machine is no failure.
@given(arrays=st.lists(_arrays(), max_size=3), instructions=st.lists(_NAMES, max_size=3))
def test_any_specification_survives_json(arrays: list[ArraySpec], instructions: list[str]) -> None:
    spec = dataclasses.replace(SPEC, actions=tuple(arrays), instructions=tuple(instructions))
    assert PolicySpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("value", [None, [1], "rt1", {"observations": 3, "actions": []}])
def test_what_is_no_specification_at_all_is_an_error(value: Any) -> None:
    with pytest.raises(ValueError, match="olicy specification.*Received"):
        PolicySpec.from_json(value)
