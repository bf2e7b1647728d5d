"""Pauses of other frameworks' agents that outlive their process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord import OpenAIAgentsAgent
from pullcord.engine.clock import ThreadClock
from pullcord.run.events import ToolCallState
from pullcord.run.record import Decision
from pullcord.run.state import RunState

from tests.adapters.foreign.kinds import openai_agents_kind
from tests.adapters.foreign.test_contract import pytestmark
from tests.engine.driving import ended
from tests.engine.processes import Process
from tests.openai_server import Call, OpenAIServer

__all__ = ["pytestmark"]

done: list[str] = []


def pay(amount: int) -> str:
    """Pays."""
    done.append(f"paid {amount}")
    return f"paid {amount}"


def wrapped(agent: Any) -> OpenAIAgentsAgent:
    return OpenAIAgentsAgent(agent, id="helper")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Any]:
    """Ends one process, and begins the next one, which serves this."""
    made: list[Process] = []

    def begin(served: Any) -> Process:
        if made:
            made[-1].engine.close()
        made.append(Process(tmp_path, ThreadClock(), {f"agents/{served.id}": served}))
        return made[-1]

    yield begin
    made[-1].engine.close()


@pytest.mark.parametrize("decision", [Decision("p1", approved=True), Decision("p1", note="no")])
def test_openai_agents_go_on_from_the_state_of_their_run(
    model: OpenAIServer, processes: Any, decision: Decision
) -> None:
    """The conversation, the call that waits, and what was used are as they were."""
    done.clear()
    model.script("I will. ", Call("pay", {"amount": 3}, id="p1"))
    model.script("done")
    first = processes(wrapped(openai_agents_kind.agent(model.base_url, approved=[pay])))
    first.start(runnable="agents/helper", input="Buy it")
    assert first.paused().survives
    first.rests()
    before = first.engine.get("r").usage
    second = processes(wrapped(openai_agents_kind.agent(model.base_url, approved=[pay])))
    second.engine.continue_run("r", [decision])
    run = ended(second.engine)
    assert (run.state, run.output) == (RunState.COMPLETED, "I will. done")
    assert done == (["paid 3"] if decision.approved else [])
    state = ToolCallState.COMPLETED if decision.approved else ToolCallState.DECLINED
    assert [(c.tool_call_id, c.state) for c in run.tool_calls] == [("p1", state)]
    messages = model.exchange(1).body["messages"]
    assert [m["role"] for m in messages][-3:] == ["user", "assistant", "tool"]
    assert run.usage.steps == 2
    assert run.usage.input_tokens < 3 * before.input_tokens
