"""The life of a run, as one table from (state, event) to state.

Every change of a run's state is looked up here; nothing else in the program decides where a run
may go. The effects of a change (notifying watchers, stopping code) belong to the engine.
"""

from enum import StrEnum


class RunState(StrEnum):
    """The state of a run."""

    PENDING = "pending"
    """Accepted, waiting for a worker. Admission puts it here; a crash of the replica fails it."""
    RUNNING = "running"
    """At work. An executor puts it here when it begins."""
    PAUSED = "paused"
    """Waiting for somebody's decision, holding no worker."""
    CANCELLING = "cancelling"
    """A stop was accepted. Whatever its code does, and also after a crash, it ends CANCELLED."""
    COMPLETED = "completed"
    """Terminal: it finished by itself."""
    CANCELLED = "cancelled"
    """Terminal: it was stopped."""
    FAILED = "failed"
    """Terminal: it raised an error, or its replica died."""

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended."""
        return self in TERMINAL


class Transition(StrEnum):
    """An event that changes a run's state."""

    START = "start"
    PAUSE = "pause"
    CONTINUE = "continue"
    CANCEL = "cancel"
    COMPLETE = "complete"
    FAIL = "fail"


class IllegalTransition(Exception):
    """The event cannot happen in this state. Nothing was changed."""

    def __init__(self, state: RunState, transition: Transition) -> None:
        super().__init__(f"a run that is {state} cannot {transition}")
        self.state = state
        self.transition = transition


_S, _T = RunState, Transition

TERMINAL = frozenset({_S.COMPLETED, _S.CANCELLED, _S.FAILED})

TRANSITIONS: dict[tuple[RunState, Transition], RunState] = {
    (_S.PENDING, _T.START): _S.RUNNING,
    (_S.PENDING, _T.CANCEL): _S.CANCELLED,
    (_S.PENDING, _T.FAIL): _S.FAILED,
    (_S.RUNNING, _T.PAUSE): _S.PAUSED,
    (_S.RUNNING, _T.CANCEL): _S.CANCELLING,
    (_S.RUNNING, _T.COMPLETE): _S.COMPLETED,
    (_S.RUNNING, _T.FAIL): _S.FAILED,
    (_S.PAUSED, _T.CONTINUE): _S.RUNNING,
    (_S.PAUSED, _T.CANCEL): _S.CANCELLING,
    (_S.PAUSED, _T.FAIL): _S.FAILED,
    # An accepted cancel always cancels: however the code ends, the run ends CANCELLED.
    (_S.CANCELLING, _T.CANCEL): _S.CANCELLING,
    (_S.CANCELLING, _T.COMPLETE): _S.CANCELLED,
    (_S.CANCELLING, _T.FAIL): _S.CANCELLED,
}


def advance(state: RunState, transition: Transition) -> RunState:
    """The state that follows.

    Raises:
        IllegalTransition: the table has no such entry.
    """
    try:
        return TRANSITIONS[state, transition]
    except KeyError:
        raise IllegalTransition(state, transition) from None
