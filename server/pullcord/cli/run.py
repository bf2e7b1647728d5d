"""`pullcord run` and `pullcord watch`: what is asked of the server, and with which options.

How a run is then shown is `follow`'s.
"""

import asyncio
import sys
import time
from typing import Annotated

import typer

from pullcord.cli.attach import data_of, named, parts_of
from pullcord.cli.exits import Exit, refusals, wrong_usage
from pullcord.cli.follow import Follower
from pullcord.cli.ids import RunId, complete_runnable, the_one, unknown_runnable
from pullcord.cli.options import (
    Address,
    AsJson,
    Labels,
    Session,
    User,
    address_option,
    connection,
    duration,
    labels_of,
)
from pullcord.cli.output import print_json
from pullcord.cli.screen import Status, choose_view
from pullcord.cli.tree import Tree
from pullcord.client import AsyncRunClient, RunClient
from pullcord.client.calls import DEFAULT_TARGET, SpecOptions
from pullcord.run.cancel import CancelMode
from pullcord.run.errors import InvalidArgument, RunnableNotFound, RunNotFound
from pullcord.run.record import DisconnectPolicy, Receipt, SessionPolicy, is_runnable_name
from pullcord.run.usage import Limits
from pullcord.wire.run import run_message

_RECEIPT_WAIT = 60.0
"""Seconds that the receipt of a Ctrl-C waits for the stop; the terminal shows the run meanwhile."""


