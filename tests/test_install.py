"""What is installed: the base is the client and the command line, and extras say when they lack."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from pullcord import RunServer, extras, runnable

from tests.transports.harness import make_settings
from tools.site.python import APART

ROOT = Path(__file__).parent.parent


@runnable
def echo(input: str) -> str:
    return input


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has Pullcord's wheel and its base packages only."""
    folder = tmp_path_factory.mktemp("base")
    hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(hatchling, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    packages = next((folder / "venv").glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv"), "install"]
    quiet = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, *quiet, str(wheel)], check=True, capture_output=True)
    (metadata,) = packages.glob("pullcord-*.dist-info/METADATA")
    requires = re.findall(r"^Requires-Dist: (.*)$", metadata.read_text(), re.MULTILINE)
    for name in _closure(requires):
        _link(name, packages)
    return folder / "venv" / "bin"


def _closure(requires: list[str]) -> set[str]:
    """Every distribution that is needed without an extra of ours."""
    names: set[str] = set()
    todo = [(Requirement(one), "") for one in requires]
    while todo:
        wanted, extra = todo.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        if wanted.name in names and not wanted.extras:
            continue
        names.add(wanted.name)
        for more in importlib.metadata.requires(wanted.name) or ():
            todo += [(Requirement(more), extra) for extra in ("", *wanted.extras)]
    return names


def _link(name: str, packages: Path) -> None:
    for file in importlib.metadata.files(name) or ():
        if ".." in file.parts or file.suffix == ".pyc":
            continue
        target = packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.locate(), target)
        except OSError:
            shutil.copy(file.locate(), target)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with RunServer([echo], settings=make_settings()) as address:
        yield address


def _run(base: Path, *command: str, **more: str) -> "subprocess.CompletedProcess[str]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PULLCORD_", "PYTHON"))}
    program = str(base / command[0])
    return subprocess.run(
        [program, *command[1:]], env={**kept, **more}, capture_output=True, text=True, check=False
    )


def test_the_base_install_is_a_client(base: Path, address: str) -> None:
    """It starts runs and has the command line, and holds nothing of a server's packages."""
    code = f"""
import sys
from pullcord import Limits, RunClient, RunFilter, SessionPolicy
with RunClient({address!r}) as client:
    print(client.wait(client.start("agents/echo", "hello", limits=Limits(timeout=9)).run_id).output)
"""
    done = _run(base, "python", "-c", code)
    assert (done.stdout, done.stderr) == ("hello\n", "")
    done = _run(base, "pullcord", "run", "agents/echo", "hi", PULLCORD_ADDRESS=address)
    assert (done.returncode, done.stdout) == (0, "hi\n")
    for package in ("structlog", "uvloop", "openai", "docstring_parser"):
        assert _run(base, "python", "-c", f"import {package}").returncode == 1


def _wheel(base: Path) -> Path:
    (wheel,) = base.parent.parent.glob("*.whl")
    return wheel


@pytest.mark.parametrize(
    ("line", "extra"),
    [
        ("from pullcord import Agent", "serve"),
        ("from pullcord import RunServer", "serve"),
        ("from pullcord.agent import Agent", "serve"),
        ("from pullcord import OpenAIChat", "openai"),
        ("from pullcord import LangGraphAgent", "langgraph"),
    ],
)
def test_what_is_missing_is_answered_with_its_command(base: Path, line: str, extra: str) -> None:
    """The last line of the traceback says what to install."""
    done = _run(base, "python", "-c", line)
    assert f"pip install '{_wheel(base)}[{extra}]'" in done.stderr.splitlines()[-1]


def test_serving_needs_its_extra(base: Path) -> None:
    """`pullcord serve` says so in one line."""
    done = _run(base, "pullcord", "serve")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"pip install '{_wheel(base)}[serve]'" in done.stderr


@pytest.mark.parametrize(
    ("noted", "command"),
    [
        ({"url": ROOT.as_uri(), "dir_info": {"editable": True}}, f"pip install -e '{ROOT}[http]'"),
        ({"url": ROOT.as_uri(), "dir_info": {}}, f"pip install '{ROOT}[http]'"),
        ({"url": "file:///gone"}, "pip install '.[http]' in a checkout of Pullcord"),
        (
            {"url": "https://example.com/p.git", "vcs_info": {"vcs": "git"}},
            "pip install 'pullcord[http] @ git+https://example.com/p.git'",
        ),
        (None, "pip install 'pullcord[http]'"),
    ],
)
def test_an_extra_comes_from_where_pullcord_did(
    noted: object, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder, a repository, or an index if pip has noted nothing else."""
    if noted is not None:
        (tmp_path / "direct_url.json").write_text(json.dumps(noted))
    here = importlib.metadata.PathDistribution(tmp_path)
    monkeypatch.setattr(extras, "distribution", lambda name: here)
    monkeypatch.chdir(tmp_path)
    assert extras.install("http") == command
    monkeypatch.chdir(ROOT)
    assert extras.install("http") == command.replace(f"{ROOT}[", ".[")


def test_a_client_imports_no_server() -> None:
    """Neither Pullcord's own server side nor any package that only that needs."""
    code = """
import sys
before = set(sys.modules)
from pullcord import AsyncRunClient, Limits, RunClient, RunFilter, RunState, SessionPolicy, events
ours = {name for name in sys.modules if name.startswith("pullcord.")} - before
sides = {name.split(".")[1] for name in ours}
print(len(ours), sorted(sides))
print(sorted({"pydantic", "structlog", "uvloop", "rich", "typer"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    number, _, sides = first.partition(" ")
    assert int(number) <= 70
    assert sides == "['client', 'engine', 'run', 'v1', 'wire']"  # the engine's record of an event
    assert second == "[]"


def test_every_name_is_there() -> None:
    """Each can be imported, and is what type checkers are told it is."""
    import pullcord

    text = (ROOT / "server/pullcord/__init__.py").read_text()
    typed = {name for _, name in re.findall(r"    from ([\w.]+) import (\w+) as \2\n", text)}
    assert set(pullcord.__all__) < typed == set(pullcord._HOMES) <= set(dir(pullcord))
    for name in typed - APART:
        assert getattr(pullcord, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Agnet'"):
        getattr(pullcord, "Agnet")  # noqa: B009  # as a program asks for it


def test_a_star_imports_what_needs_no_extra_of_its_own() -> None:
    """All the names but those of frameworks and providers, of which few programs have all."""
    code = """
import sys

for name in ("agents", "agno", "anthropic", "google.genai", "langgraph", "openai", "pydantic_ai"):
    sys.modules[name] = None
from pullcord import *
print(RunServer.__name__, Agent.__name__, "Claude" in globals(), "OpenAIChat" in globals())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "RunServer Agent False False\n"
