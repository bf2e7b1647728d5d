"""Parts and messages on their way through a worker: to children, other runs and later turns."""

from typing import Any

import pytest
from pullcord.executors.workers import connection
from pullcord.run.message import Message, Part
from pullcord.run.state import RunState

from tests.executors.workers.conftest import ServeApp

APP = """
from pullcord import RunContext, RunServer, runnable
from pullcord.adapters.function import FunctionRunnable
from pullcord.agent import Agent
from pullcord.models.base import Finished, Media, Model, Text, UserMessage
from pullcord.run.finish import FinishReason

def digest(parts, messages):
    told = [f"{p.text or p.uri or p.data!r}" for m in messages for p in m.parts]
    return " ".join([*(f"{p.text or p.uri or p.data!r}" for p in parts), "|", *told])

@runnable
def child(parts, messages):
    yield digest(parts, messages)

@runnable
async def parent(ctx: RunContext):
    run = await ctx.start(child, parts=ctx.parts, messages=ctx.messages).wait()
    ctx.write(run.output)

class Echo(Model):
    id = "echo"
    media = Media(data=("image/*",))

    async def stream(self, request):
        users = [m for m in request.messages if isinstance(m, UserMessage)]
        yield Text(" / ".join(m.text + str([p.data for p in m.parts]) for m in users))
        yield Finished(FinishReason.STOP)

echo = Agent(id="echo", model=Echo())

@runnable
async def asks(ctx: RunContext):
    made = await echo.arun("in", parts=ctx.parts)
    ctx.write(made.content)

server = RunServer(agents=[child, parent, echo, asks])
"""

IMAGE = Part(data=b"\x89PNG\xff", media_type="image/png")
SAID = Message.of("user", "before")


def test_they_are_the_same_behind_every_link(serve: ServeApp) -> None:
    """To a run, to its child, and to a run that a run's code starts by itself."""
    client = serve(APP).client
    given = {"parts": [IMAGE, Part("text")], "messages": [SAID]}
    expected = f"{IMAGE.data!r} 'text' | 'before'"
    for name in ("agents/child", "agents/parent"):
        run = client.wait(client.start(name, **given).run_id)
        assert run.output == expected
    run = client.wait(client.start("agents/asks", parts=[IMAGE]).run_id)
    assert run.output == f"in[{IMAGE.data!r}]"


def test_a_later_turn_is_shown_the_files_of_the_earlier_ones(serve: ServeApp) -> None:
    """The history travels with their data; what callers see of a run does not."""
    client = serve(APP).client
    client.wait(client.start("agents/echo", "one", parts=[IMAGE], session_id="s").run_id)
    run = client.wait(client.start("agents/echo", "two", session_id="s").run_id)
    assert run.output == f"one[{IMAGE.data!r}] / two[]"
    shown = client.get(client.start("agents/child", parts=[IMAGE]).run_id).parts
    assert shown == (Part(media_type="image/png"),)


def test_a_run_that_cannot_be_sent_fails(serve: ServeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not stay PENDING, and the worker takes others."""

    def start_frame(start: Any, spec: Any) -> Any:
        if spec.input == "no":
            raise ValueError("it cannot be written")
        return given(start, spec)

    given = connection.start_frame
    monkeypatch.setattr(connection, "start_frame", start_frame)
    served = serve(APP)
    run = served.client.wait(served.client.start("agents/child", "no").run_id)
    assert (run.state, run.error and run.error.type) == (RunState.FAILED, "NotSent")
    for _ in range(2):
        run = served.client.wait(served.client.start("agents/child", parts=[IMAGE]).run_id)
        assert run.state is RunState.COMPLETED
    served.freed()
