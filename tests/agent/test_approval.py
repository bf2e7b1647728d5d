"""Agents whose tools need somebody's approval, from the mark to what the model hears."""

import asyncio
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from pullcord.agent import Agent, needs_approval
from pullcord.local import local_engine
from pullcord.models.openai import OpenAIChat
from pullcord.run.agent import RunEvent
from pullcord.run.base import RunOutputEvent, RunStatus
from pullcord.run.cancel import CancelCause
from pullcord.run.errors import RunNotPaused
from pullcord.run.events import RunPaused, ToolCallState
from pullcord.run.record import Decision, SessionPolicy
from pullcord.team import Team

from tests.openai_server import Call, OpenAIServer, Silence


def answers(server: OpenAIServer, request: int) -> dict[str, str]:
    """What the provider was told that each call returned, in its nth request."""
    messages = server.exchange(request).body["messages"]
    return {m["tool_call_id"]: m["content"] for m in messages if m["role"] == "tool"}


class Shop:
    """Tools, and which of them were executed."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def tools(self) -> list[Callable[..., Any]]:
        @needs_approval
        def pay(amount: int) -> str:
            """Pays."""
            self.done.append(f"pay {amount}")
            return "paid"

        @needs_approval
        async def ask_user(question: str) -> str:
            """Asks the user."""
            self.done.append("ask")
            return "nobody answered"

        def look() -> str:
            """Looks."""
            self.done.append("look")
            return "seen"

        return [pay, ask_user, look]


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def agent(model: OpenAIChat, shop: Shop) -> Agent:
    return Agent(name="shopper", model=model, tools=shop.tools())


async def until_paused(agent: Any, **options: Any) -> tuple[Any, RunOutputEvent]:
    """The stream of a new run, and the chunk by which it asks."""
    stream = agent.arun("go", stream=True, **options)
    async for chunk in stream:
        if chunk.event in {"RunPaused", "TeamRunPaused"}:
            return stream, chunk
    raise AssertionError("it did not pause")


async def last(stream: Any) -> RunOutputEvent:
    chunks = [chunk async for chunk in stream]
    return chunks[-1]  # type: ignore[no-any-return]


async def test_one_pause_for_all_calls_of_a_turn(
    server: OpenAIServer, agent: Agent, shop: Shop
) -> None:
    """A turn's calls that need approval are asked about at once, before any call is executed."""
    server.script(
        Call("look", {}, id="l"),
        Call("pay", {"amount": 1}, id="p1"),
        Call("pay", {"amount": 2}, id="p2"),
        Call("ask_user", {"question": "which?"}, id="q"),
    )
    server.script("done")
    stream, asked = await until_paused(agent)
    assert asked.status is RunStatus.paused
    assert asked.event is RunEvent.run_paused
    assert asked.content == "May pay and ask_user be called?"
    assert [(c.tool_call_id, c.state) for c in asked.tools] == [
        (call, ToolCallState.WAITING) for call in ("p1", "p2", "q")
    ]
    assert shop.done == []
    agent.continue_run(
        asked.run_id,
        [
            Decision("q", answer="the red one"),
            Decision("p1", approved=True),
            Decision("p2", note="once is enough"),
        ],
    )
    end = await last(stream)
    assert (end.status, end.content) == (RunStatus.completed, "done")
    assert sorted(shop.done) == ["look", "pay 1"]
    assert answers(server, 1) == {
        "l": "seen",
        "p1": "paid",
        "p2": "Declined: once is enough. The tool was not executed.",
        "q": "the red one",
    }
    assert {c.tool_call_id: c.state for c in end.tools} == {
        "p1": ToolCallState.COMPLETED,
        "p2": ToolCallState.DECLINED,
        "q": ToolCallState.COMPLETED,
        "l": ToolCallState.COMPLETED,
    }
    assert end.metrics.tool_calls == 2  # what was not executed was no call


