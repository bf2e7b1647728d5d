"""The blocking client, against a real server that breaks as the test says."""

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import grpc_testing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pullcord.client import Pace, RunClient
from pullcord.run import errors
from pullcord.run.cancel import CancelMode, CancelOutcome
from pullcord.run.events import Event, Gap, Heartbeat, RunCompleted, Snapshot
from pullcord.run.record import Receipt, Run, RunFilter
from pullcord.run.state import RunState
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire.event import event_message

from tests.client.scripted import RUN_ID, Break, Script, event, serving, whole_run

QUICK = Pace(first_delay=0.001, max_delay=0.01)
BROKEN = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    None,
    errors.Draining(0.001),
    errors.StoreUnavailable(),
]


@pytest.fixture(scope="module")
def client(served: tuple[Script, str]) -> Iterator[RunClient]:
    with RunClient(served[1], actor="tester", pace=QUICK) as client:
        yield client


def test_a_run_is_followed_to_its_end(client: RunClient, script: Script) -> None:
    """run yields every event, and its result is the terminal one's payload."""
    script.reset(whole_run())
    with client.run("agents/counter", "4", run_id=RUN_ID, labels={"k": "v"}) as stream:
        assert stream.run_id == RUN_ID
        assert stream.result is None
        assert list(stream) == whole_run()
        assert stream.result == RunCompleted("0 1 2 3 ")
        assert stream.after_sequence == 6
    assert script.names() == ["Run"]
    assert script.calls[0][1].spec.labels == {"k": "v"}
    assert script.actors == {"tester"}


@pytest.mark.parametrize("cut", range(7))
@pytest.mark.parametrize("error", BROKEN[:3], ids=str)
@pytest.mark.parametrize("starting", [True, False], ids=["run", "watch"])
def test_a_stream_cut_anywhere_goes_on(
    client: RunClient, script: Script, cut: int, error: Any, starting: bool
) -> None:
    """Wherever the line breaks, however it breaks, no event is lost or doubled."""
    script.reset(whole_run(), Break(cut, error), Break(0, error))
    opened = client.run("agents/counter", run_id=RUN_ID) if starting else client.watch(RUN_ID)
    with opened as stream:
        assert list(stream) == whole_run()
    # Before its first event a run is asked for again, by the same id; after it, it is watched.
    streams = [name for name in script.names() if name != "GetRun"]
    first = "Run" if starting else "WatchRun"
    again = "WatchRun" if cut else first
    assert streams == [first] if cut == 6 else [first, again, again]


@given(
    after=st.integers(0, 3),
    breaks=st.lists(
        st.builds(Break, st.integers(0, 8), st.sampled_from(BROKEN), st.integers(0, 9)), max_size=5
    ),
)
@settings(max_examples=40, deadline=None)
def test_a_stream_cut_many_times_goes_on(
    client: RunClient, served: tuple[Script, str], after: int, breaks: list[Break]
) -> None:
    """Any number of breaks and repetitions leaves each event once, and in order."""
    served[0].reset(whole_run(), *breaks)
    with client.watch(RUN_ID, after_sequence=after) as stream:
        assert list(stream) == whole_run()[after:]


def test_a_gap_is_shown_with_its_snapshot(client: RunClient, script: Script) -> None:
    """A watcher that comes too late is told what it missed, and goes on from the snapshot."""
    run = Run(RUN_ID, "agents/counter", RunState.RUNNING, output="0 1 ", last_sequence=3)
    trimmed: list[Event] = [event(3, Gap(1, 3)), event(3, Snapshot(run)), *whole_run()[3:]]
    script.reset(trimmed, Break(1), Break(3))
    with client.watch(RUN_ID) as stream:
        seen = list(stream)
    # The line broke between gap and snapshot: the gap comes twice, and nothing else does.
    assert seen == [trimmed[0], *trimmed]


def test_heartbeats_are_shown_on_demand_only(client: RunClient, script: Script) -> None:
    """Heartbeats keep the line alive and are no events of the run."""
    alive = event(1, Heartbeat())
    first, *rest = whole_run()
    script.reset([first, alive, *rest])
    assert list(client.run("agents/counter", run_id=RUN_ID)) == whole_run()
    assert list(client.run("agents/counter", run_id=RUN_ID, heartbeats=True)) == [
        first,
        alive,
        *rest,
    ]


def test_a_watch_from_the_end_ends(client: RunClient, script: Script) -> None:
    """Who has seen the terminal event and watches on gets nothing, and no error."""
    script.reset(whole_run())
    with client.watch(RUN_ID, after_sequence=6) as stream:
        assert list(stream) == []
        assert stream.result is None


