"""The benchmark of conversions measures what it says: both sides make the same steps of its bags."""

import numpy as np
import pytest

from benchmarks import bag_conversion
from benchmarks.bag_conversion import COLOUR, KINDS, eipl_rule, run_alone, write_bag
from episodes.bags.reader import open_bag


@pytest.mark.parametrize("kind", KINDS)
def test_eipl_s_rule_finds_every_frame_of_a_bag_without_faults(tmp_path, kind):
    write_bag(tmp_path / "a.bag", kind, 5, (24, 32))
    with open_bag(tmp_path / "a.bag") as bag:
        first = next(iter(bag.messages([COLOUR])))
        assert hasattr(bag.decode(first), "format") == (kind == "jpeg")
    steps = eipl_rule(tmp_path / "a.bag", tmp_path / "eipl", bag_conversion.HZ)
    assert steps == 5
    assert np.load(tmp_path / "eipl" / "images_0.npy").shape == (5, 24, 32, 3)
    assert np.load(tmp_path / "eipl" / "images_1.npy").dtype == np.uint16


def test_both_sides_are_measured(tmp_path):
    found = bag_conversion.measure("jpeg", 4, (24, 32), tmp_path)
    assert set(found) == {"bag_mb", "ours", "eipl"}
    assert all(value > 0 for side in ("ours", "eipl") for value in found[side].values())


def test_a_process_that_fails_is_told():
    with pytest.raises(RuntimeError, match="BAG"):
        run_alone(("episodes.convert",))
