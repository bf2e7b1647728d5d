"""The demo: what `pullcord serve` offers without an argument, and `make demo`, which shows it off.

Nothing here needs a key or the network, and nothing of the product needs anything here.
"""

import contextlib
import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import NamedTuple

from pullcord.adapters.function import runnable
from pullcord.agent import Agent
from pullcord.client import RunClient
from pullcord.extras import install
from pullcord.models.offline import OfflineModel
from pullcord.run.context import RunContext
from pullcord.run.errors import Draining
from pullcord.run.events import ContentDelta, RunCancelled, RunCompleted, StepCompleted
from pullcord.run.record import Receipt
from pullcord.server import RunServer
from pullcord.team import Team
from pullcord.workflow import Parallel, Step, StepInput, Workflow

# --- what is served

storyteller = Agent(
    name="Storyteller",
    model=OfflineModel(),
    description="Tells one story around whatever it is asked, without a key.",
)


@runnable(id="counter")
def counter(input: str, ctx: RunContext) -> Iterator[str]:
    """Counts, ten a second, up to the number that it is given, else to 100."""
    number = re.search(r"\d+", input)
    for n in range(1, (int(number[0]) if number else 100) + 1):
        yield f"{n} "
        ctx.cancel_token.wait(0.1)  # a pause that a cancel ends at once
        ctx.cancel_token.raise_if_cancelled()


def plan(input: str) -> str:
    """Says what the evening paper is about."""
    return f"Tonight: {input or 'the last tram'}"


def print_paper(step_input: StepInput) -> str:
    """Says how much there is to print."""
    written = step_input.previous_step_content.split()
    return f"{len(written)} words go to press."


paper = Workflow(
    name="Evening Paper",
    description="Plans, writes and counts at the same time, and then prints; without a key.",
    steps=[
        Step("Plan", executor=plan),
        Parallel(storyteller, counter, name="Write"),
        Step("Print", executor=print_paper),
    ],
)

duo = Team(
    name="Duo",
    model=OfflineModel(hands_to=("storyteller", "counter")),
    members=[storyteller, counter],
    description="Hands what it is asked to the storyteller and the counter; without a key.",
)


def server() -> RunServer:
    """A server of all of these."""
    return RunServer(agents=[storyteller, counter], teams=[duo], workflows=[paper])


# --- what is shown

_HAS_HTTP = all(find_spec(name) for name in ("connectrpc", "uvicorn", "hypercorn"))
_WORDS = 60
"""Words of the story after which somebody pulls the cord."""
_WIDTH = 80


class _Served(NamedTuple):
    """A server that is a process of its own."""

    process: "subprocess.Popen[str]"
    address: str
    console: str
    """Empty: what it takes is not installed."""


