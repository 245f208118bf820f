"""Settings of a conversion: gin, checks, and what changes the episodes of a source."""

import dataclasses
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import pytest

from episodes.episode import ACTION, IMAGE, JOINT_POSITIONS
from episodes.settings import ConversionSettings, make_conversion_settings, make_sync_settings
from episodes.tasks import Tasks
from episodes.topics import make_topic_map

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def clean_gin() -> Iterator[None]:
    yield
    gin.clear_config()


def make(**arguments: Any) -> ConversionSettings:
    return make_conversion_settings(make_topic_map(), make_sync_settings(), Tasks(), **arguments)


def test_the_shipped_configuration_states_the_defaults() -> None:
    defaults = make()
    with gin.unlock_config():
        gin.parse_config_file(str(ROOT / "configs" / "bags.gin"))
    assert make() == defaults


def test_gin_names_parts_shortly() -> None:
    gin.parse_config(
        "episodes.synchronisation.clock = 'joints'\n"
        "episodes.synchronisation.tolerance_s = {'command': 0.2}\n"
        "episodes.conversion.image_sizes = {'image': (60, 80)}\n"
    )
    made = make()
    assert made.sync.clock == JOINT_POSITIONS
    assert made.sync.tolerance_s == {ACTION: 0.2}
    assert made.image_sizes == {IMAGE: (60, 80)}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("image_sizes", {"thermal": (1, 1)}),
        ("image_sizes", {"image": (0, 8)}),
        ("colour_encoding", "webp"),
        ("jpeg_quality", 0),
        ("jpeg_quality", 95.5),
        ("depth_unit_m", -0.001),
        ("max_shard_bytes", 0),
        ("fractions", {"train": 0.9}),
        ("fractions", {"train": float("nan"), "val": 1.0}),
        ("fractions", {"train": 1.5, "val": -0.5}),
        ("fractions", {"train": 0.5, "validation": 0.5}),
    ],
)
def test_what_cannot_be_is_refused(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{argument}.*Received: "):
        make(**{argument: value})


def test_the_fingerprint_changes_with_what_changes_episodes_and_with_nothing_else() -> None:
    bag, base = Path("monday/demo1.bag"), make()
    same = [
        dataclasses.replace(base, fractions={"train": 1.0}),
        dataclasses.replace(base, split_salt="2"),
        dataclasses.replace(base, max_shard_bytes=1),
        dataclasses.replace(base, tasks=Tasks(table={"demo2": "push"})),
    ]
    other = [
        dataclasses.replace(base, jpeg_quality=90),
        dataclasses.replace(base, salvage=True),
        dataclasses.replace(base, sync=make_sync_settings(rate_hz=5.0)),
        dataclasses.replace(base, topics=make_topic_map(image="/x")),
        dataclasses.replace(base, tasks=Tasks(table={"demo1": "push"})),
        dataclasses.replace(base, tasks=Tasks("push")),
    ]
    assert {s.fingerprint(bag) for s in same} == {base.fingerprint(bag)}
    assert len({s.fingerprint(bag) for s in (base, *other)}) == len(other) + 1


def test_workers_and_the_manifest_get_them_whole() -> None:
    made = make(image_sizes={"image": (60, 80)}, encoder_source="embedded")
    assert pickle.loads(pickle.dumps(made)) == made
    assert json.loads(json.dumps(made.to_json())) == made.to_json()
