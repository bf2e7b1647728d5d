"""Pauses of other frameworks' agents that outlive their process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from pullcord import (
    AgentFrameworkAgent,
    AgnoAgent,
    LangGraphAgent,
    LlamaIndexWorkflow,
    OpenAIAgentsAgent,
    PydanticAgent,
)
from pullcord.engine.clock import ThreadClock
from pullcord.run.events import StepCompleted, StepStarted, ToolCallState
from pullcord.run.record import Decision
from pullcord.run.state import RunState

from tests.adapters.foreign.kinds import (
    agent_framework_kind,
    agno_kind,
    llama_index_kind,
    openai_agents_kind,
    pydantic_ai_kind,
)
from tests.adapters.foreign.test_contract import pytestmark
from tests.engine.driving import ended, events
from tests.engine.processes import Process
from tests.openai_server import Call, OpenAIServer

__all__ = ["pytestmark"]

done: list[str] = []


def pay(amount: int) -> str:
    """Pays."""
    done.append(f"paid {amount}")
    return f"paid {amount}"


def openai_agent(model: OpenAIServer) -> Any:
    return OpenAIAgentsAgent(openai_agents_kind.agent(model.base_url, approved=[pay]), id="helper")


def pydantic_agent(model: OpenAIServer) -> Any:
    given = pydantic_ai_kind.agent(model.base_url, tools=[look], approved=[pay])
    return PydanticAgent(given, id="helper")


def agno_agent(model: OpenAIServer) -> Any:
    return AgnoAgent(agno_kind.agent(model.base_url, approved=[pay]), id="helper")


def llama_index_workflow(model: OpenAIServer) -> Any:
    return LlamaIndexWorkflow(llama_index_kind.agent(model.base_url, approved=[pay]), id="helper")


def agent_framework_agent(model: OpenAIServer) -> Any:
    given = agent_framework_kind.agent(model.base_url, tools=[look], approved=[pay])
    return AgentFrameworkAgent(given, id="helper")


def look() -> str:
    """Looks."""
    return "seen"


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
@pytest.mark.parametrize(
    "make",
    [openai_agent, pydantic_agent, agno_agent, llama_index_workflow, agent_framework_agent],
)
def test_a_foreign_run_goes_on_from_what_its_framework_writes_down(
    model: OpenAIServer, processes: Any, make: Any, decision: Decision
) -> None:
    """The conversation, the call that waits, and what was used are as they were."""
    done.clear()
    model.script("I will. ", Call("pay", {"amount": 3}, id="p1"))
    model.script("done")
    first = processes(make(model))
    first.start(runnable="agents/helper", input="Buy it")
    assert first.paused().survives
    first.rests()
    before = first.engine.get("r").usage
    second = processes(make(model))
    second.engine.continue_run("r", [decision])
    run = ended(second.engine)
    assert (run.state, run.error) == (RunState.COMPLETED, None)
    assert run.output in ("I will. done", "done")
    assert done == (["paid 3"] if decision.approved else [])
    state = ToolCallState.COMPLETED if decision.approved else ToolCallState.DECLINED
    assert [(c.tool_call_id, c.state) for c in run.tool_calls] == [("p1", state)]
    messages = model.exchange(1).body["messages"]
    assert [m["role"] for m in messages][-3:] == ["user", "assistant", "tool"]
    assert run.usage.steps == 2
    assert run.usage.input_tokens < 3 * before.input_tokens


def test_calls_beside_the_one_that_waits_keep_it_in_its_process(
    model: OpenAIServer, processes: Any
) -> None:
    """pydantic-ai executes them before it asks, and tells their results only afterwards: such a
    pause does not survive, and says so."""
    model.script(Call("look", {}, id="l1"), Call("pay", {"amount": 3}, id="p1"))
    first = processes(pydantic_agent(model))
    first.start(runnable="agents/helper", input="Buy it")
    assert not first.paused().survives


def test_calls_that_were_held_back_go_on_as_well(model: OpenAIServer, processes: Any) -> None:
    """Agent Framework executes nothing of a turn that waits, so such a pause survives."""
    model.script(Call("look", {}, id="l1"), Call("pay", {"amount": 3}, id="p1"))
    model.script("done")
    first = processes(agent_framework_agent(model))
    first.start(runnable="agents/helper", input="Buy it")
    assert first.paused().survives
    first.rests()
    second = processes(agent_framework_agent(model))
    second.engine.continue_run("r", [Decision("p1", note="no")])
    run = ended(second.engine)
    assert (run.state, run.error) == (RunState.COMPLETED, None)
    states = {call.tool_call_id: call.state for call in run.tool_calls}
    assert states == {"l1": ToolCallState.COMPLETED, "p1": ToolCallState.DECLINED}


class Elsewhere(InMemorySaver):
    """A checkpointer that outlives the process, as that of a database does."""


class Asking(TypedDict, total=False):
    text: str
    note: str


@pytest.mark.parametrize("saver", [Elsewhere, InMemorySaver])
def test_a_graph_goes_on_from_its_checkpointer(processes: Any, saver: Any) -> None:
    """If that lasts; a run whose state is in memory only does not survive, and says so. Each node
    begins and completes once."""

    def node(state: Asking) -> Asking:
        return {"text": f"{state['text']}: {interrupt('Which one?')}"}

    kept = saver()

    def graph() -> Any:
        made = StateGraph(Asking).add_node("node", node).add_node("beside", lambda _: {"note": "a"})
        made.add_edge(START, "node").add_edge(START, "beside")
        return LangGraphAgent(made.compile(checkpointer=kept), id="helper")

    first = processes(graph())
    first.start(runnable="agents/helper", input_data={"text": "This"})
    asked = first.paused()
    assert asked.survives is (saver is Elsewhere)
    if not asked.survives:
        return
    first.rests()
    second = processes(graph())
    second.engine.continue_run("r", [Decision(asked.tool_calls[0].tool_call_id, answer="one")])
    run = ended(second.engine)
    assert (run.state, run.error) == (RunState.COMPLETED, None)
    assert run.output_data == {"text": "This: one", "note": "a"}
    told = [event.payload for event in events(second.engine)]
    begun = [step.name for step in told if isinstance(step, StepStarted)]
    assert sorted(begun) == ["beside", "node"]
    assert [step.name for step in told if isinstance(step, StepCompleted)] == ["beside", "node"]


def test_what_a_graph_says_elsewhere_is_parted_from_what_it_said_before(processes: Any) -> None:
    """By a blank line, as in one process."""
    kept = Elsewhere()

    def gate(state: MessagesState) -> Any:
        return {"messages": [AIMessage(f"They said {interrupt('Which one?')}")]}

    def graph() -> Any:
        made = StateGraph(MessagesState).add_node("gate", gate)
        made.add_node("draft", lambda _: {"messages": [AIMessage("A draft")]})
        made.add_edge(START, "draft").add_edge("draft", "gate")
        return LangGraphAgent(made.compile(checkpointer=kept), id="helper")

    first = processes(graph())
    first.start(runnable="agents/helper", input="Write")
    (call,) = first.paused().tool_calls
    first.rests()
    second = processes(graph())
    second.engine.continue_run("r", [Decision(call.tool_call_id, answer="one")])
    assert ended(second.engine).output == "A draft\n\nThey said one"
