"""The part that all transports of one server share: verbs, callers, and whether it takes new runs.

It is made, opened and closed once a server, on the loop of its calls. It knows no transport.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from pullcord.engine.engine import Engine
from pullcord.identity.authenticator import Authenticator
from pullcord.identity.run_tokens import RunTokens
from pullcord.run.caller import Caller
from pullcord.run.record import Run, RunSpec
from pullcord.service.access import Access, Policy, everybody
from pullcord.service.audit import Audit, NoAudit
from pullcord.service.following import Following
from pullcord.service.lanes import Lanes
from pullcord.service.notifier import Notifier
from pullcord.service.quotas import Quotas
from pullcord.service.readers import Readers
from pullcord.service.verbs import Catalog, Verbs
from pullcord.transports.answering import Answering
from pullcord.transports.calls import Callers
from pullcord.transports.encoding import Encoder

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Doors:
    """The rules for callers: their verification, permissions, shares and audit log."""

    authenticator: Authenticator | None = None
    """None: nobody is verified, and everybody may do everything."""
    policy: Policy = everybody
    own_approval: bool = True
    """Whether callers may decide about the calls of their own runs."""
    quotas: Quotas = field(default_factory=Quotas)
    audit: Audit = field(default_factory=NoAudit)
    run_tokens: RunTokens = field(default_factory=RunTokens)


class Front:
    """The front of one server. Made and used on one loop; open it, and close it."""

    def __init__(self, engine: Engine, catalog: Catalog, doors: Doors, heartbeat: float) -> None:
        """A stream on which nothing happened for `heartbeat` seconds gets a heartbeat."""
        loop = asyncio.get_running_loop()
        self.engine = engine
        self._notifier = Notifier(loop, heartbeat)
        self.lanes = Lanes(loop, engine.options.max_live_runs)
        self._readers = Readers(loop, engine.options.max_finished_bytes)
        self.verbs = Verbs(
            engine,
            catalog,
            self.lanes,
            self._notifier,
            self._readers,
            Access(engine, doors.policy, own_approval=doors.own_approval),
            doors.quotas,
            doors.audit,
            doors.run_tokens,
        )
        self.callers = Callers(doors.authenticator, doors.audit, doors.run_tokens)
        self.encoder = Encoder()
        most, parts = engine.options.max_input_bytes, engine.options.part_bounds
        self.answering = Answering(self.verbs, self.lanes.requests, self.encoder, most, parts)
        self.heartbeat = heartbeat
        self._drains = False
        self._troubles: set[str] = set()
        """Parts of the server without which no new run can be executed now."""
        self._hears: list[Callable[[bool], None]] = []
        self._tickers: list[asyncio.Task[None]] = []

    async def start(self, caller: Caller, spec: RunSpec) -> Run:
        """Starts a run in the background, in the caller's turn.

        A spec that is wrong is refused before anything else is said about the run.
        """
        return await self._in_turn(caller, spec, self.verbs.start)

    async def run(self, caller: Caller, spec: RunSpec) -> Following:
        """Likewise, and follows it. Close what is returned."""
        return await self._in_turn(caller, spec, self.verbs.run)

    async def _in_turn(
        self, caller: Caller, spec: RunSpec, begin: Callable[[Caller, RunSpec], Awaitable[T]]
    ) -> T:
        options = self.engine.options
        spec.check(options.max_input_bytes, parts=options.part_bounds)
        turn = await self.verbs.turn(caller)
        try:
            return await begin(caller, spec)
        finally:
            turn.leave()

    @property
    def is_serving(self) -> bool:
        """Whether new runs can be executed."""
        return not self._drains and not self._troubles

    def on_serving(self, hears: Callable[[bool], None]) -> None:
        """Calls this whenever it has changed whether new runs can be executed."""
        self._hears.append(hears)

    def set_serving(self, is_so: bool, part: str = "") -> None:
        """Says whether new runs can be executed, as far as one part of the server knows.

        They can if all parts say so; no is for good, once the server drains.
        """
        before = self.is_serving
        if is_so:
            self._troubles.discard(part)
        else:
            self._troubles.add(part)
        self._tell(before)

    def drain(self) -> None:
        """No new runs are taken any more; every call is still served."""
        before = self.is_serving
        self._drains = True
        self._tell(before)

    def _tell(self, before: bool) -> None:
        now = self.is_serving
        if now is not before:
            for hears in self._hears:
                hears(now)

    def open(self) -> None:
        """Begins what goes on beside the calls."""
        for tick in (self._notifier.tick, self._readers.watch):
            self._tickers.append(asyncio.create_task(tick()))

    async def close(self) -> None:
        """Ends it, once all transports have stopped."""
        await self.verbs.close()
        for ticker in self._tickers:
            ticker.cancel()
        await asyncio.gather(*self._tickers, return_exceptions=True)
        self.encoder.close()
        self.lanes.close()
