"""Agents that call the tools of real MCP servers: processes and HTTP, by the official SDK."""

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord.agent import Agent, McpServer
from pullcord.client import RunClient
from pullcord.executors.processes import is_alive
from pullcord.models.openai import OpenAIChat
from pullcord.run.base import RunStatus
from pullcord.run.cancel import CancelMode
from pullcord.run.events import Progress, ToolCallState
from pullcord.run.record import Decision
from pullcord.run.state import RunState

from tests.agent.test_agent import nothing_left, tool_answers
from tests.cli.commands import Command
from tests.openai_server import Call, OpenAIServer
from tests.steady import PATIENCE

SERVER = Path(__file__).parent / "mcp_server.py"


async def until(what: Callable[[], Any]) -> Any:
    """Waits until this is true, and returns it."""
    async with asyncio.timeout(PATIENCE):
        while not (found := what()):  # noqa: ASYNC110  # of another process
            await asyncio.sleep(0.01)
    return found


class Notes:
    """What a server has written down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def has(self, line: str) -> bool:
        return line in self.lines()

    def pid(self) -> int:
        return int(self.lines()[0].removeprefix("pid "))


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path / "notes")


def by_stdio(notes: Notes, *more: str, **options: Any) -> McpServer:
    return McpServer([sys.executable, str(SERVER), str(notes.path), *more], **options)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Notes]]:
    """A server over HTTP, which is there for all tests: it takes long to start."""
    notes = Notes(tmp_path_factory.mktemp("http") / "notes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(SERVER), str(notes.path), "--http", str(port)]
    with subprocess.Popen(command) as process:
        until = time.monotonic() + PATIENCE
        while not answers(port):
            assert time.monotonic() < until
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp", notes
        process.kill()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture(params=["stdio", "http"])
def mcp(request: pytest.FixtureRequest, notes: Notes) -> McpServer:
    if request.param == "stdio":
        return by_stdio(notes)
    url, written = request.getfixturevalue("shared")
    notes.path = written.path
    written.path.write_text("")
    notes.path.with_suffix(".go").unlink(missing_ok=True)
    return McpServer(url=url)


async def gone(pid: int) -> bool:
    """True once no such process is at work."""
    await until(lambda: not is_alive(pid))
    return True


async def test_its_tools_are_called(
    server: OpenAIServer, model: OpenAIChat, mcp: McpServer, notes: Notes
) -> None:
    """The model is told their schemas, and reads texts, errors, and what cannot be shown."""
    agent = Agent(name="a", model=model, mcp=[mcp])
    server.script(Call("add", {"a": 1, "b": 2}), Call("fail", {}), Call("picture", {}))
    server.script("3")
    result = await agent.arun("?")
    assert (result.status, result.content) == (RunStatus.completed, "3")
    told = {tool["function"]["name"]: tool for tool in server.exchange(0).body["tools"]}
    add = told["add"]["function"]
    assert add["description"] == "Adds two numbers."
    assert add["parameters"]["properties"]["a"]["type"] == "integer"
    added, failed, picture = tool_answers(server, 1)
    assert added == "3"
    assert failed.startswith("Error: McpToolFailed:")
    assert picture == "[image image/png, 5 bytes: not shown]"
    states = [call.state for call in result.tools]
    assert states == [ToolCallState.COMPLETED, ToolCallState.FAILED, ToolCallState.COMPLETED]
    assert await nothing_left()


async def test_a_server_of_a_run_ends_with_it(
    server: OpenAIServer, model: OpenAIChat, notes: Notes
) -> None:
    """Each run has a process of its own, which is gone when the run has ended."""
    agent = Agent(name="a", model=model, mcp=[by_stdio(notes)])
    for _ in range(2):
        server.script("hello")
        await agent.arun("?")
    pids = [int(line.removeprefix("pid ")) for line in notes.lines()]
    assert len(set(pids)) == 2
    assert [await gone(pid) for pid in pids]


@pytest.mark.parametrize("mode", CancelMode)
async def test_a_stop_reaches_an_open_call(
    mode: CancelMode, server: OpenAIServer, model: OpenAIChat, mcp: McpServer, notes: Notes
) -> None:
    """IMMEDIATE cancels it at the server; GRACEFUL lets it finish, and its result is kept."""
    agent = Agent(name="a", model=model, mcp=[mcp])
    server.script(Call("wait", {}))
    running = asyncio.create_task(agent.arun("?", run_id=f"mcp-{mode}-{mcp.name}"))
    await until(lambda: notes.has("waiting"))
    agent.cancel_run(f"mcp-{mode}-{mcp.name}", mode=mode, grace_period=PATIENCE)
    if mode is CancelMode.GRACEFUL:
        notes.path.with_suffix(".go").touch()
    result = await running
    assert result.status == RunStatus.cancelled
    [call] = result.tools
    if mode is CancelMode.GRACEFUL:
        assert notes.has("done")
        assert (call.state, call.result) == (ToolCallState.COMPLETED, "waited")
    else:
        await until(lambda: notes.has("cancelled"))
        assert call.state is ToolCallState.INTERRUPTED
    if mcp.command:
        assert await gone(notes.pid())
    assert await nothing_left()


async def test_a_stop_is_said_in_the_words_of_the_protocol(
    server: OpenAIServer, model: OpenAIChat, notes: Notes, tmp_path: Path
) -> None:
    """The server is sent `notifications/cancelled` before its stdin is closed."""
    wire = tmp_path / "wire"
    script = f"tee {wire} | {sys.executable} {SERVER} {notes.path}"
    agent = Agent(name="a", model=model, mcp=[McpServer(["sh", "-c", script])])
    server.script(Call("wait", {}))
    running = asyncio.create_task(agent.arun("?", run_id="mcp-words"))
    await until(lambda: notes.has("waiting"))
    agent.cancel_run("mcp-words", mode=CancelMode.IMMEDIATE)
    assert (await running).status == RunStatus.cancelled
    sent = [json.loads(line) for line in wire.read_text().splitlines()]
    (call,) = [one for one in sent if one.get("method") == "tools/call"]
    cancels = [one["params"] for one in sent if one.get("method") == "notifications/cancelled"]
    assert call["id"] in [params["requestId"] for params in cancels]
    assert await gone(notes.pid())


async def test_a_server_that_hears_nothing_is_killed(
    server: OpenAIServer, model: OpenAIChat, notes: Notes
) -> None:
    """A call that blocks the whole server ends with a stop, and so does the server."""
    agent = Agent(name="a", model=model, mcp=[by_stdio(notes)])
    server.script(Call("hang", {}))
    running = asyncio.create_task(agent.arun("?", run_id="mcp-deaf"))
    await until(lambda: notes.has("hanging"))
    agent.cancel_run("mcp-deaf", mode=CancelMode.IMMEDIATE)
    assert (await running).status == RunStatus.cancelled
    assert await gone(notes.pid())


async def test_a_call_may_take_so_long(
    server: OpenAIServer, model: OpenAIChat, notes: Notes
) -> None:
    """A call that takes longer than `call_timeout` is cancelled there, and the model reads so."""
    agent = Agent(name="a", model=model, mcp=[by_stdio(notes, call_timeout=1)])
    server.script(Call("wait", {}))
    server.script("sorry")
    assert (await agent.arun("?")).content == "sorry"
    assert "timed out" in tool_answers(server, 1)[0]
    assert notes.has("cancelled")


async def test_progress_of_a_call_is_progress_of_the_run(
    server: OpenAIServer, model: OpenAIChat, mcp: McpServer, notes: Notes
) -> None:
    """What the server says of how far it is becomes an event."""
    agent = Agent(name="a", model=model, mcp=[mcp])
    server.script(Call("wait", {}))
    server.script("done")
    seen = []
    async for chunk in agent.arun("?", stream=True):
        if isinstance(chunk.content, Progress):
            seen.append(chunk.content)
            notes.path.with_suffix(".go").touch()
    assert [(one.done, one.total, one.note) for one in seen] == [(1, 3, "one of three")]


async def test_tools_that_come_later_are_offered(
    server: OpenAIServer, model: OpenAIChat, mcp: McpServer
) -> None:
    """When a server says that its tools have changed, the model is told the new ones."""
    server.script(Call("learn", {}))
    # The list is read anew beside the conversation, so the model asks until it can sing.
    agent = Agent(name="a", model=model, mcp=[mcp], max_model_calls=None)
    for _ in range(200):
        server.script(Call("add", {"a": 1, "b": 1}))
    running = asyncio.create_task(agent.arun("?", run_id=f"mcp-learns-{mcp.name}"))
    number = 0
    while "sing" not in str(server_tools := await asyncio.to_thread(tools_of, server, number)):
        number += 1
        assert number < 200, server_tools
    agent.cancel_run(f"mcp-learns-{mcp.name}")
    await running


def tools_of(server: OpenAIServer, number: int) -> list[str]:
    return [tool["function"]["name"] for tool in server.exchange(number).body["tools"]]


async def test_two_tools_of_one_name_are_told_apart(
    server: OpenAIServer, model: OpenAIChat, tmp_path: Path
) -> None:
    """Those of servers begin with the server's name then; the agent's own keeps its name."""

    def picture() -> str:
        """Paints."""
        return "own"

    one, two = Notes(tmp_path / "one"), Notes(tmp_path / "two")
    servers = [
        by_stdio(one, name="north", tools=["add", "picture"]),
        by_stdio(two, name="south", tools=["add"]),
    ]
    agent = Agent(name="a", model=model, tools=[picture], mcp=servers)
    server.script(Call("south_add", {"a": 1, "b": 2}), Call("picture", {}))
    server.script("3")
    await agent.arun("?")
    assert tools_of(server, 0) == ["picture", "north_add", "north_picture", "south_add"]
    assert tool_answers(server, 1) == ["3", "own"]
    assert not one.has("add 1 2")
    assert two.has("add 1 2")


async def test_a_call_waits_for_approval(
    server: OpenAIServer, model: OpenAIChat, notes: Notes
) -> None:
    """The run pauses before a tool that `needs_approval` names, and calls it once it may."""
    agent = Agent(name="a", model=model, mcp=[by_stdio(notes, needs_approval=["add"])])
    server.script(Call("add", {"a": 2, "b": 2}, id="c1"))
    server.script("4")
    async for chunk in agent.arun("?", stream=True):
        if chunk.event == "RunPaused":
            assert not notes.has("add 2 2")
            agent.continue_run(chunk.run_id, [Decision("c1", approved=True)])
    assert (chunk.content, tool_answers(server, 1)) == ("4", ["4"])
    assert notes.has("add 2 2")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (McpServer("no-such-program --now"), "'no-such-program' did not start: .*No such file"),
        (McpServer([sys.executable, "-c", "exit(3)"], name="x"), "it ended with exit code 3"),
        (McpServer(url="http://127.0.0.1:1/mcp"), "'127-0-0-1' cannot be reached"),
    ],
)
async def test_a_server_that_does_not_start_fails_the_run(
    broken: McpServer, words: str, model: OpenAIChat
) -> None:
    """The error says which server it was, and why; the model is never asked."""
    result = await Agent(name="a", model=model, mcp=[broken]).arun("?")
    assert result.status == RunStatus.error
    assert re.search(words, result.error), result.error
    assert await nothing_left()


def saying_nothing(notes: Notes, **options: Any) -> McpServer:
    script = f"echo pid $$ > {notes.path}; exec sleep 600"
    return McpServer(["sh", "-c", script], **options)


async def test_a_server_that_says_nothing_fails_the_run(model: OpenAIChat, notes: Notes) -> None:
    """It has `start_timeout`, is then killed, and the run fails."""
    silent = saying_nothing(notes, start_timeout=2)
    result = await Agent(name="a", model=model, mcp=[silent]).arun("?")
    assert "within 2 s" in result.error
    assert await gone(notes.pid())


async def test_a_stop_while_a_server_starts(model: OpenAIChat, notes: Notes) -> None:
    """It is killed, and the run ends."""
    agent = Agent(name="a", model=model, mcp=[saying_nothing(notes)])
    running = asyncio.create_task(agent.arun("?", run_id="mcp-early"))
    await until(notes.lines)
    agent.cancel_run("mcp-early")
    assert (await running).status == RunStatus.cancelled
    assert await gone(notes.pid())
    assert await nothing_left()


@pytest.mark.parametrize("field", ["tools", "needs_approval"])
async def test_a_mistyped_tool_fails_the_run(field: str, model: OpenAIChat, notes: Notes) -> None:
    """Or a tool would be called without the approval that its author wants."""
    wrong = by_stdio(notes, **{field: ["ad"]})
    result = await Agent(name="a", model=model, mcp=[wrong]).arun("?")
    assert f"has no tool 'ad', which {field} names; it has add, fail" in result.error


def test_a_server_is_described_in_one_way(model: OpenAIChat) -> None:
    """What does not go together is refused by the field's name; names are made if none is given."""
    assert McpServer("npx -y @acme/server-git --all").name == "server-git"
    assert McpServer("uvx mcp-git").name == "mcp-git"
    assert McpServer("/opt/my.server/run.sh").name == "run"
    assert McpServer(url="https://mcp.acme.com/x").name == "mcp-acme-com"
    assert "secret" not in repr(McpServer(url="https://a/x", headers={"authorization": "secret"}))
    wrong: list[tuple[Any, str]] = [
        (McpServer, "either a command or a url"),
        (lambda: McpServer("a", url="http://b"), "either a command or a url"),
        (lambda: McpServer(url="ftp://b"), r"McpServer\.url"),
        (lambda: McpServer("a", headers={"x": "y"}), r"McpServer\.headers"),
        (lambda: McpServer(url="http://b", env={"x": "y"}), r"McpServer\.env"),
        (lambda: McpServer("a", name="a b"), r"McpServer\.name"),
        (lambda: McpServer("a", tools="add"), r"McpServer\.tools"),
        (lambda: McpServer("a", call_timeout=0), r"McpServer\.call_timeout"),
        (lambda: Agent(name="a", model=model, mcp=["uvx git"]), "McpServer objects"),  # type: ignore[list-item]  # the mistake
        (lambda: Agent(name="a", model=model, mcp=[McpServer("a")] * 2), "two MCP servers"),
    ]
    for make, words in wrong:
        with pytest.raises((TypeError, ValueError), match=words):
            make()