async def test_calls_that_must_fail_are_not_asked_about(
    server: OpenAIServer, agent: Agent, shop: Shop
) -> None:
    """Nobody is asked about arguments that do not fit the tool: the model is told, as ever."""
    server.script(Call("pay", {"amount": "much"}, id="p"), Call("unknown", {}, id="u"))
    server.script("oh")
    result = await agent.arun("go")
    assert (result.status, shop.done) == (RunStatus.completed, [])
    assert answers(server, 1)["p"].startswith("Error: InvalidArguments")


async def test_every_turn_asks_anew(server: OpenAIServer, agent: Agent, shop: Shop) -> None:
    """An approval is for one call, and not for the next one of the same tool."""
    server.script(Call("pay", {"amount": 1}, id="p"))
    server.script(Call("pay", {"amount": 2}, id="p"))
    server.script("done")
    stream, asked = await until_paused(agent)
    await agent.acontinue_run(asked.run_id, [Decision("p", approved=True)])
    async for chunk in stream:
        if chunk.event is RunEvent.run_paused:
            (call,) = chunk.tools
            assert call.tool_call_id == "p-2"
            await agent.acontinue_run(chunk.run_id, [Decision("p-2")])
    assert shop.done == ["pay 1"]


async def test_the_mark_survives_wrappers(model: OpenAIChat, server: OpenAIServer) -> None:
    """A decorator that wraps a marked tool as usual keeps its mark."""

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    executed: list[str] = []

    @logged
    @needs_approval
    def wipe() -> None:
        executed.append("wipe")

    server.script(Call("wipe", {}, id="w"))
    server.script("fine")
    stream, asked = await until_paused(Agent(name="a", model=model, tools=[wipe]))
    Agent.continue_run(asked.run_id, [Decision("w")])
    await last(stream)
    assert executed == []


async def test_a_cancelled_run_does_not_go_on(
    server: OpenAIServer, agent: Agent, shop: Shop
) -> None:
    """A run that is cancelled while it waits executes nothing and asks no model again."""
    server.script(Call("pay", {"amount": 1}, id="p"))
    stream, asked = await until_paused(agent)
    assert agent.cancel_run(asked.run_id, "changed my mind")
    end = await last(stream)
    assert (end.status, end.reason) == (RunStatus.cancelled, "changed my mind")
    assert [c.state for c in end.tools] == [ToolCallState.DECLINED]
    with pytest.raises(RunNotPaused):
        agent.continue_run(asked.run_id, [Decision("p", approved=True)])
    assert (shop.done, len(server.exchanges)) == ([], 1)


def test_a_program_in_one_thread_can_decide(
    server: OpenAIServer, model: OpenAIChat, shop: Shop
) -> None:
    """Streaming, the thread that reads the question can bring the decision."""
    server.script(Call("pay", {"amount": 3}, id="p"))
    server.script("done")
    agent = Agent(name="shopper", model=model, tools=shop.tools())
    for chunk in agent.run("go", stream=True):
        if chunk.event is RunEvent.run_paused:
            decisions = [Decision(call.tool_call_id, approved=True) for call in chunk.tools]
            agent.continue_run(chunk.run_id, decisions)
    assert (chunk.content, shop.done) == ("done", ["pay 3"])


async def test_not_streaming_the_run_waits_for_somebody_else(
    server: OpenAIServer, agent: Agent
) -> None:
    """Without a stream the caller waits until somebody has decided by the run's id."""
    server.script(Call("pay", {"amount": 3}, id="p"))
    server.script("done")
    running = asyncio.ensure_future(agent.arun("go", run_id="waits-for-somebody"))
    await server_is_asked(server)
    run = await paused_run("waits-for-somebody")
    assert [c.tool_call_id for c in run.tool_calls] == ["p"]
    agent.continue_run(run.run_id, [Decision("p", approved=True)])
    assert (await running).content == "done"


async def paused_run(run_id: str) -> Any:
    """The run once it has paused."""
    async for event in local_engine().watch(run_id):
        if isinstance(event.payload, RunPaused):
            return local_engine().get(run_id)
    raise AssertionError("it did not pause")


