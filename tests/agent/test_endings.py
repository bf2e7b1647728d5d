"""What becomes of a run by the way its model's answers end, through the real engine and client."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from pullcord import RunContext, runnable
from pullcord.agent import Agent
from pullcord.models.base import Finished, Model, ModelChunk, ModelRequest, Price, Text
from pullcord.run.base import RunOutput, RunStatus
from pullcord.run.cancel import CancelCause
from pullcord.run.events import ToolCallState
from pullcord.run.finish import FinishReason
from pullcord.run.usage import Limits, Usage
from pullcord.workflow.workflow import Workflow

from tests.agent.making import closed, made
from tests.models.chat_deviations import DONE, HI, calls, count, delta, piece, says
from tests.models.misbehaving import HOLD, MisbehavingServer, Piece, Reply

ROME = '{"city": "Rome"}'


@pytest.fixture
async def server() -> AsyncIterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server
        await closed()


def weather(city: str) -> str:
    """Tells the weather."""
    return f"rain in {city}"


def fail(city: str) -> str:
    """Tells no weather."""
    raise LookupError(f"no {city}")


def agent_of(server: MisbehavingServer, *tools: Any, price: Any = None, **options: Any) -> Agent:
    return Agent(name="a", model=made(server, price=price), tools=tools, **options)


async def run(server: MisbehavingServer, *tools: Any, **options: Any) -> RunOutput:
    return await agent_of(server, *tools, **options).arun("?")


def failed(output: RunOutput, words: str) -> bool:
    return output.status is RunStatus.error and words in output.error


async def test_an_answer_that_was_cut_off_completes_with_its_text(
    server: MisbehavingServer,
) -> None:
    """Unless the author wants it to fail; where nothing was said it fails in any case."""
    server.answers(*says("forty", "length"))
    output = await run(server)
    assert (output.status, output.content) == (RunStatus.completed, "forty")
    assert output.finish_reason is FinishReason.LENGTH
    output = await run(server, on_cut_off="fail")
    assert failed(output, "cut off")
    assert output.finish_reason is FinishReason.LENGTH
    assert output.content == "forty"
    server.answers(delta(reasoning_content="hm"), delta("length"), DONE)
    assert failed(await run(server), "before the model said anything")


async def test_calls_of_an_answer_that_was_cut_off_are_never_executed(
    server: MisbehavingServer,
) -> None:
    """A cut-off answer with calls fails the run, though the calls look whole."""
    server.answers(
        *calls(HI, piece(index=0, id="a", name="weather", arguments=ROME), finish="length")
    )
    output = await run(server, weather)
    assert failed(output, "tool calls; none was executed")
    assert (output.tools, output.content) == ((), "hi")
    assert len(server.requests) == 1


async def test_an_answer_that_was_withheld_fails_unless_something_was_said(
    server: MisbehavingServer,
) -> None:
    """The provider's filter fails a run that has nothing to show."""
    server.answers(delta("content_filter"), DONE)
    assert failed(await run(server), "withheld")
    server.answers(*says("Once", "content_filter"))
    assert (await run(server)).content == "Once"
    filtered = {"error": {"message": "It was filtered.", "code": "content_filter"}}
    server.answers(Reply(400, filtered))
    output = await run(server)
    assert failed(output, "withheld the answer: It was filtered.")
    assert output.finish_reason is FinishReason.CONTENT_FILTER
    server.answers(HI, filtered)
    output = await run(server)
    assert (output.status, output.content) == (RunStatus.completed, "hi")


async def test_thinking_in_the_text_is_no_part_of_the_output(server: MisbehavingServer) -> None:
    """Neither the output nor the next request holds it; the author can say otherwise."""
    server.answers(*says("<think>hm</think>\n\nhi"))
    agent = agent_of(server)
    assert (await agent.arun("?", session_id="thinks")).content == "hi"
    await agent.arun("?", session_id="thinks")
    assert "hm" not in str(server.requests[-1].body)
    for tags, answer in (("text", "<think>hm</think>\n\nhi"), ("begun", "hi")):
        model = made(server, think_tags=tags)
        server.answers(*says("<think>hm</think>\n\nhi" if tags == "text" else "hm</think>hi"))
        assert (await Agent(name="b", model=model).arun("?")).content == answer
    with pytest.raises(ValueError, match="think_tags"):
        made(server, think_tags="maybe")


async def test_a_refusal_fails_the_run(server: MisbehavingServer) -> None:
    """The model's words of refusal are the error's, and the run's text."""
    server.answers(delta(refusal="I must not."), delta("stop"), DONE)
    output = await run(server)
    assert failed(output, "I must not.")
    assert output.content == "I must not."


