"""The port that every model fills: what it is asked, and the chunks it answers with.

Frozen values and one abstract class. No provider's words or wire formats are known here, and no
limit is: who asks also counts, and stops a model by closing its stream.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from pullcord.run.errors import PublicError
from pullcord.run.finish import FinishReason
from pullcord.run.message import Part
from pullcord.run.usage import Usage


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """The author's instructions to the model."""

    text: str


@dataclass(frozen=True, slots=True)
class UserMessage:
    """The caller's turn."""

    text: str
    parts: tuple[Part, ...] = ()
    """The files that go with it, and text in between. Text alone is in `text`, never here."""


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A model's wish to have a tool called. Nothing in it has been validated."""

    id: str
    name: str
    arguments: str
    """JSON text, if the model made no mistake."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the provider's own, which it gets back with the call as they came."""


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """An earlier answer of the model, and the tools that it asked for."""

    text: str = ""
    tool_requests: tuple[ToolRequest, ...] = ()
    kept: Any = None
    """The data of the answer's Kept, for the model that made it and for no other."""


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """A tool's answer. Follows the AssistantMessage that asked for it."""

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
    """The type of the answer, as JSON; a model that does not support one ignores it."""


@dataclass(frozen=True, slots=True)
class Text:
    """More of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """More of the model's thinking, where the provider shows it."""

    text: str


@dataclass(frozen=True, slots=True)
class Kept:
    """Data that the provider wants back with this answer as it came, such as signed reasoning.

    JSON that means nothing to anyone but the model that yields it; at most one an answer.
    """

    data: Any


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer has ended. Always the last chunk."""

    reason: FinishReason
    words: str = field(default="", compare=False)
    """The provider's own word for it, or what it said of an error."""


ModelChunk = Text | Reasoning | ToolRequest | Usage | Kept | Finished
"""Text and Reasoning as they come; each ToolRequest once, whole; Usage of the whole call so far as
often as the provider reports it, where `estimated` says that a count of 0 was not reported; Kept
before Finished; Finished last."""


class ModelError(PublicError):
    """A model could not answer. What its provider said of it, `said`, is shown to callers only
    where a server hides no errors."""

    def __init__(
        self,
        message: str,
        *,
        said: str = "",
        provider: str = "",
        status: int | None = None,
        may_pass: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, said=said)
        self.provider = provider
        self.status = status
        """The provider's HTTP status, where it got as far as answering."""
        self.may_pass = may_pass
        """Whether the same call may succeed later."""
        self.retry_after = retry_after
        """Seconds that the provider asks to wait, where it does."""


@dataclass(frozen=True, slots=True)
class Price:
    """A model's price: US dollars for a million tokens. `Price(0, 0)` is a model of your own."""

    input: float
    output: float
    """Reasoning included."""
    cached: float | None = None
    """Input that the provider had cached; None: the same as other input."""

    def __post_init__(self) -> None:
        for amount in (self.input, self.output, self.cached or 0.0):
            if not 0 <= amount < float("inf"):
                raise ValueError(f"a price must be a number of dollars, at least 0, not {amount!r}")

    def of(self, usage: Usage) -> float:
        """The cost of these tokens."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.input_tokens - usage.cached_tokens
        dollars = fresh * self.input + usage.cached_tokens * cached
        return (dollars + usage.output_tokens * self.output) / 1_000_000


@dataclass(frozen=True, slots=True)
class Media:
    """Media types that a model takes, such as `image/png` or `image/*`; text it always takes."""

    data: tuple[str, ...] = ()
    """Types that it takes as data."""
    uri: tuple[str, ...] = ()
    """By their address."""


class Model(ABC):
    """A language model. One object may serve many runs, on several event loops, at a time."""

    id: str
    """The provider's name of the model, such as `gpt-5-mini`."""
    media: Media = Media()
    """The files that it takes in `UserMessage.parts`; none unless it says so."""

    @abstractmethod
    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """Asks the model, and yields its answer as it comes.

        Closing the generator, or cancelling the task that iterates it, ends the provider's work at
        once: the connection is closed, also while the model is silent or a retry is waiting.

        Raises:
            ModelError: the provider failed, refused, or broke off.
        """

    def cost(self, usage: Usage) -> float | None:
        """The cost of these tokens in US dollars; None if no price is known."""
        return None

    async def aclose(self) -> None:
        """Closes connections that are kept for later calls; the model may be used again."""
        return


def checked_model(model: object, of: str) -> Model:
    """The model that the author of `of` gave. Raises TypeError for what is no model."""
    if isinstance(model, Model):
        return model
    if callable(getattr(model, "stream", None)) and not isinstance(model, type):
        made: Model = model  # type: ignore[assignment]  # by its methods
        return made
    if isinstance(model, str):
        said = f"the text {model[:60]!r}; write OpenAIChat(id={model[:60]!r}), for example"
    elif isinstance(model, type):
        said = f"the class {model.__name__}; give an object of it"
    elif model is None:
        said = "None; give one, such as OpenAIChat(id=…), or OfflineModel() for a first try"
    else:
        said = f"a {type(model).__name__}"
    raise TypeError(f"the model of {of!r} must be a Model, not {said}")
