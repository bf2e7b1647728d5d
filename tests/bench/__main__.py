"""`python -m tests.bench [NAME…] [--quick] [--json FILE] [--write [--kept FILE…]]`: measures, and
shows tables.

All traffic is on loopback, and every process that is started is ended.
"""

import argparse
import asyncio
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # processes are started, not forked

import grpc
import uvloop
from rich.console import Console

from tests.bench import (
    adapters,
    attacked,
    cancel,
    deltas,
    elsewhere,
    first_event,
    handover,
    large,
    live,
    long_run,
    many,
    messages,
    over_http,
    pace,
    paced,
    page,
    pages,
    resume,
    sequence,
    shared,
    stored,
    trees,
    verified,
    watchers,
)
from tests.bench.figures import Figure
from tests.bench.peers import compare
from tests.bench.plan import Plan
from tests.bench.report import heading, table

BENCHMARKS = {
    "paced": paced,
    "messages": messages,
    "deltas": deltas,
    "cancel": cancel,
    "first-event": first_event,
    "live": live,
    "large": large,
    "many": many,
    "pace": pace,
    "resume": resume,
    "long-run": long_run,
    "trees": trees,
    "watchers": watchers,
    "handover": handover,
    "sequence": sequence,
    "stored": stored,
    "shared": shared,
    "elsewhere": elsewhere,
    "verified": verified,
    "http": over_http,
    "attacked": attacked,
    "adapters": adapters,
    "pages": pages,
    "peers": compare,
}


async def measure(names: list[str], plan: Plan, console: Console) -> dict[str, list[Figure]]:
    found = {}
    for name in names:
        started = time.perf_counter()
        with console.status(f"{name} …"):
            found[name] = await BENCHMARKS[name].measure(plan)
        console.print(table(f"{name} ({time.perf_counter() - started:.0f} s)", found[name]))
    return found


def write_kept(files: list[Path]) -> None:
    """Puts parts into the page that were measured one by one."""
    kept = [json.loads(file.read_text()) for file in files]
    found = {
        name: [Figure.of(plain) for plain in part["figures"][name]]
        for name in BENCHMARKS
        for part in kept
        if name in part["figures"]
    }
    loads = sorted(part["machine"]["load"] for part in kept)
    page.write(found, kept[-1]["machine"] | {"load": f"{loads[0]} to {loads[-1]}"})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a look whether it works")
    parser.add_argument("--runs", type=int, default=Plan().runs, help="for sequence: how many")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--write", action="store_true", help="put all into docs/performance.*")
    parser.add_argument(
        "--kept",
        type=Path,
        nargs="+",
        metavar="FILE",
        default=[],
        help="with --write: of --json, from parts that were measured when the machine was quiet",
    )
    options = parser.parse_args()
    if options.kept:
        write_kept(options.kept)
        return
    if options.write and (options.names or options.quick):
        parser.error("--write takes the whole benchmark, or its parts by --kept")
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    console = Console()
    if not console.is_terminal:
        console.width = 150
    machine = {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "uvloop": uvloop.__version__,
        "load": round(os.getloadavg()[0], 1),
    }
    console.print(heading(machine))
    plan = Plan(quick=options.quick, runs=options.runs)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(options.names or list(BENCHMARKS), plan, console))
    with_goals = [figure for made in found.values() for figure in made if figure.goal]
    if with_goals:
        console.print(table("What is to be reached", with_goals))
    if options.write:
        page.write(found, machine)
    if options.json is not None:
        figures = {name: [figure.plain() for figure in made] for name, made in found.items()}
        options.json.write_text(json.dumps({"machine": machine, "figures": figures}, indent=2))


if __name__ == "__main__":
    main()
