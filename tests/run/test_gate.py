"""The gate: what passes it can be sent and comes back equal; nothing else passes."""

import dataclasses
import enum
import math
import re
from collections import UserDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pullcord.engine.log.record import Record
from pullcord.run import events, gate, readers
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, StopStage
from pullcord.run.events import (
    AUTHORS_PAYLOADS,
    RELAYED_PAYLOADS,
    TERMINAL_PAYLOADS,
    ContentDelta,
    Custom,
    Event,
    Heartbeat,
    Payload,
    RunCompleted,
    RunError,
    RunPaused,
    RunStarted,
    Source,
    SourceKind,
    StepCompleted,
    StepStarted,
    ToolCall,
    ToolCallStarted,
    ToolCallState,
    UsageUpdated,
)
from pullcord.run.message import Message, Part, Role
from pullcord.run.model_call import ModelCall
from pullcord.run.record import MAX_REASON_LENGTH, Decision, RunSpec
from pullcord.run.runnable import RunnableInfo
from pullcord.run.state import RunState
from pullcord.run.takes import Takes
from pullcord.run.usage import MAX_COUNT, MAX_TOKENS, Limits, Usage
from pullcord.v1 import run_service_pb2
from pullcord.wire.event import event_of, response_bytes

from tests.wire import strategies as ours

KINDS = (
    *RELAYED_PAYLOADS,
    Source,
    ToolCall,
    Usage,
    RunError,
    Cancellation,
    Decision,
    Limits,
    RunSpec,
    Part,
    Message,
    Takes,
    ModelCall,
)
CHUNKS = readers.Bounds(data=2048, output=4096)


# --- whatever an author may come up with


class OddText(str):
    """Text of an author's own class."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no")


class OddInt(int):
    """A number of an author's own class."""

    def __int__(self) -> int:
        raise RuntimeError("no")


class Odd:
    """An object whose words cannot be had."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Colour(enum.Enum):
    RED = "red"


def looped() -> dict[str, Any]:
    data: dict[str, Any] = {}
    data["again"] = data
    return data


texts = st.text(st.characters(), max_size=20) | st.text(st.characters(), max_size=5).map(OddText)
texts |= st.sampled_from(["\ud83d\ude00", "x" * 5000, "\ud800"])
numbers = st.integers() | st.integers().map(OddInt) | st.floats() | st.booleans()
odd = st.none() | texts | numbers | st.binary(max_size=3) | st.builds(Odd) | st.just(Colour.RED)
odd |= st.sampled_from([SourceKind.AGENT, ToolCallState.COMPLETED, CancelCause.USER, {1}, (1, 2)])
data = st.dictionaries(texts | odd.filter(lambda k: not isinstance(k, dict | set)), odd, max_size=3)
data |= st.recursive(odd, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)).map(
    lambda value: {"value": value}
)
data |= st.builds(looped) | data.map(UserDict)
anything = odd | data | st.lists(texts, max_size=3) | st.lists(texts, max_size=3).map(tuple)


def some(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Instances of a class of ours, or of a subclass of it, with anything in their fields."""
    parts = {f.name: anything | typical(f.name) for f in dataclasses.fields(kind)}
    made: list[type[Any]] = [kind, type(f"My{kind.__name__}", (kind,), {})]
    return st.one_of([st.builds(cls, **parts) for cls in made])


def typical(name: str) -> st.SearchStrategy[Any]:
    """What a field of this name usually holds."""
    return {
        "kind": st.sampled_from(SourceKind),
        "path": st.lists(texts, max_size=3),
        "data": data,
        "output_data": data,
        "usage": st.deferred(lambda: some(Usage)),
        "tool_call": st.deferred(lambda: some(ToolCall)) | ours.tool_calls,
        "tool_calls": st.lists(ours.tool_calls, max_size=2),
        "cancellation": ours.cancellations,
        "error": st.deferred(lambda: some(RunError)) | st.none(),
        "state": st.sampled_from([*ToolCallState, *RunState]),
        "attempt": st.integers(0, 5),
        "count": st.integers(1, 5),
        "estimated": st.booleans(),
        "abandoned": st.booleans(),
        "killed_processes": st.lists(texts, max_size=3),
        "stage": st.none() | st.sampled_from(StopStage),
        "cost": st.floats(-10, 10),
        "start_time": ours.times,
        "end_time": ours.times_or_not_yet,
    }.get(name, texts if not name.endswith("tokens") else st.integers(-5, 5))


