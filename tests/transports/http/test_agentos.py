"""agno's own AgentOSClient, unchanged, against a real server: agents, teams and workflows."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from agno.run.base import RunStatus
from pullcord import RunContext, needs_approval, runnable
from pullcord.agent import Agent
from pullcord.models.base import Finished, Model, ModelChunk, ModelRequest, Text, ToolRequest
from pullcord.run.finish import FinishReason
from pullcord.run.takes import EVERYTHING
from pullcord.team import Team
from pullcord.workflow import Step, Workflow

from tests.identity.callers import token_of, write_tokens
from tests.steady import PATIENCE
from tests.transports.harness import Cause, Served
from tests.transports.http.agents import TEXT, failing, make_waiter, speaker
from tests.transports.http.web import Browser, Events

Both = Callable[..., tuple[Served, Browser]]


@runnable
def reader(context: RunContext) -> Iterator[str]:
    """Says what it was given."""
    yield context.input
    for part in context.parts:
        yield f" {part.name}={part.kind}:{(part.data or b'').decode()}"


reader.takes = EVERYTHING


class Scripted(Model):
    """Answers in turn, with a text or with a call of a tool."""

    def __init__(self, *answers: str | ToolRequest) -> None:
        self._answers: Sequence[str | ToolRequest] = answers
        self._next = 0

    @property
    def id(self) -> str:
        return "scripted"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        answer = self._answers[self._next % len(self._answers)]
        self._next += 1
        yield Text(answer) if isinstance(answer, str) else answer
        calls = not isinstance(answer, str)
        yield Finished(FinishReason.TOOL_CALLS if calls else FinishReason.STOP)


@needs_approval
def weather(city: str) -> str:
    """The weather of a city."""
    return f"It rains in {city}."


def _asker() -> Agent:
    call = ToolRequest("call_1", "weather", '{"city":"Oslo"}')
    return Agent(model=Scripted(call, "bring a coat"), name="Asker", tools=[weather])


def _desk() -> tuple[Team, Workflow]:
    writer = Agent(model=Scripted("a draft"), name="Writer")
    call = ToolRequest("c1", "delegate_to_member", '{"member_id":"writer","task":"write"}')
    team = Team(model=Scripted(call, "done"), name="Desk", members=[writer])
    flow = Workflow(name="Paper", steps=[Step("draft", agent=writer), Step("check", agent=writer)])
    return team, flow


def _client(browser: Browser) -> Any:
    from agno.client import AgentOSClient

    return AgentOSClient(base_url=browser.url, timeout=PATIENCE)


def _play(scene: Coroutine[Any, Any, None]) -> None:
    """agno keeps one HTTP client a process: it must not outlive its loop."""

    async def played() -> None:
        from agno.utils import http as shared

        try:
            await scene
        finally:
            await shared.get_default_async_client().aclose()
            shared._async_client = None

    asyncio.run(played())


def _names(events: Sequence[Any]) -> list[str]:
    return [event.event for event in events]


def _form(browser: Browser, path: str, **fields: str) -> Events:
    kind = "application/x-www-form-urlencoded"
    return Events(browser.open("POST", path, urlencode(fields).encode(), content_type=kind))


def _ask(browser: Browser, path: str, **fields: str) -> Any:
    kind = "application/x-www-form-urlencoded"
    return browser.ask("POST", path, urlencode(fields).encode(), content_type=kind)


def test_an_agent_is_run_whole_and_streamed_and_its_text_is_kept(serve_http: Both) -> None:
    """Also at U+2028 and U+0085, where agno's own server loses events to its own client."""
    _, browser = serve_http(speaker, failing)

    async def scene() -> None:
        client = _client(browser)
        whole = await client.run_agent("speaker", "hello", session_id="s-1", user_id="ann")
        assert (whole.status, whole.content) == (RunStatus.completed, 3 * TEXT)
        assert (whole.agent_id, whole.session_id, whole.user_id) == ("speaker", "s-1", "ann")
        assert whole.input
        assert whole.input.input_content == "hello"
        events = [e async for e in client.run_agent_stream("speaker", "hello", run_id="r-1")]
        assert {e.run_id for e in events} == {"r-1"}
        assert _names(events)[0] == "RunStarted"
        assert events[0].session_id
        assert "".join(e.content for e in events if e.event == "RunContent") == 3 * TEXT
        assert _names(events)[-1] == "RunCompleted"
        assert events[-1].content == 3 * TEXT
        failed = await client.run_agent("failing", "hello")
        assert failed.status is RunStatus.error
        assert failed.content == "before "
        events = [e async for e in client.run_agent_stream("failing", "hello")]
        last = events[-1]
        assert _names(events).count("RunError") == 1
        assert (last.event, last.content, last.error_type) == (
            "RunError",
            "nothing there",
            "LookupError",
        )

    _play(scene())


