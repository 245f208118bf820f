"""One recording that most tests of the planning change in one respect, and its plan."""

import numpy as np

from episodes.episode import GELSIGHT_LEFT, IMAGE, JOINT_POSITIONS
from episodes.synchronisation.planning import plan_episodes
from episodes.synchronisation.settings import SyncSettings
from tests.episodes.synchronisation.synthetic_recordings import MS, arm, camera, every, recording

AMPLITUDE, OMEGA = 0.8, 2 * np.pi * 0.7
WIDE = {GELSIGHT_LEFT: 10.0, IMAGE: 10.0, JOINT_POSITIONS: 10.0}


def swing(seconds):
    """Two joints; the second derivative is at most AMPLITUDE * OMEGA^2."""
    return np.stack([AMPLITUDE * np.sin(OMEGA * seconds), AMPLITUDE * np.cos(OMEGA * seconds)])


def usual(**changes):
    """10 s: images at 10 Hz, tactile ones at 30 Hz from 7 ms on, joints at 125 Hz from 20 ms before."""
    parts = {
        "image": camera(every(100 * MS, 101)),
        "gelsight": camera(every(33 * MS, 304, 7 * MS), "/gelsight1"),
        "joints": arm(every(8 * MS, 1260, -20 * MS), swing),
    }
    return recording(**{**parts, **changes})


def planned(of, **options):
    (plan,) = plan_episodes(of, SyncSettings(**options)).episodes
    return plan


def without(times, *cut):
    """Leaves out slices of messages."""
    keep = np.ones(len(times.stamp_ns), bool)
    for part in cut:
        keep[part] = False
    return camera(times.stamp_ns[keep], times.topic)
