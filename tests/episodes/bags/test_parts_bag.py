"""Parts become one bag whose messages are counted against what is declared."""

from collections.abc import Collection, Generator
from pathlib import Path

import pytest

from episodes.bags.bag import BagError
from episodes.bags.part import MSG, Channel
from episodes.bags.parts_bag import PartsBag


class StubPart:
    """A part that declares so many messages on /a and /b and gives others."""

    compression = "none"

    def __init__(self, declared: tuple[int | None, int | None], given: tuple[int, int]) -> None:
        self.notes: list[str] = []
        self.channels = [
            Channel(i, topic, "std_msgs/msg/String", "", declared[i], "cdr", "string data", MSG, "")
            for i, topic in enumerate(("/a", "/b"))
        ]
        self._given = given

    def messages(self, ids: Collection[int]) -> Generator[tuple[int, int, bytes], None, None]:
        yield from ((i, n, b"") for i in ids for n in range(self._given[i]))

    def close(self) -> None: ...


def bag(*parts: StubPart, salvaged: bool = False) -> PartsBag:
    return PartsBag(Path("a.mcap"), "ros2", "mcap", "none", parts, salvaged=salvaged, notes=[])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((3, 1), "a.mcap is not whole: /b has 1 messages of the 2 that are declared"),
        ((0, 1), "/a has 0 messages of the 3 .*; /b has 1 messages of the 2"),
        ((4, 2), "/a has more messages than the 3 that are declared"),
    ],
)
def test_other_numbers_than_declared_are_an_error(given, said):
    with pytest.raises(BagError, match=said):
        list(bag(StubPart((3, 2), given)).messages())


def test_topics_that_were_not_asked_for_are_not_missed():
    assert len(list(bag(StubPart((3, 2), (3, 1))).messages(["/a"]))) == 3


def test_what_salvage_lost_is_noted_once():
    one = bag(StubPart((3, 2), (3, 1)), salvaged=True)
    for _ in range(2):
        assert len(list(one.messages())) == 4
    assert one.notes == ["/b has 1 messages of the 2 that are declared"]


def test_declared_numbers_add_up_over_parts():
    both = bag(StubPart((3, 2), (3, 2)), StubPart((1, 0), (1, 0)))
    assert [(c.topic, c.declared) for c in both.connections] == [("/a", 4), ("/b", 2)]
    assert both.declared == len(list(both.messages())) == 6
    unknown = bag(StubPart((3, 2), (3, 2)), StubPart((None, 0), (9, 0)))
    assert [c.declared for c in unknown.connections] == [None, 2]
    assert unknown.declared is None
    assert len(list(unknown.messages())) == 14
