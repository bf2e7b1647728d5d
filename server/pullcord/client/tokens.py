"""A client's bearer token: where each call gets it, and what keeps it from being read on the way.

A token comes from its provider for each call, so that one that was replaced is used at once.
"""

from collections.abc import Callable
from pathlib import Path

from pullcord.run.loopback import stays_here

Token = str | Callable[[], str]
"""A token, or what is asked for it before each call. Quick, and called on the loop of an async
client: a provider that asks a network does so in a thread of its own, ahead of time."""


class TokenOnPlainLine(ValueError):
    """A token would be sent over a connection that others can read."""

    def __init__(self, target: str) -> None:
        super().__init__(
            f"a token for {target} could be read on its way, as the connection is not encrypted;"
            " pass credentials, such as grpc.ssl_channel_credentials()"
        )


class FileToken:
    """A provider that reads a file for each call, so that a renewed token is used at once."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def __call__(self) -> str:
        """The token. Raises OSError, or ValueError for an empty file."""
        token = self._path.read_text().strip()
        if not token:
            raise ValueError(f"{self._path} holds no token")
        return token


def authorization(token: Token) -> tuple[str, str]:
    """The metadata entry of a call."""
    return "authorization", f"Bearer {token() if callable(token) else token}"


def check_line(target: str, encrypted: bool) -> None:
    """Raises TokenOnPlainLine."""
    if not encrypted and not stays_here(target):
        raise TokenOnPlainLine(target)
