"""The contract of every adapter: an object of any framework runs, stops and pauses as ours do.

Each test serves the bare object, as its users wrote it, and meets it through a real client.
"""

import asyncio
import threading
from typing import Any

import psutil
import pytest
from pullcord.v1 import run_pb2, run_service_pb2

from tests.adapters.foreign.kinds.base import Weather
from tests.openai_server import Call, Hang, OpenAIServer, Pace, Refuse, Silence
from tests.steady import PATIENCE
from tests.transports.harness import (
    TERMINAL,
    Cause,
    Mode,
    Outcome,
    Serve,
    Served,
    Signal,
    State,
    Stream,
    kind_of,
    refusal,
    seconds,
    v1,
)

# The frameworks' clients keep connections of loops that have ended.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Tools = run_pb2.ToolCallState


def connections(model: OpenAIServer) -> int:
    """How many of this process's sockets are connected to the model's server."""
    port = int(model.base_url.rpartition(":")[2].partition("/")[0])
    found = psutil.Process().net_connections("tcp")
    return sum(bool(c.raddr) and c.raddr.port == port and c.status == "ESTABLISHED" for c in found)


def ledger(run: Any) -> list[tuple[str, int]]:
    return [(call.tool_name, call.state) for call in run.tool_calls]


def ended(stream: Stream, kind: str) -> Any:
    """Reads the stream to the end, which is of this kind; its terminal payload."""
    events = stream.rest()
    own = [e for e in events if kind_of(e) in TERMINAL and e.source.run_id in ("", e.run_id)]
    assert own == events[-1:]
    end = events[-1]
    assert kind_of(end) == kind, end.run_failed.error
    return getattr(end, kind)


def stop(served: Served, stream: Stream, **request: Any) -> Any:
    """Cancels the run, reads its stream to the end, and checks the end; its terminal payload."""
    receipt = served.cancel(
        stream.events[0].run_id, reason="enough", wait=seconds(PATIENCE), **request
    )
    assert receipt.outcome == Outcome.CANCEL_OUTCOME_STOPPED
    end = ended(stream, "run_cancelled")
    assert end.cancellation.reason == "enough"
    assert not end.abandoned
    served.wait_free()
    return end


# --- a run


def test_an_agent_answers(kind: Any, model: OpenAIServer, serve: Serve) -> None:
    """Its text streams in pieces, and the provider's usage is the run's."""
    model.script("It is sunny today")
    stream = serve(kind.agent(model.base_url)).run(kind.served, "how is it?")
    end = ended(stream, "run_completed")
    assert (end.output, stream.text()) == ("It is sunny today", "It is sunny today")
    assert sum(kind_of(event) == "content_delta" for event in stream.events) >= 1
    assert (end.usage.input_tokens, end.usage.output_tokens, end.usage.steps) == (10, 4, 1)
    assert not end.usage.estimated
    assert "how is it?" in str(model.exchange(0).body["messages"])


def test_its_tools_are_in_the_ledger(kind: Any, model: OpenAIServer, serve: Serve) -> None:
    """Async and sync calls alike: started, completed, with arguments and results."""

    async def look(city: str) -> str:
        """Looks."""
        return f"sun in {city}"

    def listen(city: str) -> str:
        """Listens."""
        return f"birds in {city}"

    model.script(Call("look", {"city": "Rome"}, "a"), Call("listen", {"city": "Bonn"}, "b"))
    model.script("Nice")
    stream = serve(kind.agent(model.base_url, tools=[look, listen])).run(kind.served, "?")
    end = ended(stream, "run_completed")
    assert end.output == "Nice"
    calls = {call.tool_call_id: call for call in end.tool_calls}
    assert (calls["a"].tool_name, calls["a"].result) == ("look", "sun in Rome")
    assert (calls["b"].tool_name, calls["b"].result) == ("listen", "birds in Bonn")
    assert "Rome" in calls["a"].arguments
    assert {call.state for call in calls.values()} == {Tools.TOOL_CALL_STATE_COMPLETED}
    assert (end.usage.tool_calls, end.usage.steps) == (2, 2)
    kinds = [kind_of(event) for event in stream.events]
    assert kinds.count("tool_call_started") == kinds.count("tool_call_completed") == 2


