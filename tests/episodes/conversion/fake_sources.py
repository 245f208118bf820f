"""Sources for conversion tests: small JSON files that say what a bag would hold, and misbehave on demand.

Workers import this module by name, so it holds no test.
"""

import contextlib
import errno
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from episodes.episode_stream import Frame, PlannedEpisode
from episodes.settings import ConversionSettings
from episodes.synchronisation.settings import SyncSettings
from episodes.tasks import MissingTaskError
from episodes.topics import TopicMap

JOINTS = ("shoulder", "elbow")
ALL_TRAIN = {"train": 1.0}


def settings(**changes: Any) -> ConversionSettings:
    return ConversionSettings(**{"topics": TopicMap({}), "sync": SyncSettings(), **changes})


def write_source(folder: Path, name: str, **says: Any) -> Path:
    """Writes a source.

    Args:
      folder: in which.
      name: of the file.
      **says: ``seed``, ``lengths`` of its episodes, ``size`` of frames, ``joints`` names, ``instruction``
        (None: it has no task), ``fault`` (see ``open_fake``), ``delay_s`` for each frame.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps({"seed": name, "lengths": [3], **says}))
    return path


@contextlib.contextmanager
def open_fake(path: Path, settings: ConversionSettings) -> Iterator["FakeStream"]:
    """An opener. Faults: ``refused``, ``damaged`` (midway), ``bug``, ``disk``, ``kill``, ``kill once``,
    ``missing``, ``twice``, ``shape``."""
    says = json.loads(path.read_text())
    if says.get("fault") == "refused":
        raise ValueError(f"{path} is no bag")
    if says.get("instruction", "") is None:
        raise MissingTaskError(f"No task is given for {path}#0000")
    yield FakeStream(path, says)


class FakeStream:
    def __init__(self, path: Path, says: dict[str, Any]) -> None:
        self._path, self._says = path, says
        height, width = says.get("size", [4, 6])
        self._shapes: dict[str, tuple[tuple[int, ...], str]] = {
            "observation/image": ((height, width, 3), "uint8"),
            "observation/depth": ((height, width), "uint16"),
        }
        self._rng = np.random.default_rng(list(str(says["seed"]).encode()))
        self.episodes = [self._plan(i, t) for i, t in enumerate(says["lengths"])]
        self.report = {"notes": [f"made of {path.name}"], "refused": says.get("refused", [])}

    def _plan(self, number: int, steps: int) -> PlannedEpisode:
        joints = tuple(self._says.get("joints", JOINTS))
        positions = self._rng.normal(size=(steps, len(joints))).astype(np.float32)
        last = np.arange(steps) == steps - 1
        return PlannedEpisode(
            name=f"{number:04d}",
            columns={
                "observation/joint_positions": positions,
                "action": np.concatenate([positions[1:], positions[-1:]]),
                "language_instruction": np.full(steps, self._says.get("instruction", "réach for it")),
                "is_first": np.arange(steps) == 0,
                "is_last": last,
                "is_terminal": last,
                "reward": last.astype(np.float32),
                "discount": np.ones(steps, np.float32),
            },
            frames=self._shapes,
            joint_names=joints,
            action_names=tuple(f"{j} [rad]" for j in joints),
            report={"topics": {"observation/image": {"skew_max_ms": 1.5 + number}}, "warnings": ["late"]},
        )

    def image(self, episode: int, field: str, step: int) -> np.ndarray:
        """What the episode shows; two neighbours share a frame."""
        shape, dtype = self._shapes[field]
        seed = [*str(self._says["seed"]).encode(), episode, len(field), step // 2]
        return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype)

    def frames(self) -> Iterator[Frame]:
        fault, done = self._says.get("fault"), 0
        # Episodes and cameras in turns, as a bag would have them.
        for first in range(0, max(self._says["lengths"]), 2):
            for field in self._shapes:
                for episode, steps in enumerate(self._says["lengths"]):
                    shown = tuple(range(first, min(first + 2, steps)))
                    if not shown:
                        continue
                    time.sleep(self._says.get("delay_s", 0))
                    if done == 2:
                        self._misbehave(fault)
                        if fault == "missing":
                            done += 1
                            continue
                    image = self.image(episode, field, first)
                    yield Frame(episode, field, shown, image[:-1] if fault == "shape" else image)
                    if fault == "twice":
                        yield Frame(episode, field, shown, image)
                    done += 1

    def _misbehave(self, fault: str | None) -> None:
        if fault == "damaged":
            raise ValueError(f"{self._path} is damaged at byte 1234")
        if fault == "bug":
            raise KeyError("no such thing")
        if fault == "disk":
            raise OSError(errno.ENOSPC, "No space left on device")
        if fault == "kill" or (fault == "kill once" and _first_time(self._path)):
            os.kill(os.getpid(), signal.SIGKILL)


def _first_time(path: Path) -> bool:
    mark = path.with_name(f".{path.name}.seen")
    if mark.exists():
        return False
    mark.touch()
    return True
