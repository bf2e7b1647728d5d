"""Delivers notices: claims what is due, sends it, and sends it again until the receiver has it.

In a thread with a loop of its own, away from the loop of the RPCs and from every run. What is not
delivered when the server stops stays in a store that lasts.
"""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from pullcord.engine.engine import Engine
from pullcord.engine.notices import KEPT, Notice, Notices
from pullcord.identity.approval_links import ApprovalLinks
from pullcord.run.errors import RunNotFound, StoreUnavailable
from pullcord.run.record import Run
from pullcord.run.state import TERMINAL, RunState
from pullcord.webhooks.bodies import EVENTS, body_of, event_of
from pullcord.webhooks.sending import Answer, Outcome, Sender
from pullcord.webhooks.signing import message_id

_MOST = 8
"""Webhooks that are under way at a time."""
_LOOK = 0.5
"""Seconds between two looks for what is due."""
_LEASE = 60.0
"""Seconds in which a claimed notice must be settled; sending takes less."""
_FIRST, _LONGEST = 2.0, 3600.0
"""Seconds until the second try, and between the later ones at most."""
_COUNT = 15.0
"""Seconds between two counts of what waits."""

_log = logging.getLogger("pullcord.webhooks")


class Webhooks:
    """The webhooks of one server. `open` it before its runs are recovered; then begin, and end."""

    def __init__(
        self,
        url: str,
        keys: Sequence[bytes],
        *,
        events: Collection[str] = EVENTS,
        private: bool = False,
        links: ApprovalLinks | None = None,
        meter: metrics.Meter | None = None,
    ) -> None:
        """`private`: the address need not be a public one. `links`: of those who may decide."""
        self._url, self._keys, self._private = url, keys, private
        self._events = frozenset(events)
        self._links = links
        self._engine: Engine | None = None
        self._notices: Notices | None = None
        self._thread: threading.Thread | None = None
        self._flush_until: float | None = None
        self._waiting = 0
        meter = meter or metrics.get_meter("pullcord")
        self._counted = meter.create_counter(
            "pullcord.webhooks.tries", description="Tries to deliver a webhook, by what came of it"
        )
        meter.create_observable_gauge(
            "pullcord.webhooks.pending",
            [lambda options: [Observation(self._waiting)]],
            "{webhook}",
            "Webhooks that are not delivered yet, of all servers that share the store",
        )

    def open(self, engine: Engine) -> None:
        """From now on ends and pauses are noted. Blocks. Raises StoreUnavailable."""
        self._engine = engine
        self._notices = engine.open_notices()

    def begin(self) -> None:
        """From now on they are delivered."""
        self._thread = threading.Thread(target=self._main, name="pullcord-webhooks", daemon=True)
        self._thread.start()

    def end(self, flush: float) -> None:
        """Sends what is due, for at most so many seconds, and ends. Blocks."""
        self._flush_until = time.monotonic() + flush
        if self._thread is None:
            return
        self._thread.join(flush + 5.0)
        assert self._engine is not None
        if self._waiting and not self._engine.lasts:
            _log.error("%d webhooks are lost: runs are kept in memory", self._waiting)

    # --- the thread

    def _main(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._deliver())

    async def _deliver(self) -> None:
        assert self._notices is not None
        sender = Sender(self._url, self._keys, private=self._private, most=_MOST)
        under_way: set[asyncio.Task[None]] = set()
        counted = -_COUNT
        try:
            while True:
                room = _MOST - len(under_way)
                found = await self._claim(room) if room else []
                for notice in found:
                    task = asyncio.create_task(self._attend(sender, notice))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                if time.monotonic() - counted > _COUNT or self._is_over(under_way):
                    counted = time.monotonic()
                    await self._count()
                if self._is_over(under_way):
                    return
                if under_way:
                    first = asyncio.FIRST_COMPLETED
                    await asyncio.wait(under_way, timeout=_LOOK, return_when=first)
                else:
                    await asyncio.sleep(_LOOK)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await sender.close()

    def _is_over(self, under_way: Collection[object]) -> bool:
        if self._flush_until is None:
            return False
        return not under_way or time.monotonic() >= self._flush_until

    async def _claim(self, most: int) -> Sequence[Notice]:
        assert self._notices is not None
        try:
            return await asyncio.to_thread(self._notices.claim, most, _LEASE)
        except StoreUnavailable as error:
            _log.warning("webhooks wait for the store: %s", error)
        except Exception:
            _log.exception("the store could not say which webhooks are due")
        await asyncio.sleep(_LOOK)
        return []

    async def _count(self) -> None:
        assert self._notices is not None
        with contextlib.suppress(StoreUnavailable):
            self._waiting = await asyncio.to_thread(self._notices.pending)

    # --- one notice

    async def _attend(self, sender: Sender, notice: Notice) -> None:
        try:
            again = await self._send(sender, notice)
        except asyncio.CancelledError:
            again = 0.0  # the server stops: the next one may have it at once
        except StoreUnavailable:
            again = _FIRST
        except Exception:
            _log.exception("the webhook of run %s failed", notice.run_id)
            again = _wait(notice)
        assert self._notices is not None
        # If the store does not take it, the webhook is due again once its lease is over.
        with contextlib.suppress(StoreUnavailable):
            await asyncio.shield(asyncio.to_thread(self._notices.settle, notice, again))

    async def _send(self, sender: Sender, notice: Notice) -> float | None:
        """Seconds until it is sent again; None: it is not."""
        event = event_of(notice)
        if event not in self._events or not notice.stands:
            return None
        body = await asyncio.to_thread(self._body, notice)
        if body is None:
            return None
        answer = await sender.send(message_id(notice), body)
        outcome, again = self._judge(sender, notice, answer)
        self._counted.add(1, {"type": event, "outcome": outcome})
        return again

    def _body(self, notice: Notice) -> bytes | None:
        """None: the pause is over."""
        assert self._engine is not None
        run: Run | None = None
        words = ""
        with contextlib.suppress(RunNotFound):
            found = self._engine.find(notice.run_id, scope=notice.scope)
            run, words = found.snapshot(), found.question()
        if notice.question:
            if run is None or run.state is not RunState.PAUSED:
                return None
            return body_of(notice, run, {"question": words} | self._link(run))
        if run is not None and run.state not in TERMINAL:  # another one of that id
            run = None
        return body_of(notice, run, {})

    def _link(self, run: Run) -> dict[str, str]:
        """The links by which somebody decides about a paused run."""
        if self._links is None:
            return {}
        link, expires_at = self._links.make(run)
        until = datetime.fromtimestamp(expires_at, UTC).isoformat()
        return {"approval_url": link, "approval_expire_time": until}

    def _judge(self, sender: Sender, notice: Notice, answer: Answer) -> tuple[str, float | None]:
        told = (event_of(notice), notice.run_id, sender.shown, answer.words)
        match answer.outcome:
            case Outcome.DELIVERED:
                return answer.outcome, None
            case Outcome.GONE:
                _log.warning("%s of run %s is not delivered: %s, %s", *told)
                return answer.outcome, None
        again = max(_wait(notice), answer.wait)
        if notice.age + again > KEPT:
            _log.error("%s of run %s was not delivered in a day, and is given up: %s, %s", *told)
            return "given_up", None
        _log.warning("%s of run %s was not delivered: %s, %s; again in %.0f s", *told, again)
        return answer.outcome, again


def _wait(notice: Notice) -> float:
    """Twice as long after each try, and never as long for two of one moment."""
    longest = min(_FIRST * 2.0 ** min(notice.tries, 20), _LONGEST)
    return longest * random.uniform(0.5, 1.0)