@pytest.mark.parametrize("word", ["error", "network_error"])
async def test_an_answer_that_failed_in_its_middle_fails_the_run(
    server: MisbehavingServer, word: str
) -> None:
    """Text that came before the provider's failure stays, and the run has failed."""
    server.answers(*says("Half", word))
    output = await run(server)
    assert failed(output, "failed in the middle")
    assert output.content == "Half"


async def test_an_unknown_reason_fails_only_a_run_that_said_nothing(
    server: MisbehavingServer,
) -> None:
    """The provider's own word is in the error."""
    server.answers(delta("because"), DONE)
    assert failed(await run(server), "because")
    server.answers(*says("hi", "because"))
    assert (await run(server)).content == "hi"


async def test_announced_calls_that_do_not_come_fail_the_run(server: MisbehavingServer) -> None:
    """An answer that ends for tool calls, and has neither calls nor text, is no answer."""
    server.answers(delta("tool_calls"), DONE)
    assert failed(await run(server), "announced tool calls and sent none")
    server.answers(*says("hi", "tool_calls"))
    assert (await run(server)).content == "hi"


class OwnWords(Model):
    """A model of an author's, which ends its answers in words of its own."""

    id = "own"

    def __init__(self, *words: Any) -> None:
        self._words = words

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        yield Text("hi")
        for word in self._words:
            yield Finished(word)


@pytest.mark.parametrize(
    ("words", "error"),
    [(("stop",), ""), (("",), ""), (("wonder",), ""), (("error",), "failed"), ((), "Finished")],
)
async def test_an_own_model_may_use_own_words(words: tuple[Any, ...], error: str) -> None:
    """The words are understood as a provider's are; a model that never says it fails the run."""
    output = await Agent(model=OwnWords(*words)).arun("?")
    assert error in output.error
    assert (output.status is RunStatus.error) == bool(error)


# --- bounds of the loop


async def test_model_calls_are_bounded(server: MisbehavingServer) -> None:
    """An agent that says nothing else asks its model 50 times at most."""
    server.script = lambda body, number: calls(
        piece(index=0, id=f"c{number}", name="weather", arguments=f'{{"city": "{number}"}}')
    )
    output = await run(server, weather, max_model_calls=3)
    assert (output.status, output.cause) == (RunStatus.cancelled, CancelCause.BUDGET)
    assert "3 model calls" in output.reason
    assert [call.state for call in output.tools] == [ToolCallState.COMPLETED] * 3
    assert len(server.requests) == 3
    await run(server, weather)
    assert len(server.requests) == 3 + 50


async def test_model_calls_can_be_unbounded(server: MisbehavingServer) -> None:
    """With None only the run's own limits count."""
    server.script = lambda body, number: (
        says("done")
        if number == 60
        else calls(piece(index=0, name="weather", arguments=f'{{"city": "{number}"}}'))
    )
    assert (await run(server, weather, max_model_calls=None)).content == "done"


async def test_the_same_failing_call_ends_the_run(server: MisbehavingServer) -> None:
    """A model that repeats a call which fails in one way has three tries unless set."""
    server.answers(*calls(piece(index=0, id="a", name="fail", arguments=ROME)))
    output = await run(server, fail)
    assert failed(output, "'fail' failed 3 times with the same arguments and the same error")
    assert "no Rome" in output.error
    assert len(output.tools) == 3
    assert len((await run(server, fail, max_same_failures=1)).tools) == 1
    assert len((await run(server, fail, max_same_failures=None, max_model_calls=7)).tools) == 7


async def test_calls_that_fail_in_other_ways_are_no_repetition(server: MisbehavingServer) -> None:
    """Other arguments, another tool, another error: the model is learning."""
    arguments = [ROME, '{"town": "Rome"}', '{"city": "Oslo"}', '{"city": 1}', ROME]

    def script(body: Any, number: int) -> list[Piece]:
        if number < 5:
            return calls(piece(index=0, name="fail", arguments=arguments[number]))
        return calls(piece(index=0, name="nothing")) if number == 5 else says("done")

    server.script = script
    assert (await run(server, fail)).content == "done"


async def test_one_answer_with_many_failing_calls_is_one_failure(
    server: MisbehavingServer,
) -> None:
    """The model cannot have learnt of an error within the answer that makes it."""
    many = [piece(index=i, id=f"c{i}", name="fail", arguments=ROME) for i in range(5)]
    server.script = lambda body, number: says("done") if number else calls(*many)
    assert (await run(server, fail)).content == "done"


