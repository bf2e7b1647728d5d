"""ContinueRun and session policies over gRPC: what a real client sees of a run that waits."""

import contextlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.message import Message
from pullcord import RunContext, runnable
from pullcord.client import AsyncRunClient, RunClient
from pullcord.run import errors
from pullcord.run.events import RunPaused, ToolCall, ToolCallState
from pullcord.run.record import Decision, SessionPolicy
from pullcord.run.state import RunState
from pullcord.v1 import run_pb2

from tests.transports.harness import (
    PATIENCE,
    Cause,
    Policy,
    Serve,
    Served,
    Signal,
    State,
    in_both_modes,
    kind_of,
    refusal,
    seconds,
    v1,
)

CallState = run_pb2.ToolCallState
Session = run_pb2.SessionPolicy
YES = v1.Decision(tool_call_id="pay", approved=True)


@runnable
async def asking(ctx: RunContext):
    (decision,) = await ctx.ask("May pay be called?", [ToolCall("pay", "pay", '{"amount": 1}')])
    yield f"{decision.approved} {decision.answer} {decision.note}"


@runnable
async def leading(ctx: RunContext):
    run = await ctx.start(asking).wait()
    yield run.output


def go_on(served: Served, run_id: str, *decisions: v1.Decision) -> run_pb2.Run:
    request = v1.ContinueRunRequest(run_id=run_id, decisions=decisions)
    return served.stub.ContinueRun(request, timeout=PATIENCE).run


def paused(served: Served, run_id: str) -> None:
    """Waits until the run asks, as a watcher of its own."""
    stream = served.watch(run_id)
    stream.until("run_paused")
    stream.call.cancel()


class TestContinuing:
    @in_both_modes
    def test_a_run_pauses_and_goes_on(self, serve: Serve) -> None:
        """The stream shows what is asked, by whom it was decided, and what came of it."""
        served = serve(asking)
        stream = served.run("asking", run_id="r")
        asked = stream.until("run_paused").run_paused
        assert asked.question == "May pay be called?"
        (call,) = asked.tool_calls
        assert (call.tool_call_id, call.state) == ("pay", CallState.TOOL_CALL_STATE_WAITING)
        assert call.arguments == '{"amount": 1}'
        run = served.get("r")
        assert run.state == State.RUN_STATE_PAUSED
        assert list(run.tool_calls) == [call]
        metadata = [("pullcord-actor", "ann")]
        request = v1.ContinueRunRequest(run_id="r", decisions=[YES])
        answer = served.stub.ContinueRun(request, metadata=metadata, timeout=PATIENCE)
        assert answer.run.state == State.RUN_STATE_RUNNING
        assert stream.end().run_completed.output == "True None "
        (continued,) = [e.run_continued for e in stream.events if kind_of(e) == "run_continued"]
        assert continued.actor == "ann"

    @in_both_modes
    def test_who_does_not_say_its_name_is_known_by_its_address(self, serve: Serve) -> None:
        """Without pullcord-actor the one who decided is the caller's address."""
        served = serve(asking)
        stream = served.run("asking", run_id="r")
        stream.until("run_paused")
        go_on(served, "r", YES)
        assert stream.until("run_continued").run_continued.actor.startswith("ipv4:127.0.0.1:")
        stream.end()

    @in_both_modes
    @pytest.mark.parametrize(
        ("decision", "output", "state"),
        [
            (YES, "True None ", CallState.TOOL_CALL_STATE_DECLINED),
            (
                v1.Decision(tool_call_id="pay", note="no"),
                "False None no",
                CallState.TOOL_CALL_STATE_DECLINED,
            ),
            (
                v1.Decision(tool_call_id="pay", answer="42"),
                "False 42 ",
                CallState.TOOL_CALL_STATE_COMPLETED,
            ),
            (
                v1.Decision(tool_call_id="pay", answer=""),
                "False  ",
                CallState.TOOL_CALL_STATE_COMPLETED,
            ),
        ],
        ids=["approved-but-not-executed", "declined", "answered", "empty-answer"],
    )
    def test_each_kind_of_decision_arrives(
        self, serve: Serve, decision: v1.Decision, output: str, state: int
    ) -> None:
        """Approval, note and answer come to the run's code; an empty answer is an answer."""
        served = serve(asking)
        served.start("asking", run_id="r")
        paused(served, "r")
        go_on(served, "r", decision)
        run = served.wait("r")
        assert run.output == output
        assert [call.state for call in run.tool_calls] == [state]

    @in_both_modes
    def test_what_is_asked_survives_a_client_that_reconnects(self, serve: Serve) -> None:
        """A client that lost its line finds the question by watching and by asking for the run,
        and its decision reaches a run that nobody watches."""
        served = serve(asking)
        policy = Policy.DISCONNECT_POLICY_LEASE
        first = served.run("asking", run_id="r", on_disconnect=policy, lease=seconds(60))
        sequence = first.until("run_paused").sequence
        first.call.cancel()
        served.until(lambda: served.watchers("r") == 0)
        assert served.get("r").state == State.RUN_STATE_PAUSED
        again = served.watch("r", sequence - 1)
        assert kind_of(again.next()) == "run_paused"
        again.call.cancel()
        served.until(lambda: served.watchers("r") == 0)
        go_on(served, "r", YES)
        assert served.wait("r").output == "True None "
        rest = [kind_of(event) for event in served.watch("r", sequence).rest()]
        assert rest[0] == "run_continued"
        assert rest[-1] == "run_completed"

    @in_both_modes
    def test_a_member_is_continued_by_its_own_run(self, serve: Serve) -> None:
        """In the root's stream the question bears the member's run_id; the root stays RUNNING."""
        served = serve(leading, asking)
        stream = served.run("leading", run_id="root")
        event = stream.until("run_paused")
        member = event.source.run_id
        assert [call.run_id for call in event.run_paused.tool_calls] == [member]
        assert served.get("root").state == State.RUN_STATE_RUNNING
        assert [call.run_id for call in served.get("root").tool_calls] == [member]
        refused = refusal(lambda: go_on(served, "root", YES))
        assert (refused.reason, refused.info.metadata["state"]) == ("RUN_NOT_PAUSED", "RUNNING")
        go_on(served, member, YES)
        assert stream.rest()[-1].run_completed.output == "True None "


