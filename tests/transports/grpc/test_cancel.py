"""CancelRun and CancelRuns: what they achieve, and that the receipt tells the truth."""

import threading

import grpc
import pytest
from pullcord import RunContext, runnable

from tests.steady import steady
from tests.transports.harness import (
    Cause,
    Mode,
    Outcome,
    Serve,
    Served,
    Signal,
    State,
    in_both_modes,
    kind_of,
    make_spec,
    refusal,
    seconds,
    v1,
)


@runnable
async def echo(input: str) -> str:
    return input


def speaker(begun: Signal, *, kind: str = "async"):
    """Says something and then waits until it is stopped."""

    async def speaks(ctx: RunContext):
        ctx.write("made so far")
        begun.set()
        await Signal().come()

    def sync_speaks(ctx: RunContext):
        ctx.write("made so far")
        begun.set()
        ctx.cancel_token.wait()
        ctx.write("never said")

    return runnable(id="speaks")(speaks if kind == "async" else sync_speaks)


def in_critical(begun: Signal, release: Signal):
    """Is in a part with side effects until it is released."""

    @runnable(id="tool")
    async def tool(ctx: RunContext):
        with ctx.tool_call("t1", "send-mail", "{}") as returned:
            begun.set()
            await release.come()
            returned("sent")

    return tool


def live(served: Served, *agents: str, **spec) -> list[str]:
    return [served.start(agent, **spec).run_id for agent in agents]


