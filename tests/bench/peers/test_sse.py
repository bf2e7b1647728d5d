"""What the least client of server-sent events understands, fed with bytes instead of a network."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.peers.sse import Connection, Decoder, Event, Refused

BODY = (
    b'event: A\r\ndata: {"n":1}\r\n\r\n: keepalive\n\ndata: one\ndata: two\n\nevent: B\ndata:\n\n'
)
EVENTS = [Event("A", b'{"n":1}'), Event("", b"one\ntwo"), Event("B", b"")]


class Written:
    """Stands for the half of a connection that is written to."""

    def __init__(self) -> None:
        self.bytes = b""

    def write(self, sent: bytes) -> None:
        self.bytes += sent


def connection(*answers: bytes) -> tuple[Connection, Written]:
    reader, written = asyncio.StreamReader(), Written()
    for answer in answers:
        reader.feed_data(answer)
    return Connection(reader, written), written  # type: ignore[arg-type] # as much as is needed


@given(st.lists(st.integers(0, len(BODY))))
def test_events_are_the_same_wherever_the_body_is_cut(cuts: list[int]) -> None:
    """A network may cut a stream anywhere, also within an event's name or a line's end."""
    decoder, places = Decoder(), [0, *sorted(cuts), len(BODY)]
    pieces = [BODY[start:end] for start, end in pairwise(places)]
    assert [event for piece in pieces for event in decoder.take(piece)] == EVENTS


def test_an_event_without_its_empty_line_is_not_whole() -> None:
    """What a stream breaks off within is no event."""
    assert Decoder().take(BODY.removesuffix(b"\n")) == EVENTS[:2]


async def test_a_chunked_answer_is_read_to_its_end_and_no_further() -> None:
    """The next answer on the connection begins where this one ends."""
    asked, _ = connection(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n",
        b"0\r\n\r\nHTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}",
    )
    await asked.ask("GET", "/stream")
    assert [piece async for piece in asked.pieces()] == [b"abc", b"0123456789"]
    await asked.ask("GET", "/")
    assert await asked.body() == b"{}"


async def test_an_answer_without_a_body_has_none() -> None:
    """Nothing is waited for that was not announced."""
    asked, _ = connection(b"HTTP/1.1 202 Accepted\r\nX-Place: a: b\r\n\r\n")
    assert await asked.ask("POST", "/cancel") == {"x-place": "a: b"}
    assert await asked.body() == b""


async def test_a_request_says_how_long_its_body_is() -> None:
    """A request is one head and one body."""
    asked, written = connection(b"HTTP/1.1 200 OK\r\n\r\n")
    await asked.ask("POST", "/runs", b"a=b", "application/x-www-form-urlencoded")
    assert written.bytes == (
        b"POST /runs HTTP/1.1\r\nHost: bench\r\nContent-Length: 3\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\na=b"
    )


async def test_a_refusal_is_told_in_the_servers_words() -> None:
    """An error is no stream of events."""
    asked, _ = connection(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone")
    with pytest.raises(Refused, match=r"GET /runs: HTTP/1\.1 404 Not Found: gone"):
        await asked.ask("GET", "/runs")
