"""Where workers elsewhere connect: TLS, a secret that opens one session, once, and a key that
opens further connections of it.

It knows whom it expects, by the hash of their secrets, and the keys of open sessions. What a
connection carries is not known here.
"""

import hashlib
import hmac
import logging
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from pullcord.executors.workers.certificate import own_certificate
from pullcord.link.greeting import (
    TIMEOUT,
    LinkRefused,
    Ticket,
    both_versions,
    hear,
    proof_of,
    say,
    settle,
)

_log = logging.getLogger("pullcord.workers")

_STRANGERS = 64
"""Connections at a time that have not shown whom they are of. One more takes the place of the
oldest, once that has had its chance."""
_CHANCE = 0.5
"""Seconds that each of them has, however many others come; until then those wait to be accepted."""

Opened = Callable[[ssl.SSLSocket], None]
"""Gets each connection of a session; a later one takes the place of an earlier one."""


@dataclass(frozen=True, slots=True)
class _Open:
    secret: bytes
    """The hash of the secret that opened it."""
    key: bytes
    opened: Opened


class Reception:
    """The listening socket for workers. Any thread may call."""

    def __init__(self, host: str, port: int, lease: float) -> None:
        """`lease` is that of the sessions. Raises OSError if nothing can listen there, and
        MissingExtra."""
        self._lease = lease
        self._context, self._fingerprint = own_certificate()
        self._sock = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        self.host, self.port = self._sock.getsockname()[:2]
        self._lock = threading.Lock()
        self._expected: dict[bytes, Opened] = {}
        self._sessions: dict[str, _Open] = {}
        self._strangers: dict[socket.socket, float] = {}
        """When each came, in that order. Whoever shows a secret or a session is none any more."""
        self._left = threading.Condition()
        self._closed = False
        threading.Thread(target=self._accept, name="pullcord-reception", daemon=True).start()

    def expect(self, opened: Opened) -> Ticket:
        """A ticket for one worker; whenever that has connected, `opened` gets the connection."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._expected[_hashed(secret)] = opened
        return Ticket(secret, self._fingerprint)

    def forget(self, ticket: Ticket) -> None:
        """The worker with this ticket is expected no more, and its session is over."""
        secret = _hashed(ticket.secret)
        with self._lock:
            self._expected.pop(secret, None)
            for session in [id for id, one in self._sessions.items() if one.secret == secret]:
                del self._sessions[session]

    def close(self) -> None:
        """Nobody can connect any more."""
        self._closed = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._sock.close()

    def _accept(self) -> None:
        while not self._closed:
            self._make_room()
            try:
                sock, address = self._sock.accept()
                same = sock.dup()
            except OSError as error:
                if not self._closed:
                    _log.warning("a worker's connection could not be accepted: %s", error)
                    threading.Event().wait(1)
                continue
            with self._left:
                self._strangers[same] = time.monotonic()
            threading.Thread(
                target=self._greet,
                args=(sock, same, address),
                name="pullcord-greeting",
                daemon=True,
            ).start()

    def _make_room(self) -> None:
        with self._left:
            while len(self._strangers) >= _STRANGERS:
                oldest, came = next(iter(self._strangers.items()))
                if (left := came + _CHANCE - time.monotonic()) > 0:
                    self._left.wait(left)
                else:
                    del self._strangers[oldest]
                    _shut(oldest)

    def _is_no_stranger(self, same: socket.socket) -> None:
        with self._left:
            self._strangers.pop(same, None)
            self._left.notify()

    def _greet(self, sock: socket.socket, same: socket.socket, address: tuple[str, int]) -> None:
        # However slowly the other end speaks, this is over in time.
        too_late = threading.Timer(TIMEOUT, _shut, args=(same,))
        too_late.daemon = True
        too_late.start()
        try:
            sock.settimeout(TIMEOUT)
            link = self._context.wrap_socket(sock, server_side=True)
            try:
                self._open(link, partial(self._is_no_stranger, same))
            except BaseException:
                link.close()
                raise
        except (LinkRefused, OSError) as error:
            _log.warning("a worker's connection from %s was refused: %s", address[0], error)
            sock.close()
        finally:
            too_late.cancel()
            self._is_no_stranger(same)
            same.close()

    def _open(self, link: ssl.SSLSocket, known: Callable[[], None]) -> None:
        """Calls `known` once the other end has shown that it is a worker's."""
        words = hear(link)
        opens = self._continue if "session" in words else self._begin
        try:
            opened = opens(link, words, known)
        except LinkRefused as refused:
            say(link, {"refusal": str(refused)})
            raise
        opened(link)

    def _begin(
        self, link: ssl.SSLSocket, words: dict[str, str], known: Callable[[], None]
    ) -> Opened:
        """The first connection, by a secret."""
        session, key = secrets.token_hex(16), secrets.token_bytes(32)
        secret = _hashed(words.get("secret", ""))
        with self._lock:
            opened = self._expected.pop(secret, None)
            if opened is None:
                raise LinkRefused(
                    "the worker's secret is of no worker that is awaited, or was used before"
                )
            _compare_versions(words)
            self._sessions[session] = _Open(secret, key, opened)
        known()
        say(link, {"session": session, "key": key.hex(), "lease": str(self._lease)})
        settle(link)
        return opened

    def _continue(
        self, link: ssl.SSLSocket, words: dict[str, str], known: Callable[[], None]
    ) -> Opened:
        """Another connection of a session, by its key."""
        one = self._session(words["session"])
        known()  # nobody else can name it; the key is asked for all the same
        challenge = secrets.token_hex(32)
        say(link, {"challenge": challenge})
        proof = hear(link).get("proof", "")
        if not hmac.compare_digest(
            proof.encode(), proof_of(one.key, challenge, self._fingerprint).encode()
        ):
            raise LinkRefused("the worker has not the key of its session")
        _compare_versions(words)
        self._session(words["session"])  # it may be over by now
        say(link, {})
        settle(link)
        return one.opened

    def _session(self, name: str) -> _Open:
        with self._lock:
            one = self._sessions.get(name)
        if one is None:
            raise LinkRefused(
                "the worker's session is over: its runs have ended, or are executed elsewhere"
            )
        return one


def _compare_versions(words: dict[str, str]) -> None:
    """Of an end that has shown who it is: others are not told ours."""
    if (theirs := words.get("version", "")) != (ours := both_versions()):
        raise LinkRefused(
            f"the worker has Pullcord {theirs}, and the server {ours}: both must have the same"
        )


def _hashed(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
