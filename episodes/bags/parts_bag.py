"""A bag as its parts, read one after the other."""

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from episodes.bags.bag import ROS2, BagError, Connection, Message
from episodes.bags.definitions import Decoder
from episodes.bags.part import Channel, Part
from episodes.bags.unpack import ZSTD_MAGIC, unpack_message


class PartsBag:
    """The ``Bag`` of every format; see there."""

    def __init__(
        self,
        path: Path,
        ros: str,
        storage: str,
        compression: str,
        parts: Sequence[Part],
        *,
        salvaged: bool,
        notes: Sequence[str],
    ) -> None:
        """Joins open parts; connections of the same topic, type and publisher become one.

        Args:
          path, ros, storage, compression, salvaged: as in ``Bag``.
          parts: in order.
          notes: that were made while the bag was opened.
        """
        self.path, self.ros, self.storage, self.compression = path, ros, storage, compression
        self.salvaged, self.notes = salvaged, list(notes)
        self._parts = parts
        self._close: Callable[[], None] = lambda: None
        self._channels: list[list[Channel]] = []
        self._connection_of: list[dict[int, int]] = []
        places: dict[tuple[str, str, str, int], int] = {}
        for part in parts:
            seen: Counter[tuple[str, str, str]] = Counter()
            connection_of = {}
            for channel in part.channels:
                key = (channel.topic, channel.msgtype, channel.publisher)
                place = places.setdefault((*key, seen[key]), len(places))
                seen[key] += 1
                if place == len(self._channels):
                    self._channels.append([])
                self._channels[place].append(channel)
                connection_of[channel.id] = place
            self._connection_of.append(connection_of)
        self.connections: Sequence[Connection] = [
            _connection(number, channels) for number, channels in enumerate(self._channels)
        ]
        self.declared = _sum([c.declared for c in self.connections])
        self._decoders: dict[int, Decoder | BagError] = {}

    def __enter__(self) -> "PartsBag":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def on_close(self, close: Callable[[], None]) -> None:
        """Has ``close`` called when the bag is closed."""
        self._close = close

    def close(self) -> None:
        """Closes the files and removes what was unpacked; a second call does nothing."""
        close, self._close = self._close, lambda: None
        close()

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Message]:
        wanted = [c for c in self.connections if topics is None or c.topic in topics]
        counts: Counter[int] = Counter()
        try:
            for message in self._stream({c.id for c in wanted}):
                connection = message.connection
                counts[connection.id] += 1
                declared = connection.declared
                # Checked on the way, so that a damaged index cannot give messages for ever.
                if declared is not None and counts[connection.id] > declared and not self.salvaged:
                    raise BagError(
                        f"{self.path} is not whole: {connection.topic} has more messages than the "
                        f"{declared} that are declared"
                    )
                yield message
        except BagError as error:
            if str(self.path) in str(error):
                raise
            raise BagError(f"{self.path}: {error}") from error
        except Exception as error:  # Libraries raise whatever befalls them in damaged data.
            raise BagError(f"{self.path} is damaged: {_say(error)}") from error
        wrong = [
            f"{c.topic} has {counts[c.id]} messages of the {c.declared} that are declared"
            for c in wanted
            if c.declared is not None and counts[c.id] != c.declared
        ]
        if wrong and not self.salvaged:
            raise BagError(f"{self.path} is not whole: {'; '.join(wrong)}")
        for note in wrong:
            self._note(note)

    def decode(self, message: Message) -> Any:
        number = message.connection.id
        if number not in self._decoders:
            self._decoders[number] = self._make_decoder(number)
        decoder = self._decoders[number]
        if isinstance(decoder, BagError):
            raise BagError(f"{self.path}: {decoder}") from decoder
        try:
            return decoder(message.data)
        except BagError as error:
            raise BagError(f"{self.path}: {error}") from error

    def _make_decoder(self, number: int) -> Decoder | BagError:
        # Where a bag was split, a part may lack the definition that another has.
        channel = max(self._channels[number], key=lambda channel: bool(channel.definition))
        try:
            return Decoder(channel, self._note)
        except BagError as error:
            return error

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _stream(self, wanted: Collection[int]) -> Iterator[Message]:
        for part, connection_of in zip(self._parts, self._connection_of, strict=True):
            ids = [id for id, number in connection_of.items() if number in wanted]
            with contextlib.closing(part.messages(ids)) as messages:
                for id, log_ns, data in messages:
                    if self.ros == ROS2 and data[:4] == ZSTD_MAGIC:  # CDR never begins so.
                        data = unpack_message(bytes(data))
                    yield Message(self.connections[connection_of[id]], log_ns, data)


def _connection(number: int, channels: Sequence[Channel]) -> Connection:
    first = channels[0]
    declared = _sum([channel.declared for channel in channels])
    return Connection(number, first.topic, first.msgtype, first.publisher, declared)


def _sum(numbers: Sequence[int | None]) -> int | None:
    known = [n for n in numbers if n is not None]
    return sum(known) if len(known) == len(numbers) else None


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
