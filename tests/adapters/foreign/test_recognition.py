"""How objects of other frameworks are recognised, and that nothing imports a framework for that."""

import subprocess
import sys
from typing import Any

import pytest
from pullcord.adapters.foreign.recognition import foreign
from pullcord.run.resources import Resources
from pullcord.run.runnable import full_name
from pullcord.server import RunServer

FRAMEWORKS = (
    "agent_framework",
    "agents",
    "agno",
    "langchain_core",
    "langgraph",
    "pydantic_ai",
    "workflows",
)


def test_serving_imports_no_framework() -> None:
    """A server of our own agents does not load what it does not serve."""
    program = (
        "import sys, pullcord.server, pullcord.control, pullcord.worker.loading\n"
        "pullcord.server.RunServer(agents=[lambda input: input and 'x'])\n"
        f"print([name for name in {FRAMEWORKS} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_a_bare_object_is_served_by_its_name(kind: Any) -> None:
    """`RunServer(agents=[…])` takes it as it is."""
    server = RunServer(agents=[kind.agent("http://127.0.0.1:1/v1")])
    assert [info.name for info in server.catalog.all()] == [kind.served]


def test_every_adapter_says_where_its_runs_execute(kind: Any) -> None:
    """With the same words as an Agent; an option that there is not is refused."""
    bare = kind.agent("http://127.0.0.1:1/v1")
    adapter: Any = type(foreign(bare))
    made = adapter(bare, isolation="process", resources=Resources(gpu=1))
    assert (made.isolation, made.resources) == ("process", Resources(gpu=1))
    with pytest.raises(TypeError, match="must be a Resources"):
        adapter(bare, resources={"gpu": 1})
    with pytest.raises(TypeError, match="unexpected keyword"):
        adapter(bare, resource=Resources(gpu=1))


def test_a_nameless_object_is_called_as_one_says() -> None:
    """The variable's name stands in, as for `pullcord serve module:weather_agent`."""
    from pydantic_ai import Agent

    made = foreign(Agent("test"), "weather_agent")
    assert made is not None
    assert full_name(made) == "agents/weather-agent"


def test_what_is_of_no_framework_is_left_alone() -> None:
    """A plain function stays a plain function."""
    assert foreign(object()) is None
    assert foreign(lambda input: input) is None


def test_deps_that_are_no_function_are_refused() -> None:
    """The error says what to write."""
    from pullcord import PydanticAgent
    from pydantic_ai import Agent

    with pytest.raises(TypeError, match="write deps=lambda ctx: value"):
        PydanticAgent(Agent("test"), deps=3)  # type: ignore[arg-type]
