"""Counts what one model call uses while it is still going on.

Most providers report the usage at the end, and never for a call that was interrupted. So tokens are
counted as they come, by estimate, which also lets a limit end a call in its middle. The provider's
figures replace the estimate as soon as they come, also in the middle; later tokens are estimated on
top.
"""

import contextlib
from dataclasses import replace

from pullcord.models.base import AssistantMessage, Model, ModelRequest, UserMessage
from pullcord.run.context import RunContext
from pullcord.run.errors import RunCancelledError
from pullcord.run.usage import Usage

_CHARACTERS_A_TOKEN = 4
_FILE = 4000
"""Characters that a file counts for: an image is about a thousand tokens."""
_LONGEST_TOKEN = 16
"""Characters; a longer piece of text was more than one token."""


class Meter:
    """The usage of one model call. Every method may raise RunCancelledError, after counting."""

    def __init__(self, ctx: RunContext, model: Model) -> None:
        self._ctx = ctx
        self._model = model
        self._counted = Usage()
        self._rate = self._cost(Usage(output_tokens=1000)) / 1000
        self._is_priced = model.cost(Usage(1, 1)) is not None
        """Whether the cost of what was counted is known."""
        self._is_settled = False
        """Whether the provider has reported all that was counted."""

    @property
    def counted(self) -> Usage:
        """The usage that was counted for the call so far."""
        return replace(self._counted, estimated=not self._is_settled)

    def sent(self, request: ModelRequest) -> None:
        """The request goes out."""
        tokens = _size(request) // _CHARACTERS_A_TOKEN
        self._count(Usage(input_tokens=tokens, cost=self._cost(Usage(input_tokens=tokens))))

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

    def requested(self, text: str) -> None:
        """A tool request came, which was part of the answer."""
        if not self._is_settled:  # requests come last, and the provider may have counted them
            self.received(text)

    def told(self, usage: Usage) -> None:
        """The provider's own count of the call so far: it replaces ours.

        If it is `estimated`, a 0 was not reported, and our own count stays.
        """
        is_whole = not usage.estimated
        if not is_whole:
            have = self._counted
            usage = replace(
                usage,
                input_tokens=usage.input_tokens or have.input_tokens,
                output_tokens=usage.output_tokens or have.output_tokens,
                estimated=False,
            )
            usage = replace(usage, cost=None)
        cost = usage.cost or self._model.cost(usage)  # of a model of the author's, perhaps its own
        self._is_priced = cost is not None
        self._is_settled = is_whole
        self._replace(replace(usage, cost=cost or 0.0))

    def refused(self) -> None:
        """The provider did nothing for us."""
        self._is_settled = self._is_priced = True
        self._replace(Usage())

    def end(self) -> None:
        """The provider will report nothing more. Never raises: the call has ended anyway."""
        if not self._is_settled or not self._is_priced:
            rest = Usage(cost=0.0 if self._is_priced else None, estimated=not self._is_settled)
            with contextlib.suppress(RunCancelledError):
                self._ctx.use(rest)

    def _replace(self, usage: Usage) -> None:
        before, self._counted = self._counted, usage
        self._ctx.use(usage - before)

    def _count(self, usage: Usage) -> None:
        self._is_settled = False
        self._counted += usage
        self._ctx.use(usage)

    def _cost(self, usage: Usage) -> float:
        return self._model.cost(usage) or 0.0


def _size(request: ModelRequest) -> int:
    """Characters of the whole request."""
    size = sum(len(t.name) + len(t.description) + len(str(t.parameters)) for t in request.tools)
    for message in request.messages:
        size += len(message.text)
        if isinstance(message, UserMessage):
            texts = (part.text for part in message.parts)
            size += sum(_FILE if text is None else len(text) for text in texts)
        if isinstance(message, AssistantMessage):
            size += sum(len(call.name) + len(call.arguments) for call in message.tool_requests)
    return size