def sent(payload: Payload, source: Source | None) -> Event | None:
    """What a watcher reads of it."""
    if isinstance(payload, events.ContentDelta | events.ReasoningDelta):
        thinks = isinstance(payload, events.ReasoningDelta)
        record = Record(payload.count, payload.count, 1e9, None, payload.text, source, thinks)
    else:
        record = Record(1, 1, 1e9, payload, source=source)
    return event_of(run_service_pb2.RunResponse.FromString(response_bytes("r", record)).event)


def is_ours(value: Any) -> bool:
    """Whether it is made only of exact built-in types and of frozen classes of ours."""
    kind = type(value)
    if kind in KINDS:
        return all(is_ours(getattr(value, f.name)) for f in dataclasses.fields(value))
    if kind is dict:
        return all(type(key) is str and is_ours(item) for key, item in value.items())
    if kind in (list, tuple):
        return all(map(is_ours, value))
    enums = (SourceKind, ToolCallState, RunState, CancelCause, CancelMode, StopStage)
    return kind in (str, int, float, bool, type(None), *enums)


def passed(call: Callable[[], Any]) -> Any:
    """What came through, or None; anything but a TypeError or ValueError is a fault."""
    try:
        return call()
    except (TypeError, ValueError) as refused:
        error = refused
    assert type(error) in (TypeError, ValueError)
    assert re.match(r"(a )?[\w.\[\]]+ (must|cannot) ", str(error)), error
    return None


@pytest.mark.parametrize("kind", RELAYED_PAYLOADS, ids=lambda kind: kind.__name__)
def test_what_passes_the_gate_comes_back_equal(kind: type[Payload]) -> None:
    """Whatever an author puts into an event, it is refused, or a watcher reads what the log has."""

    @given(some(kind), st.none() | some(Source))
    def check(payload: Payload, by: Source | None) -> None:
        made = passed(lambda: (gate.relayed(payload, False, CHUNKS), gate.source(by)))
        if made is not None:
            payload, source = made
            assert type(payload) is kind
            assert is_ours(payload)
            assert source is None or is_ours(source)
            event = sent(payload, source)
            assert event is not None
            assert (event.payload, event.source) == (payload, source)

    check()


@given(ours.payloads, st.none() | ours.sources)
def test_what_is_right_already_passes_unchanged(payload: Payload, source: Source | None) -> None:
    """Sound events are copied and not changed."""
    if isinstance(payload, RELAYED_PAYLOADS):
        assert gate.relayed(payload, False) == payload
    assert gate.source(source) == source


@given(anything)
def test_nothing_else_passes_as_an_event(value: object) -> None:
    """What is no event of ours is refused by its class."""
    with pytest.raises(TypeError, match="cannot be emitted by a run"):
        gate.emitted(value)
    with pytest.raises(TypeError, match="cannot be relayed by a run"):
        gate.relayed(value, True)


def test_every_field_of_every_class_has_a_reader() -> None:
    """A field that is added to a class of ours is added to the gate, or nothing passes."""
    assert set(readers.READERS) == set(KINDS)
    for kind, fields in readers.READERS.items():
        assert set(fields) == {field.name for field in dataclasses.fields(kind)}, kind


def test_who_may_say_which_event() -> None:
    """A run emits what is an author's; of a run elsewhere it relays no beginning and no end."""
    for payload in (RunCompleted("x"), RunStarted("agents/a"), Heartbeat(), RunPaused("?")):
        with pytest.raises(TypeError, match=f"a {type(payload).__name__} cannot be emitted"):
            gate.emitted(payload)
    for kind in (RunStarted, *TERMINAL_PAYLOADS):
        assert kind not in AUTHORS_PAYLOADS
    assert gate.relayed(RunCompleted("x"), False) == RunCompleted("x")
    with pytest.raises(TypeError, match="a RunCompleted cannot be relayed"):
        gate.relayed(RunCompleted("x"), True)
    with pytest.raises(TypeError, match="a Heartbeat cannot be relayed"):
        gate.relayed(Heartbeat(), False)
    assert gate.relayed(ContentDelta("x"), True) == ContentDelta("x")


# --- fields, each by its name in the error


