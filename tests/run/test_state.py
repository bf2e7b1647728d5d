"""The table of states: what may happen to a run, and what never does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pullcord.run.state import (
    TERMINAL,
    TRANSITIONS,
    IllegalTransition,
    RunState,
    Transition,
    advance,
)

LIFE = {
    RunState.PENDING: {"start": "running", "cancel": "cancelled", "fail": "failed"},
    RunState.RUNNING: {
        "pause": "paused",
        "cancel": "cancelling",
        "complete": "completed",
        "fail": "failed",
    },
    RunState.PAUSED: {"continue": "running", "cancel": "cancelling", "fail": "failed"},
    RunState.CANCELLING: {"cancel": "cancelling", "complete": "cancelled", "fail": "cancelled"},
    RunState.COMPLETED: {},
    RunState.CANCELLED: {},
    RunState.FAILED: {},
}


@pytest.mark.parametrize("state", RunState)
@pytest.mark.parametrize("transition", Transition)
def test_every_pair(state: RunState, transition: Transition) -> None:
    """Each state allows what the table says; anything else raises and names both."""
    expected = LIFE[state].get(transition.value)
    if expected is not None:
        assert advance(state, transition) is RunState(expected)
        return
    before = dict(TRANSITIONS)
    with pytest.raises(IllegalTransition, match=f"{state}.*{transition}") as raised:
        advance(state, transition)
    assert (raised.value.state, raised.value.transition) == (state, transition)
    assert before == TRANSITIONS


def test_terminal_states_are_those_without_a_way_out() -> None:
    """A run that has ended stays as it is."""
    assert {s for s in RunState if not any(s is source for source, _ in TRANSITIONS)} == TERMINAL
    assert all(state.is_terminal == (state in TERMINAL) for state in RunState)


@given(st.lists(st.sampled_from(Transition), max_size=12))
def test_promise_02_from_cancelling_there_is_one_way(happenings: list[Transition]) -> None:
    """Whatever happens to a run that is being cancelled, it can only end CANCELLED."""
    state = RunState.CANCELLING
    for transition in happenings:
        try:
            state = advance(state, transition)
        except IllegalTransition:
            continue
        assert state in {RunState.CANCELLING, RunState.CANCELLED}
