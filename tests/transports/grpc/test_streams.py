"""WatchRun and the end of a line: replay, resume, slow readers, disconnects and leases."""

import asyncio
import contextlib
import signal
import subprocess
import sys

import grpc
import grpc.aio
import pytest
from pullcord import RunContext, runnable
from pullcord.run.usage import Usage
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.engine.driving import live_run
from tests.steady import steady
from tests.transports.harness import (
    PATIENCE,
    Cause,
    Policy,
    Serve,
    Signal,
    State,
    Stream,
    in_both_modes,
    kind_of,
    make_spec,
    numbered,
    refusal,
    seconds,
    until,
    v1,
)

FOLLOW = (
    "import sys, grpc\n"
    "from pullcord.v1 import run_service_pb2 as v1\n"
    "from pullcord.v1.run_service_pb2_grpc import RunServiceStub\n"
    "stub = RunServiceStub(grpc.insecure_channel(sys.argv[1]))\n"
    "spec = {'runnable': 'agents/waits', 'run_id': 'r'}\n"
    "for response in stub.Run(v1.RunRequest(spec=spec)):\n"
    "    print(response.event.sequence, flush=True)\n"
)
"""A client of its own that follows a run and prints the number of each event."""

NOTICED = 30.0
"""Seconds: a peer that is frozen is noticed by then; the core itself would wait for a minute."""


@runnable
async def mixed(ctx: RunContext):
    """Deltas that merge, beside events that do not."""
    for number in range(5):
        for letter in "abcdefgh":
            ctx.write(letter)
        ctx.think("hm")
        ctx.emit("mark", {"number": number})


def waiting(begun: Signal, go: Signal):
    @runnable(id="waits")
    async def waits(ctx: RunContext):
        ctx.write("before ")
        begun.set()
        await go.come()
        ctx.write("after")

    return waits


