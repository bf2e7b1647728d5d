"""Run and StartRun: how runs begin, are followed, and are found again."""

import grpc
from pullcord import RunContext, runnable

from tests.steady import steady
from tests.transports.harness import (
    PATIENCE,
    Serve,
    Signal,
    State,
    in_both_modes,
    kind_of,
    make_spec,
    numbered,
    refusal,
    seconds,
    until,
    v1,
)


@runnable(id="echo", description="Says it again.")
def echo(input: str) -> str:
    return input


@runnable
async def letters(input: str):
    for letter in input:
        yield letter


@runnable(id="fails")
def fails(input: str):
    yield "so far, "
    raise ValueError(input)


class TestRun:
    @in_both_modes
    def test_a_run_is_followed_from_run_started_to_its_end(self, serve: Serve) -> None:
        """Run streams the run's events, run_started first, and ends OK after the terminal one."""
        stream = serve(echo).run("echo", "hello", run_id="r1")
        end = stream.end()
        assert [kind_of(e) for e in stream.events] == [
            "run_started",
            "content_delta",
            "run_completed",
        ]
        assert stream.events[0].run_started.runnable == "agents/echo"
        assert {event.run_id for event in stream.events} == {"r1"}
        assert end.run_completed.output == stream.text() == "hello"

    @in_both_modes
    def test_the_server_mints_a_run_id_where_the_client_did_not(self, serve: Serve) -> None:
        """A run without a run_id gets one, which run_started carries."""
        served = serve(echo)
        first, second = served.run("echo"), served.run("echo")
        first.end(), second.end()
        assert first.events[0].run_id
        assert first.events[0].run_id != second.events[0].run_id
        assert served.get(first.events[0].run_id).state == State.RUN_STATE_COMPLETED

    @in_both_modes
    def test_sequences_rise_by_one_for_each_event(self, serve: Serve) -> None:
        """A message that merges deltas carries the last one's number and says how many it holds."""
        stream = serve(letters).run("letters", "abcdefgh")
        stream.end()
        made = 0
        for event in stream.events:
            made += event.content_delta.count or 1
            assert event.sequence == made
        assert made == 8 + 2

    @in_both_modes
    def test_a_failed_run_is_no_failed_call(self, serve: Serve) -> None:
        """A run that raises ends its stream with run_failed and status OK, and keeps its output."""
        stream = serve(fails).run("fails", "wrong word")
        end = stream.end()
        assert (end.run_failed.error.type, end.run_failed.error.message) == (
            "ValueError",
            "wrong word",
        )
        assert end.run_failed.output == "so far, "

    @steady
    def test_a_run_with_a_timeout_of_its_own_ends_by_it(self, serve: Serve) -> None:
        """limits.timeout ends a run with cause BUDGET, and the event says which limit."""

        @runnable
        async def forever(input: str):
            yield "begun"
            await Signal().come()

        end = serve(forever).run("forever", limits={"timeout": seconds(0.3)}).end()
        assert end.run_cancelled.cancellation.limit == "timeout"
        assert end.run_cancelled.output == "begun"

    def test_structured_input_and_output_travel(self, serve: Serve) -> None:
        """input_data reaches the code as plain data, and a returned mapping is output_data."""

        @runnable
        def swap(input_data: dict[str, object] | None):
            assert input_data is not None
            return {str(value): key for key, value in input_data.items()}

        served = serve(swap)
        end = served.run("swap", input_data={"a": 1, "b": None}, run_id="r").end()
        assert dict(end.run_completed.output_data) == {"1": "a", "None": "b"}
        assert dict(served.get("r").output_data) == {"1": "a", "None": "b"}