@pytest.mark.parametrize(
    "refusal",
    [
        errors.RunNotFound(RUN_ID),
        errors.RunExists(RUN_ID),
        errors.RunnableNotFound("agents/a"),
        errors.ServerBusy("full", 3.0),
        errors.Draining(2.0),
        errors.SessionBusy("s", "r"),
        errors.InvalidArgument(errors.Violation("spec.runnable", "is wrong")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_is_raised_as_its_class(
    client: RunClient, script: Script, refusal: errors.PullcordError
) -> None:
    """A run that is refused raises the server's own error, with its fields, at once."""
    script.reset([])
    script.refusal = refusal
    stream = client.run("agents/a")
    with pytest.raises(type(refusal)) as caught:
        next(stream)
    assert vars(caught.value) == vars(refusal)
    assert list(stream) == []
    with pytest.raises(type(refusal)):
        client.get(RUN_ID)
    assert script.names() == ["Run", "GetRun"]


def test_the_callers_deadline_is_raised_as_such(client: RunClient, script: Script) -> None:
    """When the caller's time is up, DeadlineExceeded names the run, and nobody reconnects."""
    script.reset(whole_run(), Break(2, grpc.StatusCode.DEADLINE_EXCEEDED))
    with client.run("agents/counter", run_id=RUN_ID, timeout=20) as stream:
        seen = [next(stream), next(stream)]
        with pytest.raises(errors.DeadlineExceeded) as caught:
            next(stream)
    assert seen == whole_run()[:2]
    assert caught.value.run_id == RUN_ID
    assert script.names() == ["Run"]


@pytest.mark.parametrize("timeout", [1e11, float("inf")])
def test_a_deadline_that_never_comes_is_one(
    client: RunClient, script: Script, timeout: float
) -> None:
    """A timeout of thousands of years, or without an end, is none that has passed already."""
    script.reset(whole_run())
    with client.run("agents/counter", run_id=RUN_ID, timeout=timeout) as stream:
        assert list(stream) == whole_run()
    assert client.wait(RUN_ID, timeout).run_id == RUN_ID


def test_a_lost_server_is_given_up() -> None:
    """Where nobody answers, the stream ends with ConnectionLost once patience is at its end."""
    nobody = "127.0.0.1:1"
    with RunClient(nobody, pace=Pace(reconnect_for=0.01, first_delay=0.001)) as client:
        with pytest.raises(errors.ConnectionLost) as caught:
            next(client.watch(RUN_ID))
        assert caught.value.run_id == RUN_ID
        with pytest.raises(errors.ConnectionLost):
            client.get(RUN_ID)


def test_closing_wakes_who_waits(client: RunClient, script: Script) -> None:
    """A thread that waits for the next event sees the stream end when another closes it."""
    script.reset(whole_run(), Break(1, errors.ServerBusy("full", 1000)))
    stream = client.watch(RUN_ID)
    first = next(stream)
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, stream)
        stream.close()
        assert rest.result(30) == []
    assert first == whole_run()[0]


class Silent(Script):
    """Says the first event and then nothing, and knows when its watcher has left."""

    def __init__(self) -> None:
        super().__init__()
        self.left = threading.Event()

    def WatchRun(self, request: Any, context: Any) -> Iterator[Any]:
        context.add_callback(self.left.set)
        yield v1.WatchRunResponse(event=event_message(whole_run()[0]))
        self.left.wait()


def test_a_dropped_stream_is_left() -> None:
    """Dropping a stream cancels its call; the server sees its watcher leave."""
    silent = Silent()
    with serving(silent) as address, RunClient(address) as client:
        stream = client.watch(RUN_ID)
        next(stream)
        assert not silent.left.is_set()
        del stream
        gc.collect()
        assert silent.left.wait(30)


def test_a_server_that_comes_back_is_found_again() -> None:
    """A watch goes on where it was when its server was stopped and another took its port."""
    first = ExitStack()
    address = first.enter_context(serving(Silent()))
    with RunClient(address) as client:
        stream = client.watch(RUN_ID)
        seen = [next(stream)]
        first.close()
        script = Script()
        script.reset(whole_run())
        with serving(script, int(address.rpartition(":")[2])):
            seen += stream
    assert seen == whole_run()


def test_nothing_is_left_after_a_close(script: Script, address: str) -> None:
    """A closed client leaves no thread, also where a stream was left half-way."""
    before = set(threading.enumerate())
    script.reset(whole_run())
    with RunClient(address, pace=QUICK) as client:
        client.get(RUN_ID)
        half = client.run("agents/counter", run_id=RUN_ID)
        next(half)
        assert list(client.watch(RUN_ID)) == whole_run()
    server_side = ("ThreadPoolExecutor", "_serve")
    for thread in set(threading.enumerate()) - before:
        if not any(name in thread.name for name in server_side):
            thread.join(30)
            assert not thread.is_alive(), thread


def test_the_other_verbs(client: RunClient, script: Script) -> None:
    """start, get, list, runnables, cancel and cancel_many ask once and read the answer."""
    script.reset(whole_run())
    script.runs = [Run(f"r{n}", "agents/a", RunState.RUNNING, create_time=1e9) for n in range(5)]
    assert client.start("agents/a", run_id="mine").run_id == "mine"
    assert client.get(RUN_ID).state is RunState.COMPLETED
    assert list(client.list(RunFilter(session_id="s"), page_size=2)) == script.runs
    assert [info.name for info in client.runnables()] == ["agents/a"]
    receipt = client.cancel(RUN_ID, "enough", mode=CancelMode.IMMEDIATE, grace_period=0, wait=1)
    assert receipt == Receipt(CancelOutcome.REQUESTED, accept_time=5.0)
    (result,) = client.cancel_many(RunFilter(session_id="s"), "enough")
    assert (result.run_id, result.outcome) == ("a", CancelOutcome.REQUESTED)
    names = ["StartRun", "GetRun", *["ListRuns"] * 3, "ListRunnables", "CancelRun", "CancelRuns"]
    assert script.names() == names
    cancel = script.calls[-2][1]
    assert (cancel.run_id, cancel.reason, cancel.mode) == (RUN_ID, "enough", 2)
    assert cancel.HasField("grace_period")
    assert cancel.wait.seconds == 1


def test_a_wait_outlives_a_broken_line(client: RunClient, script: Script) -> None:
    """wait asks again after a break; a wait of 0 asks at once."""
    script.reset(whole_run(), Break(), Break())
    assert client.wait(RUN_ID).state is RunState.COMPLETED
    assert script.names() == ["WaitRun"] * 3
    assert client.wait(RUN_ID, 0).state is RunState.COMPLETED
    assert script.calls[-1][1].HasField("timeout")


def test_a_run_that_has_not_begun_is_cancelled_before_its_start(
    client: RunClient, script: Script
) -> None:
    """A stream's cancel may overtake its run; once the run has begun it need not."""
    script.reset(whole_run())
    with client.run("agents/counter", run_id=RUN_ID) as stream:
        stream.cancel("too early")
        next(stream)
        stream.cancel("now")
    cancels = [request for name, request in script.calls if name == "CancelRun"]
    assert [(c.run_id, c.reason, c.before_start) for c in cancels] == [
        (RUN_ID, "too early", True),
        (RUN_ID, "now", False),
    ]


def test_reconnecting_takes_its_time() -> None:
    """On a line that stays broken the client waits longer each time, and gives up after 60 s."""
    time = grpc_testing.strict_fake_time(1000.0)
    service = v1.DESCRIPTOR.services_by_name["RunService"]
    channel = grpc_testing.channel([service], time)
    pace = Pace(clock=time.time, sleep=time.sleep_for, random=lambda: 1.0)
    client = RunClient(channel=channel, actor="tester", pace=pace)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: next(client.watch(RUN_ID, after_sequence=7)))
        watch = service.methods_by_name["WatchRun"]
        tried: list[float] = []
        for _ in range(18):
            _, request, rpc = channel.take_unary_stream(watch)
            assert request == v1.WatchRunRequest(run_id=RUN_ID, after_sequence=7)
            tried.append(time.time() - 1000.0)
            rpc.terminate((), grpc.StatusCode.UNAVAILABLE, "gone")
        assert isinstance(waiting.exception(30), errors.ConnectionLost)
    assert tried[:8] == pytest.approx([0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 11.3])
    assert tried[-1] == pytest.approx(60)


def test_a_payload_of_a_newer_server_is_skipped() -> None:
    """What the client does not know is no event, and no failure."""
    service = v1.DESCRIPTOR.services_by_name["RunService"]
    channel = grpc_testing.channel([service], grpc_testing.strict_fake_time(1000.0))
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(lambda: list(RunClient(channel=channel).watch(RUN_ID)))
        _, _, rpc = channel.take_unary_stream(service.methods_by_name["WatchRun"])
        rpc.send_response(v1.WatchRunResponse(event=event_message(whole_run()[0])))
        rpc.send_response(v1.WatchRunResponse(event={"run_id": RUN_ID, "sequence": 2}))
        rpc.send_response(v1.WatchRunResponse(event=event_message(whole_run()[-1])))
        rpc.terminate((), grpc.StatusCode.OK, "")
        assert seen.result(30) == [whole_run()[0], whole_run()[-1]]
