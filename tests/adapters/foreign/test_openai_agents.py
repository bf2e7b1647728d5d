"""What is the OpenAI Agents SDK's own: sessions, handoffs, guardrails, and contexts."""

from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    RunContextWrapper,
    RunHooks,
    Runner,
    SQLiteSession,
    function_tool,
    input_guardrail,
)
from pullcord import OpenAIAgentsAgent
from pullcord.run.context import RunContext

from tests.adapters.foreign.kinds import openai_agents_kind as kind
from tests.adapters.foreign.test_contract import decide, ended, pytestmark, stop
from tests.openai_server import Call, OpenAIServer, Refuse, Silence
from tests.transports.harness import TERMINAL, Serve, kind_of

__all__ = ["pytestmark"]


def test_a_session_of_the_sdk_is_told_what_was_interrupted(
    model: OpenAIServer, serve: Serve
) -> None:
    """The SDK's session keeps the user's message of a stopped turn only; its text is added."""
    kept = {"s": SQLiteSession("s")}

    def session_of(ctx: RunContext) -> Any:
        return kept[ctx.session_id]

    model.script("First answer")
    model.script("The secret word is plum", Silence())
    model.script("It was plum")
    served = serve(OpenAIAgentsAgent(kind.agent(model.base_url), session=session_of))
    ended(served.run("helper", "one", session_id="s"), "run_completed")
    stream = served.run("helper", "two", session_id="s")
    while not stream.text().endswith("plum"):
        stream.until("content_delta")
    stop(served, stream)
    ended(served.run("helper", "three", session_id="s"), "run_completed")
    messages = model.exchange(2).body["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert "The secret word is plum" in str(messages[3]["content"])
    kept["s"].close()


def test_a_handoff_is_told_and_goes_on_in_the_same_run(model: OpenAIServer, serve: Serve) -> None:
    """What each agent says is the run's text, a paragraph of its own, also of one that comes back
    to speak; an event says who it is."""
    second = kind.agent(model.base_url)
    second.name = "second"
    first = kind.agent(model.base_url)
    first.handoffs, second.handoffs = [second], [first]
    model.script("I pass you on", Call("transfer_to_second", {}, "a"))
    model.script("Here I am", Call("transfer_to_helper", {}, "b"))
    model.script("Back again")
    stream = serve(first).run("helper", "?")
    end = ended(stream, "run_completed")
    assert end.output == stream.text() == "I pass you on\n\nHere I am\n\nBack again"
    assert not any(event.HasField("source") for event in stream.events)
    told = [e.custom.data["agent"] for e in stream.events if kind_of(e) == "custom"]
    assert told == ["second", "helper"]


def test_a_sub_agent_that_hands_over_is_one_child(model: OpenAIServer, serve: Serve) -> None:
    """Its text comes whole after each call of a model, likewise in paragraphs."""
    second = kind.agent(model.base_url)
    second.name = "second"
    member = kind.agent(model.base_url)
    member.name, member.handoffs = "The Member", [second]
    agent = kind.agent(model.base_url)
    agent.tools = [member.as_tool("ask_member", "Asks the member.")]
    model.script(Call("ask_member", {"input": "why"}))
    model.script("I ask", Call("transfer_to_second", {}))
    model.script("The sun")
    model.script("So it is")
    stream = serve(agent).run("helper", "?")
    assert ended(stream, "run_completed").output == "So it is"
    (of_child,) = [e for e in stream.events if e.source.run_id and kind_of(e) == "run_completed"]
    assert list(of_child.source.path) == ["helper", "the-member"]
    assert of_child.run_completed.output == "I ask\n\nThe sun"


def test_a_guardrail_fails_the_run(model: OpenAIServer, serve: Serve) -> None:
    """By the SDK's own error."""

    @input_guardrail
    async def never(
        context: RunContextWrapper[Any], agent: Agent[Any], given: Any
    ) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info="no", tripwire_triggered=True)

    guarded = kind.agent(model.base_url)
    guarded.input_guardrails = [never]
    model.script("Hello")
    end = ended(serve(guarded).run("helper", "?"), "run_failed")
    assert end.error.type == "InputGuardrailTripwireTriggered"


def test_the_author_makes_the_context(model: OpenAIServer, serve: Serve) -> None:
    """Instructions and tools get what `context` makes of the run."""

    def instructions(context: RunContextWrapper[Any], agent: Agent[Any]) -> str:
        return f"You serve {context.context}"

    agent = kind.agent(model.base_url)
    agent.instructions = instructions
    served = serve(OpenAIAgentsAgent(agent, context=lambda ctx: ctx.user_id))
    ended(served.run("helper", "?", user_id="ann"), "run_completed")
    assert model.exchange(0).body["messages"][0]["content"] == "You serve ann"


