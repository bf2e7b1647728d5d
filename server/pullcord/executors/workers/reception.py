"""Where workers elsewhere connect: TLS, and a secret that opens one link, once.

It knows whom it expects, by the hash of their secrets. What a link carries is not known here.
"""

import hashlib
import logging
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

from pullcord.executors.workers.certificate import own_certificate
from pullcord.link.greeting import (
    TIMEOUT,
    LinkRefused,
    Ticket,
    both_versions,
    hear,
    say,
    settle,
)

_log = logging.getLogger("pullcord.workers")

_AT_ONCE = 64
"""Greetings at a time; further connections wait to be accepted."""

Opened = Callable[[ssl.SSLSocket], None]


class Reception:
    """The listening socket for workers. Any thread may call."""

    def __init__(self, host: str, port: int) -> None:
        """Raises OSError if nothing can listen there, and MissingExtra."""
        self._context, self._fingerprint = own_certificate()
        self._sock = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        self.host, self.port = self._sock.getsockname()[:2]
        self._lock = threading.Lock()
        self._expected: dict[bytes, Opened] = {}
        self._greeting = threading.Semaphore(_AT_ONCE)
        self._closed = False
        threading.Thread(target=self._accept, name="pullcord-reception", daemon=True).start()

    def expect(self, opened: Opened) -> Ticket:
        """A ticket for one worker; once that has connected, `opened` gets its link."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._expected[_hashed(secret)] = opened
        return Ticket(secret, self._fingerprint)

    def forget(self, ticket: Ticket) -> None:
        """Nobody comes with this ticket any more."""
        with self._lock:
            self._expected.pop(_hashed(ticket.secret), None)

    def close(self) -> None:
        """Nobody can connect any more."""
        self._closed = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._sock.close()

    def _accept(self) -> None:
        while not self._closed:
            self._greeting.acquire()
            try:
                sock, address = self._sock.accept()
            except OSError as error:
                self._greeting.release()
                if not self._closed:
                    _log.warning("a worker's connection could not be accepted: %s", error)
                    threading.Event().wait(1)
                continue
            threading.Thread(
                target=self._greet, args=(sock, address), name="pullcord-greeting", daemon=True
            ).start()

    def _greet(self, sock: socket.socket, address: tuple[str, int]) -> None:
        # However slowly the other end speaks, this is over in time.
        same = sock.dup()
        too_late = threading.Timer(TIMEOUT, _shut, args=(same,))
        too_late.daemon = True
        too_late.start()
        try:
            sock.settimeout(TIMEOUT)
            link = self._context.wrap_socket(sock, server_side=True)
            try:
                self._open(link)
            except BaseException:
                link.close()
                raise
        except (LinkRefused, OSError) as error:
            _log.warning("a worker's connection from %s was refused: %s", address[0], error)
            sock.close()
        finally:
            too_late.cancel()
            same.close()
            self._greeting.release()

    def _open(self, link: ssl.SSLSocket) -> None:
        words = hear(link)
        with self._lock:
            opened = self._expected.pop(_hashed(words.get("secret", "")), None)
        refusal = ""
        if opened is None:
            refusal = "the worker's secret is of no worker that is awaited, or was used before"
        elif (theirs := words.get("version", "")) != (ours := both_versions()):
            refusal = (
                f"the worker has Pullcord {theirs}, and the server {ours}: both must have the same"
            )
        if refusal or opened is None:
            say(link, {"refusal": refusal})
            raise LinkRefused(refusal)
        say(link, {})
        settle(link)
        opened(link)


def _hashed(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
