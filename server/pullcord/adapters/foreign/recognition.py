"""Recognising objects of other frameworks by their class, without importing any framework.

An object is of a framework if one of its classes is; the framework is imported already then. Only
what is found here leads to an adapter, which imports it.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from pullcord.run.runnable import Runnable, slug


class _Adapter(NamedTuple):
    module: str
    name: str


_HERE = "pullcord.adapters.foreign"
_ADAPTERS: Mapping[tuple[str, str], _Adapter] = {
    ("pydantic_ai.agent.abstract", "AbstractAgent"): _Adapter(
        f"{_HERE}.pydantic_ai", "PydanticAgent"
    ),
    ("langgraph.pregel.main", "Pregel"): _Adapter(f"{_HERE}.langgraph", "LangGraphAgent"),
    ("agno.agent.agent", "Agent"): _Adapter(f"{_HERE}.agno", "AgnoAgent"),
    ("agno.team.team", "Team"): _Adapter(f"{_HERE}.agno", "AgnoTeam"),
    ("agno.workflow.workflow", "Workflow"): _Adapter(f"{_HERE}.agno", "AgnoWorkflow"),
    ("agents.agent", "AgentBase"): _Adapter(f"{_HERE}.openai_agents", "OpenAIAgentsAgent"),
    ("agent_framework._agents", "Agent"): _Adapter(
        f"{_HERE}.agent_framework", "AgentFrameworkAgent"
    ),
    ("google.adk.agents.base_agent", "BaseAgent"): _Adapter(
        f"{_HERE}.google_adk", "GoogleADKAgent"
    ),
    ("workflows.workflow", "Workflow"): _Adapter(f"{_HERE}.llama_index", "LlamaIndexWorkflow"),
}
"""By module and qualified name of a class. Private places, so tests hold them."""

_NOT_YET = {
    ("langgraph.graph.state", "StateGraph"): "a StateGraph is not runnable; serve graph.compile()",
}
_COMMON = {"agents": "agents.version", "workflows": "workflows.handler"}
"""Packages whose names a user's own may bear, and a module that only the framework's has."""


def foreign(given: Any, fallback: str = "") -> Runnable | None:
    """The object as a runnable; None: it is of no framework that is known.

    `fallback` is made into its id if it has no name of its own.

    Raises:
        TypeError: it is of a framework, and cannot be run as it is.
        ValueError: no id can be made for it.
    """
    for kind in type(given).__mro__:
        place = (kind.__module__, kind.__qualname__)
        if place in _NOT_YET:
            raise TypeError(_NOT_YET[place])
        adapter = _ADAPTERS.get(place)
        if adapter is not None and _is_the_framework(kind.__module__):
            make = getattr(import_module(adapter.module), adapter.name)
            runnable: Runnable = make(given)
            if fallback and not runnable.name:
                runnable = make(given, id=slug(fallback))
            return runnable
    return None


def _is_the_framework(module: str) -> bool:
    """Whether it is the framework's package, and not one of the user's with the same name."""
    package = module.partition(".")[0]
    telling = _COMMON.get(package)
    return telling is None or find_spec(telling) is not None