class TestReplay:
    @in_both_modes
    def test_promise_10_a_watcher_resumes_after_any_event(self, serve: Serve) -> None:
        """From every sequence, also within merged deltas, exactly the events after it come."""
        served = serve(mixed)
        whole = served.run("mixed", run_id="r")
        last = whole.end().sequence
        text = "abcdefgh" * 5
        for after in range(last):
            stream = served.watch("r", after)
            end = stream.end() if after == 0 else stream.rest()[-1]
            assert end == whole.events[-1]
            made = after
            for event in stream.events:
                made += event.content_delta.count or event.reasoning_delta.count or 1
                assert event.sequence == made
            assert made == last
            seen = "".join(e.content_delta.text for e in whole.events if e.sequence <= after)
            assert text.endswith(stream.text())
            assert len(stream.text()) <= len(text) - len(seen)
        assert served.watch("r", 0).end() == whole.events[-1]

    @in_both_modes
    def test_watching_from_the_last_event_ends_at_once(self, serve: Serve) -> None:
        """A watcher that has seen the terminal event gets nothing, and the stream ends with OK."""
        served = serve(mixed)
        last = served.run("mixed", run_id="r").end().sequence
        stream = served.watch("r", last)
        assert stream.rest() == []
        assert stream.call.code() is grpc.StatusCode.OK

    @pytest.mark.parametrize("live", [True, False])
    def test_a_sequence_that_has_not_come_is_refused(self, serve: Serve, live: bool) -> None:
        """after_sequence beyond the run's last event is INVALID_ARGUMENT."""
        begun, go = Signal(), Signal()
        served = serve(waiting(begun, go))
        served.start("waits", run_id="r")
        begun.wait()
        if not live:
            go.set()
            served.wait("r")
        refused = refusal(lambda: served.watch("r", 10_000).rest())
        assert (refused.code, refused.fields) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            ["after_sequence"],
        )
        go.set()

    @in_both_modes
    def test_an_unknown_run_cannot_be_watched(self, serve: Serve) -> None:
        """WatchRun of a run that is not there is NOT_FOUND."""
        refused = refusal(lambda: serve(mixed).watch("nobody").rest())
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")

    def test_a_live_run_is_replayed_and_then_followed(self, serve: Serve) -> None:
        """A watcher that comes late gets what was, then what comes, and no event twice."""
        begun, go = Signal(), Signal()
        served = serve(waiting(begun, go))
        first = served.run("waits", run_id="r")
        first.until("content_delta")
        late = served.watch("r")
        late.until("content_delta")
        resumed = served.watch("r", first.events[-1].sequence)
        go.set()
        assert first.end() == late.end() == resumed.rest()[-1]
        assert late.text() == "before after"
        assert resumed.text() == "after"

    def test_promise_10_where_the_log_is_trimmed_a_gap_and_a_snapshot_come(
        self, serve: Serve
    ) -> None:
        """Who misses trimmed events gets a gap that counts them and the whole run as it is."""
        begun, go = Signal(), Signal()

        @runnable
        async def long(ctx: RunContext):
            for number in range(100):
                ctx.write(f"{number} ")
                ctx.emit("mark")
            begun.set()
            await go.come()
            ctx.write("tail")

        served = serve(long, max_log_records=20)
        served.start("long", run_id="r")
        begun.wait()
        stream = served.watch("r", 7)
        gap = stream.next()
        assert (gap.gap.first_sequence, gap.gap.last_sequence) == (8, gap.sequence)
        snapshot = stream.next()
        text = "".join(f"{number} " for number in range(100))
        assert snapshot.snapshot.run.output == text
        assert snapshot.sequence == gap.sequence == 201
        go.set()
        end = stream.end()
        assert stream.text() == "tail"
        assert end.run_completed.output == text + "tail"
        late = served.watch("r")
        assert late.end() == end
        assert [kind_of(e) for e in late.events] == ["gap", "snapshot", "run_completed"]
        assert late.events[1].snapshot.run == served.get("r")
        assert late.events[0].gap.last_sequence == end.sequence - 1

    def test_a_silent_stream_shows_that_it_lives(self, serve: Serve) -> None:
        """A stream on which nothing happens gets heartbeats, which say what to resume after."""
        go = Signal()
        served = serve(waiting(Signal(), go), heartbeat=0.04)
        stream = served.run("waits", run_id="r")
        stream.until("content_delta")
        first, second = stream.until("heartbeat"), stream.until("heartbeat")
        assert first.sequence == second.sequence == 2
        go.set()
        stream.end()
        assert [kind for _, kind in numbered(stream.events)] == [
            "run_started",
            "content_delta",
            "content_delta",
            "run_completed",
        ]


class TestSlowReader:
    def test_promise_11_a_slow_watcher_slows_nobody(self, serve: Serve) -> None:
        """One watcher that does not read leaves run and other watchers as fast as they are."""
        begun, go = Signal(), Signal()

        @runnable
        def pours(ctx: RunContext):
            begun.set()
            go.wait()
            for _ in range(400):
                ctx.write("x" * 5000)

        served = serve(pours)
        served.start("pours", run_id="r")
        begun.wait()
        # A window of a few KiB, so that the server's write blocks at once.
        options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))
        slow = Stream(
            RunServiceStub(served.connect(*options)).WatchRun(v1.WatchRunRequest(run_id="r"))
        )
        slow.until("run_started")
        fast = served.watch("r")
        fast.until("run_started")
        go.set()
        end = fast.end()
        assert end.run_completed.output == "x" * 2_000_000
        assert served.get("r").state == State.RUN_STATE_COMPLETED
        assert slow.end() == end
        assert slow.text() == end.run_completed.output

    def test_promise_11_who_comes_late_gets_few_big_messages(self, serve: Serve) -> None:
        """400 deltas of 5 KB that wait for a reader come as some 16 messages of 128 KiB."""

        @runnable
        def pours(ctx: RunContext):
            for _ in range(400):
                ctx.write("x" * 5000)

        served = serve(pours)
        served.start("pours", run_id="r")
        served.wait("r")
        late = served.watch("r")
        assert late.end().run_completed.output == late.text() == "x" * 2_000_000
        assert sum(event.content_delta.count or 1 for event in late.events) == 402
        assert len(late.events) <= 20

    def test_promise_11_a_slow_watcher_gets_fewer_and_bigger_messages(self, serve: Serve) -> None:
        """Deltas that pile up while a reader lags come merged, none lost, with their count."""
        begun, go = Signal(), Signal()

        @runnable
        def chatters(ctx: RunContext):
            begun.set()
            go.wait()
            for _ in range(200_000):
                ctx.write("word ")

        served = serve(chatters)
        stream = served.run("chatters", run_id="r")
        begun.wait()
        go.set()
        end = stream.end()
        deltas = [e.content_delta for e in stream.events if kind_of(e) == "content_delta"]
        assert sum(delta.count or 1 for delta in deltas) == 200_000
        assert end.run_completed.output == stream.text() == "word " * 200_000
        assert len(deltas) < 100_000

    def test_promise_11_a_watcher_that_lags_behind_a_trimmed_log_gets_a_snapshot(
        self, serve: Serve
    ) -> None:
        """What a lagging watcher cannot have any more is bridged by a gap and a snapshot."""
        begun, go = Signal(), Signal()

        @runnable
        def pours(ctx: RunContext):
            begun.set()
            go.wait()
            for number in range(3000):
                ctx.emit("page", {"text": f"{number}" + "x" * 20_000})

        served = serve(pours, max_log_bytes=2**20)
        served.start("pours", run_id="r")
        begun.wait()
        slow = served.watch("r")
        slow.until("run_started")
        go.set()
        served.wait("r")
        assert served.engine.watch("r")._log.nbytes <= 2**20 + 50_000
        kinds = [kind_of(e) for e in slow.rest()]
        assert "gap" in kinds
        assert kinds[kinds.index("gap") + 1] == "snapshot"
        assert kinds[-1] == "run_completed"
        assert len(kinds) < 3000


