"""HTTP over TLS: HTTP/2, so that watched runs do not use up a browser's connections, and
certificates that change."""

import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from pullcord import RunServer
from pullcord.transports.http.options import HttpOptions

from tests.identity.callers import Authority, token_of, write_tokens
from tests.steady import PATIENCE
from tests.transports.harness import Signal, make_settings, until
from tests.transports.http.agents import make_waiter
from tests.transports.http.web import SERVICE


class Line:
    """One connection of HTTP/2."""

    def __init__(self, url: str, authority: Authority) -> None:
        host, _, port = url.removeprefix("https://").rpartition(":")
        context = ssl.create_default_context(cafile=authority.path)
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.socket = context.wrap_socket(raw, server_hostname=host)
        assert self.socket.selected_alpn_protocol() == "h2"
        self.host = f"{host}:{port}"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.bodies: dict[int, bytes] = {}
        self.status: dict[int, str] = {}
        self.ended: set[int] = set()
        self._flush()

    def send(self, method: str, path: str, body: bytes = b"", *, ends: bool = True) -> int:
        stream = self.h2.get_next_available_stream_id()
        headers = [
            (":method", method),
            (":path", path),
            (":scheme", "https"),
            (":authority", self.host),
            ("content-type", "application/json"),
        ]
        self.h2.send_headers(stream, headers, end_stream=ends and not body)
        if body:
            self.h2.send_data(stream, body, end_stream=ends)
        self._flush()
        return stream

    def until(self, what: Callable[[], bool]) -> None:
        while not what():
            data = self.socket.recv(65536)
            assert data, "the server has closed the connection"
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    was = self.bodies.get(event.stream_id, b"")
                    self.bodies[event.stream_id] = was + event.data
                elif isinstance(event, h2.events.ResponseReceived):
                    self.status[event.stream_id] = dict(event.headers)[":status"]
                elif isinstance(event, h2.events.StreamEnded):
                    self.ended.add(event.stream_id)
            self._flush()

    def ask(self, method: str, path: str, body: bytes = b"") -> Any:
        stream = self.send(method, path, body)
        self.until(lambda: stream in self.ended)
        return self.bodies.get(stream, b"")

    @property
    def serial(self) -> object:
        """Of the certificate that the server showed."""
        return (self.socket.getpeercert() or {})["serialNumber"]

    def _flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def served(authority: Authority) -> Iterator[tuple[RunServer, Signal]]:
    waiter, going = make_waiter()
    certificate, key = authority.issue("server")
    settings = make_settings(http="127.0.0.1:0", tls_certificate=certificate, tls_key=key)
    server = RunServer([waiter], settings=settings)
    with server:
        yield server, going
        going.set()


def test_six_watched_runs_do_not_disable_the_button(
    served: tuple[RunServer, Signal], authority: Authority
) -> None:
    """Over HTTP/2 a stop goes beside any number of streams, on one connection."""
    line = Line(served[0].http_url, authority)
    for n in range(20):
        spec = json.dumps({"spec": {"runnable": "agents/waiter", "runId": f"r{n}"}})
        line.ask("POST", f"{SERVICE}StartRun", spec.encode())
    streams = [line.send("GET", f"/v1/runs/r{n}/events") for n in range(20)]
    line.until(lambda: all(b"contentDelta" in line.bodies.get(s, b"") for s in streams))
    receipt = json.loads(line.ask("POST", "/v1/runs/r3/cancel", b'{"wait":"10s"}'))
    assert receipt["outcome"] == "CANCEL_OUTCOME_STOPPED"
    line.until(lambda: streams[3] in line.ended)
    assert line.ended.isdisjoint({*streams} - {streams[3]})
    line.h2.reset_stream(streams[5])  # a closed tab
    line._flush()
    served[1].set()
    line.until(lambda: line.ended >= {*streams} - {streams[5]})
    line.close()


