"""What is agno's own: teams, workflows, the tasks that they leave, and two kinds of history."""

import asyncio
from typing import Any

import pytest
from agno.agent import Agent
from agno.db.in_memory import InMemoryDb
from agno.team import Team
from agno.workflow import Parallel, Step, StepInput, StepOutput, Workflow
from pullcord.v1 import run_pb2

from tests.adapters.foreign.kinds.agno_kind import model_at
from tests.adapters.foreign.test_contract import connections, ended, pytestmark, stop
from tests.openai_server import Call, OpenAIServer, Pace, Silence
from tests.steady import PATIENCE
from tests.transports.harness import TERMINAL, Mode, Serve, kind_of

__all__ = ["pytestmark"]

Tools = run_pb2.ToolCallState


def agent(model: OpenAIServer, name: str, **options: Any) -> Agent:
    return Agent(name=name, model=model_at(model.base_url), telemetry=False, **options)


def two_at_once(model: OpenAIServer) -> Workflow:
    steps = [Step(name=f"step-{name}", agent=agent(model, name)) for name in ("one", "two")]
    return Workflow(name="flow", steps=[Parallel(*steps, name="both")], telemetry=False)


@pytest.mark.parametrize("script", [(Silence(),), (Pace(0.005),)], ids=["silent", "speaking"])
def test_parallel_steps_leave_no_connection(
    model: OpenAIServer, serve: Serve, script: tuple[Any, ...]
) -> None:
    """agno itself leaves both of them to run to their natural end."""
    model.script("a", *script)
    model.script("b", *script)
    served = serve(two_at_once(model))
    stream = served.run("workflows/flow", "?")
    stream.next()
    both = [model.exchange(number) for number in range(2)]
    assert all(exchange.begun.wait(PATIENCE) for exchange in both)
    stop(served, stream)
    assert all(exchange.left.wait(PATIENCE) for exchange in both)
    assert connections(model) == 0


def test_members_of_a_team_that_all_work_leave_no_connection(
    model: OpenAIServer, serve: Serve
) -> None:
    """A team that broadcasts: every member's run is stopped with it."""
    members = [agent(model, name) for name in ("one", "two")]
    team = Team(
        name="crew",
        model=model_at(model.base_url),
        members=members,
        delegate_to_all_members=True,
        telemetry=False,
    )
    model.script(Call("delegate_task_to_members", {"task": "why"}))
    model.script("a", Silence())
    model.script("b", Silence())
    served = serve(team)
    stream = served.run("teams/crew", "?")
    stream.next()
    both = [model.exchange(number) for number in (1, 2)]
    assert all(exchange.begun.wait(PATIENCE) for exchange in both)
    stop(served, stream, mode=Mode.CANCEL_MODE_IMMEDIATE)
    assert all(exchange.left.wait(PATIENCE) for exchange in both)
    assert connections(model) == 0


def test_a_workflow_tells_its_steps_and_its_agents(model: OpenAIServer, serve: Serve) -> None:
    """Steps are steps, agents of steps are child runs, and the last output is the run's."""

    async def double(step: StepInput) -> StepOutput:
        return StepOutput(content=f"{step.previous_step_content} twice")

    flow = Workflow(
        name="flow",
        steps=[
            Step(name="write", agent=agent(model, "writer")),
            Step(name="double", executor=double),
        ],
        telemetry=False,
    )
    model.script("A tale")
    stream = serve(flow).run("workflows/flow", "?")
    end = ended(stream, "run_completed")
    assert end.output == "A tale twice"
    assert [step["output"] for step in end.output_data["steps"]] == ["A tale", "A tale twice"]
    steps = [e.step_completed for e in stream.events if kind_of(e) == "step_completed"]
    assert [(s.name, s.output) for s in steps] == [("write", "A tale"), ("double", "A tale twice")]
    of_writer = [kind_of(e) for e in stream.events if e.source.name == "writer"]
    assert of_writer[0] == "run_started"
    assert [kind for kind in of_writer if kind in TERMINAL] == ["run_completed"]
    assert (end.usage.input_tokens, end.usage.output_tokens) == (10, 2)


def test_a_stopped_workflow_keeps_what_its_steps_made(model: OpenAIServer, serve: Serve) -> None:
    """The finished step whole, the stopped one as far as it came."""
    flow = Workflow(
        name="flow",
        steps=[Step(name=name, agent=agent(model, name)) for name in ("first", "second")],
        telemetry=False,
    )
    model.script("All of it")
    model.script("Half of", Silence())
    served = serve(flow)
    stream = served.run("workflows/flow", "?")
    while "Half of" not in stream.text():
        stream.until("content_delta")
    end = stop(served, stream)
    assert [(s["name"], s["output"], s["state"]) for s in end.output_data["steps"]] == [
        ("first", "All of it", "completed"),
        ("second", "Half of", "running"),
    ]


def test_an_agent_with_a_database_hears_what_agno_leaves_out(
    model: OpenAIServer, serve: Serve
) -> None:
    """Its own history has the turns that completed; a stopped one is added to them."""
    keeping = agent(model, "helper", db=InMemoryDb(), add_history_to_context=True)
    model.script("First answer")
    model.script("The secret word is plum", Silence())
    model.script("It was plum")
    served = serve(keeping)
    ended(served.run("helper", "one", session_id="s"), "run_completed")
    stream = served.run("helper", "two", session_id="s")
    while not stream.text().endswith("plum"):
        stream.until("content_delta")
    stop(served, stream)
    ended(served.run("helper", "three", session_id="s"), "run_completed")
    messages = model.exchange(2).body["messages"]
    said = [str(m["content"]) for m in messages if m["role"] in ("user", "assistant")]
    assert [text for text in said if text.startswith(("one", "First"))] == ["one", "First answer"]
    assert sum("The secret word is plum" in text for text in said) == 1
    assert said[-1] == "three"


def test_what_a_tool_returns_as_an_error_is_a_failed_call(
    model: OpenAIServer, serve: Serve
) -> None:
    """agno says of a failed call that it completed, and then that it failed: it ends once."""

    async def look() -> str:
        """Looks."""
        await asyncio.sleep(0)
        raise ValueError("too dark")

    model.script(Call("look"))
    model.script("I saw nothing")
    stream = serve(agent(model, "helper", tools=[look])).run("helper", "?")
    end = ended(stream, "run_completed")
    assert [(c.state, c.result) for c in end.tool_calls] == [
        (Tools.TOOL_CALL_STATE_FAILED, "too dark")
    ]
    kinds = [kind_of(event) for event in stream.events]
    assert kinds.count("tool_call_completed") == 1
