"""One stored file of a bag, as the readers of the formats give it."""

import dataclasses
from collections.abc import Collection, Generator, Sequence
from typing import Protocol

MSG, IDL, UNDEFINED = "msg", "idl", ""


@dataclasses.dataclass(frozen=True)
class Channel:
    """A connection as it is stored in one file.

    Attributes:
      id: unique in its file.
      topic, msgtype, publisher, declared: as in ``Connection``.
      serialization: ``ros1``, ``cdr``, or what else the file says.
      definition: of the type, as text; empty where the file has none.
      language: of the definition: ``msg`` or ``idl``; empty where there is none.
      digest: ROS 1's md5 or ROS 2's RIHS01 of the type; empty where the file does not say.
    """

    id: int
    topic: str
    msgtype: str
    publisher: str
    declared: int | None
    serialization: str
    definition: str
    language: str
    digest: str


class Part(Protocol):
    """An open file.

    Attributes:
      channels: all there are, those without messages too.
      compression: ``none``, or of its chunks: ``lz4``, ``bz2``, ``zstd``.
      notes: what was odd.
    """

    channels: Sequence[Channel]
    compression: str
    notes: list[str]

    def messages(self, ids: Collection[int]) -> Generator[tuple[int, int, bytes | memoryview], None, None]:
        """Streams (id of the channel, log time in ns, payload) of some channels, the same order each time.

        Damage raises whatever the format's library raises.
        """

    def close(self) -> None: ...
