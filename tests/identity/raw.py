"""HTTP/2 by hand, for clients that keep no rule: frames, and connections that say anything."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.identity.callers import token_of
from tests.steady import PATIENCE

DATA, HEADERS, RESET, PING = 0, 1, 3, 6
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
NO_WINDOW = PREFACE[:24] + b"\0\0\6\4\0\0\0\0\0" + b"\0\4\0\0\0\0"
"""The same, of a client that takes no byte of any answer."""


@contextlib.contextmanager
def connected(address: str, count: int = 1, said: bytes = b"") -> Iterator[list[socket.socket]]:
    host, _, port = address.rpartition(":")
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection((host, int(port))))
            one.settimeout(PATIENCE)
            one.sendall(said)
            made.append(one)
        yield made
        for one in made:
            with contextlib.suppress(OSError):  # also where a thread reads, as nobody else can
                one.shutdown(socket.SHUT_RDWR)


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def head(rpc: str, who: str = "") -> bytes:
    """The headers of a call of RunService; of nobody unless `who` is given."""
    pairs = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", f"/pullcord.v1.RunService/{rpc}".encode()),
        (b":authority", b"x"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]
    if who:
        pairs.append((b"authorization", f"Bearer {token_of(who)}".encode()))
    return b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in pairs
    )


def call(stream: int, rpc: str, who: str, message: bytes) -> bytes:
    """A whole call."""
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return frame(HEADERS, END_HEADERS, stream, head(rpc, who)) + frame(
        DATA, END_STREAM, stream, body
    )


def answer_pings(one: socket.socket) -> None:
    """From now on the client looks alive: it answers pings, and nothing else that it hears."""

    def read() -> None:
        heard = one.makefile("rb")
        with contextlib.suppress(OSError, ValueError):
            while len(start := heard.read(9)) == 9:
                body = heard.read(int.from_bytes(start[:3], "big"))
                if start[3] == PING and not start[4] & 1:
                    one.sendall(frame(PING, 1, 0, body))

    threading.Thread(target=read, daemon=True).start()