def test_runs_that_a_tool_begins_are_child_runs(model: OpenAIServer, serve: Serve) -> None:
    """Streamed, not streamed, and in a thread; the hooks that they have of their own are called."""
    heard: list[str] = []

    class Own(RunHooks[Any]):
        async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
            heard.append(agent.name)

    member, expert = kind.agent(model.base_url), kind.agent(model.base_url)
    member.name, expert.name = "member", "Expert"

    @function_tool
    def ask_expert(question: str) -> str:
        return str(Runner.run_sync(expert, question, hooks=Own()).final_output)

    @function_tool
    async def ask_member(question: str) -> str:
        answer = Runner.run_streamed(member, question, hooks=Own())
        async for _ in answer.stream_events():
            pass
        return str(answer.final_output)

    agent = kind.agent(model.base_url)
    agent.tools, member.tools = [ask_member], [ask_expert]
    model.script(Call("ask_member", {"question": "why"}, "a"))
    model.script("Let me ask", Call("ask_expert", {"question": "why"}, "b"))
    model.script("The sun")
    model.script("The sun, it seems")
    model.script("So it is")
    stream = serve(agent).run("helper", "?")
    end = ended(stream, "run_completed")
    assert (end.output, end.usage.steps, end.usage.tool_calls) == ("So it is", 5, 2)
    assert end.usage.input_tokens == 50
    assert heard == ["member", "Expert", "member"]
    to_member, to_expert = ["helper", "member"], ["helper", "member", "expert"]
    of_member = [e for e in stream.events if list(e.source.path) == to_member]
    of_expert = [e for e in stream.events if list(e.source.path) == to_expert]
    assert "".join(e.content_delta.text for e in of_member) == "Let me askThe sun, it seems"
    assert [kind_of(e) for e in of_expert] == ["run_started", "content_delta", "run_completed"]
    assert of_expert[-1].run_completed.output == "The sun"
    assert of_expert[0].run_started.parent_run_id == of_member[0].source.run_id
    ends = [(kind_of(e), e.source.name) for e in stream.events if kind_of(e) in TERMINAL]
    assert ends == [("run_completed", name) for name in ("Expert", "member", "")]


def test_a_sub_agent_that_asks_goes_on_as_the_same_child(model: OpenAIServer, serve: Serve) -> None:
    """A tool of an agent that is a tool needs an approval: the run pauses, and goes on."""
    paid: list[str] = []

    async def pay(to: str) -> str:
        """Pays."""
        paid.append(to)
        return f"paid {to}"

    member = kind.agent(model.base_url, approved=[pay])
    member.name = "member"
    agent = kind.agent(model.base_url)
    agent.tools = [member.as_tool("ask_member", "Asks the member.")]
    model.script(Call("ask_member", {"input": "pay Ann"}, "a"))
    model.script(Call("pay", {"to": "Ann"}, "p1"))
    model.script("Done")
    model.script("It is done")
    served = serve(agent)
    stream = served.run("helper", "?")
    stream.until("run_paused")
    decide(served, stream.events[0].run_id, tool_call_id="p1", approved=True)
    end = ended(stream, "run_completed")
    assert (end.output, paid, end.usage.steps) == ("It is done", ["Ann"], 4)
    of_member = [kind_of(e) for e in stream.events if e.source.name == "member"]
    assert of_member[0] == "run_started"
    assert of_member[-1] == "run_completed"
    assert len([kind for kind in of_member if kind in (*TERMINAL, "run_started")]) == 2


def test_a_run_within_that_fails_is_a_failed_child(model: OpenAIServer, serve: Serve) -> None:
    """Its parent's tool may go on."""
    member = kind.agent(model.base_url)
    member.name = "member"

    @function_tool
    async def ask_member() -> str:
        with pytest.raises(Exception, match="no such model here"):
            await Runner.run(member, "?")
        return "It failed"

    agent = kind.agent(model.base_url)
    agent.tools = [ask_member]
    model.script(Call("ask_member"))
    model.script(Refuse(400, "no such model here"))
    model.script("Alas")
    stream = serve(agent).run("helper", "?")
    assert ended(stream, "run_completed").output == "Alas"
    (failed,) = [e for e in stream.events if e.source.run_id and kind_of(e) in TERMINAL]
    assert "no such model here" in failed.run_failed.error.message
