"""Agents at work: the real engine, the real OpenAI client, a scripted provider."""

import asyncio
import contextvars
import threading
import time
import uuid
from typing import Any

import pytest
from pullcord.agent import Agent
from pullcord.models.openai import OpenAIChat
from pullcord.run.base import RunOutput, RunStatus
from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.context import RunContext
from pullcord.run.events import ToolCallState
from pullcord.run.usage import Limits

from tests.openai_server import (
    Call,
    Count,
    Gate,
    OpenAIServer,
    Pace,
    Refuse,
    Silence,
    Think,
)
from tests.steady import steady


async def until(event: Any) -> None:
    assert await asyncio.to_thread(event.wait, 30)


def tool_answers(server: OpenAIServer, request: int) -> list[str]:
    """What the provider was told that tools answered, in its nth request."""
    messages = server.exchange(request).body["messages"]
    return [m["content"] for m in messages if m["role"] == "tool"]


async def nothing_left() -> bool:
    # The SDK leaves generators to the loop, which closes each in a task of one step.
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=30)
    return not [task for task in left if not task.done()]


def test_an_agent_has_an_id_and_distinct_tools(model: OpenAIChat) -> None:
    """The id is the given one, or made of the name; two tools of one name are refused."""

    def look() -> None: ...

    assert Agent(name="StorytellerAgent", model=model).id == "storyteller-agent"
    assert Agent(name="x", id="y", model=model).id == "y"
    with pytest.raises(ValueError, match="look"):
        Agent(name="x", model=model, tools=[look, look])


async def test_the_model_is_told_who_it_is(server: OpenAIServer, model: OpenAIChat) -> None:
    """Description, instructions, and the input with its data are what the model gets."""
    agent = Agent(name="a", model=model, description="A cook.", instructions=["Be brief."])
    await agent.arun("soup?", input_data={"guests": 2})
    assert server.exchange(0).body["messages"] == [
        {"role": "system", "content": "A cook.\n\nBe brief."},
        {"role": "user", "content": 'soup?\n\n{"guests":2}'},
    ]
    assert "tools" not in server.exchange(0).body


async def test_a_tool_call_goes_there_and_back(server: OpenAIServer, model: OpenAIChat) -> None:
    """The model asks for a tool, gets its result, and answers; both calls count as steps."""

    async def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    server.script("wait: ", Call("add", {"a": 1, "b": 2}, id="c1"), Count(100, 10))
    server.script("3", Count(120, 1))
    result = await Agent(name="a", model=model, tools=[add]).arun("1+2?")
    assert result.content == "wait: 3"
    assert server.exchange(0).body["tools"][0]["function"]["name"] == "add"
    assert tool_answers(server, 1) == ["3"]
    (call,) = result.tools
    assert (call.tool_call_id, call.arguments, call.result) == ("c1", '{"a": 1, "b": 2}', "3")
    assert call.state is ToolCallState.COMPLETED
    usage = result.metrics
    assert (usage.input_tokens, usage.output_tokens) == (220, 11)
    assert (usage.steps, usage.tool_calls, usage.estimated) == (2, 1, False)
    assert usage.cost > 0
    assert await nothing_left()


async def test_tools_run_side_by_side(server: OpenAIServer, model: OpenAIChat) -> None:
    """Tools asked for in one answer run at the same time, async and sync ones."""
    both, threads = asyncio.Barrier(2), threading.Barrier(2, timeout=30)

    async def meet(who: str) -> str:
        await both.wait()
        return who

    def meet_in_threads(who: str) -> str:
        threads.wait()
        return who

    server.script(
        *(Call(name, {"who": f"{name}{n}"}) for n in (1, 2) for name in ("meet", "meet_in_threads"))
    )
    agent = Agent(name="a", model=model, tools=[meet, meet_in_threads])
    assert (await agent.arun("go")).status is RunStatus.completed
    assert tool_answers(server, 1) == ["meet1", "meet_in_threads1", "meet2", "meet_in_threads2"]


