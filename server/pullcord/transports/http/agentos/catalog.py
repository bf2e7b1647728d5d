"""The runnables in AgentOS's words. Without a `db_id`, so that no client asks for sessions."""

from collections.abc import Sequence

from pullcord.run.events import SourceKind
from pullcord.run.runnable import RunnableInfo
from pullcord.transports.http.agentos.items import Json


def summary(info: RunnableInfo) -> Json:
    """One of the lists, and of the configuration."""
    told: Json = {"id": info.id, "name": info.display_name or info.id}
    if info.description:
        told["description"] = info.description
    if info.kind is not SourceKind.WORKFLOW:
        told["model"] = {}
    return told


def detail(info: RunnableInfo, all_of: Sequence[RunnableInfo]) -> Json:
    """One of them with its members or steps."""
    told = summary(info)
    if info.kind is SourceKind.TEAM:
        agents = {other.id: other for other in all_of if other.kind is SourceKind.AGENT}
        told["members"] = [
            summary(agents[id]) if id in agents else {"id": id, "name": id} for id in info.members
        ]
    elif info.kind is SourceKind.WORKFLOW:
        told["steps"] = [{"name": id, "type": "Step"} for id in info.members]
    return told


def of_kind(kind: SourceKind, all_of: Sequence[RunnableInfo]) -> list[RunnableInfo]:
    """Those of one kind, in order of name."""
    return [info for info in all_of if info.kind is kind]


def config(all_of: Sequence[RunnableInfo]) -> Json:
    """The configuration of the server."""
    return {
        "os_id": "pullcord",
        "name": "Pullcord",
        "available_models": [],
        "databases": [],
        "agents": [summary(info) for info in of_kind(SourceKind.AGENT, all_of)],
        "teams": [summary(info) for info in of_kind(SourceKind.TEAM, all_of)],
        "workflows": [summary(info) for info in of_kind(SourceKind.WORKFLOW, all_of)],
        "interfaces": [],
    }


def counts(all_of: Sequence[RunnableInfo], version: str) -> Json:
    """The server's description of itself."""
    return {
        "os_id": "pullcord",
        "name": "Pullcord",
        "os_version": version,
        "agent_count": len(of_kind(SourceKind.AGENT, all_of)),
        "team_count": len(of_kind(SourceKind.TEAM, all_of)),
        "workflow_count": len(of_kind(SourceKind.WORKFLOW, all_of)),
    }
