"""Pullcord starts, streams and stops runs of agents, teams and workflows over gRPC.

The names that programs need most; each is imported when it is first asked for, so that a client or
a health check does not load a server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pullcord.adapters.foreign.agno import AgnoAgent as AgnoAgent
    from pullcord.adapters.foreign.agno import AgnoTeam as AgnoTeam
    from pullcord.adapters.foreign.agno import AgnoWorkflow as AgnoWorkflow
    from pullcord.adapters.foreign.langgraph import LangGraphAgent as LangGraphAgent
    from pullcord.adapters.foreign.openai_agents import OpenAIAgentsAgent as OpenAIAgentsAgent
    from pullcord.adapters.foreign.pydantic_ai import PydanticAgent as PydanticAgent
    from pullcord.adapters.function import runnable as runnable
    from pullcord.adapters.remote import RemoteRunnable as RemoteRunnable
    from pullcord.run.context import RunContext as RunContext
    from pullcord.run.errors import PublicError as PublicError
    from pullcord.server import RunServer as RunServer

_HOMES = {
    "AgnoAgent": "pullcord.adapters.foreign.agno",
    "AgnoTeam": "pullcord.adapters.foreign.agno",
    "AgnoWorkflow": "pullcord.adapters.foreign.agno",
    "LangGraphAgent": "pullcord.adapters.foreign.langgraph",
    "OpenAIAgentsAgent": "pullcord.adapters.foreign.openai_agents",
    "PublicError": "pullcord.run.errors",
    "PydanticAgent": "pullcord.adapters.foreign.pydantic_ai",
    "RemoteRunnable": "pullcord.adapters.remote",
    "RunContext": "pullcord.run.context",
    "RunServer": "pullcord.server",
    "runnable": "pullcord.adapters.function",
}

__all__ = [
    "AgnoAgent",
    "AgnoTeam",
    "AgnoWorkflow",
    "LangGraphAgent",
    "OpenAIAgentsAgent",
    "PublicError",
    "PydanticAgent",
    "RemoteRunnable",
    "RunContext",
    "RunServer",
    "runnable",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pullcord' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