class TestDisconnect:
    def test_promise_10_run_is_cancelled_with_its_call(self, serve: Serve) -> None:
        """By default a run started by Run is stopped, cause DISCONNECT, when its caller leaves."""
        served = serve(waiting(Signal(), Signal()))
        stream = served.run("waits", run_id="r")
        stream.until("content_delta")
        stream.call.cancel()
        run = served.wait("r")
        assert run.cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT
        assert (run.state, run.output) == (State.RUN_STATE_CANCELLED, "before ")
        assert not run.cancellation.actor

    def test_promise_10_while_another_watches_it_goes_on(self, serve: Serve) -> None:
        """A run goes on when one of two watchers leaves, and stops when the last one does."""
        served = serve(waiting(Signal(), Signal()))
        stream = served.run("waits", run_id="r")
        stream.until("content_delta")
        other = served.watch("r")
        other.until("content_delta")
        stream.call.cancel()
        until(lambda: served.watchers("r") == 1)
        assert served.get("r").state == State.RUN_STATE_RUNNING
        other.call.cancel()
        assert served.wait("r").cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT

    @pytest.mark.parametrize("rpc", ["Run", "StartRun"])
    def test_promise_10_continue_goes_on(self, serve: Serve, rpc: str) -> None:
        """Under CONTINUE, StartRun's default, a run goes on without any watcher."""
        go = Signal()
        served = serve(waiting(Signal(), go))
        if rpc == "Run":
            stream = served.run(
                "waits", run_id="r", on_disconnect=Policy.DISCONNECT_POLICY_CONTINUE
            )
        else:
            served.start("waits", run_id="r")
            stream = served.watch("r")
        stream.until("content_delta")
        stream.call.cancel()
        until(lambda: served.watchers("r") == 0)
        go.set()
        assert served.wait("r").output == "before after"

    @steady
    def test_promise_10_a_lease_ends_a_run_that_nobody_comes_back_to(self, serve: Serve) -> None:
        """Under LEASE a run is stopped, cause DISCONNECT, when its lease is up."""
        served = serve(waiting(Signal(), Signal()))
        stream = served.run(
            "waits",
            run_id="r",
            on_disconnect=Policy.DISCONNECT_POLICY_LEASE,
            lease=seconds(0.05),
        )
        stream.until("content_delta")
        stream.call.cancel()
        run = served.wait("r")
        assert run.cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT
        assert "lease" in run.cancellation.reason

    def test_promise_10_a_lease_begins_without_a_watcher(self, serve: Serve) -> None:
        """StartRun under LEASE: if nobody ever watches, the run is stopped when the lease is up."""
        served = serve(waiting(Signal(), Signal()))
        served.start(
            "waits", run_id="r", on_disconnect=Policy.DISCONNECT_POLICY_LEASE, lease=seconds(0.05)
        )
        assert served.wait("r").cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT

    def test_promise_10_a_new_watcher_renews_the_lease(self, serve: Serve) -> None:
        """Who comes back within the lease finds the run at work, and misses nothing."""
        go = Signal()
        served = serve(waiting(Signal(), go), lease=600.0)
        stream = served.run("waits", run_id="r", on_disconnect=Policy.DISCONNECT_POLICY_LEASE)
        stream.until("content_delta")
        stream.call.cancel()
        until(lambda: served.watchers("r") == 0)
        live = live_run(served.engine)
        until(lambda: live.presence.lease is not None)
        back = served.watch("r", stream.events[-1].sequence)
        until(lambda: live.presence.lease is None)
        go.set()
        assert back.rest()[-1].run_completed.output == "before after"
        assert back.text() == "after"

    def test_promise_10_a_client_process_that_is_killed_has_left(self, serve: Serve) -> None:
        """When a client's process dies without a word, its runs' disconnect policies hold."""
        begun = Signal()
        served = serve(waiting(begun, Signal()))
        with subprocess.Popen(
            [sys.executable, "-c", FOLLOW, served.address], stdout=subprocess.PIPE
        ) as client:
            assert client.stdout is not None
            assert [client.stdout.readline() for _ in range(2)] == [b"1\n", b"2\n"]
            client.send_signal(signal.SIGKILL)
        run = served.wait("r")
        assert run.cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT
        assert run.output == "before "

    def test_promise_10_a_client_process_that_is_frozen_has_left(self, serve: Serve) -> None:
        """A client machine that vanishes without closing its connection is noticed after
        keepalive and keepalive_timeout: a stopped process closes nothing."""
        begun = Signal()
        served = serve(waiting(begun, Signal()), keepalive=1, keepalive_timeout=1)
        with subprocess.Popen(
            [sys.executable, "-c", FOLLOW, served.address], stdout=subprocess.PIPE
        ) as client:
            assert client.stdout is not None
            assert [client.stdout.readline() for _ in range(2)] == [b"1\n", b"2\n"]
            client.send_signal(signal.SIGSTOP)
            request = v1.WaitRunRequest(run_id="r", timeout=seconds(NOTICED))
            run = served.stub.WaitRun(request, timeout=PATIENCE).run
            client.send_signal(signal.SIGKILL)
        assert run.cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT
        assert run.output == "before "

    def test_a_line_that_breaks_in_the_middle_of_a_message_is_no_error(self, serve: Serve) -> None:
        """A client that breaks off while much is sent has left; nobody's error is logged."""

        @runnable
        def says_much(ctx: RunContext):
            ctx.write("x" * 7_000_000)

        served = serve(says_much, max_output_bytes=8_000_000)
        # This client breaks off by itself: it does not take messages of that size.
        stub = RunServiceStub(served.connect(("grpc.max_receive_message_length", 1_000_000)))
        for number in range(10):
            request = v1.RunRequest(spec=make_spec("says-much", run_id=f"r{number}"))
            with pytest.raises(grpc.RpcError, match="larger than max"):
                list(stub.Run(request))
            assert served.list(states=[State.RUN_STATE_COMPLETED]).runs[0].run_id == f"r{number}"


