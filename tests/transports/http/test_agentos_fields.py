"""The fields of a real AgentOS, by name and type, and ours beside them.

`agentos_fields.json` says which fields agno 3.1.10 filled in the same scenes, in its streams and
in whole runs. What is left out is named here.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.transports.harness import Served
from tests.transports.http.agents import failing, make_waiter, speaker
from tests.transports.http.test_agentos import (
    _ask,
    _asker,
    _desk,
    _form,
)
from tests.transports.http.web import Browser

Both = Callable[..., tuple[Served, Browser]]
FIELDS = json.loads((Path(__file__).parent / "agentos_fields.json").read_text())
LEFT_OUT = {
    "model",  # a runnable may have several, or none
    "model_provider",
    "session_state",  # there is none
    "messages",  # what a model was told is the author's
    "workflow_agent",  # says that a workflow's own agent spoke
    "step_executor_runs",  # the same runs as in step_results
}
_TYPES = {str: "text", bool: "flag", int: "number", float: "number", dict: "object", list: "list"}


def _differs(expected: dict[str, str], given: dict[str, Any], but: set[str]) -> dict[str, str]:
    """The fields that are missing, or of another type."""
    told = {name: _TYPES.get(type(value), "null") for name, value in given.items()}
    wanted = {name: kind for name, kind in expected.items() if name not in LEFT_OUT | but}
    return {name: told.get(name, "missing") for name in wanted if told.get(name) != wanted[name]}


@pytest.fixture
def browser(serve_http: Both) -> Browser:
    waiter, _ = make_waiter()
    team, flow = _desk()
    _, browser = serve_http(speaker, failing, waiter, _asker(), teams=[team], workflows=[flow])
    return browser


def _streams(browser: Browser) -> dict[str, list[dict[str, Any]]]:
    """The events of every scene, by what was run."""
    agent = [
        *_form(browser, "/agents/speaker/runs", message="go"),
        *_form(browser, "/agents/failing/runs", message="go"),
    ]
    live = _form(browser, "/agents/waiter/runs", message="go", run_id="w")
    agent.append(live.until("content"))
    browser.post("/agents/waiter/runs/w/cancel")
    agent += live
    paused = list(_form(browser, "/agents/asker/runs", message="go", run_id="p"))
    tools = json.dumps([{**paused[-1]["tools"][0], "confirmed": True}])
    agent += paused
    agent += _form(browser, "/agents/asker/runs/p/continue", tools=tools)
    team = list(_form(browser, "/teams/desk/runs", message="go"))
    return {
        "agent": agent,
        "team": team,
        "workflow": list(_form(browser, "/workflows/paper/runs", message="go")),
    }


def test_events_have_the_fields_of_agentos(browser: Browser) -> None:
    """Of every event that both have: each field that AgentOS fills, of the same type."""
    wrong = {}
    for kind, events in _streams(browser).items():
        for name, expected in FIELDS["streams"][kind].items():
            of_name = [event for event in events if event["event"] == name]
            if name.endswith("Cancelled") and kind != "agent":
                continue  # made by the same lines as an agent's
            assert of_name, (kind, name)
            # A sentence about the call, which its reader makes from `tool`.
            but = {"content"} if "ToolCall" in name else set()
            if found := _differs(expected, of_name[0], but):
                wrong[kind, name] = found
    assert wrong == {}


def test_whole_runs_have_the_fields_of_agentos(browser: Browser) -> None:
    """And so have a call that waits, and what decides about it."""
    for kind, path in (
        ("agent", "/agents/speaker"),
        ("team", "/teams/desk"),
        ("workflow", "/workflows/paper"),
    ):
        fields = {"message": "go", "stream": "false", "user_id": "user-1"}
        whole = _ask(browser, f"{path}/runs", **fields).json()
        assert _differs(FIELDS["whole"][kind], whole, set()) == {}
    paused = _ask(browser, "/agents/asker/runs", message="go", stream="false").json()
    assert _differs(FIELDS["waiting_tool"], paused["tools"][0], set()) == {}
    assert _differs(FIELDS["requirement"], paused["requirements"][0], set()) == {}
