"""The official MCP client, unchanged, against a real server: over HTTP, and through the bridge."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from pullcord import RunContext, runnable
from pullcord.run.events import RunPaused, ToolCall
from pullcord.transports.mcp.asking import asked, filled_in

from tests.cli.commands import PULLCORD, environment
from tests.identity.callers import token_of, write_tokens
from tests.steady import PATIENCE
from tests.transports.harness import Cause, Served, Signal, State
from tests.transports.http.web import Browser

Both = Callable[..., tuple[Served, Browser]]

each_way = pytest.mark.parametrize("way", ["http", "http of 2025", "stdio"])


@runnable(description="Says what it is told.")
def echo(context: RunContext) -> Any:
    """Says it in two pieces, and how far it is."""
    context.progress(1, 2, "half")
    yield context.input
    yield "!"
    if context.input_data is not None:
        context.set_output(data={"got": dict(context.input_data), "session": context.session_id})


@runnable
def failing(context: RunContext) -> Any:
    """Says something and raises."""
    yield "before"
    raise LookupError("nothing there")


@runnable
async def asker(context: RunContext) -> Any:
    """Asks, and says what it was told."""
    (made,) = await context.ask("Where to?", [ToolCall("call-1", "where", "{}")])
    yield f"to {made.answer}"


def waiting() -> Any:
    """A runnable that says a word, and then waits to be stopped."""
    never = Signal()

    @runnable
    async def waiter(context: RunContext) -> Any:
        """Waits."""
        yield "first"
        await never.come()

    return waiter


@asynccontextmanager
async def connected(
    way: str, served: Served, browser: Browser, **options: Any
) -> AsyncIterator[Client]:
    if way.startswith("stdio"):
        if way != "stdio":
            options["mode"] = "legacy"
        command, *args = [*PULLCORD, "mcp", "--address", served.address]
        parameters = StdioServerParameters(command=command, args=args, env=environment())
        async with Client(parameters, **options) as client:
            yield client
    else:
        mode: Any = "auto" if way == "http" else "legacy"
        url = f"{browser.url}/mcp"
        async with httpx2.AsyncClient(headers=browser.headers, timeout=PATIENCE) as http:
            transport = streamable_http_client(url, http_client=http)
            async with Client(transport, mode=mode, **options) as client:
                yield client


async def live_run_of(served: Served) -> str:
    """The id of the run that is at work, once it has said something."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for run in (await asyncio.to_thread(served.list)).runs:
                if (await asyncio.to_thread(served.get, run.run_id)).output:
                    return run.run_id
            await asyncio.sleep(0.02)


async def ended(served: Served, run_id: str) -> Any:
    return await asyncio.to_thread(served.wait, run_id)


@each_way
def test_what_is_served_is_a_tool(serve_http: Both, way: str) -> None:
    """It is listed with what it takes; its result has the text, the data and the run's id."""
    served, browser = serve_http(echo, failing)

    async def scene() -> None:
        heard: list[str | None] = []

        async def hear(done: float, total: float | None, message: str | None) -> None:
            heard.append(message)

        async with connected(way, served, browser) as client:
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == ["agents_echo", "agents_failing"]
            assert tools[0].description == "Says what it is told."
            assert tools[0].input_schema["required"] == ["input"]
            given = {"input": "hé", "input_data": {"a": [1]}, "session_id": "s"}
            result = await client.call_tool("agents_echo", given, progress_callback=hear)
            assert (result.content[0].text, result.is_error) == ("hé!", False)  # type: ignore[union-attr]  # a text
            assert result.structured_content == {"got": {"a": [1]}, "session": "s"}
            run = served.get(result.meta["run_id"])  # type: ignore[index]  # there is one
            assert (run.state, run.output) == (State.RUN_STATE_COMPLETED, "hé!")
            said = [words or "" for words in heard]
            assert said[0] == "half (1 of 2)"
            assert "".join(said[1:]) == "hé!"
            failed = await client.call_tool("agents_failing", {"input": ""})
            assert failed.is_error
            assert "LookupError: nothing there" in failed.content[0].text  # type: ignore[union-attr]  # a text
            assert failed.content[0].text.endswith("before")  # type: ignore[union-attr]  # a text

    asyncio.run(scene())


