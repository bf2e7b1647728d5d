"""Counts what one model call uses while it is still going on.

Providers tell the usage at the end, and never for a call that was interrupted. So tokens are
counted as they come, by estimate, which also lets a limit end a call in its middle; the provider's
figures then replace the estimate. Where they never come, the estimate stays and is marked.
"""

import contextlib

from pullcord.models.base import AssistantMessage, Model, ModelRequest
from pullcord.run.context import RunContext
from pullcord.run.errors import RunCancelledError
from pullcord.run.usage import Usage

_CHARACTERS_A_TOKEN = 4
_LONGEST_TOKEN = 16
"""Characters; a longer piece of text was more than one token."""


class Meter:
    """The usage of one model call. Every method may raise RunCancelledError, after counting."""

    def __init__(self, ctx: RunContext, model: Model) -> None:
        self._ctx = ctx
        self._model = model
        self._counted = Usage()
        self._rate = model.cost(Usage(output_tokens=1000)) / 1000

    def sent(self, request: ModelRequest) -> None:
        """The request goes out."""
        tokens = _size(request) // _CHARACTERS_A_TOKEN
        self._count(Usage(input_tokens=tokens, cost=self._model.cost(Usage(input_tokens=tokens))))

    def received(self, text: str, *, reasoning: bool = False) -> None:
        """A piece of the answer came, which is usually one token."""
        tokens = 1 if len(text) <= _LONGEST_TOKEN else len(text) // _CHARACTERS_A_TOKEN
        self._count(
            Usage(
                output_tokens=tokens,
                reasoning_tokens=tokens if reasoning else 0,
                cost=tokens * self._rate,
            )
        )

    def told(self, usage: Usage) -> None:
        """The provider's own count: it replaces ours."""
        estimate, self._counted = self._counted, usage
        self._ctx.use(
            Usage(
                usage.input_tokens - estimate.input_tokens,
                usage.output_tokens - estimate.output_tokens,
                usage.reasoning_tokens - estimate.reasoning_tokens,
                usage.cached_tokens,
                usage.cost - estimate.cost,
            )
        )

    def refused(self) -> None:
        """The provider did nothing for us."""
        self.told(Usage())

    def unsettled(self) -> None:
        """The provider will not tell any more. Never raises: the call has ended anyway."""
        with contextlib.suppress(RunCancelledError):
            self._ctx.use(Usage(estimated=True))

    def _count(self, usage: Usage) -> None:
        self._counted += usage
        self._ctx.use(usage)


def _size(request: ModelRequest) -> int:
    """Characters of all that the model is to read."""
    size = sum(len(t.name) + len(t.description) + len(str(t.parameters)) for t in request.tools)
    for message in request.messages:
        size += len(message.text)
        if isinstance(message, AssistantMessage):
            size += sum(len(call.name) + len(call.arguments) for call in message.tool_requests)
    return size