def test_a_refused_body_does_not_hold_up_its_connection(
    served: tuple[RunServer, Signal], authority: Authority
) -> None:
    """Other requests of the same connection go on."""
    line = Line(served[0].http_url, authority)
    late = line.send("POST", "/nope", b"x" * 1000, ends=False)
    for _ in range(40):
        line.h2.send_data(late, b"x" * 1000)
        line._flush()
    assert json.loads(line.ask("GET", "/healthz"))["status"] == "SERVING"
    line.h2.end_stream(late)
    line._flush()
    line.until(lambda: late in line.ended)
    assert line.status[late] == "404"
    line.close()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
HALF = b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82"
"""A frame of headers that promises more of them."""
WHOLE = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def raw(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, bytes], ssl.SSLSocket]]:
    """Connects to a server that waits shortly for headers and takes three connections."""
    impatient = partial(HttpOptions, header_time=0.5)
    monkeypatch.setattr("pullcord.transports.http.options.HttpOptions", impatient)
    certificate, key = authority.issue("server")
    settings = make_settings(
        http="127.0.0.1:0", tls_certificate=certificate, tls_key=key, max_connections=3
    )
    server = RunServer([make_waiter()[0]], settings=settings)
    with server, contextlib.ExitStack() as stack:
        host, _, port = server.http_url.removeprefix("https://").rpartition(":")

        def connect(protocol: str, sent: bytes) -> ssl.SSLSocket:
            context = ssl.create_default_context(cafile=authority.path)
            context.set_alpn_protocols([protocol])
            opened = socket.create_connection((host, int(port)), timeout=PATIENCE)
            line = stack.enter_context(context.wrap_socket(opened, server_hostname=host))
            line.sendall(sent)
            return line

        yield connect


def _closed(line: ssl.SSLSocket) -> bytes:
    """What came before the server hung up."""
    got = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while data := line.recv(65536):
            got += data
    return got


@pytest.mark.parametrize(
    ("protocol", "sent"),
    [
        ("http/1.1", b""),
        ("http/1.1", WHOLE + WHOLE[:-2]),
        ("h2", PREFACE + HALF),
        ("h2", PREFACE + HALF[:5]),
    ],
)
def test_a_request_that_stays_half_sent_is_closed(
    raw: Callable[[str, bytes], ssl.SSLSocket], protocol: str, sent: bytes
) -> None:
    """Nothing at all, half of a second request, headers that are to go on, and half a frame."""
    assert _closed(raw(protocol, sent)).count(b"200 ") == sent.count(WHOLE)


def test_half_a_request_is_closed_while_another_is_under_way(
    raw: Callable[[str, bytes], ssl.SSLSocket],
) -> None:
    """A stream that lives does not make a connection with half a request live longer."""
    begun = h2.connection.H2Connection()
    begun.initiate_connection()
    headers = {":method": "POST", ":path": "/v1/runs/x/cancel", ":scheme": "https"}
    begun.send_headers(1, [*headers.items(), (":authority", "127.0.0.1")])
    _closed(raw("h2", begun.data_to_send() + HALF[:8] + b"\x03" + HALF[9:]))


PAGE = "https://app.example"


@pytest.fixture
def knowing(tmp_path: Path, authority: Authority) -> Iterator[RunServer]:
    """A server that knows callers by tokens and by certificates."""
    certificate, key = authority.issue("server")
    settings = make_settings(
        http="127.0.0.1:0",
        http_origin=PAGE,
        tls_certificate=certificate,
        tls_key=key,
        client_ca=authority.path,
        mtls_listen="127.0.0.1:0",
        tokens=write_tokens(tmp_path / "tokens"),
    )
    waiter, going = make_waiter()
    server = RunServer([waiter], settings=settings)
    with server:
        yield server
        going.set()


def _known_by(
    server: RunServer, trusted: bytes, pair: tuple[Path, Path] | None
) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cadata=trusted.decode())
    if pair is not None:
        context.load_cert_chain(*pair)
    host, _, port = server.http_url.removeprefix("https://").rpartition(":")
    return http.client.HTTPSConnection(host, int(port), timeout=PATIENCE, context=context)


