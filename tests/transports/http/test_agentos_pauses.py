"""Pauses of members and steps, by agno's own AgentOSClient, unchanged: it knows whole runs only."""

from collections.abc import Callable

from agno.run.base import RunStatus
from agno.workflow.types import StepRequirement
from pullcord.models.base import ToolRequest
from pullcord.team import Team
from pullcord.workflow import Step, Workflow

from tests.transports.harness import Served
from tests.transports.http.test_agentos import Scripted, _asker, _client, _form, _names, _play
from tests.transports.http.web import Browser

Both = Callable[..., tuple[Served, Browser]]


def _desk() -> Team:
    call = ToolRequest("c1", "delegate_to_member", '{"member_id":"asker","task":"write"}')
    return Team(model=Scripted(call, "done"), name="Desk", members=[_asker()])


def _paper() -> Workflow:
    return Workflow(name="Paper", steps=[Step("draft", agent=_asker())])


def test_a_member_that_asks_pauses_its_team(serve_http: Both) -> None:
    """The stream ends with TeamRunPaused; `requirements` decide, and the team goes on."""
    served, browser = serve_http(teams=[_desk()])

    async def scene() -> None:
        client = _client(browser)
        events = [e async for e in client.run_team_stream("desk", "go", session_id="s")]
        paused = events[-1]
        assert (paused.event, paused.team_id) == ("TeamRunPaused", "desk")
        (asked,) = paused.requirements
        assert asked.needs_confirmation
        assert (asked.member_agent_id, asked.member_agent_name) == ("asker", "Asker")
        assert asked.member_run_id not in (None, paused.run_id)
        assert asked.tool_execution.tool_args == {"city": "Oslo"}
        asked.confirm()
        stream = client.continue_team_run_stream("desk", paused.run_id, [asked], session_id="s")
        events = [e async for e in stream]
        names = _names(events)
        assert (names[0], names[-1]) == ("TeamRunContinued", "TeamRunCompleted")
        tools = [e.tool for e in events if e.event == "ToolCallCompleted"]
        assert [tool.result for tool in tools] == ["It rains in Oslo."]
        assert events[-1].content == "done"

        whole = await client.run_team("desk", "go", session_id="s2")
        assert RunStatus(whole.status) is RunStatus.paused
        (asked,) = whole.requirements or []
        asked.reject("not today")
        done = await client.continue_team_run("desk", whole.run_id or "", [asked])
        assert (RunStatus(done.status), done.content) == (RunStatus.completed, "done")

    _play(scene())
    served.wait_free()


def test_a_step_that_asks_pauses_its_workflow(serve_http: Both) -> None:
    """The stream ends with WorkflowPaused; `step_requirements` decide, and it goes on."""
    served, browser = serve_http(workflows=[_paper()])

    async def scene() -> None:
        client = _client(browser)
        events = [e async for e in client.run_workflow_stream("paper", "go", session_id="s")]
        paused = events[-1]
        assert (paused.event, paused.workflow_id) == ("WorkflowPaused", "paper")
        (step,) = paused.step_requirements
        assert [step[name] for name in ("step_id", "executor_id", "executor_type")] == [
            "draft",
            "asker",
            "agent",
        ]
        step = StepRequirement.from_dict(step)
        assert step.requires_executor_input
        (asked,) = step.executor_requirements or []
        assert asked["tool_execution"]["requires_confirmation"]
        asked["tool_execution"]["confirmed"] = True
        stream = client.continue_workflow_run_stream("paper", paused.run_id, [step])
        events = [e async for e in stream]
        assert _names(events)[-1] == "WorkflowCompleted"
        assert events[-1].content == "bring a coat"
        tools = [e.tool for e in events if e.event == "ToolCallCompleted"]
        assert [tool.result for tool in tools] == ["It rains in Oslo."]

        whole = await client.run_workflow("paper", "go", session_id="s2")
        assert RunStatus(whole.status) is RunStatus.paused
        (step,) = whole.step_requirements or []
        step.executor_requirements[0]["confirmation"] = False
        done = await client.continue_workflow_run("paper", whole.run_id or "", [step])
        assert (RunStatus(done.status), done.content) == (RunStatus.completed, "bring a coat")

    _play(scene())
    served.wait_free()


def test_a_team_that_waits_can_be_cancelled(serve_http: Both) -> None:
    """Also once the client of its stream is gone; and a continue without a decision is refused."""
    served, browser = serve_http(teams=[_desk()])
    events = list(_form(browser, "/teams/desk/runs", message="go", run_id="r"))
    assert events[-1]["event"] == "TeamRunPaused"
    browser.leave()
    assert browser.get("/teams/desk/runs/r").json()["status"] == "PAUSED"
    refused = browser.post("/teams/desk/runs/r/continue", {"requirements": []})
    assert refused.status in (400, 409)
    receipt = browser.post("/teams/desk/runs/r/cancel", {"wait": 20}).json()
    assert receipt["outcome"] == "CANCEL_OUTCOME_STOPPED"
    assert browser.get("/teams/desk/runs/r").json()["status"] == "CANCELLED"
    served.wait_free()
