"""Promises 5 and 12 under load: the cord stays in reach, and nothing is left behind."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pullcord import RunContext, runnable
from pullcord.engine.clock import Clock
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import EndedRun
from pullcord.stores.memory import MemoryStore
from pullcord.testing import HookedStore
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.transports.harness import (
    PATIENCE,
    Cause,
    Mode,
    Outcome,
    Serve,
    Served,
    Signal,
    State,
    kind_of,
    make_spec,
    seconds,
    until,
    v1,
)

SOON = 20.0
"""Seconds: what takes milliseconds is done by then, on however busy a machine; what waits for
one of these runs is not."""


@runnable
async def echo(input: str) -> str:
    return input


class TestInReach:
    async def test_promise_05_the_cord_is_in_reach_whatever_the_load(self, serve: Serve) -> None:
        """With every worker busy, a loop blocked and 300 live streams, control calls answer."""
        release, blocked = Signal(), Signal()
        busy = threading.Semaphore(0)

        @runnable
        def holds(ctx: RunContext):
            busy.release()
            release.wait_stubbornly()

        @runnable
        async def blocks(ctx: RunContext):
            ctx.write("so far")
            blocked.set()
            release.wait_stubbornly()

        @runnable
        async def waits(ctx: RunContext):
            ctx.write("here")
            await release.come()

        served = serve(
            holds, blocks, waits, workers=4, abandon_after=0.1, grace_period=0.1, stall_after=0.1
        )
        async with grpc.aio.insecure_channel(served.address) as channel:
            stub = RunServiceStub(channel)
            health = health_pb2_grpc.HealthStub(channel)

            async def follow(number: int) -> str:
                spec = make_spec("waits", run_id=f"w{number}")
                kinds = [kind_of(r.event) async for r in stub.Run(v1.RunRequest(spec=spec))]
                return kinds[-1]

            followers = [asyncio.create_task(follow(number)) for number in range(300)]
            await asyncio.to_thread(until, lambda: served.engine.remains().live == 300)
            for number in range(8):
                await stub.StartRun(
                    v1.StartRunRequest(spec=make_spec("holds", run_id=f"h{number}"))
                )
            for _ in range(4):
                await asyncio.to_thread(busy.acquire)
            await stub.StartRun(v1.StartRunRequest(spec=make_spec("blocks", run_id="b")))
            await asyncio.to_thread(blocked.wait)

            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=SOON)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            got = await stub.GetRun(v1.GetRunRequest(run_id="b"), timeout=SOON)
            assert got.run.output == "so far"
            watch = stub.WatchRun(v1.WatchRunRequest(run_id="b"), timeout=PATIENCE)
            assert kind_of((await anext(aiter(watch))).event) == "run_started"
            await stub.ListRuns(v1.ListRunsRequest(), timeout=SOON)
            # One that waits for a worker, one at work, one that blocks its loop, and one beside it.
            for run_id in ("h7", "h0", "b", "w7"):
                request = v1.CancelRunRequest(run_id=run_id, wait=seconds(30))
                receipt = await stub.CancelRun(request, timeout=SOON)
                assert receipt.outcome == Outcome.CANCEL_OUTCOME_STOPPED, run_id
            async for response in watch:
                last = response.event
            assert last.run_cancelled.output == "so far"
            # New async runs do not land on the loop that is blocked.
            spec = make_spec("waits", run_id="new")
            call = stub.Run(v1.RunRequest(spec=spec), timeout=PATIENCE)
            while kind_of((await anext(aiter(call))).event) != "content_delta":
                pass
            release.set()
            ends = await asyncio.gather(*followers)
            assert ends.count("run_cancelled") == 1
            assert ends.count("run_completed") == 299
        await asyncio.to_thread(served.wait_free)

    def test_promise_05_a_cancel_does_not_wait_for_a_run_that_blocks_the_loop(
        self, serve: Serve
    ) -> None:
        """A run beside one that blocks their loop is stopped at once, however long its grace is."""
        release, blocked, beside = Signal(), Signal(), Signal()

        @runnable
        async def blocks(ctx: RunContext):
            blocked.set()
            release.wait_stubbornly()

        @runnable
        async def waits(ctx: RunContext):
            ctx.write("so far")
            beside.set()
            await release.come()

        served = serve(blocks, waits, grace_period=600.0, abandon_after=600.0, stall_after=0.05)
        stream = served.run("waits", run_id="r")
        beside.wait()
        served.start("blocks", run_id="b")
        blocked.wait()
        receipt = served.cancel("r", wait=seconds(SOON))
        assert receipt.outcome == Outcome.CANCEL_OUTCOME_STOPPED
        assert stream.end().run_cancelled.output == "so far"
        assert served.get("b").state == State.RUN_STATE_RUNNING
        release.set()
        assert served.wait("b").state == State.RUN_STATE_COMPLETED
        served.wait_free()

    def test_promise_05_control_calls_do_not_wait_for_long_lists(self, serve: Serve) -> None:
        """While many callers list thousands of runs, a cancel and a health check answer."""
        served = serve(echo, max_live_runs=5000, max_finished_runs=5000)
        with ThreadPoolExecutor(4) as callers:
            list(callers.map(lambda n: served.run("echo", run_id=f"r{n}").end(), range(1500)))
        health = health_pb2_grpc.HealthStub(served.channel)
        lists = [served.stub.ListRuns.future(v1.ListRunsRequest(page_size=1000)) for _ in range(12)]
        for _ in range(10):
            health.Check(health_pb2.HealthCheckRequest(), timeout=SOON)
            served.stub.CancelRun(v1.CancelRunRequest(run_id="r0"), timeout=SOON)
        for call in lists:
            assert len(call.result(PATIENCE).runs) == 1000


class TestNothingLeft:
    def test_promise_12_hundreds_of_runs_leave_nothing_behind(self, serve: Serve) -> None:
        """After runs of every end: no task, watcher, capacity, thread or file more than before."""

        @runnable
        async def waits(ctx: RunContext):
            ctx.write("x")
            await Signal().come()

        @runnable
        def sync_waits(ctx: RunContext):
            ctx.write("x")
            ctx.cancel_token.wait()

        @runnable
        def fails(input: str):
            raise ValueError

        served = serve(echo, waits, sync_waits, fails, workers=4)
        process = psutil.Process()

        def rounds(number: int) -> None:
            for _ in range(number):
                served.run("echo", "x").end()
                served.run("fails").end()
                for name in ("waits", "sync-waits"):
                    stream = served.run(name)
                    run_id = stream.until("content_delta").run_id
                    served.cancel(run_id, mode=Mode.CANCEL_MODE_IMMEDIATE, wait=seconds(30))
                    assert kind_of(stream.end()) == "run_cancelled"
                    left = served.run(name)
                    run_id = left.until("content_delta").run_id
                    left.call.cancel()
                    assert served.wait(run_id).cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT
            served.wait_free()

        rounds(5)
        threads, fds, tasks = threading.active_count(), process.num_fds(), served.tasks()
        rounds(40)
        engine = served.engine
        left = engine.remains()
        assert (left.live, left.claims, left.tombstones) == (0, 0, 0)
        assert engine.occupied == 0
        [loop] = engine._executor._loops._loops
        until(lambda: not asyncio.all_tasks(loop.loop) and loop.tasks == 0)
        until(lambda: served.tasks() <= tasks)
        until(lambda: threading.active_count() <= threads + 4)  # the workers that there may be
        until(lambda: process.num_fds() <= fds + 2)
        assert len(engine._clock._heap) < 1500

    def test_promise_12_what_a_run_held_is_freed_when_it_is_forgotten(self, serve: Serve) -> None:
        """A run past its retention holds no memory: neither its log nor its code's objects."""

        class Held:
            pass

        @runnable
        async def keeps(ctx: RunContext):
            held = Held()
            ctx.write(f"{held}")

        def alive(kind: type) -> list[Any]:
            gc.collect()
            return [o for o in gc.get_objects() if type(o) is kind]

        served = serve(keeps, max_finished_runs=5)
        for _ in range(50):
            served.run("keeps").end()
        served.wait_free()
        until(lambda: not alive(Held))  # a thread may just be letting go of the last one
        until(lambda: len([o for o in alive(EndedRun) if o.run.runnable == "agents/keeps"]) <= 5)
        assert len([o for o in alive(EndedRun) if o.run.runnable == "agents/keeps"]) == 5


