"""The listening socket: what is set on it here, every connection inherits.

A client that stops reading, or dies without a word, is noticed as one of gRPC's is.
"""

import contextlib
import socket
from pathlib import Path

from pullcord.transports.http.options import HttpOptions

_BACKLOG = 2048


def open_socket(address: str, options: HttpOptions) -> socket.socket:
    """A socket that listens. Raises OSError."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        opened = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(FileNotFoundError):
            if Path(path).is_socket():
                Path(path).unlink()
        opened.bind(path)
        opened.listen(_BACKLOG)
        return opened
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(
        host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, where = found[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.reuse_port:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", options.keepalive),
            ("TCP_KEEPINTVL", max(1.0, options.keepalive_timeout / 3)),
            ("TCP_KEEPCNT", 3),
            ("TCP_NODELAY", 1),
            ("TCP_USER_TIMEOUT", 1000 * (options.keepalive + options.keepalive_timeout)),
        ):
            if hasattr(socket, name):  # which a system has differs
                opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), round(value))
        opened.bind(where)
        opened.listen(_BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened
