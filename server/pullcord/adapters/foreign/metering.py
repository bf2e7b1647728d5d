"""Counting what the model calls of a foreign run use, several at a time, each by its name.

Frameworks report the usage of a call at its end, and lose it when the call is interrupted. So each
call is metered as those of our own agents are: by estimate, until the provider's count comes.
"""

from collections.abc import AsyncGenerator
from contextlib import suppress

from pullcord.models.base import Model, ModelChunk, ModelRequest, UserMessage
from pullcord.models.prices import cost
from pullcord.native.loop import PriceUnknown
from pullcord.native.meter import Meter
from pullcord.run.context import RunContext
from pullcord.run.errors import RunCancelledError
from pullcord.run.usage import Usage


class _Priced(Model):
    """A framework's model as the meter sees it: a name and a price."""

    def __init__(self, id: str, provider: str) -> None:
        self.id = id
        self._provider = provider or "openai"

    def cost(self, usage: Usage) -> float | None:
        """US dollars, if the price of the model is known."""
        return cost(self.id, usage, None, self._provider) if self.id else None

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """Never called: the framework asks its model by itself."""
        raise NotImplementedError


class Metering:
    """The meters of the calls under way. Methods raise RunCancelledError, after counting."""

    def __init__(self, ctx: RunContext) -> None:
        self._ctx = ctx
        self._meters: dict[str, Meter] = {}
        self._answered: set[str] = set()
        self._priced: dict[tuple[str, str], _Priced] = {}

    def began(self, call: str, said: str, model: str, provider: str) -> None:
        """A call of this name begins.

        Raises PriceUnknown if the run has a limit on its cost that could not be kept.
        """
        self.ended(call, None)
        key = (model, provider)
        priced = self._priced.setdefault(key, _Priced(model, provider))
        if self._ctx.limits_left.max_cost is not None and priced.cost(Usage(1, 1)) is None:
            raise PriceUnknown(
                f"the limit max_cost cannot be kept: the price of the model {model!r} is not known;"
                " leave the limit out"
            )
        self._ctx.use(Usage(steps=1))
        meter = Meter(self._ctx, priced)
        self._meters[call] = meter
        self._answered.discard(call)
        meter.sent(ModelRequest((UserMessage(said),)))

    def received(self, call: str, text: str, *, reasoning: bool = False) -> None:
        """A piece of a call's answer came; nothing is counted for a call that is not known."""
        if (found := self._meters.get(call)) is not None:
            self._answered.add(call)
            found.received(text, reasoning=reasoning)

    def ended(self, call: str, usage: Usage | None) -> None:
        """A call has ended, with the provider's own count if there is one."""
        if (found := self._meters.pop(call, None)) is None:
            return
        meter = found
        try:
            if usage is not None:
                meter.told(usage)
        finally:
            meter.end()

    def failed(self, call: str) -> None:
        """A call has failed. If nothing of an answer came, the provider did nothing for us."""
        found = self._meters.get(call)
        if found is not None and call not in self._answered:
            del self._meters[call]
            found.refused()
        else:
            self.ended(call, None)

    def close(self) -> None:
        """Every call is over. Never raises."""
        for call in list(self._meters):
            with suppress(RunCancelledError):
                self.ended(call, None)
