"""What is pydantic-ai's own: dependencies, validators, external calls, and usage that is shared."""

from typing import Any

from pullcord import PydanticAgent
from pullcord.run.context import RunContext as OurContext
from pullcord.v1 import run_pb2
from pydantic_ai import Agent, CallDeferred, ModelRetry, RunContext

from tests.adapters.foreign.kinds import pydantic_ai_kind as kind
from tests.adapters.foreign.test_contract import decide, ended, ledger, pytestmark
from tests.openai_server import Call, OpenAIServer
from tests.transports.harness import Serve

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
