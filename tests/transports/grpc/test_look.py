"""GetRun, WaitRun and ListRuns: a run in every state, and lists in pages."""

import grpc
import pytest
from pullcord import RunContext, runnable
from pullcord.run.cancel import CancelMode

from tests.engine.driving import live_run
from tests.steady import steady
from tests.transports.harness import (
    Outcome,
    Serve,
    Served,
    Signal,
    State,
    in_both_modes,
    refusal,
    seconds,
    v1,
)


@runnable
async def echo(input: str) -> str:
    return input


@runnable
def fails(input: str):
    yield "some"
    raise KeyError("it")


class TestGetRun:
    def test_a_run_at_each_state(self, serve: Serve) -> None:
        """GetRun shows a run PENDING, RUNNING, CANCELLING and CANCELLED, with what it has made."""
        holds, begun, release, go = Signal(), Signal(), Signal(), Signal()

        @runnable
        def holder(input: str):
            holds.set()
            go.wait()

        @runnable
        def works(ctx: RunContext):
            with ctx.tool_call("t", "tool", "{}"):
                ctx.write("some")
                begun.set()
                release.wait()

        served = serve(holder, works, workers=1, grace_period=600)
        served.start("holder")
        holds.wait()
        served.start("works", run_id="r", input="in", labels={"a": "b"})
        run = served.get("r")
        assert (run.state, run.input, dict(run.labels)) == (
            State.RUN_STATE_PENDING,
            "in",
            {"a": "b"},
        )
        assert not run.HasField("start_time")
        go.set()
        begun.wait()
        run = served.get("r")
        assert (run.state, run.output) == (State.RUN_STATE_RUNNING, "some")
        assert [call.state for call in run.tool_calls] == [1]
        assert run.start_time.ToNanoseconds() >= run.create_time.ToNanoseconds()
        assert run.last_sequence == 3
        served.cancel("r")
        run = served.get("r")
        assert run.state == State.RUN_STATE_CANCELLING
        assert run.HasField("cancellation")
        assert not run.HasField("end_time")
        release.set()
        run = served.wait("r")
        assert (run.state, run.output) == (State.RUN_STATE_CANCELLED, "some")
        assert run.expire_time.ToSeconds() > run.end_time.ToSeconds()
        assert run == served.get("r")

    @in_both_modes
    def test_promise_03_a_failed_run_keeps_its_output(self, serve: Serve) -> None:
        """GetRun of a run that failed shows the error's class and words beside the output."""
        served = serve(fails)
        served.start("fails", run_id="r")
        run = served.wait("r")
        assert (run.state, run.output) == (State.RUN_STATE_FAILED, "some")
        assert (run.error.type, run.error.message) == ("KeyError", "'it'")

    @in_both_modes
    def test_an_unknown_or_forgotten_run_is_not_found(self, serve: Serve) -> None:
        """A run that never was, or whose retention is over, is NOT_FOUND."""
        served = serve(echo, max_finished_runs=1)
        for run_id in ("old", "new"):
            served.start("echo", run_id=run_id)
            served.wait(run_id)
        for run_id in ("old", "never"):
            refused = refusal(lambda r=run_id: served.get(r))
            assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
            assert refused.resource.resource_name == run_id
        assert served.get("new").state == State.RUN_STATE_COMPLETED


