"""The code of the guides runs, and does what they say."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from pullcord import RunServer, runnable
from pullcord.client import RunClient
from pullcord.demo import server as demo_server
from pullcord.run.errors import Unauthenticated
from pullcord.run.events import RunCancelled, StepCompleted

from tests.openai_server import OpenAIServer
from tests.transports.harness import make_settings


@runnable
async def echo(input: str) -> str:
    return input


DOCS = Path(__file__).parent.parent / "docs"


def _run(page: str, code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile(code, page, "exec"), names)
    return names


def _code(page: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return str(block)


def test_a_remote_runnable() -> None:
    """The guide's workflow and its agent have the demo's storyteller tell, and can be stopped."""
    with demo_server() as demo:
        names = _run("remote.md", _code("remote.md").replace("127.0.0.1:50051", demo))
        with names["server"] as address, RunClient(address) as client:
            for name in ("workflows/publish", "agents/storyteller"):
                stream = client.run(name, "a whale")
                for event in stream:
                    text = getattr(event.payload, "text", "")
                    if text and not isinstance(event.payload, StepCompleted):
                        stream.cancel("that will do")
                assert isinstance(stream.result, RunCancelled)
                assert stream.result.cancellation.reason == "that will do"


def test_structured_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guide's agent prints the model's text, and then the object that it is."""
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        server.script('{"title": "Trams", "pages": 7}')
        names = _run("structured-output.md", _code("structured-output.md"))
        asyncio.run(names["librarian"].model.aclose())
    text, data = capsys.readouterr().out.splitlines()
    assert (text, data) == ('{"title": "Trams", "pages": 7}', "{'title': 'Trams', 'pages': 7}")
    assert names["Book"].model_validate(names["output"].output_data).pages == 7


def test_a_function_that_knows_callers(tmp_path: Path) -> None:
    """The authenticator of docs/security.md lets its one caller in, and nobody else."""
    (tmp_path / "guide_callers.py").write_text(_code("security.md"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        settings = make_settings(authenticator="guide_callers:who")
        with RunServer(agents=[echo], settings=settings) as address:
            with RunClient(address, token="open sesame") as client:
                assert client.start("agents/echo", "hi").owner == "ali-baba"
            with RunClient(address, token="open says me") as bad, pytest.raises(Unauthenticated):
                bad.runnables()


def test_agents_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's server has the bare agent by its name, and the other by the id that it gives."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    server = _run("adapters.md", _code("adapters.md"))["server"]
    served = [info.name for info in server.catalog.all()]
    assert served == ["agents/storyteller", "agents/support"]


def test_tools_of_mcp_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's agent has both servers, and connects to none before it runs."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    names = _run("mcp.md", _code("mcp.md"))
    assert [server.name for server in names["agent"].mcp] == ["mcp-server-git", "shop"]
