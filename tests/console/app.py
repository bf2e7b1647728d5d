"""What the console's tests serve: scripts that are typed into the form, and the demo's workflow."""

import json
from collections.abc import Sequence
from typing import Any

from pullcord import RunContext, runnable
from pullcord.demo import paper, storyteller
from pullcord.engine.options import EngineOptions
from pullcord.run.events import SourceKind
from pullcord.server import RunServer
from pullcord.settings import Settings

from tests.conformance.runnables import Script, Step, gate_named


class Play(Script):
    """Does the steps that its input says as JSON."""

    def steps(self, ctx: RunContext) -> Sequence[Step]:
        found: Sequence[Step] = json.loads(ctx.input)
        return found


@runnable(id="copies")
async def copies(ctx: RunContext) -> None:
    """Says how far it has come, and then waits."""
    ctx.progress(3, 10, "copying")
    waiting = gate_named("never")(ctx)
    if waiting is not None:
        await waiting


def make_server(**settings: Any) -> RunServer:
    """A server that has not begun."""
    engine = EngineOptions(grace_period=60, abandon_after=60, max_log_bytes=128 * 1024)
    return RunServer(
        agents=[Play(SourceKind.AGENT, id="play"), copies, storyteller],
        teams=[Play(SourceKind.TEAM, id="crew", members=("writer",))],
        workflows=[paper],
        settings=Settings(heartbeat=0.5, engine=engine, **settings),
        http="127.0.0.1:0",
    )
