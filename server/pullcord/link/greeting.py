"""Opens the link to a worker on another machine. Over TLS with a pinned certificate, the worker
sends its one-time secret, and gets the key of a session; with that it opens further connections.
Both ends compare their versions. Nothing here knows the frames, or what a session is.
"""

import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
_UNSENT = 128 * 1024
"""Bytes that the system takes and cannot send yet; a ping stands behind no more than that."""


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


@dataclass(frozen=True, slots=True)
class Member:
    """What a worker needs to continue its session."""

    fingerprint: str
    session: str
    """Its id."""
    key: bytes
    lease: float
    """Seconds for which the session goes on without a connection."""


def call(host: str, port: int, ticket: Ticket) -> tuple[ssl.SSLSocket, Member]:
    """Opens the link, as a worker, for the first time. Raises LinkRefused, or OSError where nobody
    is there."""
    link = _connect(host, port, ticket.fingerprint, TIMEOUT)
    with _closing_on_error(link):
        say(link, {"secret": ticket.secret, "version": both_versions()})
        words = _heard(link)
        try:
            key, lease = bytes.fromhex(words["key"]), float(words["lease"])
            member = Member(ticket.fingerprint, words["session"], key, lease)
        except (KeyError, ValueError):
            raise LinkRefused("the other end opened no session") from None
        settle(link)
    return link, member


def call_again(host: str, port: int, member: Member, timeout: float) -> ssl.SSLSocket:
    """Opens another connection of a session. Raises LinkRefused where that can never be, and
    OSError where it may be later; it takes not much more than so many seconds."""
    link = _connect(host, port, member.fingerprint, timeout)
    with _closing_on_error(link):
        say(link, {"session": member.session, "version": both_versions()})
        challenge = _heard(link).get("challenge", "")
        say(link, {"proof": proof_of(member.key, challenge, member.fingerprint)})
        _heard(link)
        settle(link)
    return link


def proof_of(key: bytes, challenge: str, fingerprint: str) -> str:
    """What shows, without the key, that one has it; good for this challenge of this server."""
    return hmac.new(key, f"pullcord {challenge} {fingerprint}".encode(), "sha256").hexdigest()


def _connect(host: str, port: int, fingerprint: str, timeout: float) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # no authority signed it: it is compared below
    sock = socket.create_connection((host, port), timeout)
    try:
        link = context.wrap_socket(sock)
    except BaseException:
        sock.close()
        raise
    with _closing_on_error(link):
        found = fingerprint_of(link.getpeercert(binary_form=True) or b"")
        if not hmac.compare_digest(found, fingerprint):
            raise LinkRefused(
                f"{host}:{port} is not the server that started this worker: its certificate is"
                " another"
            )
    return link


@contextmanager
def _closing_on_error(link: ssl.SSLSocket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        link.close()
        raise


def _heard(link: ssl.SSLSocket) -> dict[str, str]:
    words = hear(link)
    if refusal := words.get("refusal"):
        raise LinkRefused(refusal)
    return words


def say(link: ssl.SSLSocket, words: dict[str, str]) -> None:
    """Sends a part of the greeting."""
    message = json.dumps(words).encode()
    link.sendall(len(message).to_bytes(4, "big") + message)


def hear(link: ssl.SSLSocket) -> dict[str, str]:
    """Reads a part of the greeting, and nothing behind it. Raises LinkRefused, and OSError if the
    connection ends."""
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
            raise ConnectionResetError("the other end closed the connection")
        data += more
    return data


def settle(link: ssl.SSLSocket) -> None:
    """Makes ready an open link, whose ends look by pings whether it still stands."""
    link.settimeout(None)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(OSError, AttributeError):  # where the system has it
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