async def test_tools_know_their_run_and_their_callers_context(
    server: OpenAIServer, model: OpenAIChat
) -> None:
    """A tool gets the RunContext, the caller's context variables and, if async, its event loop."""
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("mine")
    loop = asyncio.get_running_loop()

    async def where(ctx: RunContext) -> str:
        assert asyncio.get_running_loop() is loop
        return f"{ctx.run_id} {variable.get()}"

    def where_in_thread(ctx: RunContext) -> str:
        assert threading.current_thread() is not threading.main_thread()
        return f"{ctx.run_id} {variable.get()}"

    server.script(Call("where"), Call("where_in_thread"))
    await Agent(name="a", model=model, tools=[where, where_in_thread]).arun(
        "go", run_id="r-1-where"
    )
    assert tool_answers(server, 1) == ["r-1-where mine"] * 2


async def test_a_tool_that_fails_is_news_for_the_model(
    server: OpenAIServer, model: OpenAIChat
) -> None:
    """A tool that raises, that does not exist, or whose arguments are wrong, ends no run."""

    async def fail() -> None:
        raise ValueError("no milk")

    async def double(n: int) -> int:
        return 2 * n

    server.script(Call("fail"), Call("nothing"), Call("double", {"n": "x"}), Call("double", "{"))
    server.script("sorry")
    result = await Agent(name="a", model=model, tools=[fail, double]).arun("go")
    assert (result.status, result.content) == (RunStatus.completed, "sorry")
    raised, unknown, invalid, broken = tool_answers(server, 1)
    assert raised == "Error: ValueError: no milk"
    assert unknown == "Error: UnknownTool: there is no tool 'nothing'"
    assert invalid.startswith("Error: InvalidArguments: n: Input should be a valid integer")
    assert broken.startswith("Error: InvalidArguments: arguments: Invalid JSON")
    assert {call.state for call in result.tools} == {ToolCallState.FAILED}


async def test_the_ledger_tells_calls_apart_that_the_model_does_not(
    server: OpenAIServer, model: OpenAIChat
) -> None:
    """Calls for which a server repeats an id are two calls of the run."""

    async def now() -> str:
        return "noon"

    server.script(Call("now", id="call_0"))
    server.script(Call("now", id="call_0"))
    result = await Agent(name="a", model=model, tools=[now]).arun("go")
    assert [call.tool_call_id for call in result.tools] == ["call_0", "call_0-2"]


async def test_reasoning_is_streamed_and_not_part_of_the_output(
    server: OpenAIServer, model: OpenAIChat
) -> None:
    """Reasoning comes in chunks of its own and not in the final content."""
    server.script(Think("hm"), "yes")
    chunks = [chunk async for chunk in Agent(name="a", model=model).arun("?", stream=True)]
    said = [(c.event, c.content) for c in chunks if c.content]
    assert said == [("ReasoningContent", "hm"), ("RunContent", "yes"), ("RunCompleted", "yes")]


async def test_a_model_that_fails_fails_the_run(server: OpenAIServer, model: OpenAIChat) -> None:
    """A provider's refusal ends the run with status error, its words, and nothing counted."""
    server.script(Refuse(400, "no such model"))
    result = await Agent(name="a", model=model).arun("?" * 400)
    assert result.status is RunStatus.error
    assert "no such model" in result.error
    assert result.metrics.total_tokens == 0


# --- being cancelled


async def cancelled(agent: Agent, run_id: str, ready: Any, **how: Any) -> RunOutput:
    """Runs, cancels as soon as `ready` is set, and returns what the run came to."""
    running = asyncio.create_task(agent.arun("go", run_id=run_id))
    await until(ready)
    assert agent.cancel_run(run_id, "enough", **how)
    result = await running
    assert (result.status, result.reason) == (RunStatus.cancelled, "enough")
    assert await nothing_left()
    return result


