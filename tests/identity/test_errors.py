"""What callers, logs and stores hold of errors in authors' code, providers and other servers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord import runnable
from pullcord.client import RunClient
from pullcord.models.base import ModelError
from pullcord.run.disclosure import Disclosure, Errors
from pullcord.run.errors import PublicError
from pullcord.run.events import RunError, RunFailed, StepCompleted, ToolCallCompleted

from tests.cli.commands import Command
from tests.identity.callers import guarded, token_of, write_tokens
from tests.openai_server import Fail, OpenAIServer, Refuse

SECRETS = ("hunter2", "sk-live-4711abcd", "org-a1b2c3d4e5f6")
HIDDEN = "my pin is 4711"
WORDS = f"postgresql://svc:{SECRETS[0]}@db/x says {SECRETS[1]} of {SECRETS[2]}: {HIDDEN}"

APP = f"""
import os
from pullcord import PublicError, RemoteRunnable, RunContext, RunServer, runnable
from pullcord.agent import Agent
from pullcord.models.openai import OpenAIChat
from pullcord.workflow.workflow import Workflow

@runnable
def raises():
    raise ValueError({WORDS!r})

@runnable
async def raises_async():
    raise ValueError({WORDS!r})

@runnable
def in_tool(ctx: RunContext):
    try:
        with ctx.tool_call("c", "find"):
            raise KeyError({WORDS!r})
    except KeyError:
        raise RuntimeError({WORDS!r})

@runnable
async def of_child(ctx: RunContext):
    child = ctx.start(raises_async, "")
    await child.wait()
    raise LookupError({WORDS!r})

@runnable
def says_it():
    raise PublicError("the city is not known; name another", said={WORDS!r})

model = OpenAIChat(id="m", base_url=os.environ["PROVIDER"], api_key="own", max_retries=0)
server = RunServer(
    agents=[
        raises, raises_async, in_tool, of_child, says_it, Agent(name="asks", model=model),
        RemoteRunnable(
            os.environ["REMOTE"], "agents/there", id="remote", token=os.environ["TOKEN"]
        ),
    ],
    workflows=[Workflow(name="flow", steps=[raises])],
)
"""


@runnable
def there() -> None:
    raise ValueError(WORDS)


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that hides nothing."""
    with guarded(tmp_path_factory.mktemp("there"), there, errors="full") as served:
        yield served.address


RUNS = {
    "agents/raises": "ValueError",
    "agents/raises-async": "ValueError",
    "agents/in-tool": "RuntimeError",
    "agents/of-child": "LookupError",
    "agents/says-it": "PublicError",
    "agents/asks": "ModelError",
    "agents/remote": "RemoteRunFailed",
    "workflows/flow": "StepFailed",
}


@pytest.mark.parametrize("errors", ["", "full", "id"])
def test_no_word_of_an_error_is_anywhere_that_it_should_not_be(
    tmp_path: Path, provider: OpenAIServer, elsewhere: str, errors: str
) -> None:
    """In no event, no stored run and no log line, of code in a worker, its children, steps and
    tools, of a provider, and of another server. Each hidden error has an id that the log has."""
    (tmp_path / "app.py").write_text(APP)
    settings = {"PULLCORD_ERRORS": errors} if errors else {}
    provider.script(Refuse(400, WORDS))
    with Command(
        *("serve", "app:server", "--listen", "127.0.0.1:0"),
        cwd=tmp_path,
        PULLCORD_TOKENS=str(write_tokens(tmp_path / "tokens")),
        PULLCORD_STORE=str(tmp_path / "runs.db"),
        PULLCORD_LOG_JSON="true",
        PULLCORD_LOG_LEVEL="debug",
        PROVIDER=provider.base_url,
        REMOTE=elsewhere,
        TOKEN=token_of("bob"),
        **settings,
    ) as serving:
        address = serving.until("\n").split()[-1]
        seen: dict[str, str] = {}
        with RunClient(address, token=token_of("ann")) as client:
            for name, kind in RUNS.items():
                events = list(client.run(name, "hello", run_id=name.replace("/", "-")))
                end = events[-1].payload
                assert isinstance(end, RunFailed)
                assert end.error.type == ("Error" if errors == "id" else kind), name
                kept = client.get(name.replace("/", "-"))
                assert kept.error == end.error
                seen[name] = f"{events} {kept}"
                told = [e.payload for e in events if isinstance(e.payload, RunFailed)]
                steps = [e.payload for e in events if isinstance(e.payload, StepCompleted)]
                calls = [e.payload for e in events if isinstance(e.payload, ToolCallCompleted)]
                if errors != "full":
                    for error in [*(f.error for f in told), *(s.error for s in steps)]:
                        assert error is None or re.search("error [0-9a-f]{12}", error.message)
                    assert all("error " in call.tool_call.result for call in calls)
        serving.interrupt()
        _, _, log = serving.end()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("runs.db*"))
    everything = f"{seen} {log} {stored!r}"
    for secret in SECRETS:
        assert secret not in everything
    assert HIDDEN not in log
    assert (HIDDEN in f"{seen} {stored!r}") is (errors == "full")
    if errors == "":
        assert "the model's provider answered 400 (error" in seen["agents/asks"]
        assert "the city is not known; name another (error" in seen["agents/says-it"]
        assert "step 'raises' failed: ValueError" in seen["workflows/flow"]
    if errors != "full":
        logged = {json.loads(line).get("error_id") for line in log.splitlines() if line[:1] == "{"}
        ids = set(re.findall("error ([0-9a-f]{12})", str(seen)))
        assert len(ids) >= len(RUNS)
        assert ids <= logged


def test_an_error_within_a_providers_answer_is_no_callers_business(
    provider: OpenAIServer,
) -> None:
    """Of what a provider says in the middle of its answer, only our own words are public."""
    error = ModelError("the model's provider failed", said=WORDS)
    assert error.public == "the model's provider failed"
    assert Fail(WORDS).message in str(error)


@pytest.mark.parametrize("how", list(Disclosure))
def test_an_error_that_lies_about_itself_is_told_of_all_the_same(how: Disclosure) -> None:
    """An exception whose words raise, and a PublicError that was not initialized."""

    class Lies(PublicError):
        def __init__(self) -> None:
            pass

        def __str__(self) -> str:
            raise SystemExit(3)

    told = Errors("r", how).told(Lies())
    assert told.type == ("Error" if how is Disclosure.ID else "Lies")


@pytest.mark.parametrize(
    ("words", "clean"),
    [
        ("Bearer abc.def-1", "Bearer ***"),
        ("key sk-proj-abcd1234 is wrong", "key *** is wrong"),
        ("redis://:pw@cache:6379/0", "redis://***@cache:6379/0"),
        ("GET https://x/y?key=abc&n=1", "GET https://x/y?key=***&n=1"),
        ('{"api_key": "abcdef"}', '{"api_key": "***"}'),
        ("no quota for org-AbC123def456", "no quota for <account>"),
        ("proj_a1b2c3d4e5f6g7 is gone", "<account> is gone"),
        ("http://localhost:8000/foo of org-wide-settings", None),
    ],
)
def test_what_looks_like_a_secret_is_taken_out_everywhere(words: str, clean: str | None) -> None:
    """Also where errors are shown in full. What is none stays."""
    told: Any = Errors("r", Disclosure.FULL).told(ValueError(words))
    assert told == RunError("ValueError", words if clean is None else clean)