class TestRefusals:
    @in_both_modes
    def test_every_wrong_field_is_named(self, serve: Serve) -> None:
        """What is wrong with a request is told at once, by path, before any run is looked for."""
        request = v1.ContinueRunRequest(
            run_id="no such id",
            decisions=[
                v1.Decision(),
                YES,
                v1.Decision(tool_call_id="pay", note="x" * 2000, answer="y" * 2_000_000),
            ],
        )
        refused = refusal(lambda: serve(asking).stub.ContinueRun(request))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert sorted(refused.fields) == [
            "decisions[0].tool_call_id",
            "decisions[2].answer",
            "decisions[2].note",
            "decisions[2].tool_call_id",
            "run_id",
        ]

    @in_both_modes
    def test_decisions_must_be_those_that_are_asked_for(self, serve: Serve) -> None:
        """An unknown call is named by its place, a missing decision by the call."""
        served = serve(asking)
        served.start("asking", run_id="r")
        paused(served, "r")
        other = v1.Decision(tool_call_id="other")
        assert refusal(lambda: go_on(served, "r", YES, other)).fields == [
            "decisions[1].tool_call_id"
        ]
        refused = refusal(lambda: go_on(served, "r"))
        assert refused.fields == ["decisions"]
        assert "pay" in refused.words
        go_on(served, "r", YES)
        served.wait("r")

    @in_both_modes
    def test_a_run_that_does_not_wait(self, serve: Serve) -> None:
        """RUN_NOT_PAUSED is FAILED_PRECONDITION; it has the state, and says what was repeated."""
        served = serve(asking)
        assert refusal(lambda: go_on(served, "none", YES)).reason == "RUN_NOT_FOUND"
        served.start("asking", run_id="r")
        paused(served, "r")
        go_on(served, "r", YES)
        served.wait("r")
        refused = refusal(lambda: go_on(served, "r", YES))
        assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
        assert refused.reason == "RUN_NOT_PAUSED"
        assert refused.info.metadata == {"run_id": "r", "state": "COMPLETED", "repeated": "true"}
        assert "already" in refused.words
        refused = refusal(lambda: go_on(served, "r", v1.Decision(tool_call_id="pay")))
        assert refused.info.metadata == {"run_id": "r", "state": "COMPLETED"}

    @in_both_modes
    def test_a_cancelled_run_is_never_continued(self, serve: Serve) -> None:
        """After a cancel, also one that was accepted only just now, no decision is taken."""
        served = serve(asking)
        served.start("asking", run_id="r")
        paused(served, "r")
        receipt = served.cancel("r", wait=seconds(30))
        assert receipt.run.state == State.RUN_STATE_CANCELLED
        assert [c.state for c in receipt.run.tool_calls] == [CallState.TOOL_CALL_STATE_DECLINED]
        refused = refusal(lambda: go_on(served, "r", YES))
        assert refused.info.metadata["state"] == "CANCELLED"

    @in_both_modes
    def test_any_decisions_get_an_answer_with_details(self, serve: Serve) -> None:
        """Whatever is sent to a paused run is taken, or refused with what is wrong."""
        served = serve(asking)
        chance = random.Random(7)
        ids = ["", "pay", "x", "\0", "pay ", "ü" * 3000]
        for round_ in range(150):
            run_id = f"r{round_ // 10}"
            with contextlib.suppress(grpc.RpcError):
                if not round_ % 10:
                    served.start("asking", run_id=run_id)
                    paused(served, run_id)
            request = v1.ContinueRunRequest(run_id=run_id)
            for _ in range(chance.choice([0, 1, 1, 2, 300])):
                made: Message = request.decisions.add(
                    tool_call_id=chance.choice(ids), approved=chance.random() < 0.5
                )
                if chance.random() < 0.3:
                    made.answer = chance.choice(["", "a", "b" * 10_000])  # type: ignore[attr-defined]
            try:
                served.stub.ContinueRun(request, timeout=PATIENCE)
            except grpc.RpcError as error:
                refused = refusal(lambda error=error: (_ for _ in ()).throw(error))
                assert refused.reason in {"INVALID_ARGUMENT", "RUN_NOT_PAUSED"}
                assert refused.reason != "INVALID_ARGUMENT" or refused.fields
        for round_ in range(15):
            served.cancel(f"r{round_}", wait=seconds(30))