async def cancelled_after(text: str, agent: Agent, input: str, session_id: str = "") -> Any:
    """Cancels as soon as so much of the output has come; the terminal chunk."""
    said = ""
    async for chunk in agent.arun(input, stream=True, session_id=session_id):
        if chunk.event == "RunContent":
            said += chunk.content
            if said == text:
                agent.cancel_run(chunk.run_id)
    assert await nothing_left()
    return chunk


async def test_a_silent_model_is_cut_off_at_once(server: OpenAIServer, model: OpenAIChat) -> None:
    """Cancelling while the model is silent closes its connection; what it said is kept."""
    server.script("once upon", Silence())
    last = await cancelled_after("once upon", Agent(name="a", model=model), "?" * 400)
    await until(server.exchange(0).left)
    assert (last.event, last.content) == ("RunCancelled", "once upon")
    usage = last.metrics
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (100, 2, True)


@steady
async def test_a_cancel_takes_milliseconds(server: OpenAIServer, model: OpenAIChat) -> None:
    """From a cancel to the provider's connection being closed it takes milliseconds."""
    silence, run_id = Gate(), f"r-fast-{uuid.uuid4()}"
    server.script(silence)
    agent = Agent(name="a", model=model)
    running = asyncio.create_task(agent.arun("go", run_id=run_id))
    await until(silence.reached)
    asked = time.monotonic()
    agent.cancel_run(run_id)
    assert (await running).status is RunStatus.cancelled
    exchange = server.exchanges[-1]
    await until(exchange.left)
    assert exchange.left_time - asked < 0.3


async def test_a_retry_is_cut_off_too(server: OpenAIServer, model: OpenAIChat) -> None:
    """Cancelling while a retry waits ends the wait."""
    server.script(Refuse(429, retry_after="60"))
    agent = Agent(name="a", model=model)
    running = asyncio.create_task(agent.arun("go", run_id="r-retry"))
    exchange = await asyncio.to_thread(server.exchange, 0)
    await until(exchange.ended)
    agent.cancel_run("r-retry")
    assert (await running).status is RunStatus.cancelled
    assert await nothing_left()


async def test_graceful_lets_every_tool_call_in_flight_finish(
    server: OpenAIServer, model: OpenAIChat
) -> None:
    """After a graceful cancel, calls in flight finish, also when one ends before another."""
    reached, first, second = threading.Event(), asyncio.Event(), threading.Event()
    finished = []

    async def one() -> str:
        await first.wait()
        finished.append("one")
        second.set()
        return "1"

    def two(ctx: RunContext) -> str:
        reached.set()
        ctx.cancel_token.wait()
        loop.call_soon_threadsafe(first.set)
        assert second.wait(30)
        finished.append("two")
        return "2"

    loop = asyncio.get_running_loop()
    server.script(Call("one"), Call("two"))
    agent = Agent(name="a", model=model, tools=[one, two])
    result = await cancelled(agent, "r-graceful", reached)
    assert finished == ["one", "two"]
    assert [call.state for call in result.tools] == [ToolCallState.COMPLETED] * 2
    assert [call.result for call in result.tools] == ["1", "2"]
    assert len(server.exchanges) == 1


async def test_immediate_interrupts_tools(server: OpenAIServer, model: OpenAIChat) -> None:
    """An immediate cancel stops async and sync tools, though they catch every Exception."""
    reached = threading.Event()
    both = threading.Barrier(2, reached.set, timeout=30)
    stopped = []

    async def wait() -> None:
        try:
            await asyncio.to_thread(both.wait)  # the cancel may come before this returns
            while True:
                try:  # noqa: SIM105  # as authors write it
                    await asyncio.Event().wait()
                except Exception:
                    pass
        finally:
            stopped.append("async")

    def spin() -> None:
        tick = threading.Event()
        try:
            both.wait()
            while True:
                try:  # noqa: SIM105  # as authors write it
                    tick.wait(0.001)
                except Exception:
                    pass
        finally:
            stopped.append("sync")

    server.script(Call("wait"), Call("spin"))
    agent = Agent(name="a", model=model, tools=[wait, spin])
    result = await cancelled(agent, "r-now", reached, mode=CancelMode.IMMEDIATE)
    assert sorted(stopped) == ["async", "sync"]
    assert [call.state for call in result.tools] == [ToolCallState.INTERRUPTED] * 2