@pytest.mark.parametrize(
    "options", [{"on_cut_off": "stop"}, {"max_model_calls": 0}, {"max_same_failures": 1.5}]
)
def test_wrong_bounds_are_refused(server: MisbehavingServer, options: dict[str, Any]) -> None:
    """An agent says at once what is wrong with its options."""
    with pytest.raises(ValueError, match=next(iter(options))):
        agent_of(server, **options)


# --- money and usage


async def test_a_limit_on_an_unknown_cost_is_refused(server: MisbehavingServer) -> None:
    """A run with max_cost fails in words where nobody knows the price, and asks nothing."""
    server.answers(*says("dear"))
    agent = agent_of(server)
    output = await agent.arun("?", limits=Limits(max_cost=1.0))
    assert failed(output, "the price of the model 'm' is not known")
    assert not server.requests
    agent = agent_of(server, price=Price(input=1000, output=0))
    output = await agent.arun("?" * 8000, limits=Limits(max_cost=1.0))
    assert (output.status, output.cause) == (RunStatus.cancelled, CancelCause.BUDGET)
    assert (await agent.arun("?", limits=Limits(max_cost=1.0))).content == "dear"


async def test_usage_told_while_it_streams_counts_when_stopped(server: MisbehavingServer) -> None:
    """What the provider has told stands; only what came after it is estimated."""
    server.answers(delta(content="one", usage=count(1000, 7)), delta(content=" two"), HOLD)
    agent = agent_of(server)
    async for chunk in agent.arun("?", stream=True, run_id="told"):
        if chunk.event == "RunContent" and chunk.content.endswith(" two"):
            agent.cancel_run("told")
    usage = chunk.metrics
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (1000, 8, True)


async def test_usage_told_at_the_last_word_is_exact(server: MisbehavingServer) -> None:
    """A running sum that covers all that came is no estimate, also when stopped."""
    server.answers(delta(content="one", usage=count(1000, 7)), HOLD)
    agent = agent_of(server)
    async for chunk in agent.arun("?", stream=True, run_id="exact"):
        if chunk.content == "one":
            await asyncio.sleep(0)
            agent.cancel_run("exact")
    assert (chunk.metrics.input_tokens, chunk.metrics.output_tokens) == (1000, 7)


@pytest.mark.parametrize("wrong", [None, "x", -1, 2.5, True])
async def test_what_is_no_count_is_estimated(server: MisbehavingServer, wrong: Any) -> None:
    """One wrong number does not spoil the other; the sum is marked as an estimate."""
    server.answers(*says("one", usage=count(wrong, 70)))
    usage = (await agent_of(server).arun("?" * 400)).metrics
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (100, 70, True)


# --- cost


class Prices(Model):
    """A model that tells its usage, perhaps with what it cost, and may have a price."""

    id = "prices"

    def __init__(self, price: float | None, *told: Usage) -> None:
        self._price = price
        self._told = told

    def cost(self, usage: Usage) -> float | None:
        return self._price

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        yield Text("hi")
        for usage in self._told:
            yield usage
        yield Finished(FinishReason.STOP)


@pytest.mark.parametrize(
    ("model", "cost"),
    [
        (Prices(None), None),
        (Prices(None, Usage(5, 5)), None),
        (Prices(None, Usage(5, 5, cost=0.25)), 0.25),
        (Prices(0.0), 0.0),
        (Prices(0.0, Usage(5, 5)), 0.0),
        (Prices(0.5, Usage(5, 5)), 0.5),
    ],
)
async def test_an_unknown_cost_is_not_0(model: Model, cost: float | None) -> None:
    """The cost is None if no price is known and the model does not tell it."""
    seen = [chunk async for chunk in Agent(model=model).arun("a question", stream=True)]
    assert seen[-1].metrics.cost == cost
    assert seen[-1].metrics.input_tokens > 0


async def test_of_two_models_one_unknown_price_makes_the_cost_unknown() -> None:
    """A sum of a known and an unknown cost is not known."""
    told = Usage(5, 5)

    @runnable
    async def both(ctx: RunContext) -> None:
        for price in (0.5, None):
            await ctx.start(Agent(model=Prices(price, told), id="priced")).wait()

    agent = Workflow(steps=[both])
    assert (await agent.arun("?")).metrics.cost is None


async def test_a_provider_that_did_nothing_costs_nothing(server: MisbehavingServer) -> None:
    """A refused call leaves the cost known."""
    server.answers(Reply(401, {"error": {"message": "no key"}}))
    output = await run(server)
    assert output.status is RunStatus.error
    assert output.metrics.cost == 0.0
