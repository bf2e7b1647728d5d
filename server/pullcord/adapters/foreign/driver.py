"""The driver of every foreign run: it reads the framework's stream, stops it, and sees to its end.

An adapter fills `follow`, which reads one run of its framework and reports what happens. Nothing
here knows a framework, and nothing here decides how a run ends: the engine does.
"""

import asyncio
from typing import Any, TypedDict

from pullcord.adapters.foreign.interrupting import Interrupt
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.turns import TEXT
from pullcord.native.in_process import Native
from pullcord.run.context import RunContext
from pullcord.run.events import SourceKind
from pullcord.run.resources import Resources, checked_resources
from pullcord.run.runnable import Isolation, checked_isolation, slug
from pullcord.run.takes import Takes


class ForeignRunFailed(Exception):
    """The framework ended its run in a way that has no exception of its own to show."""


class Placement(TypedDict, total=False):
    """The options that all adapters take, and pass on, about where each run executes."""

    isolation: Isolation | None
    """`"process"` gives each run a process for itself."""
    resources: Resources | None
    """The room that each run needs, for a worker of which it waits; None: nothing in particular."""


class ForeignRunnable(Native):
    """An object of another framework as a runnable. A subclass says how one run of it is read."""

    kind = SourceKind.AGENT
    is_async = True
    members: tuple[str, ...] = ()
    takes: Takes = TEXT

    def __init__(
        self,
        *,
        id: str | None,
        name: str,
        fallback: str,
        description: str,
        isolation: Isolation | None = None,
        resources: Resources | None = None,
    ) -> None:
        """`fallback` is made into the id if the author gives none and the object has no name.

        Raises ValueError if no id can be made, or there is no such isolation, and TypeError if the
        resources are no Resources.
        """
        self.name = name
        self.id = id or slug(name or fallback)
        self.description = description
        self.isolation = checked_isolation(isolation, self.id)
        self.resources = checked_resources(resources, self.id)

    async def follow(self, ctx: RunContext, report: Report) -> None:
        """Reads one run of the framework to its end, and reports what happens.

        It is cancelled when the run must stop, and then has to end the framework's run.
        """
        raise NotImplementedError

    async def execute(self, ctx: RunContext) -> None:
        """Does one run.

        `follow` has a task of its own, for three reasons. A stop interrupts it where the framework
        waits, so that the framework closes its connections by itself. A stop that is noticed here,
        in a write, interrupts it in the same way. And a GRACEFUL stop lets it finish tool calls.
        """
        report = Report(ctx, self.id)
        pump = asyncio.get_running_loop().create_task(self.follow(ctx, report))
        report.interrupt = interrupt = Interrupt(pump)
        try:
            await _until_done(pump, interrupt)
        finally:
            error = None if pump.cancelled() else pump.exception()  # seen, whatever stands for it
            report.close(error)
        if (halt := report.halt) is not None:
            raise halt
        if pump.cancelled():
            raise ForeignRunFailed("the framework cancelled its own run")
        if error is not None:
            raise error


async def _until_done(pump: "asyncio.Task[None]", interrupt: Interrupt) -> None:
    try:
        await asyncio.wait([pump])
    except asyncio.CancelledError:
        interrupt()
        while not pump.done():
            try:
                await asyncio.wait([pump])
            except asyncio.CancelledError:
                interrupt.again()
        raise


def name_of(given: Any) -> str:
    """The object's own name; empty if it has none that is text."""
    name = getattr(given, "name", None)
    return name if isinstance(name, str) else ""