class TestClients:
    @in_both_modes
    def test_the_blocking_client(self, serve: Serve) -> None:
        """RunClient.continue_run brings decisions, and raises RunNotPaused as the server does."""
        served = serve(asking)
        with RunClient(served.address, actor="ann") as client:
            stream = client.run("agents/asking", run_id="r")
            for event in stream:
                if isinstance(event.payload, RunPaused):
                    (call,) = event.payload.tool_calls
                    assert call.state is ToolCallState.WAITING
                    assert client.get("r").state is RunState.PAUSED
                    run = client.continue_run("r", [Decision(call.tool_call_id, answer="")])
                    assert run.run_id == "r"
            assert stream.result is not None
            assert stream.result.output == "False  "
            with pytest.raises(errors.RunNotPaused) as refused:
                client.continue_run("r", [Decision("pay", answer="")])
            assert (refused.value.state, refused.value.repeated) == (RunState.COMPLETED, True)

    @in_both_modes
    async def test_the_asyncio_client(self, serve: Serve) -> None:
        """AsyncRunClient.continue_run does the same."""
        served = serve(asking)
        async with AsyncRunClient(served.address) as client:
            async with client.run("agents/asking", run_id="r") as stream:
                async for event in stream:
                    if isinstance(event.payload, RunPaused):
                        await client.continue_run("r", [Decision("pay", approved=True)])
            assert stream.result is not None
            assert stream.result.output == "True None "
            with pytest.raises(errors.RunNotPaused):
                await client.continue_run("r", [Decision("pay")])

    @in_both_modes
    def test_of_two_clients_one_decides(self, serve: Serve) -> None:
        """Two clients decide at once: one is taken, the other told that the run goes on."""
        served = serve(asking)
        with RunClient(served.address) as one, RunClient(served.address) as other:
            for round_ in range(20):
                run_id = f"r{round_}"
                served.start("asking", run_id=run_id)
                paused(served, run_id)
                barrier = threading.Barrier(2)

                def decide(
                    client: RunClient, run_id: str = run_id, barrier: threading.Barrier = barrier
                ) -> bool:
                    barrier.wait()
                    try:
                        client.continue_run(run_id, [Decision("pay", answer=str(id(client)))])
                    except errors.RunNotPaused as refused:
                        return refused.repeated
                    return True

                with ThreadPoolExecutor(2) as pool:
                    assert sorted(pool.map(decide, [one, other])) == [False, True]
                served.wait(run_id)


