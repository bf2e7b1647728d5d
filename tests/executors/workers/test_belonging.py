"""A worker speaks of the runs that were assigned to it, and of no others."""

from pathlib import Path

from pullcord.run.events import ContentDelta, RunCompleted, RunFailed
from pullcord.run.state import RunState

from tests.executors.workers.conftest import ServeApp
from tests.transports.harness import until

APP = """
import os
from pullcord import RunContext, RunServer, runnable
from pullcord.link import frames_pb2 as pb
from pullcord.run import place
from pullcord.v1 import error_pb2

@runnable
def waits(input: str, ctx: RunContext):
    yield str(os.getpid())
    while not os.path.exists("enough"):
        ctx.cancel_token.wait(0.05)

@runnable
def forges(input: str, ctx: RunContext):
    "Speaks of run after run, as if all of them were its worker's, except itself."
    link = place.default._link
    failed = error_pb2.RunError(type="Forged")
    answers = []
    for run in range(1, 2 * int(input)):
        if run == int(input):
            continue
        for frame in (
            pb.UpFrame(said=pb.Said(run=run, text="forged")),
            pb.UpFrame(texts=pb.Texts(runs=[run], texts=["forged"])),
            pb.UpFrame(output=pb.Output(run=run, text="forged")),
            pb.UpFrame(stuck=run),
            pb.UpFrame(ended=pb.Ended(run=run, error=failed)),
            pb.UpFrame(released=run),
        ):
            link.outbox.put(None, frame)
        ask = pb.UpFrame()
        ask.ask.run = run
        ask.ask.stop.reason = "forged"
        link.ask_then(None, ask, answers.append)
    while len(answers) < 2 * int(input) - 2:
        ctx.cancel_token.wait(0.01)
    yield f"{os.getpid()} {all(answer.must_stop for answer in answers)}"

server = RunServer(agents=[waits, forges])
"""


def test_frames_of_other_workers_runs_are_dropped(serve: ServeApp) -> None:
    """Whatever they say: text, an output, an end; and a question about one is answered with a
    stop."""
    served = serve(APP, workers=2)
    until(lambda: sum(c.ready for c in served.server._pool.connections()) == 2)
    victim = served.client.run("agents/waits")
    pid = next(e.payload.text for e in victim if isinstance(e.payload, ContentDelta))
    [*_, end] = served.client.run("agents/forges", "2")
    assert isinstance(end.payload, RunCompleted), end
    other, stopped = end.payload.output.split()
    assert (other != pid, stopped) == (True, "True")
    assert served.client.get(victim.run_id).state is RunState.RUNNING
    Path("enough").touch()  # where the server runs
    [*_, end] = victim
    assert not isinstance(end.payload, RunFailed)
    assert end.payload.output == pid
