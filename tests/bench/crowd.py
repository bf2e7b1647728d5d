"""A client process of its own that holds many streams, out of the way of the one that measures.

It opens them all in one burst, says when each has brought its `first` event or an error, and once
more when all have ended. Its job is a JSON object on the command line.
"""

import asyncio
import json
import sys
from collections import Counter
from time import perf_counter

import grpc.aio
import uvloop

from tests.bench.caller import Caller, Stream
from tests.bench.process import answer, end_with_parent
from tests.bench.script import Script

CONNECTIONS = 4


async def main() -> None:
    end_with_parent()
    job = json.loads(sys.argv[1])
    callers = [Caller(job["address"]) for _ in range(min(CONNECTIONS, job["count"]))]
    for caller in callers:
        await caller.ready()
    seen: Counter[str] = Counter()
    opened = asyncio.Semaphore(0)
    started = perf_counter()
    following = []
    for number in range(job["count"]):
        caller = callers[number % len(callers)]
        watched = job.get("watch")
        stream = caller.watch(watched) if watched else caller.run(Script.of(job["script"]))
        following.append(asyncio.create_task(follow(stream, job["first"], seen, opened)))
    for _ in following:
        await opened.acquire()
    answer({**seen, "errors": seen["errors"], "seconds": perf_counter() - started})
    await asyncio.wait(following)
    answer({**seen, "errors": seen["errors"], "seconds": perf_counter() - started})
    await asyncio.Event().wait()


async def follow(stream: Stream, first: str, seen: Counter[str], opened: asyncio.Semaphore) -> None:
    try:
        try:
            came = await stream.until(first)
        finally:
            opened.release()
        followed = await stream.follow()
        seen["messages"] += followed.messages
        seen["errors"] += came != first or followed.end != "run_completed"
    except grpc.aio.AioRpcError as error:
        seen["errors"] += 1
        seen[error.code().name] += 1


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