class TestStartRun:
    def test_it_answers_at_once_and_the_run_goes_on(self, serve: Serve) -> None:
        """StartRun answers with the run before it has ended, and nobody needs to follow it."""
        go = Signal()

        @runnable
        async def waits(input: str):
            await go.come()
            yield "done"

        served = serve(waits)
        run = served.start("waits", "x", session_id="s", user_id="u@x", labels={"k": "v"})
        assert run.state in {State.RUN_STATE_PENDING, State.RUN_STATE_RUNNING}
        assert (run.runnable, run.input, run.session_id, run.user_id, dict(run.labels)) == (
            "agents/waits",
            "x",
            "s",
            "u@x",
            {"k": "v"},
        )
        assert run.create_time.seconds
        assert not run.HasField("end_time")
        go.set()
        ended = served.wait(run.run_id)
        assert (ended.state, ended.output) == (State.RUN_STATE_COMPLETED, "done")
        assert ended.expire_time.seconds > ended.end_time.seconds

    def test_the_call_s_deadline_is_not_the_run_s(self, serve: Serve) -> None:
        """A deadline of StartRun is for the call: the run goes on after it."""
        go = Signal()

        @runnable
        async def waits(ctx: RunContext):
            assert ctx.cancel_token.time_remaining() is None
            await go.come()

        served = serve(waits)
        request = v1.StartRunRequest(spec=make_spec("waits"))
        run = served.stub.StartRun(request, timeout=PATIENCE).run
        go.set()
        assert served.wait(run.run_id).state == State.RUN_STATE_COMPLETED


class TestAgain:
    """The same run_id again."""

    def test_a_retry_starts_nothing_twice(self, serve: Serve) -> None:
        """Run and StartRun with an existing run's run_id and spec attach to it, live or ended."""
        begun, go, times = Signal(), Signal(), []

        @runnable
        async def once(input: str):
            times.append(input)
            begun.set()
            await go.come()
            yield "made once"

        served = serve(once)
        first = served.run("once", "i", run_id="r")
        first.until("run_started")
        begun.wait()
        second = served.run("once", "i", run_id="r")
        second.until("run_started")
        assert served.start("once", "i", run_id="r").state == State.RUN_STATE_RUNNING
        go.set()
        assert first.end() == second.end()
        third = served.run("once", "i", run_id="r")
        third.end()
        assert list(numbered(third.events)) == list(numbered(first.events))
        assert served.start("once", "i", run_id="r").output == "made once"
        assert times == ["i"]

    def test_another_spec_under_the_same_run_id_is_refused(self, serve: Serve) -> None:
        """The run_id of a run with another spec is ALREADY_EXISTS, as long as it is kept."""
        go = Signal()

        @runnable
        async def waits(input: str):
            await go.come()

        served = serve(waits, echo)
        served.start("waits", "one", run_id="r")
        others = (
            make_spec("waits", "two", run_id="r"),
            make_spec("echo", "one", run_id="r"),
            make_spec("waits", "one", run_id="r", labels={"a": "b"}),
        )
        for spec in others:
            refused = refusal(lambda s=spec: served.stub.StartRun(v1.StartRunRequest(spec=s)))
            assert (refused.code, refused.reason) == (
                grpc.StatusCode.ALREADY_EXISTS,
                "RUN_EXISTS",
            )
            assert refused.info.metadata["run_id"] == refused.resource.resource_name == "r"
        go.set()
        served.wait("r")
        refused = refusal(lambda: served.run("waits", "two", run_id="r").rest())
        assert refused.reason == "RUN_EXISTS"

    def test_the_first_call_s_policy_stands(self, serve: Serve) -> None:
        """A retry by Run of a run started by StartRun does not make it end with its watcher."""
        go = Signal()

        @runnable
        async def waits(input: str):
            await go.come()
            yield "went on"

        served = serve(waits)
        served.start("waits", run_id="r")
        stream = served.run("waits", run_id="r")
        stream.until("run_started")
        stream.call.cancel()
        until(lambda: served.watchers("r") == 0)
        go.set()
        assert served.wait("r").output == "went on"


class TestListRunnables:
    @in_both_modes
    def test_it_says_what_is_on_offer(self, serve: Serve) -> None:
        """ListRunnables lists every runnable in order of name, with the author's description."""
        found = serve(letters, echo).stub.ListRunnables(v1.ListRunnablesRequest()).runnables
        assert [(r.name, r.id, r.description) for r in found] == [
            ("agents/echo", "echo", "Says it again."),
            ("agents/letters", "letters", ""),
        ]

    @in_both_modes
    def test_a_runnable_that_is_not_on_offer_is_not_found(self, serve: Serve) -> None:
        """A spec that names something else is NOT_FOUND, RUNNABLE_NOT_FOUND, with its name."""
        refused = refusal(lambda: serve(echo).run("agents/other").rest())
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.NOT_FOUND,
            "RUNNABLE_NOT_FOUND",
        )
        assert refused.info.metadata["runnable"] == "agents/other"
        assert (refused.resource.resource_type, refused.resource.resource_name) == (
            "runnable",
            "agents/other",
        )
