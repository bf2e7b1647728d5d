"""What is pydantic-ai's own: dependencies, validators, external calls, and usage that is shared."""

import asyncio
from typing import Any

import pytest
from pullcord import PydanticAgent
from pullcord.run.context import RunContext as OurContext
from pullcord.v1 import run_pb2
from pydantic_ai import Agent, CallDeferred, ModelHTTPError, ModelRetry, RunContext

from tests.adapters.foreign.kinds import pydantic_ai_kind as kind
from tests.adapters.foreign.test_contract import decide, ended, ledger, pytestmark
from tests.openai_server import Call, Hang, OpenAIServer, Refuse
from tests.transports.harness import TERMINAL, Cause, Serve, kind_of

__all__ = ["pytestmark"]

Tools = run_pb2.ToolCallState


def test_the_author_makes_the_dependencies(model: OpenAIServer, serve: Serve) -> None:
    """For each run, from what is known of it; also in an async function."""

    async def deps_of(ctx: OurContext) -> str:
        return ctx.user_id

    agent: Agent[str, str] = kind.agent(model.base_url)

    @agent.tool
    async def whoami(ctx: RunContext[str]) -> str:
        """Says who asks."""
        return f"you are {ctx.deps}"

    model.script(Call("whoami"))
    model.script("Ann")
    served = serve(PydanticAgent(agent, deps=deps_of))
    end = ended(served.run("helper", "?", user_id="ann"), "run_completed")
    assert end.tool_calls[0].result == "you are ann"


def test_a_call_that_the_model_must_repeat_has_failed(model: OpenAIServer, serve: Serve) -> None:
    """Wrong arguments and ModelRetry alike: each call is in the ledger, and ends once."""

    async def look(city: str) -> str:
        """Looks."""
        if city == "Atlantis":
            raise ModelRetry("no such city")
        return "sun"

    model.script(Call("look", {"town": "Rome"}, "a"))
    model.script(Call("look", {"city": "Atlantis"}, "b"))
    model.script("I give up")
    agent = Agent(kind.model_at(model.base_url), name="helper", tools=[look], retries=5)
    end = ended(serve(agent).run("helper", "?"), "run_completed")
    assert ledger(end) == [("look", Tools.TOOL_CALL_STATE_FAILED)] * 2
    assert "no such city" in end.tool_calls[1].result


def test_a_call_that_somebody_else_executes_is_answered(model: OpenAIServer, serve: Serve) -> None:
    """The answer is the call's result."""

    async def ask_human(question: str) -> str:
        """Asks a human."""
        raise CallDeferred

    model.script(Call("ask_human", {"question": "why?"}, "q1"))
    model.script("Because")
    served = serve(kind.agent(model.base_url, tools=[ask_human]))
    stream = served.run("helper", "?")
    stream.until("run_paused")
    decide(served, stream.events[0].run_id, tool_call_id="q1", answer="just because")
    assert ended(stream, "run_completed").output == "Because"
    assert "just because" in str(model.exchange(1).body["messages"])


def test_usage_that_a_tool_s_agent_shares_counts_once(model: OpenAIServer, serve: Serve) -> None:
    """pydantic-ai's way of adding up: the tool passes `usage` on."""
    member: Any = kind.agent(model.base_url)
    agent = kind.agent(model.base_url)

    @agent.tool
    async def ask(ctx: RunContext[None]) -> str:
        """Asks."""
        async with member.run_stream("why", usage=ctx.usage) as answer:
            return str(await answer.get_output())

    model.script(Call("ask"))
    model.script("one two")
    model.script("Done")
    usage = ended(serve(agent).run("helper", "?"), "run_completed").usage
    assert (usage.input_tokens, usage.output_tokens) == (30, 4)


