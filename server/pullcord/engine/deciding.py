"""Brings decisions to paused runs that are live here, in a store that outlives the process.

The store records a decision before the run goes on by it. So of several deciders, at whichever
processes, one is heard; and a process that was taken for dead cannot go on with a run that others
have taken up. What a decision makes of a run is the run's own business.
"""

from collections.abc import Callable, Sequence
from functools import partial

from pullcord.engine.journal import Journal
from pullcord.engine.live.live import LiveRun
from pullcord.engine.ports import RunStore
from pullcord.engine.recording import PATIENCE
from pullcord.engine.sharing import Asked
from pullcord.run.errors import PullcordError, RunNotPaused, StoreUnavailable
from pullcord.run.record import Decision, Run

_SOON = 1.0
"""Seconds until a store is asked again that did not answer."""
_WORDS = (
    "the store does not answer, so the decision may not be recorded yet; ask again, with the same"
)


class Decider:
    """Any thread that may block may call."""

    def __init__(
        self, store: RunStore, journal: Journal, again: Callable[[Callable[[], None], float], None]
    ) -> None:
        """`again` makes a call after so many seconds, in a thread that may block."""
        self._store = store
        self._journal = journal
        self._again = again

    def decide(self, live: LiveRun, decisions: Sequence[Decision], actor: str) -> Run:
        """Lets the run go on, if it waits for just these decisions; returns it as it then is.

        Raises:
            RunNotPaused, InvalidArgument: nothing was changed.
            StoreUnavailable: the run goes on as soon as the store answers, if it then takes them.
        """
        try:
            return self._decide(live, decisions, actor)
        except StoreUnavailable as error:
            self._again(partial(self._try, live, decisions, actor), _SOON)
            raise StoreUnavailable(_WORDS) from error

    def _decide(self, live: LiveRun, decisions: Sequence[Decision], actor: str) -> Run:
        with live.deciding(decisions) as sequence:
            if not self._journal.wait_written(live, PATIENCE):
                raise StoreUnavailable
            asked = Asked(tuple(decisions), actor, sequence)
            if not self._store.go_on(*live.key, asked):
                raise RunNotPaused(live.run_id, live.state)
            return live.decide(decisions, actor)

    def _try(self, live: LiveRun, decisions: Sequence[Decision], actor: str) -> None:
        """Once more. Raises StoreUnavailable, and is then tried again."""
        try:
            self._decide(live, decisions, actor)
        except StoreUnavailable:
            raise
        except PullcordError:  # it has gone on meanwhile, or has ended
            return
