"""What an author's code says over a real server: sent, or refused in the code that says it."""

import enum
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pullcord import RunContext, runnable
from pullcord.agent import Agent
from pullcord.models.offline import OfflineModel
from pullcord.run.cancel import Cancellation
from pullcord.run.events import (
    ContentDelta,
    Custom,
    RunPaused,
    RunStarted,
    Snapshot,
    Source,
    SourceKind,
    StepCompleted,
    StepStarted,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
    UsageUpdated,
)
from pullcord.run.record import Run
from pullcord.run.state import RunState
from pullcord.run.usage import Usage
from pullcord.server import RunServer
from pullcord.v1 import run_pb2
from pullcord.v1 import run_service_pb2 as v1

from tests.transports.harness import (
    PATIENCE,
    Mode,
    Serve,
    Served,
    State,
    kind_of,
    make_settings,
)


class OddText(str):
    """Text with code of its own, which must never be called."""

    __slots__ = ()

    def _no(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("called")

    __str__ = __len__ = encode = isascii = join = __getitem__ = _no  # type: ignore[assignment]


class OddCustom(Custom):
    """An author's own kind of event."""


class OddStep(StepStarted):
    """Another one."""


class Colour(enum.Enum):
    RED = "red"


class Deceiver(Exception):
    """An error whose class cannot be asked for."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("classless")


class Leaver(Exception):
    """An error whose words end the program."""

    def __str__(self) -> str:
        raise SystemExit("no words")


class Nameless:
    """A runnable as other frameworks have them."""

    kind, id, name, description, members, is_async = SourceKind.AGENT, "n", None, None, None, False

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self, name, value)

    def execute(self, ctx: RunContext) -> None:
        ctx.write("n")


def step(**fields: Any) -> Source:
    right = {"kind": SourceKind.STEP, "id": "s", "name": "s", "run_id": "r", "path": ("x", "s")}
    return Source(**right | fields)


def fail(error: BaseException) -> None:
    raise error


def call_a_tool(ctx: RunContext, *call: Any, result: Any = "done") -> None:
    with ctx.tool_call(*call) as returned:
        returned(result)


def looped() -> dict[str, Any]:
    data: dict[str, Any] = {}
    data["again"] = [data]
    return data


SENT: dict[str, Callable[[RunContext], Any]] = {
    "text-of-another-class": lambda ctx: ctx.write(OddText("odd")),
    "thoughts-of-another-class": lambda ctx: ctx.think(OddText("odd")),
    "an-event-of-its-own-class": lambda ctx: ctx.emit(OddCustom("own", {"n": 1})),
    "an-event-named-in-another-class": lambda ctx: ctx.emit(OddText("own"), {OddText("k"): 1}),
    "a-step-of-its-own-class": lambda ctx: ctx.begin(OddStep("s", OddText("name")), source=step()),
    "a-name-that-is-none": lambda ctx: ctx.emit("e", source=step(name=None)),
    "a-path-that-is-a-list": lambda ctx: ctx.emit("e", source=step(path=["x", "s"])),
    "data-of-enums": lambda ctx: ctx.emit("e", {"c": Colour.RED, Colour.RED: [RunState.PAUSED]}),
    "data-that-holds-itself": lambda ctx: ctx.emit("e", looped()),
    "numbers-beyond-a-double": lambda ctx: ctx.emit("e", {"n": [10**400, 2**64, float("nan")]}),
    "halves-of-a-pair": lambda ctx: ctx.emit("\ud83d\ude00", {"\ud83d": "\ude00"}),
    "output-of-another-class": lambda ctx: ctx.set_output(OddText("o"), {"k": OddText("v")}),
    "sums-beyond-the-proto": lambda ctx: [
        ctx.use(Usage(2**62, 2**62, steps=2**30, tool_calls=2**30, cost=1e308)) for _ in range(5)
    ],
    "a-negative-sum": lambda ctx: ctx.use(Usage(-5, -5, steps=-5, cost=-1.0)),
    "a-negative-total": lambda ctx: ctx.emit(UsageUpdated(Usage(-5, cost=-1.0))),
    "a-tool-of-another-class": lambda ctx: call_a_tool(
        ctx, OddText("i"), OddText("t"), OddText("{}"), result=OddText("r")
    ),
    "a-tool-with-a-huge-result": lambda ctx: call_a_tool(
        ctx, "i" * 10_000, "t" * 10_000, "a" * 10**7, result="r" * 10**7
    ),
    "a-relayed-question": lambda ctx: ctx.relay(RunPaused(OddText("?"), []), source=step()),
    "a-child-without-a-name": lambda ctx: ctx.start(Nameless(), OddText("i"), {"c": Colour.RED}),
}
"""Odd, and sent all the same."""

REFUSED: dict[str, tuple[Callable[[RunContext], Any], str]] = {
    "bytes": (lambda ctx: ctx.write(b"x"), "text must be text, not bytes"),
    "a-step-that-is-a-number": (lambda ctx: ctx.begin(StepStarted(1)), "StepStarted.step_id"),
    "a-beginning-of-the-engine-s": (lambda ctx: ctx.begin(RunStarted("a")), "RunStarted"),
    "a-kind-that-is-a-word": (lambda ctx: ctx.emit("e", source=step(kind="step")), "source.kind"),
    "a-path-of-numbers": (lambda ctx: ctx.emit("e", source=step(path=(1, 2))), "source.path[0]"),
    "a-source-of-numbers": (
        lambda ctx: ctx.relay(ContentDelta("x"), source=step(run_id=7)),
        "source.run_id",
    ),
    "a-name-that-is-too-long": (lambda ctx: ctx.emit("e" * 2000), "Custom.name"),
    "a-state-that-is-a-word": (
        lambda ctx: ctx.emit(StepCompleted("s", state="completed")),
        "StepCompleted.state",
    ),
    "a-step-s-error-that-is-none-of-ours": (
        lambda ctx: ctx.emit(StepCompleted("s", error=ValueError("x"))),
        "StepCompleted.error",
    ),
    "a-tool-call-of-numbers": (
        lambda ctx: ctx.relay(ToolCallCompleted(ToolCall(1, 2))),
        "ToolCallCompleted.tool_call.tool_call_id",
    ),
    "a-tool-call-that-is-none": (lambda ctx: ctx.relay(ToolCallStarted(None)), "tool_call"),
    "a-question-of-numbers": (
        lambda ctx: ctx.relay(RunPaused(7, ())),
        "RunPaused.question",
    ),
    "a-snapshot": (
        lambda ctx: ctx.relay(Snapshot(Run("r", "a", RunState.RUNNING)), source=step()),
        "Snapshot",
    ),
    "usage-of-halves": (lambda ctx: ctx.use(Usage(0.5)), "usage.input_tokens"),
    "usage-of-no-number": (lambda ctx: ctx.use(Usage(cost=float("nan"))), "usage.cost"),
    "a-stop-for-no-reason-of-ours": (
        lambda ctx: ctx.cancel(Cancellation("enough")),
        "cancellation.cause",
    ),
    "output-that-is-no-text": (lambda ctx: ctx.set_output(7), "output must be text"),
    "a-tool-s-result-that-is-no-text": (
        lambda ctx: call_a_tool(ctx, "i", "t", result=7),
        "result must be text",
    ),
    "a-tool-that-is-no-text": (lambda ctx: call_a_tool(ctx, 1, "t"), "tool_call.tool_call_id"),
    "a-child-that-is-named-by-a-number": (
        lambda ctx: ctx.start(Nameless(name=7)),
        "runnable.name",
    ),
    "a-child-with-no-id": (lambda ctx: ctx.start(Nameless(id=None)), "runnable.id"),
    "a-child-of-another-kind": (lambda ctx: ctx.start(Nameless(kind="agent")), "runnable.kind"),
    "a-child-under-numbers": (lambda ctx: ctx.start(Nameless(), path=(1,)), "path[0]"),
    "a-child-with-odd-input": (lambda ctx: ctx.start(Nameless(), b"x"), "input must be text"),
    "a-child-with-odd-data": (lambda ctx: ctx.start(Nameless(), data=[1]), "input_data"),
    "an-error-without-a-class": (lambda ctx: fail(Deceiver("words")), "words"),
    "an-error-that-leaves": (lambda ctx: fail(Leaver()), "<Leaver>"),
}
"""What is said, and what of it the error names."""


def is_seen_everywhere(served: Served, run_id: str) -> None:
    """A later watcher, GetRun and ListRuns say of the run what its stream has said."""
    events = served.watch(run_id).rest()
    run = served.get(run_id)
    assert run.last_sequence == events[-1].sequence
    assert run_id in {listed.run_id for listed in served.list().runs}


@pytest.mark.parametrize("what", SENT)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_odd_things_are_sent(serve: Serve, what: str, kind: str) -> None:
    """What can be made plain is sent, and the run completes."""

    @runnable
    def sync_says(ctx: RunContext) -> None:
        SENT[what](ctx)

    @runnable
    async def async_says(ctx: RunContext) -> None:
        SENT[what](ctx)

    served = serve(sync_says, async_says)
    stream = served.run(f"{kind}-says", run_id="r", timeout=PATIENCE)
    assert kind_of(stream.end()) == "run_completed", stream.events[-1]
    is_seen_everywhere(served, "r")


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_cannot_be_sent_is_refused_to_its_author(serve: Serve, what: str, kind: str) -> None:
    """The code that says it gets an error that names the field; no stream and no call breaks."""
    say, named = REFUSED[what]

    @runnable
    def sync_says(ctx: RunContext) -> None:
        ctx.write("before")
        say(ctx)

    @runnable
    async def async_says(ctx: RunContext) -> None:
        ctx.write("before")
        say(ctx)

    served = serve(sync_says, async_says)
    end = served.run(f"{kind}-says", run_id="r", timeout=PATIENCE).end()
    assert (kind_of(end), end.run_failed.output) == ("run_failed", "before")
    assert named in end.run_failed.error.message
    is_seen_everywhere(served, "r")


def test_a_question_that_cannot_be_sent_is_refused(serve: Serve) -> None:
    """`ctx.ask` raises in the code that asks, and the run can go on."""
    wrong = [
        lambda ctx: ctx.ask(None, [ToolCall("1", "t")]),
        lambda ctx: ctx.ask("?", [ToolCall("1", 7)]),
        lambda ctx: ctx.ask("?", [None]),
        lambda ctx: ctx.ask("?", iter(())),
        lambda ctx: ctx.ask("?" * 100_000, [ToolCall("1", "t")]),
    ]

    @runnable
    async def asks(ctx: RunContext) -> None:
        for ask in wrong:
            try:
                await ask(ctx)
            except (TypeError, ValueError) as error:
                ctx.write(f"{error}\n")

    end = serve(asks).run("asks", timeout=PATIENCE).end()
    assert kind_of(end) == "run_completed"
    assert [line.split()[0] for line in end.run_completed.output.splitlines()] == [
        "question", "calls[0].tool_name", "calls[0]", "calls", "question",
    ]  # fmt: skip


def test_a_tool_that_returns_no_text_has_failed(serve: Serve) -> None:
    """The ledger says that the call ended; it is not left as if it were at work."""

    @runnable
    async def calls(ctx: RunContext) -> None:
        call_a_tool(ctx, "1", "t", result=7)

    served = serve(calls)
    end = served.run("calls", timeout=PATIENCE).end()
    (call,) = end.run_failed.tool_calls
    assert call.state == run_pb2.TOOL_CALL_STATE_FAILED
    assert call.result == "TypeError: result must be text, not int"


def test_an_event_cannot_be_changed_once_it_was_said(serve: Serve) -> None:
    """Nothing of an author's is in the log: what is done to it afterwards reaches nobody."""

    @runnable
    async def says(ctx: RunContext) -> None:
        event, source = Custom("said", {"a": [1]}), step()
        ctx.emit(event, source=source)
        object.__setattr__(event, "name", 7)
        event.data["a"].append(object())
        object.__setattr__(source, "path", (1, 2))

    served = serve(says)
    served.run("says", run_id="r", timeout=PATIENCE).end()
    _, said, _ = served.watch("r").rest()
    assert (said.custom.name, said.source.path) == ("said", ["x", "s"])
    assert [v.number_value for v in said.custom.data["a"].values] == [1]


@pytest.mark.parametrize("is_async", [False, True])
def test_promise_05_words_that_never_end_hold_no_lock(serve: Serve, is_async: bool) -> None:
    """While an author's `__str__` computes, the run can be looked at; IMMEDIATE interrupts it."""
    begun = threading.Semaphore(0)

    class Endless(Exception):
        def __str__(self) -> str:
            begun.release()
            while True:
                pass
            return ""

    def says(input: str, ctx: RunContext) -> None:
        ctx.write("before")
        if input == "emit":
            ctx.emit("e", {"endless": Endless()})
        elif input == "tool":
            with ctx.tool_call("1", "t"):
                raise Endless
        raise Endless

    async def says_on_a_loop(input: str, ctx: RunContext) -> None:
        says(input, ctx)

    served = serve(runnable(id="says")(says_on_a_loop if is_async else says), stall_after=0.05)
    for how in ("emit", "tool", "raise"):
        stream = served.run("says", how, run_id=how, timeout=PATIENCE)
        stream.until("content_delta")
        assert begun.acquire(timeout=PATIENCE)
        assert served.get(how).state == State.RUN_STATE_RUNNING
        served.cancel(how, mode=Mode.CANCEL_MODE_IMMEDIATE)
        end = stream.end()
        assert (kind_of(end), end.run_cancelled.output) == ("run_cancelled", "before")
        assert not end.run_cancelled.abandoned
    served.wait_free()


def test_a_run_that_a_run_s_code_starts_is_asked_for_in_plain_values(serve: Serve) -> None:
    """`agent.run()` in a served run refuses what GetRun could not show; the rest is made plain."""
    agent = Agent(id="inner", model=OfflineModel(words_per_second=math.inf))

    @runnable
    def starts(ctx: RunContext) -> None:
        for wrong in ({"labels": {"k": 7}}, {"session_id": 7}, {"input_data": [1]}):
            with pytest.raises(TypeError):
                agent.run("in", run_id="wrong", **wrong)
        agent.run(
            OddText("\ud83d\ude00\ud800"),
            run_id=OddText("inner"),
            labels={OddText("k"): OddText("\ud800")},
            input_data={"c": Colour.RED},
        )

    served = serve(starts)
    assert kind_of(served.run("starts", timeout=PATIENCE).end()) == "run_completed"
    run = served.get("inner")
    assert (run.input, dict(run.labels)) == ("\U0001f600?", {"k": "?"})
    is_seen_everywhere(served, "inner")


def test_a_runnable_that_cannot_be_shown_is_not_served() -> None:
    """RunServer raises what is wrong with a runnable, and where, before it serves anybody."""
    for wrong, words in (
        ({"id": "My Agent"}, "runnable.id 'My Agent'"),
        ({"name": 7}, "runnable.name"),
        ({"members": (None,)}, "runnable.members"),
        ({"kind": "agent"}, "runnable.kind"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            RunServer(agents=[Nameless(**wrong)], settings=make_settings())


def test_what_is_on_offer_can_always_be_listed(serve: Serve) -> None:
    """Runnables without a name, with odd texts and with long descriptions are listed."""
    name = "\ud83d\ude00\ud800"
    odd = Nameless(id=OddText("odd"), name=name, description="x" * 10**7, members=[OddText("m")])
    served = serve(odd, Nameless())
    listed = served.stub.ListRunnables(v1.ListRunnablesRequest(), timeout=PATIENCE).runnables
    assert [(r.name, r.display_name, list(r.members)) for r in listed] == [
        ("agents/n", "", []),
        ("agents/odd", "\U0001f600?", ["m"]),
    ]
    assert len(listed[1].description) < 20_000
