"""Static tokens: a file with a line for each, `sha256-hex tenant subject grants`.

The file holds digests, so that reading it gives nobody a token. It is read again when it changes; a
file that cannot be read any more leaves the last one standing, and the log says so.
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pullcord.identity.changes import Changes
from pullcord.run.principal import Principal, principal

_DIGEST = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger("pullcord.identity")


class TokensError(ValueError):
    """The file of tokens cannot be used; the message names the line."""


class TokenFile:
    """A TokenVerifier of one file. Used on one loop."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises TokensError, OSError."""
        self._path = path
        self._changes = Changes((path,), clock)
        self._known = read_tokens(path.read_text())

    async def verify(self, token: str) -> Principal | None:
        """The caller; None: the token is not in the file.

        The table is looked up by the token's digest, so that its time shows nobody how much of a
        guessed token was right.
        """
        if self._changes.seen():
            self._read_again()
        return self._known.get(hashlib.sha256(token.encode(errors="replace")).hexdigest())

    def _read_again(self) -> None:
        try:
            self._known = read_tokens(self._path.read_text())
        except (OSError, ValueError) as error:
            _log.error("%s is not read again, the last tokens stand: %s", self._path, error)
        else:
            _log.info("%s was read again: %d tokens", self._path, len(self._known))


def read_tokens(text: str) -> Mapping[str, Principal]:
    """The callers by the SHA-256 of their tokens. Lines that begin with # are comments.

    Raises:
        TokensError: a line is not `sha256-hex tenant subject grants`.
    """
    known: dict[str, Principal] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 4 or _DIGEST.fullmatch(words[0]) is None:
            raise TokensError(
                f"line {number} must be `sha256-hex tenant subject grants`, such as … acme ann user"
            )
        digest, tenant, subject = words[:3]
        if digest in known:
            raise TokensError(f"line {number} has the same token as another line")
        grants = [grant for word in words[3:] for grant in word.split(",") if grant]
        try:
            known[digest] = principal(tenant, subject, grants, kind="token")
        except ValueError as error:
            raise TokensError(f"line {number}: {error}") from None
    return known


def digest_of(token: str) -> str:
    """The digest that the file has for this token."""
    return hashlib.sha256(token.encode()).hexdigest()
