"""The baseline: the same messages from a bare grpc.aio server, by the generated servicer.

It keeps no log, knows no runs and can stop nothing: each stream is one async generator that makes
its messages one after the other. It is given the same channel arguments and loop as the product.
"""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator

import grpc.aio
import uvloop
from pullcord.server import _SWITCH_INTERVAL
from pullcord.transports.grpc.server import GrpcOptions, _channel_arguments
from pullcord.v1 import cancel_pb2, run_pb2
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1 import run_service_pb2_grpc as rpc

from tests.bench.process import answer, end_with_parent
from tests.bench.script import CUSTOM, TOKEN, Script


class Service(rpc.RunServiceServicer):
    """Each Run makes what its script says; CancelRun and GetRun answer the same to everybody."""

    async def Run(
        self, request: v1.RunRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[v1.RunResponse]:
        spec = request.spec
        script = Script.of(spec.input)
        first = self._next(spec.run_id, 1)
        first.event.run_started.runnable = spec.runnable
        yield first
        await asyncio.sleep(script.delay)
        for number in range(1, script.count + 1):
            message = self._next(spec.run_id, number + 1)
            if script.says == "custom":
                custom = message.event.custom
                custom.name = "progress"
                custom.data.update(CUSTOM)
            elif script.says == "voices" and number % 2:
                message.event.reasoning_delta.text = TOKEN
            else:
                message.event.content_delta.text = TOKEN
            yield message
            if script.pauses_after(number):
                await asyncio.sleep(script.pause)
        if script.then == "wait":
            await asyncio.Event().wait()
        if script.then == "compute":
            threading.Thread(target=_compute, daemon=True).start()
        last = self._next(spec.run_id, script.count + 2)
        last.event.run_completed.SetInParent()
        yield last

    async def CancelRun(
        self, request: v1.CancelRunRequest, context: grpc.aio.ServicerContext
    ) -> v1.CancelRunResponse:
        return v1.CancelRunResponse(
            outcome=cancel_pb2.CANCEL_OUTCOME_REQUESTED, run=self._run(request.run_id)
        )

    async def GetRun(
        self, request: v1.GetRunRequest, context: grpc.aio.ServicerContext
    ) -> v1.GetRunResponse:
        return v1.GetRunResponse(run=self._run(request.run_id))

    @staticmethod
    def _next(run_id: str, sequence: int) -> v1.RunResponse:
        response = v1.RunResponse()
        event = response.event
        event.run_id = run_id
        event.sequence = sequence
        seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
        event.create_time.seconds = seconds
        event.create_time.nanos = nanos
        return response

    @staticmethod
    def _run(run_id: str) -> run_pb2.Run:
        run = run_pb2.Run(run_id=run_id, runnable="agents/async", output=TOKEN, last_sequence=2)
        run.state = run_pb2.RUN_STATE_RUNNING
        run.create_time.GetCurrentTime()
        return run


def _compute() -> None:
    time.sleep(1.5)  # until all of them are started
    turns = 0
    while True:
        turns = (turns * 31 + 7) % 1_000_003


async def main() -> None:
    end_with_parent()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    server = grpc.aio.server(options=list(_channel_arguments(GrpcOptions())))
    rpc.add_RunServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    answer({"address": f"127.0.0.1:{port}"})
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
