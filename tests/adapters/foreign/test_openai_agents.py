"""What is the OpenAI Agents SDK's own: sessions, handoffs, guardrails, and contexts."""

from typing import Any

from agents import Agent, GuardrailFunctionOutput, RunContextWrapper, SQLiteSession, input_guardrail
from pullcord import OpenAIAgentsAgent
from pullcord.run.context import RunContext

from tests.adapters.foreign.kinds import openai_agents_kind as kind
from tests.adapters.foreign.test_contract import ended, pytestmark, stop
from tests.openai_server import Call, OpenAIServer, Silence
from tests.transports.harness import Serve, kind_of

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
    """What the second agent says is the run's text."""
    second = kind.agent(model.base_url)
    second.name = "second"
    first = kind.agent(model.base_url)
    first.handoffs = [second]
    model.script(Call("transfer_to_second", {}))
    model.script("Here I am")
    stream = serve(first).run("helper", "?")
    assert ended(stream, "run_completed").output == "Here I am"
    told = [e.custom.data["agent"] for e in stream.events if kind_of(e) == "custom"]
    assert told == ["helper", "second"]


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