def source(**fields: Any) -> Source:
    return Source(
        **{"kind": SourceKind.STEP, "id": "s", "name": "", "run_id": "r", "path": ()} | fields
    )


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: gate.source(source(kind="tool")), TypeError, "source.kind must be a SourceKind"),
        (lambda: gate.source(source(id=None)), TypeError, "source.id must be text, not NoneType"),
        (lambda: gate.source(source(id="x" * 257)), ValueError, "source.id must be at most 256"),
        (lambda: gate.source(source(name="x" * 1025)), ValueError, "source.name must be at most"),
        (lambda: gate.source(source(run_id=7)), TypeError, "source.run_id must be text"),
        (lambda: gate.source(source(path="abc")), TypeError, "source.path must be a tuple or list"),
        (lambda: gate.source(source(path=("a", 2))), TypeError, r"source.path\[1\] must be text"),
        (lambda: gate.source(source(path=["a"] * 1025)), ValueError, "source.path must have at mo"),
        (lambda: gate.source("me"), TypeError, "source must be a Source, not str"),
        (lambda: gate.path(["a"] * 33), ValueError, "path must have at most 32 parts, and has 33"),
        (lambda: gate.path(iter("a")), TypeError, "path must be a tuple or list"),
        (lambda: gate.emitted(StepStarted(1)), TypeError, "StepStarted.step_id must be text"),
        (lambda: gate.emitted(StepStarted("s", "", -1)), ValueError, "StepStarted.attempt must be"),
        (lambda: gate.emitted(StepStarted("s", "", True)), TypeError, "attempt must be a whole"),
        (
            lambda: gate.emitted(StepCompleted("s", state="completed")),
            TypeError,
            "StepCompleted.state must be a RunState, not str",
        ),
        (
            lambda: gate.emitted(StepCompleted("s", output="x" * 4097), CHUNKS),
            ValueError,
            "StepCompleted.output must be at most 4096 bytes",
        ),
        (
            lambda: gate.emitted(StepCompleted("s", error=ValueError("x"))),
            TypeError,
            "StepCompleted.error must be a RunError, not ValueError",
        ),
        (lambda: gate.emitted(Custom("x" * 1025)), ValueError, "Custom.name must be at most 1024"),
        (lambda: gate.emitted(Custom("x", [1])), TypeError, "Custom.data must be a mapping"),
        (
            lambda: gate.emitted(ToolCallStarted(None)),
            TypeError,
            "ToolCallStarted.tool_call must be a ToolCall, not NoneType",
        ),
        (
            lambda: gate.emitted(ToolCallStarted(ToolCall("1", "t", {"a": 1}))),
            TypeError,
            "ToolCallStarted.tool_call.arguments must be text, not dict",
        ),
        (lambda: gate.tool_call(ToolCall("1", "t", start_time=-1)), ValueError, "tool_call.start_"),
        (
            lambda: gate.tool_call(ToolCall("1", "t", end_time=math.nan)),
            ValueError,
            "tool_call.end",
        ),
        (lambda: gate.usage(Usage(1.5)), TypeError, "usage.input_tokens must be a whole number"),
        (lambda: gate.usage(Usage(output_tokens=True)), TypeError, "usage.output_tokens must be a"),
        (lambda: gate.usage(Usage(cached_tokens=2**63)), ValueError, "usage.cached_tokens must be"),
        (lambda: gate.usage(Usage(steps=2**31)), ValueError, "usage.steps must be"),
        (lambda: gate.usage(Usage(cost=math.nan)), ValueError, "usage.cost must be a finite"),
        (lambda: gate.usage(Usage(cost=10**400)), ValueError, "usage.cost must be a fin"),
        (lambda: gate.usage(Usage(cost="1")), TypeError, "usage.cost must be a number, not str"),
        (lambda: gate.usage(Usage(estimated=1)), TypeError, "usage.estimated must be a bool"),
        (lambda: gate.usage({"steps": 1}), TypeError, "usage must be a Usage, not dict"),
        (lambda: gate.question(None), TypeError, "question must be text"),
        (lambda: gate.question("x" * 70_000), ValueError, "question must be at most 65536 bytes"),
        (lambda: gate.output(5), TypeError, "output must be text, not int"),
        (lambda: gate.output("x" * 4097, CHUNKS), ValueError, "output must be at most 4096 bytes"),
        (lambda: gate.output_data([1]), TypeError, "output_data must be a mapping, not list"),
        (lambda: gate.asked_calls([ToolCall("1", 2)]), TypeError, r"calls\[0\].tool_name must be"),
        (lambda: gate.asked_calls([ToolCall("1", "t")] * 257), ValueError, "calls must be at most"),
        (
            lambda: gate.asked_calls([ToolCall(str(n), "t", "x" * 150_000) for n in (1, 2)]),
            ValueError,
            "the arguments of all calls must be at most 262144 bytes",
        ),
        (lambda: gate.cancellation("stop"), TypeError, "cancellation must be a Cancellation"),
        (lambda: gate.cancellation(Cancellation("user")), TypeError, "cancellation.cause must be"),
        (
            lambda: gate.decisions([Decision("1", "yes")]),
            TypeError,
            r"decisions\[0\].approved must",
        ),
        (lambda: gate.spec(RunSpec("agents/a", 7)), TypeError, "spec.input must be text, not int"),
        (lambda: gate.spec(RunSpec("agents/a", session_id=7)), TypeError, "spec.session_id must"),
        (lambda: gate.spec(RunSpec("agents/a", labels={"k": 1})), TypeError, "spec.labels"),
        (
            lambda: gate.spec(RunSpec("agents/a", limits=Limits(max_steps="3"))),
            TypeError,
            "spec.limits.max_steps must be a whole number, not str",
        ),
        (
            lambda: gate.spec(RunSpec("agents/a", on_disconnect="cancel")),
            TypeError,
            "spec.on_disconnect must be a DisconnectPolicy, not str",
        ),
        (lambda: gate.given(b"x", None, (), ()), TypeError, "input must be text, not bytes"),
        (lambda: gate.given("", "x", (), ()), TypeError, "input_data must be a mapping, not str"),
        (lambda: gate.given("", None, "x", ()), TypeError, "parts must be a tuple or list"),
        (lambda: gate.given("", None, (7,), ()), TypeError, r"parts\[0\] must be a Part, not int"),
        (
            lambda: gate.given("", None, [Part(data="x")], ()),
            TypeError,
            r"parts\[0\].data must be bytes, not str",
        ),
        (
            lambda: gate.given("", None, (), [Message("user", ())]),
            TypeError,
            r"messages\[0\].role must be a Role, not str",
        ),
        (
            lambda: gate.spec(RunSpec("agents/a", messages=(Message(Role.USER, (Part(5),)),))),
            TypeError,
            r"spec.messages\[0\].parts\[0\].text must be text, not int",
        ),
    ],
)
def test_an_error_names_the_field(
    call: Callable[[], Any], kind: type[Exception], words: str
) -> None:
    """What cannot be sent is a TypeError or ValueError that says which field, and what is right."""
    with pytest.raises(kind, match=words):
        call()


