"""Links by which somebody decides for one paused run, once: made for a webhook, and verified.

A link says whose run, which one, which question and until when, signed with a key of the server.
Nothing is kept of it: it is good once, because a run takes one decision on a question.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pullcord.run.events import ToolCall, ToolCallState
from pullcord.run.principal import Grants, Principal, Verb, Width
from pullcord.run.record import Run
from pullcord.run.scope import Scope
from pullcord.run.state import RunState

PATH = "/v1/approvals"
"""The path of links on a server; the rest follows a slash."""
ACTOR = "approval link"
"""The actor of a decision by link, in receipts, events and the audit log."""
_PREFIX = b"pullcord-approval."
"""What is signed begins so: no other signature of the key is taken for one."""
_MAX_TOKEN = 2048
_SAME = 5
"""Milliseconds by which two readings of one time may differ."""


class LinkRefused(Exception):
    """It is no link of this server, or no longer."""


@dataclass(frozen=True, slots=True)
class Approval:
    """The run and the call that a link is for."""

    scope: Scope
    run_id: str
    calls: str
    """A digest of the ids of the calls that waited."""
    asked: int
    """When they began to, in milliseconds since the epoch."""

    @property
    def principal(self) -> Principal:
        """The holder of the link, who may see this run, and decide for it, and nothing else."""
        may = {Verb.WATCH: Width.TENANT, Verb.CONTINUE: Width.TENANT}
        tenant = self.scope.tenant
        return Principal(tenant, ACTOR, Grants(may), "approval-link", only_run=self.run_id)

    def is_open(self, run: Run) -> bool:
        """Whether the run still waits with this question. Ids may come again in a later one, so the
        time counts, too."""
        if run.state is not RunState.PAUSED:
            return False
        waiting = waiting_calls(run)
        return _digest(waiting) == self.calls and abs(_asked(waiting) - self.asked) <= _SAME


class ApprovalLinks:
    """Makes and verifies links. Any thread may call."""

    def __init__(
        self,
        base: str,
        keys: Sequence[bytes],
        lifetime: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`base` is what links begin with. The first key signs; each may have."""
        self._base = base
        self._keys = keys
        self._lifetime = lifetime
        self._clock = clock

    def make(self, run: Run) -> tuple[str, float]:
        """The link of a paused run, and when it expires, in seconds since the epoch."""
        waiting = waiting_calls(run)
        asked = _asked(waiting)
        expires_at = int(asked / 1000 + self._lifetime) + 1
        said = [run.tenant, run.owner, run.run_id, _digest(waiting), asked, expires_at]
        body = _encoded(json.dumps(said, separators=(",", ":")).encode())
        return f"{self._base}/{body}.{_signature(self._keys[0], body)}", float(expires_at)

    def read(self, token: str) -> Approval:
        """Reads the last part of a link. Raises LinkRefused."""
        body, _, signature = token.partition(".")
        if len(token) > _MAX_TOKEN or not token.isascii():
            raise LinkRefused
        if not any(hmac.compare_digest(_signature(key, body), signature) for key in self._keys):
            raise LinkRefused
        try:
            tenant, owner, run_id, calls, asked, expires_at = json.loads(_decoded(body))
        except (binascii.Error, ValueError) as error:  # never: it was signed
            raise LinkRefused from error
        if expires_at <= self._clock():
            raise LinkRefused
        return Approval(Scope(tenant, owner), run_id, calls, asked)


def derived_key(secret: bytes) -> bytes:
    """A key for links, of a secret that has another purpose."""
    return hmac.digest(secret, b"pullcord approval links", "sha256")


def waiting_calls(run: Run) -> list[ToolCall]:
    """The calls that wait for a decision, in order."""
    return [call for call in run.tool_calls if call.state is ToolCallState.WAITING]


def _digest(calls: Sequence[ToolCall]) -> str:
    ids = json.dumps(sorted(call.tool_call_id for call in calls))
    return hashlib.sha256(ids.encode()).hexdigest()[:32]


def _asked(calls: Sequence[ToolCall]) -> int:
    return round(max((call.start_time for call in calls), default=0.0) * 1000)


def _signature(key: bytes, body: str) -> str:
    return _encoded(hmac.digest(key, _PREFIX + body.encode(), hashlib.sha256))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