async def server_is_asked(server: OpenAIServer) -> None:
    """By then the run has begun."""
    await asyncio.to_thread(server.exchange, 0)


async def test_a_member_asks_by_its_own_run(
    server: OpenAIServer, model: OpenAIChat, agent: Agent, shop: Shop
) -> None:
    """A member of a team pauses alone; the decision goes to its run, and the team goes on."""
    team = Team(name="crew", members=[agent], model=model)
    server.script(Call("delegate_to_member", {"member_id": "shopper", "task": "buy"}, id="d"))
    server.script(Call("pay", {"amount": 5}, id="p"))
    server.script("bought")
    server.script("all done")
    stream = team.arun("go", stream=True)
    async for chunk in stream:
        if chunk.event is RunEvent.run_paused:  # the member's word for it
            assert chunk.source is not None
            assert {call.run_id for call in chunk.tools} == {chunk.run_id}
            team.continue_run(chunk.run_id, [Decision("p", approved=True)])
    assert (chunk.content, shop.done) == ("all done", ["pay 5"])


async def test_a_leader_s_own_tool_needs_approval_too(
    server: OpenAIServer, model: OpenAIChat, shop: Shop
) -> None:
    """The mark means the same on a team leader's tool."""
    member = Agent(name="idle", model=model)
    team = Team(name="crew", members=[member], model=model, tools=shop.tools())
    server.script(Call("pay", {"amount": 5}, id="p"))
    server.script("fine")
    stream, asked = await until_paused(team)
    team.continue_run(asked.run_id, [Decision("p")])
    assert (await last(stream)).status is RunStatus.completed
    assert shop.done == []


async def test_a_superseding_turn_sees_the_one_it_stopped(
    server: OpenAIServer, model: OpenAIChat
) -> None:
    """Under SUPERSEDE the next turn begins when the last one has stopped, and is told of it."""
    agent = Agent(name="talker", model=model)
    server.script("half a", Silence())
    server.script("whole")
    spoke = asyncio.Event()
    chunks: list[RunOutputEvent] = []

    async def first() -> None:
        async for chunk in agent.arun("one", stream=True, session_id="s-supersede"):
            chunks.append(chunk)
            if "".join(str(c.content or "") for c in chunks).endswith("half a"):
                spoke.set()

    running = asyncio.ensure_future(first())
    await spoke.wait()
    second = await agent.arun(
        "two", session_id="s-supersede", session_policy=SessionPolicy.SUPERSEDE
    )
    await running
    assert (chunks[-1].status, chunks[-1].cause) == (RunStatus.cancelled, CancelCause.SUPERSEDED)
    assert second.run_id in chunks[-1].reason
    assert second.content == "whole"
    assert server.exchange(1).body["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "half a\n\n[this answer was stopped before its end]"},
        {"role": "user", "content": "two"},
    ]


async def test_a_queued_turn_sees_the_one_before(server: OpenAIServer, model: OpenAIChat) -> None:
    """Under QUEUE turns asked for at once follow one another, each with all before it."""
    agent = Agent(name="talker", model=model)
    for n in range(3):
        server.script(f"answer{n}")
    options: Any = {"session_id": "s-queue", "session_policy": SessionPolicy.QUEUE}
    await asyncio.gather(*(agent.arun(f"turn{n}", **options) for n in range(3)))
    assert [len(server.exchange(n).body["messages"]) for n in range(3)] == [1, 3, 5]


def test_threads_of_one_session_take_turns(server: OpenAIServer, model: OpenAIChat) -> None:
    """QUEUE holds for blocking callers in several threads, too."""
    agent = Agent(name="talker", model=model)
    for n in range(4):
        server.script(f"answer{n}")
    options: Any = {"session_id": "s-threads", "session_policy": SessionPolicy.QUEUE}
    threads = [
        threading.Thread(target=lambda n=n: agent.run(f"turn{n}", **options)) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [len(server.exchange(n).body["messages"]) for n in range(4)] == [1, 3, 5, 7]
