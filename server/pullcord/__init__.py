"""Pullcord starts, streams and stops runs of agents, teams and workflows over gRPC.

Every name that programs need, each imported when it is first asked for: a client or a health check
loads no server. If a package is missing, the error names the extra that has it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pullcord.adapters.foreign.agent_framework import AgentFrameworkAgent as AgentFrameworkAgent
    from pullcord.adapters.foreign.agno import AgnoAgent as AgnoAgent
    from pullcord.adapters.foreign.agno import AgnoTeam as AgnoTeam
    from pullcord.adapters.foreign.agno import AgnoWorkflow as AgnoWorkflow
    from pullcord.adapters.foreign.google_adk import GoogleADKAgent as GoogleADKAgent
    from pullcord.adapters.foreign.langgraph import LangGraphAgent as LangGraphAgent
    from pullcord.adapters.foreign.llama_index import LlamaIndexWorkflow as LlamaIndexWorkflow
    from pullcord.adapters.foreign.openai_agents import OpenAIAgentsAgent as OpenAIAgentsAgent
    from pullcord.adapters.foreign.pydantic_ai import PydanticAgent as PydanticAgent
    from pullcord.adapters.function import runnable as runnable
    from pullcord.adapters.remote import RemoteRunnable as RemoteRunnable
    from pullcord.agent import Agent as Agent
    from pullcord.agent import McpServer as McpServer
    from pullcord.agent import needs_approval as needs_approval
    from pullcord.client import AsyncRunClient as AsyncRunClient
    from pullcord.client import AsyncRunStream as AsyncRunStream
    from pullcord.client import FileToken as FileToken
    from pullcord.client import Pace as Pace
    from pullcord.client import RunClient as RunClient
    from pullcord.client import RunStream as RunStream
    from pullcord.models.anthropic import Claude as Claude
    from pullcord.models.google import Gemini as Gemini
    from pullcord.models.offline import OfflineModel as OfflineModel
    from pullcord.models.openai import OpenAIChat as OpenAIChat
    from pullcord.models.openai import OpenAIResponses as OpenAIResponses
    from pullcord.run import errors as errors
    from pullcord.run import events as events
    from pullcord.run.agent import RunEvent as RunEvent
    from pullcord.run.cancel import CancelCause as CancelCause
    from pullcord.run.cancel import Cancellation as Cancellation
    from pullcord.run.cancel import CancelMode as CancelMode
    from pullcord.run.cancel import CancelOutcome as CancelOutcome
    from pullcord.run.context import RunContext as RunContext
    from pullcord.run.errors import PublicError as PublicError
    from pullcord.run.errors import PullcordError as PullcordError
    from pullcord.run.errors import RunCancelledError as RunCancelledError
    from pullcord.run.events import ToolCall as ToolCall
    from pullcord.run.message import Message as Message
    from pullcord.run.message import Part as Part
    from pullcord.run.message import Role as Role
    from pullcord.run.record import Decision as Decision
    from pullcord.run.record import DisconnectPolicy as DisconnectPolicy
    from pullcord.run.record import Receipt as Receipt
    from pullcord.run.record import Run as Run
    from pullcord.run.record import RunFilter as RunFilter
    from pullcord.run.record import RunSpec as RunSpec
    from pullcord.run.record import SessionPolicy as SessionPolicy
    from pullcord.run.resources import Resources as Resources
    from pullcord.run.state import RunState as RunState
    from pullcord.run.team import TeamRunEvent as TeamRunEvent
    from pullcord.run.usage import Limits as Limits
    from pullcord.run.usage import Usage as Usage
    from pullcord.run.workflow import WorkflowRunEvent as WorkflowRunEvent
    from pullcord.server import RunServer as RunServer
    from pullcord.settings import Settings as Settings
    from pullcord.team import Team as Team
    from pullcord.workflow import Condition as Condition
    from pullcord.workflow import Loop as Loop
    from pullcord.workflow import Parallel as Parallel
    from pullcord.workflow import Router as Router
    from pullcord.workflow import Step as Step
    from pullcord.workflow import StepInput as StepInput
    from pullcord.workflow import StepOutput as StepOutput
    from pullcord.workflow import Workflow as Workflow

_HOMES = {
    "Agent": "pullcord.agent",
    "AgentFrameworkAgent": "pullcord.adapters.foreign.agent_framework",
    "AgnoAgent": "pullcord.adapters.foreign.agno",
    "AgnoTeam": "pullcord.adapters.foreign.agno",
    "AgnoWorkflow": "pullcord.adapters.foreign.agno",
    "AsyncRunClient": "pullcord.client",
    "AsyncRunStream": "pullcord.client",
    "CancelCause": "pullcord.run.cancel",
    "CancelMode": "pullcord.run.cancel",
    "CancelOutcome": "pullcord.run.cancel",
    "Cancellation": "pullcord.run.cancel",
    "Claude": "pullcord.models.anthropic",
    "Condition": "pullcord.workflow",
    "Decision": "pullcord.run.record",
    "DisconnectPolicy": "pullcord.run.record",
    "FileToken": "pullcord.client",
    "Gemini": "pullcord.models.google",
    "GoogleADKAgent": "pullcord.adapters.foreign.google_adk",
    "LangGraphAgent": "pullcord.adapters.foreign.langgraph",
    "LlamaIndexWorkflow": "pullcord.adapters.foreign.llama_index",
    "Limits": "pullcord.run.usage",
    "Loop": "pullcord.workflow",
    "McpServer": "pullcord.agent",
    "Message": "pullcord.run.message",
    "OfflineModel": "pullcord.models.offline",
    "OpenAIAgentsAgent": "pullcord.adapters.foreign.openai_agents",
    "OpenAIChat": "pullcord.models.openai",
    "OpenAIResponses": "pullcord.models.openai",
    "Pace": "pullcord.client",
    "Parallel": "pullcord.workflow",
    "Part": "pullcord.run.message",
    "PublicError": "pullcord.run.errors",
    "PullcordError": "pullcord.run.errors",
    "PydanticAgent": "pullcord.adapters.foreign.pydantic_ai",
    "Receipt": "pullcord.run.record",
    "RemoteRunnable": "pullcord.adapters.remote",
    "Resources": "pullcord.run.resources",
    "Role": "pullcord.run.message",
    "Router": "pullcord.workflow",
    "Run": "pullcord.run.record",
    "RunCancelledError": "pullcord.run.errors",
    "RunClient": "pullcord.client",
    "RunContext": "pullcord.run.context",
    "RunEvent": "pullcord.run.agent",
    "RunFilter": "pullcord.run.record",
    "RunServer": "pullcord.server",
    "RunSpec": "pullcord.run.record",
    "RunState": "pullcord.run.state",
    "RunStream": "pullcord.client",
    "SessionPolicy": "pullcord.run.record",
    "Settings": "pullcord.settings",
    "Step": "pullcord.workflow",
    "StepInput": "pullcord.workflow",
    "StepOutput": "pullcord.workflow",
    "Team": "pullcord.team",
    "TeamRunEvent": "pullcord.run.team",
    "ToolCall": "pullcord.run.events",
    "Usage": "pullcord.run.usage",
    "Workflow": "pullcord.workflow",
    "WorkflowRunEvent": "pullcord.run.workflow",
    "needs_approval": "pullcord.agent",
    "runnable": "pullcord.adapters.function",
    "errors": "pullcord.run.errors",
    "events": "pullcord.run.events",
}
_MODULES = {"errors", "events"}
_EXTRAS = {
    "pullcord.adapters.foreign.agent_framework": "agent-framework",
    "pullcord.adapters.foreign.agno": "agno",
    "pullcord.adapters.foreign.google_adk": "google-adk",
    "pullcord.adapters.foreign.langgraph": "langgraph",
    "pullcord.adapters.foreign.llama_index": "llama-index",
    "pullcord.adapters.foreign.openai_agents": "openai-agents",
    "pullcord.adapters.foreign.pydantic_ai": "pydantic-ai",
    "pullcord.models.anthropic": "anthropic",
    "pullcord.models.google": "google",
    "pullcord.models.openai": "openai",
}
"""The extra that a module needs, if that is another than `serve`."""

__all__ = [
    "Agent",
    "AsyncRunClient",
    "AsyncRunStream",
    "CancelCause",
    "CancelMode",
    "CancelOutcome",
    "Cancellation",
    "Condition",
    "Decision",
    "DisconnectPolicy",
    "FileToken",
    "Limits",
    "Loop",
    "McpServer",
    "Message",
    "OfflineModel",
    "Pace",
    "Parallel",
    "Part",
    "PublicError",
    "PullcordError",
    "Receipt",
    "RemoteRunnable",
    "Resources",
    "Role",
    "Router",
    "Run",
    "RunCancelledError",
    "RunClient",
    "RunContext",
    "RunEvent",
    "RunFilter",
    "RunServer",
    "RunSpec",
    "RunState",
    "RunStream",
    "SessionPolicy",
    "Settings",
    "Step",
    "StepInput",
    "StepOutput",
    "Team",
    "TeamRunEvent",
    "ToolCall",
    "Usage",
    "Workflow",
    "WorkflowRunEvent",
    "errors",
    "events",
    "needs_approval",
    "runnable",
]
"""What `from pullcord import *` brings: every name but those that need an extra of their own, since
that would need all extras."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pullcord' has no attribute {name!r}")
    home = _HOMES[name]
    try:
        module = import_module(home)
    except ModuleNotFoundError as error:
        from pullcord.extras import MissingExtra, missing

        if isinstance(error, MissingExtra) or (error.name or "").startswith("pullcord"):
            raise

        raise missing(f"pullcord.{name}", _EXTRAS.get(home, "serve"), error) from error
    found = module if name in _MODULES else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