async def test_tools_that_outstay_the_grace_period_are_interrupted(
    server: OpenAIServer, model: OpenAIChat
) -> None:
    """A graceful cancel turns immediate when the grace period is over."""
    reached = threading.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    server.script(Call("hang"))
    agent = Agent(name="a", model=model, tools=[hang])
    result = await cancelled(agent, "r-grace", reached, grace_period=0.01)
    assert result.tools[0].state is ToolCallState.INTERRUPTED


# --- limits


async def test_max_tokens_ends_a_call_in_its_middle(
    server: OpenAIServer, model: OpenAIChat
) -> None:
    """A token limit stops the model while it speaks, and what it said is kept."""
    server.script(Pace(0.0))
    agent = Agent(name="a", model=model)
    result = await agent.arun("go", limits=Limits(max_tokens=20))
    assert (result.status, result.cause) == (RunStatus.cancelled, CancelCause.BUDGET)
    assert "max_tokens" in result.reason
    assert result.metrics.total_tokens == 20
    assert result.metrics.estimated
    assert str(result.content).startswith("w0 w1 ")
    await until(server.exchange(0).left)


async def test_max_cost_ends_a_call_in_its_middle(server: OpenAIServer, model: OpenAIChat) -> None:
    """A cost limit stops a model whose price is known while it speaks."""
    server.script(Pace(0.0))
    result = await Agent(name="a", model=model).arun("go", limits=Limits(max_cost=0.0001))
    assert (result.status, result.cause) == (RunStatus.cancelled, CancelCause.BUDGET)
    assert result.metrics.cost == pytest.approx(0.0001, rel=0.1)


async def test_steps_and_tool_calls_have_limits(server: OpenAIServer, model: OpenAIChat) -> None:
    """`max_steps` counts model calls, `max_tool_calls` tool calls; one more never begins."""
    called = []

    async def again() -> None:
        called.append(1)

    agent = Agent(name="a", model=model, tools=[again])
    for _ in range(4):
        server.script(Call("again"))
    result = await agent.arun("go", limits=Limits(max_steps=2))
    assert result.cause is CancelCause.BUDGET
    assert (len(server.exchanges), len(called)) == (2, 2)
    result = await agent.arun("go", limits=Limits(max_tool_calls=1))
    assert result.cause is CancelCause.BUDGET
    assert (len(server.exchanges), len(called)) == (4, 3)


async def test_a_provider_that_does_not_count_is_estimated(
    server: OpenAIServer, model: OpenAIChat
) -> None:
    """Where the provider tells no usage, the estimate counts and is marked."""
    server.script("one two three", Count(None))
    usage = (await Agent(name="a", model=model).arun("?" * 400)).metrics
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (100, 3, True)


# --- sessions


async def test_the_next_turn_sees_the_stopped_one(server: OpenAIServer, model: OpenAIChat) -> None:
    """A session's next turn has the earlier ones, a stopped one with what it had made."""
    agent = Agent(name="a", model=model)
    server.script("first")
    await agent.arun("one", session_id="s-agent")
    server.script("sec", Silence())
    await cancelled_after("sec", agent, "two", "s-agent")
    await agent.arun("three", session_id="s-agent")
    assert server.exchange(2).body["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "sec\n\n[this answer was stopped before its end]"},
        {"role": "user", "content": "three"},
    ]


async def test_other_sessions_are_not_seen(server: OpenAIServer, model: OpenAIChat) -> None:
    """Without a session, or in another one, nothing is remembered."""
    agent = Agent(name="a", model=model)
    await agent.arun("one", session_id="s-other")
    await agent.arun("two", session_id="s-another")
    await agent.arun("three")
    for request in (1, 2):
        assert len(server.exchange(request).body["messages"]) == 1