@each_way
def test_a_call_that_is_cancelled_stops_its_run(serve_http: Both, way: str) -> None:
    """What it had made is kept, and the connection can be used for the next call."""
    served, browser = serve_http(waiting(), echo)

    async def scene() -> None:
        async with connected(way, served, browser) as client:
            calling = asyncio.ensure_future(client.call_tool("agents_waiter", {"input": ""}))
            run_id = await live_run_of(served)
            calling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await calling
            run = await ended(served, run_id)
            assert run.state == State.RUN_STATE_CANCELLED
            assert run.cancellation.cause == Cause.CANCEL_CAUSE_USER
            assert run.cancellation.reason == "the MCP client cancelled the call, or left"
            assert run.output == "first"
            again = await client.call_tool("agents_echo", {"input": "on"})
            assert again.content[0].text == "on!"  # type: ignore[union-attr]  # a text

    asyncio.run(scene())


@each_way
def test_somebody_else_stops_the_run_of_a_call(serve_http: Both, way: str) -> None:
    """A client of ours watches it, and stops it; the MCP client reads who did, and why."""
    served, browser = serve_http(waiting())

    async def scene() -> None:
        async with connected(way, served, browser) as client:
            calling = asyncio.ensure_future(client.call_tool("agents_waiter", {"input": ""}))
            run_id = await live_run_of(served)
            stream = served.watch(run_id)
            await asyncio.to_thread(stream.until, "content_delta")
            await asyncio.to_thread(lambda: served.cancel(run_id, reason="enough"))
            result = await calling
            assert result.is_error
            words = result.content[0].text  # type: ignore[union-attr]  # a text
            assert "cancelled, cause USER" in words
            assert ": enough\nWhat it had made:\nfirst" in words
            assert result.meta == {**result.meta, "run_id": run_id, "state": "CANCELLED"}  # type: ignore[dict-item]  # there is one
            await asyncio.to_thread(stream.end)

    asyncio.run(scene())


@each_way
def test_a_run_that_waits_for_a_decision_says_so(serve_http: Both, way: str) -> None:
    """The call ends with words about who can decide; the run waits, and goes on when they do."""
    served, browser = serve_http(asker)

    async def scene() -> None:
        async with connected(way, served, browser) as client:
            result = await client.call_tool("agents_asker", {"input": ""})
            run_id = result.meta["run_id"]  # type: ignore[index]  # there is one
            words = result.content[0].text  # type: ignore[union-attr]  # a text
            assert result.is_error
            assert "Where to?" in words
            assert f"pullcord continue {run_id}" in words
            assert served.get(run_id).state == State.RUN_STATE_PAUSED
            body = {"runId": run_id, "decisions": [{"toolCallId": "call-1", "answer": "Ulm"}]}
            await asyncio.to_thread(browser.call, "ContinueRun", body)
            assert (await ended(served, run_id)).output == "to Ulm"

    asyncio.run(scene())


@pytest.mark.parametrize("way", ["http", "http of 2025", "stdio", "stdio of 2025"])
def test_a_client_that_shows_forms_is_asked(serve_http: Both, way: str) -> None:
    """What the run asks is a form; what its user fills in is the decision, and the run goes on."""
    served, browser = serve_http(asker)
    shown: list[str] = []
    replies = [
        types.ElicitResult(action="accept", content={"answer": "Ulm"}),
        types.ElicitResult(action="decline"),
        types.ElicitResult(action="cancel"),
    ]

    async def show(context: Any, form: Any) -> types.ElicitResult:
        shown.append(form.message)
        return replies.pop(0)

    async def scene() -> None:
        async with connected(way, served, browser, elicitation_callback=show) as client:
            said = [await client.call_tool("agents_asker", {"input": ""}) for _ in range(3)]
        texts = [result.content[0].text for result in said]  # type: ignore[union-attr]  # a text
        assert texts[:2] == ["to Ulm", "to None"]
        assert "pullcord continue" in texts[2]
        assert shown == ["Where to?\nwhere {}"] * 3

    asyncio.run(scene())