class TestSessions:
    @in_both_modes
    def test_a_busy_session_rejects(self, serve: Serve) -> None:
        """SESSION_BUSY is ABORTED, and names the session and the run that it is busy with."""
        served = serve(asking)
        served.start("asking", run_id="a", session_id="s")
        reject = Session.SESSION_POLICY_REJECT
        refused = refusal(
            lambda: served.start("asking", run_id="b", session_id="s", session_policy=reject)
        )
        assert refused.code is grpc.StatusCode.ABORTED
        assert refused.reason == "SESSION_BUSY"
        assert refused.info.metadata == {"session_id": "s", "run_id": "a"}
        assert refusal(lambda: served.get("b")).reason == "RUN_NOT_FOUND"
        served.cancel("a", wait=seconds(30))

    @in_both_modes
    def test_a_policy_needs_a_session(self, serve: Serve) -> None:
        """A session_policy without a session_id is a mistake of the caller's."""
        queue = Session.SESSION_POLICY_QUEUE
        refused = refusal(lambda: serve(asking).start("asking", session_policy=queue))
        assert refused.fields == ["spec.session_policy"]

    @in_both_modes
    def test_a_queued_run_is_pending_and_can_be_stopped(self, serve: Serve) -> None:
        """A run that waits for its session is PENDING, has its first event, and obeys a cancel."""
        served = serve(asking)
        queue = Session.SESSION_POLICY_QUEUE
        served.start("asking", run_id="a", session_id="s")
        waiting = served.run("asking", run_id="b", session_id="s", session_policy=queue)
        assert kind_of(waiting.next()) == "run_started"
        third = served.start("asking", run_id="c", session_id="s", session_policy=queue)
        assert third.state == State.RUN_STATE_PENDING
        receipt = served.cancel("b")
        assert receipt.outcome == v1.CancelRunResponse(outcome=2).outcome  # STOPPED, at once
        assert waiting.end().run_cancelled.cancellation.cause == Cause.CANCEL_CAUSE_USER
        assert not served.get("b").start_time.seconds
        served.cancel("a", wait=seconds(30))
        paused(served, "c")
        served.cancel("c", wait=seconds(30))

    @in_both_modes
    def test_leaving_a_queued_run_stops_it(self, serve: Serve) -> None:
        """Run's default disconnect policy holds while the run waits for its session."""
        served = serve(asking)
        served.start("asking", run_id="a", session_id="s")
        queue = Session.SESSION_POLICY_QUEUE
        waiting = served.run("asking", run_id="b", session_id="s", session_policy=queue)
        waiting.next()
        waiting.call.cancel()
        assert served.wait("b").cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT
        served.cancel("a", wait=seconds(30))

    @in_both_modes
    def test_a_newer_run_takes_the_place(self, serve: Serve) -> None:
        """SUPERSEDE stops the session's run, whose stream ends with that cause and the reason."""
        served = serve(asking)
        with RunClient(served.address) as client:
            first = served.run("asking", run_id="a", session_id="s")
            first.until("run_paused")
            options = {"session_id": "s", "session_policy": SessionPolicy.SUPERSEDE}
            client.start("agents/asking", run_id="b", **options)
            stopped = first.end().run_cancelled.cancellation
            assert stopped.cause == Cause.CANCEL_CAUSE_SUPERSEDED
            assert "b" in stopped.reason.split()
            paused(served, "b")
            client.continue_run("b", [Decision("pay", answer="x")])
            assert client.wait("b", 30).state is RunState.COMPLETED

    def test_a_stop_for_one_run_never_hits_the_next(self, serve: Serve) -> None:
        """Cancels that come late, and again, leave the session's next run alone."""
        done = Signal()

        @runnable
        async def quick(ctx: RunContext) -> str:
            await done.come()
            return "whole"

        served = serve(quick)
        queue = Session.SESSION_POLICY_QUEUE
        served.start("quick", run_id="a", session_id="s")
        served.start("quick", run_id="b", session_id="s", session_policy=queue)
        for _ in range(3):
            served.cancel("a", wait=seconds(30))
        done.set()
        assert served.wait("b").state == State.RUN_STATE_COMPLETED
        served.cancel("a")
        assert served.get("b").output == "whole"
