"""Foreign agents without a server: in a program, and as steps of our own workflows."""

import asyncio
from typing import Any

from pullcord.adapters.foreign.recognition import foreign
from pullcord.run.base import RunStatus
from pullcord.workflow.workflow import Workflow

from tests.adapters.foreign.test_contract import ended, pytestmark, stop
from tests.openai_server import OpenAIServer, Silence
from tests.steady import PATIENCE
from tests.transports.harness import Serve

__all__ = ["pytestmark"]


async def test_a_program_runs_and_cancels_one(kind: Any, model: OpenAIServer) -> None:
    """`arun` runs it on the program's own loop; `cancel_run` stops it while its model is silent."""
    agent: Any = foreign(kind.agent(model.base_url))
    model.script("It is sunny")
    assert (await agent.arun("how is it?")).content == "It is sunny"
    model.script("Once", Silence())
    status = None
    async for chunk in agent.arun("a story", stream=True):
        if getattr(chunk, "content", None) == "Once":
            agent.cancel_run(chunk.run_id)
        status = getattr(chunk, "status", None)
    assert status is RunStatus.cancelled
    left = model.exchange(1).left
    assert await asyncio.to_thread(left.wait, PATIENCE)


def test_it_can_be_a_step_of_our_workflow(kind: Any, model: OpenAIServer, serve: Serve) -> None:
    """Its run is a child run, and a stop of the workflow closes its connection."""
    agent: Any = foreign(kind.agent(model.base_url))
    model.script("half", Silence())
    served = serve(Workflow(name="Flow", steps=[agent]))
    stream = served.run("workflows/flow", "?")
    while "half" not in stream.text():
        stream.until("content_delta")
    stop(served, stream)
    assert model.exchange(0).left.wait(PATIENCE)
    model.script("whole")
    end = ended(served.run("workflows/flow", "?"), "run_completed")
    assert end.output == "whole"
