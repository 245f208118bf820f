"""The whole road by its commands: bag to TFRecords, bag to NPZ to TFRecords, ROS 1 and ROS 2, and back."""

from collections.abc import Sequence
from pathlib import Path

import gin
import numpy as np
import pytest

from episodes import convert, episode
from episodes.rlds import open_rlds
from tests.episodes import demonstration_bag
from tests.episodes.demonstration_bag import colour_at
from tests.shared_data import shared

IMAGES = (episode.IMAGE, episode.DEPTH, episode.GELSIGHT_LEFT, episode.GELSIGHT_RIGHT)
FIELDS = tuple(field.path for field in episode.FIELDS)


def run(paths: Sequence[Path], out: Path, *flags: str) -> None:
    arguments = [*map(str, paths), "--out", str(out), "--workers=1", "--splits=train=1", *flags]
    gin.clear_config()  # A command reads its configuration once.
    assert convert.main(arguments) == 0


def read(folder: Path) -> list[dict[str, np.ndarray]]:
    """Decoded episodes, in an order that does not depend on what they are called."""
    split = open_rlds(folder)
    episodes = [columns for _, columns in split.read(FIELDS)]
    return sorted(episodes, key=lambda columns: columns[episode.IMAGE].tobytes())


def assert_equal(one: list[dict[str, np.ndarray]], two: list[dict[str, np.ndarray]]) -> None:
    assert len(one) == len(two) > 0
    for first, second in zip(one, two, strict=True):
        for field in FIELDS:
            np.testing.assert_array_equal(first[field], second[field], err_msg=field)


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_the_way_over_npz_changes_nothing(tmp_path: Path, encoding: str) -> None:
    bags = [
        demonstration_bag.write_demonstration(tmp_path / "bags" / f"{i}.bag", frames=5 + i) for i in range(2)
    ]
    how = ("--task=open the drawer", f"--image_encoding={encoding}")
    run(bags, tmp_path / "direct", "--name=set_a", *how)
    run(bags, tmp_path / "arrays", "--name=set_a", "--format=npz", *how)
    arrays = sorted((tmp_path / "arrays").rglob("*.npz"))
    assert len(arrays) == 2
    run(arrays, tmp_path / "detour", "--name=set_a", f"--image_encoding={encoding}")
    direct = read(tmp_path / "direct" / "set_a")
    assert_equal(direct, read(tmp_path / "detour" / "set_a"))
    longest = max(direct, key=lambda columns: len(columns[episode.ACTION]))
    for k, image in enumerate(longest[episode.IMAGE]):
        np.testing.assert_allclose(image.astype(int), colour_at(k), atol=0 if encoding == "png" else 4)
    assert longest[episode.DEPTH][:, 0, 0, 0].tolist() == [1000, 1001, 1002, 1003, 1004]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_ros1_and_ros2_give_the_same_data_set(tmp_path: Path, storage: str) -> None:
    one = demonstration_bag.write_demonstration(tmp_path / "d.bag", "ros1")
    two = demonstration_bag.write_demonstration(tmp_path / storage, "ros2", storage)
    for path, out in ((one, "one"), (two, "two")):
        run([path], tmp_path / out, "--name=set_a", "--task=open the drawer")
    assert_equal(read(tmp_path / "one" / "set_a"), read(tmp_path / "two" / "set_a"))


def test_recomposed_bags_give_the_same_data_set_in_both_forms(tmp_path: Path) -> None:
    folder = shared("data/bags/recomposed_real_pixels")
    how = (
        "--name=set_a",
        "--task=put it there",
        "--topic=gelsight_left=/gelsight/left/*",
        "--topic=gelsight_right=/gelsight/right/*",
    )
    run(sorted(folder.glob("*.bag")), tmp_path / "one", *how)
    run(sorted(folder.glob("*_ros2")), tmp_path / "two", *how)
    one = read(tmp_path / "one" / "set_a")
    assert_equal(one, read(tmp_path / "two" / "set_a"))
    assert len(one) == 2
    run(sorted(folder.glob("*.bag")), tmp_path / "arrays", "--format=npz", *how)
    run(sorted((tmp_path / "arrays").rglob("*.npz")), tmp_path / "detour", "--name=set_a")
    assert_equal(one, read(tmp_path / "detour" / "set_a"))
