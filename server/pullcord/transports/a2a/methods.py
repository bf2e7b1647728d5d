"""A2A's methods by their names, for JSON-RPC and gRPC: what each takes, and what does it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from a2a.types import (
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    PushNotificationNotSupportedError,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
    UnsupportedOperationError,
    VersionNotSupportedError,
)
from google.protobuf.message import Message

from pullcord.transports.a2a.agent import Agent, Call, Flow
from pullcord.transports.a2a.cards import VERSION, is_spoken

Method = tuple[type[Message], Callable[[Call, Any], Awaitable[Message | Flow]]]

STREAMS = frozenset({"SendStreamingMessage", "SubscribeToTask"})
"""The methods that answer with a flow."""


def methods(agent: Agent) -> Mapping[str, Method]:
    """The methods of an agent."""
    return {
        "SendMessage": (SendMessageRequest, agent.send),
        "SendStreamingMessage": (SendMessageRequest, agent.stream),
        "GetTask": (GetTaskRequest, agent.get),
        "ListTasks": (ListTasksRequest, agent.list),
        "CancelTask": (CancelTaskRequest, agent.cancel),
        "SubscribeToTask": (SubscribeToTaskRequest, agent.subscribe),
        "CreateTaskPushNotificationConfig": (TaskPushNotificationConfig, no_push),
        "GetTaskPushNotificationConfig": (GetTaskPushNotificationConfigRequest, no_push),
        "ListTaskPushNotificationConfigs": (ListTaskPushNotificationConfigsRequest, no_push),
        "DeleteTaskPushNotificationConfig": (DeleteTaskPushNotificationConfigRequest, no_push),
        "GetExtendedAgentCard": (GetExtendedAgentCardRequest, no_extended_card),
    }


def check_version(said: str) -> None:
    """Raises VersionNotSupportedError for a version of the protocol that is not ours."""
    if not is_spoken(said):
        words = f"version {said[:20]!r} is not spoken here; send A2A-Version: {VERSION}"
        raise VersionNotSupportedError(words)


async def no_push(call: Call, request: Message) -> Message:
    """Raises PushNotificationNotSupportedError."""
    raise PushNotificationNotSupportedError("there are no push notifications here: subscribe")


async def no_extended_card(call: Call, request: Message) -> Message:
    """Raises UnsupportedOperationError: the card says all to everybody who may see it."""
    raise UnsupportedOperationError("there is no extended card here")