APP = """
import os, sys
from pullcord.agent import Agent, McpServer
from pullcord.models.openai import OpenAIChat
model = OpenAIChat(id="m")
servers = [McpServer([sys.executable, *os.environ["MCP_TEST"].split()])]
shared = Agent(name="shared", model=model, mcp=servers)
alone = Agent(name="alone", model=model, mcp=servers, isolation="process")
"""


@pytest.mark.parametrize("name", ["shared", "alone"])
def test_it_ends_with_a_run_in_a_worker(
    name: str, server: OpenAIServer, notes: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether runs share their worker or not, a stop ends an open call and the server."""
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("MCP_TEST", f"{SERVER} {notes.path}")
    server.script(Call("hang", {}))
    options = ("--listen", "127.0.0.1:0", "--json")
    with Command("serve", f"app:{name}", *options, cwd=tmp_path) as command:
        address = json.loads(command.until("\n"))["address"]
        with RunClient(address) as client:
            client.start(f"agents/{name}", "?", run_id="r")
            asyncio.run(until(lambda: notes.has("hanging")))
            client.cancel("r", mode=CancelMode.IMMEDIATE)
            run = client.wait("r")
            assert run.state is RunState.CANCELLED
            assert [call.state for call in run.tool_calls] == [ToolCallState.INTERRUPTED]
            assert asyncio.run(gone(notes.pid()))
        command.interrupt()
        assert command.end()[0] == 0


@pytest.fixture(autouse=True)
def killed(notes: Notes) -> Iterator[None]:
    """Nothing of a failed test goes on."""
    yield
    for line in notes.lines():
        if line.startswith("pid "):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.removeprefix("pid ")), 9)
