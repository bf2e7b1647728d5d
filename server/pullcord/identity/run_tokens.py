"""Tokens for one run: made for a caller that may see the run, and handed on to a web page.

A token says whose run, which one, what may be done with it and until when, signed with a key of the
server. Nothing is kept of it, so all servers with one key take each other's.
"""

import base64
import binascii
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pullcord.identity.changes import Changes
from pullcord.run.errors import PermissionDenied, Unauthenticated
from pullcord.run.principal import Grants, Principal, Verb, Width
from pullcord.run.scope import Scope

PREFIX = "pullcord-run."
"""The prefix of every such token, so that no other credential is taken for one."""
MIN_KEY = 32
"""Bytes."""
_MAX_TOKEN = 2048
_NO_KEY = (
    "the replicas of this server share no key, so that others would not take a token for a run; its"
    " operator must give all of them the same file in PULLCORD_RUN_TOKEN_KEY"
)

_log = logging.getLogger("pullcord.identity")


class KeyUnusable(ValueError):
    """The file with the key cannot be used."""


class RunTokens:
    """Makes and verifies tokens. Any thread may call."""

    def __init__(
        self,
        key_file: Path | None = None,
        clock: Callable[[], float] = time.time,
        *,
        of_many: bool = False,
    ) -> None:
        """Without a file the key is this process's own: its tokens are good here, until it ends.
        `of_many`: callers may reach any of several servers, so none is made with such a key.

        Raises:
            OSError, KeyUnusable: the file cannot be read, or holds too little.
        """
        self._path = key_file
        self._clock = clock
        self._is_refused = of_many and key_file is None
        self._key = secrets.token_bytes(MIN_KEY) if key_file is None else read_key(key_file)
        self._changes = None if key_file is None else Changes([key_file])

    def make(
        self, scope: Scope, run_id: str, verbs: Sequence[Verb], lifetime: float
    ) -> tuple[str, float]:
        """The token, and when it expires, in whole seconds since the epoch.

        Raises:
            PermissionDenied: the servers of one store share no key.
        """
        if self._is_refused:
            raise PermissionDenied("create tokens for", f"run {run_id!r}", _NO_KEY)
        expires_at = int(self._clock() + lifetime) + 1
        said = [scope.tenant, scope.owner, run_id, [str(verb) for verb in verbs], expires_at]
        body = _encoded(json.dumps(said, separators=(",", ":")).encode())
        return f"{PREFIX}{body}.{_encoded(self._sign(body))}", float(expires_at)

    def principal(self, token: str) -> Principal:
        """The principal of this token. Raises Unauthenticated."""
        body, _, signature = token.removeprefix(PREFIX).partition(".")
        if len(token) > _MAX_TOKEN or not token.isascii():
            raise Unauthenticated("the token for a run is no such token")
        if not hmac.compare_digest(_encoded(self._sign(body)), signature):
            raise Unauthenticated("the token for a run was not signed with the key of this server")
        try:
            tenant, owner, run_id, verbs, expires_at = json.loads(_decoded(body))
        except (binascii.Error, ValueError) as error:  # never: it was signed
            raise Unauthenticated("the token for a run says nothing") from error
        if expires_at <= self._clock():
            raise Unauthenticated("the token for a run has expired")
        return Principal(
            tenant,
            owner,
            Grants({Verb(verb): Width.OWN for verb in verbs}),
            "run-token",
            expires_at=float(expires_at),
            only_run=run_id,
        )

    def _sign(self, body: str) -> bytes:
        if self._path is not None and self._changes is not None and self._changes.seen():
            try:
                self._key = read_key(self._path)
            except (OSError, KeyUnusable) as error:
                _log.error("%s is not read again, the last key stands: %s", self._path, error)
        return hmac.digest(self._key, f"{PREFIX}{body}".encode(), hashlib.sha256)


def read_key(path: Path) -> bytes:
    """The key in a file. Raises OSError, KeyUnusable."""
    key = path.read_bytes().strip()
    if len(key) < MIN_KEY:
        raise KeyUnusable(
            f"{path} must hold at least {MIN_KEY} bytes that nobody can guess, such as those of"
            " `openssl rand -hex 32`"
        )
    return key


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
