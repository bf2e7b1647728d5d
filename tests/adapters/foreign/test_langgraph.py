"""What is LangGraph's own: states, checkpointers, interrupts, subgraphs, and nodes that speak."""

import asyncio
import threading
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt
from pullcord import LangGraphAgent, RunServer
from pullcord.run.context import RunContext
from pullcord.v1 import run_pb2

from tests.adapters.foreign.test_contract import decide, ended, pytestmark, stop
from tests.openai_server import Call, OpenAIServer, Silence
from tests.steady import PATIENCE
from tests.transports.harness import Mode, Serve, Signal, kind_of

__all__ = ["pytestmark"]

Tools = run_pb2.ToolCallState


class Numbers(TypedDict, total=False):
    """A state without messages."""

    number: int
    answer: str


def chat(model: OpenAIServer) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-5-mini", base_url=model.base_url, api_key="x", stream_usage=True)


def one_node(node: Any, state: Any = Numbers, **compiled: Any) -> Any:
    """A graph of this node, which is called "only"."""
    graph = StateGraph(state).add_node("only", node)
    return graph.add_edge(START, "only").add_edge("only", END).compile(name="graph", **compiled)


def test_a_state_without_messages_comes_from_input_data(serve: Serve) -> None:
    """The last state is the run's data, and each node is a step."""

    async def double(state: Numbers) -> Numbers:
        get_stream_writer()({"half": True})
        return {"number": 2 * int(state["number"])}

    served = serve(one_node(double))
    stream = served.run("graph", input_data={"number": 21})
    end = ended(stream, "run_completed")
    assert end.output_data["number"] == 42
    kinds = [kind_of(event) for event in stream.events]
    assert kinds[1:4] == ["step_started", "custom", "step_completed"]
    assert stream.events[2].custom.data["half"] is True
    failed = ended(served.run("graph", "hello"), "run_failed")
    assert "give the run input_data (on the command line: --data)" in failed.error.message


def test_a_sync_node_of_a_graph_runs_in_a_thread(serve: Serve) -> None:
    """It does not hold up the run loop."""
    threads: list[int] = []

    def note(state: Numbers) -> Numbers:
        threads.append(threading.get_ident())
        return {"answer": "done"}

    served = serve(one_node(note))
    assert (
        ended(served.run("graph", input_data={}), "run_completed").output_data["answer"] == "done"
    )
    assert len(threads) == 1


def test_an_interrupt_is_a_question(serve: Serve) -> None:
    """An answer is its value, an approval True, a refusal False."""

    async def ask(state: Numbers) -> Numbers:
        return {"answer": repr(interrupt("How old are you?"))}

    served = serve(one_node(ask))
    for decision, value in (
        ({"answer": "12"}, "'12'"),
        ({"approved": True}, "True"),
        ({"note": "no"}, "False"),
    ):
        stream = served.run("graph", input_data={})
        asked = stream.until("run_paused").run_paused
        assert asked.question == "How old are you?"
        call = asked.tool_calls[0]
        decide(served, stream.events[0].run_id, tool_call_id=call.tool_call_id, **decision)
        assert ended(stream, "run_completed").output_data["answer"] == value


def test_a_node_that_waits_has_not_ended(serve: Serve) -> None:
    """It begins and completes once, the node beside it too, and so do those of a subgraph."""

    async def gate(state: Numbers) -> Numbers:
        return {"answer": repr(interrupt("May it?"))}

    inner = StateGraph(Numbers).add_node("draft", lambda _: {"number": 1}).add_node("gate", gate)
    inner.add_edge(START, "draft").add_edge(START, "gate")
    served = serve(one_node(inner.compile()))
    stream = served.run("graph", input_data={})
    (call,) = stream.until("run_paused").run_paused.tool_calls
    assert _steps(stream.events, "step_completed") == ["draft"]
    decide(served, stream.events[0].run_id, tool_call_id=call.tool_call_id, approved=True)
    assert ended(stream, "run_completed").output_data["answer"] == "True"
    assert sorted(_steps(stream.events, "step_started")) == ["draft", "gate", "only"]
    assert _steps(stream.events, "step_completed") == ["draft", "gate", "only"]