class TestDeadline:
    @pytest.mark.parametrize("deadline", [0.3, 1.0, 2.5])
    @pytest.mark.parametrize("kind", ["listens", "deaf", "sync-deaf", "tool"])
    @steady
    async def test_promise_09_the_terminal_event_comes_before_the_deadline(
        self, serve: Serve, kind: str, deadline: float
    ) -> None:
        """A run ends, cause DEADLINE, before its caller's deadline; the stream's status is OK."""
        release = Signal()

        @runnable
        async def listens(ctx: RunContext):
            ctx.write("so far")
            await release.come()

        @runnable
        async def deaf(ctx: RunContext):
            ctx.write("so far")
            while not release.is_set():
                try:
                    await release.come()
                except asyncio.CancelledError:
                    continue

        @runnable
        def sync_deaf(ctx: RunContext):
            ctx.write("so far")
            release.wait_stubbornly()

        @runnable
        async def tool(ctx: RunContext):
            ctx.write("so far")
            with ctx.tool_call("t", "tool"):
                await release.come()

        served = serve(listens, deaf, sync_deaf, tool, grace_period=600.0, abandon_after=600.0)
        try:
            async with grpc.aio.insecure_channel(served.address) as channel:
                await channel.channel_ready()
                call = RunServiceStub(channel).Run(
                    v1.RunRequest(spec=make_spec(kind, run_id="r")), timeout=deadline
                )
                events = [response.event async for response in call]
                assert await call.code() is grpc.StatusCode.OK
            end = events[-1].run_cancelled
            assert end.cancellation.cause == Cause.CANCEL_CAUSE_DEADLINE
            assert end.output == "so far"
            assert end.abandoned == (kind in {"deaf", "sync-deaf"})
        finally:
            release.set()
            await asyncio.to_thread(served.wait_free)

    def test_promise_09_code_knows_how_long_it_has(self, serve: Serve) -> None:
        """ctx.cancel_token.time_remaining() is a little less than the caller's deadline."""

        @runnable
        async def tells(ctx: RunContext):
            remaining = ctx.cancel_token.time_remaining()
            assert remaining is not None
            return {"remaining": remaining}

        end = serve(tells).run("tells", timeout=100).end()
        assert 60 < end.run_completed.output_data["remaining"] < 98.5

    def test_a_call_that_comes_too_late_leaves_nothing_behind(self, serve: Serve) -> None:
        """A deadline of almost nothing ends call and run, and the server goes on."""
        served = serve(mixed, waiting(Signal(), Signal()))
        for number in range(30):
            stream = served.run("waits", timeout=0.0001 * number)
            with contextlib.suppress(grpc.RpcError):
                stream.rest()
            assert stream.call.code() in {
                grpc.StatusCode.OK,
                grpc.StatusCode.DEADLINE_EXCEEDED,
            }
        served.wait_free()
        served.run("mixed").end()