def test_what_is_on_offer_is_listed(serve_http: Both) -> None:
    team, flow = _desk()
    _, browser = serve_http(speaker, teams=[team], workflows=[flow])

    async def scene() -> None:
        client = _client(browser)
        assert [a.id for a in await client.list_agents()] == ["speaker"]
        assert (await client.aget_agent("speaker")).name == "speaker"
        assert [t.id for t in await client.list_teams()] == ["desk"]
        members = (await client.aget_team("desk")).members or []
        assert [m.id for m in members] == ["writer"]
        assert [w.id for w in await client.list_workflows()] == ["paper"]
        steps = (await client.aget_workflow("paper")).steps or []
        assert [step["name"] for step in steps] == ["draft", "check"]
        config = await client.aget_config()
        assert [a.id for a in config.agents or []] == ["speaker"]
        assert await client.run_team("desk", "go")
        with pytest.raises(httpx.HTTPStatusError):
            await client.aget_agent("nobody")

    _play(scene())
    assert browser.get("/health").json()["status"] == "ok"
    assert browser.get("/info").json()["team_count"] == 1


def test_teams_and_workflows_tell_of_their_members(serve_http: Both) -> None:
    team, flow = _desk()
    _, browser = serve_http(teams=[team], workflows=[flow])

    async def scene() -> None:
        client = _client(browser)
        events = [e async for e in client.run_team_stream("desk", "go")]
        names = _names(events)
        assert names[0] == "TeamRunStarted"
        assert names[-1] == "TeamRunCompleted"
        inner = names[names.index("RunStarted") : names.index("RunCompleted") + 1]
        assert set(inner) == {"RunStarted", "RunContent", "RunCompleted"}
        child = events[names.index("RunStarted")]
        assert (child.agent_id, child.parent_run_id) == ("writer", events[0].run_id)
        tool = events[names.index("TeamToolCallCompleted")].tool
        assert (tool.tool_name, tool.result) == ("delegate_to_member", "a draft")
        whole = await client.run_team("desk", "go")
        assert (whole.team_id, whole.content) == ("desk", "done")
        assert [m.content for m in whole.member_responses] == ["a draft"]

        events = [e async for e in client.run_workflow_stream("paper", "go")]
        names = _names(events)
        assert names[0] == "WorkflowStarted"
        assert names[-1] == "WorkflowCompleted"
        steps = [(e.step_name, e.step_index) for e in events if e.event == "StepStarted"]
        assert steps == [("draft", 0), ("check", 1)]
        child = events[names.index("RunStarted")]
        assert (child.step_name, child.workflow_run_id) == ("draft", events[0].run_id)
        whole = await client.run_workflow("paper", "go")
        assert (whole.status, whole.content) == (RunStatus.completed, "a draft")
        assert [r.step_name for r in whole.step_results] == ["draft", "check"]

    _play(scene())


def test_a_silent_run_is_stopped_and_ends_once(serve_http: Both) -> None:
    """Streamed or not, by the client; the receipt is the answer, and what was said is kept."""
    waiter, _ = make_waiter()
    served, browser = serve_http(waiter, speaker)

    async def scene() -> None:
        client = _client(browser)
        events = []
        async for event in client.run_agent_stream("waiter", "x", run_id="r-1", session_id="s"):
            events.append(event)
            if event.event == "RunContent":
                await client.cancel_agent_run("waiter", "r-1")
        names = _names(events)
        assert names[-1] == "RunCancelled"
        assert events[-1].content == "first"
        assert not {"RunCompleted", "RunError"} & set(names)
        whole = asyncio.create_task(client.run_agent("waiter", "x", run_id="r-2"))
        await asyncio.to_thread(served.until, lambda: _is_live(browser, "r-2"))
        await client.cancel_agent_run("waiter", "r-2")
        assert (await whole).status is RunStatus.cancelled
        with pytest.raises(httpx.HTTPStatusError):
            await client.cancel_agent_run("waiter", "no-such-run")

    _play(scene())
    receipt = browser.post("/agents/waiter/runs/r-1/cancel", {"reason": "again"}).json()
    assert receipt["outcome"] == "CANCEL_OUTCOME_STOPPED"
    assert browser.post("/agents/waiter/runs/nothing/cancel").status == 404
    assert browser.post("/agents/nobody/runs/r-1/cancel").status == 404
    assert browser.get("/agents/waiter/runs/r-1?session_id=other").status == 404
    assert browser.post("/agents/speaker/runs/r-1/cancel").status == 404
    run = browser.get("/agents/waiter/runs/r-1").json()
    assert (run["status"], run["cancellation_stage"]) == ("CANCELLED", "EXECUTING")
    listed = browser.get("/agents/waiter/runs?session_id=s&status=CANCELLED").json()
    assert [run["run_id"] for run in listed] == ["r-1"]


