import numpy as np
import pytest
from fake_policies import FakeArmPolicy, FakeFoodPolicy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core import food as vocabulary
from core.policy import Policy
from core.spec import ArraySpec, PolicySpec
from serving import food, manipulation
from serving.errors import ApiError

BOX = hnp.arrays(np.float64, (4,), elements=st.floats(0, 1))


def test_the_fakes_follow_the_protocol() -> None:
    assert isinstance(FakeFoodPolicy(), Policy)
    assert isinstance(FakeArmPolicy(), Policy)


def test_prediction_by_hand() -> None:
    answer = food.prediction([0.2, 0.4, 0.2, 0.8])
    assert answer["direction_degrees"] == pytest.approx(90.0)  # Down, for y points down.
    assert (answer["skewer_x"], answer["skewer_y"]) == (pytest.approx(0.2), pytest.approx(0.6))
    assert (answer["start_x"], answer["start_y"], answer["end_x"], answer["end_y"]) == (0.2, 0.4, 0.2, 0.8)
    assert food.prediction([0, 0, 1, 1])["direction_degrees"] == pytest.approx(45.0)
    assert food.prediction([1, 0, 0, 0])["direction_degrees"] == pytest.approx(180.0)


def test_statistics_by_hand() -> None:
    # Two draws: the start moves by 0.2 in x, the end by 0.4 in y.
    s = food.statistics(np.array([[0.0, 0.0, 0.5, 0.1], [0.2, 0.0, 0.5, 0.5]]))
    assert s["mean"] == pytest.approx([0.1, 0.0, 0.5, 0.3])
    assert s["std"] == pytest.approx([0.1, 0.0, 0.0, 0.2])
    assert s["total_variance"] == pytest.approx(0.01 + 0.04)
    assert s["centroid_variance"] == pytest.approx(0.05**2 + 0.1**2)
    assert s["size_variance"] == pytest.approx(0.1**2 + 0.2**2)
    norms = np.sqrt([0.26, 0.54])
    assert s["distance_variance"] == pytest.approx(((norms[1] - norms[0]) / 2) ** 2)
    assert s["num_samples"] == 2
    # Start and end move together: the place is uncertain, the size is not.
    moved = food.statistics(np.array([[0.1, 0.2, 0.3, 0.4], [0.3, 0.2, 0.5, 0.4]]))
    assert moved["size_variance"] == pytest.approx(0)
    assert moved["centroid_variance"] == pytest.approx(0.01)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.just(4)), elements=st.floats(0, 1)), BOX)
def test_shifting_all_draws_changes_the_mean_only(boxes: np.ndarray, shift: np.ndarray) -> None:
    before, after = food.statistics(boxes), food.statistics(boxes + shift)
    np.testing.assert_allclose(after["mean"], np.asarray(before["mean"]) + shift, atol=1e-12)
    for name in ("std", "total_variance", "centroid_variance", "size_variance"):
        np.testing.assert_allclose(after[name], before[name], atol=1e-9)


def test_parameters_of_one_array_or_four() -> None:
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    one = PolicySpec("m", "food", (), (ArraySpec("bbox", (4,), "float32"),))
    np.testing.assert_array_equal(food.parameters(one, {"bbox": values}), values)
    np.testing.assert_array_equal(food.parameters(one, {"bbox": values[0]}), values[0])
    four = PolicySpec("m", "food", (), tuple(ArraySpec(n, (), "float32") for n in vocabulary.PARAMETERS))
    split = {name: values[:, i] for i, name in enumerate(vocabulary.PARAMETERS)}
    np.testing.assert_array_equal(food.parameters(four, split), values)
    short = PolicySpec("m", "food", (), (ArraySpec("bbox", (3,), "float32"),))
    with pytest.raises(ValueError, match="Received: 3 numbers"):
        food.parameters(short, {"bbox": values[:, :3]})


@pytest.mark.parametrize(
    ("action", "food_type", "name"),
    [
        ("skewering", "banana", "skewering_banana"),
        ("Scoop", "mac-and-cheese", "scooping_mac_and_cheese"),
        (" twirl ", "Noodles", "twirling_fettucine"),
        ("skewer", "cherry tomatoes", "skewering_cherry_tomato"),
    ],
)
def test_synonyms(action: str, food_type: str, name: str) -> None:
    assert food.instruction(FakeFoodPolicy().spec, action, food_type, "only echoed") == name


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (("skewering", None, None), "food_type"),
        ((None, "banana", "text"), "action"),
        (("skewering", "  ", None), "food_type"),
        (("fry", "banana", None), "action"),
        (("skewering", "stone", None), "food_type"),
        (("skewering", "grape", None), "food_type"),
        ((None, None, None), "action"),
        (("", "", ""), "action"),
        ((None, None, "get the banana"), "text"),
    ],
)
def test_unknown_instructions_name_the_field(asked: tuple, field: str) -> None:
    spec = FakeFoodPolicy(instructions=("skewering_banana",)).spec
    with pytest.raises(ApiError) as caught:
        food.instruction(spec, *asked)
    assert (caught.value.status, caught.value.field) == (422, field)


def test_free_text_where_the_policy_takes_it() -> None:
    assert food.instruction(FakeFoodPolicy(free_text=True).spec, None, None, " get it ") == "get it"
    assert food.instruction(FakeFoodPolicy().spec, None, None, "skewering_rice") == "skewering_rice"
    any_text = FakeFoodPolicy(free_text=True, instructions=()).spec
    assert food.instruction(any_text, "skewer", "bananas", None) == "skewer the banana"


def test_terminate_is_the_first_of_three() -> None:
    assert manipulation.terminate({"terminate_episode": np.array([1, 0, 0])}) is True
    assert manipulation.terminate({"terminate_episode": np.array([0, 1, 0])}) is False
    assert manipulation.terminate({"terminate_episode": np.array([0, 0, 1])}) is False
    assert manipulation.terminate({"other": np.array([1, 0, 0])}) is None
