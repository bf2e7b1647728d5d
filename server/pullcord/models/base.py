"""The port that every model fills: what it is asked, and the chunks it answers with.

Frozen values and one abstract class. No provider's words or wire formats are known here, and no
limit is: who asks also counts, and stops a model by closing its stream.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pullcord.run.usage import Usage


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """What the author tells the model about its task."""

    text: str


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What the caller says."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A model's wish to have a tool called. Nothing in it has been validated."""

    id: str
    name: str
    arguments: str
    """JSON text, if the model made no mistake."""


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """What the model said before, and the tools it asked for."""

    text: str = ""
    tool_requests: tuple[ToolRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """What a tool answered. Follows the AssistantMessage that asked for it."""

    request_id: str
    text: str


Message = SystemMessage | UserMessage | AssistantMessage | ToolMessage


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool as the model sees it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON schema of an object."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model: the conversation so far, and the tools on offer."""

    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    output_schema: type[BaseModel] | None = None
    """What the answer is to be, as JSON; a model that cannot be asked for that ignores it."""


@dataclass(frozen=True, slots=True)
class Text:
    """More of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """More of the model's thinking, where the provider shows it."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The model has ended its answer by itself. Always the last chunk."""

    reason: str
    """In the provider's words: `stop`, `length`, `tool_calls`, `content_filter` …"""


ModelChunk = Text | Reasoning | ToolRequest | Usage | Finished
"""Text and Reasoning as they come; each ToolRequest once, whole; one Usage for the whole call, if
the provider tells; Finished last."""


class ModelError(Exception):
    """A model could not answer. The message is fit for whoever called the run."""

    def __init__(self, message: str, *, provider: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        """The provider's HTTP status, where it got as far as answering."""


class Model(ABC):
    """A language model. One object may serve many runs, on several event loops, at a time."""

    id: str
    """The provider's name of the model, such as `gpt-5-mini`."""

    @abstractmethod
    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """Asks the model, and yields its answer as it comes.

        Closing the generator, or cancelling the task that iterates it, ends the provider's work at
        once: the connection is closed, also while the model is silent or a retry is waiting.

        Raises:
            ModelError: the provider failed, refused, or broke off.
        """

    def cost(self, usage: Usage) -> float:
        """What these tokens cost in US dollars; 0 where no price is known."""
        return 0.0

    async def aclose(self) -> None:
        """Closes connections that are kept for later calls; the model may be used again."""
        return
