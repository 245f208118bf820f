"""Name mapping as data, and the report of what loading would do."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from core.load_report import LoadReport, Mapped, Rule, compare, map_names


def test_the_first_rule_that_matches_the_whole_name_renames() -> None:
    rules = [
        Rule(r"layer_(\d)/w", r"layers/\1/kernel", transform=np.transpose),
        Rule(r"layer_.*", r"never"),
        Rule(r"optimizer/.*", None, reason="not part of the network"),
        Rule(r"head/(\w)", lambda m: m[1].upper()),
    ]
    mapped, unmatched = map_names(
        ["layer_2/w", "optimizer/m", "head/a", "layer", "xhead/a", "head/ab"], rules
    )
    assert mapped == [
        Mapped("layer_2/w", "layers/2/kernel", np.transpose),
        Mapped("head/a", "A"),
    ]
    assert unmatched == ["layer", "xhead/a", "head/ab"]


def test_two_names_must_not_become_one() -> None:
    with pytest.raises(ValueError, match="one name 'x'. Received: 'a1' and 'a2'"):
        map_names(["a1", "a2"], [Rule(r"a\d", "x")])


def test_the_four_lists() -> None:
    report = compare({"a": (1, 2), "b": (3,), "d": ()}, {"a": (1, 2), "b": (4,), "c": (1,)}, unmatched=["e"])
    assert report.to_json() == {
        "loaded": ["a"],
        "missing": ["c"],
        "unexpected": ["d", "e"],
        "mismatched": ["b"],
    }
    assert report.details == {"b": "the file has [3], the network [4]"}
    assert not report.ok


def test_an_unmatched_name_is_unexpected_even_where_it_looks_like_a_target() -> None:
    report = compare({}, {"a": (1,)}, unmatched=["a"])
    assert report.missing == ("a",)
    assert report.unexpected == ("a",)


def test_new_names_are_allowed_by_pattern_only() -> None:
    source, target = {"head/w": (3,), "old": (1,)}, {"head/w": (4,), "head/b": (4,), "new": (1,)}
    report = compare(source, target, new_ok=["head/.*", "old"])
    assert sorted(report.allowed) == ["head/b", "head/w", "old"]
    assert report.missing == ("new",)
    assert not report.ok
    assert compare(source, target, new_ok=["head/.*", "old", "new"]).ok
    assert not compare(source, target, new_ok=["head", "ol", "ne"]).ok


def test_an_allowed_pattern_never_hides_what_is_loaded() -> None:
    report = compare({"head/w": (4,)}, {"head/w": (4,)}, new_ok=[".*"])
    assert report.loaded == ("head/w",)
    assert report.allowed == ()


def test_the_error_says_what_does_not_fit() -> None:
    report = compare({"b": (3,)}, {"b": (4,), **{f"c{i}": () for i in range(9)}})
    with pytest.raises(ValueError, match="The file x does not fit the network") as error:
        report.raise_unless_ok("The file x")
    message = str(error.value)
    assert "0 loaded, 9 missing, 0 unexpected, 1 mismatched" in message
    assert "mismatched: b (the file has [3], the network [4])" in message
    assert "missing: … and 1 more" in message
    LoadReport(("a",), (), (), ()).raise_unless_ok("nothing wrong")


_SHAPES = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([(), (1,), (2, 3)]))


@settings(deadline=None)  # A busy machine is no failure.
@given(source=_SHAPES, target=_SHAPES, new_ok=st.lists(st.sampled_from("abcdef"), max_size=3))
def test_every_name_is_reported_once(
    source: dict[str, tuple[int, ...]], target: dict[str, tuple[int, ...]], new_ok: list[str]
) -> None:
    report = compare(source, target, new_ok=new_ok)
    listed = [*report.loaded, *report.missing, *report.unexpected, *report.mismatched, *report.allowed]
    assert sorted(listed) == sorted({*source, *target})
    assert set(report.loaded) == {n for n in target if source.get(n) == target[n]}
    assert set(report.allowed) <= set(new_ok)
    assert report.ok == (set(listed) == {*report.loaded, *report.allowed})
