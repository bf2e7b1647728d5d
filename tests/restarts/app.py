"""What the servers of these tests serve. It is imported by their workers only."""

import pathlib
from collections.abc import AsyncGenerator, Iterator

from pullcord import RunContext, RunServer, runnable
from pullcord.agent import Agent, needs_approval
from pullcord.models.base import (
    Finished,
    Model,
    ModelChunk,
    ModelRequest,
    Text,
    ToolMessage,
    ToolRequest,
)
from pullcord.models.offline import OfflineModel
from pullcord.run.events import ToolCall
from pullcord.run.finish import FinishReason
from pullcord.run.usage import Usage
from pullcord.team import Team
from pullcord.workflow import Loop, Parallel, Workflow


@runnable
def story(ctx: RunContext) -> Iterator[str]:
    """Tells half of a story, and waits for a file of its input's name."""
    yield from ("once ", "upon ", "a ", "time ")
    ctx.progress(4, 6, "looking up the rest")
    with ctx.tool_call("call-1", "look_up", "{}"):
        while not pathlib.Path(ctx.input).exists():
            if ctx.cancel_token.wait(0.01):
                ctx.cancel_token.raise_if_cancelled()
    yield "the end"


@runnable
def say(ctx: RunContext) -> str:
    """Says what was said in its session, and what it is told."""
    return " ".join([*(run.output for run in ctx.history()), ctx.input])


@runnable
async def count(ctx: RunContext) -> None:
    """Counts as far as it is told."""
    for n in range(int(ctx.input)):
        ctx.write(f"{n} ")


helper = Agent(name="Helper", model=OfflineModel())


@runnable
def stops(ctx: RunContext) -> str:
    """Stops the run that its input names."""
    return str(helper.cancel_run(ctx.input, "a run asked for it"))


class Buyer(Model):
    """Asks for a purchase in a first answer, and says what came of it in a second one."""

    id = "buyer"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """Tells how many messages it was shown."""
        last = request.messages[-1]
        yield Usage(input_tokens=len(request.messages), output_tokens=1)
        if isinstance(last, ToolMessage):
            yield Text(f"{last.text}, said {len(request.messages)}")
            yield Finished(FinishReason.STOP)
            return
        yield Text("I would like to. ")
        yield ToolRequest("call-1", "buy", '{"what": "a bus"}')
        yield Finished(FinishReason.TOOL_CALLS)


@needs_approval
def buy(what: str) -> str:
    """Buys something, and writes down in a file that it did."""
    with pathlib.Path("bought").open("a") as file:
        file.write(f"{what}\n")
    return f"bought {what}"


buyer = Agent(name="Buyer", model=Buyer(), tools=[buy])


@runnable
async def unsure(ctx: RunContext) -> None:
    """Asks, and hands nothing over."""
    await ctx.ask("Well?", [ToolCall("c", "guess")])


class Leader(Model):
    """Hands the purchase to its member, and then says what it was told."""

    id = "leader"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """Tells how many messages it was shown."""
        last = request.messages[-1]
        if isinstance(last, ToolMessage):
            yield Text(f"[{last.text}], led by {len(request.messages)}")
            yield Finished(FinishReason.STOP)
            return
        yield Text("Buyer, go. ")
        task = '{"member_id": "buyer", "task": "a bus"}'
        yield ToolRequest("call-0", "delegate_to_member", task)
        yield Finished(FinishReason.TOOL_CALLS)


buyers = Team(name="Buyers", members=[buyer], model=Leader())


@runnable
def note(input: str) -> str:
    """Writes down in a file that it was called."""
    with pathlib.Path("noted").open("a") as file:
        file.write(f"{input}\n")
    return f"noted {input}"


trip = Workflow(name="Trip", steps=[note, Loop([buyers], max_iterations=1), note])
doubtful = Workflow(name="Doubtful", steps=[Parallel(buyer, story)])
server = RunServer(
    agents=[story, say, count, helper, stops, buyer, unsure],
    teams=[buyers],
    workflows=[trip, doubtful],
)
