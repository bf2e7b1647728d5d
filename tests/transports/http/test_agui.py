"""AG-UI's messages, read by its own package, from a real server; and its own client."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from ag_ui.core import Event
from pullcord import RunContext, needs_approval, runnable
from pullcord.agent import Agent
from pullcord.models.base import ToolRequest
from pullcord.run.events import Custom, ToolCall
from pullcord.team import Team
from pullcord.workflow import Workflow
from pydantic import TypeAdapter

from tests.identity.callers import token_of, write_tokens
from tests.transports.harness import Cause, Served, in_both_modes
from tests.transports.http.agents import failing, make_waiter, speaker
from tests.transports.http.test_openai import Scripted
from tests.transports.http.web import Browser, Reply

Both = Callable[..., tuple[Served, Browser]]
EVENT: TypeAdapter[Any] = TypeAdapter(Event)


def asked(text: str = "hello", run_id: str = "r", **more: Any) -> dict[str, Any]:
    """An input, as the client sends it."""
    messages = [{"id": "m", "role": "user", "content": text}] if text else []
    common = {"protocolVersion": "1.0", "state": {}, "tools": [], "context": []}
    whole = {"threadId": "t", "runId": run_id, "messages": messages, "forwardedProps": {}}
    return common | whole | more


def run(browser: Browser, runnable: str, **more: Any) -> Iterator[Any]:
    """The events of a run as they come, each one valid."""
    body = json.dumps(asked(**more)).encode()
    response = browser.open(
        "POST", f"/agui/{runnable}", body, content_type="application/json", accept="*/*"
    )
    assert response.status == 200, response.read()
    for line in response:
        if line.startswith(b"data: "):
            yield EVENT.validate_json(line[6:])


def kinds(events: list[Any]) -> list[str]:
    return [event.type.value for event in events]


def text_of(events: list[Any]) -> str:
    return "".join(e.delta for e in events if e.type == "TEXT_MESSAGE_CONTENT")


def test_a_run_is_told_from_its_start_to_its_end(serve_http: Both) -> None:
    """With its text, its thread as session, and the messages before as what was said."""
    model = Scripted(["one", "two"])
    served, browser = serve_http(Agent(id="a", model=model), speaker)
    events = list(run(browser, "agents/a"))
    assert kinds(events) == [
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert (events[0].thread_id, events[0].run_id) == ("t", "r")
    assert events[-1].outcome.type == "success"
    assert served.get("r").session_id == "t"
    talk = [
        {"id": "1", "role": "system", "content": "be brief"},
        {"id": "2", "role": "user", "content": "one"},
        {"id": "3", "role": "assistant", "content": "so?"},
        {"id": "4", "role": "user", "content": [{"type": "text", "text": "two"}]},
    ]
    context = [{"description": "page", "value": "home"}]
    list(run(browser, "agents/a", run_id="r2", messages=talk, context=context))
    *before, last = model.told()
    assert before == ["be brief", "one", "so?"]
    assert "page: home" in last
    assert text_of(list(run(browser, "agents/speaker", run_id="r3"))) == served.get("r3").output


def test_an_end_is_told_as_what_it_is(serve_http: Both) -> None:
    """A failure, a stop with its cause, and a stop to a client that has no word for it."""
    waiter, _ = make_waiter()
    _, browser = serve_http(waiter, failing)
    *_, end = run(browser, "agents/failing")
    assert (end.type, end.code) == ("RUN_ERROR", "LookupError")
    for run_id, version, kind in (("new", "1.0", "RUN_FINISHED"), ("old", None, "RUN_ERROR")):
        stream = run(browser, "agents/waiter", run_id=run_id, protocolVersion=version)
        next(event for event in stream if event.type == "TEXT_MESSAGE_CONTENT")
        receipt = browser.post(f"/v1/runs/{run_id}/cancel", {"reason": "enough"}).json()
        assert receipt["outcome"] in {"CANCEL_OUTCOME_REQUESTED", "CANCEL_OUTCOME_STOPPED"}
        *_, end = stream
        assert end.type == kind
        assert end.metadata["pullcord"]["reason"] == "enough"
        assert (end.type == "RUN_ERROR") or end.outcome.type == "cancelled"


def test_leaving_stops_the_run(serve_http: Both) -> None:
    waiter, _ = make_waiter()
    served, browser = serve_http(waiter)
    stream = run(browser, "agents/waiter")
    next(event for event in stream if event.type == "TEXT_MESSAGE_CONTENT")
    browser.leave()
    stream.close()  # type: ignore[attr-defined]  # a generator
    assert served.wait("r").cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT


def test_a_new_message_takes_the_place_of_what_its_thread_does(serve_http: Both) -> None:
    waiter, _ = make_waiter()
    served, browser = serve_http(waiter, speaker)
    stream = run(browser, "agents/waiter")
    next(event for event in stream if event.type == "TEXT_MESSAGE_CONTENT")
    *_, end = run(browser, "agents/speaker", run_id="r2")
    assert end.outcome.type == "success"
    assert served.wait("r").cancellation.cause == Cause.CANCEL_CAUSE_SUPERSEDED


@pytest.mark.parametrize(
    ("payload", "state"),
    [({"approved": True}, "completed"), ("no", "declined"), ("as I say", "completed")],
)
def test_a_pause_is_an_interrupt_and_its_answer_a_run(
    serve_http: Both, payload: Any, state: str
) -> None:
    """The run here is one. It waits although nobody follows it."""

    @needs_approval
    def publish(text: str) -> str:
        """Publishes a text."""
        return f"published {text}"

    calls = [ToolRequest("c/1", "publish", '{"text": "x"}'), "done"]
    served, browser = serve_http(Agent(id="a", model=Scripted(calls), tools=[publish]))
    *_, end = run(browser, "agents/a")
    (interrupt,) = end.outcome.interrupts
    assert (interrupt.tool_call_id, end.outcome.type) == ("c/1", "interrupt")
    served.until(lambda: served.watchers("r") == 1)
    answer = [{"interruptId": interrupt.id, "status": "resolved", "payload": payload}]
    events = list(run(browser, "agents/a", run_id="r2", text="", resume=answer))
    assert (events[0].run_id, events[-1].outcome.type) == ("r2", "success")
    assert events[0].metadata["pullcord"]["runId"] == "r"
    results = [event for event in events if event.type == "TOOL_CALL_RESULT"]
    assert [result.metadata["pullcord"]["state"] for result in results] == [state] * len(results)
    assert text_of(events) == "done"
    again = list(run(browser, "agents/a", run_id="r2", text="", resume=answer))
    assert kinds(again) == kinds(events), "the same request once more decides nothing new"
    other = [{**answer[0], "payload": "something else"}]
    refused = browser.post("/agui/agents/a", asked("", "r3", resume=other))
    assert (refused.status, refused.reason) == (409, "RUN_NOT_PAUSED")


def test_a_member_that_asks_is_an_interrupt_of_its_own(serve_http: Both) -> None:
    """The interrupt says which subagent it is of, and the team goes on by it."""
    call = ToolRequest("c0", "delegate_to_member", '{"member_id":"asker","task":"write"}')
    asks = ToolRequest("c1", "publish", '{"text": "x"}')

    @needs_approval
    def publish(text: str) -> str:
        """Publishes a text."""
        return f"published {text}"

    member = Agent(id="asker", model=Scripted([asks, "a draft"]), tools=[publish])
    team = Team(id="desk", model=Scripted([call, "done"]), members=[member])
    served, browser = serve_http(teams=[team])
    events = list(run(browser, "teams/desk"))
    (interrupt,) = events[-1].outcome.interrupts
    (began,) = [event for event in events if event.type == "SUBAGENT_STARTED"]
    assert interrupt.subagent_run_id == began.subagent_run_id != "r"
    answer = [{"interruptId": interrupt.id, "status": "resolved"}]
    events = list(run(browser, "teams/desk", run_id="r2", text="", resume=answer))
    results = [event.content for event in events if event.type == "TOOL_CALL_RESULT"]
    assert results[0] == "published x"
    assert events[-1].outcome.type == "success"
    assert served.get("r").output == text_of([e for e in events if not _subagent(e)]) == "done"


def _subagent(event: Any) -> str:
    return getattr(event, "subagent_run_id", None) or ""


def test_a_pause_of_one_protocol_is_continued_by_another(serve_http: Both) -> None:
    """The server has kept the run for its client, and lets go of it: who leaves now, stops it."""

    @runnable(id="a")
    async def asker(context: RunContext) -> Any:
        """Asks, and waits to be stopped."""
        await context.ask("Sure?", [ToolCall("c1", "publish", "{}")])
        yield "on"
        await asyncio.Event().wait()

    served, browser = serve_http(asker)
    list(run(browser, "agents/a"))
    served.until(lambda: served.watchers("r") == 1)
    tools = [{"tool_call_id": "c1", "tool_name": "publish", "confirmed": True}]
    form = urlencode({"tools": json.dumps(tools), "stream": "true"}).encode()
    kind = "application/x-www-form-urlencoded"
    response = browser.open("POST", "/agents/a/runs/r/continue", form, content_type=kind)
    assert b"RunContinued" in response.readline() + response.readline()
    served.until(lambda: served.watchers("r") == 1)
    response.close()
    browser.leave()
    assert served.wait("r").cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT


@runnable
def part_with_data(context: RunContext) -> dict[str, Any]:
    """Emits data, and returns some."""
    context.emit(Custom("beat", {"deep": {"list": [1, "a"]}}))
    return {"made": {"x": 1}}


@runnable
async def with_data(context: RunContext) -> dict[str, Any]:
    """Has a child that does, and returns the child's data."""
    child = await context.start(part_with_data).wait()
    return dict(child.output_data or {})