class TestWaitRun:
    def serve_one(self, serve: Serve, go: Signal) -> Served:
        @runnable
        async def waits(ctx: RunContext):
            ctx.write("made")
            await go.come()

        served = serve(waits, echo)
        served.start("waits", run_id="r")
        return served

    def test_it_answers_when_the_run_has_ended(self, serve: Serve) -> None:
        """WaitRun without a timeout answers with the ended run, however many wait."""
        go = Signal()
        served = self.serve_one(serve, go)
        waits = [served.stub.WaitRun.future(v1.WaitRunRequest(run_id="r")) for _ in range(20)]
        assert not any(call.done() for call in waits)
        go.set()
        assert {call.result(30).run.state for call in waits} == {State.RUN_STATE_COMPLETED}
        answer = served.stub.WaitRun(v1.WaitRunRequest(run_id="r", timeout=seconds(0)))
        assert answer.run.output == "made"

    def test_promise_07_it_answers_though_the_run_is_forgotten_by_then(self, serve: Serve) -> None:
        """Who waits for runs that end together gets each end, however few of them are kept."""

        @runnable
        async def holds(ctx: RunContext):
            with ctx.critical():
                await Signal().come()

        served = serve(holds, max_finished_runs=1, grace_period=600)
        ids = [f"r{n}" for n in range(30)]
        for run_id in ids:
            served.start("holds", run_id=run_id)
            served.until(lambda run_id=run_id: served.get(run_id).state == State.RUN_STATE_RUNNING)
        waits = [served.stub.WaitRun.future(v1.WaitRunRequest(run_id=run_id)) for run_id in ids]
        cancels = [
            served.stub.CancelRun.future(v1.CancelRunRequest(run_id=run_id, wait=seconds(600)))
            for run_id in ids
        ]
        served.until(lambda: all(live_run(served.engine, r).ending.waiting == 2 for r in ids))
        served.engine.shut_down_runs(CancelMode.IMMEDIATE)
        assert {call.result(30).run.state for call in waits} == {State.RUN_STATE_CANCELLED}
        assert {call.result(30).outcome for call in cancels} == {Outcome.CANCEL_OUTCOME_STOPPED}

    @pytest.mark.parametrize("timeout", [0, 0.05])
    def test_a_timeout_answers_with_the_run_as_it_is(self, serve: Serve, timeout: float) -> None:
        """When the timeout is over WaitRun answers OK with a run that has not ended."""
        go = Signal()
        served = self.serve_one(serve, go)
        answer = served.stub.WaitRun(v1.WaitRunRequest(run_id="r", timeout=seconds(timeout)))
        assert answer.run.state in {State.RUN_STATE_RUNNING, State.RUN_STATE_PENDING}
        go.set()

    @steady
    def test_it_answers_before_the_call_s_deadline(self, serve: Serve) -> None:
        """With a deadline that is shorter than the timeout, WaitRun answers before it, with OK."""
        go = Signal()
        served = self.serve_one(serve, go)
        request = v1.WaitRunRequest(run_id="r", timeout=seconds(600))
        assert not served.stub.WaitRun(request, timeout=1.0).run.HasField("end_time")
        go.set()

    def test_who_stops_waiting_leaves_nothing_behind(self, serve: Serve) -> None:
        """A wait that its caller cancels is forgotten, and the run goes on."""
        go = Signal()
        served = self.serve_one(serve, go)
        calls = [served.stub.WaitRun.future(v1.WaitRunRequest(run_id="r")) for _ in range(10)]
        served.until(lambda: served.engine.remains().waiting == 10)
        for call in calls:
            call.cancel()
        served.until(lambda: served.engine.remains().waiting == 0)
        go.set()
        assert served.wait("r").state == State.RUN_STATE_COMPLETED

    @in_both_modes
    def test_an_unknown_run_cannot_be_waited_for(self, serve: Serve) -> None:
        """WaitRun of a run that is not there is NOT_FOUND at once."""
        refused = refusal(lambda: serve(echo).stub.WaitRun(v1.WaitRunRequest(run_id="nobody")))
        assert refused.reason == "RUN_NOT_FOUND"