def test_structured_output_becomes_data(kind: Any, model: OpenAIServer, serve: Serve) -> None:
    """What the framework makes of the answer is the run's data."""
    answer = {"city": "Rome", "degrees": 30}
    agent = kind.agent(model.base_url, schema=Weather)
    for step in kind.structured(answer):
        model.script(step)
    end = ended(serve(agent).run(kind.served, "?"), "run_completed")
    assert dict(end.output_data) == answer


def test_a_provider_that_refuses_fails_the_run(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """The framework's own error says why."""
    model.script(Refuse(400, "no such model here"))
    end = ended(serve(kind.agent(model.base_url)).run(kind.served, "?"), "run_failed")
    assert "no such model here" in end.error.message
    assert end.usage.output_tokens == 0


def test_text_that_came_before_a_failure_is_kept(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """A run that fails at its second model call has the text of its first."""

    async def look() -> str:
        """Looks."""
        return "sun"

    model.script("Let me see", Call("look"))
    model.script(Refuse(400, "too many words"))
    end = ended(serve(kind.agent(model.base_url, tools=[look])).run(kind.served, "?"), "run_failed")
    assert end.output == "Let me see"
    assert ledger(end) == [("look", Tools.TOOL_CALL_STATE_COMPLETED)]


# --- stopping while a model is at work


def test_a_stop_while_the_model_speaks(kind: Any, model: OpenAIServer, serve: Serve) -> None:
    """It ends at once, keeps the text, counts the tokens by estimate, and closes the connection."""
    model.script(Pace(0.005))
    served = serve(kind.agent(model.base_url))
    stream = served.run(kind.served, "?")
    stream.until("content_delta")
    end = stop(served, stream)
    assert connections(model) == 0
    assert model.exchange(0).left.wait(PATIENCE)
    assert end.output.startswith("w0")
    assert end.output == stream.text()
    assert end.usage.output_tokens > 0
    assert end.usage.estimated


def test_a_stop_while_the_model_is_silent(kind: Any, model: OpenAIServer, serve: Serve) -> None:
    """The connection is closed although nothing arrives on it."""
    model.script("Once upon a time", Silence())
    served = serve(kind.agent(model.base_url))
    stream = served.run(kind.served, "?")
    while stream.text() != "Once upon a time":
        stream.until("content_delta")
    end = stop(served, stream)
    assert connections(model) == 0
    assert model.exchange(0).left.wait(PATIENCE)
    assert end.output == "Once upon a time"


def test_a_stop_before_the_model_answers_at_all(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """Not even headers have come; the connection is closed, and the call counts."""
    model.script(Hang())
    served = serve(kind.agent(model.base_url))
    stream = served.run(kind.served, "?")
    stream.next()
    exchange = model.exchange(0)
    end = stop(served, stream)
    assert connections(model) == 0
    assert exchange.left.wait(PATIENCE)
    assert (end.output, end.usage.steps) == ("", 1)


def test_a_deadline_stops_a_silent_model(kind: Any, model: OpenAIServer, serve: Serve) -> None:
    """A caller's deadline ends the run a little before it, cause DEADLINE, with its text."""
    model.script("So far", Silence())
    served = serve(kind.agent(model.base_url))
    end = ended(served.run(kind.served, "?", timeout=3.0), "run_cancelled")
    assert end.cancellation.cause == Cause.CANCEL_CAUSE_DEADLINE
    assert end.output == "So far"
    assert connections(model) == 0


def test_a_budget_of_tokens_stops_a_model_that_speaks(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """The estimate reaches the limit in the middle of an answer."""
    model.script(Pace(0.001))
    limits = run_pb2.Limits(max_tokens=40)
    end = ended(
        serve(kind.agent(model.base_url)).run(kind.served, "?", limits=limits), "run_cancelled"
    )
    assert end.cancellation.cause == Cause.CANCEL_CAUSE_BUDGET
    assert end.cancellation.limit == "max_tokens"
    assert 40 <= end.usage.input_tokens + end.usage.output_tokens < 60
    assert connections(model) == 0


def test_a_budget_of_tool_calls_lets_no_more_begin(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """The call that is one too many is not executed, and no model is asked after it."""
    seen: list[str] = []

    async def look(city: str) -> str:
        """Looks."""
        await asyncio.sleep(0)
        seen.append(city)
        return "sun"

    model.script(Call("look", {"city": "Rome"}, "a"))
    model.script(Call("look", {"city": "Bonn"}, "b"))
    served = serve(kind.agent(model.base_url, tools=[look]))
    limits = run_pb2.Limits(max_tool_calls=1)
    end = ended(served.run(kind.served, "?", limits=limits), "run_cancelled")
    assert end.cancellation.limit == "max_tool_calls"
    assert seen == ["Rome"]
    assert len(model.exchanges) == 2


# --- stopping while a tool is at work


def test_a_graceful_stop_lets_an_async_tool_finish(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """Its result is in the ledger, and no model is asked with it."""
    begun, go_on = Signal(), Signal()

    async def save() -> str:
        """Saves."""
        begun.set()
        await go_on.come()
        return "saved"

    model.script(Call("save"))
    served = serve(kind.agent(model.base_url, tools=[save]))
    stream = served.run(kind.served, "?")
    stream.until("tool_call_started")
    begun.wait()
    assert served.cancel(stream.events[0].run_id, reason="enough").outcome == (
        Outcome.CANCEL_OUTCOME_REQUESTED
    )
    go_on.set()
    end = stop(served, stream)
    assert ledger(end) == [("save", Tools.TOOL_CALL_STATE_COMPLETED)]
    assert end.tool_calls[0].result == "saved"
    assert len(model.exchanges) == 1


def test_an_immediate_stop_interrupts_an_async_tool(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """It gets CancelledError, and the ledger says INTERRUPTED."""
    begun, unwound = Signal(), Signal()

    async def save() -> str:
        """Saves."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            unwound.set()
        return "never"

    model.script("Let me save it", Call("save"))
    served = serve(kind.agent(model.base_url, tools=[save]))
    stream = served.run(kind.served, "?")
    stream.until("tool_call_started")
    begun.wait()
    end = stop(served, stream, mode=Mode.CANCEL_MODE_IMMEDIATE)
    assert unwound.is_set()
    assert ledger(end) == [("save", Tools.TOOL_CALL_STATE_INTERRUPTED)]
    assert end.output == "Let me save it"


def test_a_graceful_stop_lets_a_sync_tool_finish(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """As an async one."""
    begun, go_on = Signal(), threading.Event()

    def save() -> str:
        """Saves."""
        begun.set()
        go_on.wait(PATIENCE)
        return "saved"

    model.script(Call("save"))
    served = serve(kind.agent(model.base_url, tools=[save]))
    stream = served.run(kind.served, "?")
    stream.until("tool_call_started")
    begun.wait()
    served.cancel(stream.events[0].run_id, reason="enough")
    go_on.set()
    end = stop(served, stream)
    assert ledger(end) == [("save", Tools.TOOL_CALL_STATE_COMPLETED)]
    assert len(model.exchanges) == 1


def test_a_sync_tool_that_an_immediate_stop_leaves_is_unknown(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """The run ends, its thread does not: the ledger does not say that it was interrupted."""
    begun, go_on = Signal(), threading.Event()

    def save() -> str:
        """Saves."""
        begun.set()
        go_on.wait(PATIENCE)
        return "saved after all"

    model.script(Call("save"))
    served = serve(kind.agent(model.base_url, tools=[save]))
    stream = served.run(kind.served, "?")
    stream.until("tool_call_started")
    begun.wait()
    try:
        end = stop(served, stream, mode=Mode.CANCEL_MODE_IMMEDIATE)
    finally:
        go_on.set()
    assert ledger(end) == [("save", Tools.TOOL_CALL_STATE_UNKNOWN)]


@pytest.mark.parametrize("mode", [Mode.CANCEL_MODE_GRACEFUL, Mode.CANCEL_MODE_IMMEDIATE])
def test_a_stop_reaches_an_agent_within_the_agent(
    kind: Any, model: OpenAIServer, serve: Serve, mode: Mode
) -> None:
    """The model of a sub-agent is silent; its connection is closed, too. A GRACEFUL stop waits for
    no tool that waits for such a model."""
    if mode == Mode.CANCEL_MODE_GRACEFUL and not kind.gives_member_runs:
        pytest.skip("the framework does not tell what its tools wait for")
    model.script(Call(*kind.delegation()))
    model.script("I think", Silence())
    served = serve(kind.with_sub_agent(model.base_url))
    stream = served.run(kind.outer, "?")
    stream.next()
    inner = model.exchange(1)
    assert inner.begun.wait(PATIENCE)
    if kind.gives_member_runs:
        while stream.events[-1].source.name != "member":
            stream.next()
    end = stop(served, stream, mode=mode, grace_period=seconds(PATIENCE))
    assert inner.left.wait(PATIENCE)
    if kind.gives_member_runs:
        of_member = [e for e in stream.events if e.source.name == "member"]
        assert kind_of(of_member[0]) == "run_started"
        assert [kind_of(e) for e in of_member if kind_of(e) in TERMINAL] == ["run_cancelled"]
        assert kind_of(of_member[-1]) == "run_cancelled"
        source = of_member[0].source
        assert list(source.path) == ["helper", "member"]
        assert source.run_id not in ("", stream.events[0].run_id)
        assert {e.source.run_id for e in of_member} == {source.run_id}
        assert of_member[0].run_started.parent_run_id == stream.events[0].run_id
        (call,) = end.tool_calls
        assert call.state == Tools.TOOL_CALL_STATE_INTERRUPTED


def test_what_a_sub_agent_says_is_not_the_run_s_text(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """Its text is a child run's, if it is told at all; its model calls count in any case."""
    model.script(Call(*kind.delegation()))
    model.script("Because of the sun")
    model.script("So it is")
    stream = serve(kind.with_sub_agent(model.base_url)).run(kind.outer, "?")
    end = ended(stream, "run_completed")
    assert end.output == "So it is"
    if kind.gives_member_runs:
        of_member = [e for e in stream.events if e.source.name == "member"]
        text = "".join(e.content_delta.text for e in of_member)
        assert text == "Because of the sun"
        assert [kind_of(e) for e in of_member if kind_of(e) in TERMINAL] == ["run_completed"]
        assert (end.usage.input_tokens, end.usage.steps) == (30, 3)


# --- pausing


def decide(served: Served, run_id: str, **decision: Any) -> None:
    made = run_service_pb2.Decision(**decision)
    served.stub.ContinueRun(
        v1.ContinueRunRequest(run_id=run_id, decisions=[made]), timeout=PATIENCE
    )


def paused(kind: Any, model: OpenAIServer, serve: Serve) -> tuple[Served, Stream, list[str]]:
    """A run that waits for a decision about `pay`, and what `pay` has done."""
    paid: list[str] = []

    async def pay(to: str) -> str:
        """Pays."""
        paid.append(to)
        return f"paid {to}"

    model.script(Call("pay", {"to": "Ann"}, "p1"))
    model.script("Done")
    served = serve(kind.agent(model.base_url, approved=[pay]))
    stream = served.run(kind.served, "?")
    call = stream.until("run_paused").run_paused.tool_calls[0]
    assert (call.tool_call_id, call.tool_name) == ("p1", "pay")
    assert "Ann" in call.arguments
    assert served.get(stream.events[0].run_id).state == State.RUN_STATE_PAUSED
    assert paid == []
    return served, stream, paid


def test_an_approval_pauses_the_run_and_lets_it_go_on(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """The approved call is executed, and the model hears its result."""
    served, stream, paid = paused(kind, model, serve)
    decide(served, stream.events[0].run_id, tool_call_id="p1", approved=True)
    end = ended(stream, "run_completed")
    assert paid == ["Ann"]
    assert end.output == "Done"
    assert ledger(end) == [("pay", Tools.TOOL_CALL_STATE_COMPLETED)]
    assert "paid Ann" in str(model.exchange(1).body["messages"])


def test_a_declined_call_is_not_executed(kind: Any, model: OpenAIServer, serve: Serve) -> None:
    """The model hears the note, and the run goes on."""
    served, stream, paid = paused(kind, model, serve)
    decide(served, stream.events[0].run_id, tool_call_id="p1", note="too dear")
    end = ended(stream, "run_completed")
    assert (paid, end.output) == ([], "Done")
    assert ledger(end) == [("pay", Tools.TOOL_CALL_STATE_DECLINED)]
    assert "too dear" in str(model.exchange(1).body["messages"])


def test_a_paused_run_is_stopped(kind: Any, model: OpenAIServer, serve: Serve) -> None:
    """Nothing is executed, and no model is asked."""
    served, stream, paid = paused(kind, model, serve)
    end = stop(served, stream)
    assert (paid, len(model.exchanges)) == ([], 1)
    assert ledger(end) == [("pay", Tools.TOOL_CALL_STATE_DECLINED)]


# --- the next turn


def test_the_next_turn_knows_what_a_stopped_one_had_said(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """Text of an interrupted model call is part of the session's conversation."""
    model.script("The secret word is plum", Silence())
    model.script("It was plum")
    served = serve(kind.agent(model.base_url))
    stream = served.run(kind.served, "tell me", session_id="s1")
    while not stream.text().endswith("plum"):
        stream.until("content_delta")
    stop(served, stream)
    assert ended(
        served.run(kind.served, "what was it?", session_id="s1"), "run_completed"
    ).output == ("It was plum")
    said = str(model.exchange(1).body["messages"])
    assert "tell me" in said
    assert "The secret word is plum" in said
    assert "what was it?" in said


def test_the_next_turn_after_a_stop_in_a_tool_is_one_that_providers_take(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """Each tool call of the conversation has a result: a provider refuses any other."""
    begun = Signal()

    async def save() -> str:
        """Saves."""
        begun.set()
        await asyncio.Event().wait()
        return "never"

    model.script("Saving", Call("save", {}, "s1"))
    model.script("I had begun to save")
    served = serve(kind.agent(model.base_url, tools=[save]))
    stream = served.run(kind.served, "save it", session_id="s1")
    stream.until("tool_call_started")
    begun.wait()
    stop(served, stream, mode=Mode.CANCEL_MODE_IMMEDIATE)
    served.run(kind.served, "and?", session_id="s1").end()
    messages = model.exchange(1).body["messages"]
    asked = [c["id"] for m in messages for c in m.get("tool_calls") or ()]
    answered = [m["tool_call_id"] for m in messages if m["role"] == "tool"]
    assert asked == answered
    assert "save" in str(messages)


def test_a_conversation_of_the_caller_s_is_told(
    kind: Any, model: OpenAIServer, serve: Serve
) -> None:
    """Messages and files of text that a caller sends reach the model."""
    model.script("I see")
    told = [
        run_pb2.Message(role=role, parts=[run_pb2.Part(text=text)])
        for role, text in (
            (run_pb2.MESSAGE_ROLE_SYSTEM, "be brief"),
            (run_pb2.MESSAGE_ROLE_USER, "what is a plum?"),
            (run_pb2.MESSAGE_ROLE_ASSISTANT, "a fruit"),
        )
    ]
    note = run_pb2.Part(data=b"the plum is ripe", media_type="text/plain", name="note.txt")
    served = serve(kind.agent(model.base_url))
    ended(served.run(kind.served, "and this?", messages=told, parts=[note]), "run_completed")
    messages = model.exchange(0).body["messages"]
    assert messages[0]["role"] in ("system", "developer")
    assert [m["role"] for m in messages[1:]] == ["user", "assistant", "user"]
    assert "the plum is ripe" in str(messages[-1]["content"])


FILES = {
    "spec.parts[0].data": {"parts": [run_pb2.Part(data=b"\x89PNG", media_type="image/png")]},
    "spec.parts[0].uri": {
        "parts": [run_pb2.Part(uri="https://example.com/a.pdf", media_type="application/pdf")]
    },
    "spec.messages[0].parts[1].data": {
        "messages": [
            run_pb2.Message(
                role=run_pb2.MESSAGE_ROLE_USER,
                parts=[
                    run_pb2.Part(text="look"),
                    run_pb2.Part(data=b"RIFF", media_type="audio/wav", name="a.wav"),
                ],
            )
        ]
    },
}


@pytest.mark.parametrize("field", FILES)
def test_a_file_that_it_cannot_take_is_refused_before_the_run_begins(
    kind: Any, model: OpenAIServer, serve: Serve, field: str
) -> None:
    """By the name of its field, and with what is taken instead; no model is asked."""
    served = serve(kind.agent(model.base_url))
    refused = refusal(lambda: served.start(kind.served, "and this?", **FILES[field]))
    assert refused.fields == [field]
    assert f"{kind.served} takes" in refused.bad_request.field_violations[0].description
    assert model.exchanges == []
    assert not served.list().runs


def test_many_runs_of_one_object_do_not_meet(kind: Any, model: OpenAIServer, serve: Serve) -> None:
    """One object serves several runs at a time; a stop of one is none of the others."""
    model.script("first", Silence())
    served = serve(kind.agent(model.base_url))
    first = served.run(kind.served, "?")
    first.until("content_delta")
    model.script("second")
    assert ended(served.run(kind.served, "?"), "run_completed").output == "second"
    assert stop(served, first).output == "first"
