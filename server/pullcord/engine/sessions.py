"""Whose turn it is in each session: the runs of one conversation, in the order they came.

Every decision is made in one step under the lock here; admission does what follows from it. A run
that waits for its turn holds a place and nothing else: no thread, no task and no timer.

1. A run takes its place when it is admitted. It gives the place up when it has ended and its store
   has it, so that the next run finds it in the history.
2. A run that waits begins when its place is the first. A run that gave up its place, because it was
   stopped while it waited, never begins.
3. Children have no places: the turn is their root's.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pullcord.engine.live.live import LiveRun
from pullcord.run.errors import SessionBusy
from pullcord.run.record import RunSpec, SessionPolicy
from pullcord.run.scope import Scope

Session = tuple[Scope, str, str]
"""Whose it is, for which of his users, and its id. Others may name theirs alike."""

_WAITING = {SessionPolicy.QUEUE, SessionPolicy.SUPERSEDE}
Begin = Callable[[], None]
"""Begins a run whose turn has come. Never raises."""


@dataclass(slots=True)
class _Place:
    live: LiveRun
    waits: bool
    """Whether it begins only when all before it have left."""
    number: int = 0
    begin: Begin | None = None
    """None: it is not ready to begin, or has begun."""
    skipped: bool = False
    """A newer run takes its turn: it is about to be stopped, and must not begin before that."""


class Sessions:
    """The places in every session that has a live run. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may end a run within any step
        self._places: dict[Session, dict[str, _Place]] = {}  # by session and run, in order
        self._begins = threading.local()

    def waits(self, scope: Scope, spec: RunSpec, others: bool) -> bool:
        """Whether a run of this spec would wait for its turn, as it looks now; or may have to, as
        `others`, other processes, have runs of its session."""
        if spec.session_policy not in _WAITING:
            return False
        with self._lock:
            return others or bool(self._places.get(_session(scope, spec)))

    def enter(self, live: LiveRun, number: int = 0, *, again: bool = False) -> None:
        """Takes a place in the run's session, if it has one: the last, or that of the number which
        the store has given it among the runs of all processes. `again`: it was admitted before.

        Raises:
            SessionBusy: the session has a live run, and the spec said to reject.
        """
        spec = live.spec
        if not spec.session_id:
            return
        with self._lock:
            session = _session(live.scope, spec)
            places = self._places.get(session, {})
            if places and spec.session_policy is SessionPolicy.REJECT and not again:
                raise SessionBusy(spec.session_id, next(iter(places)))
            waits = spec.session_policy in _WAITING
            places[spec.run_id] = _Place(live, waits, number)
            if number:  # others may have been given theirs before, and come here after
                places = dict(sorted(places.items(), key=lambda item: item[1].number))
            self._places[session] = places

    def supersede(self, live: LiveRun) -> list[LiveRun]:
        """The runs before this one, the oldest first. From now on none of them begins.

        They are marked before any of them is stopped: the end of one must not begin the next, which
        must be stopped as well. Those that run are the oldest, and so are stopped first.
        """
        with self._lock:
            earlier = []
            for run_id, place in self._places.get(_session(live.scope, live.spec), {}).items():
                if run_id == live.run_id:
                    break
                place.skipped = True
                earlier.append(place.live)
        return earlier

    def is_turn(self, live: LiveRun, begin: Begin) -> bool:
        """Whether the run may begin now. If not, `begin` is called once its turn has come."""
        with self._lock:
            places = self._places.get(_session(live.scope, live.spec), {})
            place = places.get(live.run_id)
            if place is None or not place.waits:
                return True
            if next(iter(places)) == live.run_id and not place.skipped:
                return True
            place.begin = begin
            return False

    def leave(self, live: LiveRun) -> bool:
        """Gives up the run's place, and begins the next run if its turn has come by that.

        True if the run was ready and waiting: it will never begin.
        """
        begin: Begin | None = None
        with self._lock:
            places = self._places.get(_session(live.scope, live.spec), {})
            place = places.pop(live.run_id, None)
            if place is None:
                return False
            if places:
                first = next(iter(places.values()))
                if not first.skipped:
                    begin, first.begin = first.begin, None
            else:
                del self._places[_session(live.scope, live.spec)]
        if begin is not None:
            self._call(begin)
        return place.begin is not None

    def waiting(self) -> list[LiveRun]:
        """The runs that wait for their turn, the newest of each session first."""
        with self._lock:
            return [
                place.live
                for places in self._places.values()
                for place in reversed(places.values())
                if place.begin is not None
            ]

    def __len__(self) -> int:
        """Sessions that have a live run."""
        with self._lock:
            return len(self._places)

    def _call(self, begin: Begin) -> None:
        # A run that cannot begin ends at once, and by that begins the next: a long queue of such
        # runs must not become a deep stack.
        ready: deque[Begin] | None = getattr(self._begins, "ready", None)
        if ready is not None:
            ready.append(begin)
            return
        self._begins.ready = ready = deque([begin])
        try:
            while ready:
                ready.popleft()()
        finally:
            self._begins.ready = None


def _session(scope: Scope, spec: RunSpec) -> Session:
    return scope, spec.user_id, spec.session_id