def _steps(events: Any, kind: str) -> list[str]:
    return [getattr(event, kind).name for event in events if kind_of(event) == kind]


def test_only_the_nodes_that_speak_are_output(model: OpenAIServer, serve: Serve) -> None:
    """What a router says is counted, and is no output."""
    llm = chat(model)

    async def route(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await llm.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("route", route).add_node("answer", route)
    graph.add_edge(START, "route").add_edge("route", "answer").add_edge("answer", END)
    model.script("to sales")
    model.script("We sell trains")
    served = serve(LangGraphAgent(graph.compile(), id="shop", speaks=["answer"]))
    end = ended(served.run("shop", "?"), "run_completed")
    assert end.output == "We sell trains"
    assert (end.usage.steps, end.usage.output_tokens) == (2, 5)


def test_a_node_that_does_not_stream_says_it_whole(serve: Serve) -> None:
    """A message that a node returns is output, too."""
    from langchain_core.messages import AIMessage

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("All at once")]}

    stream = serve(one_node(answer, MessagesState)).run("graph", "?")
    assert ended(stream, "run_completed").output == stream.text() == "All at once"


def test_what_two_nodes_say_has_a_blank_line_between(model: OpenAIServer, serve: Serve) -> None:
    """In the stream as in the output; a checkpointer is told only what it lacks of it."""
    llm = chat(model)

    async def speak(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await llm.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("draft", speak).add_node("edit", speak)
    graph.add_edge(START, "draft").add_edge("draft", "edit").add_edge("edit", END)
    for words in ("A draft", "Edited", "The next draft"):
        model.script(words)
    model.script("Half of", Silence())
    model.script("a")
    model.script("b")
    served = serve(graph.compile(name="paper", checkpointer=InMemorySaver()))
    stream = served.run("paper", "one", session_id="s")
    assert ended(stream, "run_completed").output == stream.text() == "A draft\n\nEdited"
    stream = served.run("paper", "two", session_id="s")
    while not stream.text().endswith("of"):
        stream.until("content_delta")
    assert stop(served, stream).output == "The next draft\n\nHalf of"
    ended(served.run("paper", "three", session_id="s"), "run_completed")
    said = [m["content"] for m in model.exchange(4).body["messages"]]
    assert said[:5] == ["one", "A draft", "Edited", "two", "The next draft"]
    assert said[5].startswith("Half of")


def test_a_checkpointer_is_told_what_was_interrupted(model: OpenAIServer, serve: Serve) -> None:
    """It has the conversation itself; the text of the call that was stopped is added to it."""
    model.script("First answer")
    model.script("The secret word is plum", Silence())
    model.script("It was plum")
    agent = create_agent(chat(model), name="helper", checkpointer=InMemorySaver())
    served = serve(agent)
    ended(served.run("helper", "one", session_id="s"), "run_completed")
    stream = served.run("helper", "two", session_id="s")
    while not stream.text().endswith("plum"):
        stream.until("content_delta")
    stop(served, stream)
    assert ended(served.run("helper", "three", session_id="s"), "run_completed").output == (
        "It was plum"
    )
    said = [(m["role"], m["content"]) for m in model.exchange(2).body["messages"]]
    assert [role for role, _ in said] == ["user", "assistant", "user", "assistant", "user"]
    assert said[1][1] == "First answer"
    assert said[3][1].startswith("The secret word is plum")


def test_a_checkpointer_s_dangling_calls_get_results(model: OpenAIServer, serve: Serve) -> None:
    """Stopped in a tool, the next turn is one that a provider takes."""
    begun = Signal()

    async def save() -> str:
        """Saves."""
        begun.set()
        await asyncio.Event().wait()
        return "never"

    model.script("Saving", Call("save", {}, "s1"))
    model.script("I had begun")
    agent = create_agent(chat(model), tools=[save], name="helper", checkpointer=InMemorySaver())
    served = serve(agent)
    stream = served.run("helper", "save it", session_id="s")
    stream.until("tool_call_started")
    begun.wait()
    stop(served, stream, mode=Mode.CANCEL_MODE_IMMEDIATE)
    ended(served.run("helper", "and?", session_id="s"), "run_completed")
    messages = model.exchange(1).body["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert messages[1]["content"] == "Saving"
    assert "may have taken effect" in messages[2]["content"]
    assert "Saving" not in messages[3]["content"]


def test_a_pause_that_was_stopped_is_not_asked_about_again(
    model: OpenAIServer, serve: Serve
) -> None:
    """With a checkpointer the next turn begins anew, and its model hears of the call."""
    paid: list[str] = []

    async def pay(to: str) -> str:
        """Pays."""
        paid.append(to)
        return "paid"

    model.script(Call("pay", {"to": "Ann"}, "p1"))
    model.script("All right")
    agent = create_agent(
        chat(model),
        tools=[pay],
        middleware=[HumanInTheLoopMiddleware({"pay": True})],
        name="helper",
        checkpointer=InMemorySaver(),
    )
    served = serve(agent)
    stream = served.run("helper", "pay Ann", session_id="s")
    stream.until("run_paused")
    stop(served, stream)
    again = served.run("helper", "never mind", session_id="s")
    assert ended(again, "run_completed").output == "All right"
    assert paid == []
    roles = [m["role"] for m in model.exchange(1).body["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


def test_the_author_makes_the_state_and_the_context(serve: Serve) -> None:
    """`input` and `context` are functions of the run's context, sync or async."""

    async def answer(state: Numbers) -> Numbers:
        return {"answer": f"{state['number']}"}

    async def state_of(ctx: RunContext) -> Numbers:
        return {"number": len(ctx.input)}

    served = serve(LangGraphAgent(one_node(answer), id="count", input=state_of))
    assert ended(served.run("count", "four"), "run_completed").output_data["answer"] == "4"


def test_parallel_branches_stop_together(model: OpenAIServer, serve: Serve) -> None:
    """Both connections are closed."""
    llm = chat(model)

    async def speak(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await llm.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("a", speak).add_node("b", speak)
    for name in ("a", "b"):
        graph.add_edge(START, name).add_edge(name, END)
    model.script("one", Silence())
    model.script("two", Silence())
    served = serve(graph.compile(name="both"))
    stream = served.run("both", "?")
    stream.next()
    both = [model.exchange(number) for number in range(2)]
    assert all(exchange.begun.wait(PATIENCE) for exchange in both)
    stop(served, stream)
    assert all(exchange.left.wait(PATIENCE) for exchange in both)


def test_a_subgraph_s_steps_have_its_path(serve: Serve) -> None:
    """A graph as a node: its steps are heard beneath the node."""

    async def work(state: Numbers) -> Numbers:
        return {"answer": "done"}

    stream = serve(one_node(one_node(work))).run("graph", input_data={"number": 1})
    ended(stream, "run_completed")
    steps = [e for e in stream.events if kind_of(e) == "step_started"]
    assert [list(e.source.path) for e in steps] == [[], ["graph", "only"]]


def test_what_cannot_run_is_refused_in_words() -> None:
    """A graph that is not compiled, and one whose checkpointer is sync."""

    class SqliteSaver(BaseCheckpointSaver[str]):
        """As the sync savers: it has no async method of its own."""

    with pytest.raises(TypeError, match=r"serve graph\.compile\(\)"):
        RunServer(agents=[StateGraph(Numbers)])
    with pytest.raises(TypeError, match="AsyncSqliteSaver"):
        LangGraphAgent(one_node(print, checkpointer=SqliteSaver()))
