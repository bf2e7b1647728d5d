"""Workers that answer and are unable to begin a run, because code has torn what begins runs."""

from pullcord.run.events import ContentDelta, RunCompleted
from pullcord.run.state import RunState

from tests.executors.workers.conftest import ServeApp
from tests.transports.harness import until

APP = """
import threading
from pullcord import RunContext, RunServer, runnable

@runnable
def waits(ctx: RunContext):
    yield "begun"
    ctx.cancel_token.wait()

@runnable
def tears():
    def trace(frame, event, argument):
        raise RuntimeError("not here")
    threading.settrace(trace)  # whoever starts a thread from now on, gets none

@runnable
async def begins():
    return "done"

server = RunServer(agents=[waits, tears, begins])
"""


def test_runs_move_from_a_worker_that_begins_none(serve: ServeApp) -> None:
    """They begin in a fresh one. What is at work in the old one goes on; then that is killed."""
    served = serve(APP)
    client = served.client
    waiting = client.run("agents/waits")
    next(event for event in waiting if isinstance(event.payload, ContentDelta))
    list(client.run("agents/tears"))
    old = served.worker()
    *_, end = client.run("agents/begins")
    assert isinstance(end.payload, RunCompleted)
    assert client.get(waiting.run_id).state is RunState.RUNNING
    client.cancel(waiting.run_id)
    until(lambda: old not in served.workers())