def test_an_answer_that_is_none_decides_nothing() -> None:
    """As a form that was dismissed: the call ends with words, and somebody else can decide."""

    class Session:
        async def elicit_form(self, *_: Any) -> types.ElicitResult:
            return types.ElicitResult.model_validate({"action": "zz"})

    context: Any = SimpleNamespace(session=Session(), request_id=1)
    pause = RunPaused("Where?", (ToolCall("call-1", "where"),))
    assert asyncio.run(asked(context, pause)) is None


@pytest.mark.parametrize("content", [None, {}, {"note": "go"}, {"approved": False}])
def test_a_form_without_a_tick_approves_nothing(content: dict[str, Any] | None) -> None:
    """Clients leave out a box that was not ticked."""
    sent = types.ElicitResult(action="accept", content=content)
    decided = filled_in({"call-1": sent})
    assert decided is not None
    assert [one.approved for one in decided] == [False]


def test_a_form_that_somebody_else_has_answered_is_taken_back(serve_http: Both) -> None:
    """The run goes on by the first decision, whoever makes it, and the call ends."""
    served, browser = serve_http(asker)

    async def scene() -> None:
        asked = asyncio.Event()

        async def show(context: Any, form: Any) -> types.ElicitResult:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError("nobody sets this event")

        way = "http of 2025"
        async with connected(way, served, browser, elicitation_callback=show) as client:
            call = asyncio.create_task(client.call_tool("agents_asker", {"input": ""}))
            await asked.wait()
            (run,) = (await asyncio.to_thread(served.list)).runs
            body = {"runId": run.run_id, "decisions": [{"toolCallId": "call-1", "answer": "Ulm"}]}
            await asyncio.to_thread(browser.call, "ContinueRun", body)
            assert (await call).content[0].text == "to Ulm"  # type: ignore[union-attr]  # a text

    asyncio.run(scene())


def test_a_call_that_comes_again_has_no_rights_of_its_own(serve_http: Both) -> None:
    """What the client keeps between two calls is checked as everything else is."""
    served, browser = serve_http(asker)

    async def scene() -> None:
        filled = {"call-1": types.ElicitResult(action="accept", content={"answer": "Ulm"})}
        async with connected("http", served, browser) as client:
            for state in ("{", "[1, 2, 3]", "null", '["a", "a", -1]'):
                with pytest.raises(MCPError, match="requestState"):
                    await client.session.call_tool(
                        "agents_asker", {"input": ""}, input_responses=filled, request_state=state
                    )
            result = await client.session.call_tool(
                "agents_asker",
                {"input": ""},
                input_responses=filled,
                request_state='["nobodys", "nobodys", 1]',
            )
            assert result.content[0].text.startswith("RunNotFound: ")  # type: ignore[union-attr]  # a text

    asyncio.run(scene())


@each_way
def test_what_is_wrong_with_a_call_is_said(serve_http: Both, way: str) -> None:
    """An unknown tool is an error of the protocol; wrong arguments are one for the model."""
    served, browser = serve_http(echo)

    async def scene() -> None:
        async with connected(way, served, browser) as client:
            for name in ("agents_ech", "echo"):
                with pytest.raises(MCPError, match=f"unknown tool '{name}'"):
                    await client.call_tool(name, {"input": ""})
            for arguments, words in (
                ({"input": 3}, "input: must be a JSON string"),
                ({"input": "", "inptu": ""}, "inptu: is not taken here"),
                ({"input": "", "session_id": "x" * 9999}, "session_id: "),
            ):
                result = await client.call_tool("agents_echo", arguments)
                assert result.is_error
                assert words in result.content[0].text  # type: ignore[union-attr]  # a text
            assert not served.list().runs

    asyncio.run(scene())


def test_a_run_goes_on_when_a_client_of_2025_is_cut_off(serve_http: Both) -> None:
    """For that protocol a broken connection is no cancel; the end of the session is one."""
    served, browser = serve_http(waiting())

    async def scene() -> None:
        url = f"{browser.url}/mcp"
        async with httpx2.AsyncClient(timeout=PATIENCE) as http:
            accept = {"accept": "application/json, text/event-stream"}
            hello = {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "t", "version": "1"},
            }
            opened = await http.post(url, json=rpc("initialize", hello, 1), headers=accept)
            mine = accept | {"mcp-session-id": opened.headers["mcp-session-id"]}
            await http.post(url, json=rpc("notifications/initialized", {}), headers=mine)
            call = rpc("tools/call", {"name": "agents_waiter", "arguments": {"input": ""}}, 2)
            async with http.stream("POST", url, json=call, headers=mine):
                run_id = await live_run_of(served)
            assert served.get(run_id).state == State.RUN_STATE_RUNNING
            assert (await http.delete(url, headers=mine)).status_code == 200
            assert (await ended(served, run_id)).state == State.RUN_STATE_CANCELLED

    asyncio.run(scene())


