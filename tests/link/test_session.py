"""The stream of bytes that outlives its connections, with no socket: two ends, and cuts between."""

import random
import struct

import pytest
from pullcord.link.session import PIECE, WINDOW, Session, SessionTorn


class Way:
    """Bytes from one end to the other, which arrive in parts, or not."""

    def __init__(self, source: Session, sink: Session) -> None:
        self.source = source
        self.sink = sink
        self.flying = bytearray()
        self.said = bytearray()
        self.arrived = bytearray()

    def say(self, data: bytes) -> None:
        if self.source.has_room:
            self.source.put(data)
            self.said += data

    def send(self, size: int) -> None:
        data = self.source.outgoing()[:size]
        self.flying += data
        self.source.sent(len(data))

    def bring(self, size: int) -> None:
        self.sink.receive(bytes(self.flying[:size]))
        del self.flying[:size]

    def pass_on(self, size: int) -> None:
        data = self.sink.incoming[:size]
        if data:
            self.arrived += data
            self.sink.passed(len(data))


def connect(*ways: Way) -> None:
    for way in ways:
        way.flying.clear()
        way.source.attach()


def settle(*ways: Way) -> None:
    """Until nothing is under way any more."""
    while any(way.source.outgoing() or way.flying or way.sink.incoming for way in ways):
        for way in ways:
            way.send(PIECE)
            way.bring(len(way.flying))
            way.pass_on(PIECE)


def pair() -> tuple[Way, Way]:
    one, other = Session(), Session()
    return Way(one, other), Way(other, one)


@pytest.mark.parametrize("seed", range(20))
def test_all_arrives_once_and_in_order_whatever_is_cut(seed: int) -> None:
    """Connections break in the middle of records, both ways, hundreds of times."""
    chance = random.Random(seed)
    ways = pair()
    connect(*ways)
    for n in range(3000):
        way = chance.choice(ways)
        chance.choice(
            [
                lambda: way.say(b"%d " % n * chance.choice([1, 1, 500])),  # noqa: B023 # called here
                lambda: way.send(chance.choice([1, 40, 5000])),  # noqa: B023
                lambda: way.bring(chance.choice([1, 40, 5000])),  # noqa: B023
                lambda: way.pass_on(chance.choice([1, 100, 5000])),  # noqa: B023
            ]
        )()
        if chance.random() < 0.1:
            connect(*ways)
    for way in ways:
        way.source.end()
    connect(*ways)
    settle(*ways)
    for way in ways:
        assert way.arrived == way.said
        assert way.source.is_delivered
        assert way.sink.has_ended
    assert len(ways[0].said) > 1000


def test_what_is_not_passed_on_is_bounded_and_pings_are_answered() -> None:
    """A reader that stands still stops the sender after `WINDOW` bytes; the link is alive."""
    there, back = pair()
    connect(there, back)
    while there.source.has_room:
        there.say(b"x" * 1000)
        there.send(PIECE)
        there.bring(PIECE)
        back.send(PIECE)
        back.bring(PIECE)
    assert WINDOW // 2 < len(there.said) <= WINDOW
    there.source.ping(7)
    for way in (there, back):
        way.send(10 * WINDOW)
        way.bring(10 * WINDOW)
    assert there.source.echoed == 7
    assert not there.source.has_room
    settle(there, back)
    assert there.source.has_room
    assert there.arrived == there.said


def test_a_piece_that_comes_twice_is_dropped() -> None:
    """Wherever that may come of."""
    there, back = pair()
    connect(there, back)
    there.say(b"once")
    settle(there, back)
    there.sink.receive(struct.pack("<BIQQ", 1, 4, 1, 0) + b"once")
    settle(there, back)
    assert there.arrived == b"once"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ((120, 0, 0, 0), "a record of kind 120"),
        ((1, PIECE + 1, 1, 0), "a piece of 65537 bytes"),
        ((1, 0, 3, 0), "piece 3 came after 0"),
        ((4, 0, 0, 2), "piece 2 was acknowledged, and 1 is the last"),
        ((3, 0, 2, 0), "it has 2 pieces, and 1 to 1 are kept"),
    ],
)
def test_a_peer_that_cannot_be_one_is_found_out(record: tuple[int, ...], words: str) -> None:
    """Nothing of it is believed, and the words say what was wrong."""
    session = Session()
    session.put(b"the first piece")
    session.attach()
    with pytest.raises(SessionTorn, match=words):
        session.receive(struct.pack("<BIQQ", *record))
