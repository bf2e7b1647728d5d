"""What is the ADK's own: agents of agents, tools that raise, and pauses that outlive a process.

`make apart` runs this, in an environment of its own: the ADK's packages do not fit beside others.
"""

from pathlib import Path
from typing import Any

import pytest
from google.adk.agents import ParallelAgent, SequentialAgent
from pullcord import GoogleADKAgent
from pullcord.engine.clock import ThreadClock
from pullcord.run.events import ToolCallState
from pullcord.run.record import Decision
from pullcord.run.state import RunState
from pullcord.v1 import run_pb2

from tests.adapters.foreign.kinds import google_adk_kind as kind
from tests.adapters.foreign.test_contract import connections, ended, ledger, pytestmark, stop
from tests.engine.driving import ended as ended_run
from tests.engine.processes import Process
from tests.openai_server import Call, OpenAIServer, Silence
from tests.steady import PATIENCE
from tests.transports.harness import Serve, kind_of

__all__ = ["pytestmark"]

Tools = run_pb2.ToolCallState
done: list[str] = []


async def pay(amount: int) -> str:
    """Pays."""
    done.append(f"paid {amount}")
    return f"paid {amount}"


@pytest.mark.parametrize("decision", [Decision("p1", approved=True), Decision("p1", note="no")])
def test_a_pause_outlives_its_process(
    model: OpenAIServer, tmp_path: Path, decision: Decision
) -> None:
    """The session goes with it: the conversation, and the call that waits."""

    def agent() -> Any:
        return GoogleADKAgent(kind.agent(model.base_url, approved=[pay]))

    done.clear()
    model.script("I will. ", Call("pay", {"amount": 3}, id="p1"))
    model.script("done")
    first = Process(tmp_path, ThreadClock(), {"agents/helper": agent()})
    first.start(runnable="agents/helper", input="Buy it")
    assert first.paused().survives
    first.rests()
    first.engine.close()
    second = Process(tmp_path, ThreadClock(), {"agents/helper": agent()})
    second.engine.continue_run("r", [decision])
    run = ended_run(second.engine)
    second.engine.close()
    assert (run.state, run.error) == (RunState.COMPLETED, None)
    assert done == (["paid 3"] if decision.approved else [])
    state = ToolCallState.COMPLETED if decision.approved else ToolCallState.DECLINED
    assert [(c.tool_call_id, c.state) for c in run.tool_calls] == [("p1", state)]
    assert run.usage.steps == 2


def test_agents_of_an_agent_are_steps_and_are_stopped_together(
    model: OpenAIServer, serve: Serve
) -> None:
    """Two that work at a time, both of whose models are silent."""
    both = [kind.agent(model.base_url) for _ in range(2)]
    for number, agent in enumerate(both):
        agent.name = f"part{number}"
        model.script("so far", Silence())
    served = serve(ParallelAgent(name="helper", sub_agents=both))
    stream = served.run("helper", "?")
    while len(stream.text()) < 2 * len("so far"):
        stream.until("content_delta")
    stop(served, stream)
    assert all(model.exchange(number).left.wait(PATIENCE) for number in range(2))
    assert connections(model) == 0
    steps = {e.step_started.name for e in stream.events if kind_of(e) == "step_started"}
    assert steps == {"part0", "part1"}


def test_a_tool_that_raises_fails_the_run(model: OpenAIServer, serve: Serve) -> None:
    """The ADK ends the run with its error; the ledger says which call that was."""

    async def look() -> str:
        """Looks."""
        raise ValueError("no window here")

    model.script(Call("look", {}, "l1"))
    end = ended(serve(kind.agent(model.base_url, tools=[look])).run("helper", "?"), "run_failed")
    assert (end.error.type, end.error.message) == ("ValueError", "no window here")
    assert ledger(end) == [("look", Tools.TOOL_CALL_STATE_FAILED)]


def test_agents_of_an_agent_speak_in_paragraphs(model: OpenAIServer, serve: Serve) -> None:
    """What each of them says is the run's text, and a blank line parts them."""
    both = SequentialAgent(
        name="both",
        sub_agents=[kind._made("one", model.base_url), kind._made("two", model.base_url)],
    )
    model.script("A draft")
    model.script("Edited")
    stream = serve(both).run("both", "?")
    assert ended(stream, "run_completed").output == stream.text() == "A draft\n\nEdited"
