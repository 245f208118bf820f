"""A bag as a stream of episodes: plan from the index, then each needed frame decoded once, in the order in
which the bag holds them."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from episodes import bag_index, topics
from episodes.bags.bag import Bag
from episodes.bags.reader import open_bag
from episodes.episode_stream import EpisodeStream, Frame, PlannedEpisode
from episodes.images import decode_frame, resize
from episodes.npz import open_npz, step_columns
from episodes.settings import ConversionSettings
from episodes.synchronisation.planning import EpisodePlan, plan_episodes
from episodes.tasks import MissingTaskError, instructions_from_topic


class BagEpisodes:
    """The episodes of an open bag; an ``EpisodeStream``."""

    def __init__(self, bag: Bag, settings: ConversionSettings) -> None:
        """Indexes the bag and plans its episodes.

        Raises:
          BagError: the bag is damaged.
          TopicError: a topic is missing, ambiguous or empty, or holds something else.
          SyncError: an episode is out of tolerance, and settings do not tell to keep it.
          MissingTaskError: an episode without an instruction; all of the bag's are listed.
        """
        self._bag, self._settings = bag, settings
        resolution = bag_index.resolve_topics(bag, settings.topics)
        self._recording = bag_index.index_bag(bag, resolution, settings.depth_unit_m)
        self._cameras = {
            topic: bag_index.CAMERA_FIELDS[part]
            for part, topic in resolution.found.items()
            if part in topics.CAMERAS
        }
        planned = plan_episodes(self._recording, settings.sync)
        self._plans = planned.episodes
        self.episodes: Sequence[PlannedEpisode] = tuple(
            # A damaged bag's end was not recorded.
            self._planned(plan, f"{i:04d}", text, not (bag.salvaged and i == len(self._plans) - 1))
            for i, (plan, text) in enumerate(zip(self._plans, self._instructions(), strict=True))
        )
        self.report: Mapping[str, Any] = {
            "notes": list(self._recording.notes),
            "topics": dict(resolution.found),
            "absent": sorted(resolution.missing),
            "refused": [str(error) for error in planned.refused],
        }

    def frames(self) -> Iterator[Frame]:
        """See ``EpisodeStream``."""
        wanted = {field: self._wanted(field) for field in self._recording.frames}
        skipped = {f: frozenset(times.undecodable) for f, times in self._recording.frames.items()}
        seen = dict.fromkeys(wanted, 0)  # All messages of the topic.
        index = dict.fromkeys(wanted, 0)  # Those in the recording.
        for message in self._bag.messages(self._cameras):
            field = self._cameras[message.connection.topic]
            if message.connection.msgtype not in topics.TYPES[topics.IMAGE]:
                continue
            seen[field] += 1
            if seen[field] - 1 in skipped[field]:
                continue
            uses = wanted[field].pop(index[field], ())
            index[field] += 1
            if uses:
                image = self._prepared(field, self._bag.decode(message))
                for episode, steps in uses:
                    yield Frame(episode, field, steps, image)

    def _prepared(self, field: str, decoded: Any) -> np.ndarray:
        image = decode_frame(decoded, field, depth_unit_m=self._settings.depth_unit_m)
        planned = self._recording.frames[field].shape
        if image.shape != planned:
            raise ValueError(
                f"{self._bag.path}: {field} must keep the size of its first frame, {planned}. "
                f"Received: {image.shape}"
            )
        return resize(image, self._size(field))

    def _wanted(self, field: str) -> dict[int, tuple[tuple[int, tuple[int, ...]], ...]]:
        """Index of a message -> (episode, steps) that show it."""
        wanted: dict[int, tuple[tuple[int, tuple[int, ...]], ...]] = {}
        for episode, plan in enumerate(self._plans):
            messages = plan.frames[field]
            order = np.argsort(messages, kind="stable")
            used, starts = np.unique(messages[order], return_index=True)
            for message, steps in zip(used, np.split(order, starts[1:]), strict=True):
                uses = wanted.get(int(message), ())
                wanted[int(message)] = (*uses, (episode, tuple(int(s) for s in steps)))
        return wanted

    def _size(self, field: str) -> tuple[int, int] | None:
        return self._settings.image_sizes.get(field)

    def _instructions(self) -> list[np.ndarray]:
        texts, missing = [], []
        said = self._recording.instruction
        for i, plan in enumerate(self._plans):
            sentence = self._settings.tasks.of(self._bag.path, f"{i:04d}")
            if sentence is not None:
                texts.append(np.full(len(plan.times_ns), sentence))
            elif said is not None:
                texts.append(instructions_from_topic(said, plan.times_ns))
            else:
                missing.append(f"{self._bag.path}#{i:04d}")
        if missing:
            raise MissingTaskError(f"No task is given for {', '.join(missing)}")
        return texts

    def _planned(
        self, plan: EpisodePlan, name: str, instructions: np.ndarray, finished: bool
    ) -> PlannedEpisode:
        shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        for field in plan.frames:
            times = self._recording.frames[field]
            size = self._size(field)
            shape = times.shape if size is None else (*size, *times.shape[2:])
            shapes[field] = (shape, times.dtype)
        return PlannedEpisode(
            name=name,
            columns={**plan.columns, **step_columns(len(plan.times_ns), instructions, finished)},
            frames=shapes,
            joint_names=plan.joint_names,
            action_names=plan.action_names,
            report=plan.report.to_json(),
        )


@contextlib.contextmanager
def open_source(path: Path, settings: ConversionSettings) -> Iterator[EpisodeStream]:
    """Opens a bag, or an NPZ file of one episode, as a stream of episodes.

    Raises:
      ValueError: as ``BagEpisodes`` and ``episodes.npz.open_npz`` say.
    """
    if path.suffix == ".npz":
        yield open_npz(path, instruction=settings.tasks.of(path, "0000"))
        return
    with open_bag(path, salvage=settings.salvage) as bag:
        yield BagEpisodes(bag, settings)