@runnable
async def says_and_waits(ctx: RunContext):
    ctx.write("said")
    await Signal().come()


class TestBlockingStore:
    """A store that does input and output is asked away from the RPC loop."""

    def serve_slowly(
        self, serve: Serve, gate: Signal, verbs: set[str], *agents
    ) -> tuple[Served, Signal]:
        """A server whose store holds verbs up until `gate`; the signal says it was asked."""
        asked = Signal()

        def hold_up(called: str) -> None:
            if called in verbs:
                asked.set()
                gate.wait()

        def slow(clock: Clock, options: EngineOptions) -> HookedStore:
            store = HookedStore(MemoryStore(clock, options), blocking=True)
            store.before = hold_up
            return store

        return serve(*agents, store=slow), asked

    def test_promise_05_a_slow_store_holds_up_no_other_call(self, serve: Serve) -> None:
        """While one call waits for the store, health answers."""
        gate = Signal()
        served, asked = self.serve_slowly(serve, gate, {"find"}, echo)
        call = served.stub.GetRun.future(v1.GetRunRequest(run_id="nobody"))
        asked.wait()
        health_pb2_grpc.HealthStub(served.channel).Check(
            health_pb2.HealthCheckRequest(), timeout=SOON
        )
        gate.set()
        with pytest.raises(grpc.RpcError):
            call.result(30)

    def test_promise_05_a_hung_store_keeps_no_live_run_out_of_reach(self, serve: Serve) -> None:
        """While every call to the store hangs, live runs are looked at, followed and stopped."""
        gate = Signal()
        hung = {"find", "finish", "page", "request_stop", "log"}
        served, asked = self.serve_slowly(serve, gate, hung, says_and_waits)
        streams = [served.run("says-and-waits", run_id=f"r{n}") for n in range(5)]
        for stream in streams:
            stream.until("content_delta")
        stuck = [served.stub.GetRun.future(v1.GetRunRequest(run_id="nobody")) for _ in range(20)]
        asked.wait()
        for n, stream in enumerate(streams):
            get = served.stub.GetRun(v1.GetRunRequest(run_id=f"r{n}"), timeout=SOON)
            assert get.run.output == "said"
            request = v1.CancelRunRequest(run_id=f"r{n}", wait=seconds(SOON))
            receipt = served.stub.CancelRun(request, timeout=SOON)
            assert receipt.outcome == Outcome.CANCEL_OUTCOME_STOPPED
            assert kind_of(stream.end()) == "run_cancelled"
        late = served.stub.CancelRun.future(
            v1.CancelRunRequest(run_id="early", before_start=True), timeout=SOON
        )
        gate.set()
        assert late.result().outcome == Outcome.CANCEL_OUTCOME_RECORDED
        for call in stuck:
            with pytest.raises(grpc.RpcError):
                call.result(30)

    def test_promise_10_a_caller_that_leaves_while_its_run_is_admitted_has_left(
        self, serve: Serve
    ) -> None:
        """A Run whose caller left before the store answered is stopped, cause DISCONNECT."""
        gate = Signal()

        @runnable
        async def waits(ctx: RunContext):
            await Signal().come()

        served, asked = self.serve_slowly(serve, gate, {"admit"}, waits)
        stream = served.run("waits", run_id="r")
        asked.wait()
        tasks = served.tasks()
        stream.call.cancel()
        until(lambda: served.tasks() < tasks)
        gate.set()
        until(lambda: served.engine.remains().ended == 1)
        run = served.wait("r")
        assert (run.state, run.cancellation.cause) == (
            State.RUN_STATE_CANCELLED,
            Cause.CANCEL_CAUSE_DISCONNECT,
        )


def test_promise_01_every_stream_of_many_sees_one_end(serve: Serve) -> None:
    """Of 100 watchers that come before or after the end, each sees the same last event."""
    go = Signal()

    @runnable
    async def waits(ctx: RunContext):
        for number in range(50):
            ctx.write(f"{number} ")
            await asyncio.sleep(0)
        await go.come()

    served = serve(waits)
    served.start("waits", run_id="r")
    with ThreadPoolExecutor(50) as pool:
        early = [pool.submit(lambda: served.watch("r").end()) for _ in range(50)]
        until(lambda: served.watchers("r") == 50)
        go.set()
        late = [pool.submit(lambda: served.watch("r").end()) for _ in range(50)]
        ends = {future.result(30).SerializeToString() for future in (*early, *late)}
    assert len(ends) == 1