def main() -> None:
    """Starts a server as a process of its own, and shows what a stop button can do."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` holds then, too
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError), _served() as served:
        process, address = served.process, served.address
        _say(f"A server is up on {address}: `pullcord serve`, a process of its own.")
        if served.console:
            _say(f"Its console, where you can look on and stop runs: {served.console}")
        with RunClient(address, actor="the reader") as reader:
            with RunClient(address, actor="somebody else") as other:
                run_id = _pull_the_cord(reader, other)
            _show_what_was_kept(reader, run_id)
            _run_out_of_time(reader)
            with RunClient(address, actor="the editor") as editor:
                _stop_a_tree(reader, editor, address)
            _drain(reader, process)
        _leave_the_console()
        return
    sys.exit(130)


def _pull_the_cord(reader: RunClient, other: RunClient) -> str:
    _head("1. A story is streamed, and another client pulls the cord")
    stream = reader.run("agents/storyteller", "a lighthouse that hums", run_id="demo-story")
    receipt: Receipt | None = None
    words = column = 0
    for event in stream:
        if isinstance(event.payload, ContentDelta):
            column = _flow(event.payload.text, column)
            words += len(event.payload.text.split())
        if receipt is None and words >= _WORDS:
            receipt = other.cancel(stream.run_id, "that will do, thank you", wait=5)
    _write("\n\n")
    ended = stream.result
    assert isinstance(ended, RunCancelled)
    assert receipt is not None
    stop = ended.cancellation
    _say(f"The stream's last event is run_cancelled: cause {stop.cause.name}, by {stop.actor},")
    _say(f"in the words “{stop.reason}”. The receipt that CancelRun answered:")
    _say(f"  outcome    {receipt.outcome.name}")
    _say(f"  accepted   {_clock(receipt.accept_time)}")
    _say(f"  delivered  {(receipt.deliver_time - receipt.accept_time) * 1000:.1f} ms later")
    _say(f"  stopped    {(receipt.stop_time - receipt.accept_time) * 1000:.1f} ms later")
    return stream.run_id


def _show_what_was_kept(reader: RunClient, run_id: str) -> None:
    _head("2. What was made is kept")
    run = reader.get(run_id)
    end = " ".join(run.output.split()[-9:])
    _say(f"GetRun says {run.state.name}, and has all {len(run.output.split())} words:")
    _say(f"“… {end}”")
    about = "about " if run.usage.estimated else ""
    _say(f"They are paid for, so they are counted, too: {about}{run.usage.total_tokens} tokens.")


def _run_out_of_time(reader: RunClient) -> None:
    _head("3. A call with a deadline of 2 seconds ends before it, with a last event")
    began = time.monotonic()
    stream = reader.run("agents/counter", "1000", timeout=2)
    for event in stream:
        if isinstance(event.payload, ContentDelta):
            _write(event.payload.text)
    took = time.monotonic() - began
    ended = stream.result
    assert isinstance(ended, RunCancelled)
    _write("\n\n")
    _say(f"run_cancelled, cause {ended.cancellation.cause.name}, after {took:.2f} s.")


def _stop_a_tree(reader: RunClient, editor: RunClient, address: str) -> None:
    _head("4. A workflow is stopped midway: all beneath it stops, and what is finished is kept")
    run = reader.start(
        "workflows/evening-paper", "the night tram, in 25 words", run_id="demo-paper"
    )
    _say(f"$ pullcord watch {run.run_id}")
    watching = subprocess.Popen(
        [sys.executable, "-m", "pullcord", "watch", run.run_id, "--address", address],
        stderr=subprocess.STDOUT,
    )
    try:
        for event in editor.watch(run.run_id):
            if isinstance(event.payload, StepCompleted) and event.payload.step_id == "counter":
                editor.cancel(run.run_id, "enough for tonight")
        watching.wait(timeout=10)
    finally:
        if watching.poll() is None:
            watching.kill()
        watching.wait()
    _write("\n")
    _say("GetRun has every step, as data:")
    for step in (reader.get(run.run_id).output_data or {})["steps"]:
        kept = f"{len(step['output'].split())} words" if step["output"] else ""
        _say(f"  {step['path']:<18} {step['state']:<12} {kept}".rstrip())


def _drain(reader: RunClient, process: "subprocess.Popen[str]") -> None:
    _head("5. SIGTERM while a run is at work: it may end, and no new one begins")
    stream = reader.run("agents/counter", "20")
    refused = ""
    for event in stream:
        if isinstance(event.payload, ContentDelta):
            _write(event.payload.text)
            if event.payload.text.startswith("5"):
                process.terminate()
            if event.payload.text.startswith("10") and not refused:
                refused = _refusal(reader)
    _write("\n\n")
    assert isinstance(stream.result, RunCompleted)
    _say("The run completed. A new one was refused meanwhile:")
    _say(f"“{refused}”.")
    _say(f"The server has left with exit code {process.wait(timeout=10)}.")


def _leave_the_console() -> None:
    """A server to play with, for people at a terminal; for others, how to have one."""
    _head("6. Your turn: start the story in a browser, and stop it")
    if not _HAS_HTTP:
        _say(f"It needs the extra http: {install('http')}. Then:")
    if not _HAS_HTTP or not sys.stdout.isatty():
        _say("$ pullcord serve --http 127.0.0.1:8080")
        _say("and open http://127.0.0.1:8080")
        return
    with _served() as served:
        _say(f"The console is at {served.console}")
        _say("Ctrl-C ends the server.")
        served.process.wait()


def _refusal(reader: RunClient) -> str:
    try:
        reader.start("agents/counter")
    except Draining as error:
        return str(error)
    return "it was not, which is a bug"


@contextlib.contextmanager
def _served() -> Iterator[_Served]:
    """A server. However the block is left, its process has ended."""
    http = ("--http", "127.0.0.1:0") if _HAS_HTTP else ()
    process = subprocess.Popen(
        [sys.executable, "-m", "pullcord", "serve", "--listen", "127.0.0.1:0", "--json", *http],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C is for us; the server is then ended by us
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if process.poll() is not None or not line:
            raise SystemExit("the server did not start; try: pullcord serve")
        told = json.loads(line)
        yield _Served(process, told["address"], told.get("http", ""))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _head(title: str) -> None:
    bold, end = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{title}{end}\n", flush=True)


def _say(line: str) -> None:
    print(textwrap.fill(line, _WIDTH), flush=True)


def _flow(text: str, column: int) -> int:
    """Writes a word or more in lines of a readable length; returns where the line now ends."""
    for piece in re.findall(r"\n| *[^ \n]+| +", text):
        if column + len(piece) > _WIDTH:
            _write("\n")
            piece, column = piece.lstrip(), 0
        _write(piece)
        column = 0 if piece == "\n" else column + len(piece)
    return column


def _write(text: str) -> None:
    print(text, end="", flush=True)


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03d}"


if __name__ == "__main__":
    main()