def test_agents_within_agents_are_child_runs(model: OpenAIServer, serve: Serve) -> None:
    """Also in a tool's thread, and without a stream: each has its place in the path, its own tool
    calls, and one end; their models and tools count for the run."""
    expert = Agent(kind.model_at(model.base_url), name="Expert")

    def ask_expert(question: str) -> str:
        """Asks the expert."""
        return asyncio.run(expert.run(question)).output

    member = Agent(kind.model_at(model.base_url), name="member", tools=[ask_expert])

    async def ask_member(question: str) -> str:
        """Asks the member."""
        return (await member.run(question)).output

    model.script(Call("ask_member", {"question": "why"}, "a"))
    model.script("Let me ask", Call("ask_expert", {"question": "why"}, "b"))
    model.script("The sun")
    model.script("The sun, it seems")
    model.script("So it is")
    stream = serve(kind.agent(model.base_url, tools=[ask_member])).run("helper", "?")
    end = ended(stream, "run_completed")
    assert (end.output, end.usage.steps, end.usage.tool_calls) == ("So it is", 5, 2)
    assert end.usage.input_tokens == 50
    events = [e for e in stream.events if e.source.run_id]
    told = [(kind_of(e), list(e.source.path)) for e in events]
    to_member, to_expert = ["helper", "member"], ["helper", "member", "expert"]
    assert told == [
        ("run_started", to_member),
        ("content_delta", to_member),
        ("tool_call_started", to_member),
        ("run_started", to_expert),
        ("content_delta", to_expert),
        ("run_completed", to_expert),
        ("tool_call_completed", to_member),
        ("content_delta", to_member),
        ("run_completed", to_member),
    ]
    assert events[5].run_completed.output == "The sun"
    assert events[3].run_started.parent_run_id == events[0].source.run_id
    assert events[-1].run_completed.output == "Let me askThe sun, it seems"


def test_a_sub_agent_ends_by_itself(model: OpenAIServer, serve: Serve) -> None:
    """One that fails, and one that its tool has left: the run goes on."""
    member = Agent(kind.model_at(model.base_url), name="member")

    async def fail() -> str:
        """Asks in vain."""
        with pytest.raises(ModelHTTPError):
            await member.run("?")
        return "failed"

    async def leave() -> str:
        """Asks and hears the beginning only."""
        async with member.run_stream("?") as answer:
            async for _ in answer.stream_text():
                break
        return "left"

    async def lose_patience() -> str:
        """Asks, and does not wait for the answer."""
        asked = asyncio.create_task(member.run("?"))
        await asyncio.to_thread(model.exchange, 5)
        asked.cancel()
        await asyncio.wait([asked])
        return "lost patience"

    model.script(Call("fail"))
    model.script(Refuse(400, "no such model here"))
    model.script(Call("leave"))
    model.script("I think so")
    model.script(Call("lose_patience"))
    model.script(Hang())
    model.script("So it is")
    agent = kind.agent(model.base_url, tools=[fail, leave, lose_patience])
    stream = serve(agent).run("helper", "?")
    end = ended(stream, "run_completed")
    assert end.output == "So it is"
    ends = [e for e in stream.events if e.source.run_id and kind_of(e) in TERMINAL]
    assert [kind_of(e) for e in ends] == ["run_failed", "run_cancelled", "run_cancelled"]
    assert "no such model here" in ends[0].run_failed.error.message
    assert ends[1].run_cancelled.output == "I think so"
    for end in ends[1:]:
        assert end.run_cancelled.cancellation.cause == Cause.CANCEL_CAUSE_PARENT


def test_an_agent_that_a_validator_asks_is_a_child_run(model: OpenAIServer, serve: Serve) -> None:
    """No tool waits for it."""
    judge = Agent(kind.model_at(model.base_url), name="judge")
    agent = kind.agent(model.base_url)

    @agent.output_validator
    async def judged(output: str) -> str:
        return f"{output} ({(await judge.run(output)).output})"

    model.script("A tale")
    model.script("good")
    stream = serve(agent).run("helper", "?")
    end = ended(stream, "run_completed")
    assert end.usage.steps == 2
    (started, *_, last) = [e for e in stream.events if e.source.name == "judge"]
    assert kind_of(started) == "run_started"
    assert last.run_completed.output == "good"


async def test_agents_that_are_not_served_are_as_they_were(model: OpenAIServer) -> None:
    """A program's own runs begin as pydantic-ai begins them, whatever is served beside them."""
    PydanticAgent(kind.agent(model.base_url))
    model.script("Hello")
    lonely = Agent(kind.model_at(model.base_url))
    assert ((await lonely.run("?")).output, lonely.name) == ("Hello", "lonely")
