"""Opens the link to a worker on another machine. Over TLS with a pinned certificate, the worker
sends its one-time secret, and both ends compare their versions. Nothing here knows the frames.
"""

import hashlib
import hmac
import json
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version

from pullcord.link.values import VERSION

CONNECT = "PULLCORD_WORKER_CONNECT"
"""The environment variable with the address that a worker connects to."""
SECRET = "PULLCORD_WORKER_SECRET"
"""That with its ticket."""
SECRET_FILE = "PULLCORD_WORKER_SECRET_FILE"
"""Or that with a file which holds it."""

TIMEOUT = 10.0
"""Seconds that a greeting may take."""
_MOST = 4096
"""Bytes of a greeting."""
_CUT_AFTER = 30
"""Seconds after which a link is cut whose other end's machine answers nothing. That is a partition:
the kernel of a machine answers for however slow a process."""


class LinkRefused(Exception):
    """The link cannot be opened; the message says why."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a launcher hands over to one worker."""

    secret: str
    fingerprint: str
    """The SHA-256 of the server's certificate, in hexadecimal."""

    def __str__(self) -> str:
        return f"{self.secret}.{self.fingerprint}"

    @classmethod
    def of(cls, text: str) -> "Ticket":
        """Reads it. Raises LinkRefused."""
        secret, _, fingerprint = text.strip().partition(".")
        if not secret or len(fingerprint) != 64:
            raise LinkRefused(f"{SECRET} does not hold what the server gave to the worker command")
        return cls(secret, fingerprint)


def fingerprint_of(certificate: bytes) -> str:
    """Of a certificate in DER."""
    return hashlib.sha256(certificate).hexdigest()


def both_versions() -> str:
    """Of the package and of its frames: both ends must have the same."""
    return f"{version('pullcord')} ({VERSION})"


def call(host: str, port: int, ticket: Ticket) -> ssl.SSLSocket:
    """Opens the link, as a worker. Raises LinkRefused, or OSError where nobody is there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # no authority signed it: it is compared below
    sock = socket.create_connection((host, port), TIMEOUT)
    try:
        link = context.wrap_socket(sock)
    except BaseException:
        sock.close()
        raise
    try:
        found = fingerprint_of(link.getpeercert(binary_form=True) or b"")
        if not hmac.compare_digest(found, ticket.fingerprint):
            raise LinkRefused(
                f"{host}:{port} is not the server that started this worker: its certificate is"
                " another"
            )
        say(link, {"secret": ticket.secret, "version": both_versions()})
        if refusal := hear(link).get("refusal"):
            raise LinkRefused(refusal)
        settle(link)
        # The server always reads, so what it does not take for so long does not reach it. A worker
        # may be slow to read: there the pulse, which knows it, says when it has been silent too
        # long.
        _set(link, "TCP_USER_TIMEOUT", _CUT_AFTER * 1000)
    except BaseException:
        link.close()
        raise
    return link


def say(link: ssl.SSLSocket, words: dict[str, str]) -> None:
    """Sends a part of the greeting."""
    message = json.dumps(words).encode()
    link.sendall(len(message).to_bytes(4, "big") + message)


def hear(link: ssl.SSLSocket) -> dict[str, str]:
    """Reads a part of the greeting, and nothing behind it. Raises LinkRefused."""
    length = int.from_bytes(_exactly(link, 4), "big")
    if length > _MOST:
        raise LinkRefused("the other end sent no greeting of Pullcord's")
    try:
        words = json.loads(_exactly(link, length))
    except ValueError:
        words = None
    if not isinstance(words, dict):
        raise LinkRefused("the other end sent no greeting of Pullcord's")
    return {str(name): str(value) for name, value in words.items()}


def _exactly(link: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = link.recv(size - len(data))
        if not more:
            raise LinkRefused("the other end closed the connection")
        data += more
    return data


def settle(link: ssl.SSLSocket) -> None:
    """Lets an open link be silent, and cuts it while it is silent and the other end's machine
    answers nothing."""
    link.settimeout(None)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _set(link, "TCP_KEEPIDLE", _CUT_AFTER // 3)
    _set(link, "TCP_KEEPINTVL", _CUT_AFTER // 6)
    _set(link, "TCP_KEEPCNT", 4)


def _set(link: ssl.SSLSocket, name: str, value: int) -> None:
    """Sets an option where the system has it."""
    with suppress(OSError, AttributeError):
        link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
