"""Any domain value, as hypothesis makes them, for the tests of the wire and the client."""

import string

from hypothesis import strategies as st
from pullcord.run import events
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelOutcome, StopStage
from pullcord.run.message import Message, Part, Role
from pullcord.run.record import DisconnectPolicy, Receipt, Run, RunSpec, SessionPolicy
from pullcord.run.state import RunState
from pullcord.run.usage import Limits, Usage

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids = st.text(string.ascii_letters + string.digits + "-_.:", min_size=1, max_size=40)
user_ids = st.text(string.ascii_letters + string.digits + "-_.:@+/", min_size=1, max_size=40)
names = st.from_regex(r"\A(agents|teams|workflows)/[a-z0-9][a-z0-9_.-]{0,20}\Z")
# A double of today's epoch holds its time to a quarter of a microsecond, which is coarser than the
# proto's nanosecond: the way there and back changes nothing.
times = st.floats(1e9, 4e9)
times_or_not_yet = st.just(0.0) | times
counts = st.integers(0, 2**31 - 1)
money = st.floats(0, 1e6)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
data = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
labels = st.dictionaries(texts.filter(bool), texts, max_size=3)

usages = st.builds(
    Usage,
    counts,
    counts,
    counts,
    counts,
    st.none() | money,
    st.booleans(),
    steps=counts,
    tool_calls=counts,
)
cancellations = st.builds(
    Cancellation,
    st.sampled_from(CancelCause),
    texts,
    texts,
    st.sampled_from(CancelMode),
    texts,
    times,
)
errors = st.builds(events.RunError, texts, texts)
tool_calls = st.builds(
    events.ToolCall,
    texts,
    texts,
    texts,
    texts,
    st.sampled_from(events.ToolCallState),
    times,
    times_or_not_yet,
    texts,
)
several_tool_calls = st.lists(tool_calls, max_size=2).map(tuple)
# Whole milliseconds: a duration's nanoseconds hold them exactly enough to come back the same.
waits = st.integers(0, 2_592_000_000).map(lambda milliseconds: milliseconds / 1000)
limits = st.builds(
    Limits,
    timeout=st.none() | waits.filter(bool),
    max_tokens=st.none() | st.integers(1, 2**63 - 1),
    max_cost=st.none() | st.floats(0.001, 1e6),
    max_steps=st.none() | st.integers(1, 2**31 - 1),
    max_tool_calls=st.none() | st.integers(1, 2**31 - 1),
)
runs = st.builds(
    Run,
    run_id=ids,
    runnable=names,
    state=st.sampled_from(RunState),
    session_id=texts,
    user_id=texts,
    parent_run_id=texts,
    input=texts,
    cancellation=st.none() | cancellations,
    output=texts,
    output_data=st.none() | data,
    error=st.none() | errors,
    usage=usages,
    tool_calls=several_tool_calls,
    labels=labels,
    create_time=times,
    start_time=times_or_not_yet,
    end_time=times_or_not_yet,
    expire_time=times_or_not_yet,
    last_sequence=st.integers(0, 2**63 - 1),
    abandoned=st.booleans(),
    progress=st.none() | st.builds(events.Progress, money, money, texts),
    killed_processes=st.lists(texts, max_size=3).map(tuple),
    limits=limits,
)
receipts = st.builds(
    Receipt,
    st.sampled_from(CancelOutcome),
    st.none() | runs,
    times_or_not_yet,
    times_or_not_yet,
    times_or_not_yet,
)

payloads = st.one_of(
    st.builds(events.RunStarted, names, texts, texts),
    st.builds(events.ContentDelta, texts, st.integers(1, 2**31 - 1)),
    st.builds(events.ReasoningDelta, texts, st.integers(1, 2**31 - 1)),
    st.builds(events.ToolCallStarted, tool_calls),
    st.builds(events.ToolCallCompleted, tool_calls),
    st.builds(events.StepStarted, texts, texts, counts),
    st.builds(
        events.StepCompleted,
        texts,
        texts,
        st.sampled_from(RunState),
        texts,
        st.none() | errors,
    ),
    st.builds(events.UsageUpdated, usages),
    st.builds(events.CancelRequested, cancellations),
    st.builds(events.RunPaused, texts, several_tool_calls),
    st.builds(events.RunContinued, texts),
    st.just(events.Heartbeat()),
    st.builds(events.Gap, counts, counts),
    st.builds(events.Snapshot, runs),
    st.builds(events.Custom, texts, data),
    st.builds(events.Progress, money, money, texts),
    st.builds(events.RunCompleted, texts, st.none() | data, usages, several_tool_calls),
    st.builds(
        events.RunCancelled,
        cancellations,
        texts,
        st.none() | data,
        usages,
        several_tool_calls,
        st.booleans(),
        st.none() | st.sampled_from(StopStage),
        killed_processes=st.lists(texts, max_size=3).map(tuple),
    ),
    st.builds(
        events.RunFailed,
        errors,
        texts,
        usages,
        several_tool_calls,
        st.none() | cancellations,
        st.none() | data,
    ),
)
sources = st.builds(
    events.Source,
    st.sampled_from(events.SourceKind),
    texts,
    texts,
    texts,
    st.lists(texts, max_size=3).map(tuple),
)
all_events = st.builds(
    events.Event, ids, st.integers(1, 2**63 - 1), times, payloads, st.none() | sources
)

media_types = st.sampled_from(["image/png", "application/pdf", "AUDIO/wav"])
file_names = st.sampled_from(["", "photo.png", "日記.pdf"])
text_parts = st.builds(Part, text=texts, name=file_names)
parts = st.one_of(
    text_parts,
    st.builds(
        Part,
        uri=st.sampled_from(["https://example.com/cat.png", "gs://b/o"]),
        media_type=media_types,
        name=file_names,
    ),
    st.builds(Part, data=st.binary(min_size=1, max_size=50), media_type=media_types),
)
messages = st.one_of(
    st.builds(Message, st.just(Role.USER), st.lists(parts, min_size=1, max_size=2).map(tuple)),
    st.builds(
        Message,
        st.sampled_from([Role.ASSISTANT, Role.SYSTEM, Role.TOOL]),
        st.tuples(text_parts),
        name=st.just("weather"),
    ),
)


@st.composite
def specs(draw: st.DrawFn) -> RunSpec:
    """Specs that keep the rules."""
    policy = draw(st.none() | st.sampled_from(DisconnectPolicy))
    leased = policy is DisconnectPolicy.LEASE
    session_id = draw(st.just("") | ids)
    return RunSpec(
        runnable=draw(names),
        input=draw(texts),
        input_data=draw(st.none() | data),
        run_id=draw(st.just("") | ids),
        session_id=session_id,
        user_id=draw(st.just("") | user_ids),
        limits=draw(limits),
        on_disconnect=policy,
        lease=draw(st.none() | waits.filter(bool)) if leased else None,
        labels=draw(labels),
        retry_of=draw(st.just("") | ids.map("earlier-{}".format)) if session_id else "",
        session_policy=draw(st.none() | st.sampled_from(SessionPolicy)) if session_id else None,
        parts=tuple(draw(st.lists(parts, max_size=3))),
        messages=tuple(draw(st.lists(messages, max_size=2))),
    )