def _is_live(browser: Browser, run_id: str) -> bool:
    reply = browser.get(f"/agents/waiter/runs/{run_id}")
    return reply.status == 200 and reply.json()["content"] == "first"


def test_leaving_stops_a_run_unless_it_is_in_the_background(serve_http: Both) -> None:
    waiter, going = make_waiter()
    served, browser = serve_http(waiter)
    path = "/agents/waiter/runs"
    _form(browser, path, message="x", run_id="left").until("content")
    stream = _form(browser, path, message="x", run_id="stays", background="true")
    stream.until("content")
    browser.leave()
    stopped = served.wait("left")
    assert (stopped.cancellation.cause, stopped.output) == (Cause.CANCEL_CAUSE_DISCONNECT, "first")
    pending = _ask(browser, path, message="x", run_id="alone", background="1", stream="no")
    assert pending.status == 202
    assert pending.json() == {"run_id": "alone", "session_id": "alone", "status": "PENDING"}
    going.set()
    assert served.wait("stays").output == served.wait("alone").output == "first last"


def test_a_run_is_resumed_after_any_event(serve_http: Both) -> None:
    """Live or ended; what comes back is what was missed, and nothing twice."""
    waiter, going = make_waiter()
    _served, browser = serve_http(waiter)
    path = "/agents/waiter/runs"
    stream = _form(browser, path, message="x", run_id="r", background="true")
    seen = stream.until("content")
    browser.leave()
    live = _form(browser, f"{path}/r/resume", last_event_index=str(seen["event_index"] - 1))
    events = iter(live)
    assert next(events)["event"] == "catch_up"
    assert next(events)["content"] == "first"
    assert next(events)["event"] == "subscribed"
    going.set()
    rest = list(events)
    assert [e["event"] for e in rest] == ["RunContent", "RunCompleted"]
    again = list(_form(browser, f"{path}/r/resume", last_event_index=str(seen["event_index"])))
    assert again[0]["event"] == "replay"
    assert again[0]["total_events"] == len(again) - 1
    assert again[1:] == rest
    assert [e["event"] for e in _form(browser, f"{path}/r/resume", last_event_index="99")] == [
        "replay"
    ]
    unknown = _ask(browser, f"{path}/nothing/resume", last_event_index="1")
    assert unknown.status == 404
    assert isinstance(unknown.json()["detail"], str)


def test_resume_says_what_is_missing(serve_http: Both) -> None:
    """Events that are no longer kept are named, and the text replaces theirs."""

    @runnable
    def long(context: RunContext) -> Iterator[str]:
        for number in range(400):
            yield f"{number} " + 200 * "x"
            context.emit("tick", {"number": number})

    served, browser = serve_http(long, max_log_bytes=16 * 1024)
    _ask(browser, "/agents/long/runs", message="x", run_id="r", stream="false")
    events = list(_form(browser, "/agents/long/runs/r/resume", last_event_index="3"))
    missed = next(event for event in events if event.get("name") == "missed")
    assert missed["event"] == "CustomEvent"
    assert missed["missed"]["from_index"] == 4
    assert missed["content"] == served.get("r").output
    after = [e["event_index"] for e in events if e.get("event_index", -1) > 3]
    assert after == sorted(after)


def test_a_paused_run_waits_for_its_client_and_goes_on(serve_http: Both) -> None:
    """The stream ends with the pause, which is no leaving; the decision comes in a new request."""
    served, browser = serve_http(_asker())

    async def scene() -> None:
        client = _client(browser)
        events = [e async for e in client.run_agent_stream("asker", "go", session_id="s")]
        paused = events[-1]
        assert paused.event == "RunPaused"
        tool = paused.tools[0]
        assert (tool.tool_name, tool.tool_args) == ("weather", {"city": "Oslo"})
        assert tool.requires_confirmation
        assert paused.requirements[0].needs_confirmation
        run_id = paused.run_id
        with pytest.raises(httpx.HTTPStatusError):
            await client.continue_agent_run("asker", run_id, [], session_id="s")
        tool.confirmed = True
        events = [
            e
            async for e in client.continue_agent_run_stream("asker", run_id, [tool], session_id="s")
        ]
        names = _names(events)
        assert names[0] == "RunContinued"
        assert names[-1] == "RunCompleted"
        done = events[names.index("ToolCallCompleted")].tool
        assert done.result == "It rains in Oslo."
        assert events[-1].content == "bring a coat"
        with pytest.raises(httpx.HTTPStatusError) as refused:
            await client.continue_agent_run("asker", run_id, [tool])
        assert refused.value.response.status_code == 409

        whole = await client.run_agent("asker", "go", session_id="s2")
        assert whole.status is RunStatus.paused
        assert whole.tools
        whole.tools[0].confirmed = False
        done = await client.continue_agent_run("asker", whole.run_id or "", whole.tools)
        assert done.status is RunStatus.completed
        assert done.tools
        assert done.tools[0].confirmed is False

    _play(scene())
    assert served.list().runs[0].state != 0


