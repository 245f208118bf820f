"""Settings of the synchronisation: clock, tolerances, joints, actions, cuts."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from episodes.episode import ACTION, FIELDS, IMAGE

# What a topic is taken for: a field of observations, or the action (a topic of commands or of poses).
TOPIC_FIELDS = (*(field.path for field in FIELDS if field.path.startswith("observation/")), ACTION)

NEXT_JOINT_POSITIONS, JOINT_DIFFERENCE = "next_joint_positions", "joint_difference"
COMMAND, POSE_DIFFERENCE = "command", "pose_difference"
ACTIONS = (NEXT_JOINT_POSITIONS, JOINT_DIFFERENCE, COMMAND, POSE_DIFFERENCE)
REFUSE, KEEP = "refuse", "keep"
TRIM, SPLIT = "trim", "split"


@dataclasses.dataclass(frozen=True)
class SyncSettings:
    """How a recording becomes episodes in step.

    Attributes:
      rate_hz: steps a second of a fixed clock; None takes the steps from ``clock``.
      clock: field whose messages are the steps where ``rate_hz`` is None; for joints, the messages of the
        first one.
      tolerance_s: field -> how far a step may be from what it is given. For images, from the message; for a
        command, from the time it was sent; for joints and poses, from both samples that are interpolated,
        which may be twice as far from each other. Between two steps of a reference clock no more than this
        may be missing beyond its usual interval.
      default_tolerance_s: of the fields that ``tolerance_s`` does not name.
      maximum_trim_s: how much of an episode may be lost at either end to a topic that starts late or ends
        early.
      out_of_tolerance: ``refuse`` an episode that breaks any of these limits, or ``keep`` it with warnings.
      log_time: fields whose log times are taken although their messages have stamps, for a camera whose
        clock is wrong.
      joint_names: the observed joints, in this order; empty for all of the topic, as first published, which
        one publisher must have then (``gripper_joint`` may be another's).
      joint_publisher: wildcard of the publishers to take joints from; None for all.
      action: ``next_joint_positions`` (the published format), ``joint_difference``, ``command``, or
        ``pose_difference``; see ``episodes.synchronisation.actions``.
      gripper_joint: a joint whose next position is appended to the action; None for none.
      start_marks, stop_marks: wildcards of the texts on the topic of marks that begin and end an episode.
      idle: what becomes of the times in which no joint moves: ``keep``, ``trim`` those at the ends of an
        episode, or ``split`` there too.
      idle_speed: rad/s (m/s of a prismatic joint) below which a joint rests.
      minimum_idle_s: a shorter rest is none.
    """

    rate_hz: float | None = None
    clock: str = IMAGE
    tolerance_s: Mapping[str, float] = dataclasses.field(default_factory=dict)
    default_tolerance_s: float = 0.05
    maximum_trim_s: float = 1.0
    out_of_tolerance: str = REFUSE
    log_time: tuple[str, ...] = ()
    joint_names: tuple[str, ...] = ()
    joint_publisher: str | None = None
    action: str = NEXT_JOINT_POSITIONS
    gripper_joint: str | None = None
    start_marks: tuple[str, ...] = ()
    stop_marks: tuple[str, ...] = ()
    idle: str = KEEP
    idle_speed: float = 0.01
    minimum_idle_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("log_time", "joint_names", "start_marks", "stop_marks"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(text, str) for text in value):
                raise ValueError(f"{name} must be a sequence of strings. Received: {value!r}")
            object.__setattr__(self, name, tuple(value))
        if self.rate_hz is not None and not 1e-3 <= self.rate_hz <= 1e4:
            raise ValueError(f"rate_hz must be between 0.001 and 10000. Received: {self.rate_hz}")
        for name, value in (
            ("idle_speed", self.idle_speed),
            ("minimum_idle_s", self.minimum_idle_s),
        ):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive. Received: {value}")
        for name, value in (
            ("default_tolerance_s", self.default_tolerance_s),
            ("maximum_trim_s", self.maximum_trim_s),
            *((f"tolerance_s of {field}", value) for field, value in self.tolerance_s.items()),
        ):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be at least 0. Received: {value}")
        for name, fields in (
            ("clock", (self.clock,)),
            ("tolerance_s", tuple(self.tolerance_s)),
            ("log_time", self.log_time),
        ):
            unknown = sorted(set(fields) - set(TOPIC_FIELDS))
            if unknown:
                raise ValueError(f"{name} must name fields of {list(TOPIC_FIELDS)}. Received: {unknown}")
        for name, value, choices in (
            ("out_of_tolerance", self.out_of_tolerance, (REFUSE, KEEP)),
            ("action", self.action, ACTIONS),
            ("idle", self.idle, (KEEP, TRIM, SPLIT)),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {list(choices)}. Received: {value!r}")
        if len(set(self.joint_names)) != len(self.joint_names):
            raise ValueError(f"joint_names must differ. Received: {list(self.joint_names)}")
        if self.action == NEXT_JOINT_POSITIONS and self.gripper_joint in self.joint_names:
            raise ValueError(
                f"With {NEXT_JOINT_POSITIONS} the action has the joints of joint_names already; "
                f"gripper_joint must be another one. Received: {self.gripper_joint!r}"
            )

    def tolerance_ns(self, field: str) -> int:
        """Tolerance of a field in nanoseconds."""
        return round(self.tolerance_s.get(field, self.default_tolerance_s) * 1e9)

    @property
    def needs_next_step(self) -> bool:
        """Whether an action is read at the step after its own, so that the last step has none."""
        return self.action != COMMAND or self.gripper_joint is not None

    def to_json(self) -> dict[str, Any]:
        """All settings, JSON values only, the same text for equal settings."""
        value = {
            name: list(content) if isinstance(content, tuple) else content
            for name, content in vars(self).items()
        }
        return {**value, "tolerance_s": dict(sorted(self.tolerance_s.items()))}
