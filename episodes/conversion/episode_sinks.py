"""Where the frames of episodes go as they arrive, in any order, until an episode is full and is written."""

import functools
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from episodes.conversion import example_writer, rlds_features, tfrecord
from episodes.conversion.example_writer import FrameSpool, SpooledFrames
from episodes.conversion.rlds_features import Signature, step_key
from episodes.conversion.sources import Source
from episodes.episode import LANGUAGE_INSTRUCTION
from episodes.episode_stream import Frame, PlannedEpisode
from episodes.images.encoding import encode_image
from episodes.npz import NpzWriter
from episodes.settings import ConversionSettings
from language import TextEncoder, make_text_encoder

RLDS, NPZ = "rlds", "npz"
# Of the file of one episode.
SUFFIX = {RLDS: ".tfrecord", NPZ: ".npz"}


class IncomingEpisode:
    """An episode whose frames are still coming, each exactly once.

    Attributes:
      planned: all but its frames.
      id: unique for good.
      missing: frames that are still to come, one for each step and camera.
    """

    def __init__(self, planned: PlannedEpisode, id: str) -> None:
        self.planned, self.id = planned, id
        self._there = {field: np.zeros(planned.steps, bool) for field in planned.frames}
        self.missing = planned.steps * len(planned.frames)

    def fill(self, frame: Frame) -> None:
        """Notes that a frame came.

        Raises:
          ValueError: it is not as planned, or came before.
        """
        where = f"episode {self.planned.name}: {frame.field}"
        if frame.field not in self._there:
            raise ValueError(f"{where} must be one of {sorted(self._there)}. Received: {frame.field!r}")
        shape, dtype = self.planned.frames[frame.field]
        if frame.image.shape != tuple(shape) or frame.image.dtype != np.dtype(dtype):
            raise ValueError(
                f"{where} must be {dtype} {list(shape)} as planned. "
                f"Received: {frame.image.dtype} {list(frame.image.shape)} at step {frame.steps[0]}"
            )
        there, steps = self._there[frame.field], np.asarray(frame.steps, np.int64)
        fits = len(steps) and steps.min() >= 0 and steps.max() < len(there)
        if not fits or len(np.unique(steps)) != len(steps) or there[steps].any():
            raise ValueError(
                f"{where} must come once for each of {len(there)} steps. Received: {frame.steps}"
            )
        there[steps] = True
        self.missing -= len(steps)

    def require_full(self) -> None:
        """Checks that no frame is missing.

        Raises:
          ValueError: there is one.
        """
        for field, there in self._there.items():
            if not there.all():
                raise ValueError(
                    f"episode {self.planned.name}: {field} must come for each of {len(there)} steps. "
                    f"Received: {int(there.sum())}, none for step {int(np.flatnonzero(~there)[0])}"
                )


class RldsSink(ExitStack):
    """Writes episodes as records; frames wait in one spool, encoded once however many steps show them."""

    def __init__(
        self, folder: Path, source: Source, settings: ConversionSettings, signature: Signature
    ) -> None:
        super().__init__()
        self._folder, self._source, self._settings, self._signature = folder, source, settings, signature
        self._spool = self.enter_context(FrameSpool(folder / "frames.spool"))
        self._places: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
        self._spooled: dict[str, int] = {}

    def put(self, episode: IncomingEpisode, frame: Frame) -> None:
        """Takes one frame.

        Raises:
          EpisodeTooLongError: the episode cannot be stored.
        """
        encoding = self._signature.encodings[frame.field]
        data = encode_image(frame.image, encoding, self._settings.jpeg_quality)
        steps, t = list(frame.steps), episode.planned.steps
        offsets, lengths = self._places.setdefault(
            (episode.id, frame.field), (np.zeros(t, np.int64), np.zeros(t, np.int64))
        )
        offsets[steps], lengths[steps] = self._spool.append(data), len(data)
        size = self._spooled[episode.id] = self._spooled.get(episode.id, 0) + len(data) * len(steps)
        if size > example_writer.MAXIMUM_BYTES:  # Said now rather than after hours of it.
            raise example_writer.too_long(f"episode {episode.planned.name}", size)

    def write(self, episode: IncomingEpisode) -> tuple[int, int]:
        """Writes an episode that is full.

        Returns:
          Bytes and CRC-32C of the record's data.
        """
        planned = episode.planned
        columns: dict[str, np.ndarray | SpooledFrames] = dict(
            rlds_features.example_columns(
                planned,
                file_path=self._source.label,
                episode_id=episode.id,
                source_sha256=self._source.sha256,
            )
        )
        for field in planned.frames:
            columns[step_key(field)] = SpooledFrames(self._spool, *self._places.pop((episode.id, field)))
        if self._settings.encoder_source is not None:
            columns[step_key(rlds_features.LANGUAGE_EMBEDDING)] = embeddings(
                self._settings.encoder_source, planned.columns[LANGUAGE_INSTRUCTION]
            )
        with (self._folder / f"{planned.name}{SUFFIX[RLDS]}").open("xb") as file:
            return example_writer.write_example(file, columns, f"episode {planned.name}")


class NpzSink(ExitStack):
    """Writes episodes as NPZ files."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._open: dict[str, tuple[NpzWriter, ExitStack]] = {}

    def put(self, episode: IncomingEpisode, frame: Frame) -> None:
        """Takes one frame."""
        self._writer(episode)[0].put(frame.field, frame.steps, frame.image)

    def write(self, episode: IncomingEpisode) -> tuple[int, int]:
        """Writes an episode that is full.

        Returns:
          Bytes and CRC-32C of the file.
        """
        self._writer(episode)[1].close()
        del self._open[episode.id]
        path = self._path(episode)
        return path.stat().st_size, tfrecord.file_crc(path)

    def _path(self, episode: IncomingEpisode) -> Path:
        return self._folder / f"{episode.planned.name}{SUFFIX[NPZ]}"

    def _writer(self, episode: IncomingEpisode) -> tuple[NpzWriter, ExitStack]:
        if episode.id not in self._open:
            # Closed by itself when it is full; by this sink, and so undone, when something fails.
            stack = self.enter_context(ExitStack())
            writer = stack.enter_context(NpzWriter(self._path(episode), episode.planned))
            self._open[episode.id] = (writer, stack)
        return self._open[episode.id]


@functools.cache
def encoder_of(source: str) -> TextEncoder:
    """The encoder of a source that ``language.make_text_encoder`` knows, made once a process."""
    return make_text_encoder(source)


def embeddings(source: str, instructions: np.ndarray) -> np.ndarray:
    """Embeddings float32 [T, 512] of T instructions."""
    texts, places = np.unique(instructions.astype(np.str_), return_inverse=True)
    return encoder_of(source).encode(texts.tolist())[places]