def test_a_paused_run_of_a_client_that_is_gone_can_be_cancelled(serve_http: Both) -> None:
    served, browser = serve_http(_asker())
    events = list(_form(browser, "/agents/asker/runs", message="go", run_id="r"))
    assert events[-1]["event"] == "RunPaused"
    browser.leave()
    assert browser.get("/agents/asker/runs/r").json()["status"] == "PAUSED"
    receipt = browser.post("/agents/asker/runs/r/cancel", {"wait": 20}).json()
    assert receipt["outcome"] == "CANCEL_OUTCOME_STOPPED"
    assert browser.get("/agents/asker/runs/r").json()["status"] == "CANCELLED"
    served.wait_free()


def test_forms_of_both_encodings_and_json_mean_the_same(serve_http: Both) -> None:
    _, browser = serve_http(reader)
    path = "/agents/reader/runs"
    files = {"files": ("note.txt", b"hello", "text/plain")}
    fields = {"message": "é", "stream": "false", "session_id": ""}
    multipart = httpx.post(browser.url + path, data=fields, files=files)
    assert multipart.json()["content"] == "é note.txt=text/plain:hello"
    assert multipart.json()["session_id"]
    assert httpx.post(browser.url + path, data=fields).json()["content"] == "é"
    as_json = browser.post(path, {"message": "é", "stream": False, "metadata": {"a": "b"}}).json()
    assert (as_json["content"], as_json["metadata"]) == ("é", {"a": "b"})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "message"),
        ({"message": "x", "stream": "perhaps"}, "stream"),
        ({"message": "x", "output_schema": '{"a": 1}'}, "output_schema"),
        ({"message": "x", "metadata": "{"}, "metadata"),
        ({"message": "x", "images": '[{"id": "1"}]'}, "images[0]"),
    ],
)
def test_a_wrong_field_is_named(serve_http: Both, fields: dict[str, str], named: str) -> None:
    _, browser = serve_http(speaker)
    reply = _ask(browser, "/agents/speaker/runs", **fields)
    assert reply.status == 400
    assert isinstance(reply.json()["detail"], str)
    assert [wrong["field"] for wrong in reply.json()["fields"]] == [named]


def test_a_body_of_another_kind_is_refused(serve_http: Both) -> None:
    _, browser = serve_http(speaker)
    path = "/agents/speaker/runs"
    assert browser.ask("POST", path, b"x", content_type="text/plain").status == 415
    broken = browser.ask("POST", path, b"--x\r\n", content_type="multipart/form-data; boundary=y")
    assert broken.status == 400


def test_runs_belong_to_their_callers(serve_http: Both, tmp_path: Path) -> None:
    """Another caller's run is not there: to be seen, resumed, continued or stopped."""
    waiter, going = make_waiter()
    _served, browser = serve_http(waiter, tokens=write_tokens(tmp_path / "tokens"))
    browser.headers["authorization"] = f"Bearer {token_of('ann')}"
    path = "/agents/waiter/runs"
    _ask(browser, path, message="x", run_id="r", background="true", stream="false")
    browser.headers["authorization"] = f"Bearer {token_of('bob')}"
    assert browser.get(f"{path}/r").status == 404
    for verb in ("cancel", "resume"):
        assert _ask(browser, f"{path}/r/{verb}").status == 404
    assert _ask(browser, f"{path}/r/continue", tools="[]").status == 404
    assert browser.get(path).json() == []
    browser.headers["authorization"] = "Bearer nobody"
    assert browser.get("/agents").status == 401
    browser.headers["authorization"] = f"Bearer {token_of('ann')}"
    told = json.loads(browser.get(f"{path}/r").body)
    assert told["status"] == "RUNNING"
    going.set()