class TestOutcomes:
    @pytest.mark.parametrize("kind", ["async", "sync"])
    def test_promise_02_03_a_cancel_that_waits_says_stopped(self, serve: Serve, kind: str) -> None:
        """With `wait` the receipt says STOPPED, with the output made before and three times."""
        begun = Signal()
        served = serve(speaker(begun, kind=kind))
        stream = served.run("speaks", run_id="r")
        begun.wait()
        receipt = served.cancel("r", reason="enough", wait=seconds(30))
        end = stream.end()
        assert receipt.outcome == Outcome.CANCEL_OUTCOME_STOPPED
        assert receipt.run.state == State.RUN_STATE_CANCELLED
        assert receipt.run.output == end.run_cancelled.output == "made so far"
        assert served.get("r") == receipt.run
        stop = end.run_cancelled.cancellation
        assert (stop.cause, stop.reason, stop.mode) == (
            Cause.CANCEL_CAUSE_USER,
            "enough",
            Mode.CANCEL_MODE_GRACEFUL,
        )
        assert stop == receipt.run.cancellation
        times = [receipt.accept_time, receipt.deliver_time, receipt.stop_time]
        assert [t.ToNanoseconds() for t in times] == sorted(t.ToNanoseconds() for t in times)
        assert times[0].seconds
        assert [kind_of(e) for e in stream.events][-2:] == ["cancel_requested", "run_cancelled"]

    def test_promise_02_without_wait_it_says_requested(self, serve: Serve) -> None:
        """Without `wait` the receipt of a run that is still stopping says REQUESTED."""
        begun, release = Signal(), Signal()
        served = serve(in_critical(begun, release))
        [run_id] = live(served, "tool")
        begun.wait()
        receipt = served.cancel(run_id)
        assert receipt.outcome == Outcome.CANCEL_OUTCOME_REQUESTED
        assert receipt.run.state == State.RUN_STATE_CANCELLING
        assert receipt.accept_time.seconds
        assert not receipt.HasField("stop_time")
        release.set()
        assert served.wait(run_id).state == State.RUN_STATE_CANCELLED

    def test_promise_02_a_wait_that_is_too_short_says_requested(self, serve: Serve) -> None:
        """A wait that ends before the run does is answered REQUESTED, not STOPPED."""
        begun, release = Signal(), Signal()
        served = serve(in_critical(begun, release))
        [run_id] = live(served, "tool")
        begun.wait()
        receipt = served.cancel(run_id, wait=seconds(0.05))
        assert receipt.outcome == Outcome.CANCEL_OUTCOME_REQUESTED
        release.set()

    @steady
    def test_a_wait_never_outlasts_the_call_s_deadline(self, serve: Serve) -> None:
        """A cancel with a long wait and a short deadline is answered before the deadline."""
        begun, release = Signal(), Signal()
        served = serve(in_critical(begun, release))
        [run_id] = live(served, "tool")
        begun.wait()
        request = v1.CancelRunRequest(run_id=run_id, wait=seconds(600))
        receipt = served.stub.CancelRun(request, timeout=1.0)
        assert receipt.outcome == Outcome.CANCEL_OUTCOME_REQUESTED
        release.set()

    @in_both_modes
    def test_promise_02_a_cancel_after_the_end_changes_nothing(self, serve: Serve) -> None:
        """Of a completed run the receipt says ALREADY_FINISHED, and the run stays as it is."""
        served = serve(echo)
        served.run("echo", "all", run_id="r").end()
        before = served.get("r")
        receipt = served.cancel("r", mode=Mode.CANCEL_MODE_IMMEDIATE, wait=seconds(30))
        assert receipt.outcome == Outcome.CANCEL_OUTCOME_ALREADY_FINISHED
        assert not receipt.HasField("accept_time")
        assert receipt.stop_time == before.end_time
        assert receipt.run == served.get("r") == before

    def test_promise_02_an_accepted_cancel_cancels_code_that_returns_all_the_same(
        self, serve: Serve
    ) -> None:
        """A run whose code returns a whole answer after the cancel was accepted ends CANCELLED."""
        begun = Signal()

        @runnable
        async def stubborn(ctx: RunContext):
            begun.set()
            try:
                await Signal().come()
            except BaseException:
                return {"whole": True}

        served = serve(stubborn)
        stream = served.run("stubborn", run_id="r")
        begun.wait()
        served.cancel("r")
        end = stream.end()
        assert kind_of(end) == "run_cancelled"
        assert not end.run_cancelled.abandoned

    def test_promise_07_the_first_cancel_stands(self, serve: Serve) -> None:
        """A second cancel is answered with the first one's cause, actor, reason and time."""
        begun, release = Signal(), Signal()
        served = serve(in_critical(begun, release))
        [run_id] = live(served, "tool")
        begun.wait()
        first = served.cancel(run_id, reason="first")
        second = served.cancel(run_id, reason="second")
        assert second.run.cancellation == first.run.cancellation
        assert second.accept_time == first.accept_time
        release.set()
        served.wait(run_id)
        third = served.cancel(run_id, reason="third", mode=Mode.CANCEL_MODE_IMMEDIATE)
        assert third.outcome == Outcome.CANCEL_OUTCOME_STOPPED
        assert third.run.cancellation == first.run.cancellation

    def test_promise_07_a_later_immediate_hastens(self, serve: Serve) -> None:
        """IMMEDIATE after GRACEFUL ends a tool call that may have finished, and keeps the words."""
        begun = Signal()
        served = serve(in_critical(begun, Signal()), grace_period=600.0)
        stream = served.run("tool", run_id="r")
        begun.wait()
        served.cancel("r", reason="first")
        receipt = served.cancel(
            "r", reason="now", mode=Mode.CANCEL_MODE_IMMEDIATE, wait=seconds(30)
        )
        assert receipt.outcome == Outcome.CANCEL_OUTCOME_STOPPED
        stop = receipt.run.cancellation
        assert (stop.reason, stop.mode) == ("first", Mode.CANCEL_MODE_IMMEDIATE)
        stream.end()
        assert [kind_of(e) for e in stream.events].count("cancel_requested") == 2

    @in_both_modes
    def test_an_unknown_run_is_not_found(self, serve: Serve) -> None:
        """A cancel of a run that is not there is NOT_FOUND, unless it says before_start."""
        served = serve(echo)
        refused = refusal(lambda: served.cancel("nobody"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
        assert refused.info.metadata["run_id"] == "nobody"
        assert (refused.resource.resource_type, refused.resource.resource_name) == ("run", "nobody")


class TestModes:
    def test_promise_04_graceful_lets_a_tool_call_finish(self, serve: Serve) -> None:
        """GRACEFUL leaves a tool call in flight to finish, and the ledger says COMPLETED."""
        begun, release = Signal(), Signal()
        served = serve(in_critical(begun, release), grace_period=600.0)
        stream = served.run("tool", run_id="r")
        begun.wait()
        served.cancel("r")
        release.set()
        [call] = stream.end().run_cancelled.tool_calls
        assert (call.state, call.result) == (2, "sent")

    @pytest.mark.parametrize("how", ["mode", "grace_period", "default"])
    def test_promise_04_what_may_not_finish_is_interrupted(self, serve: Serve, how: str) -> None:
        """IMMEDIATE, or the end of the grace period, interrupts a tool call; the ledger says so."""
        begun = Signal()
        served = serve(in_critical(begun, Signal()), grace_period=0.05 if how == "default" else 600)
        stream = served.run("tool", run_id="r")
        begun.wait()
        given = {
            "mode": {"mode": Mode.CANCEL_MODE_IMMEDIATE},
            "grace_period": {"grace_period": seconds(0)},
            "default": {},
        }[how]
        receipt = served.cancel("r", wait=seconds(30), **given)
        end = stream.end().run_cancelled
        assert receipt.outcome == Outcome.CANCEL_OUTCOME_STOPPED
        assert [call.state for call in end.tool_calls] == [4]
        assert end.cancellation.mode == Mode.CANCEL_MODE_IMMEDIATE
        assert not end.abandoned

    def test_promise_04_immediate_raises_in_a_sync_run(self, serve: Serve) -> None:
        """IMMEDIATE raises RunInterrupted in the thread of sync code that does not look."""
        begun, seen = Signal(), []

        @runnable
        def computes(ctx: RunContext):
            begun.set()
            try:
                while True:
                    sum(range(100))
            except BaseException as error:
                seen.append(type(error).__name__)
                raise

        served = serve(computes)
        [run_id] = live(served, "computes")
        begun.wait()
        receipt = served.cancel(run_id, mode=Mode.CANCEL_MODE_IMMEDIATE, wait=seconds(30))
        assert receipt.outcome == Outcome.CANCEL_OUTCOME_STOPPED
        assert not receipt.run.abandoned
        assert seen == ["RunInterrupted"]

    def test_promise_04_what_will_not_stop_is_abandoned(self, serve: Serve) -> None:
        """Code that swallows every interrupt is abandoned, is told so, and holds capacity."""
        begun, release = Signal(), Signal()

        @runnable
        def deaf(ctx: RunContext):
            with ctx.tool_call("t", "tool"):
                begun.set()
                release.wait_stubbornly()

        served = serve(deaf, echo, abandon_after=0.1, max_live_runs=1)
        stream = served.run("deaf", run_id="r")
        begun.wait()
        receipt = served.cancel("r", mode=Mode.CANCEL_MODE_IMMEDIATE, wait=seconds(30))
        end = stream.end().run_cancelled
        assert receipt.run.abandoned
        assert end.abandoned
        assert [call.state for call in end.tool_calls] == [5]
        assert refusal(lambda: served.start("echo")).reason == "SERVER_BUSY"
        release.set()
        served.wait_free()
        served.run("echo").end()
        assert served.get("r") == receipt.run


class TestBeforeStart:
    def test_promise_06_a_cancel_may_overtake_its_run(self, serve: Serve) -> None:
        """A run whose cancel came first ends CANCELLED without doing anything."""
        ran = Signal()

        @runnable
        async def marks(input: str):
            ran.set()

        served = serve(marks)
        receipt = served.cancel("r", before_start=True, reason="changed my mind")
        assert receipt.outcome == Outcome.CANCEL_OUTCOME_RECORDED
        assert not receipt.HasField("run")
        assert receipt.accept_time.seconds
        stream = served.run("marks", run_id="r")
        end = stream.end()
        assert end.run_cancelled.cancellation.reason == "changed my mind"
        assert end.run_cancelled.cancellation.accept_time == receipt.accept_time
        assert kind_of(stream.events[0]) == "run_started"
        run = served.get("r")
        assert not run.HasField("start_time")
        assert not ran.is_set()
        late = served.cancel("r")
        assert (late.outcome, late.accept_time) == (
            Outcome.CANCEL_OUTCOME_STOPPED,
            receipt.accept_time,
        )
        assert served.engine.occupied == 0

    @in_both_modes
    def test_promise_06_by_start_run_too(self, serve: Serve) -> None:
        """StartRun of a run whose cancel came first answers with the run, CANCELLED."""
        served = serve(echo)
        served.cancel("r", before_start=True)
        assert served.start("echo", run_id="r").state == State.RUN_STATE_CANCELLED

    @in_both_modes
    def test_promise_07_the_first_of_two_early_cancels_stands(self, serve: Serve) -> None:
        """Two cancels before the run: both are RECORDED, and the first one's words stand."""
        served = serve(echo)
        first = served.cancel("r", before_start=True, reason="first")
        second = served.cancel("r", before_start=True, reason="second")
        assert second == first
        end = served.run("echo", run_id="r").end()
        assert end.run_cancelled.cancellation.reason == "first"

    def test_promise_06_a_pending_run_is_cancelled_without_doing_anything(
        self, serve: Serve
    ) -> None:
        """A run that waits for a worker goes from PENDING straight to CANCELLED."""
        begun, release, ran = Signal(), Signal(), Signal()

        @runnable
        def holds(input: str):
            begun.set()
            release.wait()

        @runnable
        def waits(input: str):
            ran.set()

        served = serve(holds, waits, workers=1)
        live(served, "holds")
        begun.wait()
        stream = served.run("waits", run_id="r")
        stream.until("run_started")
        assert served.get("r").state == State.RUN_STATE_PENDING
        receipt = served.cancel("r")
        assert receipt.outcome == Outcome.CANCEL_OUTCOME_STOPPED
        assert not receipt.HasField("deliver_time")
        assert kind_of(stream.end()) == "run_cancelled"
        release.set()
        assert not ran.is_set()

    @in_both_modes
    def test_promise_11_early_cancels_are_bounded(self, serve: Serve) -> None:
        """More early cancels than the server keeps are refused with SERVER_BUSY and RetryInfo."""
        served = serve(echo, max_tombstones=2)
        served.cancel("a", before_start=True)
        served.cancel("b", before_start=True)
        refused = refusal(lambda: served.cancel("c", before_start=True))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "SERVER_BUSY",
        )
        assert refused.retry.retry_delay.ToNanoseconds() > 0

    @in_both_modes
    def test_promise_06_early_cancels_expire(self, serve: Serve) -> None:
        """A run that comes after its cancel has expired does its work."""
        served = serve(echo, tombstone_ttl=0.001)
        served.cancel("r", before_start=True)
        served.expire()
        assert served.run("echo", "did", run_id="r").end().run_completed.output == "did"


class TestActor:
    @pytest.mark.parametrize(
        ("said", "heard"),
        [
            ("ada", "ada"),
            ("J%C3%BCrgen%20Gro%C3%9F", "Jürgen Groß"),
            ("a%0Ab", "ab"),
            ("%FF", "\ufffd"),
            ("x" * 5000, "x" * 256),
        ],
    )
    def test_who_asked_is_what_the_metadata_says(self, serve: Serve, said: str, heard: str) -> None:
        """The metadata `pullcord-actor`, percent-encoded, is the actor of a cancel."""
        begun = Signal()
        served = serve(speaker(begun))
        [run_id] = live(served, "speaks")
        begun.wait()
        receipt = served.stub.CancelRun(
            v1.CancelRunRequest(run_id=run_id), metadata=[("pullcord-actor", said)]
        )
        assert receipt.run.cancellation.actor == heard

    def test_otherwise_it_is_the_caller_s_address(self, serve: Serve) -> None:
        """Without the metadata the actor is the address that the call came from."""
        begun = Signal()
        served = serve(speaker(begun))
        [run_id] = live(served, "speaks")
        begun.wait()
        assert "127.0.0.1:" in served.cancel(run_id).run.cancellation.actor


class TestCancelRuns:
    def serve_some(self, serve: Serve) -> Served:
        begun = [Signal() for _ in range(4)]

        @runnable(id="speaks")
        async def speaks(input: str):
            begun[int(input)].set()
            await Signal().come()

        served = serve(speaks, echo)
        of = {"session_id": "s1", "user_id": "ada"}
        served.start("speaks", "0", run_id="r0", labels={"team": "a"}, **of)
        served.start("speaks", "1", run_id="r1", labels={"team": "a", "x": "y"}, **of)
        served.start("speaks", "2", run_id="r2", session_id="s2", user_id="ada")
        served.start("speaks", "3", run_id="r3", session_id="s3", user_id="bob")
        served.start("echo", run_id="done", **of)
        served.wait("done")
        for signal in begun:
            signal.wait()
        return served

    @pytest.mark.parametrize(
        ("matching", "matched"),
        [
            ({"session_id": "s1"}, ["r1", "r0"]),
            ({"user_id": "ada"}, ["r2", "r1", "r0"]),
            ({"user_id": "ada", "session_id": "s2"}, ["r2"]),
            ({"runnable": "agents/speaks"}, ["r3", "r2", "r1", "r0"]),
            ({"labels": {"team": "a"}}, ["r1", "r0"]),
            ({"labels": {"team": "a", "x": "y"}}, ["r1"]),
            ({"labels": {"team": "b"}}, []),
        ],
    )
    def test_it_stops_every_live_run_that_matches_and_no_other(
        self, serve: Serve, matching: dict, matched: list[str]
    ) -> None:
        """CancelRuns stops the live runs that match all fields, and lists the newest first."""
        served = self.serve_some(serve)
        tried = served.stub.CancelRuns(v1.CancelRunsRequest(validate_only=True, **matching))
        assert [(r.run_id, r.outcome) for r in tried.results] == [(r, 0) for r in matched]
        assert all(not served.get(r).HasField("cancellation") for r in ("r0", "r1", "r2", "r3"))
        done = served.stub.CancelRuns(
            v1.CancelRunsRequest(reason="clean up", mode=Mode.CANCEL_MODE_IMMEDIATE, **matching)
        )
        assert [r.run_id for r in done.results] == matched
        assert {r.outcome for r in done.results} <= {
            Outcome.CANCEL_OUTCOME_REQUESTED,
            Outcome.CANCEL_OUTCOME_STOPPED,
        }
        for run_id in ("r0", "r1", "r2", "r3"):
            if run_id in matched:
                assert served.wait(run_id).cancellation.reason == "clean up"
            else:
                assert served.get(run_id).state == State.RUN_STATE_RUNNING
        assert served.get("done").state == State.RUN_STATE_COMPLETED

    def test_an_empty_filter_is_refused(self, serve: Serve) -> None:
        """A filter without any field is INVALID_ARGUMENT: it would stop everything."""
        served = self.serve_some(serve)
        refused = refusal(lambda: served.stub.CancelRuns(v1.CancelRunsRequest(reason="all")))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.fields == ["session_id", "user_id", "runnable", "labels"]
        assert served.get("r0").state == State.RUN_STATE_RUNNING

    def test_more_than_max_affected_stops_nothing(self, serve: Serve) -> None:
        """Where more runs match than max_affected, none is stopped; the status says how many."""
        served = self.serve_some(serve)
        request = v1.CancelRunsRequest(user_id="ada", max_affected=2)
        refused = refusal(lambda: served.stub.CancelRuns(request))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "TOO_MANY_AFFECTED",
        )
        assert dict(refused.info.metadata) == {"matched": "3", "allowed": "2"}
        assert all(not served.get(r).HasField("cancellation") for r in ("r0", "r1", "r2"))


@in_both_modes
def test_promise_02_in_a_thousand_races_the_receipt_is_true(serve: Serve) -> None:
    """Where completion and a cancel race, the receipt and the run's end never contradict."""
    served = serve(echo, max_live_runs=5000)
    rounds = 250

    def race(lane: int) -> None:
        for number in range(rounds):
            run_id = f"r{lane}-{number}"
            call = served.stub.Run(v1.RunRequest(spec=make_spec("echo", run_id=run_id)))
            receipt = served.cancel(run_id, before_start=True, wait=seconds(30))
            *_, last = call
            kind = kind_of(last.event)
            if receipt.outcome == Outcome.CANCEL_OUTCOME_ALREADY_FINISHED:
                wanted = "run_completed"
            else:
                wanted = "run_cancelled"
            if kind != wanted:
                wrong.append((run_id, receipt.outcome, kind))

    wrong: list[tuple[str, int, str]] = []
    lanes = [threading.Thread(target=race, args=(lane,)) for lane in range(4)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    assert wrong == []
