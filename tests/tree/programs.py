"""Programs that always make the same number of events: an agent, teams, workflows, functions.

Their models are scripts without a state, and everything they do to the world is counted. Nothing
here waits for anybody: who wants to stop a program does so at an event (see `moments`).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

from pullcord.adapters.function import FunctionRunnable
from pullcord.agent import Agent
from pullcord.models.base import (
    AssistantMessage,
    Finished,
    Model,
    ModelChunk,
    ModelRequest,
    Text,
    ToolRequest,
)
from pullcord.run.context import RunContext
from pullcord.run.usage import Usage
from pullcord.team import Team
from pullcord.workflow import Condition, Loop, Parallel, Router, Step, Workflow

effects: Counter[str] = Counter()
"""What the programs have done to the world, by tool and function; a test clears it."""


class ScriptedModel(Model):
    """Gives the answers of its script, one after the other in each conversation."""

    id = "scripted"

    def __init__(self, *answers: Sequence[ModelChunk]) -> None:
        self._answers = answers

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        said = sum(isinstance(message, AssistantMessage) for message in request.messages)
        for chunk in self._answers[said]:
            yield chunk
            await asyncio.sleep(0)
        yield Usage(input_tokens=10, output_tokens=5)
        yield Finished("stop")


def call(name: str, arguments: str = "{}", id: str = "") -> ToolRequest:
    return ToolRequest(id or name, name, arguments)


def delegate(member: str) -> ToolRequest:
    arguments = f'{{"member_id": "{member}", "task": "go"}}'
    return call("delegate_to_member", arguments, id=f"to-{member}")


async def look() -> str:
    """Looks."""
    effects["look"] += 1
    await asyncio.sleep(0)
    return "seen"


def note() -> str:
    """Takes a note, in a thread."""
    effects["note"] += 1
    return "noted"


def an_agent(id: str = "agent", *tools: Any) -> Agent:
    tools = tools or (look, note)
    wanted = [call(tool.__name__) for tool in tools]
    model = ScriptedModel([Text("let me "), Text("see "), *wanted], [Text("so "), Text("it is")])
    return Agent(id=id, name=id, model=model, tools=tools)


def a_team(id: str = "team", *members: Any) -> Team:
    members = members or (an_agent("one", look), an_agent("two", note))
    wanted = [delegate(member.id) for member in members]
    model = ScriptedModel([Text("go "), *wanted], [Text("well "), Text("done")])
    return Team(id=id, name=id, model=model, members=members)


def does(name: str, *, sync: bool = False) -> FunctionRunnable:
    """A function that does something once, and says so in two words."""

    async def in_a_task(input: str) -> AsyncGenerator[str, None]:
        effects[name] += 1
        yield f"{name} "
        await asyncio.sleep(0)
        yield "did"

    def in_a_thread(input: str, ctx: RunContext) -> Iterator[str]:
        effects[name] += 1
        yield f"{name} "
        yield "did"

    return FunctionRunnable(in_a_thread if sync else in_a_task, id=name)


def fails_once(input: str) -> str:
    effects["fails-once"] += 1
    if effects["fails-once"] % 2:
        raise ValueError("not yet")
    return "at last"


def a_workflow(id: str = "workflow") -> Workflow:
    """Every kind of step there is."""
    return Workflow(
        id=id,
        name=id,
        steps=[
            Step("first", executor=does("first")),
            Step("again", executor=fails_once, retries=1, retry_delay=0),
            Step("broken", executor=_broken, on_error="skip"),
            Parallel(does("left"), does("right", sync=True), name="both"),
            Loop([does("round")], name="loop", max_iterations=2),
            Condition(lambda given: bool(given.input), [does("yes")], else_steps=[does("no")]),
            Router(lambda given: "here", [Step("here", executor=does("here")), does("there")]),
        ],
    )


def _broken(input: str) -> str:
    effects["broken"] += 1
    raise RuntimeError("always")


def nested() -> Workflow:
    """A workflow of a team of an agent with a tool, and a workflow in the workflow."""
    return Workflow(
        id="nested",
        name="nested",
        steps=[
            Step("talk", team=a_team("inner-team", an_agent("deep", look, note), a_workflow("w3"))),
            Step("work", workflow=Workflow(id="inner", steps=[does("deeper"), does("deepest")])),
            does("end"),
        ],
    )


PROGRAMS: dict[str, Any] = {
    "function": does("function", sync=True),
    "agent": an_agent(),
    "team": a_team(),
    "workflow": a_workflow(),
    "nested": nested(),
}
