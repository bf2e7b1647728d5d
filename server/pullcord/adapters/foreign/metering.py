"""The model calls of a foreign run, several at a time, each by its name: what they use, and a span
for each.

Frameworks report the usage of a call at its end, and lose it when the call is interrupted. So each
call is metered as those of our own agents are: by estimate, until the provider's count comes.
"""

from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from pullcord.models.base import Model, ModelChunk, ModelRequest, UserMessage
from pullcord.models.prices import cost
from pullcord.native.loop import PriceUnknown
from pullcord.native.meter import Meter
from pullcord.run.context import RunContext
from pullcord.run.errors import RunCancelledError
from pullcord.run.finish import FinishReason
from pullcord.run.model_call import ModelCall
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


@dataclass(slots=True)
class _Call:
    """A call under way."""

    meter: Meter
    model: str
    provider: str
    began_at: float
    first_after: float | None = None
    """Seconds until the first piece of the answer; None: none came yet."""
    reason: FinishReason | None = None


class Metering:
    """The calls under way. Methods raise RunCancelledError, after counting."""

    def __init__(self, ctx: RunContext) -> None:
        self._ctx = ctx
        self._calls: dict[str, _Call] = {}
        self._priced: dict[tuple[str, str], _Priced] = {}

    def began(self, call: str, said: str, model: str, provider: str) -> None:
        """A call of this name begins.

        Raises PriceUnknown if the run has a limit on its cost that could not be kept.
        """
        self.interrupted(call)
        key = (model, provider)
        priced = self._priced.setdefault(key, _Priced(model, provider))
        if self._ctx.limits_left.max_cost is not None and priced.cost(Usage(1, 1)) is None:
            raise PriceUnknown(
                f"the limit max_cost cannot be kept: the price of the model {model!r} is not known;"
                " leave the limit out"
            )
        self._ctx.use(Usage(steps=1))
        meter = Meter(self._ctx, priced)
        self._calls[call] = _Call(meter, model, provider, monotonic())
        meter.sent(ModelRequest((UserMessage(said),)))

    def withdrawn(self, call: str) -> None:
        """The call that was about to begin does not."""
        if (found := self._calls.pop(call, None)) is not None:
            found.meter.refused()

    def received(self, call: str, text: str, *, reasoning: bool = False) -> None:
        """A piece of a call's answer came; nothing is counted for a call that is not known."""
        if (found := self._calls.get(call)) is not None:
            if found.first_after is None:
                found.first_after = monotonic() - found.began_at
            found.meter.received(text, reasoning=reasoning)

    def reason(self, call: str, reason: FinishReason) -> None:
        """The end of a call's answer, in a word."""
        if (found := self._calls.get(call)) is not None:
            found.reason = reason

    def ended(self, call: str, usage: Usage | None) -> None:
        """A call has ended, with the provider's own count if there is one."""
        if (found := self._calls.pop(call, None)) is None:
            return
        try:
            if usage is not None:
                found.meter.told(usage)
        finally:
            self._over(found, found.reason or FinishReason.OTHER)

    def failed(self, call: str, error_type: str) -> None:
        """A call has failed. If nothing of an answer came, the provider did nothing for us."""
        if (found := self._calls.pop(call, None)) is None:
            return
        try:
            if found.first_after is None:
                found.meter.refused()
        finally:
            is_stopped = self._ctx.cancel_token.cancelled
            self._over(found, error_type="" if is_stopped else error_type)

    def interrupted(self, call: str) -> None:
        """The code that had made a call has left it."""
        if (found := self._calls.pop(call, None)) is not None:
            self._over(found)

    def close(self, error_type: str = "") -> None:
        """Every call is over: failed by an error of this class, or interrupted. Never raises."""
        for call in list(self._calls):
            with suppress(RunCancelledError):
                if error_type:
                    self.failed(call, error_type)
                else:
                    self.interrupted(call)

    def _over(
        self, call: _Call, reason: FinishReason | None = None, *, error_type: str = ""
    ) -> None:
        call.meter.end()
        seconds, counted = monotonic() - call.began_at, call.meter.counted
        self._ctx.model_called(
            ModelCall(
                call.model,
                call.provider,
                seconds,
                call.first_after,
                counted,
                reason,
                error_type,
            )
        )