def test_a_property_that_raises_is_named() -> None:
    """An author's subclass whose fields are code is read once, and what it raises is named."""

    class Bad(Custom):
        @property
        def name(self) -> str:  # type: ignore[override]
            raise ZeroDivisionError("not today")

    bad = object.__new__(Bad)
    with pytest.raises(TypeError, match=r"Custom\.name cannot be read: ZeroDivisionError: not tod"):
        gate.emitted(bad)
    with pytest.raises(TypeError, match=r"Custom\.name cannot be read: AttributeError"):
        gate.emitted(object.__new__(Custom))


def test_an_author_s_own_kind_of_event_is_sent_as_ours() -> None:
    """A subclass passes as the class of ours that it is made of, with what its fields say."""

    @dataclasses.dataclass(frozen=True)
    class Progress(Custom):
        name: str = "progress"
        done: int = 0

    made = gate.emitted(Progress(data={"done": 1}, done=1))
    assert type(made) is Custom
    assert made == Custom("progress", {"done": 1})


def test_words_from_elsewhere_are_cut_and_never_refused() -> None:
    """A tool's result, a model's arguments and an error's message lose what is too long."""
    long = "é" * 10_000_000
    call = gate.tool_call(ToolCall(long, long, long, long))
    for made, most in (
        (call.tool_call_id, readers.MAX_TOOL_NAME),
        (call.tool_name, readers.MAX_TOOL_NAME),
        (call.arguments, readers.MAX_TOOL_TEXT),
        (call.result, readers.MAX_TOOL_TEXT),
        (RunError.of(ValueError(long)).message, events.MAX_ERROR_MESSAGE),
        (gate.cancellation(Cancellation(reason=long)).reason, MAX_REASON_LENGTH),
    ):
        assert made.endswith("é…")
        assert most - 2 <= len(made[:-1].encode()) <= most