class TestListRuns:
    @pytest.mark.parametrize(
        ("matching", "found"),
        [
            ({}, ["live", "r3", "r2", "r1", "r0"]),
            ({"session_id": "s1"}, ["r1", "r0"]),
            ({"user_id": "ada"}, ["r2", "r1", "r0"]),
            ({"user_id": "ada", "session_id": "s2"}, ["r2"]),
            ({"runnable": "agents/fails"}, ["r3"]),
            ({"states": [State.RUN_STATE_COMPLETED]}, ["r2", "r1", "r0"]),
            ({"states": [State.RUN_STATE_FAILED, State.RUN_STATE_RUNNING]}, ["live", "r3"]),
            ({"labels": {"k": "v"}}, ["live", "r1"]),
            ({"labels": {"k": "other"}}, []),
            ({"parent_run_id": "none"}, []),
        ],
    )
    def test_it_lists_what_matches_every_field(
        self, serve: Serve, matching: dict, found: list[str]
    ) -> None:
        """ListRuns lists live and ended runs that match every field, the newest first."""
        begun = Signal()

        @runnable
        async def waits(input: str):
            begun.set()
            await Signal().come()

        served = serve(echo, fails, waits)
        for runnable_, run_id, spec in (
            ("echo", "r0", {"session_id": "s1", "user_id": "ada"}),
            ("echo", "r1", {"session_id": "s1", "user_id": "ada", "labels": {"k": "v"}}),
            ("echo", "r2", {"session_id": "s2", "user_id": "ada"}),
            ("fails", "r3", {}),
        ):
            served.start(runnable_, "long text", run_id=run_id, **spec)
            served.wait(run_id)
        served.start("waits", run_id="live", labels={"k": "v"})
        begun.wait()
        answer = served.list(**matching)
        assert [run.run_id for run in answer.runs] == found
        assert not answer.next_page_token
        assert all(not (run.output or run.input) for run in answer.runs)

    def test_pages_neither_repeat_nor_miss(self, serve: Serve) -> None:
        """Runs that come, end and go between two pages neither shift nor repeat the others."""
        gates = {f"r{n}": Signal() for n in range(20)}

        @runnable
        async def waits(ctx: RunContext):
            await gates[ctx.run_id].come()

        served = serve(waits, echo)
        for run_id in gates:
            served.start("waits", run_id=run_id)
        seen: list[str] = []
        token = ""
        for number in range(7):
            page = served.list(page_size=3, page_token=token)
            seen += [run.run_id for run in page.runs]
            token = page.next_page_token
            served.run("echo", run_id=f"new{number}").end()
            gates[f"r{number}"].set()
            gates[f"r{19 - number}"].set()
            served.wait(f"r{number}")
            served.wait(f"r{19 - number}")
        assert seen == [f"r{n}" for n in reversed(range(20))]
        assert token == ""

    @in_both_modes
    @pytest.mark.parametrize("token", ["?", "AAAA", "e30=", "WzEsMiwzXQ==", "[1,2,3]", "W10=", "ü"])
    def test_a_token_that_is_none_is_refused(self, serve: Serve, token: str) -> None:
        """A page_token that no list gave is INVALID_ARGUMENT."""
        refused = refusal(lambda: serve(echo).list(page_token=token))
        assert (refused.code, refused.fields) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            ["page_token"],
        )

    @in_both_modes
    def test_a_token_of_another_list_is_refused(self, serve: Serve) -> None:
        """A page_token goes with the filter it was given for; the page_size may change."""
        served = serve(echo)
        for number in range(3):
            served.run("echo", run_id=f"r{number}", user_id="ada").end()
        token = served.list(user_id="ada", page_size=1).next_page_token
        assert [r.run_id for r in served.list(user_id="ada", page_token=token).runs] == ["r1", "r0"]
        assert refusal(lambda: served.list(page_token=token)).fields == ["page_token"]

    @in_both_modes
    def test_sizes_of_pages_are_bounded(self, serve: Serve) -> None:
        """page_size is 0 to 1000."""
        served = serve(echo)
        served.run("echo").end()
        assert len(served.list(page_size=1000).runs) == 1
        for size in (-1, 1001, 2**31 - 1):
            assert refusal(lambda s=size: served.list(page_size=s)).fields == ["page_size"]