def rpc(method: str, params: Any, id: int | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    return made if id is None else made | {"id": id}


def test_a_run_belongs_to_its_caller(serve_http: Both, tmp_path: Path) -> None:
    """Who has no token is refused; a run is its caller's, and so is a session."""
    served, browser = serve_http(echo, tokens=write_tokens(tmp_path / "tokens"))
    assert browser.post("/mcp", rpc("tools/list", {}, 1)).status == 401

    async def scene() -> None:
        browser.headers = {"authorization": f"Bearer {token_of('ann')}"}
        async with connected("http", served, browser) as client:
            result = await client.call_tool("agents_echo", {"input": "a"})
            run_id = result.meta["run_id"]  # type: ignore[index]  # there is one
            assert browser.call("GetRun", {"runId": run_id})["run"]["owner"] == "ann"

    asyncio.run(scene())
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    accept = "application/json, text/event-stream"
    opened = browser.post("/mcp", rpc("initialize", hello, 1), accept=accept)
    session = opened.headers["mcp-session-id"]
    asked = rpc("tools/list", {}, 2)
    assert browser.post("/mcp", asked, accept=accept, mcp_session_id=session).status == 200
    browser.headers = {"authorization": f"Bearer {token_of('bob')}"}
    assert browser.post("/mcp", asked, accept=accept, mcp_session_id=session).status == 404


def test_pages_of_others_may_not_call(serve_http: Both) -> None:
    """Nor may a name that somebody has pointed here."""
    _, browser = serve_http(echo)
    asked = rpc("tools/list", {}, 1)
    assert browser.post("/mcp", asked, origin="https://evil.example").status == 403
    assert browser.post("/mcp", asked, host="evil.example").status == 421
    refused = browser.get("/mcp")  # a stream beside those of calls: there is none
    assert (refused.status, refused.headers["allow"]) == (405, "DELETE, POST")


@pytest.mark.parametrize("how", ["EOF", "Ctrl-C"])
def test_the_bridge_stops_its_runs_when_it_ends(serve_http: Both, how: str) -> None:
    """Nothing but the protocol is on its stdout, though something is said on stderr."""
    served, _ = serve_http(waiting())
    with subprocess.Popen(
        [*PULLCORD, "mcp", "--address", served.address],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as bridge:
        assert bridge.stdin is not None
        assert bridge.stdout is not None
        hello = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        call = {"name": "agents_waiter", "arguments": {"input": ""}}
        for message in (
            rpc("initialize", hello, 1),
            rpc("notifications/initialized", {}),
            rpc("tools/call", call, 2),
        ):
            bridge.stdin.write(json.dumps(message) + "\n")
            bridge.stdin.flush()
        run_id = asyncio.run(live_run_of(served))
        if how == "EOF":
            bridge.stdin.close()
        else:
            bridge.send_signal(signal.SIGINT)
        assert served.wait(run_id).state == State.RUN_STATE_CANCELLED
        said = bridge.stdout.read()
        assert all(json.loads(line)["jsonrpc"] == "2.0" for line in said.splitlines())
        assert bridge.wait(PATIENCE) == (0 if how == "EOF" else 130)


def test_the_bridge_says_that_its_server_is_not_there() -> None:
    """It starts, and answers with an error that says so."""

    async def scene() -> None:
        args = [*PULLCORD[1:], "mcp", "--address", "127.0.0.1:1"]
        parameters = StdioServerParameters(command=sys.executable, args=args, env=environment())
        async with Client(parameters) as client:
            with pytest.raises(MCPError, match=r"127\.0\.0\.1:1"):
                await client.list_tools()

    asyncio.run(scene())