class TestLimits:
    @pytest.mark.parametrize(
        ("limits", "limit"),
        [
            ({"timeout": seconds(0.3)}, "timeout"),
            ({"max_tokens": 100}, "max_tokens"),
            ({"max_cost": 0.5}, "max_cost"),
            ({"max_steps": 3}, "max_steps"),
            ({"max_tool_calls": 3}, "max_tool_calls"),
        ],
    )
    @pytest.mark.parametrize("kind", ["sync", "async"])
    @steady
    def test_promise_09_each_limit_ends_the_run_and_is_named(
        self, serve: Serve, kind: str, limits: dict, limit: str
    ) -> None:
        """A limit that is reached ends the run, cause BUDGET, and the event says which one."""
        unit = Usage(input_tokens=10, output_tokens=20, cost=0.1, steps=1)

        @runnable
        async def async_spends(ctx: RunContext):
            ctx.write("so far")
            while True:
                ctx.use(unit, begun=True)  # it reports work that was done
                with ctx.tool_call(str(ctx.usage.tool_calls), "tool"):
                    await asyncio.sleep(0)
                if limit == "timeout":
                    await Signal().come()

        @runnable
        def sync_spends(ctx: RunContext):
            ctx.write("so far")
            while True:
                ctx.use(unit, begun=True)  # it reports work that was done
                with ctx.tool_call(str(ctx.usage.tool_calls), "tool"):
                    pass
                if limit == "timeout":
                    ctx.cancel_token.wait()

        served = serve(async_spends, sync_spends)
        end = served.run(f"{kind}-spends", limits=limits, timeout=PATIENCE).end().run_cancelled
        assert (end.cancellation.cause, end.cancellation.limit) == (
            Cause.CANCEL_CAUSE_BUDGET,
            limit,
        )
        assert end.output == "so far"
        assert end.usage.total_tokens == 30 * end.usage.steps
        assert not end.abandoned
