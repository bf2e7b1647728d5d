"""gRPC's own services behind the same door as ours: reflection, and the watching of health.

`Health.Check` stays open: probes and load balancers have no credentials, and it says one word.
"""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from pullcord.run.errors import PermissionDenied, PullcordError
from pullcord.run.principal import Verb
from pullcord.transports.calls import Callers
from pullcord.transports.grpc.calls import incoming
from pullcord.wire.errors import to_status


class Health(health.aio.HealthServicer):
    """Health, which only known callers may watch."""

    def __init__(self, callers: Callers) -> None:
        super().__init__()
        self._callers = callers

    async def Watch(self, request: Any, context: Any) -> None:
        """Sends each change."""
        try:
            await self._callers.of(incoming(context))
        except PullcordError as error:
            await _refuse(context, error)
        await super().Watch(request, context)


class Reflection(reflection.aio.ReflectionServicer):
    """Reflection, for those who may start something."""

    def __init__(self, names: tuple[str, ...], callers: Callers) -> None:
        super().__init__(names)
        self._callers = callers

    async def ServerReflectionInfo(  # type: ignore[override]  # the stubs call it a coroutine
        self, request_iterator: AsyncIterable[Any], context: Any
    ) -> AsyncIterator[Any]:
        """Answers each request."""
        try:
            caller = await self._callers.of(incoming(context))
            if not caller.principal.grants.width(Verb.START):
                raise PermissionDenied("start", "runs, and so not see what can be started")
        except PullcordError as error:
            await _refuse(context, error)
        answers: Any = super().ServerReflectionInfo(request_iterator, context)
        async for answer in answers:
            yield answer


async def _refuse(context: Any, error: PullcordError) -> None:
    status = to_status(error)
    await context.abort(status.code, status.details, status.trailing_metadata)