def run(
    runnable: Annotated[
        str,
        typer.Argument(
            metavar="RUNNABLE",
            help="What to run, such as agents/counter.",
            autocompletion=complete_runnable,
        ),
    ],
    input: Annotated[
        str,
        typer.Argument(metavar="INPUT", help="The text to work on; - reads it from stdin."),
    ] = "",
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            help="The longest it may take: the run is stopped a little before.",
        ),
    ] = None,
    run_id: Annotated[str, typer.Option("--run-id", help="Its id; else one is made.")] = "",
    session: Session = "",
    session_policy: Annotated[
        SessionPolicy | None,
        typer.Option(
            help="What it does while its session is busy with another run. [default: go ahead]"
        ),
    ] = None,
    retry_of: Annotated[
        str,
        typer.Option(
            "--retry-of",
            metavar="RUN_ID",
            help="An earlier run of this session: its turn is replaced by this run.",
        ),
    ] = "",
    user: User = "",
    label: Labels = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens it may use.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="The most model calls or steps.")] = None,
    max_tool_calls: Annotated[int | None, typer.Option(help="The most tool calls.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="The most it may cost, in USD.")] = None,
    on_disconnect: Annotated[
        DisconnectPolicy | None,
        typer.Option(help="What happens to it when nobody follows it any more."),
    ] = None,
    lease: Annotated[
        float | None,
        typer.Option(
            parser=duration, metavar="DURATION", help="How long, with --on-disconnect lease."
        ),
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", help="Start it, print its id, and do not follow it.")
    ] = False,
    attach: Annotated[
        list[str] | None,
        typer.Option(
            "--attach",
            metavar="FILE[:MEDIA/TYPE]",
            help="A file that goes with the text, or its address; - reads it from stdin. "
            "May be given several times.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="JSON",
            help="Data that goes with the text, a JSON object; - reads it from stdin.",
        ),
    ] = None,
    address: Address = DEFAULT_TARGET,
    as_json: AsJson = False,
) -> None:
    """Run something and show what it says as it says it.

    Ctrl-C cancels the run, gracefully: a tool call in flight may finish. Ctrl-C again interrupts
    tools, too, and a third one leaves. On a terminal, its child runs are shown as a tree.
    Into a pipe, the run's own text goes to stdout and everything else to stderr: the text of its
    children line by line, each with its path before it.
    """
    attached = any(a == "-" or a.startswith("-:") for a in attach or ())
    if [input == "-", attached, data == "-"].count(True) > 1:
        raise wrong_usage("standard input can be one of the input, an attachment and the data")
    if timeout is not None and timeout <= 0:
        raise wrong_usage("--timeout: must be more than 0, such as 30s")
    parts = parts_of(attach)
    input_data = data_of(data)
    text = sys.stdin.read() if input == "-" else input
    options = SpecOptions(
        run_id=run_id,
        session_id=session,
        session_policy=session_policy,
        retry_of=retry_of,
        user_id=user,
        labels=labels_of(label),
        limits=Limits(
            timeout=timeout if background else None,
            max_tokens=max_tokens,
            max_cost=max_cost,
            max_steps=max_steps,
            max_tool_calls=max_tool_calls,
        ),
        on_disconnect=on_disconnect,
        lease=lease,
        input_data=input_data,
        parts=parts,
    )
    with refusals(as_json), named(parts):
        if background:
            _start(address, runnable, text, options, as_json)
        else:
            raise typer.Exit(asyncio.run(_run(address, runnable, text, timeout, options, as_json)))


def watch(
    run_id: RunId,
    after: Annotated[
        int, typer.Option("--after", metavar="N", help="The number of the last event seen.")
    ] = 0,
    address: Address = DEFAULT_TARGET,
    as_json: AsJson = False,
) -> None:
    """Follow a run, from its beginning or from any event.

    Ctrl-C only leaves: the run goes on, unless its disconnect policy says otherwise.
    """
    with refusals(as_json):
        raise typer.Exit(asyncio.run(_watch(address, run_id, after, as_json)))


def _start(address: str, runnable: str, text: str, options: SpecOptions, as_json: bool) -> None:
    with RunClient(**connection(address)) as client:
        try:
            started = client.start(runnable, text, **options)
        except (RunnableNotFound, InvalidArgument):
            known = [info.name for info in client.runnables()]
            if runnable not in known and not as_json:
                unknown_runnable(runnable, known, as_json)
            raise
    if as_json:
        print_json(run_message(started))
    else:
        print(started.run_id)


async def _run(
    address: str,
    runnable: str,
    text: str,
    timeout: float | None,
    options: SpecOptions,
    as_json: bool,
) -> Exit:
    began = time.monotonic()
    async with AsyncRunClient(**connection(address)) as client:
        # A stream would wait for a server that is not there; a person needs the error at once.
        on_offer = {info.name: info for info in await client.runnables()}
        # What is no name at all is refused in the server's words where a program reads them.
        if runnable not in on_offer and (is_runnable_name(runnable) or not as_json):
            unknown_runnable(runnable, on_offer, as_json)
        tree = Tree(runnable)
        if runnable in on_offer:
            tree.expect(on_offer[runnable].members)
        deadline = None if timeout is None else began + timeout
        status = Status(began, deadline, tree=tree)
        async with client.run(runnable, text, timeout=timeout, **options) as stream:

            async def stop(mode: CancelMode) -> Receipt:
                return await client.cancel(
                    stream.run_id, "Ctrl-C", mode=mode, wait=_RECEIPT_WAIT, before_start=True
                )

            view = choose_view(as_json)
            follower = Follower(
                stream,
                view,
                status,
                stop,
                client.get,
                client.continue_run,
                address_option(address),
            )
            return await follower.follow()


async def _watch(address: str, run_id: str, after: int, as_json: bool) -> Exit:
    async with AsyncRunClient(**connection(address)) as client:
        run_id = run_id.removesuffix("…")  # as `ps` shows a long one
        try:
            known = await client.get(run_id)
        except RunNotFound:
            runs = [run.run_id async for run in client.list(page_size=1000)]
            run_id = the_one(run_id, runs)
            known = await client.get(run_id)
        start_time = known.start_time or known.create_time
        began = time.monotonic() - max(0.0, time.time() - start_time)
        tree = Tree(known.runnable)
        if tree.has_parts:
            # From the beginning on, the events show all but the steps that are yet to come.
            (tree.fill if after else tree.plan)(known.output_data)
        status = Status(began, start_time=start_time, state=known.state, tree=tree)
        async with client.watch(run_id, after) as stream:
            view = choose_view(as_json)
            follower = Follower(
                stream,
                view,
                status,
                None,
                client.get,
                client.continue_run,
                address_option(address),
            )
            return await follower.follow()