def _owner(line: http.client.HTTPSConnection, **headers: str) -> str:
    """Who owns what this connection starts; the status, if it may not."""
    body = json.dumps({"spec": {"runnable": "agents/waiter"}})
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    line.request("POST", f"{SERVICE}StartRun", body, {"content-type": "application/json"} | more)
    answer = line.getresponse()
    said = json.loads(answer.read())
    return str(said["run"]["owner"]) if answer.status == 200 else str(answer.status)


def _first_owner(server: RunServer, trusted: bytes, pair: tuple[Path, Path]) -> str:
    with contextlib.closing(_known_by(server, trusted, pair)) as line:
        return _owner(line)


def test_a_certificate_says_who_calls_over_https_too(
    knowing: RunServer, authority: Authority, tmp_path: Path
) -> None:
    """By its SPIFFE id; a token stands above it, and who shows none may have a token. A page of
    another origin is not its browser's user, and what another CA has signed opens nothing."""
    trusted = authority.path.read_bytes()
    names = ["https://acme.example/ann", "spiffe://acme/ann"]
    ann = authority.issue("ann", uris=names, client=True)
    line = _known_by(knowing, trusted, ann)
    assert _owner(line) == "spiffe://acme/ann"
    assert _owner(line, authorization=f"Bearer {token_of('bob')}") == "bob"
    assert _owner(line, origin=PAGE) == "401"
    line.close()
    plain = _known_by(knowing, trusted, None)
    assert _owner(plain, authorization=f"Bearer {token_of('bob')}") == "bob"
    assert _owner(plain) == "401"
    plain.close()
    foreign = Authority(tmp_path, "other").issue("foreign", uris=names, client=True)
    old = authority.issue("old", uris=names, client=True, expired=True)
    for pair in (foreign, old, authority.issue("server2", uris=names)):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _first_owner(knowing, trusted, pair)


def test_the_ca_of_clients_is_replaced_over_https_too(
    knowing: RunServer, authority: Authority, tmp_path: Path
) -> None:
    """What is open stays open; new connections need a certificate of the new CA."""
    trusted = authority.path.read_bytes()
    successor = Authority(tmp_path, "successor")
    old = authority.issue("old", uris=["spiffe://acme/old"], client=True)
    new = successor.issue("new", uris=["spiffe://acme/new"], client=True)
    line = _known_by(knowing, trusted, old)
    assert _owner(line) == "spiffe://acme/old"
    fresh = tmp_path / "fresh.pem"
    fresh.write_bytes(successor.path.read_bytes())
    fresh.rename(authority.path)

    def is_taken() -> bool:
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            return _first_owner(knowing, trusted, new) == "spiffe://acme/new"
        return False

    until(is_taken)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _first_owner(knowing, trusted, old)
    assert _owner(line) == "spiffe://acme/old"
    line.close()


def test_connections_over_tls_are_bounded(raw: Callable[[str, bytes], ssl.SSLSocket]) -> None:
    """One above the bound is closed at once, and one that leaves makes room."""
    lines = [raw("http/1.1", WHOLE) for _ in range(3)]
    for line in lines:
        assert line.recv(65536).startswith(b"HTTP/1.1 200")
    assert _closed(raw("http/1.1", b"")) == b""
    for line in lines:
        assert line.fileno() != -1
        line.sendall(WHOLE)
        assert line.recv(65536)


def test_a_certificate_that_changes_is_shown_to_new_connections(
    served: tuple[RunServer, Signal], authority: Authority
) -> None:
    """What is open stays open; a pair that cannot be used leaves the last one standing."""
    server, _ = served
    old = Line(server.http_url, authority)
    serial = old.serial
    authority.issue("server")
    ends = time.monotonic() + PATIENCE
    changed = False
    while not changed:
        assert time.monotonic() < ends
        line = Line(server.http_url, authority)
        changed = line.serial != serial
        line.close()
    assert json.loads(old.ask("GET", "/healthz"))["status"] == "SERVING"
    old.close()