def test_a_call_that_waits_keeps_all_of_its_arguments() -> None:
    """Nobody must approve what is not shown."""
    (call,) = gate.asked_calls([ToolCall("1", "t", "x" * 5000, run_id="other")])
    assert call == ToolCall("1", "t", "x" * 5000)
    paused = gate.relayed(RunPaused("?", (ToolCall("1", "t", "x" * 5000, run_id="r"),)), True)
    assert paused == RunPaused("?", (ToolCall("1", "t", "x" * 5000, run_id="r"),))


@given(ours.specs())
def test_a_sound_spec_passes_unchanged(spec: RunSpec) -> None:
    """Programs that start runs in-process ask for what they asked for."""
    assert gate.spec(spec) == spec


def test_a_total_is_never_negative() -> None:
    """What is added may be a correction; what a run says that it used in all may not."""
    assert gate.usage(Usage(-5, steps=-2, cost=-1.0)) == Usage(-5, steps=-2, cost=-1.0)
    made = gate.emitted(UsageUpdated(Usage(-5, 7, steps=-2, cost=-1.0)))
    assert made == UsageUpdated(Usage(0, 7))
    assert gate.usage(Usage(cost=3)) == Usage(cost=3.0)
    assert type(gate.usage(Usage(cost=3)).cost) is float


# --- runnables


def runnable(**fields: Any) -> Any:
    about = {"kind": SourceKind.AGENT, "id": "a", "name": "A", "description": "", "members": ()}
    return SimpleNamespace(**about | fields)


def test_a_runnable_is_described_in_values_of_ours() -> None:
    """Names that are None are empty, lists are tuples, and a long description is cut."""
    made = gate.described(
        runnable(name=None, description="x" * 20_000, members=["b", OddText("c")])
    )
    assert made == RunnableInfo(
        "agents/a", SourceKind.AGENT, "a", "", "x" * readers.MAX_DESCRIPTION + "…", ("b", "c")
    )
    assert type(made.members[1]) is str
    bare = SimpleNamespace(kind=SourceKind.TEAM, id="t")
    assert gate.described(bare) == RunnableInfo("teams/t", SourceKind.TEAM, "t")


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        ({"kind": "agent"}, TypeError, "runnable.kind must be SourceKind.AGENT, TEAM or WORKFLOW"),
        ({"kind": SourceKind.STEP}, TypeError, "runnable.kind must be"),
        ({"id": None}, TypeError, "runnable.id must be text, not NoneType"),
        ({"id": "My Agent"}, ValueError, "runnable.id 'My Agent' must be 1 to 128"),
        ({"id": "x" * 1000}, ValueError, "runnable.id 'xxx"),
        ({"name": 7}, TypeError, "runnable.name must be text, not int"),
        ({"name": "x" * 2000}, ValueError, "runnable.name must be at most 1024 bytes"),
        ({"description": 7}, TypeError, "runnable.description must be text, not int"),
        ({"members": "abc"}, TypeError, "runnable.members must be a tuple or list"),
        ({"members": (7,)}, TypeError, r"runnable.members\[0\] must be text"),
    ],
)
def test_a_runnable_that_cannot_be_shown_is_refused(
    wrong: dict[str, Any], kind: type[Exception], words: str
) -> None:
    """The error says which of its attributes is wrong."""
    with pytest.raises(kind, match=words):
        gate.described(runnable(**wrong))


# --- errors of an author's


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit("no")


class Textual(Exception):
    def __str__(self) -> str:
        return OddText("of another class")


def test_an_error_s_words_are_plain_whatever_it_does() -> None:
    """`RunError.of` never raises, and never keeps anything of an author's."""
    named = type("N" * 10_000, (Exception,), {})
    named.__name__ = OddText("Named")
    for error, expected in (
        (Mute(), RunError("Mute", "<Mute>")),
        (Textual(), RunError("Textual", "of another class")),
        (ValueError("\ud83d\ude00\ud800"), RunError("ValueError", "\U0001f600?")),
        (named("x"), RunError("Named", "x")),
    ):
        made = RunError.of(error)
        assert made == expected
        assert is_ours(made)
    long = RunError.of(type("N" * 10_000, (Exception,), {})("x"))
    assert len(long.type) == 257


def test_counts_that_fit_pass() -> None:
    """The widest numbers of a message pass as they are."""
    widest = Usage(MAX_TOKENS, 0, 0, MAX_TOKENS, 1e300, True, MAX_COUNT, MAX_COUNT)
    assert gate.usage(widest) == widest
    event = sent(gate.emitted(UsageUpdated(widest)), None)
    assert event is not None
    assert event.payload == UsageUpdated(widest)
