"""How bags become a data set: everything that gin and the command line configure, in one value."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gin

from episodes import topics as topics_lib
from episodes.bag_index import CAMERA_FIELDS
from episodes.episode import ACTION, IMAGE, JOINT_POSITIONS
from episodes.images.encoding import JPEG, PNG
from episodes.synchronisation.settings import KEEP, NEXT_JOINT_POSITIONS, REFUSE, SyncSettings
from episodes.tasks import Tasks
from episodes.topics import TopicMap

# Raised whenever the same settings give other episodes: what was staged by an earlier version is stale then.
FORMAT_VERSION = 1

SPLITS = ("train", "val", "test")
# Parts of a topic map as the synchronisation calls them.
_FIELDS: Mapping[str, str] = {
    **CAMERA_FIELDS,
    topics_lib.JOINTS: JOINT_POSITIONS,
    topics_lib.COMMAND: ACTION,
    topics_lib.POSE: ACTION,
}


@dataclasses.dataclass(frozen=True)
class ConversionSettings:
    """Settings of a conversion; picklable, so that workers get them whole.

    Attributes:
      topics: which topic fills which part of an episode.
      sync: clock, tolerances, joints, actions, cuts.
      tasks: instructions.
      image_sizes: field of a camera -> (height, width) that its frames are brought to; others keep theirs.
      depth_unit_m: metres of a unit of integer depth; None for millimetres.
      salvage: read damaged bags as far as they go.
      colour_encoding: ``jpeg`` or ``png``, of colour and tactile images; depth is 16-bit PNG.
      jpeg_quality: 1 to 100.
      encoder_source: of the sentence embeddings to store, see ``language.make_text_encoder``; None for none.
      fractions: split -> share of the episodes.
      split_salt: another one gives another split.
      max_shard_bytes: a shard is closed before it would grow beyond; a larger episode has one of its own.
    """

    topics: TopicMap
    sync: SyncSettings
    tasks: Tasks = Tasks()
    image_sizes: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    depth_unit_m: float | None = None
    salvage: bool = False
    colour_encoding: str = JPEG
    jpeg_quality: int = 95
    encoder_source: str | None = None
    fractions: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"train": 0.9, "val": 0.1, "test": 0.0}
    )
    split_salt: str = ""
    max_shard_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        fields = tuple(CAMERA_FIELDS.values())
        for field, size in self.image_sizes.items():
            if field not in fields or len(size) != 2 or min(size) < 1:
                raise ValueError(
                    f"image_sizes maps {list(fields)} to (height, width). Received: {field!r}: {size}"
                )
        if self.colour_encoding not in (JPEG, PNG):
            raise ValueError(
                f"colour_encoding must be {JPEG!r} or {PNG!r}. Received: {self.colour_encoding!r}"
            )
        if not isinstance(self.jpeg_quality, int) or not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be an integer of 1 to 100. Received: {self.jpeg_quality}")
        if self.depth_unit_m is not None and not self.depth_unit_m > 0:
            raise ValueError(f"depth_unit_m must be positive. Received: {self.depth_unit_m}")
        if self.max_shard_bytes < 1:
            raise ValueError(f"max_shard_bytes must be at least 1. Received: {self.max_shard_bytes}")
        shares = tuple(self.fractions.values())
        adds_up = all(share >= 0 for share in shares) and abs(sum(shares) - 1) <= 1e-6  # NaN does neither.
        if set(self.fractions) - set(SPLITS) or not adds_up:
            raise ValueError(
                f"fractions are of {list(SPLITS)} and add up to 1. Received: {dict(self.fractions)}"
            )

    def to_json(self) -> dict[str, Any]:
        """All settings but the table of tasks, for the manifest; JSON values only."""
        return {
            "format_version": FORMAT_VERSION,
            "topics": {part: list(names) for part, names in sorted(self.topics.names.items())},
            "optional_topics": sorted(self.topics.optional),
            "sync": self.sync.to_json(),
            "image_sizes": {field: list(size) for field, size in sorted(self.image_sizes.items())},
            "depth_unit_m": self.depth_unit_m,
            "salvage": self.salvage,
            "colour_encoding": self.colour_encoding,
            "jpeg_quality": self.jpeg_quality,
            "encoder_source": self.encoder_source,
        }

    def fingerprint(self, source: Path) -> str:
        """Hexadecimal digest of what decides the episodes of one source; splits and shards do not."""
        value = {**self.to_json(), "tasks": self.tasks.mentions(source)}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@gin.configurable("synchronisation", module="episodes")
def make_sync_settings(
    rate_hz: float | None = None,
    clock: str = IMAGE,
    tolerance_s: Mapping[str, float] | None = None,
    default_tolerance_s: float = 0.05,
    maximum_trim_s: float = 1.0,
    out_of_tolerance: str = REFUSE,
    log_time: Sequence[str] = (),
    joint_names: Sequence[str] = (),
    joint_publisher: str | None = None,
    action: str = NEXT_JOINT_POSITIONS,
    gripper_joint: str | None = None,
    start_marks: Sequence[str] = (),
    stop_marks: Sequence[str] = (),
    idle: str = KEEP,
    idle_speed: float = 0.01,
    minimum_idle_s: float = 1.0,
) -> SyncSettings:
    """``SyncSettings`` as gin configures them; the arguments are its attributes.

    ``clock``, ``tolerance_s`` and ``log_time`` may name parts of the topic map (``image``, ``joints``,
    ``command``) instead of fields.
    """
    return SyncSettings(
        rate_hz=rate_hz,
        clock=_field(clock),
        tolerance_s={_field(name): value for name, value in (tolerance_s or {}).items()},
        default_tolerance_s=default_tolerance_s,
        maximum_trim_s=maximum_trim_s,
        out_of_tolerance=out_of_tolerance,
        log_time=tuple(_field(name) for name in log_time),
        joint_names=tuple(joint_names),
        joint_publisher=joint_publisher,
        action=action,
        gripper_joint=gripper_joint,
        start_marks=tuple(start_marks),
        stop_marks=tuple(stop_marks),
        idle=idle,
        idle_speed=idle_speed,
        minimum_idle_s=minimum_idle_s,
    )


def _field(name: str) -> str:
    return _FIELDS.get(name, name)


@gin.configurable("conversion", module="episodes")
def make_conversion_settings(
    topics: TopicMap,
    sync: SyncSettings,
    tasks: Tasks,
    *,
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
    depth_unit_m: float | None = None,
    salvage: bool = False,
    colour_encoding: str = JPEG,
    jpeg_quality: int = 95,
    encoder_source: str | None = None,
    fractions: Mapping[str, float] | None = None,
    split_salt: str = "",
    max_shard_bytes: int = 256 << 20,
) -> ConversionSettings:
    """``ConversionSettings`` as gin configures them; the arguments are its attributes.

    ``image_sizes`` may name the cameras shortly: ``{'image': (240, 320)}``.
    """
    sizes = {CAMERA_FIELDS.get(name, name): (h, w) for name, (h, w) in (image_sizes or {}).items()}
    optional = {} if fractions is None else {"fractions": dict(fractions)}
    return ConversionSettings(
        topics=topics,
        sync=sync,
        tasks=tasks,
        image_sizes=sizes,
        depth_unit_m=depth_unit_m,
        salvage=salvage,
        colour_encoding=colour_encoding,
        jpeg_quality=jpeg_quality,
        encoder_source=encoder_source,
        split_salt=split_salt,
        max_shard_bytes=max_shard_bytes,
        **optional,
    )
