"""What the README and docs/ say is true: their code runs, and their tables are the code's."""

import re
from pathlib import Path
from typing import Any

import pytest
from pullcord import RunServer
from pullcord.cli.app import app
from pullcord.client import RunClient
from pullcord.demo import server as demo_server
from pullcord.v1 import run_service_pb2
from typer.main import get_command

from tests.steady import steady
from tools.render_docs import DOCS, RENDERERS, rendered

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md")]


def _block(containing: str) -> str:
    text = (ROOT / "README.md").read_text()
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if containing in b)
    return block


def _run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_every_block_of_the_readme_is_run() -> None:
    """The README has five pieces of Python, and each is run by a test below."""
    assert (ROOT / "README.md").read_text().count("```python") == 5


def test_nothing_promises_a_package_of_a_registry() -> None:
    """There is none yet: pages say what holds in a checkout, and errors ask `pullcord.extras`."""
    sources = [*(ROOT / "server").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    promising = re.compile(r"pip install [^\n]*\bpullcord(?:\[|\b(?!['/.]))")
    found = [
        path.relative_to(ROOT).as_posix()
        for path in (*PAGES, *sources)
        if path.name != "extras.py" and promising.search(path.read_text())
    ]
    assert found == []


@steady
def test_the_stop_button(capsys: pytest.CaptureFixture[str]) -> None:
    """The README's stop button stops the demo's storyteller, and keeps what it has told."""
    with demo_server() as address:
        names = _run(_block("# the button").replace("127.0.0.1:50051", address))
    printed = capsys.readouterr().out
    result = names["stream"].result
    assert result.cancellation.reason == "that will do"
    assert result.output
    assert printed.startswith(result.output)
    assert printed.endswith(f"{len(result.output)} characters kept\n")


@steady
def test_serving_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's app.py serves an agent and a function, without a key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = _run(_block("RunContext, RunServer, runnable"))["server"]
    assert isinstance(server, RunServer)
    with server as address, RunClient(address) as client:
        assert [r.name for r in client.runnables()] == ["agents/counter", "agents/poet"]
        stream = client.run("agents/counter")
        for event in stream:
            if event.sequence == 2:
                stream.cancel()
        assert stream.result is not None
        assert stream.result.output == "1 "


@steady
def test_in_process_use(capsys: pytest.CaptureFixture[str]) -> None:
    """The README's in-process program stops itself and says how far it has come."""
    names = _run(_block("agent.cancel_run"))
    assert names["chunk"].status == "CANCELLED"
    assert names["chunk"].reason == "that will do"
    assert capsys.readouterr().out.endswith(f"{len(names['chunk'].content)} characters\n")


@steady
def test_stopping_a_team_and_a_workflow(capsys: pytest.CaptureFixture[str]) -> None:
    """The README's workflow and team keep the critic's work, and the writer's as far as it came."""
    _run(_block("Workflow(name="))
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    states = {(part, who): state for part, who, state, *_ in told}
    assert states == {
        ("steps", "headline"): "completed",
        ("steps", "parallel/writer"): "cancelled",
        ("steps", "parallel/critic"): "completed",
        ("steps", "press"): "not_started",
        ("members", "writer"): "cancelled",
        ("members", "critic"): "completed",
    }
    words = {(part, who): int(number) for part, who, _, number, *_ in told}
    for part, path in (("steps", "parallel/"), ("members", "")):
        assert 0 < words[part, f"{path}writer"] < words[part, f"{path}critic"]


@steady
def test_stopping_a_served_team_and_workflow(capsys: pytest.CaptureFixture[str]) -> None:
    """The README's client stops the demo's workflow and team once the counter has counted."""
    with demo_server() as address:
        _run(_block("teams/duo").replace("127.0.0.1:50051", address))
    assert capsys.readouterr().out.splitlines() == [
        "workflows/evening-paper ['completed', 'cancelled', 'completed', 'not_started']",
        "teams/duo ['cancelled', 'completed']",
    ]


def test_writing_a_team_and_a_workflow() -> None:
    """The workflow of docs/teams-and-workflows.md holds each kind of step, and completes."""
    page = (DOCS / "teams-and-workflows.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    result = _run(block)["result"]
    assert (result.status, result.error) == ("COMPLETED", "")
    assert {step["path"]: step["state"] for step in result.output_data["steps"]} == {
        "outline": "completed",
        "draft": "completed",
        "second-opinions/writer": "completed",
        "second-opinions/critic": "completed",
        "polish/1/critic": "completed",
        "condition/shorten": "completed",
        "condition/extend": "not_started",
        "router/web": "completed",
        "router/print": "not_started",
        "tweet": "completed",
    }


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_generated_parts_are_current(page: Path) -> None:
    """What the code says of states, errors and settings stands in docs/; else: make docs."""
    text = page.read_text()
    assert rendered(text) == text, "run: make docs"


def test_every_generated_part_is_shown() -> None:
    """No table is made that no page shows."""
    text = "".join(page.read_text() for page in DOCS.glob("*.md"))
    assert set(re.findall(r"<!-- generated: (\w+) -->", text)) == set(RENDERERS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file leads to one."""
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not link.startswith("https://"):
            assert (page.parent / link).exists(), link


def test_what_proves_that_something_is_defended_is_there() -> None:
    """Every test that docs/security.md names exists."""
    named = set(re.findall("`(test_[a-z0-9_]+)`", (ROOT / "docs" / "security.md").read_text()))
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert named <= set(re.findall(r"def (test_\w+)\(", sources))


def test_a_newcomer_finds_every_folder_in_the_table() -> None:
    """CONTRIBUTING.md says of each package of the server what lives there."""
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("| Folder |")[2].partition("\n\n")[0]
    named = {name.rpartition("/")[2] for name in re.findall("`([a-z_/0-9]+)`", table)}
    package = (ROOT / "server/pullcord").iterdir()
    folders = {path.name for path in package if path.is_dir() and path.name != "__pycache__"}
    assert folders - named == set()


def test_every_call_and_every_option_that_pages_name_is_there() -> None:
    """docs/grpc.md has each call of the API; options with `pullcord serve` are its."""
    page = (DOCS / "grpc.md").read_text()
    for rpc in run_service_pb2.DESCRIPTOR.services_by_name["RunService"].methods:
        assert f"| `{rpc.name}` |" in page
    serve = get_command(app).commands["serve"]
    options = {spelt for each in serve.params for spelt in (*each.opts, *each.secondary_opts)}
    for path in PAGES:
        for line in re.findall(r"pullcord serve[^`\n#]*", path.read_text()):
            assert set(re.findall(r"(?<!\S)--[a-z-]+", line)) <= options, (path.name, line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_verbs_that_a_page_names_are_there(page: Path) -> None:
    """`stores/rows.py` is in the repository, and `make lint` is a verb of the Makefile."""
    marked = re.findall(r"`([^`\n]+)`", page.read_text())
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for text in marked:
        if verb := re.match(r"make ([a-z][a-z-]+)", text):
            assert verb[1] in verbs, text
        if re.fullmatch(
            r"(engine|run|wire|service|stores|transports|tests|deploy|tools)/[\w/]+\.\w+", text
        ):
            places = (ROOT, ROOT / "server/pullcord")
            assert any((place / text).exists() for place in places), text