@in_both_modes
def test_data_comes_as_data_wherever_the_code_executes(serve_http: Both) -> None:
    """Of events, of a child's end and of the run's own."""
    _, browser = serve_http(with_data)
    events = list(run(browser, "agents/with-data"))
    assert [e.value for e in events if e.type == "CUSTOM"] == [{"deep": {"list": [1, "a"]}}]
    (child,) = (e for e in events if e.type == "SUBAGENT_FINISHED")
    assert (child.result, events[-1].result) == ({"made": {"x": 1}}, {"made": {"x": 1}})


def test_what_is_not_kept_any_more_is_said(serve_http: Both) -> None:
    """The same input once more gets the text as it is, and a gap for the rest."""

    @runnable
    def long(context: RunContext) -> Iterator[str]:
        """Says so much that the beginning is not kept, in turns that do not merge."""
        for number in range(40):
            context.emit(Custom("beat", {"n": number}))
            yield f"{number} "

    served, browser = serve_http(long, max_log_records=10)
    list(run(browser, "agents/long"))
    events = list(run(browser, "agents/long"))
    (gap,) = [e.value for e in events if e.type == "CUSTOM" and e.name == "pullcord.gap"]
    assert gap["firstSequence"] == 1
    assert text_of(events) == served.get("r").output
    assert kinds(events)[-1] == "RUN_FINISHED"


