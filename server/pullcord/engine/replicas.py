"""This process among those that share its store: what others recorded reaches the runs here.

The store's thread calls, and must not wait; what may wait is done in a thread here. How a run is
stopped, continued or begun is the run's and admission's business.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial

from pullcord.engine.directory import Directory
from pullcord.engine.journal import is_news
from pullcord.engine.live.live import Key, LiveRun
from pullcord.engine.sharing import Asked, Sharing
from pullcord.run.cancel import CancelRequest
from pullcord.run.errors import InvalidArgument, PullcordError, RunNotPaused, StoreUnavailable
from pullcord.run.events import RunError
from pullcord.run.record import Run

_log = logging.getLogger("pullcord.engine")

_LOST = RunError("RunLost", "the server process that executed the run was taken for dead")


class Replicas:
    """The ear of one engine."""

    def __init__(
        self,
        sharing: Sharing,
        directory: Directory,
        take_over: Callable[[], None],
        record: Callable[[LiveRun], object],
        put_down: Callable[[LiveRun], bool],
        on_lost: Callable[[Run], object],
    ) -> None:
        """`take_over` admits runs that nobody executes; it may block. `record` records the stop of
        a run again; it does not. `put_down` lets go of a run that others can take up. `on_lost` is
        told of runs of dead processes that were ended here."""
        self._on_lost = on_lost
        self._sharing = sharing
        self._directory = directory
        self._take_over = take_over
        self._record = record
        self._put_down = put_down
        self._moved: list[LiveRun] = []
        self._changed = threading.Condition()
        self._waiting: dict[Key, Callable[[], None]] = {}
        self._decisions: dict[Key, Asked] = {}
        self._decided: set[tuple[Key, int]] = set()
        self._watched: dict[Key, LiveRun] = {}
        self._asks: deque[tuple[LiveRun, Callable[[], None]]] = deque()
        self._looks = self._takes = self._closed = False
        self._thread = threading.Thread(target=self._run, name="pullcord-replicas", daemon=True)

    def begin(self) -> None:
        """From now on this process hears of the others."""
        self._thread.start()
        self._sharing.listen(self)

    def close(self) -> None:
        """Hears nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_for_turn(self, live: LiveRun, begin: Callable[[], None]) -> None:
        """Calls `begin`, which may block, when a run elsewhere has ended: it may be the turn."""
        with self._changed:
            self._waiting[live.key] = begin

    def ask_others(self, live: LiveRun, alone: Callable[[], None]) -> None:
        """Calls `alone` if nobody watches the run at other processes either."""
        with self._changed:
            self._asks.append((live, alone))
        self._look()

    # --- the ear

    def stop(self, key: Key, request: CancelRequest) -> None:
        """Stops a run that is live here, unless it is being stopped so already."""
        live = self._directory.here(*key)
        if live is not None and is_news(live, request):
            live.stop(request)

    def decide(self, key: Key, asked: Asked) -> None:
        """Lets a run go on, once for each question."""
        if self._directory.here(*key) is None or (key, asked.question) in self._decided:
            return
        with self._changed:
            self._decisions[key] = asked
        self._look()

    def watched(self, keys: Collection[Key]) -> None:
        """Those who watch elsewhere are watchers, too."""
        for key in set(keys) - set(self._watched):
            if (live := self._directory.here(*key)) is not None:
                self._watched[key] = live
                live.presence.come()
        for key in set(self._watched) - set(keys):
            self._watched.pop(key).presence.leave()

    def lost(self, run: Run) -> None:
        """Somebody is to know of it."""
        self._on_lost(run)

    def turns(self) -> None:
        """Another one's turn may have come."""
        if self._waiting or self._asks:
            self._look()

    def queued(self) -> None:
        """There may be runs to take over."""
        self._takes = True
        self._look()

    def fenced(self) -> None:
        """All that was live here is stopped, since the store has, or gets, another end for it; but
        what waits for a decision, and can be continued by others, is let go of."""
        for live in self._directory.all_here():
            if self._put_down(live):
                live.log.leave()
                self._moved.append(live)
            else:
                live.break_off(_LOST)
        self._look()

    def unfenced(self) -> None:
        """Shows the events that were held back."""
        for live in self._directory.all_here():
            live.log.ring()

    def forgotten(self) -> None:
        """Stops that were accepted are recorded again."""
        for live in self._directory.all_here():
            if live.cancellation is not None:
                self._record(live)

    # --- inside

    def _follow(self, live: LiveRun) -> None:
        """Others have taken up a run that was live here: who waits here hears of its end."""
        try:
            run = self._directory.find(*live.key)
        except StoreUnavailable:
            self._moved.append(live)  # until the next look
            raise
        run.on_end(lambda: live.ending.stand_as(run.snapshot()))

    def _decide(self, key: Key, asked: Asked) -> None:
        if (run := self._directory.find_here(*key)) is None:
            return
        with suppress(RunNotPaused, InvalidArgument):
            run.decide(asked.decisions, asked.actor)
        self._decided = {done for done in self._decided if self._directory.here(*done[0])}
        self._decided.add((key, asked.question))

    def _ask(self, live: LiveRun, alone: Callable[[], None]) -> None:
        try:
            watched = self._sharing.is_watched(*live.key)
        except StoreUnavailable:
            self._asks.append((live, alone))  # until the next look
            return
        if not watched:
            alone()

    def _look(self) -> None:
        with self._changed:
            self._looks = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._looks or self._closed)
                if self._closed:
                    return
                takes, self._looks, self._takes = self._takes, False, False
                waiting, self._waiting = self._waiting, {}
                asks, self._asks = self._asks, deque()
                decisions, self._decisions = self._decisions, {}
                moved, self._moved = self._moved, []
            calls: list[Callable[[], None]] = [partial(self._ask, *one) for one in asks]
            calls += [partial(self._follow, live) for live in moved]
            calls += [partial(self._decide, *made) for made in decisions.items()]
            calls += [*waiting.values(), *([self._take_over] if takes else [])]
            for call in calls:
                try:
                    call()
                except PullcordError as error:
                    _log.warning("%s", error)
                except Exception:
                    _log.exception("a run of another process could not be taken up; tried again")