def test_steps_and_members_have_their_own_voices(serve_http: Both) -> None:
    @runnable(id="part")
    def part(context: RunContext) -> Iterator[str]:
        """Says a word."""
        yield "part "

    flow = Workflow(id="flow", steps=[part, part])
    _, browser = serve_http(flow)
    events = list(run(browser, "workflows/flow"))
    names = [event.step_name for event in events if event.type == "STEP_STARTED"]
    assert len(names) == len(set(names)) == 2
    assert names == [event.step_name for event in events if event.type == "STEP_FINISHED"]
    began = [event.subagent_run_id for event in events if event.type == "SUBAGENT_STARTED"]
    assert began == [e.subagent_run_id for e in events if e.type == "SUBAGENT_FINISHED"]
    assert events[-1].outcome.type == "success"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no body": ({"messages": None}, "messages"),
    "no message": ({"messages": []}, "messages"),
    "the last is not the user's": (
        {"messages": [{"id": "1", "role": "assistant", "content": "x"}]},
        "messages",
    ),
    "a front end's tools": ({"tools": [{"name": "x", "description": "y"}]}, "tools"),
    "shared state": ({"state": {"a": 1}}, "state"),
    "a foreign interrupt": (
        {"resume": [{"interruptId": "x", "status": "resolved"}]},
        "resume[0].interruptId",
    ),
    "no decision": (
        {"resume": [{"interruptId": "r/1/1/c", "status": "resolved", "payload": 7}]},
        "resume[0].payload",
    ),
    "no run's id": ({"runId": "a b"}, "runId"),
    "no thread's id": ({"threadId": "a b"}, "threadId"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(serve_http: Both, case: str) -> None:
    _, browser = serve_http(speaker)
    change, name = WRONG[case]
    reply: Reply = browser.post("/agui/agents/speaker", asked() | change)
    assert (reply.status, reply.reason) == (400, "INVALID_ARGUMENT"), reply.body
    assert name in {field["field"] for field in reply.json()["fields"]}


def test_nobody_else_continues_a_run(serve_http: Both, tmp_path: Path) -> None:
    """A foreign run's pause is answered as one of no run."""
    tokens = write_tokens(tmp_path / "tokens")
    _, browser = serve_http(speaker, tokens=tokens)
    assert browser.post("/agui/agents/speaker", asked()).status == 401
    ann = Browser(browser.url, authorization=f"Bearer {token_of('ann')}")
    list(run(ann, "agents/speaker"))
    ann.leave()
    for run_id in ("r", "never"):
        resume = [{"interruptId": f"{run_id}/1/1/c", "status": "resolved"}]
        body = asked("", "r2", resume=resume)
        reply = browser.post(
            "/agui/agents/speaker", body, authorization=f"Bearer {token_of('bob')}"
        )
        assert (reply.status, reply.reason) == (404, "RUN_NOT_FOUND")
